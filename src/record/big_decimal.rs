//! Decimals of more digits than `rust_decimal` has: `decimal` of a high precision, and `big-decimal`.

use bigdecimal::BigDecimal as Value;
use bigdecimal::num_bigint::{BigInt, Sign};

use super::codec::{Codec, write_bytes, write_long};
use super::{DecodeError, EncodeError, Input};

/// Digits, before or after the point, that a decimal may have. Its text, or a comparison of two, takes time and memory
/// that grow with them, whatever their bytes: a `big-decimal` of three bytes can claim two billion.
const MAX_DIGITS: u64 = 65_536;

/// Bytes of an integer of [`MAX_DIGITS`] digits: 65,536 · log₂ 10 / 8, and the sign.
const MAX_BYTES: usize = 27_214;

/// The bytes that a decimal is written as, exactly or not at all: big-endian two's complement, as short as can be.
pub(crate) fn unscaled_bytes(value: &Value, precision: u32, scale: u32) -> Result<Vec<u8>, EncodeError> {
    let error = || {
        EncodeError::new(format!(
            "{value} does not fit decimal({precision},{scale}): {precision} digits, {scale} of them after the point; \
             round it or widen the schema"
        ))
    };
    let (unscaled, own_scale) = value.as_bigint_and_exponent();
    if unscaled.sign() == Sign::NoSign {
        return Ok(vec![0]);
    }
    let digits = value.digits();
    let missing = i64::from(scale).checked_sub(own_scale).ok_or_else(error)?;
    // Counted before it is computed: what does not fit may be too large to be written down at all.
    let fits = match u64::try_from(missing) {
        Ok(more) => digits.checked_add(more).is_some_and(|digits| digits <= u64::from(precision)),
        Err(_) => missing.unsigned_abs() < digits && digits - missing.unsigned_abs() <= u64::from(precision),
    };
    if !fits {
        return Err(error());
    }
    let factor = BigInt::from(10).pow(u32::try_from(missing.unsigned_abs()).map_err(|_| error())?);
    let unscaled = if missing >= 0 {
        unscaled * factor
    } else if (&unscaled % &factor).sign() == Sign::NoSign {
        unscaled / factor
    } else {
        return Err(error());
    };
    Ok(unscaled.to_signed_bytes_be())
}

/// Appends an integer to a fixed of `size` bytes.
pub(crate) fn write_fixed(unscaled: &[u8], size: usize, out: &mut Vec<u8>) -> Result<(), EncodeError> {
    if unscaled.len() > size {
        let len = unscaled.len();
        return Err(EncodeError::new(format!(
            "a decimal of {len} bytes does not fit {size}; widen the schema's fixed"
        )));
    }
    let fill = if unscaled.first().is_some_and(|first| *first >= 0x80) { 0xff } else { 0 };
    out.resize(out.len() + size - unscaled.len(), fill);
    out.extend_from_slice(unscaled);
    Ok(())
}

/// Reads big-endian two's complement of any length.
pub(crate) fn read(bytes: &[u8], precision: u32, scale: i64, input: &Input<'_>) -> Result<Value, DecodeError> {
    // A fixed may be longer than its values.
    let fill = if bytes.first().is_some_and(|first| *first >= 0x80) { 0xff } else { 0 };
    let filled = bytes.iter().take_while(|byte| **byte == fill).count().saturating_sub(1);
    if bytes.len() - filled > MAX_BYTES {
        return Err(input.error(format!("a decimal of more than {MAX_DIGITS} digits")));
    }
    let unscaled = BigInt::from_signed_bytes_be(&bytes[filled..]);
    // Digits are counted only where the bits leave it open.
    let value = Value::from_bigint(unscaled, scale);
    match is_short(bytes.len() - filled, precision) || value.digits() <= u64::from(precision) {
        true => Ok(value),
        false => Err(input.error(format!("a decimal of more than {precision} digits"))),
    }
}

/// Whether so many bytes never hold more digits: a byte is less than two and a half.
fn is_short(bytes: usize, precision: u32) -> bool {
    bytes as u64 * 5 / 2 < u64::from(precision)
}

/// Appends a `big-decimal`: bytes that hold the integer as bytes and the scale as an int, as Java writes it.
pub(crate) fn write_big_decimal(value: &Value, out: &mut Vec<u8>) -> Result<(), EncodeError> {
    let (unscaled, scale) = value.as_bigint_and_exponent();
    let unscaled = unscaled.to_signed_bytes_be();
    if unscaled.len() > MAX_BYTES || scale.unsigned_abs() > MAX_DIGITS {
        return Err(EncodeError::new(format!("a decimal of more than {MAX_DIGITS} digits; round it")));
    }
    let mut inner = Vec::with_capacity(unscaled.len() + 8);
    write_bytes(&unscaled, &mut inner);
    write_long(scale, &mut inner);
    write_bytes(&inner, out);
    Ok(())
}

/// Reads a `big-decimal`.
pub(crate) fn read_big_decimal(input: &mut Input<'_>) -> Result<Value, DecodeError> {
    let bytes = input.read_bytes()?;
    let outside = |error: DecodeError| input.error(format!("not a big-decimal: {}", error.reason));
    let mut inner = Input::new(bytes);
    let unscaled = inner.read_bytes().map_err(outside)?;
    let scale = i64::from(inner.read_int().map_err(outside)?);
    if !inner.rest().is_empty() {
        return Err(
            input.error(format!("not a big-decimal: {} bytes are left over after its scale", inner.rest().len()))
        );
    }
    if scale.unsigned_abs() > MAX_DIGITS {
        return Err(input.error(format!("a big-decimal of scale {scale}; {MAX_DIGITS} is the most")));
    }
    read(unscaled, u32::MAX, scale, input)
}

/// A codec whose values own what they are made of, also in a view.
macro_rules! cloned {
    ($(#[$doc:meta])* $name:ident $(<$(const $param:ident: $of:ty),+>)?, $min:expr,
     |$value:ident, $out:ident| $encode:expr, |$input:ident| $decode:expr) => {
        $(#[$doc])*
        #[derive(Debug)]
        pub enum $name $(<$(const $param: $of),+>)? {}

        impl $(<$(const $param: $of),+>)? Codec for $name $(<$($param),+>)? {
            type Owned = Value;
            type View<'a> = Value;
            const MIN_LEN: usize = $min;

            fn encode($value: &Value, $out: &mut Vec<u8>) -> Result<(), EncodeError> {
                $encode
            }

            fn decode($input: &mut Input<'_>) -> Result<Value, DecodeError> {
                $decode
            }

            fn view<'a>($input: &mut Input<'a>) -> Result<Value, DecodeError> {
                $decode
            }

            fn own(view: &Value) -> Value {
                view.clone()
            }
        }
    };
}

cloned!(
    /// `decimal` of `bytes`, of more digits than `rust_decimal` has
    BigDecimalBytes<const PRECISION: u32, const SCALE: u32>,
    1,
    |value, out| {
        write_bytes(&unscaled_bytes(value, PRECISION, SCALE)?, out);
        Ok(())
    },
    |input| {
        let bytes = input.read_bytes()?;
        read(bytes, PRECISION, i64::from(SCALE), input)
    }
);

cloned!(
    /// `decimal` of a `fixed` of `SIZE` bytes, of more digits than `rust_decimal` has
    BigDecimalFixed<const PRECISION: u32, const SCALE: u32, const SIZE: usize>,
    SIZE,
    |value, out| write_fixed(&unscaled_bytes(value, PRECISION, SCALE)?, SIZE, out),
    |input| {
        let bytes = input.read_slice(SIZE)?;
        read(bytes, PRECISION, i64::from(SCALE), input)
    }
);

cloned!(
    /// `big-decimal`
    BigDecimal,
    1,
    |value, out| write_big_decimal(value, out),
    |input| read_big_decimal(input)
);

#[cfg(test)]
mod tests {
    use super::*;

    fn value(text: &str) -> Value {
        text.parse().expect("a decimal")
    }

    #[test]
    fn what_does_not_fit_is_not_computed() {
        for (text, precision, scale, expected) in [
            ("1.50", 40, 1, Some(&[15_u8][..])),
            ("-1.5", 40, 2, Some(&[0xff, 0x6a])),
            ("0", 40, 39, Some(&[0])),
            ("0e2000000000", 40, 39, Some(&[0])),
            ("1.55", 40, 1, None),
            ("10", 40, 39, None),
            ("1e2000000000", 40, 0, None),
            ("1e-2000000000", 40, 0, None),
        ] {
            let bytes = unscaled_bytes(&value(text), precision, scale).ok();
            assert_eq!(bytes.as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn a_big_decimal_carries_its_scale() {
        let mut out = Vec::new();
        write_big_decimal(&value("-12.75"), &mut out).expect("it fits");
        assert_eq!(out, [8, 4, 0xfb, 0x05, 4]);
        assert_eq!(read_big_decimal(&mut Input::new(&out)), Ok(value("-12.75")));
        let error = |bytes: &[u8]| read_big_decimal(&mut Input::new(bytes)).expect_err("broken bytes").reason.clone();
        assert!(error(&[4, 2, 1]).contains("not a big-decimal: 1 bytes are needed"), "{}", error(&[4, 2, 1]));
        assert!(error(&[8, 2, 1, 0, 0]).contains("1 bytes are left over"));
        assert!(error(&[14, 2, 1, 0xfe, 0xff, 0xff, 0xff, 0x0f]).contains("scale 2147483647"));
        assert!(write_big_decimal(&value("1e70000"), &mut out).is_err());
    }
}

//! One codec for each Avro type: generated records name them, field by field.

use std::marker::PhantomData;

use super::plan::{Kind, no_plan, resolve_other, view_other};
use super::{DecodeError, EncodeError, Input, Record, Step};

/// How one Avro type is read and written.
///
/// Rust types alone do not say it: a `Decimal` is written with its schema's scale, a `Timestamp` in its schema's unit.
pub trait Codec {
    /// What owns a value.
    type Owned: Clone;
    /// What borrows one from the bytes.
    type View<'a>;

    /// Bytes that a value takes at least.
    const MIN_LEN: usize;

    /// Appends a value.
    fn encode(value: &Self::Owned, out: &mut Vec<u8>) -> Result<(), EncodeError>;

    /// Reads a value.
    fn decode(input: &mut Input<'_>) -> Result<Self::Owned, DecodeError>;

    /// Reads a value without copying.
    fn view<'a>(input: &mut Input<'a>) -> Result<Self::View<'a>, DecodeError>;

    /// Copies what a view borrows.
    fn own(view: &Self::View<'_>) -> Self::Owned;

    /// Reads a value that another schema wrote.
    #[inline]
    fn resolve(input: &mut Input<'_>, step: &Step) -> Result<Self::Owned, DecodeError> {
        match step.is_exact() {
            true => Self::decode(input),
            false => resolve_other::<Self>(input, step),
        }
    }

    /// Reads a value that another schema wrote, without copying.
    #[inline]
    fn resolve_view<'a>(input: &mut Input<'a>, step: &'a Step) -> Result<Self::View<'a>, DecodeError> {
        match step.is_exact() {
            true => Self::view(input),
            false => view_other::<Self>(input, step),
        }
    }

    /// The part of [`resolve`](Self::resolve) that is a codec's own: what neither the same bytes nor the writer's union
    /// are.
    fn convert(input: &mut Input<'_>, step: &Step) -> Result<Self::Owned, DecodeError> {
        let _ = step;
        Err(no_plan(input))
    }

    /// The same without copying.
    fn convert_view<'a>(input: &mut Input<'a>, step: &'a Step) -> Result<Self::View<'a>, DecodeError> {
        let _ = step;
        Err(no_plan(input))
    }
}

/// Appends a `long`: zigzag, seven bits a byte.
#[inline]
pub(crate) fn write_long(value: i64, out: &mut Vec<u8>) {
    let zigzag = ((value << 1) ^ (value >> 63)) as u64;
    if zigzag < 0x80 {
        out.push(zigzag as u8);
    } else if zigzag < 0x4000 {
        out.extend_from_slice(&[zigzag as u8 | 0x80, (zigzag >> 7) as u8]);
    } else {
        write_varint(zigzag, out);
    }
}

/// A number of more than two bytes. Up to eight are put out as one word, of which the rest is taken back: the groups of
/// seven bits move apart in three steps, and all but the last get the bit that says that there are more.
#[inline(never)]
fn write_varint(mut zigzag: u64, out: &mut Vec<u8>) {
    let before = out.len();
    if zigzag < 1 << 56 {
        let len = (70 - zigzag.leading_zeros() as usize) / 7;
        let fours = zigzag & 0x0fff_ffff | (zigzag & 0x00ff_ffff_f000_0000) << 4;
        let pairs = fours & 0x0000_3fff_0000_3fff | (fours & 0x0fff_c000_0fff_c000) << 2;
        let bytes = pairs & 0x007f_007f_007f_007f | (pairs & 0x3f80_3f80_3f80_3f80) << 1;
        let more = 0x8080_8080_8080_8080 & ((1 << (8 * (len - 1))) - 1);
        out.extend_from_slice(&(bytes | more).to_le_bytes());
        return out.truncate(before + len);
    }
    while zigzag >= 0x80 {
        out.push(zigzag as u8 | 0x80);
        zigzag >>= 7;
    }
    out.push(zigzag as u8);
}

/// Appends the number of a union's branch, for generated unions.
#[inline]
pub fn write_branch(index: usize, out: &mut Vec<u8>) {
    write_long(index as i64, out);
}

/// Appends `bytes`: length and content.
#[inline]
pub(crate) fn write_bytes(bytes: &[u8], out: &mut Vec<u8>) {
    write_long(bytes.len() as i64, out);
    out.extend_from_slice(bytes);
}

/// A codec whose values are copied, not borrowed.
macro_rules! copied {
    ($(#[$doc:meta])* $name:ident $(<$(const $param:ident: $of:ty),+>)?, $owned:ty, $min:expr,
     |$value:ident, $out:ident| $encode:expr, |$input:ident| $decode:expr
     $(, |$from:ident| { $($promotion:pat => $convert:expr),+ $(,)? })?) => {
        $(#[$doc])*
        #[derive(Debug)]
        pub enum $name $(<$(const $param: $of),+>)? {}

        impl $(<$(const $param: $of),+>)? $crate::record::codec::Codec for $name $(<$($param),+>)? {
            type Owned = $owned;
            type View<'a> = $owned;
            const MIN_LEN: usize = $min;

            #[inline]
            fn encode($value: &$owned, $out: &mut Vec<u8>) -> Result<(), $crate::record::EncodeError> {
                $encode
            }

            #[inline(always)]
            fn decode($input: &mut $crate::record::Input<'_>) -> Result<$owned, $crate::record::DecodeError> {
                $decode
            }

            #[inline(always)]
            fn view<'a>($input: &mut $crate::record::Input<'a>) -> Result<$owned, $crate::record::DecodeError> {
                $decode
            }

            #[inline]
            fn own(view: &$owned) -> $owned {
                *view
            }

            // Without a call: these are most fields, and promotions are what changes most often. What holds other values
            // is not inlined, or a level of nested records would take much of the stack.
            #[inline(always)]
            fn resolve(
                input: &mut $crate::record::Input<'_>,
                step: &$crate::record::Step,
            ) -> Result<$owned, $crate::record::DecodeError> {
                match step.0 {
                    $crate::record::plan::Kind::Exact => Self::decode(input),
                    $($($promotion => {
                        let $from = input;
                        $convert
                    })+)?
                    _ => $crate::record::plan::resolve_other::<Self>(input, step),
                }
            }

            #[inline(always)]
            fn resolve_view<'a>(
                input: &mut $crate::record::Input<'a>,
                step: &'a $crate::record::Step,
            ) -> Result<$owned, $crate::record::DecodeError> {
                Self::resolve(input, step)
            }
        }
    };
}
pub(crate) use copied;

copied!(
    /// `null`
    Null, (), 0, |_value, _out| Ok(()), |_input| Ok(())
);
copied!(
    /// `boolean`
    Boolean,
    bool,
    1,
    |value, out| {
        out.push(u8::from(*value));
        Ok(())
    },
    |input| input.read_bool()
);
copied!(
    /// `int`
    Int,
    i32,
    1,
    |value, out| {
        write_long(i64::from(*value), out);
        Ok(())
    },
    |input| input.read_int()
);
copied!(
    /// `long`
    Long,
    i64,
    1,
    |value, out| {
        write_long(*value, out);
        Ok(())
    },
    |input| input.read_long(),
    |input| { Kind::IntToLong => input.read_int().map(i64::from) }
);
copied!(
    /// `float`
    Float,
    f32,
    4,
    |value, out| {
        out.extend_from_slice(&value.to_le_bytes());
        Ok(())
    },
    |input| input.read_float(),
    |input| { Kind::IntegerToFloat => Ok(input.read_long()? as f32) }
);
copied!(
    /// `double`
    Double,
    f64,
    8,
    |value, out| {
        out.extend_from_slice(&value.to_le_bytes());
        Ok(())
    },
    |input| input.read_double(),
    |input| {
        Kind::IntegerToDouble => Ok(input.read_long()? as f64),
        Kind::FloatToDouble => input.read_float().map(f64::from),
    }
);

/// `string`
#[derive(Debug)]
pub enum Str {}

impl Codec for Str {
    type Owned = String;
    type View<'a> = &'a str;
    const MIN_LEN: usize = 1;

    #[inline]
    fn encode(value: &String, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        write_bytes(value.as_bytes(), out);
        Ok(())
    }

    #[inline(always)]
    fn decode(input: &mut Input<'_>) -> Result<String, DecodeError> {
        input.read_str().map(str::to_owned)
    }

    #[inline(always)]
    fn view<'a>(input: &mut Input<'a>) -> Result<&'a str, DecodeError> {
        input.read_str()
    }

    #[inline]
    fn own(view: &&str) -> String {
        (*view).to_owned()
    }

    #[inline(always)]
    fn resolve(input: &mut Input<'_>, step: &Step) -> Result<String, DecodeError> {
        match step.is_exact() {
            true => Self::decode(input),
            false => resolve_other::<Self>(input, step),
        }
    }

    #[inline(always)]
    fn resolve_view<'a>(input: &mut Input<'a>, step: &'a Step) -> Result<&'a str, DecodeError> {
        match step.is_exact() {
            true => Self::view(input),
            false => view_other::<Self>(input, step),
        }
    }
}

/// `bytes`
#[derive(Debug)]
pub enum Blob {}

impl Codec for Blob {
    type Owned = bytes::Bytes;
    type View<'a> = &'a [u8];
    const MIN_LEN: usize = 1;

    #[inline]
    fn encode(value: &bytes::Bytes, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        write_bytes(value, out);
        Ok(())
    }

    #[inline]
    fn decode(input: &mut Input<'_>) -> Result<bytes::Bytes, DecodeError> {
        input.read_bytes().map(bytes::Bytes::copy_from_slice)
    }

    #[inline]
    fn view<'a>(input: &mut Input<'a>) -> Result<&'a [u8], DecodeError> {
        input.read_bytes()
    }

    #[inline]
    fn own(view: &&[u8]) -> bytes::Bytes {
        bytes::Bytes::copy_from_slice(view)
    }
}

/// An enum that `records!` generated.
pub trait Symbols: Copy + 'static {
    /// How many symbols it has.
    const COUNT: usize;

    /// The symbol at that place; the first for a place that does not exist.
    fn from_index(index: usize) -> Self;

    /// Its place.
    fn index(self) -> usize;
}

/// An `enum`
#[derive(Debug)]
pub struct Enum<E>(PhantomData<E>);

impl<E: Symbols> Codec for Enum<E> {
    type Owned = E;
    type View<'a> = E;
    const MIN_LEN: usize = 1;

    #[inline]
    fn encode(value: &E, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        write_long(value.index() as i64, out);
        Ok(())
    }

    #[inline]
    fn decode(input: &mut Input<'_>) -> Result<E, DecodeError> {
        input.read_index(E::COUNT).map(E::from_index)
    }

    #[inline]
    fn view<'a>(input: &mut Input<'a>) -> Result<E, DecodeError> {
        Self::decode(input)
    }

    #[inline]
    fn own(view: &E) -> E {
        *view
    }

    fn convert(input: &mut Input<'_>, step: &Step) -> Result<E, DecodeError> {
        match &step.0 {
            Kind::Enum(numbers) => input.read_symbol(numbers).map(E::from_index),
            _ => Err(no_plan(input)),
        }
    }

    fn convert_view<'a>(input: &mut Input<'a>, step: &'a Step) -> Result<E, DecodeError> {
        Self::convert(input, step)
    }
}

/// A text that is no symbol of an enum.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{symbol:?} is no symbol of {name}{hint}")]
pub struct UnknownSymbol {
    symbol: String,
    name: &'static str,
    hint: String,
}

impl UnknownSymbol {
    /// For the `FromStr` of generated enums.
    #[doc(hidden)]
    pub fn new(symbol: &str, name: &'static str, known: &[&'static str]) -> Self {
        let hint = gretchen_schema::did_you_mean(symbol, known.iter().copied());
        Self { symbol: symbol.to_owned(), name, hint }
    }
}

/// A `fixed` that `records!` generated.
pub trait FixedBytes<const N: usize>: Clone + 'static {
    /// Around its bytes.
    fn new(bytes: &[u8; N]) -> Self;

    /// Its bytes.
    fn bytes(&self) -> &[u8; N];
}

/// A `fixed`
#[derive(Debug)]
pub struct Fixed<F, const N: usize>(PhantomData<F>);

impl<F: FixedBytes<N>, const N: usize> Codec for Fixed<F, N> {
    type Owned = F;
    type View<'a> = &'a [u8; N];
    const MIN_LEN: usize = N;

    #[inline]
    fn encode(value: &F, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        out.extend_from_slice(value.bytes());
        Ok(())
    }

    #[inline]
    fn decode(input: &mut Input<'_>) -> Result<F, DecodeError> {
        input.read_array().map(F::new)
    }

    #[inline]
    fn view<'a>(input: &mut Input<'a>) -> Result<&'a [u8; N], DecodeError> {
        input.read_array()
    }

    #[inline]
    fn own(view: &&[u8; N]) -> F {
        F::new(view)
    }
}

/// A record inside of another; `MIN` is what it takes at least.
#[derive(Debug)]
pub struct Nested<R, const MIN: usize>(PhantomData<R>);

impl<R: Record, const MIN: usize> Codec for Nested<R, MIN> {
    type Owned = R;
    type View<'a> = R::View<'a>;
    const MIN_LEN: usize = MIN;

    #[inline]
    fn encode(value: &R, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        value.encode(out)
    }

    #[inline]
    fn decode(input: &mut Input<'_>) -> Result<R, DecodeError> {
        R::decode(input)
    }

    #[inline]
    fn view<'a>(input: &mut Input<'a>) -> Result<R::View<'a>, DecodeError> {
        R::view(input)
    }

    #[inline]
    fn own(view: &R::View<'_>) -> R {
        R::from_view(view)
    }

    fn convert(input: &mut Input<'_>, step: &Step) -> Result<R, DecodeError> {
        R::resolve(input, step)
    }

    fn convert_view<'a>(input: &mut Input<'a>, step: &'a Step) -> Result<R::View<'a>, DecodeError> {
        R::resolve_view(input, step)
    }
}

/// A union of `null` and another type; `NULL` is the branch of `null`.
#[derive(Debug)]
pub struct Optional<C, const NULL: i64>(PhantomData<C>);

impl<C: Codec, const NULL: i64> Codec for Optional<C, NULL> {
    type Owned = Option<C::Owned>;
    type View<'a> = Option<C::View<'a>>;
    const MIN_LEN: usize = 1;

    #[inline]
    fn encode(value: &Option<C::Owned>, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        match value {
            None => {
                write_long(NULL, out);
                Ok(())
            }
            Some(value) => {
                write_long(1 - NULL, out);
                C::encode(value, out)
            }
        }
    }

    #[inline]
    fn decode(input: &mut Input<'_>) -> Result<Option<C::Owned>, DecodeError> {
        match input.read_index(2)? as i64 == NULL {
            true => Ok(None),
            false => C::decode(input).map(Some),
        }
    }

    #[inline]
    fn view<'a>(input: &mut Input<'a>) -> Result<Option<C::View<'a>>, DecodeError> {
        match input.read_index(2)? as i64 == NULL {
            true => Ok(None),
            false => C::view(input).map(Some),
        }
    }

    #[inline]
    fn own(view: &Option<C::View<'_>>) -> Option<C::Owned> {
        view.as_ref().map(C::own)
    }

    #[inline]
    fn convert(input: &mut Input<'_>, step: &Step) -> Result<Option<C::Owned>, DecodeError> {
        match step.branch() {
            Some((branch, _)) if branch as i64 == NULL => Ok(None),
            Some((_, step)) => C::resolve(input, step).map(Some),
            None => Err(no_plan(input)),
        }
    }

    #[inline]
    fn convert_view<'a>(input: &mut Input<'a>, step: &'a Step) -> Result<Option<C::View<'a>>, DecodeError> {
        match step.branch() {
            Some((branch, _)) if branch as i64 == NULL => Ok(None),
            Some((_, step)) => C::resolve_view(input, step).map(Some),
            None => Err(no_plan(input)),
        }
    }
}

/// The value of a field's default, whose bytes `records!` has written and checked.
#[doc(hidden)]
pub fn default_of<C: Codec>(bytes: &[u8]) -> Option<C::Owned> {
    C::decode(&mut Input::new(bytes)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The specification's way, a byte after the other.
    fn plainly(value: i64) -> Vec<u8> {
        let mut zigzag = ((value << 1) ^ (value >> 63)) as u64;
        let mut bytes = Vec::new();
        while zigzag >= 0x80 {
            bytes.push(zigzag as u8 | 0x80);
            zigzag >>= 7;
        }
        bytes.push(zigzag as u8);
        bytes
    }

    #[test]
    fn numbers_of_every_length_are_written_and_read() {
        for bit in 0..64 {
            for value in [1_i64 << bit, (1_i64 << bit).wrapping_sub(1), -1_i64 << bit, 0x5555_5555_5555_5555 >> bit] {
                for value in [value, value.wrapping_neg()] {
                    let mut bytes = vec![7];
                    write_long(value, &mut bytes);
                    assert_eq!(bytes[1..], plainly(value), "{value}");
                    // With nothing behind it, and with more than a word.
                    for behind in [&[][..], &[0xff; 9]] {
                        let all = [&bytes[1..], behind].concat();
                        let mut input = Input::new(&all);
                        assert_eq!((input.read_long(), input.rest()), (Ok(value), behind));
                    }
                }
            }
        }
    }
}

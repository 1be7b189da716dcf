//! Plain values as people read and write them.

use serde_json::{Number, Value};

use super::values::{hex, text_or_hex};
use crate::record::{Plain, Value as _};

/// The wire value of what somebody typed: a number, a text as it is, or bytes, `0x…` in hexadecimal digits or else as text.
pub(super) fn encode(plain: Plain, text: &str) -> Result<Vec<u8>, String> {
    let wrong = |why: &dyn std::fmt::Display| format!("{text:?} is no {plain}: {why}");
    Ok(match plain {
        Plain::Text => text.as_bytes().to_vec(),
        Plain::Bytes => match text.strip_prefix("0x") {
            Some(digits) => {
                unhex(digits).ok_or_else(|| wrong(&"after 0x come two hexadecimal digits for each byte"))?
            }
            None => text.as_bytes().to_vec(),
        },
        Plain::Int => text.trim().parse::<i32>().map_err(|why| wrong(&why))?.to_be_bytes().to_vec(),
        Plain::Long => text.trim().parse::<i64>().map_err(|why| wrong(&why))?.to_be_bytes().to_vec(),
        Plain::Float => text.trim().parse::<f32>().map_err(|why| wrong(&why))?.to_be_bytes().to_vec(),
        Plain::Double => text.trim().parse::<f64>().map_err(|why| wrong(&why))?.to_be_bytes().to_vec(),
    })
}

/// A wire value for people and programs, as [`encode`] takes it.
pub(super) fn decode(plain: Plain, wire: &[u8]) -> Result<Value, String> {
    let read = match plain {
        Plain::Text => String::decode_value(wire).map(Value::from),
        Plain::Bytes if wire.starts_with(b"0x") => Ok(hex(wire).into()),
        Plain::Bytes => Ok(text_or_hex(wire)),
        Plain::Int => i32::decode_value(wire).map(Value::from),
        Plain::Long => i64::decode_value(wire).map(Value::from),
        // The text of a float is shorter than that of the double it becomes.
        Plain::Float => f32::decode_value(wire).map(|number| floating(&number.to_string())),
        Plain::Double => f64::decode_value(wire).map(|number| floating(&number.to_string())),
    };
    read.map_err(|error| error.to_string())
}

/// A number, or its name where JSON has none: `NaN`, `inf`, `-inf`.
fn floating(text: &str) -> Value {
    let number = text.parse().ok().and_then(Number::from_f64);
    number.map_or_else(|| text.into(), Value::Number)
}

fn unhex(digits: &str) -> Option<Vec<u8>> {
    let digit = |byte: &u8| char::from(*byte).to_digit(16).map(|digit| digit as u8);
    let pairs = digits.as_bytes().chunks(2);
    pairs.map(|pair| Some(digit(pair.first()?)? << 4 | digit(pair.get(1)?)?)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shown_can_be_typed() {
        for (plain, wire, shown) in [
            (Plain::Text, "Grüße".as_bytes(), Value::from("Grüße")),
            (Plain::Bytes, b"text", "text".into()),
            (Plain::Bytes, b"\0\xff", "0x00ff".into()),
            (Plain::Bytes, b"0x12", "0x30783132".into()),
            (Plain::Int, &[255, 255, 255, 254], (-2).into()),
            (Plain::Long, &[0, 0, 0, 1, 0, 0, 0, 0], (1_i64 << 32).into()),
            (Plain::Float, &0.1_f32.to_be_bytes(), 0.1.into()),
            (Plain::Double, &(-1.5_f64).to_be_bytes(), (-1.5).into()),
            (Plain::Double, &f64::NEG_INFINITY.to_be_bytes(), "-inf".into()),
        ] {
            assert_eq!(decode(plain, wire).unwrap(), shown);
            let text = shown.as_str().map_or_else(|| shown.to_string(), str::to_owned);
            assert_eq!(encode(plain, &text).unwrap(), wire, "{text}");
        }
    }

    #[test]
    fn what_is_none_is_said() {
        for (plain, text, said) in [
            (Plain::Int, "2147483648", "\"2147483648\" is no int: number too large"),
            (Plain::Long, "1.5", "\"1.5\" is no long: invalid digit"),
            (Plain::Double, "much", "\"much\" is no double: invalid float"),
            (Plain::Bytes, "0x123", "two hexadecimal digits for each byte"),
            (Plain::Bytes, "0x+1", "two hexadecimal digits for each byte"),
        ] {
            let error = encode(plain, text).unwrap_err();
            assert!(error.contains(said), "{error}");
        }
        assert!(decode(Plain::Int, &[1]).unwrap_err().contains("a plain int has 4 bytes, this value has 1"));
    }
}

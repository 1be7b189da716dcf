//! Plain values: one number, text or bytes without a schema, as Kafka's own serializers write them.

use std::fmt;

use super::DecodeError;

/// What a plain value is. Numbers are big-endian, a string is its UTF-8, bytes are as they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plain {
    /// UTF-8.
    Text,
    /// Any bytes.
    Bytes,
    /// A signed number of 4 bytes.
    Int,
    /// A signed number of 8 bytes.
    Long,
    /// A floating-point number of 4 bytes.
    Float,
    /// A floating-point number of 8 bytes.
    Double,
}

impl Plain {
    /// The number of bytes, where it is fixed.
    pub fn width(self) -> Option<usize> {
        match self {
            Self::Text | Self::Bytes => None,
            Self::Int | Self::Float => Some(4),
            Self::Long | Self::Double => Some(8),
        }
    }

    /// Whether these bytes are such a value; the error says why not.
    pub fn check(self, wire: &[u8]) -> Result<(), DecodeError> {
        match self.width() {
            Some(width) if width != wire.len() => Err(self.wrong_length(wire.len())),
            None if self == Self::Text => std::str::from_utf8(wire).map(drop).map_err(not_utf8),
            _ => Ok(()),
        }
    }

    #[cold]
    pub(super) fn wrong_length(self, have: usize) -> DecodeError {
        let need = self.width().unwrap_or_default();
        DecodeError::at_field("-", 0, format!("a plain {self} has {need} bytes, this value has {have}"))
    }
}

impl fmt::Display for Plain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Text => "string",
            Self::Bytes => "bytes",
            Self::Int => "int",
            Self::Long => "long",
            Self::Float => "float",
            Self::Double => "double",
        })
    }
}

#[cold]
pub(super) fn not_utf8(error: std::str::Utf8Error) -> DecodeError {
    DecodeError::at_field("-", error.valid_up_to(), "not UTF-8")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Value;

    /// What Kafka's `IntegerSerializer`, `LongSerializer`, `FloatSerializer`, `DoubleSerializer`, `StringSerializer` and
    /// `ByteArraySerializer` write.
    #[test]
    fn values_are_written_as_kafkas_serializers_do() {
        fn check<V: Value + PartialEq>(value: V, wire: &[u8]) {
            let mut written = Vec::new();
            value.encode_value(&mut written).unwrap();
            assert_eq!(written, wire, "{value:?}");
            assert_eq!(V::decode_value(wire).unwrap(), value);
            V::PLAIN.unwrap().check(wire).unwrap();
        }
        check(1_i32, &[0, 0, 0, 1]);
        check(-2_i32, &[255, 255, 255, 254]);
        check(i32::MIN, &[128, 0, 0, 0]);
        check(0x0102_0304_0506_0708_i64, &[1, 2, 3, 4, 5, 6, 7, 8]);
        check(-1_i64, &[255; 8]);
        check(1.5_f32, &[0x3f, 0xc0, 0, 0]);
        check(-2.0_f64, &[0xc0, 0, 0, 0, 0, 0, 0, 0]);
        check("Grüße".to_owned(), b"Gr\xc3\xbc\xc3\x9fe");
        check(String::new(), b"");
        check(vec![0_u8, 255], &[0, 255]);
    }

    #[test]
    fn what_is_no_such_value_is_refused() {
        for (plain, wire, said) in [
            (Plain::Int, &[0, 0, 1][..], "a plain int has 4 bytes, this value has 3"),
            (Plain::Long, &[0, 0, 0, 1], "a plain long has 8 bytes, this value has 4"),
            (Plain::Float, &[], "a plain float has 4 bytes, this value has 0"),
            (Plain::Double, &[0; 9], "a plain double has 8 bytes, this value has 9"),
            (Plain::Text, b"ab\xff", "at byte 2: not UTF-8"),
        ] {
            let error = plain.check(wire).unwrap_err().to_string();
            assert!(error.contains(said), "{error}");
        }
        assert!(i32::decode_value(&[0; 5]).unwrap_err().to_string().contains("a plain int has 4 bytes"));
        assert!(f64::view_value(&[0; 4]).unwrap_err().to_string().contains("a plain double has 8 bytes"));
        Plain::Bytes.check(b"\xff").unwrap();
    }
}

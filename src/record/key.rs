//! Keys: plain bytes, so that partitions agree with every other client.

use std::borrow::Borrow;
use std::fmt;

use super::{DecodeError, EncodeError, Input, Record, SINGLE_OBJECT_HEADER_LEN, SINGLE_OBJECT_MARKER};

/// What a record or a table can be keyed by.
///
/// A string is its UTF-8 bytes, an `i32` or `i64` big-endian as Kafka's serializers write it, bytes are as they are,
/// a record is single-object Avro.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be a key",
    note = "keys are `String`, `i32`, `i64`, `Vec<u8>`, `uuid::Uuid` or a record"
)]
pub trait Key: Sized + Clone + fmt::Debug + Send + 'static + Borrow<Self::Ref> {
    /// What is passed to look a key up: `str` for `String`.
    type Ref: ?Sized;

    /// Whether the first bit is a sign, so that stored keys sort as numbers do.
    const SIGNED: bool = false;

    /// Appends the key's bytes.
    fn encode_key(key: &Self::Ref, out: &mut Vec<u8>) -> Result<(), EncodeError>;

    /// Reads a key back.
    fn decode_key(bytes: &[u8]) -> Result<Self, DecodeError>;

    /// The bytes themselves, for keys that need no encoding.
    #[inline]
    fn as_bytes(key: &Self::Ref) -> Option<&[u8]> {
        let _ = key;
        None
    }
}

fn wrong_length(what: &str, need: usize, have: usize) -> DecodeError {
    DecodeError::at_field("key", 0, format!("{what} has {need} bytes, this key has {have}"))
}

impl Key for String {
    type Ref = str;

    fn encode_key(key: &str, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        out.extend_from_slice(key.as_bytes());
        Ok(())
    }

    fn decode_key(bytes: &[u8]) -> Result<Self, DecodeError> {
        std::str::from_utf8(bytes)
            .map(str::to_owned)
            .map_err(|error| DecodeError::at_field("key", error.valid_up_to(), "not UTF-8"))
    }

    #[inline]
    fn as_bytes(key: &str) -> Option<&[u8]> {
        Some(key.as_bytes())
    }
}

impl Key for Vec<u8> {
    type Ref = [u8];

    fn encode_key(key: &[u8], out: &mut Vec<u8>) -> Result<(), EncodeError> {
        out.extend_from_slice(key);
        Ok(())
    }

    fn decode_key(bytes: &[u8]) -> Result<Self, DecodeError> {
        Ok(bytes.to_vec())
    }

    #[inline]
    fn as_bytes(key: &[u8]) -> Option<&[u8]> {
        Some(key)
    }
}

impl Key for uuid::Uuid {
    type Ref = Self;

    fn encode_key(key: &Self, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        out.extend_from_slice(key.hyphenated().to_string().as_bytes());
        Ok(())
    }

    fn decode_key(bytes: &[u8]) -> Result<Self, DecodeError> {
        Self::try_parse_ascii(bytes).map_err(|error| DecodeError::at_field("key", 0, error.to_string()))
    }
}

macro_rules! integer_key {
    ($type:ty, $name:literal) => {
        impl Key for $type {
            type Ref = Self;
            const SIGNED: bool = true;

            fn encode_key(key: &Self, out: &mut Vec<u8>) -> Result<(), EncodeError> {
                out.extend_from_slice(&key.to_be_bytes());
                Ok(())
            }

            fn decode_key(bytes: &[u8]) -> Result<Self, DecodeError> {
                bytes
                    .try_into()
                    .map(Self::from_be_bytes)
                    .map_err(|_| wrong_length($name, size_of::<Self>(), bytes.len()))
            }
        }
    };
}

integer_key!(i32, "an int");
integer_key!(i64, "a long");

impl<R: Record> Key for R {
    type Ref = Self;

    fn encode_key(key: &Self, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        out.extend_from_slice(&SINGLE_OBJECT_MARKER);
        out.extend_from_slice(&R::SCHEMA.fingerprint.to_le_bytes());
        key.encode(out)
    }

    fn decode_key(bytes: &[u8]) -> Result<Self, DecodeError> {
        let fingerprint =
            bytes.get(2..SINGLE_OBJECT_HEADER_LEN).and_then(|bytes| bytes.try_into().ok()).map(u64::from_le_bytes);
        if fingerprint != Some(R::SCHEMA.fingerprint) || bytes[..2] != SINGLE_OBJECT_MARKER {
            let name = R::SCHEMA.name;
            let reason = format!("not a {name} in single-object encoding with its own schema");
            return Err(DecodeError::at_field("key", 0, reason));
        }
        R::decode(&mut Input::new(&bytes[SINGLE_OBJECT_HEADER_LEN..]))
    }
}

//! Scalars as accumulators store them: fixed width and little-endian, text and bytes behind their length.

use std::any::type_name;

use bytes::Bytes;
use jiff::civil::Date;
use rust_decimal::Decimal;
use uuid::Uuid;

use crate::record::{DecodeError, FieldType};

/// A scalar that an accumulator can keep.
pub trait StateField: FieldType {
    /// Appends what is stored.
    fn encode_field(&self, out: &mut Vec<u8>);

    /// Reads back what [`StateField::encode_field`] wrote and moves `input` past it.
    fn decode_field(input: &mut &[u8]) -> Result<Self, DecodeError>;
}

/// The error for bytes that are not what an accumulator wrote.
#[cold]
pub(super) fn broken<T>(reason: impl Into<String>) -> DecodeError {
    DecodeError::at_field(type_name::<T>(), 0, reason)
}

/// Takes `N` bytes off the front.
pub(super) fn take<const N: usize, T>(input: &mut &[u8]) -> Result<[u8; N], DecodeError> {
    let (taken, rest) = input
        .split_first_chunk::<N>()
        .ok_or_else(|| broken::<T>(format!("{N} bytes are needed, {} are left", input.len())))?;
    *input = rest;
    Ok(*taken)
}

macro_rules! number_field {
    ($($type:ty),*) => {$(
        impl StateField for $type {
            #[inline]
            fn encode_field(&self, out: &mut Vec<u8>) {
                out.extend_from_slice(&self.to_le_bytes());
            }

            #[inline]
            fn decode_field(input: &mut &[u8]) -> Result<Self, DecodeError> {
                take::<{ size_of::<$type>() }, Self>(input).map(Self::from_le_bytes)
            }
        }
    )*};
}

number_field!(i32, i64, f32, f64);

impl StateField for bool {
    fn encode_field(&self, out: &mut Vec<u8>) {
        out.push(u8::from(*self));
    }

    fn decode_field(input: &mut &[u8]) -> Result<Self, DecodeError> {
        match take::<1, Self>(input)? {
            [0] => Ok(false),
            [1] => Ok(true),
            [other] => Err(broken::<Self>(format!("{other} is neither 0 nor 1"))),
        }
    }
}

impl StateField for Decimal {
    fn encode_field(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.serialize());
    }

    fn decode_field(input: &mut &[u8]) -> Result<Self, DecodeError> {
        let bytes = take::<16, Self>(input)?;
        let decimal = Self::deserialize(bytes);
        // Unused bits and a scale out of range would come back as another number.
        if decimal.serialize() != bytes || decimal.scale() > Self::MAX_SCALE {
            return Err(broken::<Self>("not a decimal"));
        }
        Ok(decimal)
    }
}

impl StateField for Date {
    fn encode_field(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.year().to_le_bytes());
        out.extend_from_slice(&self.month().to_le_bytes());
        out.extend_from_slice(&self.day().to_le_bytes());
    }

    fn decode_field(input: &mut &[u8]) -> Result<Self, DecodeError> {
        let [a, b, month, day] = take::<4, Self>(input)?;
        let year = i16::from_le_bytes([a, b]);
        Self::new(year, month as i8, day as i8).map_err(|error| broken::<Self>(error.to_string()))
    }
}

impl StateField for jiff::Timestamp {
    fn encode_field(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.as_nanosecond().to_le_bytes());
    }

    fn decode_field(input: &mut &[u8]) -> Result<Self, DecodeError> {
        let nanos = i128::from_le_bytes(take::<16, Self>(input)?);
        Self::from_nanosecond(nanos).map_err(|error| broken::<Self>(error.to_string()))
    }
}

impl StateField for Uuid {
    fn encode_field(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.as_bytes());
    }

    fn decode_field(input: &mut &[u8]) -> Result<Self, DecodeError> {
        take::<16, Self>(input).map(Self::from_bytes)
    }
}

impl StateField for String {
    fn encode_field(&self, out: &mut Vec<u8>) {
        encode_bytes(self.as_bytes(), out);
    }

    fn decode_field(input: &mut &[u8]) -> Result<Self, DecodeError> {
        let bytes = decode_bytes::<Self>(input)?;
        std::str::from_utf8(bytes).map(str::to_owned).map_err(|error| broken::<Self>(error.to_string()))
    }
}

impl StateField for Bytes {
    fn encode_field(&self, out: &mut Vec<u8>) {
        encode_bytes(self, out);
    }

    fn decode_field(input: &mut &[u8]) -> Result<Self, DecodeError> {
        decode_bytes::<Self>(input).map(Self::copy_from_slice)
    }
}

impl<T: StateField> StateField for Option<T> {
    fn encode_field(&self, out: &mut Vec<u8>) {
        out.push(u8::from(self.is_some()));
        if let Some(value) = self {
            value.encode_field(out);
        }
    }

    fn decode_field(input: &mut &[u8]) -> Result<Self, DecodeError> {
        match bool::decode_field(input)? {
            true => T::decode_field(input).map(Some),
            false => Ok(None),
        }
    }
}

fn encode_bytes(bytes: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(&(bytes.len() as u64).to_le_bytes());
    out.extend_from_slice(bytes);
}

fn decode_bytes<'a, T>(input: &mut &'a [u8]) -> Result<&'a [u8], DecodeError> {
    let len = u64::from_le_bytes(take::<8, T>(input)?);
    let (bytes, rest) = usize::try_from(len)
        .ok()
        .and_then(|len| input.split_at_checked(len))
        .ok_or_else(|| broken::<T>(format!("{len} bytes are needed, {} are left", input.len())))?;
    *input = rest;
    Ok(bytes)
}

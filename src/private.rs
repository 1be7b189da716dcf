//! What generated code names. No part of the public interface.

pub use crate::record::codec::{
    Blob, Boolean, Codec, Double, Enum, Fixed, FixedBytes, Float, Int, Long, Nested, Null, Optional, Str, Symbols,
    default_of,
};
pub use crate::record::containers::{Array, Map};
pub use crate::record::logical::{
    Date, DecimalBytes, DecimalFixed, LocalTimestampMicros, LocalTimestampMillis, LocalTimestampNanos, TimeMicros,
    TimeMillis, TimestampMicros, TimestampMillis, TimestampNanos, UuidFixed, UuidText,
};
pub use crate::record::{
    ArrayView, DecodeError, EncodeError, FieldSchema, FieldType, HasField, Input, MapView, Record, RecordSchema,
    UnknownSymbol, field_id,
};
pub use {bytes, jiff, rust_decimal, uuid};

/// A field's error with its name, off the path of records that are well.
#[cold]
#[inline(never)]
pub fn decode_within(error: DecodeError, field: &str) -> DecodeError {
    error.within(field)
}

/// A field's error with its name, off the path of records that are well.
#[cold]
#[inline(never)]
pub fn encode_within(error: EncodeError, field: &str) -> EncodeError {
    error.within(field)
}

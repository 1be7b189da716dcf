//! What generated code names. No part of the public interface.

pub use crate::agent::{
    Agent, AgentDef, AgentFuture, Aggregation, Input as AgentInput, IntoOutputs, KeyDef, KeyField, OnError, Outcome,
    Output, OutputDef, Shape, Stream, Submitted, Task, aggregate, concurrently, concurrently_events, finish_stream,
    rekey,
};
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
    ArrayView, DecodeError, EncodeError, FieldSchema, FieldType, HasField, Input, Key, MapView, Record, RecordSchema,
    UnknownSymbol, Value, field_id,
};
pub use crate::table::aggregate::{
    Accumulator, Aggregate, AggregateError, Count, CountRecords, Finish, First, Fold, Last, Max, Mean, Min, Sum, Tally,
};
pub use crate::table::{Table, TableState};
pub use {bytes, inventory, jiff, rust_decimal, uuid};

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

/// The error for a field that cannot be filled.
#[cold]
#[inline(never)]
pub fn encode_failed(field: &str, reason: &dyn std::fmt::Display) -> EncodeError {
    EncodeError { field: field.to_owned(), reason: reason.to_string() }
}

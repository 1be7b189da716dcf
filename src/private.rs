//! What generated code names. No part of the public interface.

pub use crate::agent::{
    Agent, AgentDef, AgentFuture, Aggregation, Input as AgentInput, IntoOutputs, KeyDef, KeyField, OnError, Outcome,
    Output, OutputDef, Shape, Stream, Submitted, Task, aggregate, concurrently, concurrently_events, finish_stream,
    rekey,
};
pub use crate::record::big_decimal::{BigDecimal, BigDecimalBytes, BigDecimalFixed};
pub use crate::record::boxed_bytes::{boxed_bytes, boxed_zeroes};
pub use crate::record::codec::{
    Blob, Boolean, Codec, Double, Enum, Fixed, FixedBytes, Float, Int, Long, Nested, Null, Optional, Str, Symbols,
    default_of, write_branch,
};
pub use crate::record::containers::{Array, Map};
pub use crate::record::logical::{
    Date, DecimalBytes, DecimalFixed, Duration, LocalTimestampMicros, LocalTimestampMillis, LocalTimestampNanos,
    TimeMicros, TimeMillis, TimestampMicros, TimestampMillis, TimestampNanos, UuidFixed, UuidText,
};
pub use crate::record::plan::{FieldPlan, RecordPlan, no_plan, resolve_default, view_default};
pub use crate::record::recursive::{Boxed, Recursive};
pub use crate::record::{
    ArrayView, DecodeError, Duration as AvroDuration, EncodeError, FieldSchema, FieldType, HasField, Input, Key,
    MapView, Record, RecordSchema, Step, UnknownSymbol, Value, field_id,
};
pub use crate::table::aggregate::{
    Accumulator, Aggregate, AggregateError, Count, CountRecords, Finish, First, Fold, Last, Max, Mean, Min, Sum, Tally,
};
pub use crate::table::{Table, TableState};
pub use {bigdecimal, bytes, inventory, jiff, rust_decimal, uuid};

/// [`field_id`] of a record's scalar field. Without such a field the constant that asks has no value, and the compiler
/// reports that once, not at every type that depends on it.
#[track_caller]
pub const fn scalar_field(schema: &RecordSchema, name: &str, otherwise: &str) -> u64 {
    let mut i = 0;
    while i < schema.fields.len() {
        if same(schema.fields[i].scalar.as_bytes(), name.as_bytes()) {
            return field_id(name);
        }
        i += 1;
    }
    panic!("{}", otherwise)
}

/// Whether a function can be computed over a field's type: `FITS` is the inherent constant where it can, and otherwise
/// that of [`DoesNotFit`].
#[derive(Debug)]
pub struct Fits<F, T>(std::marker::PhantomData<(F, T)>);

/// The other side of [`Fits`].
pub trait DoesNotFit {
    /// It cannot.
    const FITS: bool = false;
}

impl<F, T> DoesNotFit for Fits<F, T> {}

impl<F: Aggregate<T>, T: FieldType> Fits<F, T> {
    /// It can.
    pub const FITS: bool = true;
}

const fn same(a: &[u8], b: &[u8]) -> bool {
    let mut i = 0;
    while i < a.len() && i < b.len() && a[i] == b[i] {
        i += 1;
    }
    i == a.len() && i == b.len()
}

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

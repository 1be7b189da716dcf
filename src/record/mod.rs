//! Records: what a value is, how it becomes bytes, and which schema wrote them.

pub(crate) mod big_decimal;
pub(crate) mod boxed_bytes;
pub(crate) mod codec;
mod container;
pub(crate) mod containers;
mod decoder;
mod duration;
mod field;
mod frame;
mod frame_builder;
mod frames;
mod from_json;
mod incompatibility;
mod input;
mod json_encoding;
mod key;
pub(crate) mod logical;
mod looks;
mod plain;
pub(crate) mod plan;
pub(crate) mod recursive;
mod resolve;
mod schema;
mod size;
mod stored;
mod to_json;
mod transcode;
mod translate;
mod utf8;
mod value;

use std::sync::Arc;

use crate::error::{Error, ErrorKind};

pub use codec::UnknownSymbol;
pub use container::{Compression, ContainerDatums, ContainerWriter, container_to_datums};
pub use containers::{ArrayIter, ArrayView, MapIter, MapView};
pub use decoder::{Decoder, SchemaLookup};
pub use duration::Duration;
pub use field::{FieldType, HasField, field_id};
pub(crate) use frame::{COMPACTED_FORMAT as COMPACTED_FRAME, FORMAT as PLAIN_FRAME, MAX_FRAME_LEN, PlainRecord};
pub use frame::{Frame, FrameError, FrameHeader, HEADER_LEN, Headers, RawRecord, RawRecords};
pub use frame_builder::{FrameBuilder, FrameMark};
pub(crate) use frames::Spot;
pub use frames::{Cursor, Frames};
pub use from_json::{csv_row_to_avro, json_to_avro};
pub use incompatibility::{Incompatibility, incompatibilities};
pub use input::Input;
pub use json_encoding::{avro_to_json_encoding, json_encoding_to_avro};
pub use key::Key;
pub use looks::looks_like;
pub use plain::Plain;
pub use plan::Step;
pub use schema::DynamicSchema;
pub use size::MAX_RECORD_BYTES;
pub(crate) use size::oversize;
pub use stored::StoredSchemas;
pub use to_json::{avro_to_json, key_of};
pub use translate::Translation;
pub(crate) use value::left_over;
pub use value::{Value, split_single_object};

/// The two bytes that begin Avro's single-object encoding; the fingerprint follows, little-endian.
pub const SINGLE_OBJECT_MARKER: [u8; 2] = [0xC3, 0x01];

/// Length of the single-object header: marker and fingerprint.
pub const SINGLE_OBJECT_HEADER_LEN: usize = 10;

/// What `records!` knows of a record's schema when it compiles it.
#[derive(Debug)]
pub struct RecordSchema {
    /// Full name, with its namespace.
    pub name: &'static str,
    /// The schema as JSON, complete: every named type is defined at its first use.
    pub json: &'static str,
    /// CRC-64-AVRO of the canonical form that the specification defines.
    pub fingerprint: u64,
    /// The `doc` of the schema, or an empty text.
    pub doc: &'static str,
    /// The fields in the order of the schema.
    pub fields: &'static [FieldSchema],
}

/// One field of a [`RecordSchema`].
#[derive(Debug)]
pub struct FieldSchema {
    /// Name in the schema.
    pub name: &'static str,
    /// Name in Rust if it is a scalar, which [`HasField`] finds; else an empty text.
    pub scalar: &'static str,
    /// Its Avro type for people, e.g. `decimal(9,2)` or `null | string`.
    pub type_name: &'static str,
    /// Its default as JSON, if it has one.
    pub default: Option<&'static str>,
    /// The `doc` of the field, or an empty text.
    pub doc: &'static str,
}

/// A record type that `records!` generated from an `.avsc` file.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a record",
    label = "not generated from an Avro schema",
    note = "name the schema's file in `gretchen::records!(\"schemas/….avsc\")` and use the type that it generates"
)]
pub trait Record: Sized + Clone + std::fmt::Debug + PartialEq + Send + Sync + 'static {
    /// The record with everything borrowed from the bytes that it is read from.
    type View<'a>;

    /// The schema that this type was generated from.
    const SCHEMA: &'static RecordSchema;

    /// Appends the bare Avro datum. Fails where a value does not fit its schema (a decimal too large).
    fn encode(&self, out: &mut Vec<u8>) -> Result<(), EncodeError>;

    /// Reads the bare datum that [`Record::encode`] of the same schema wrote.
    fn decode(input: &mut Input<'_>) -> Result<Self, DecodeError>;

    /// Reads the same datum without copying.
    fn view<'a>(input: &mut Input<'a>) -> Result<Self::View<'a>, DecodeError>;

    /// Reads the bare datum that a record of another schema wrote, as a compiled resolution says. Fields that this type
    /// does not have are read over.
    fn resolve(input: &mut Input<'_>, step: &Step) -> Result<Self, DecodeError>;

    /// Reads the same datum without copying.
    fn resolve_view<'a>(input: &mut Input<'a>, step: &'a Step) -> Result<Self::View<'a>, DecodeError>;

    /// Copies what a view borrows.
    fn from_view(view: &Self::View<'_>) -> Self;
}

/// A value that its schema cannot hold: which field, and why.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("field {}: {reason}", shown(.field))]
pub struct EncodeError {
    /// Path of the field, e.g. `lines[3].price`; empty or `-` where it is the value itself.
    pub field: String,
    /// What does not fit.
    pub reason: String,
}

/// Bytes that are not what their schema says: which field, at which byte, and why.
///
/// It is a pointer, so that what is decoded goes through registers where nothing fails.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DecodeError(Box<WrongBytes>);

/// What a [`DecodeError`] says.
#[derive(Clone, Debug)]
pub struct WrongBytes {
    /// Path of the field; empty or `-` where it is the value itself.
    pub field: String,
    /// Byte of the value (header included) at which it was noticed.
    pub position: usize,
    /// What is wrong.
    pub reason: String,
    /// What failed beneath, where the bytes may be right.
    pub(crate) storage: Option<Arc<Error>>,
}

impl PartialEq for WrongBytes {
    fn eq(&self, other: &Self) -> bool {
        let said = |error: &Self| error.storage.as_ref().map(ToString::to_string);
        (&self.field, self.position, &self.reason) == (&other.field, other.position, &other.reason)
            && said(self) == said(other)
    }
}

impl Eq for WrongBytes {}

impl std::fmt::Display for DecodeError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let WrongBytes { field, position, reason, .. } = &*self.0;
        write!(f, "field {} at byte {position}: {reason}", shown(field))
    }
}

impl DecodeError {
    /// How the lookup of a schema failed, where that is why: the bytes may be right.
    pub(crate) fn lookup_failed(&self) -> Option<ErrorKind> {
        self.0.storage.as_ref().map(|error| error.kind())
    }
}

impl std::error::Error for DecodeError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        let storage: &Error = self.0.storage.as_deref()?;
        Some(storage)
    }
}

impl std::ops::Deref for DecodeError {
    type Target = WrongBytes;

    fn deref(&self) -> &WrongBytes {
        &self.0
    }
}

impl std::ops::DerefMut for DecodeError {
    fn deref_mut(&mut self) -> &mut WrongBytes {
        &mut self.0
    }
}

impl EncodeError {
    /// A value that does not fit; the fields around it add their names.
    #[cold]
    pub(crate) fn new(reason: impl Into<String>) -> Self {
        Self { field: String::new(), reason: reason.into() }
    }

    /// The same inside of a field (or of an item, `[3]`).
    #[cold]
    #[must_use]
    pub(crate) fn within(mut self, field: &str) -> Self {
        prepend(&mut self.field, field);
        self
    }
}

impl DecodeError {
    /// Wrong bytes; the fields around them add their names.
    #[cold]
    #[inline(never)]
    pub(crate) fn new(position: usize, reason: impl Into<String>) -> Self {
        Self::at_field("", position, reason)
    }

    /// Wrong bytes of a field; `-` stands for the whole value.
    #[cold]
    pub fn at_field(field: impl Into<String>, position: usize, reason: impl Into<String>) -> Self {
        Self(Box::new(WrongBytes { field: field.into(), position, reason: reason.into(), storage: None }))
    }

    /// The same inside of a field (or of an item, `[3]`).
    #[cold]
    #[must_use]
    pub(crate) fn within(mut self, field: &str) -> Self {
        prepend(&mut self.0.field, field);
        self
    }
}

/// A path for people.
fn shown(field: &str) -> &str {
    if field.is_empty() { "-" } else { field }
}

fn prepend(path: &mut String, outer: &str) {
    if !path.is_empty() && !path.starts_with('[') {
        path.insert(0, '.');
    }
    path.insert_str(0, outer);
}

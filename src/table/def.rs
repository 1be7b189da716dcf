//! A table's definition without its types, and what opening a partition needs.

use std::any::TypeId;
use std::fmt;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;

use super::at_hand::AtHand;
use super::partition::{AnyPartition, TablePartition};
use super::store::MemoryStores;
use super::{TableState, key_text};
use crate::disk::Disk;
use crate::error::{Error, ErrorKind, Result};
use crate::record::{DecodeError, EncodeError, Key, Plain, RecordSchema, StoredSchemas, Value};
use crate::topic::TopicPartition;

/// Bytes of the timestamp before every stored state.
pub(super) const TIMESTAMP_LEN: usize = 8;

/// What a task brings to open its partition of a table.
#[derive(Debug)]
pub struct OpenPartition {
    /// Folder of the RocksDB instance; `None` keeps the table in memory.
    pub dir: Option<PathBuf>,
    /// The file system that the folder is on. RocksDB knows only the machine's own; on another one a table is a file.
    pub disk: Disk,
    /// Where a table in memory survives its task: a simulated restart finds it again under its changelog's name.
    pub memory: Option<MemoryStores>,
    /// Number of the partition.
    pub partition: u32,
    /// Number of partitions, for refusing keys that belong to another.
    pub partitions: u32,
    /// The partition of the changelog, for errors.
    pub place: TopicPartition,
    /// What tells the changelog from one of the same name that was deleted, where its backend has that. A store keeps it.
    pub changelog_id: Option<Arc<str>>,
    /// The schemas that the changelog keeps, for values that an earlier form of the table wrote.
    pub schemas: StoredSchemas,
    /// Bound of the cache in bytes.
    pub memory_bytes: usize,
    /// Memory of what all stores on disk together have read; the first worker of the process decides.
    pub store_bytes: usize,
    /// Files that the store has open at once.
    pub store_files: u32,
    /// What the task says of the record that is being processed.
    pub at_hand: Rc<AtHand>,
}

type EncodeOutput<S> = fn(&S, &[u8], &mut Vec<u8>) -> Result<(), EncodeError>;
type ValueWire = fn(&[u8], &[u8], &StoredSchemas) -> Result<Vec<u8>, StateError>;

/// How a table's state becomes bytes: the table's types, erased to what a partition needs of them.
pub(super) struct Codec<S> {
    pub(super) encode: fn(&S, &mut Vec<u8>) -> Result<(), EncodeError>,
    pub(super) decode: fn(&[u8], &StoredSchemas) -> Result<S, DecodeError>,
    pub(super) encode_output: EncodeOutput<S>,
}

impl<S> Clone for Codec<S> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<S> Copy for Codec<S> {}

impl<S> fmt::Debug for Codec<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Codec")
    }
}

impl<S> Codec<S> {
    pub(super) fn of<K: Key, V: Value>() -> Self
    where
        S: TableState<K, V>,
    {
        Self {
            encode: <S as TableState<K, V>>::encode_state,
            decode: <S as TableState<K, V>>::decode_stored,
            encode_output: <S as TableState<K, V>>::encode_output,
        }
    }
}

/// A table without its types: what the plan checks, the worker opens and the command line lists.
#[derive(Clone, Copy)]
pub struct TableDef {
    /// The table's name.
    pub name: &'static str,
    /// The topic that changed values are put out to.
    pub output: Option<&'static str>,
    /// What the table holds, for people.
    pub help: &'static str,
    /// The schema of the values, when they are records.
    pub schema: Option<&'static RecordSchema>,
    /// What the values are, when they are plain.
    pub plain: Option<Plain>,
    /// Whether keys are signed numbers, which are stored with the sign flipped so that they sort as numbers do.
    pub(super) signed: bool,
    key: fn() -> TypeId,
    layout: fn() -> String,
    stored_schema: fn() -> Option<&'static RecordSchema>,
    open: fn(&TableDef, OpenPartition) -> Result<Rc<dyn AnyPartition>>,
    key_text: fn(&[u8]) -> String,
    parse_key: fn(&str) -> Result<Vec<u8>, String>,
    value_wire: ValueWire,
}

impl TableDef {
    pub(super) fn new<K: Key, V: Value, S: TableState<K, V>>(
        name: &'static str,
        output: Option<&'static str>,
        help: &'static str,
    ) -> Self {
        Self {
            name,
            output,
            help,
            schema: V::SCHEMA,
            plain: V::PLAIN,
            signed: K::SIGNED,
            key: TypeId::of::<K>,
            layout: <S as TableState<K, V>>::layout,
            stored_schema: <S as TableState<K, V>>::stored_schema,
            open: |def, open| {
                let partition = TablePartition::<S>::open(*def, Codec::of::<K, V>(), open)?;
                Ok(Rc::new(partition) as Rc<dyn AnyPartition>)
            },
            key_text: key_text::show::<K>,
            parse_key: key_text::parse::<K>,
            value_wire: |key, stored, schemas| {
                let state = <S as TableState<K, V>>::decode_stored(split_stored(stored)?.1, schemas)?;
                let mut out = Vec::new();
                <S as TableState<K, V>>::encode_output(&state, key, &mut out)?;
                Ok(out)
            },
        }
    }

    /// What the stored bytes mean; see [`TableState::layout`].
    pub fn layout(&self) -> String {
        (self.layout)()
    }

    /// The schema of what is stored; see [`TableState::stored_schema`].
    pub fn stored_schema(&self) -> Option<&'static RecordSchema> {
        (self.stored_schema)()
    }

    /// What the stored bytes mean where nothing else can be read; empty for records, whose values name their schema.
    pub fn fixed_layout(&self) -> String {
        if self.stored_schema().is_some() { String::new() } else { self.layout() }
    }

    /// Opens one partition.
    ///
    /// Fails if it was stored with another layout or another number of partitions.
    pub fn open(&self, open: OpenPartition) -> Result<Rc<dyn AnyPartition>> {
        (self.open)(self, open)
    }

    /// Whether keys are signed numbers, which sort as numbers and not as their bytes.
    pub fn is_signed(&self) -> bool {
        self.signed
    }

    /// A raw key for people.
    pub fn key_text(&self, raw: &[u8]) -> String {
        (self.key_text)(raw)
    }

    /// The raw key that a person typed.
    pub fn parse_key(&self, text: &str) -> Result<Vec<u8>> {
        (self.parse_key)(text)
            .map_err(|why| Error::new(ErrorKind::Key, format!("{text:?} is not a key of table {}: {why}", self.name)))
    }

    /// The value of a key as it goes on the wire, from the stored state, by the schema that the table has now.
    pub fn value_wire(&self, raw_key: &[u8], stored: &[u8], schemas: &StoredSchemas) -> Result<Vec<u8>> {
        (self.value_wire)(raw_key, stored, schemas).map_err(|error| {
            Error::new(error.kind(), format!("cannot read key {} of table {}", self.key_text(raw_key), self.name))
                .with_source(error)
        })
    }

    /// What a table puts out for a key whose state is stored so: timestamp, and value as it goes on the wire.
    pub(crate) fn output_of(&self, raw_key: &[u8], stored: &[u8], schemas: &StoredSchemas) -> Result<(i64, Vec<u8>)> {
        let wire = self.value_wire(raw_key, stored, schemas)?;
        let (timestamp, _) = split_stored(stored)
            .map_err(|error| Error::new(ErrorKind::Decode, "a stored state has no timestamp").with_source(error))?;
        Ok((timestamp, wire))
    }

    /// Whether both tables are keyed by the same type.
    pub fn same_key(&self, other: &Self) -> bool {
        (self.key)() == (other.key)()
    }
}

impl fmt::Debug for TableDef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TableDef").field("name", &self.name).field("output", &self.output).finish_non_exhaustive()
    }
}

/// Why a stored state cannot be read or shown.
#[derive(Debug, thiserror::Error)]
pub(super) enum StateError {
    #[error(transparent)]
    Decode(#[from] DecodeError),
    #[error(transparent)]
    Encode(#[from] EncodeError),
}

impl StateError {
    /// What it means that stored bytes could not be read.
    pub(super) fn unread(&self) -> ErrorKind {
        match self {
            Self::Decode(error) => error.lookup_failed().unwrap_or(ErrorKind::Corrupt),
            Self::Encode(_) => ErrorKind::Corrupt,
        }
    }

    pub(super) fn kind(&self) -> ErrorKind {
        match self {
            Self::Decode(_) => ErrorKind::Decode,
            Self::Encode(_) => ErrorKind::Encode,
        }
    }
}

/// The timestamp before a stored state, and the state.
pub(super) fn split_stored(stored: &[u8]) -> Result<(i64, &[u8]), DecodeError> {
    match stored.split_first_chunk::<TIMESTAMP_LEN>() {
        Some((timestamp, state)) => Ok((i64::from_le_bytes(*timestamp), state)),
        None => {
            let have = stored.len();
            let reason = format!("a stored state begins with {TIMESTAMP_LEN} bytes of timestamp, these are {have}");
            Err(DecodeError::at_field("-", 0, reason))
        }
    }
}

//! Tables: state by key, one partition a task, written to a changelog and kept in RocksDB.
//!
//! A partition of a table is a write-back cache ([`Slots`]) before a store that lags behind. A commit hands out what
//! changed ([`AnyPartition::drain_commit`]); a checkpoint, seconds later, moves it to the store together with the
//! changelog position that it covers ([`AnyPartition::start_checkpoint`]). The changelog is the truth: what the store
//! lacks is applied from there on opening ([`AnyPartition::apply`]).
//!
//! Tables know nothing of backends and agents.

pub mod aggregate;
mod at_hand;
mod cache;
mod checkpoint;
mod def;
mod handle;
mod huge_pages;
mod key_bytes;
mod key_text;
mod merge;
mod partition;
mod prefetch;
mod slot;
mod slots;
mod snapshot;
mod store;
#[cfg(test)]
mod tests;

use std::fmt;
use std::marker::PhantomData;

pub use self::at_hand::AtHand;
pub use self::checkpoint::{Checkpoint, CheckpointDone};
pub use self::def::{OpenPartition, TableDef};
pub use self::handle::{TableHandle, TableMut, TableRange, TableRef};
pub use self::partition::{AnyPartition, CommitSink, Encode, TablePartition};
pub use self::slots::{SlotNo, Slots};
pub use self::snapshot::{SnapshotRange, TableSnapshot};
pub use self::store::{DEFAULT_STORE_BYTES, DEFAULT_STORE_FILES, MemoryStores, drop_store};

use crate::record::{DecodeError, EncodeError, Key, RecordSchema, StoredSchemas, Value};

/// The state that a [`Table`] keeps for each key: what is stored, and the value that people and outputs see.
///
/// A plain table keeps its value itself; a declared aggregation keeps accumulators.
pub trait TableState<K: Key, V: Value>: Sized + Clone + fmt::Debug + Send + 'static {
    /// Appends what is stored.
    fn encode_state(&self, out: &mut Vec<u8>) -> Result<(), EncodeError>;

    /// Reads back what [`TableState::encode_state`] wrote. Every byte must be consumed.
    fn decode_state(bytes: &[u8]) -> Result<Self, DecodeError>;

    /// The schema of what is stored, where that is a record behind its schema's fingerprint: such a table may be opened
    /// with another schema that can read it.
    fn stored_schema() -> Option<&'static RecordSchema> {
        None
    }

    /// Reads back what an earlier form of the table may have written.
    fn decode_stored(bytes: &[u8], schemas: &StoredSchemas) -> Result<Self, DecodeError> {
        let _ = schemas;
        Self::decode_state(bytes)
    }

    /// The value to show and to put out for a key, given by its raw bytes.
    fn value(&self, key: &[u8]) -> Result<V, EncodeError>;

    /// Names what the stored bytes mean: for a plain value its schema, for an aggregation its functions and fields.
    /// A table that was stored with another layout refuses to open, unless both are schemas of which the one can be
    /// read with the other.
    fn layout() -> String;

    /// Appends [`TableState::value`] as it goes on the wire.
    fn encode_output(&self, key: &[u8], out: &mut Vec<u8>) -> Result<(), EncodeError> {
        self.value(key)?.encode_value(out)
    }
}

impl<K: Key, V: Value> TableState<K, V> for V {
    #[inline]
    fn encode_state(&self, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        self.encode_value(out)
    }

    #[inline]
    fn decode_state(bytes: &[u8]) -> Result<Self, DecodeError> {
        V::decode_value(bytes)
    }

    fn stored_schema() -> Option<&'static RecordSchema> {
        V::SCHEMA
    }

    #[inline]
    fn decode_stored(bytes: &[u8], schemas: &StoredSchemas) -> Result<Self, DecodeError> {
        schemas.decode(bytes)
    }

    fn value(&self, _key: &[u8]) -> Result<V, EncodeError> {
        Ok(self.clone())
    }

    fn layout() -> String {
        match V::SCHEMA {
            Some(schema) => format!("{}@{:016x}", schema.name, schema.fingerprint),
            None => std::any::type_name::<V>().to_owned(),
        }
    }

    fn encode_output(&self, _key: &[u8], out: &mut Vec<u8>) -> Result<(), EncodeError> {
        self.encode_value(out)
    }
}

/// Names the types without holding them, so that a definition is `Sync` whatever they are.
type Types<K, V, S> = PhantomData<fn() -> (K, V, S)>;

/// A table's definition: state `S` by key `K`, seen as `V`.
///
/// ```
/// use gretchen::table::Table;
///
/// static VISITS: Table<String, i64> = Table::new("visits").output("visits").help("pages seen by each visitor");
/// assert_eq!(VISITS.name(), "visits");
/// ```
pub struct Table<K, V, S = V> {
    name: &'static str,
    output: Option<&'static str>,
    help: &'static str,
    types: Types<K, V, S>,
}

impl<K, V, S> Table<K, V, S> {
    /// A table of that name, which is part of the stored format and unique within an app.
    pub const fn new(name: &'static str) -> Self {
        Self { name, output: None, help: "", types: PhantomData }
    }

    /// Puts the last value of every changed key out to a topic at each commit; a removed key as a tombstone.
    #[must_use]
    pub const fn output(mut self, topic: &'static str) -> Self {
        self.output = Some(topic);
        self
    }

    /// Says what the table holds, for the command line.
    #[must_use]
    pub const fn help(mut self, text: &'static str) -> Self {
        self.help = text;
        self
    }

    /// The table's name.
    pub const fn name(&self) -> &'static str {
        self.name
    }

    /// The topic that changed values are put out to, if any.
    pub const fn output_topic(&self) -> Option<&'static str> {
        self.output
    }
}

impl<K: Key, V: Value, S: TableState<K, V>> Table<K, V, S> {
    /// The definition without its types, for whoever opens and lists tables.
    pub fn def(&'static self) -> TableDef {
        TableDef::new::<K, V, S>(self.name, self.output, self.help)
    }
}

impl<K, V, S> fmt::Debug for Table<K, V, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Table").field("name", &self.name).field("output", &self.output).finish_non_exhaustive()
    }
}

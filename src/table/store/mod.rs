//! What lies behind a partition's cache: an ordered map that lags behind the changelog and says by how much.

#[cfg(feature = "rocksdb")]
mod blocks;
#[cfg(feature = "rocksdb")]
mod manifest;
mod memory;
#[cfg(feature = "rocksdb")]
pub(super) mod rocks;

use std::fmt;
use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use self::memory::MemoryStore;
pub use self::memory::MemoryStores;
use super::checkpoint::Sorted;
use super::def::{OpenPartition, TableDef};
use crate::disk::Disk;
use crate::error::{Error, ErrorKind, Result};
use crate::record::{RecordSchema, StoredSchemas};
use crate::topic::TopicPartition;

/// The format of the store's own keys and values; part of what is stored.
const FORMAT: u32 = 1;

/// Memory of all stores on disk together, where nothing else is set.
pub const DEFAULT_STORE_BYTES: usize = 320 << 20;

/// Files that each store on disk has open, where nothing else is set.
pub const DEFAULT_STORE_FILES: u32 = 64;

/// First byte of the store's keys about itself; they sort before all others.
#[cfg(feature = "rocksdb")]
const META: u8 = 0;

/// First byte of a table's keys.
const DATA: u8 = 1;

/// A key as a store orders it: [`DATA`], then the raw key, with its first bit flipped if that is a sign.
pub(super) type StoreKey = Vec<u8>;

/// The store's form of a raw key.
pub(super) fn store_key(raw: &[u8], signed: bool) -> StoreKey {
    let mut key = Vec::with_capacity(raw.len() + 1);
    key.push(DATA);
    key.extend_from_slice(raw);
    flip_sign(&mut key[1..], signed);
    key
}

/// The raw key of a store's.
pub(super) fn raw_key(mut key: StoreKey, signed: bool) -> Vec<u8> {
    key.remove(0);
    flip_sign(&mut key, signed);
    key
}

fn flip_sign(key: &mut [u8], signed: bool) {
    if let Some(first) = key.first_mut().filter(|_| signed) {
        *first ^= 0x80;
    }
}

/// One partition's states, as of a changelog position.
pub(super) trait Store: Send + Sync + fmt::Debug {
    /// Whether there may be any key at all: a new table is never asked.
    fn holds_keys(&self) -> bool;

    /// The stored states of sorted keys, in their order.
    fn multi_get(&self, keys: &[StoreKey]) -> Result<Vec<Option<Vec<u8>>>>;

    /// The first `limit` keys between two bounds, in order.
    fn scan(&self, from: Bound<&[u8]>, to: Bound<&[u8]>, limit: usize) -> Result<Vec<(StoreKey, Vec<u8>)>>;

    /// The changelog position that the states stand for.
    fn position(&self) -> Result<Option<u64>>;

    /// The id of the changelog that the states came from, if it had one when they were written last.
    fn changelog(&self) -> Result<Option<Arc<str>>>;

    /// Writes sorted deltas and the position that they lead to, all or nothing, durably. Without a position it has none
    /// any more, and what it holds is of no use to whoever opens it next.
    fn write(&self, deltas: &Sorted, position: Option<u64>) -> Result<()>;
}

/// What a store says of itself, beside its position.
#[derive(Clone, Debug)]
pub(super) struct Identity {
    pub(super) format: u32,
    /// Of records the schemas that they may have been written with, the newest first.
    pub(super) layout: String,
    /// The partition, of how many; whoever only reads does not know.
    pub(super) numbers: Option<(u32, u32)>,
    /// Where records are stored: how they are read, and what is known of their schemas.
    pub(super) evolves: Option<(&'static RecordSchema, StoredSchemas)>,
    /// The id of the changelog, where it has one.
    pub(super) changelog: Option<Arc<str>>,
}

impl Identity {
    /// Of a table of numbers that has one partition.
    #[cfg(test)]
    fn of_numbers() -> Self {
        Self { format: FORMAT, layout: "i64".to_owned(), numbers: Some((0, 1)), evolves: None, changelog: None }
    }

    fn of(def: &TableDef, numbers: Option<(u32, u32)>, schemas: &StoredSchemas, changelog: Option<&Arc<str>>) -> Self {
        let evolves = def.stored_schema().map(|own| (own, schemas.clone()));
        Self { format: FORMAT, layout: def.layout(), numbers, evolves, changelog: changelog.cloned() }
    }

    /// Whether a store is a copy of another changelog than this. One that does not say of which is taken for this one's.
    fn is_foreign(&self, stored: Option<&Arc<str>>) -> bool {
        matches!((&self.changelog, stored), (Some(own), Some(stored)) if own != stored)
    }

    /// Refuses a store that holds what this build cannot read, and takes over the schemas of what it can.
    fn admit(&mut self, stored: &Self, table: &str, place: Option<&TopicPartition>, at: &str) -> Result<()> {
        if self.is_foreign(stored.changelog.as_ref()) {
            // It will not be used, whatever it holds.
            return Ok(());
        }
        let why = if stored.format != self.format {
            format!("has format {}, this build reads {}; use the release that wrote it", stored.format, self.format)
        } else if let Some(why) = self.take_over(&stored.layout).map_err(|error| placed(error, place))? {
            why
        } else if stored.layout != self.layout && self.evolves.is_none() {
            format!(
                "holds {}, this build keeps {}; go back to the definition that wrote it, or run `reset` to drop the \
                 state and compute it again",
                stored.layout, self.layout
            )
        } else if let (Some((partition, partitions)), Some((own, of))) = (stored.numbers, self.numbers)
            && (partition, partitions) != (own, of)
        {
            format!(
                "is partition {partition} of {partitions}, wanted is {own} of {of}; go back to the old number of \
                 partitions, or run `reset` to drop the state and compute it again"
            )
        } else {
            return Ok(());
        };
        let message = format!("table {table} cannot be opened: what is stored in {at} {why}");
        Err(placed(Error::new(ErrorKind::State, message), place))
    }
}

impl Identity {
    /// Old values stay as they are until they are written again, and so does the name of their schema.
    /// Returns why the store cannot be read, if so.
    fn take_over(&mut self, stored: &str) -> Result<Option<String>> {
        let Some((own, schemas)) = self.evolves.as_ref() else { return Ok(None) };
        let mut layout = self.layout.clone();
        for older in stored.split(' ').filter(|older| **older != self.layout) {
            let fingerprint = older.rsplit_once('@').and_then(|(_, hex)| u64::from_str_radix(hex, 16).ok());
            let Some(fingerprint) = fingerprint else {
                return Ok(Some(format!(
                    "holds {older}, this build keeps {}; go back to the definition that wrote it, or run `reset` to \
                     drop the state and compute it again",
                    self.layout
                )));
            };
            if let Err(why) = schemas.check(own, fingerprint) {
                // The store may be right.
                let Some(kind) = why.lookup_failed() else { return Ok(Some(format!("was {}", why.reason))) };
                let message =
                    format!("schema {fingerprint:016x}, which values of a store were written with, is not known");
                return Err(Error::new(kind, message).with_source(why));
            }
            layout.push(' ');
            layout.push_str(older);
        }
        self.layout = layout;
        Ok(None)
    }
}

/// Adds the place, where it is known.
fn placed(error: Error, place: Option<&TopicPartition>) -> Error {
    match place {
        Some(place) => error.at(place),
        None => error,
    }
}

/// Opens the store of one partition: a RocksDB folder, or memory. One without a position is empty.
pub(super) fn open(def: &TableDef, open: &OpenPartition) -> Result<Arc<dyn Store>> {
    let numbers = Some((open.partition, open.partitions));
    let identity = Identity::of(def, numbers, &open.schemas, open.changelog_id.as_ref());
    #[cfg(feature = "rocksdb")]
    if let Some(dir) = open.dir.as_ref().filter(|_| open.disk.is_system()) {
        let limits = (open.store_bytes, open.store_files);
        return Ok(Arc::new(rocks::RocksStore::open(dir, identity, def.name, &open.place, limits)?));
    }
    if let Some(dir) = open.dir.as_ref().filter(|_| !open.disk.is_system()) {
        return Ok(Arc::new(MemoryStore::kept_in(&open.disk, dir, identity, def.name, &open.place)?));
    }
    let stores = open.memory.clone().unwrap_or_default();
    let store = stores.open(identity, def.name, &open.place)?;
    Ok(store)
}

/// Opens what a folder holds for reading while its owner may be writing; a folder that does not exist is empty, and so is
/// one of another changelog than that of the id.
pub(super) fn open_for_reading(
    def: &TableDef,
    dir: &Path,
    schemas: &StoredSchemas,
    changelog_id: Option<&Arc<str>>,
) -> Result<Arc<dyn Store>> {
    #[cfg(feature = "rocksdb")]
    // RocksDB writes this file last of all when it makes a folder its own.
    if dir.join("CURRENT").exists() {
        let identity = Identity::of(def, None, schemas, changelog_id);
        let store = rocks::RocksStore::open_secondary(dir, identity.clone(), def.name)?;
        if !identity.is_foreign(store.changelog()?.as_ref()) {
            return Ok(Arc::new(store));
        }
    }
    #[cfg(not(feature = "rocksdb"))]
    let _ = (def, dir, schemas, changelog_id);
    Ok(Arc::new(MemoryStore::default()))
}

/// Removes what a table keeps for a partition of its changelog, which nobody may have open: its folder, or what is in memory.
pub fn drop_store(
    disk: &Disk,
    dir: Option<&Path>,
    memory: Option<&MemoryStores>,
    place: &TopicPartition,
) -> Result<()> {
    if let Some(memory) = memory {
        memory.forget(place);
    }
    let Some(dir) = dir else { return Ok(()) };
    drop_folder(disk, dir).map_err(|error| Error::io(format!("cannot remove {}", dir.display()), error).at(place))
}

fn drop_folder(disk: &Disk, dir: &Path) -> std::io::Result<()> {
    // A half of it would be a damaged store to whoever opens it next.
    remove_dropped(disk, dir)?;
    let aside = dropped(dir);
    disk.rename(dir, &aside)?;
    disk.remove_folder(&aside)
}

/// Removes what a crash has left of a store that was being removed.
fn remove_dropped(disk: &Disk, dir: &Path) -> std::io::Result<()> {
    let aside = dropped(dir);
    if disk.is_folder(&aside) { disk.remove_folder(&aside) } else { Ok(()) }
}

fn dropped(dir: &Path) -> PathBuf {
    dir.with_extension("dropped")
}

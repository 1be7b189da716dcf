//! A table as another process reads it: its RocksDB as it is, and the changelog's tail laid over it.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::sync::Arc;

use super::def::TableDef;
use super::merge::Merge;
use super::store::{self, Store, StoreKey, raw_key, store_key};
use crate::error::Result;
use crate::record::StoredSchemas;

/// One partition of a table as of its last checkpoint, brought up to date by whoever reads the changelog's tail.
///
/// The owner of the partition is not asked and not disturbed.
#[derive(Debug)]
pub struct TableSnapshot {
    store: Arc<dyn Store>,
    signed: bool,
    newer: BTreeMap<StoreKey, Option<Vec<u8>>>,
}

impl TableSnapshot {
    /// Opens what is stored in `dir`; a folder that does not exist, or has no checkpoint yet, is an empty table.
    pub fn open(def: &TableDef, dir: &Path, schemas: &StoredSchemas) -> Result<Self> {
        Self::open_of(None, def, dir, schemas)
    }

    /// The same for a table whose changelog has this id: what is stored of another changelog does not count.
    pub fn open_of(
        changelog_id: Option<&Arc<str>>,
        def: &TableDef,
        dir: &Path,
        schemas: &StoredSchemas,
    ) -> Result<Self> {
        let store = store::open_for_reading(def, dir, schemas, changelog_id)?;
        Ok(Self { store, signed: def.signed, newer: BTreeMap::new() })
    }

    /// The changelog position that the store covers: deltas from there on have to be applied. `None` is all of them.
    pub fn position(&self) -> Result<Option<u64>> {
        self.store.position()
    }

    /// Lays a committed delta over the store.
    pub fn apply(&mut self, key: &[u8], stored: Option<&[u8]>) {
        self.newer.insert(store_key(key, self.signed), stored.map(<[u8]>::to_vec));
    }

    /// The stored state of a raw key; [`TableDef::value_wire`] makes a value of it.
    pub fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>> {
        let key = store_key(key, self.signed);
        match self.newer.get(&key) {
            Some(stored) => Ok(stored.clone()),
            None => Ok(self.store.multi_get(&[key])?.pop().flatten()),
        }
    }

    /// All raw keys with their stored states, in the order of the keys.
    pub fn iter(&self) -> SnapshotRange {
        let all = (std::ops::Bound::Unbounded, std::ops::Bound::Unbounded);
        let newer = self.newer.iter().map(|(key, stored)| (key.clone(), stored.clone()));
        let merge = Merge::new(Arc::clone(&self.store), all, newer, |stored| Ok(stored.to_vec()));
        SnapshotRange { merge, signed: self.signed }
    }
}

/// Raw keys with their stored states, in the order of the keys. A read that fails ends it.
pub struct SnapshotRange {
    merge: Merge<Vec<u8>>,
    signed: bool,
}

impl Iterator for SnapshotRange {
    type Item = Result<(Vec<u8>, Vec<u8>)>;

    fn next(&mut self) -> Option<Self::Item> {
        Some(self.merge.next()?.map(|(key, stored)| (raw_key(key, self.signed), stored)))
    }
}

impl fmt::Debug for SnapshotRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SnapshotRange").field(&self.merge).finish()
    }
}

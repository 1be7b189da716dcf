//! Stores in memory, for tests and for tables that are rebuilt at every start.
//!
//! On a simulated disk, of which RocksDB knows nothing, such a store also keeps a file that every checkpoint replaces as a
//! whole: like a RocksDB without a write-ahead log that is flushed with every checkpoint, it opens as of one of them.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};

use super::{Identity, Store, StoreKey, placed};
use crate::disk::Disk;
use crate::error::{Error, ErrorKind, Result};
use crate::table::checkpoint::Sorted;
use crate::topic::TopicPartition;

/// Stores in memory by the changelog partition that they belong to. A clone shares them, so that they outlive the
/// tasks of a simulated crash as a folder would.
#[derive(Clone, Debug, Default)]
pub struct MemoryStores(Arc<Mutex<BTreeMap<TopicPartition, Arc<MemoryStore>>>>);

impl MemoryStores {
    /// No store yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Forgets the store of a changelog partition.
    pub(super) fn forget(&self, place: &TopicPartition) {
        lock(&self.0).remove(place);
    }

    pub(super) fn open(&self, mut identity: Identity, table: &str, place: &TopicPartition) -> Result<Arc<MemoryStore>> {
        let store = Arc::clone(lock(&self.0).entry(place.clone()).or_default());
        {
            let mut map = lock(&store.map);
            // As in a folder, nothing is said before the first checkpoint.
            if let (Some(stored), Some(_)) = (&map.identity, map.position) {
                let stored = Identity { changelog: map.changelog.clone(), ..stored.clone() };
                identity.admit(&stored, table, Some(place), "memory")?;
                if identity.is_foreign(stored.changelog.as_ref()) {
                    // Whoever opens it sees by its changelog that it is another's.
                    drop(map);
                    return Ok(store);
                }
            }
            if map.position.is_none() {
                map.states.clear();
            }
            map.identity = Some(identity);
        }
        Ok(store)
    }
}

#[derive(Debug, Default)]
pub(super) struct MemoryStore {
    map: Mutex<Map>,
    file: Option<StoreFile>,
}

/// Where a store is kept.
#[derive(Debug)]
struct StoreFile {
    disk: Disk,
    path: PathBuf,
    place: TopicPartition,
}

/// What the file holds.
#[derive(Debug, Serialize, Deserialize)]
struct Stored {
    format: u32,
    layout: String,
    numbers: Option<(u32, u32)>,
    position: Option<u64>,
    states: Vec<(Vec<u8>, Vec<u8>)>,
}

#[derive(Debug, Default)]
struct Map {
    identity: Option<Identity>,
    /// Of which changelog the states are, as of the last write.
    changelog: Option<Arc<str>>,
    /// A write failed: what the file holds is unknown until it is opened again.
    poisoned: bool,
    states: BTreeMap<StoreKey, Vec<u8>>,
    position: Option<u64>,
}

/// A panic elsewhere cannot leave a map half written: every change is made under the lock by code that does not panic.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl MemoryStore {
    /// Opens the store that is kept in a folder.
    pub(super) fn kept_in(
        disk: &Disk,
        dir: &Path,
        mut identity: Identity,
        table: &str,
        place: &TopicPartition,
    ) -> Result<Self> {
        let file = StoreFile { disk: disk.clone(), path: dir.join("store.json"), place: place.clone() };
        disk.create_folder(dir).map_err(|error| file.failed("create", error))?;
        let mut map = Map::default();
        if let Some(stored) = file.read()? {
            let Stored { format, layout, numbers, position, states } = stored;
            let stored = Identity { format, layout, numbers, evolves: None, changelog: None };
            if position.is_some() {
                identity.admit(&stored, table, Some(place), &file.path.display().to_string())?;
                (map.position, map.states) = (position, states.into_iter().collect());
            }
        }
        map.identity = Some(identity);
        Ok(Self { map: Mutex::new(map), file: Some(file) })
    }
}

impl StoreFile {
    fn failed(&self, doing: &str, error: std::io::Error) -> Error {
        Error::io(format!("cannot {doing} {}", self.path.display()), error).at(&self.place)
    }

    fn read(&self) -> Result<Option<Stored>> {
        let bytes = match self.disk.read(&self.path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(self.failed("read", error)),
        };
        let damaged = |error| {
            Error::new(ErrorKind::Corrupt, format!("{} is damaged", self.path.display()))
                .with_source(error)
                .at(&self.place)
        };
        serde_json::from_slice(&bytes).map(Some).map_err(damaged)
    }

    fn write(&self, map: &Map) -> Result<()> {
        let Some(identity) = &map.identity else { return Ok(()) };
        let stored = Stored {
            format: identity.format,
            layout: identity.layout.clone(),
            numbers: identity.numbers,
            position: map.position,
            states: map.states.iter().map(|(key, state)| (key.clone(), state.clone())).collect(),
        };
        let json = serde_json::to_vec(&stored).map_err(|error| {
            Error::new(ErrorKind::Encode, format!("cannot write {}", self.path.display())).with_source(error)
        })?;
        let draft = self.path.with_extension("draft");
        self.disk.replace(&self.path, &draft, &json).map_err(|error| self.failed("write", error))
    }
}

impl Store for MemoryStore {
    fn holds_keys(&self) -> bool {
        !lock(&self.map).states.is_empty()
    }

    fn multi_get(&self, keys: &[StoreKey]) -> Result<Vec<Option<Vec<u8>>>> {
        let map = lock(&self.map);
        Ok(keys.iter().map(|key| map.states.get(key).cloned()).collect())
    }

    fn scan(&self, from: Bound<&[u8]>, to: Bound<&[u8]>, limit: usize) -> Result<Vec<(StoreKey, Vec<u8>)>> {
        let map = lock(&self.map);
        let range = map.states.range::<[u8], _>((from, to)).take(limit);
        Ok(range.map(|(key, state)| (key.clone(), state.clone())).collect())
    }

    fn position(&self) -> Result<Option<u64>> {
        Ok(lock(&self.map).position)
    }

    fn changelog(&self) -> Result<Option<Arc<str>>> {
        Ok(lock(&self.map).changelog.clone())
    }

    fn write(&self, deltas: &Sorted, position: Option<u64>) -> Result<()> {
        let mut map = lock(&self.map);
        if map.poisoned {
            let message = "the store takes no more writes after one failed; open it again";
            return Err(placed(Error::new(ErrorKind::Poisoned, message), self.file.as_ref().map(|file| &file.place)));
        }
        for (key, state) in deltas.iter() {
            match state {
                Some(state) => map.states.insert(key.to_vec(), state.to_vec()),
                None => map.states.remove(key),
            };
        }
        map.position = position;
        map.changelog = map.identity.as_ref().and_then(|identity| identity.changelog.clone());
        match &self.file {
            Some(file) => file.write(&map).inspect_err(|_| map.poisoned = true),
            None => Ok(()),
        }
    }
}

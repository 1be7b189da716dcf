//! Stores in memory, for tests and for tables that are rebuilt at every start.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{Identity, Store, StoreKey};
use crate::error::Result;
use crate::table::checkpoint::Deltas;
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

    pub(super) fn open(&self, mut identity: Identity, table: &str, place: &TopicPartition) -> Result<Arc<MemoryStore>> {
        let store = Arc::clone(lock(&self.0).entry(place.clone()).or_default());
        {
            let mut map = lock(&store.0);
            // As in a folder, nothing is said before the first checkpoint.
            if let (Some(stored), Some(_)) = (&map.identity, map.position) {
                identity.admit(stored, table, Some(place), "memory")?;
            }
            map.identity = Some(identity);
        }
        Ok(store)
    }
}

#[derive(Debug, Default)]
pub(super) struct MemoryStore(Mutex<Map>);

#[derive(Debug, Default)]
struct Map {
    identity: Option<Identity>,
    states: BTreeMap<StoreKey, Vec<u8>>,
    position: Option<u64>,
}

/// A panic elsewhere cannot leave a map half written: every change is made under the lock by code that does not panic.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Store for MemoryStore {
    fn holds_keys(&self) -> bool {
        !lock(&self.0).states.is_empty()
    }

    fn multi_get(&self, keys: &[StoreKey]) -> Result<Vec<Option<Vec<u8>>>> {
        let map = lock(&self.0);
        Ok(keys.iter().map(|key| map.states.get(key).cloned()).collect())
    }

    fn scan(&self, from: Bound<&[u8]>, to: Bound<&[u8]>, limit: usize) -> Result<Vec<(StoreKey, Vec<u8>)>> {
        let map = lock(&self.0);
        let range = map.states.range::<[u8], _>((from, to)).take(limit);
        Ok(range.map(|(key, state)| (key.clone(), state.clone())).collect())
    }

    fn position(&self) -> Result<Option<u64>> {
        Ok(lock(&self.0).position)
    }

    fn write(&self, deltas: &Deltas, position: u64) -> Result<()> {
        let mut map = lock(&self.0);
        for (key, state) in deltas.iter() {
            match state {
                Some(state) => map.states.insert(key.to_vec(), state.to_vec()),
                None => map.states.remove(key),
            };
        }
        map.position = Some(position);
        Ok(())
    }
}

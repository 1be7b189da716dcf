//! What the stores of a process have read and keep, all together: blocks of states, indexes and filters.

use std::sync::OnceLock;

use rocksdb::Cache;

use super::DEFAULT_STORE_BYTES;

/// Those of this process.
pub(super) static SHARED: Blocks = Blocks::new();

/// A cache of which the first worker decides how large it is. Who only reads takes it as it is.
pub(super) struct Blocks {
    cache: OnceLock<Cache>,
    decided: OnceLock<()>,
}

impl Blocks {
    const fn new() -> Self {
        Self { cache: OnceLock::new(), decided: OnceLock::new() }
    }

    /// For a worker.
    pub(super) fn within(&self, bytes: usize) -> Cache {
        let mut cache = self.cache.get_or_init(|| Cache::new_lru_cache(bytes)).clone();
        if self.decided.set(()).is_ok() {
            // A reader may have made it.
            cache.set_capacity(bytes);
        }
        cache
    }

    /// For a reader.
    pub(super) fn as_they_are(&self) -> Cache {
        self.cache.get_or_init(|| Cache::new_lru_cache(DEFAULT_STORE_BYTES)).clone()
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::table::checkpoint::Deltas;
    use crate::table::store::rocks::RocksStore;
    use crate::table::store::{DATA, DEFAULT_STORE_FILES, Identity, Store, StoreKey};
    use crate::topic::TopicPartition;

    fn open(cache: &Cache, folder: &Path) -> RocksStore {
        RocksStore::open_with(
            (cache, DEFAULT_STORE_FILES),
            folder,
            Identity::of_numbers(),
            "totals",
            &TopicPartition::new("changelog", 0),
        )
        .unwrap()
    }

    fn key(number: u32) -> StoreKey {
        [&[DATA][..], &number.to_be_bytes()].concat()
    }

    /// A store of so many states of a kilobyte that do not compress.
    fn filled(folder: &Path, states: u32) {
        let store = open(&Cache::new_lru_cache(1 << 20), folder);
        let (mut deltas, mut word) = (Deltas::default(), 88_172_645_463_325_252_u64);
        for number in 0..states {
            let mut state = Vec::with_capacity(1_000);
            while state.len() < 1_000 {
                word ^= word << 13;
                word ^= word >> 7;
                word ^= word << 17;
                state.extend_from_slice(&word.to_le_bytes());
            }
            deltas.push(&key(number), Some(&state));
        }
        store.write(&deltas.sorted(), Some(1)).unwrap();
    }

    /// Reads every state, a few at once; `each` is called in between.
    fn read_all(store: &RocksStore, states: u32, mut each: impl FnMut()) {
        for first in (0..states).step_by(8) {
            let keys: Vec<StoreKey> = (first..states.min(first + 8)).map(key).collect();
            let found = store.multi_get(&keys).unwrap();
            assert!(found.iter().all(|state| state.as_ref().is_some_and(|state| state.len() == 1_000)));
            each();
        }
    }

    /// What is read stays as long as it takes no more than the limit to the byte; beyond that a block goes for another.
    #[test]
    fn blocks_stay_as_long_as_they_fit() {
        let (folder, states) = (tempfile::tempdir().unwrap(), 300);
        filled(folder.path(), states);
        let kept_within = |bytes: usize| {
            let cache = Cache::new_lru_cache(bytes);
            let store = open(&cache, folder.path());
            let mut kept = [0; 2];
            for kept in &mut kept {
                read_all(&store, states, || assert!(cache.get_usage() <= bytes, "{} of {bytes}", cache.get_usage()));
                *kept = cache.get_usage();
            }
            kept
        };
        // Below a mebibyte a cache is of one piece.
        let [all, again] = kept_within((1 << 20) - 1);
        assert!(again == all && all > 300_000 && all < 400_000, "{all} {again}");
        assert_eq!(kept_within(all + 1), [all, all]);
        assert_eq!(kept_within(all), [all, all]);
        for kept in kept_within(all - 1) {
            // Blocks have 16 KiB; a larger one went.
            assert!(kept < all && kept > all - (20 << 10), "{kept} of {all}");
        }
    }

    /// The least that `store_memory_mb` can be, for two stores that have three times as much.
    #[test]
    fn several_stores_together_keep_no_more_than_the_limit() {
        let folder = tempfile::tempdir().unwrap();
        let (folders, states, bytes) = (["one", "two"].map(|name| folder.path().join(name)), 12_000, 8 << 20);
        folders.iter().for_each(|folder| filled(folder, states));
        let cache = Blocks::new().within(bytes);
        let stores = folders.each_ref().map(|folder| open(&cache, folder));
        let mut most = 0;
        for store in stores.iter().chain(&stores) {
            read_all(store, states, || {
                most = most.max(cache.get_usage());
                assert!(cache.get_usage() <= bytes, "{} of {bytes}", cache.get_usage());
            });
        }
        assert!(most > bytes / 10 * 9, "{most} of {bytes}");
    }

    #[test]
    fn the_first_worker_decides_how_much_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let capacity = |cache: Cache| open(&cache, folder.path()).cache_bytes();
        let blocks = Blocks::new();
        assert_eq!(capacity(blocks.as_they_are()), DEFAULT_STORE_BYTES as u64);
        assert_eq!(capacity(blocks.within(9 << 20)), 9 << 20);
        assert_eq!(capacity(blocks.within(10 << 20)), 9 << 20);
        assert_eq!(capacity(blocks.as_they_are()), 9 << 20);
        let blocks = Blocks::new();
        assert_eq!(capacity(blocks.within(10 << 20)), 10 << 20);
        assert_eq!(capacity(blocks.within(9 << 20)), 10 << 20);
    }
}

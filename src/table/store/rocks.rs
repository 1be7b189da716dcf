//! Stores on disk: one RocksDB a partition, a lagging copy that carries its own changelog position.
//!
//! There is no write-ahead log, and nothing is ever in a memtable: a checkpoint is sorted as it comes, and becomes a file
//! of sorted keys with the position in it that the database takes in as it is. What a crash leaves is always a whole
//! checkpoint, and neither a batch nor a memtable holds it a second time.

use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use rocksdb::{
    BlockBasedIndexType, BlockBasedOptions, Cache, ColumnFamilyDescriptor, DB, DBCompressionType, Direction,
    IngestExternalFileOptions, IteratorMode, LogLevel, Options, SstFileWriter, WaitForCompactOptions, properties,
};

use super::{DATA, Identity, META, Store, StoreKey, blocks, drop_folder, manifest, placed, remove_dropped};
use crate::disk::Disk;
use crate::error::{Error, ErrorKind, Result};
use crate::table::checkpoint::Sorted;
use crate::topic::TopicPartition;

const BLOCK_BYTES: usize = 16 << 10;
/// RocksDB keeps so many of the files that it may have open for others than tables'.
const OTHER_FILES: u32 = 10;
const MANIFEST_STEP_BYTES: usize = 64 << 10;
const INFO_LOG_BYTES: usize = 1 << 20;

/// Where a checkpoint stands until the database takes it in. RocksDB leaves files alone whose names are not its own.
const DRAFT: &str = "checkpoint.sst";
const FAILED: &str = "checkpoint.failed";

/// As many checkpoints may wait to be merged; a reader looks into each of them.
const MOST_UNMERGED: u64 = 20;

/// Named at opening: reads of many keys at once want its handle.
const FAMILY: &str = rocksdb::DEFAULT_COLUMN_FAMILY_NAME;

const POSITION: &[u8] = &[META, b'p'];
const FORMAT: &[u8] = &[META, b'f'];
const CHANGELOG: &[u8] = &[META, b'i'];
const LAYOUT: &[u8] = &[META, b'l'];
const PARTITION: &[u8] = &[META, b'n'];
const PARTITIONS: &[u8] = &[META, b'c'];

/// `files`: how many tables may be open at once, all of them without a number.
fn options(cache: &Cache, files: Option<u32>) -> Options {
    let mut blocks = BlockBasedOptions::default();
    blocks.set_block_cache(cache);
    blocks.set_block_size(BLOCK_BYTES);
    blocks.set_bloom_filter(10.0, false);
    // The file of a large checkpoint would have one filter of megabytes, more than a shard of the cache holds: every look
    // for a key would read all of it from the disk and check it.
    blocks.set_index_type(BlockBasedIndexType::TwoLevelIndexSearch);
    blocks.set_partition_filters(true);
    blocks.set_cache_index_and_filter_blocks(true);
    let mut options = Options::default();
    options.create_if_missing(true);
    options.set_block_based_table_factory(&blocks);
    options.set_compression_type(DBCompressionType::Lz4);
    options.set_max_background_jobs(2);
    options
        .set_max_open_files(files.map_or(-1, |files| files.saturating_add(OTHER_FILES).try_into().unwrap_or(i32::MAX)));
    // In several shards each would have a part of the number, and one that is full closes files while others have room.
    options.set_table_cache_num_shard_bits(0);
    // The default takes 4 MiB of the disk for each partition of each table.
    options.set_manifest_preallocation_size(MANIFEST_STEP_BYTES);
    options.set_paranoid_checks(true);
    options.set_log_level(LogLevel::Warn);
    options.set_keep_log_file_num(1);
    options.set_max_log_file_size(INFO_LOG_BYTES);
    // Nobody reads them, and a thousand idle partitions would be busy with them.
    options.set_stats_dump_period_sec(0);
    options.set_stats_persist_period_sec(0);
    options
}

/// One RocksDB folder.
pub(in crate::table) struct RocksStore {
    db: DB,
    dir: PathBuf,
    table: &'static str,
    place: Option<TopicPartition>,
    identity: Identity,
    /// As the database was opened with; its files are made alike.
    options: Options,
    holds_keys: AtomicBool,
    /// Set by a failed write: RocksDB takes no more before it is opened again, and may have part of it in memory.
    poisoned: AtomicBool,
    /// Where a secondary instance keeps its own files.
    _secondary: Option<SecondaryDir>,
}

impl std::fmt::Debug for RocksStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RocksStore").field("dir", &self.dir).finish_non_exhaustive()
    }
}

impl RocksStore {
    /// Opens the folder for its one writer.
    pub(in crate::table) fn open(
        dir: &Path,
        identity: Identity,
        table: &'static str,
        place: &TopicPartition,
        (store_bytes, files): (usize, u32),
    ) -> Result<Self> {
        Self::open_with((&blocks::SHARED.within(store_bytes), files), dir, identity, table, place)
    }

    /// The same with a cache for what it reads.
    pub(super) fn open_with(
        (cache, files): (&Cache, u32),
        dir: &Path,
        identity: Identity,
        table: &'static str,
        place: &TopicPartition,
    ) -> Result<Self> {
        std::fs::create_dir_all(dir).map_err(|error| Error::io(format!("cannot create {}", dir.display()), error))?;
        // Where it stays it takes room, and the next to empty the folder removes it or fails.
        let _ = remove_dropped(&Disk::system(), dir);
        let options = options(cache, Some(files));
        // A family has options of its own: by its name alone it would get RocksDB's defaults, and a cache to itself.
        let open = || DB::open_cf_with_opts(&options, dir, [(FAMILY, options.clone())]);
        // Where the list of files cannot be synced, RocksDB deletes the file that was to be taken in, and the list may have it
        // all the same.
        let is_half_way = dir.join(DRAFT).exists();
        match manifest::damage(dir) {
            Some(why) if is_half_way => empty(dir, table, &half_way(&why))?,
            Some(why) => return Err(damaged(dir, table, Some(place), &why)),
            None => {}
        }
        let db = match open() {
            Err(error) if error.kind() == rocksdb::ErrorKind::Corruption && is_half_way => {
                empty(dir, table, &half_way(&error))?;
                open()
            }
            opened => opened,
        };
        let db = db.map_err(|error| failed("opened", dir, table, Some(place), error))?;
        remove_draft(dir);
        let checked = |db| Self::checked(db, options.clone(), None, dir, identity.clone(), table, Some(place));
        let store = checked(db)?;
        // Whoever has opened it must see that it is another changelog's.
        let is_foreign = store.identity.is_foreign(store.changelog()?.as_ref());
        if store.position()?.is_some() || !store.holds_keys() || is_foreign {
            return Ok(store);
        }
        drop(store);
        empty(dir, table, &"it was left before it had come to the end of a commit")?;
        checked(open().map_err(|error| failed("opened", dir, table, Some(place), error))?)
    }

    /// Opens a folder that another process may be writing, as it is now, for reading.
    pub(in crate::table) fn open_secondary(dir: &Path, identity: Identity, table: &'static str) -> Result<Self> {
        if let Some(why) = manifest::damage(dir) {
            return Err(damaged(dir, table, None, &why));
        }
        let secondary = SecondaryDir::create()?;
        // The writer may delete a file at any time; all are kept open from the start.
        let mut options = options(&blocks::SHARED.as_they_are(), None);
        options.create_if_missing(false);
        let family = ColumnFamilyDescriptor::new(FAMILY, options.clone());
        let db = DB::open_cf_descriptors_as_secondary(&options, dir, secondary.0.as_path(), [family])
            .and_then(|db| db.try_catch_up_with_primary().map(|()| db))
            .map_err(|error| failed("opened for reading", dir, table, None, error))?;
        Self::checked(db, options, Some(secondary), dir, identity, table, None)
    }

    fn checked(
        db: DB,
        options: Options,
        secondary: Option<SecondaryDir>,
        dir: &Path,
        identity: Identity,
        table: &'static str,
        place: Option<&TopicPartition>,
    ) -> Result<Self> {
        let mut store = Self {
            db,
            dir: dir.to_owned(),
            table,
            place: place.cloned(),
            identity,
            options,
            holds_keys: AtomicBool::new(true),
            poisoned: AtomicBool::new(false),
            _secondary: secondary,
        };
        if store.position()?.is_some() {
            let stored = store.stored_identity()?;
            store.identity.admit(&stored, table, place, &dir.display().to_string())?;
        }
        let holds_keys = !store.scan(Bound::Unbounded, Bound::Unbounded, 1)?.is_empty();
        store.holds_keys.store(holds_keys, Ordering::Relaxed);
        Ok(store)
    }

    fn stored_identity(&self) -> Result<Identity> {
        Ok(Identity {
            format: self.number(FORMAT)?,
            layout: String::from_utf8_lossy(&self.meta(LAYOUT)?.unwrap_or_default()).into_owned(),
            numbers: Some((self.number(PARTITION)?, self.number(PARTITIONS)?)),
            evolves: None,
            changelog: self.changelog()?,
        })
    }

    fn meta(&self, key: &[u8]) -> Result<Option<Vec<u8>>> {
        self.db.get(key).map_err(|error| self.failed("read", error))
    }

    fn number(&self, key: &[u8]) -> Result<u32> {
        let bytes = self.meta(key)?.unwrap_or_default();
        match <[u8; 4]>::try_from(bytes.as_slice()) {
            Ok(bytes) => Ok(u32::from_le_bytes(bytes)),
            Err(_) => Err(self.damaged("what it says of itself is missing")),
        }
    }

    fn failed(&self, doing: &str, error: rocksdb::Error) -> Error {
        failed(doing, &self.dir, self.table, self.place.as_ref(), error)
    }

    fn damaged(&self, why: &str) -> Error {
        damaged(&self.dir, self.table, self.place.as_ref(), why)
    }

    fn check_poison(&self) -> Result<()> {
        if !self.poisoned.load(Ordering::Relaxed) {
            return Ok(());
        }
        let (table, dir) = (self.table, self.dir.display());
        let message = format!("table {table} takes no more writes to {dir} after one failed; open it again");
        Err(placed(Error::new(ErrorKind::Poisoned, message), self.place.as_ref()))
    }
}

fn damaged(dir: &Path, table: &str, place: Option<&TopicPartition>, why: &str) -> Error {
    let hint = "delete the folder to rebuild it from the changelog";
    let message = format!("the state of table {table} in {} is damaged: {why}; {hint}", dir.display());
    placed(Error::new(ErrorKind::Corrupt, message), place)
}

fn failed(doing: &str, dir: &Path, table: &str, place: Option<&TopicPartition>, error: rocksdb::Error) -> Error {
    let message = format!("the state of table {table} in {} cannot be {doing}", dir.display());
    let (kind, hint) = match error.kind() {
        rocksdb::ErrorKind::Corruption => (ErrorKind::Corrupt, "; delete the folder to rebuild it from the changelog"),
        _ if error.as_ref().contains("No space left on device") => (ErrorKind::Full, "; make room on that disk"),
        _ if error.as_ref().contains("/LOCK") => (ErrorKind::Conflict, "; another process has it open"),
        _ => (ErrorKind::State, ""),
    };
    placed(Error::new(kind, message + hint).with_source(error), place)
}

impl Store for RocksStore {
    fn holds_keys(&self) -> bool {
        self.holds_keys.load(Ordering::Relaxed)
    }

    fn multi_get(&self, keys: &[StoreKey]) -> Result<Vec<Option<Vec<u8>>>> {
        let Some(family) = self.db.cf_handle(FAMILY) else {
            // A secondary instance is opened without handles to its families.
            let found = self.db.multi_get(keys).into_iter();
            return found.map(|found| found.map_err(|error| self.failed("read", error))).collect();
        };
        self.db
            .batched_multi_get_cf(family, keys, true)
            .into_iter()
            .map(|found| Ok(found.map_err(|error| self.failed("read", error))?.map(|state| state.to_vec())))
            .collect()
    }

    fn scan(&self, from: Bound<&[u8]>, to: Bound<&[u8]>, limit: usize) -> Result<Vec<(StoreKey, Vec<u8>)>> {
        let start = match from {
            Bound::Included(key) | Bound::Excluded(key) => key,
            Bound::Unbounded => &[DATA],
        };
        let mut found = Vec::new();
        for entry in self.db.iterator(IteratorMode::From(start, Direction::Forward)) {
            let (key, state) = entry.map_err(|error| self.failed("read", error))?;
            let past = match to {
                Bound::Included(to) => &*key > to,
                Bound::Excluded(to) => &*key >= to,
                Bound::Unbounded => false,
            };
            if past || found.len() == limit {
                break;
            }
            if from != Bound::Excluded(&*key) {
                found.push((key.into_vec(), state.into_vec()));
            }
        }
        Ok(found)
    }

    fn position(&self) -> Result<Option<u64>> {
        let Some(bytes) = self.meta(POSITION)? else { return Ok(None) };
        match <[u8; 8]>::try_from(bytes.as_slice()) {
            Ok(bytes) => Ok(Some(u64::from_le_bytes(bytes))),
            Err(_) => Err(self.damaged("its changelog position is not eight bytes")),
        }
    }

    fn changelog(&self) -> Result<Option<Arc<str>>> {
        Ok(self.meta(CHANGELOG)?.map(|id| String::from_utf8_lossy(&id).into()))
    }

    fn write(&self, deltas: &Sorted, position: Option<u64>) -> Result<()> {
        self.check_poison()?;
        // From here on the task's misses have to ask; keys in flight are still in its memory.
        self.holds_keys.store(true, Ordering::Relaxed);
        let taken_in = || self.take_in(deltas, position).map_err(|error| self.failed("written", error));
        self.make_way().and_then(|()| taken_in()).inspect_err(|_| {
            self.poisoned.store(true, Ordering::Relaxed);
            mark_failed(&self.dir);
        })
    }
}

impl RocksStore {
    /// Removes a draft that is left. The database removes what it has taken in, and takes no failure of that for an error: then
    /// the file has both names, and who writes to the one destroys what the database has.
    fn make_way(&self) -> Result<()> {
        let draft = self.dir.join(DRAFT);
        match std::fs::remove_file(&draft) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                let message = format!("table {} cannot remove {}", self.table, draft.display());
                Err(placed(Error::new(ErrorKind::State, message).with_source(error), self.place.as_ref()))
            }
            _ => Ok(()),
        }
    }

    /// Writes a file of its own, durably, and lets the database have it: that is all or nothing.
    fn take_in(&self, deltas: &Sorted, position: Option<u64>) -> std::result::Result<(), rocksdb::Error> {
        let draft = self.dir.join(DRAFT);
        let mut file = SstFileWriter::create(&self.options);
        file.open(&draft)?;
        let numbers = self.identity.numbers.map(|(partition, of)| (partition.to_le_bytes(), of.to_le_bytes()));
        // In the order of these keys, which come before all data.
        if let Some((_, of)) = &numbers {
            file.put(PARTITIONS, of)?;
        }
        file.put(FORMAT, self.identity.format.to_le_bytes())?;
        if let Some(id) = &self.identity.changelog {
            file.put(CHANGELOG, id.as_bytes())?;
        }
        file.put(LAYOUT, &self.identity.layout)?;
        if let Some((partition, _)) = &numbers {
            file.put(PARTITION, partition)?;
        }
        match position {
            Some(position) => file.put(POSITION, position.to_le_bytes())?,
            None => file.delete(POSITION)?,
        }
        for (key, state) in deltas.iter() {
            match state {
                Some(state) => file.put(key, state)?,
                None => file.delete(key)?,
            }
        }
        file.finish()?;
        // Unlike a memtable's flush this does not wait of itself where merging lags behind.
        if self.unmerged()? >= MOST_UNMERGED {
            self.db.wait_for_compact(&WaitForCompactOptions::default())?;
        }
        let mut taken = IngestExternalFileOptions::default();
        taken.set_move_files(true);
        // Nobody holds a snapshot; readers of other processes see files, not sequences.
        taken.set_snapshot_consistency(false);
        self.db.ingest_external_file_opts(&taken, vec![draft])
    }

    /// Checkpoints that wait to be merged.
    fn unmerged(&self) -> std::result::Result<u64, rocksdb::Error> {
        Ok(self.db.property_int_value(properties::num_files_at_level(0))?.unwrap_or(0))
    }

    /// Bytes that all stores which share its cache may keep of what they have read.
    #[cfg(test)]
    pub(super) fn cache_bytes(&self) -> u64 {
        self.db.property_int_value(properties::BLOCK_CACHE_CAPACITY).unwrap().unwrap()
    }
}

fn half_way(why: &dyn std::fmt::Display) -> String {
    format!("a checkpoint has failed half-way: {why}")
}

/// Empties the folder of a store; the changelog has all that is lost.
fn empty(dir: &Path, table: &str, why: &dyn std::fmt::Display) -> Result<()> {
    tracing::warn!(table, folder = %dir.display(), %why, "the store is of no use and emptied; it is made of its changelog again");
    drop_folder(&Disk::system(), dir)
        .and_then(|()| std::fs::create_dir_all(dir))
        .map_err(|error| Error::io(format!("cannot empty {}", dir.display()), error))
}

/// Removes what a checkpoint that did not end has left.
fn remove_draft(dir: &Path) {
    // Where it stays, the next checkpoint removes it or fails.
    let _ = std::fs::remove_file(dir.join(DRAFT));
}

/// Leaves an empty draft, which says that a checkpoint has failed: the content may be what the disk is full of.
fn mark_failed(dir: &Path) {
    let empty = dir.join(FAILED);
    // Written over, it would take the content of a file with it that the database may have and that has both names.
    let marked = std::fs::File::create(&empty).and_then(|_| std::fs::rename(&empty, dir.join(DRAFT)));
    if marked.is_err() {
        remove_draft(dir);
    }
}

/// The folder of a secondary instance's own files, removed with it.
struct SecondaryDir(PathBuf);

impl SecondaryDir {
    fn create() -> Result<Self> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let dir = std::env::temp_dir().join(format!("gretchen-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&dir).map_err(|error| Error::io(format!("cannot create {}", dir.display()), error))?;
        Ok(Self(dir))
    }
}

impl Drop for SecondaryDir {
    fn drop(&mut self) {
        // Nobody reads what is left; the system clears its temporary folder some day.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::super::{DEFAULT_STORE_BYTES, DEFAULT_STORE_FILES};
    use super::*;
    use crate::table::checkpoint::Deltas;

    fn open_as(folder: &Path, format: u32) -> Result<RocksStore> {
        let identity = Identity { format, ..Identity::of_numbers() };
        let limits = (DEFAULT_STORE_BYTES, DEFAULT_STORE_FILES);
        RocksStore::open(folder, identity, "totals", &TopicPartition::new("changelog", 0), limits)
    }

    fn open(folder: &Path) -> Result<RocksStore> {
        open_as(folder, super::super::FORMAT)
    }

    #[test]
    fn after_a_failed_write_nothing_more_is_written() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("table");
        let store = open(&folder).unwrap();
        let deltas = Sorted::of(&[(&[DATA, b'k'], Some(b"state"))]);
        store.write(&deltas, Some(1)).unwrap();

        // There is no folder to put the file into.
        std::fs::remove_dir_all(&folder).unwrap();
        let error = store.write(&deltas, Some(2)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::State, "{error}");
        assert!(error.to_string().contains("totals"), "{error}");
        let error = store.write(&deltas, Some(3)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Poisoned, "{error}");
    }

    #[test]
    fn a_draft_that_a_crash_left_is_gone_and_counts_for_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("table");
        let open = || open(&folder).unwrap();
        let store = open();
        let [first, second] = [[b"a", b"b"], [b"b", b"c"]].map(|keys| {
            let keys = keys.map(|key| ([DATA, key[0]], key));
            Sorted::of(&keys.each_ref().map(|(key, state)| (&key[..], Some(&state[..]))))
        });
        store.write(&first, Some(1)).unwrap();
        assert!(!folder.join(DRAFT).exists());
        drop(store);

        std::fs::write(folder.join(DRAFT), b"half of a file").unwrap();
        let store = open();
        assert!(!folder.join(DRAFT).exists());
        assert_eq!(store.position().unwrap(), Some(1));
        std::fs::write(folder.join(DRAFT), vec![7; 100_000]).unwrap();
        store.write(&second, Some(2)).unwrap();
        store.write(&Sorted::of(&[(&[DATA, b'a'], None)]), Some(3)).unwrap();
        drop(store);
        let store = open();
        assert_eq!(store.position().unwrap(), Some(3));
        let rows = store.scan(Bound::Unbounded, Bound::Unbounded, 9).unwrap();
        assert_eq!(rows, [(vec![DATA, b'b'], b"b".to_vec()), (vec![DATA, b'c'], b"c".to_vec())]);
    }

    #[test]
    fn a_draft_that_is_a_second_name_of_a_live_file_is_not_written_to() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("table");
        let store = open(&folder).unwrap();
        let key = |name: u8| [DATA, name];
        store.write(&Sorted::of(&[(&key(b'a'), Some(b"a"))]), Some(1)).unwrap();
        // As it is where the database could not remove the draft that it has taken in.
        let is_table = |path: &PathBuf| path.extension().is_some_and(|end| end == "sst");
        let live = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).find(is_table).unwrap();
        std::fs::hard_link(live, folder.join(DRAFT)).unwrap();
        store.write(&Sorted::of(&[(&key(b'b'), Some(b"b"))]), Some(2)).unwrap();
        drop(store);
        let rows = open(&folder).unwrap().scan(Bound::Unbounded, Bound::Unbounded, 9).unwrap();
        assert_eq!(rows, [(key(b'a').to_vec(), b"a".to_vec()), (key(b'b').to_vec(), b"b".to_vec())]);
    }

    #[test]
    fn a_draft_that_cannot_be_removed_fails_the_checkpoint() {
        let dir = tempfile::tempdir().unwrap();
        let store = open(dir.path()).unwrap();
        std::fs::create_dir(dir.path().join(DRAFT)).unwrap();
        let deltas = Sorted::of(&[(&[DATA, b'k'], Some(b"state"))]);
        let error = store.write(&deltas, Some(1)).unwrap_err();
        assert!(error.to_string().contains("cannot remove") && error.to_string().contains("totals"), "{error}");
        let error = store.write(&deltas, Some(2)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Poisoned, "{error}");
    }

    #[test]
    fn a_file_that_is_listed_and_gone_is_an_error_unless_a_checkpoint_had_failed() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("table");
        let open = || open(&folder);
        let deltas = Sorted::of(&[(&[DATA, b'a'], Some(b"a"))]);
        open().unwrap().write(&deltas, Some(1)).unwrap();
        for entry in std::fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|end| end == "sst") {
                std::fs::remove_file(path).unwrap();
            }
        }
        let error = open().err().unwrap();
        assert!(error.message().contains("delete the folder"), "{error}");
        std::fs::write(folder.join(DRAFT), b"").unwrap();
        let store = open().unwrap();
        assert_eq!(store.position().unwrap(), None);
        assert!(!folder.join(DRAFT).exists());
        store.write(&deltas, Some(2)).unwrap();
        drop(store);
        assert_eq!(open().unwrap().position().unwrap(), Some(2));
    }

    /// Tables that this process has open in a folder.
    fn open_tables(folder: &Path) -> usize {
        let open = std::fs::read_dir("/proc/self/fd").unwrap();
        let is_table = |path: &PathBuf| path.starts_with(folder) && path.extension().is_some_and(|end| end == "sst");
        open.filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok()).filter(is_table).count()
    }

    #[test]
    fn no_more_files_are_open_than_may_be() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().canonicalize().unwrap();
        let store = open(&folder).unwrap();
        store.db.set_options(&[("target_file_size_base", "20000")]).unwrap();
        // Two files that overlap, or there would be nothing to merge.
        for position in 1..=2 {
            let mut deltas = Deltas::default();
            for key in 0_u64..1_000 {
                // Such as does not compress.
                let word = |i: u64| (key << 32 | i << 8 | position).wrapping_mul(0x9E37_79B9_7F4A_7C15).to_be_bytes();
                let state: Vec<u8> = (0..250).flat_map(word).collect();
                deltas.push(&[&[DATA][..], &key.to_be_bytes()].concat(), Some(&state));
            }
            store.write(&deltas.sorted(), Some(position)).unwrap();
        }
        store.db.compact_range(None::<&[u8]>, None::<&[u8]>);
        let tables = store.db.live_files().unwrap().len() as u32;
        assert!(tables > 40, "{tables} files");
        drop(store);
        for limit in [tables - 1, tables, tables + 1, 32] {
            let limits = (DEFAULT_STORE_BYTES, limit);
            let place = TopicPartition::new("changelog", 0);
            let store = RocksStore::open(&folder, Identity::of_numbers(), "totals", &place, limits).unwrap();
            assert_eq!(store.scan(Bound::Unbounded, Bound::Unbounded, 2_000).unwrap().len(), 1_000);
            assert_eq!(open_tables(&folder), limit.min(tables) as usize, "{tables} files, {limit} may be open");
        }
    }

    /// Merging is held up until as many checkpoints wait as may, then it goes on: it takes longer than the next checkpoint
    /// to the moment at which that would be taken in.
    #[test]
    fn a_checkpoint_waits_where_merging_lags_behind() {
        let dir = tempfile::tempdir().unwrap();
        let store = open(dir.path()).unwrap();
        let checkpoint = |keys: u32, position: u64| {
            let mut deltas = Deltas::default();
            for key in 0..keys {
                let state: Vec<u8> = (0..8)
                    .flat_map(|i| (u64::from(key).wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ i).to_le_bytes())
                    .collect();
                deltas.push(
                    &[&[DATA][..], &key.to_be_bytes()].concat(),
                    Some(&[&state[..], &position.to_le_bytes()].concat()),
                );
            }
            store.write(&deltas.sorted(), Some(position)).unwrap();
        };
        store.db.set_options(&[("disable_auto_compactions", "true")]).unwrap();
        let mut position = 0;
        // The first go to the levels below, one to each.
        while store.unmerged().unwrap() < MOST_UNMERGED {
            position += 1;
            assert!(position <= 2 * MOST_UNMERGED, "{} wait", store.unmerged().unwrap());
            checkpoint(20_000, position);
        }
        store.db.set_options(&[("disable_auto_compactions", "false")]).unwrap();
        checkpoint(1, position + 1);
        // What came after the merge may wait again.
        let left = store.unmerged().unwrap();
        assert!(left < MOST_UNMERGED / 2, "{left} wait");
        assert_eq!(store.position().unwrap(), Some(position + 1));
        let rows = store.scan(Bound::Unbounded, Bound::Unbounded, 30_000).unwrap();
        let last = |row: usize| rows[row].1.last_chunk().map(|bytes| u64::from_le_bytes(*bytes));
        assert_eq!(
            (rows.len(), last(0), last(1), last(19_999)),
            (20_000, Some(position + 1), Some(position), Some(position))
        );
    }

    #[test]
    fn a_store_of_a_newer_release_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("table");
        let newer = open_as(&folder, 9).unwrap();
        newer.write(&Sorted::of(&[(&[DATA, b'k'], Some(b"state"))]), Some(1)).unwrap();
        drop(newer);
        let error = open(&folder).unwrap_err();
        let text = error.to_string();
        let both = format!("has format 9, this build reads {}; use the release that wrote it", super::super::FORMAT);
        assert!(text.contains(&both) && text.contains("totals") && text.contains("table"), "{text}");
    }
}

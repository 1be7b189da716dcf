//! The slots of a partition: its cache before its store, addressed by raw keys.

use std::hash::{BuildHasher, Hasher};
use std::ops::Bound;
use std::sync::Arc;

use foldhash::fast::RandomState;

use super::at_hand::AtHand;
use super::cache::Cache;
use super::checkpoint::Deltas;
use super::def::{Codec, StateError, TIMESTAMP_LEN, TableDef, split_stored};
use super::merge::Merge;
use super::partition::CommitSink;
use super::slot::Slot;
pub use super::slot::SlotNo;
use super::store::{Store, StoreKey, store_key};
use crate::error::{Error, ErrorKind, Result};
use crate::record::{EncodeError, StoredSchemas};
use crate::topic::{TopicPartition, partition_of};

/// Keys that are hashed, prefetched and looked up together.
const GROUP: usize = 64;

/// Keys that are expected at once, at most.
const EXPECTED: usize = 32;

/// How far ahead of a walk over scattered slots memory is asked for.
const AHEAD: usize = 8;

/// Every so many states that may own memory, one is encoded to learn how much.
const SAMPLE: u32 = 64;

/// The slots of one partition: states by raw key, loaded from the store as they are needed.
///
/// The fast path of a declared aggregation: [`Slots::ask_index`] for the keys of a group, then [`Slots::ask_slot`] for
/// all of them, then [`Slots::touch_if`] each one's slot and fold into the state that it lends.
#[derive(Debug)]
pub struct Slots<S> {
    def: TableDef,
    codec: Codec<S>,
    schemas: StoredSchemas,
    partition: u32,
    partitions: u32,
    place: TopicPartition,
    hasher: RandomState,
    cache: Cache<S>,
    store: Arc<dyn Store>,
    writes: u32,
    scratch: Vec<u8>,
    /// Keys that the store was asked for.
    loads: u64,
    /// Dirty slots of the commit at hand that were handed out already.
    drained: usize,
    /// Where the keys probably are that will be looked up soon.
    expected: [Option<SlotNo>; EXPECTED],
}

impl<S: Clone + 'static> Slots<S> {
    pub(super) fn new(
        def: TableDef,
        (codec, schemas): (Codec<S>, StoredSchemas),
        (partition, partitions): (u32, u32),
        place: TopicPartition,
        store: Arc<dyn Store>,
    ) -> Self {
        Self {
            def,
            codec,
            schemas,
            partition,
            partitions,
            place,
            hasher: RandomState::default(),
            cache: Cache::new(),
            store,
            writes: 0,
            scratch: Vec::new(),
            loads: 0,
            drained: 0,
            expected: [None; EXPECTED],
        }
    }

    /// The hash that [`Slots::entry`] takes.
    #[inline]
    pub fn hash(&self, key: &[u8]) -> u64 {
        let mut hasher = self.hasher.build_hasher();
        hasher.write(key);
        hasher.finish()
    }

    /// Finds the slots of many keys, in the order of the keys, and loads those that are missing with one read.
    ///
    /// `None` stands for a key that belongs to another partition; [`Slots::refusal`] is the error for it. The slots
    /// are valid until [`AnyPartition::evict`](super::AnyPartition::evict).
    ///
    /// Some 64 to 256 keys at a time are best: their slots are then still in the processor's cache when the records
    /// are folded.
    pub fn locate(&mut self, keys: &[&[u8]], found: &mut Vec<Option<SlotNo>>) -> Result<()> {
        found.clear();
        found.reserve(keys.len());
        for group in keys.chunks(GROUP) {
            let mut hashes = [0_u64; GROUP];
            if self.cache.is_large() {
                for (key, hash) in group.iter().zip(&mut hashes) {
                    *hash = self.hash(key);
                    self.cache.prefetch_index(*hash);
                }
                for hash in &hashes[..group.len()] {
                    self.cache.probable(*hash);
                }
            } else {
                for (key, hash) in group.iter().zip(&mut hashes) {
                    *hash = self.hash(key);
                }
            }
            let before = found.len();
            let mut missing = false;
            for (key, hash) in group.iter().zip(&hashes) {
                let slot = self.cache.find(*hash, key);
                missing |= slot.is_none();
                found.push(slot);
            }
            if missing {
                self.load(group, &hashes, &mut found[before..])?;
            }
        }
        Ok(())
    }

    /// Asks the processor for the place of a hash in the index, where the slots outgrow its caches.
    #[inline]
    pub fn ask_index(&self, hash: u64) {
        self.cache.prefetch_index(hash);
    }

    /// The slot that a key of this hash probably has, if any, on its way from memory; [`Slots::touch_if`] makes sure.
    #[inline]
    pub fn ask_slot(&self, hash: u64) -> Option<SlotNo> {
        self.cache.probable(hash)
    }

    /// Whether keys that are missing should be looked up many at a time, by [`Slots::locate`].
    #[inline]
    pub fn loads_in_groups(&self) -> bool {
        self.store.holds_keys()
    }

    /// The state of a key, marked as [`Slots::touch`] does, if the slot is the key's and there is one.
    #[inline(always)]
    pub fn touch_if(&mut self, slot: SlotNo, key: &[u8], timestamp: i64) -> Option<&mut S> {
        self.cache.touch_state(slot, key, timestamp)
    }

    /// Loads the keys of a group that have no slot yet, as far as they belong here.
    #[cold]
    fn load(&mut self, keys: &[&[u8]], hashes: &[u64], found: &mut [Option<SlotNo>]) -> Result<()> {
        if self.store.holds_keys() {
            self.load_stored(keys, hashes, found)?;
        }
        for ((key, hash), found) in keys.iter().zip(hashes).zip(found).filter(|(_, found)| found.is_none()) {
            // A key that came twice has its slot by now.
            *found = match self.cache.find(*hash, key) {
                None if self.is_own(key) => Some(self.insert_stored(*hash, key, None)?),
                slot => slot,
            };
        }
        Ok(())
    }

    /// Gives every missing key that belongs here a slot, with one read in the store's order.
    fn load_stored(&mut self, keys: &[&[u8]], hashes: &[u64], found: &[Option<SlotNo>]) -> Result<()> {
        let mut missing: Vec<(StoreKey, usize)> = (0..keys.len())
            .filter(|i| found[*i].is_none() && self.is_own(keys[*i]))
            .map(|i| (store_key(keys[i], self.def.signed), i))
            .collect();
        self.loads += missing.len() as u64;
        missing.sort_unstable();
        missing.dedup_by(|a, b| a.0 == b.0);
        let (store_keys, numbers): (Vec<_>, Vec<_>) = missing.into_iter().unzip();
        for (stored, i) in self.store.multi_get(&store_keys)?.into_iter().zip(numbers) {
            self.insert_stored(hashes[i], keys[i], stored.as_deref())?;
        }
        Ok(())
    }

    /// See [`AnyPartition::expect`](super::AnyPartition::expect).
    pub(super) fn expect(&mut self, keys: &[&[u8]]) {
        let mut hashes = [0_u64; EXPECTED];
        for (key, hash) in keys.iter().zip(&mut hashes) {
            *hash = self.hash(key);
            self.cache.prefetch_index(*hash);
        }
        for (hash, slot) in hashes.iter().zip(&mut self.expected).take(keys.len()) {
            *slot = self.cache.probable(*hash);
        }
    }

    /// The slot of a key, loaded if it is missing: the one that is expected for the record at hand, if it is the key's.
    #[inline(always)]
    pub(super) fn look_up(&mut self, key: &[u8], at_hand: &AtHand) -> Result<SlotNo> {
        match self.expected_at(at_hand) {
            Some(slot) if self.cache.is_of(slot, key) => Ok(slot),
            _ => self.search(key),
        }
    }

    #[inline(always)]
    fn expected_at(&self, at_hand: &AtHand) -> Option<SlotNo> {
        self.expected.get(at_hand.place()).copied().flatten()
    }

    #[inline(never)]
    fn search(&mut self, key: &[u8]) -> Result<SlotNo> {
        self.entry(self.hash(key), key)
    }

    /// See [`AnyPartition::evict`](super::AnyPartition::evict).
    pub(super) fn evict(&mut self, bound: usize) {
        self.expected = [None; EXPECTED];
        self.cache.evict(bound);
    }

    /// Keys that the store was asked for, so far.
    pub fn loads(&self) -> u64 {
        self.loads
    }

    fn is_own(&self, key: &[u8]) -> bool {
        partition_of(key, self.partitions) == self.partition
    }

    fn insert_stored(&mut self, hash: u64, key: &[u8], stored: Option<&[u8]>) -> Result<SlotNo> {
        let (timestamp, state) = match stored {
            Some(stored) => {
                let (timestamp, state) = self.decode(key, stored)?;
                (timestamp, Some(state))
            }
            None => (i64::MIN, None),
        };
        let no = self.cache.insert(hash, key, timestamp, state).ok_or_else(|| self.too_many())?;
        self.cache.set_heap(no, stored.map_or(0, <[u8]>::len));
        Ok(no)
    }

    fn decode(&self, key: &[u8], stored: &[u8]) -> Result<(i64, S)> {
        split_stored(stored)
            .and_then(|(timestamp, state)| Ok((timestamp, (self.codec.decode)(state, &self.schemas)?)))
            .map_err(|error| self.unreadable(key, error.into()))
    }

    /// The slot of one key, loaded if it is missing. Fails for a key that belongs to another partition.
    pub fn entry(&mut self, hash: u64, key: &[u8]) -> Result<SlotNo> {
        if let Some(no) = self.cache.find(hash, key) {
            self.cache.reference(no);
            return Ok(no);
        }
        let mut found = [None];
        self.load(&[key], &[hash], &mut found)?;
        found[0].ok_or_else(|| self.refusal(key))
    }

    /// Lends the state of a key to `change`, marked as [`Slots::touch`] does.
    #[inline]
    pub(super) fn change<R>(
        &mut self,
        key: &[u8],
        at_hand: &AtHand,
        change: impl FnOnce(&mut Option<S>) -> R,
    ) -> Result<R> {
        let (expected, timestamp) = (self.expected_at(at_hand), at_hand.timestamp());
        let state = expected.and_then(|slot| Some((slot, self.cache.touch_key(slot, key, timestamp)?)));
        let (slot, result) = match state {
            Some((slot, state)) => (slot, change(state)),
            None => {
                let slot = self.search(key)?;
                (slot, change(self.cache.touch(slot, timestamp)))
            }
        };
        self.writes = self.writes.wrapping_add(1);
        // See `measure`.
        if (std::mem::needs_drop::<S>() && self.writes % SAMPLE == 1) || self.cache.undo_enabled() {
            self.measure(slot)?;
        }
        Ok(result)
    }

    /// Marks a slot as changed by a record of that timestamp (milliseconds since 1970) and lends its state; `None`
    /// is a key without one.
    #[inline]
    pub fn touch(&mut self, slot: SlotNo, timestamp: i64) -> &mut Option<S> {
        self.cache.touch(slot, timestamp)
    }

    /// The state in a slot; `None` is a key without one.
    #[inline]
    pub fn state(&self, slot: SlotNo) -> Option<&S> {
        self.cache.slot(slot).state.as_ref()
    }

    /// Encodes a state that was changed by user code. Now and then one is, to learn how much memory it owns; where a
    /// failed record can be undone every one is, so that a value that does not fit its schema fails the record that made
    /// it, and not the commit.
    #[inline(never)]
    fn measure(&mut self, no: SlotNo) -> Result<()> {
        let mut bytes = std::mem::take(&mut self.scratch);
        let slot = self.cache.slot(no);
        let len = encode_stored(slot, self.codec, &mut bytes)
            .map_err(|error| self.unwritable(slot.key.as_slice(), error))?
            .map_or(0, <[u8]>::len);
        self.cache.set_heap(no, len);
        self.scratch = bytes;
        Ok(())
    }

    /// The error for a key that belongs to another partition.
    #[cold]
    pub fn refusal(&self, key: &[u8]) -> Error {
        let (table, own) = (self.def.name, self.partition);
        let other = partition_of(key, self.partitions);
        Error::new(
            ErrorKind::Key,
            format!(
                "table {table} refuses key {} in partition {own}: it belongs to partition {other}, and its state would \
                 be split; name the field that the table is keyed by on the agent (`key = field`), so that a \
                 repartition topic is put in between",
                self.def.key_text(key)
            ),
        )
        .at(&self.place)
    }

    fn too_many(&self) -> Error {
        Error::new(ErrorKind::State, format!("table {} holds more keys than one partition can", self.def.name))
            .at(&self.place)
    }

    #[cold]
    fn unreadable(&self, key: &[u8], error: StateError) -> Error {
        let (table, key) = (self.def.name, self.def.key_text(key));
        Error::new(error.unread(), format!("the stored state of key {key} of table {table} cannot be read"))
            .with_source(error)
            .at(&self.place)
    }

    #[cold]
    pub(super) fn unwritable(&self, key: &[u8], error: EncodeError) -> Error {
        let (table, key) = (self.def.name, self.def.key_text(key));
        Error::new(ErrorKind::Encode, format!("the value of key {key} of table {table} does not fit its schema"))
            .with_source(error)
            .at(&self.place)
    }

    /// See [`AnyPartition::apply`](super::AnyPartition::apply).
    pub(super) fn apply(&mut self, key: &[u8], stored: Option<&[u8]>) -> Result<()> {
        let hash = self.hash(key);
        let (timestamp, state) = match stored {
            Some(stored) => {
                let (timestamp, state) = self.decode(key, stored)?;
                (timestamp, Some(state))
            }
            None => (i64::MIN, None),
        };
        let no = match self.cache.find(hash, key) {
            Some(no) => no,
            None if partition_of(key, self.partitions) != self.partition => return Err(self.refusal(key)),
            None => self.cache.insert(hash, key, timestamp, None).ok_or_else(|| self.too_many())?,
        };
        self.cache.apply(no, timestamp, state);
        self.cache.set_heap(no, stored.map_or(0, <[u8]>::len));
        Ok(())
    }

    /// See [`AnyPartition::drain_commit`](super::AnyPartition::drain_commit).
    pub(super) fn drain_commit(&mut self, sink: &mut dyn CommitSink) -> Result<bool> {
        if self.drained == 0 {
            self.cache.sort_dirty();
        }
        let (puts_out, codec) = (self.def.output.is_some(), self.codec);
        while let Some(no) = self.cache.dirty().get(self.drained).copied() {
            if sink.is_full() {
                return Ok(false);
            }
            if let Some(ahead) = self.cache.dirty().get(self.drained + AHEAD) {
                self.cache.prefetch_slot(*ahead);
            }
            let slot = self.cache.slot(no);
            let key = slot.key.as_slice();
            let stored_len = hand_out(sink, slot, codec, puts_out).map_err(|error| self.unwritable(key, error))?;
            self.cache.set_heap(no, stored_len);
            self.cache.clean(no);
            self.drained += 1;
        }
        self.drained = 0;
        self.cache.committed();
        Ok(true)
    }

    /// Copies out what the store lacks; the caller has made sure that everything is committed.
    pub(super) fn begin_checkpoint(&mut self) -> Result<Deltas> {
        let mut deltas = Deltas::default();
        let mut bytes = std::mem::take(&mut self.scratch);
        self.cache.sort_unsaved();
        for (at, no) in self.cache.unsaved().iter().enumerate() {
            if let Some(ahead) = self.cache.unsaved().get(at + AHEAD) {
                self.cache.prefetch_slot(*ahead);
            }
            let slot = self.cache.slot(*no);
            let key = slot.key.as_slice();
            let stored = encode_stored(slot, self.codec, &mut bytes).map_err(|error| self.unwritable(key, error))?;
            deltas.push(&store_key(key, self.def.signed), stored);
        }
        self.scratch = bytes;
        self.cache.begin_checkpoint();
        Ok(deltas)
    }

    /// The keys between two bounds in the order of the store, with what the cache knows better.
    pub(super) fn range(&self, from: Bound<&[u8]>, to: Bound<&[u8]>) -> Merge<S> {
        let signed = self.def.signed;
        let bound = |bound: Bound<&[u8]>| bound.map(|key| store_key(key, signed));
        let bounds = (bound(from), bound(to));
        let overlay = self.cache.pinned().map(|no| {
            let slot = self.cache.slot(no);
            (store_key(slot.key.as_slice(), signed), slot.state.clone())
        });
        let (place, name, decode) = (self.place.clone(), self.def.name, self.codec.decode);
        let schemas = self.schemas.clone();
        let decode = move |stored: &[u8]| {
            split_stored(stored).and_then(|(_, state)| decode(state, &schemas)).map_err(|error| {
                Error::new(
                    error.lookup_failed().unwrap_or(ErrorKind::Corrupt),
                    format!("a stored state of table {name} cannot be read"),
                )
                .with_source(error)
                .at(&place)
            })
        };
        Merge::new(Arc::clone(&self.store), bounds, overlay, decode)
    }

    pub(super) fn def(&self) -> &TableDef {
        &self.def
    }

    pub(super) fn cache(&self) -> &Cache<S> {
        &self.cache
    }

    pub(super) fn cache_mut(&mut self) -> &mut Cache<S> {
        &mut self.cache
    }
}

/// Hands out one slot; returns the length of what is stored of it.
#[inline]
fn hand_out<S>(
    sink: &mut dyn CommitSink,
    slot: &Slot<S>,
    codec: Codec<S>,
    puts_out: bool,
) -> Result<usize, EncodeError> {
    let (key, timestamp) = (slot.key.as_slice(), slot.timestamp);
    let Some(state) = &slot.state else {
        sink.delta(key, None, timestamp)?;
        if puts_out {
            sink.output(key, None, timestamp)?;
        }
        return Ok(0);
    };
    let mut len = 0;
    let mut stored = |out: &mut Vec<u8>| {
        let before = out.len();
        out.extend_from_slice(&timestamp.to_le_bytes());
        (codec.encode)(state, out)?;
        len = out.len() - before;
        Ok(())
    };
    sink.delta(key, Some(&mut stored), timestamp)?;
    if puts_out {
        sink.output(key, Some(&mut |out: &mut Vec<u8>| (codec.encode_output)(state, key, out)), timestamp)?;
    }
    Ok(len)
}

/// The stored form of a slot in `bytes`: timestamp and state; `None` for a key without one.
fn encode_stored<'a, S>(
    slot: &Slot<S>,
    codec: Codec<S>,
    bytes: &'a mut Vec<u8>,
) -> Result<Option<&'a [u8]>, EncodeError> {
    bytes.clear();
    let Some(state) = &slot.state else { return Ok(None) };
    bytes.extend_from_slice(&slot.timestamp.to_le_bytes());
    debug_assert_eq!(bytes.len(), TIMESTAMP_LEN);
    (codec.encode)(state, bytes)?;
    Ok(Some(bytes))
}

//! The write-back cache of one partition: an open-addressing index over slots that never move.
//!
//! The index holds eight bytes a key (32 bits of its hash, and the slot's number), so that growing rebuilds only it.
//! Its order is that of the hashes' high bits, so a larger index is filled from the smaller one front to back.

use std::num::NonZeroU32;

use super::huge_pages;
use super::key_bytes::KeyBytes;
use super::prefetch::{prefetch, prefetch_two};
use super::slot::{DIRTY, HeapSize, IN_FLIGHT, LOGGED, Marks, PINNED, REFERENCED, Slot, SlotNo, UNSAVED, USED, Undo};

/// Slots come in chunks, so that more of them never move the others. Memory is taken as it is written to.
const CHUNK_BITS: u32 = 16;
const CHUNK_SLOTS: usize = 1 << CHUNK_BITS;
const MIN_INDEX_BITS: u32 = 6;
/// What a key costs in the index at its usual fill.
const INDEX_BYTES_PER_KEY: usize = 16;

/// The slot of that number; apart from [`Cache::slot_mut`], so that the marks can be had beside it.
#[inline(always)]
fn slot_in<S>(chunks: &mut [Vec<Slot<S>>], no: SlotNo) -> &mut Slot<S> {
    &mut chunks[no.index() >> CHUNK_BITS][no.index() & (CHUNK_SLOTS - 1)]
}

#[derive(Debug)]
pub(super) struct Cache<S> {
    /// Tag in the high half, slot number in the low one; 0 is empty.
    index: Vec<u64>,
    /// A tag shifted right by this is its place in the index.
    shift: u32,
    chunks: Vec<Vec<Slot<S>>>,
    slots: usize,
    free: Vec<SlotNo>,
    used: usize,
    hand: usize,
    key_heap: usize,
    state_heap: usize,
    marks: Marks<S>,
}

impl<S: Clone> Cache<S> {
    pub(super) fn new() -> Self {
        Self {
            index: vec![0; 1 << MIN_INDEX_BITS],
            shift: 32 - MIN_INDEX_BITS,
            chunks: Vec::new(),
            slots: 0,
            free: Vec::new(),
            used: 0,
            hand: 0,
            key_heap: 0,
            state_heap: 0,
            marks: Marks::new(),
        }
    }

    #[inline]
    fn tag(hash: u64) -> u32 {
        (hash >> 32) as u32
    }

    #[inline]
    fn home(&self, tag: u32) -> usize {
        (tag >> self.shift) as usize
    }

    #[inline]
    pub(super) fn slot(&self, no: SlotNo) -> &Slot<S> {
        &self.chunks[no.index() >> CHUNK_BITS][no.index() & (CHUNK_SLOTS - 1)]
    }

    #[inline]
    pub(super) fn slot_mut(&mut self, no: SlotNo) -> &mut Slot<S> {
        slot_in(&mut self.chunks, no)
    }

    /// The slot of a key.
    #[inline]
    pub(super) fn find(&self, hash: u64, key: &[u8]) -> Option<SlotNo> {
        let tag = Self::tag(hash);
        let mask = self.index.len() - 1;
        let mut at = self.home(tag);
        loop {
            let entry = self.index[at & mask];
            let no = SlotNo(NonZeroU32::new(entry as u32)?);
            if (entry >> 32) as u32 == tag && self.slot(no).key.is(key) {
                return Some(no);
            }
            at += 1;
        }
    }

    /// Whether a slot is the key's.
    #[inline]
    pub(super) fn is_of(&self, no: SlotNo, key: &[u8]) -> bool {
        self.slot(no).key.is(key)
    }

    /// Asks for the index line of a hash.
    #[inline]
    pub(super) fn prefetch_index(&self, hash: u64) {
        if let Some(entry) = self.index.get(self.home(Self::tag(hash))) {
            prefetch(entry);
        }
    }

    /// The slot that a hash probably belongs to, and asks for its memory; its index line should be there by now.
    #[inline]
    pub(super) fn probable(&self, hash: u64) -> Option<SlotNo> {
        let tag = Self::tag(hash);
        let mask = self.index.len() - 1;
        let mut at = self.home(tag);
        loop {
            let entry = self.index[at & mask];
            let no = SlotNo(NonZeroU32::new(entry as u32)?);
            if (entry >> 32) as u32 == tag {
                self.prefetch_slot(no);
                return Some(no);
            }
            at += 1;
        }
    }

    #[inline]
    pub(super) fn prefetch_slot(&self, no: SlotNo) {
        if let Some(slot) =
            self.chunks.get(no.index() >> CHUNK_BITS).and_then(|chunk| chunk.get(no.index() & (CHUNK_SLOTS - 1)))
        {
            prefetch_two(slot);
        }
    }

    /// Whether the slots outgrow what the processor keeps close, so that prefetching pays.
    #[inline]
    pub(super) fn is_large(&self) -> bool {
        self.slots * size_of::<Slot<S>>() > 256 << 10
    }

    /// Adds a key that the cache does not have, equal to the store. `None` when slot numbers are exhausted.
    pub(super) fn insert(&mut self, hash: u64, key: &[u8], timestamp: i64, state: Option<S>) -> Option<SlotNo> {
        // Filled to three quarters a search still seldom leaves the line that it begins in.
        if (self.used + 1) * 4 > self.index.len() * 3 {
            self.grow_index();
        }
        let tag = Self::tag(hash);
        let slot = Slot {
            key: KeyBytes::new(key),
            timestamp,
            tag,
            heap: HeapSize::default(),
            flags: USED | REFERENCED,
            state,
        };
        self.key_heap += slot.key.heap_bytes();
        let no = match self.free.pop() {
            Some(no) => {
                *self.slot_mut(no) = slot;
                no
            }
            None => self.push_slot(slot)?,
        };
        self.used += 1;
        self.index_insert(tag, no);
        Some(no)
    }

    fn push_slot(&mut self, slot: Slot<S>) -> Option<SlotNo> {
        let no = SlotNo::new(self.slots)?;
        match self.chunks.last_mut() {
            Some(chunk) if chunk.len() < CHUNK_SLOTS => chunk.push(slot),
            _ => {
                let mut chunk = Vec::with_capacity(CHUNK_SLOTS);
                // A table of few keys must stay small; one that has filled a chunk will fill most of another.
                if !self.chunks.is_empty() {
                    huge_pages::advise(chunk.spare_capacity_mut());
                }
                chunk.push(slot);
                self.chunks.push(chunk);
            }
        }
        self.slots += 1;
        Some(no)
    }

    fn index_insert(&mut self, tag: u32, no: SlotNo) {
        let mask = self.index.len() - 1;
        let mut at = self.home(tag);
        while self.index[at & mask] != 0 {
            at += 1;
        }
        self.index[at & mask] = u64::from(tag) << 32 | u64::from(no.0.get());
    }

    fn grow_index(&mut self) {
        let mut larger = vec![0; self.index.len() * 2];
        huge_pages::advise(&mut larger);
        // The index can have 2^32 places at most, one for each tag; it is then only filled more densely.
        self.shift = self.shift.saturating_sub(1);
        for entry in std::mem::replace(&mut self.index, larger) {
            if let Some(no) = NonZeroU32::new(entry as u32) {
                self.index_insert((entry >> 32) as u32, SlotNo(no));
            }
        }
    }

    /// Takes a key out of the index, moving back what was pushed past its place.
    fn index_remove(&mut self, no: SlotNo) {
        let mask = self.index.len() - 1;
        let mut hole = self.home(self.slot(no).tag);
        while self.index[hole & mask] as u32 != no.0.get() {
            hole += 1;
        }
        let mut at = hole + 1;
        while self.index[at & mask] != 0 {
            let home = self.home((self.index[at & mask] >> 32) as u32);
            // How far the entry is from home, against how far the hole is from the entry.
            if at.wrapping_sub(home) & mask >= (at - hole) & mask {
                self.index[hole & mask] = self.index[at & mask];
                hole = at;
            }
            at += 1;
        }
        self.index[hole & mask] = 0;
    }

    /// Marks a slot as written to at `timestamp` and lends its state.
    #[inline]
    pub(super) fn touch(&mut self, no: SlotNo, timestamp: i64) -> &mut Option<S> {
        slot_in(&mut self.chunks, no).touch(no, timestamp, &mut self.marks)
    }

    /// As [`Cache::touch`] for a slot that is probably the key's: `None` if it is not.
    #[inline(always)]
    pub(super) fn touch_key(&mut self, no: SlotNo, key: &[u8], timestamp: i64) -> Option<&mut Option<S>> {
        let slot = slot_in(&mut self.chunks, no);
        slot.key.is(key).then(|| slot.touch(no, timestamp, &mut self.marks))
    }

    /// As [`Cache::touch_key`], and `None`, too, if there is no state.
    #[inline(always)]
    pub(super) fn touch_state(&mut self, no: SlotNo, key: &[u8], timestamp: i64) -> Option<&mut S> {
        let slot = slot_in(&mut self.chunks, no);
        if slot.state.is_none() || !slot.key.is(key) {
            return None;
        }
        slot.touch(no, timestamp, &mut self.marks).as_mut()
    }

    /// Marks a slot as read.
    #[inline]
    pub(super) fn reference(&mut self, no: SlotNo) {
        self.slot_mut(no).flags |= REFERENCED;
    }

    /// Replaces a slot by a committed state that the store does not have.
    pub(super) fn apply(&mut self, no: SlotNo, timestamp: i64, state: Option<S>) {
        let slot = slot_in(&mut self.chunks, no);
        slot.timestamp = timestamp;
        slot.state = state;
        self.marks.unsaved(no, slot);
        // What is committed elsewhere cannot be undone here.
        self.mark();
    }

    /// Says how many bytes a slot's state took when it was encoded, if it may own memory at all.
    pub(super) fn set_heap(&mut self, no: SlotNo, bytes: usize) {
        if std::mem::needs_drop::<S>() {
            let slot = slot_in(&mut self.chunks, no);
            self.state_heap -= slot.heap.bytes();
            slot.heap = HeapSize::of(bytes);
            self.state_heap += slot.heap.bytes();
        }
    }

    /// Puts the slots that changed since the last commit in the order in which they lie in memory, which a walk over many
    /// of them takes much less time in. Nothing can be undone any more.
    pub(super) fn sort_dirty(&mut self) {
        self.mark();
        in_order(&mut self.marks.dirty, self.slots);
    }

    /// Slots that changed since the last commit.
    pub(super) fn dirty(&self) -> &[SlotNo] {
        &self.marks.dirty
    }

    /// Slots that differ from the store: changed since the last checkpoint, or part of one that has not finished.
    pub(super) fn pinned(&self) -> impl Iterator<Item = SlotNo> {
        let (unsaved, in_flight) = (&self.marks.unsaved, &self.marks.in_flight);
        // A slot that changed again while it was in flight is in both lists.
        let again = |no: &&SlotNo| self.slot(**no).flags & UNSAVED == 0;
        unsaved.iter().chain(in_flight.iter().filter(again)).copied()
    }

    /// Slots that changed since the last checkpoint.
    pub(super) fn unsaved(&self) -> &[SlotNo] {
        &self.marks.unsaved
    }

    /// Takes note that a dirty slot is part of a commit; [`Cache::committed`] follows when all are.
    #[inline]
    pub(super) fn clean(&mut self, no: SlotNo) {
        self.slot_mut(no).flags &= !DIRTY;
    }

    /// Ends a commit of slots that were all cleaned: nothing is dirty and nothing can be undone.
    pub(super) fn committed(&mut self) {
        self.mark();
        self.marks.dirty.clear();
        self.marks.dirty_at_mark = 0;
    }

    /// As [`Cache::sort_dirty`] with the slots that changed since the last checkpoint.
    pub(super) fn sort_unsaved(&mut self) {
        self.mark();
        in_order(&mut self.marks.unsaved, self.slots);
    }

    /// Begins a checkpoint of all that is unsaved.
    pub(super) fn begin_checkpoint(&mut self) {
        let unsaved = std::mem::take(&mut self.marks.unsaved);
        for no in &unsaved {
            let slot = self.slot_mut(*no);
            slot.flags = slot.flags & !UNSAVED | IN_FLIGHT;
        }
        self.marks.in_flight = unsaved;
        self.marks.unsaved_at_mark = 0;
    }

    /// Ends a checkpoint: what it wrote may be evicted.
    pub(super) fn end_checkpoint(&mut self) {
        for no in std::mem::take(&mut self.marks.in_flight) {
            self.slot_mut(no).flags &= !IN_FLIGHT;
        }
    }

    /// Switches the undo log on or off, emptying it.
    pub(super) fn enable_undo(&mut self, on: bool) {
        self.mark();
        self.marks.need = if on { DIRTY | UNSAVED | LOGGED } else { DIRTY | UNSAVED };
    }

    /// Whether the undo log is on.
    pub(super) fn undo_enabled(&self) -> bool {
        self.marks.need & LOGGED != 0
    }

    /// Forgets what could be undone: a rollback returns to here.
    pub(super) fn mark(&mut self) {
        let mut undo = std::mem::take(&mut self.marks.undo);
        for entry in undo.drain(..) {
            self.slot_mut(entry.slot).flags &= !LOGGED;
        }
        self.marks.undo = undo;
        self.marks.dirty_at_mark = self.marks.dirty.len();
        self.marks.unsaved_at_mark = self.marks.unsaved.len();
    }

    /// Puts back what every slot held at the mark.
    pub(super) fn rollback(&mut self) {
        if !self.undo_enabled() {
            return;
        }
        let mut undo = std::mem::take(&mut self.marks.undo);
        for Undo { slot, timestamp, flags, state } in undo.drain(..) {
            let slot = self.slot_mut(slot);
            // A checkpoint may have finished in between: what it cleared stays cleared.
            slot.flags = flags & !IN_FLIGHT | slot.flags & IN_FLIGHT;
            (slot.timestamp, slot.state) = (timestamp, state);
        }
        self.marks.undo = undo;
        self.marks.dirty.truncate(self.marks.dirty_at_mark);
        self.marks.unsaved.truncate(self.marks.unsaved_at_mark);
    }

    /// Bytes that the used slots take, what they own elsewhere included as far as it is known.
    #[inline]
    pub(super) fn bytes(&self) -> usize {
        self.used * (size_of::<Slot<S>>() + INDEX_BYTES_PER_KEY) + self.key_heap + self.state_heap
    }

    /// Bytes of so many slots at the average size.
    pub(super) fn bytes_of(&self, slots: usize) -> usize {
        (self.bytes() as u128 * slots as u128 / self.used.max(1) as u128) as usize
    }

    /// Evicts slots that equal the store and were not used lately, until no more than `bound` bytes are taken.
    ///
    /// The second-chance clock: a used slot is spared once, so two rounds reach every slot that may go.
    pub(super) fn evict(&mut self, bound: usize) {
        let mut left = self.slots * 2;
        while left > 0 && self.bytes() > bound {
            left -= 1;
            self.hand = if self.hand + 1 < self.slots { self.hand + 1 } else { 0 };
            let Some(no) = SlotNo::new(self.hand) else { return };
            let slot = self.slot_mut(no);
            if slot.flags & USED == 0 || slot.flags & PINNED != 0 {
                continue;
            }
            if slot.flags & REFERENCED != 0 {
                slot.flags &= !REFERENCED;
                continue;
            }
            self.remove(no);
        }
    }

    fn remove(&mut self, no: SlotNo) {
        self.index_remove(no);
        let slot = self.slot_mut(no);
        let (key, heap) = (std::mem::replace(&mut slot.key, KeyBytes::EMPTY), slot.heap);
        (slot.flags, slot.heap, slot.state) = (0, HeapSize::default(), None);
        self.key_heap -= key.heap_bytes();
        self.state_heap -= heap.bytes();
        self.used -= 1;
        self.free.push(no);
    }
}

/// Sorts different slots of so many, by a bit for each.
fn in_order(some: &mut [SlotNo], of: usize) {
    if some.len() < of / 64 {
        return some.sort_unstable_by_key(|no| no.0);
    }
    let mut bits = vec![0_u64; of.div_ceil(64)];
    for no in &*some {
        bits[no.index() / 64] |= 1 << (no.index() % 64);
    }
    let mut sorted = some.iter_mut();
    for (word, mut left) in bits.into_iter().enumerate() {
        while left != 0 {
            let no = SlotNo::new(word * 64 + left.trailing_zeros() as usize);
            if let (Some(place), Some(no)) = (sorted.next(), no) {
                *place = no;
            }
            left &= left - 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    /// Few different hashes, so that entries are pushed far from their place and around the end of the index.
    fn hash(key: u16) -> u64 {
        let spread = [0, 1, u32::MAX - 1, u32::MAX, 0x8000_0000];
        u64::from(spread[usize::from(key) % spread.len()]) << 32
    }

    proptest! {
        #[test]
        fn colliding_keys_are_found_until_they_are_evicted(
            steps in proptest::collection::vec((0..150_u16, any::<bool>()), 1..600)
        ) {
            let mut cache = Cache::<u16>::new();
            let mut model = BTreeMap::new();
            for (key, insert) in steps {
                let raw = key.to_be_bytes();
                let found = cache.find(hash(key), &raw);
                prop_assert_eq!(found, model.get(&key).copied());
                match found {
                    None if insert => {
                        model.insert(key, cache.insert(hash(key), &raw, 0, Some(key)).unwrap());
                    }
                    Some(no) if !insert => {
                        cache.remove(no);
                        model.remove(&key);
                    }
                    _ => {}
                }
            }
            for (key, no) in &model {
                prop_assert_eq!(cache.find(hash(*key), &key.to_be_bytes()), Some(*no));
                prop_assert_eq!(cache.slot(*no).state, Some(*key));
            }
            cache.evict(0);
            prop_assert_eq!(cache.bytes(), 0);
            prop_assert!(cache.index.iter().all(|entry| *entry == 0));
        }
    }

    #[test]
    fn what_a_state_owns_is_counted_up_to_a_unit_and_up_to_a_most() {
        let most = ((1 << 24) - 1) * HeapSize::UNIT;
        for bytes in [0, 1, 15, 16, 17, 65_536 * 16 + 1, most - 1, most] {
            let counted = HeapSize::of(bytes).bytes();
            assert!((bytes..bytes + HeapSize::UNIT).contains(&counted), "{bytes}: {counted}");
        }
        assert_eq!(HeapSize::of(usize::MAX).bytes(), most);
        let mut cache = Cache::<String>::new();
        let slot = cache.insert(hash(7), b"key", 0, None).unwrap();
        let before = cache.bytes();
        cache.set_heap(slot, 1_000);
        cache.set_heap(slot, 40);
        assert_eq!(cache.bytes(), before + 48);
        cache.remove(slot);
        assert_eq!(cache.bytes(), 0);
    }

    #[test]
    fn what_was_used_since_the_hand_came_by_is_spared() {
        let mut cache = Cache::<u16>::new();
        let slots: Vec<_> =
            (0..100_u16).map(|key| cache.insert(hash(key), &key.to_be_bytes(), 0, None).unwrap()).collect();
        let bytes = cache.bytes();
        cache.evict(bytes - 1);
        let used: Vec<_> = slots[50..60].to_vec();
        for no in &used {
            cache.reference(*no);
        }
        cache.evict(bytes / 5);
        for (key, no) in (50_u16..).zip(used) {
            assert_eq!(cache.find(hash(key), &key.to_be_bytes()), Some(no));
        }
        assert!(cache.bytes() <= bytes / 5);
    }
}

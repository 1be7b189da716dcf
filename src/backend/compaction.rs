//! Which records stay when a partition is compacted.

use std::collections::HashMap;
use std::hash::BuildHasher;

use crate::error::Result;
use crate::record::RawRecord;

/// Bytes of a key's place in the table of last offsets: two words of its hash, the offset, and a byte of the table's own.
const PLACE_BYTES: usize = 25;

/// Records that a segment of a compacted topic has at most, so that a compaction within so many bytes of memory can take
/// note of it: one that has room takes the whole of the next segment, and may keep all of its records aside until it has
/// seen the end of a commit.
pub(crate) fn segment_records(memory_bytes: usize) -> u64 {
    (keys_within(memory_bytes / 2) / 2).max(1) as u64
}

/// Keys in a table that takes so many bytes: its places are a power of two, of which seven in eight are used.
fn keys_within(bytes: usize) -> usize {
    let places = (bytes / PLACE_BYTES).max(16);
    (1 << places.ilog2()) / 8 * 7
}

/// The rules of a compaction. It is shown what was not compacted before, and then asked for every record.
pub trait Compaction: Send {
    /// Says how much memory it may take, before anything else; what it may note beyond that is one segment.
    fn limit_memory(&mut self, bytes: usize);

    /// Takes note of a record that was not compacted before, in order of offsets.
    fn note(&mut self, record: &RawRecord<'_>) -> Result<()>;

    /// Whether more can be noted; asked between two segments.
    fn has_room(&self) -> bool;

    /// Whether it must see what follows the last record that was noted, to know what that one means.
    fn is_open(&self) -> bool {
        false
    }

    /// Takes a look at a record behind the last that was noted, while [`Compaction::is_open`].
    fn look_ahead(&mut self, _record: &RawRecord<'_>) -> Result<()> {
        Ok(())
    }

    /// Whether a record stays that is not behind the last that was noted. `compacted`: it stayed before, and was not
    /// noted.
    fn stays(&self, record: &RawRecord<'_>, compacted: bool) -> Result<Stays>;
}

/// Whether a record stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stays {
    /// It goes.
    No,
    /// It stays; a tombstone until its time is over.
    Yes,
    /// It stays, a tombstone, too.
    Always,
}

/// The last offset of each key, by 128 bits of a hash.
#[derive(Debug, Default)]
pub struct LastOffsets {
    offsets: HashMap<[u64; 2], u64, foldhash::fast::RandomState>,
    hashers: [foldhash::quality::RandomState; 2],
    /// Keys that fit into its memory.
    most: usize,
}

impl LastOffsets {
    /// Says how many bytes the table may have.
    pub fn limit_memory(&mut self, bytes: usize) {
        self.most = keys_within(bytes);
    }

    /// What stands for a key.
    pub fn hash(&self, key: &[u8]) -> [u64; 2] {
        [0, 1].map(|i| self.hashers[i].hash_one(key))
    }

    /// Takes note of a key's record.
    pub fn note(&mut self, key: [u64; 2], offset: u64) {
        // A table that grows is there twice for a moment; one that has become large gets its last size at once.
        if self.offsets.len() == self.offsets.capacity() && self.offsets.len() >= self.most / 16 {
            self.offsets.reserve(self.most.saturating_sub(self.offsets.len()));
        }
        self.offsets.insert(key, offset);
    }

    /// Whether there is room for another segment's keys, of which `aside` are known that were not noted yet.
    pub fn has_room(&self, aside: usize) -> bool {
        self.offsets.len() + aside < self.most / 2
    }

    /// Whether a key's record stays; see [`Compaction::stays`].
    pub fn stays(&self, key: &[u8], offset: u64, compacted: bool) -> bool {
        let last = self.offsets.get(&self.hash(key));
        if compacted { last.is_none() } else { last == Some(&offset) }
    }
}

/// The last record of every key stays, and every record without one.
#[derive(Debug)]
pub(super) struct LastOfKey {
    last: LastOffsets,
    /// The offset of a record that stays in any case.
    kept: u64,
}

impl LastOfKey {
    /// The record at offset `kept` stays in any case: whoever reads it has come to the end.
    pub(super) fn new(last: LastOffsets, kept: u64) -> Self {
        Self { last, kept }
    }
}

impl Compaction for LastOfKey {
    fn limit_memory(&mut self, bytes: usize) {
        self.last.limit_memory(bytes);
    }

    fn note(&mut self, record: &RawRecord<'_>) -> Result<()> {
        if let Some(key) = record.key {
            self.last.note(self.last.hash(key), record.offset);
        }
        Ok(())
    }

    fn has_room(&self) -> bool {
        self.last.has_room(0)
    }

    fn stays(&self, record: &RawRecord<'_>, compacted: bool) -> Result<Stays> {
        Ok(match record.key {
            _ if record.offset == self.kept => Stays::Always,
            // From before the topic was compacted.
            None => Stays::Always,
            Some(key) if self.last.stays(key, record.offset, compacted) => Stays::Yes,
            Some(_) => Stays::No,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_takes_no_more_than_it_may() {
        for bytes in [1 << 10, 1 << 20, 3 << 20, 5_000_000] {
            let mut last = LastOffsets::default();
            last.limit_memory(bytes);
            let mut largest = 0;
            for key in 0..keys_within(bytes) as u64 {
                let before = last.offsets.capacity();
                last.note([key, key], key);
                // While it grows the former table is there, too.
                let (now, grew) = (last.offsets.capacity(), last.offsets.capacity() != before);
                let places = |capacity: usize| (capacity * 8 / 7).next_power_of_two();
                largest = largest.max(PLACE_BYTES * (places(now) + if grew { places(before) } else { 0 }));
            }
            assert!(last.offsets.len() == keys_within(bytes));
            assert!(largest <= bytes + bytes / 8, "{largest} of {bytes}");
            assert!(largest > bytes / 3, "{largest} of {bytes}");
        }
    }

    #[test]
    fn a_segment_has_so_few_records_that_there_is_room_for_another() {
        for memory in [1 << 20, 64 << 20, 128 << 20] {
            let mut last = LastOffsets::default();
            last.limit_memory(memory / 2);
            let (segment, mut keys) = (segment_records(memory), 0);
            while last.has_room(0) {
                for _ in 0..segment {
                    keys += 1;
                    last.note([keys, keys], keys);
                }
            }
            assert!(keys as usize <= keys_within(memory / 2) && keys >= segment, "{keys}");
        }
    }
}

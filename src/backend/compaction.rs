//! Which records stay when a partition is compacted.

use std::collections::HashMap;
use std::hash::BuildHasher;

use crate::error::Result;
use crate::record::RawRecord;

/// Bytes of a key's place in the table of last offsets: two words of its hash, the offset, and a byte of the table's own.
const PLACE_BYTES: usize = 25;

/// Bytes of a table beside its places.
const TABLE_BYTES: usize = 16;

/// Records that a segment of a compacted topic has at most, so that a compaction within so many bytes of memory can take
/// note of it: one that has room takes the whole of the next segment, and may keep all of its records aside until it has
/// seen the end of a commit.
pub(crate) fn segment_records(memory_bytes: usize) -> u64 {
    (keys_within(memory_bytes / 2) / 2).max(1) as u64
}

/// Keys in a table that takes so many bytes: its places are a power of two, of which seven in eight are used. When it gets
/// them, one with a sixteenth of them is there, too.
fn keys_within(bytes: usize) -> usize {
    let places = bytes.saturating_sub(2 * TABLE_BYTES) / 17 * 16 / PLACE_BYTES;
    (1 << places.max(16).ilog2()) / 8 * 7
}

/// The rules of a compaction. It is shown what was not compacted before, and then asked for every record.
pub trait Compaction: Send {
    /// Says how much memory it may take, before anything else. It says so itself when it has no room for another segment of
    /// as many records as such memory is for.
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
    use crate::heap::most_of;
    use crate::record::Headers;

    /// Bytes from which on a table has as many places.
    fn bytes_of(places: usize) -> usize {
        (places + places / 16) * PLACE_BYTES + 2 * TABLE_BYTES
    }

    #[test]
    fn a_table_takes_no_more_than_it_may() {
        for places in [1 << 10, 1 << 15, 1 << 20] {
            // What has room for so many places, a byte less, and a byte more.
            let enough = bytes_of(places);
            for (bytes, has) in [(enough - 1, places / 2), (enough, places), (enough + 1, places)] {
                let most = most_of(|| {
                    let mut last = LastOffsets::default();
                    last.limit_memory(bytes);
                    assert_eq!(last.most, has / 8 * 7, "{bytes}");
                    (0..last.most as u64).for_each(|key| last.note([key, key], key));
                });
                assert!(most <= bytes, "{most} of {bytes}");
                assert_eq!(most, bytes_of(has), "of {bytes}");
            }
        }
    }

    /// Segment after segment is noted until there is no room: in the memory that is just enough for a table's places, and in
    /// a byte less and more.
    #[test]
    fn notes_of_a_topic_take_no_more_than_they_may() {
        let enough = bytes_of(1 << 18);
        for bytes in [enough - 1, enough, enough + 1] {
            let mut noted = 0_u64;
            let most = most_of(|| {
                let mut rules = LastOfKey::new(LastOffsets::default(), 0);
                rules.limit_memory(bytes);
                while rules.has_room() {
                    for _ in 0..segment_records(bytes) {
                        noted += 1;
                        let (key, headers) = (noted.to_le_bytes(), Headers::default());
                        let record = RawRecord { offset: noted, timestamp: 0, key: Some(&key), value: None, headers };
                        rules.note(&record).unwrap();
                    }
                }
            });
            assert!(most <= bytes && most > bytes / 3, "{most} of {bytes}");
            assert!(noted > segment_records(bytes), "{noted} within {bytes}");
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

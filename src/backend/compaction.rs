//! Which records stay when a partition is compacted.

use std::collections::HashMap;
use std::hash::BuildHasher;

use crate::error::Result;
use crate::record::RawRecord;

/// Keys of which a compaction knows the last record; about 50 MB. One segment is always read as a whole, however many it
/// has.
const KEYS: usize = 1_800_000;

/// The rules of a compaction. It is shown what was not compacted before, and then asked for every record.
pub trait Compaction: Send {
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
#[derive(Debug)]
pub struct LastOffsets {
    offsets: HashMap<[u64; 2], u64, foldhash::fast::RandomState>,
    hashers: [foldhash::quality::RandomState; 2],
    room: usize,
}

impl Default for LastOffsets {
    fn default() -> Self {
        Self::with_room_for(KEYS)
    }
}

impl LastOffsets {
    /// With room for so many keys, and as many more as the last segment has.
    pub fn with_room_for(keys: usize) -> Self {
        Self { offsets: HashMap::default(), hashers: Default::default(), room: keys }
    }

    /// What stands for a key.
    pub fn hash(&self, key: &[u8]) -> [u64; 2] {
        [0, 1].map(|i| self.hashers[i].hash_one(key))
    }

    /// Takes note of a key's record.
    pub fn note(&mut self, key: [u64; 2], offset: u64) {
        self.offsets.insert(key, offset);
    }

    /// Whether there is room for more keys.
    pub fn has_room(&self) -> bool {
        self.offsets.len() < self.room
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
    fn note(&mut self, record: &RawRecord<'_>) -> Result<()> {
        if let Some(key) = record.key {
            self.last.note(self.last.hash(key), record.offset);
        }
        Ok(())
    }

    fn has_room(&self) -> bool {
        self.last.has_room()
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

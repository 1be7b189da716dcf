//! The slots of a cache: what each holds, and the marks by which it is known what has changed.

use std::num::NonZeroU32;

use super::key_bytes::KeyBytes;

/// Changed since the last commit.
pub(super) const DIRTY: u8 = 1;
/// Changed since the last checkpoint, committed or not.
pub(super) const UNSAVED: u8 = 2;
/// Being written by a checkpoint that has not finished.
pub(super) const IN_FLIGHT: u8 = 4;
/// Used since the eviction's hand came by.
pub(super) const REFERENCED: u8 = 8;
/// What it held at the last mark is in the undo log.
pub(super) const LOGGED: u8 = 16;
/// Holds a key.
pub(super) const USED: u8 = 32;
/// Differs from the store, or may have to be put back.
pub(super) const PINNED: u8 = DIRTY | UNSAVED | IN_FLIGHT | LOGGED;

/// The number of a slot: stays valid until the next eviction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SlotNo(pub(super) NonZeroU32);

impl SlotNo {
    pub(super) fn new(index: usize) -> Option<Self> {
        u32::try_from(index + 1).ok().and_then(NonZeroU32::new).map(Self)
    }

    #[inline]
    pub(super) fn index(self) -> usize {
        self.0.get() as usize - 1
    }
}

/// One key and what is known of it.
///
/// Slots are looked up at random, so what counts is how many cache lines one lies in. At multiples of 32 bytes one of up to
/// 96, as most are, never lies in three, for which less than 32 bytes a slot are left empty.
#[derive(Debug)]
#[repr(align(32))]
pub(super) struct Slot<S> {
    pub(super) key: KeyBytes,
    pub(super) timestamp: i64,
    pub(super) tag: u32,
    pub(super) heap: HeapSize,
    pub(super) flags: u8,
    /// `None` for a key that is known to be absent.
    pub(super) state: Option<S>,
}

/// Encoded size when a state was last seen encoded: what it is taken to own outside of its slot. In units that let it share
/// a word with the flags; up to 256 MiB.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct HeapSize([u8; 3]);

impl HeapSize {
    pub(super) const UNIT: usize = 16;

    pub(super) fn of(bytes: usize) -> Self {
        let [a, b, c, ..] = bytes.div_ceil(Self::UNIT).min((1 << 24) - 1).to_le_bytes();
        Self([a, b, c])
    }

    pub(super) fn bytes(self) -> usize {
        let [a, b, c] = self.0;
        u32::from_le_bytes([a, b, c, 0]) as usize * Self::UNIT
    }
}

#[derive(Debug)]
pub(super) struct Undo<S> {
    pub(super) slot: SlotNo,
    pub(super) timestamp: i64,
    pub(super) flags: u8,
    pub(super) state: Option<S>,
}

/// Which slots differ from the last commit and from the store, and what they held at the mark.
#[derive(Debug)]
pub(super) struct Marks<S> {
    /// Flags that a slot must have before it may be written: else [`Marks::first_write`] sets them.
    pub(super) need: u8,
    pub(super) dirty: Vec<SlotNo>,
    pub(super) unsaved: Vec<SlotNo>,
    pub(super) in_flight: Vec<SlotNo>,
    pub(super) undo: Vec<Undo<S>>,
    pub(super) dirty_at_mark: usize,
    pub(super) unsaved_at_mark: usize,
}

impl<S: Clone> Marks<S> {
    pub(super) fn new() -> Self {
        Self {
            need: DIRTY | UNSAVED,
            dirty: Vec::new(),
            unsaved: Vec::new(),
            in_flight: Vec::new(),
            undo: Vec::new(),
            dirty_at_mark: 0,
            unsaved_at_mark: 0,
        }
    }

    #[cold]
    #[inline(never)]
    fn first_write(&mut self, no: SlotNo, slot: &mut Slot<S>) {
        if self.need & LOGGED != 0 && slot.flags & LOGGED == 0 {
            let (timestamp, flags, state) = (slot.timestamp, slot.flags, slot.state.clone());
            self.undo.push(Undo { slot: no, timestamp, flags, state });
            slot.flags |= LOGGED;
        }
        if slot.flags & DIRTY == 0 {
            slot.flags |= DIRTY;
            self.dirty.push(no);
        }
        self.unsaved(no, slot);
    }

    pub(super) fn unsaved(&mut self, no: SlotNo, slot: &mut Slot<S>) {
        if slot.flags & UNSAVED == 0 {
            slot.flags |= UNSAVED;
            self.unsaved.push(no);
        }
    }
}

impl<S: Clone> Slot<S> {
    /// Takes note that it is written to at `timestamp`.
    #[inline(always)]
    pub(super) fn touch(&mut self, no: SlotNo, timestamp: i64, marks: &mut Marks<S>) -> &mut Option<S> {
        if self.flags & marks.need != marks.need {
            marks.first_write(no, self);
        }
        self.flags |= REFERENCED;
        self.timestamp = self.timestamp.max(timestamp);
        &mut self.state
    }
}

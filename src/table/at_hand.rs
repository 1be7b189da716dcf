//! The record at hand, as the tables of its task need to know it.

use std::cell::Cell;

/// What a task tells its tables of the record that its agent has at hand.
#[derive(Debug)]
pub struct AtHand {
    timestamp: Cell<i64>,
    place: Cell<usize>,
}

/// No key was expected for the record at hand.
const NO_PLACE: usize = usize::MAX;

impl Default for AtHand {
    fn default() -> Self {
        Self { timestamp: Cell::new(0), place: Cell::new(NO_PLACE) }
    }
}

impl AtHand {
    /// Its timestamp, in milliseconds since 1970.
    #[inline]
    pub fn timestamp(&self) -> i64 {
        self.timestamp.get()
    }

    /// A record of that timestamp is at hand.
    #[inline]
    pub fn set_timestamp(&self, timestamp: i64) {
        self.timestamp.set(timestamp);
    }

    /// Its place among the keys that [`AnyPartition::expect`](super::AnyPartition::expect) was told last.
    #[inline]
    pub(super) fn place(&self) -> usize {
        self.place.get()
    }

    /// Says which of the expected keys it has, by their order.
    #[inline]
    pub fn set_place(&self, place: usize) {
        self.place.set(place);
    }

    /// Of the records to come no key is expected any more.
    pub fn forget_place(&self) {
        self.place.set(NO_PLACE);
    }
}

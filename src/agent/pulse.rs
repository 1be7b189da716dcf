//! What others may see of a task at work without asking its thread.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// The agent's turns, and the record that it has at hand.
///
/// One task writes, a watcher reads now and then; each value stands for itself, so that no order is needed.
#[derive(Debug, Default)]
pub(crate) struct Pulse {
    offset: AtomicU64,
    source: AtomicU64,
    turns: AtomicU64,
    at_work: AtomicBool,
    on_thread: AtomicBool,
}

/// A [`Pulse`] at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Beat {
    /// Offset of the record at hand; of several the oldest.
    pub(crate) offset: u64,
    /// Place of its topic among the agent's.
    pub(crate) source: usize,
    /// Counts the turns of the agent.
    turns: u64,
    /// Whether it has its turn.
    pub(crate) at_work: bool,
}

impl Pulse {
    /// The agent has this record at hand.
    #[inline]
    pub(crate) fn at(&self, offset: u64) {
        self.offset.store(offset, Ordering::Relaxed);
    }

    /// The records at hand are of this source.
    pub(crate) fn of(&self, source: usize) {
        self.source.store(source as u64, Ordering::Relaxed);
    }

    /// The agent's turn begins, or ends.
    pub(crate) fn turn(&self, at_work: bool) {
        self.turns.fetch_add(u64::from(at_work), Ordering::Relaxed);
        self.at_work.store(at_work, Ordering::Relaxed);
    }

    /// The agent has its thread, or has given it back.
    pub(crate) fn thread(&self, taken: bool) {
        self.on_thread.store(taken, Ordering::Relaxed);
    }

    /// How it is now.
    pub(crate) fn beat(&self) -> Beat {
        Beat {
            offset: self.offset.load(Ordering::Relaxed),
            source: self.source.load(Ordering::Relaxed) as usize,
            turns: self.turns.load(Ordering::Relaxed),
            at_work: self.at_work.load(Ordering::Relaxed),
        }
    }

    /// Whether the agent has its thread.
    pub(crate) fn holds_thread(&self) -> bool {
        self.on_thread.load(Ordering::Relaxed)
    }
}

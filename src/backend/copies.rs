//! Warm copies of state: what members of a group tell each other of theirs, so that a unit goes to where its state is.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::Unit;

/// Records of a changelog by which a copy may be behind and still be taken over: what a start replays in a moment.
pub const CAUGHT_UP: u64 = 10_000;

/// What a member has of the state of its group's units, beside those that it owns. Its owner keeps it up to date, and the
/// backend reads it whenever the group shares out its units.
#[derive(Debug, Default)]
pub struct Copies {
    standbys: u32,
    place: String,
    behind: Mutex<BTreeMap<Unit, Option<u64>>>,
}

impl Copies {
    /// Of a member who wants `standbys` members beside the owner to keep a copy of each unit. `place` names what the member's
    /// copies are in: members with the same share them, and no two have one open.
    pub fn new(standbys: u32, place: String) -> Self {
        Self { standbys, place, behind: Mutex::default() }
    }

    /// How many members beside the owner are to keep a copy.
    pub fn standbys(&self) -> u32 {
        self.standbys
    }

    /// What the copies are in.
    pub fn place(&self) -> &str {
        &self.place
    }

    /// There is a copy, which is behind by so many records; `None` where it is there and nobody has looked.
    pub fn set(&self, unit: Unit, behind: Option<u64>) {
        self.lock().insert(unit, behind);
    }

    /// There is no copy, or it is the state of the unit's owner.
    pub fn remove(&self, unit: Unit) {
        self.lock().remove(&unit);
    }

    /// All copies, and by how many records each is behind, where that is known.
    pub fn all(&self) -> Vec<(Unit, Option<u64>)> {
        self.lock().iter().map(|(unit, behind)| (*unit, *behind)).collect()
    }

    /// By how many records a copy is behind, where that is known.
    pub fn behind(&self, unit: Unit) -> Option<u64> {
        self.lock().get(&unit).copied().flatten()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Unit, Option<u64>>> {
        self.behind.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A copy that a member is to keep warm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standby {
    /// Of this unit.
    pub unit: Unit,
    /// Units will move when it has caught up: then [`Consumer::share_out_again`](super::Consumer::share_out_again).
    pub awaited: bool,
}

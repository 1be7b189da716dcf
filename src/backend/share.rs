//! Fair shares: how many units a member of a group holds, which it takes and which it gives back.

use std::collections::{BTreeMap, BTreeSet};

use super::{Assignment, AssignmentSet, Unit};
use crate::error::{Error, ErrorKind, Result};

/// What the member of that rank holds when `units` are shared out among `members`: shares differ by at most one.
pub(super) fn fair_share(units: usize, members: usize, rank: usize) -> usize {
    let members = members.max(1);
    units / members + usize::from(rank < units % members)
}

/// The units that a member holds, each with what proves that it does.
///
/// Units are taken in the order of partition, then set, and given back from the end of that order, so that every
/// set is shared out and a member keeps what it has as far as its share allows.
#[derive(Debug)]
pub(super) struct Holding<L> {
    order: Vec<Unit>,
    held: BTreeMap<(u32, usize), L>,
    /// Reported as wanted and not released yet.
    wanted: BTreeSet<(u32, usize)>,
}

impl<L> Holding<L> {
    pub(super) fn new(sets: &[AssignmentSet]) -> Self {
        let mut order: Vec<_> = sets
            .iter()
            .enumerate()
            .flat_map(|(set, of)| (0..of.partitions).map(move |partition| Unit { set, partition }))
            .collect();
        order.sort_by_key(place);
        Self { order, held: BTreeMap::new(), wanted: BTreeSet::new() }
    }

    /// Number of units in all sets.
    pub(super) fn units(&self) -> usize {
        self.order.len()
    }

    /// Units that are held and not wanted elsewhere.
    pub(super) fn kept(&self) -> usize {
        self.held.len() - self.wanted.len()
    }

    /// The units that others hold, or nobody.
    pub(super) fn others(&self) -> impl Iterator<Item = Unit> {
        self.order.iter().filter(|unit| !self.held.contains_key(&place(unit))).copied()
    }

    /// Takes free units up to `share`, or names those above it; `None` when there is nothing to do.
    ///
    /// `take` returns the proof of a unit that was free.
    pub(super) fn towards(
        &mut self,
        share: usize,
        mut take: impl FnMut(Unit) -> Result<Option<L>>,
    ) -> Result<Option<Assignment>> {
        let kept = self.kept();
        if kept > share {
            let surplus: Vec<_> = (self.held.keys().rev().copied())
                .filter(|place| !self.wanted.contains(place))
                .take(kept - share)
                .collect();
            self.wanted.extend(&surplus);
            let units = surplus.into_iter().map(|(partition, set)| Unit { set, partition }).collect();
            return Ok(Some(Assignment::Wanted(units)));
        }
        let mut gained = Vec::new();
        for unit in self.order.iter().filter(|_| kept < share) {
            if kept + gained.len() == share {
                break;
            }
            if self.held.contains_key(&place(unit)) {
                continue;
            }
            // An error after the first unit must not lose the units that were taken.
            match take(*unit) {
                Ok(Some(proof)) => {
                    self.held.insert(place(unit), proof);
                    gained.push(*unit);
                }
                Ok(None) => {}
                Err(error) if gained.is_empty() => return Err(error),
                Err(_) => break,
            }
        }
        Ok((!gained.is_empty()).then_some(Assignment::Gained(gained)))
    }

    /// Gives back a unit; dropping the proof frees it.
    pub(super) fn release(&mut self, unit: Unit) -> Result<L> {
        self.wanted.remove(&place(&unit));
        self.held.remove(&place(&unit)).ok_or_else(|| {
            Error::new(ErrorKind::Conflict, format!("unit {} of set {} is not held here", unit.partition, unit.set))
        })
    }

    /// Gives back everything.
    pub(super) fn release_all(&mut self) -> Vec<(Unit, L)> {
        self.wanted.clear();
        std::mem::take(&mut self.held)
            .into_iter()
            .map(|((partition, set), proof)| (Unit { set, partition }, proof))
            .collect()
    }
}

fn place(unit: &Unit) -> (u32, usize) {
    (unit.partition, unit.set)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_add_up_and_differ_by_one() {
        for units in 0..40 {
            for members in 1..9 {
                let shares: Vec<_> = (0..members).map(|rank| fair_share(units, members, rank)).collect();
                assert_eq!(shares.iter().sum::<usize>(), units);
                assert!(shares.iter().max().unwrap() - shares.iter().min().unwrap() <= 1, "{shares:?}");
            }
        }
    }

    #[test]
    fn a_surplus_is_named_once_and_every_set_is_shared() {
        let sets = ["a", "b"].map(|name| AssignmentSet { name: name.into(), partitions: 2, topics: Vec::new() });
        let mut holding = Holding::new(&sets);
        let unit = |set, partition| Unit { set, partition };
        let gained = holding.towards(4, |_| Ok(Some(()))).unwrap();
        assert_eq!(gained, Some(Assignment::Gained(vec![unit(0, 0), unit(1, 0), unit(0, 1), unit(1, 1)])));
        let wanted = holding.towards(2, |_| Ok(Some(()))).unwrap();
        assert_eq!(wanted, Some(Assignment::Wanted(vec![unit(1, 1), unit(0, 1)])));
        assert_eq!(holding.towards(2, |_| Ok(Some(()))).unwrap(), None);
        holding.release(unit(0, 1)).unwrap();
        assert!(holding.release(unit(0, 1)).is_err());
        assert_eq!(holding.towards(3, |_| Ok(Some(()))).unwrap(), Some(Assignment::Gained(vec![unit(0, 1)])));
    }
}

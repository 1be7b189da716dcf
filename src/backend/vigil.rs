//! Units that a member of a group sees kept from those who would work on them.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{Owner, Unit, Withheld};
use crate::clock::Moment;

/// A unit that has been kept back for this long is named, and again whenever that time has doubled.
const WITHHELD_AFTER: Duration = Duration::from_secs(5);

/// What one member sees.
#[derive(Debug, Default)]
pub(super) struct Vigil {
    seen: BTreeMap<Unit, Seen>,
}

#[derive(Debug)]
struct Seen {
    owner: Option<Owner>,
    since: Moment,
    name_after: Duration,
}

/// Whom a unit that is not this member's own has as its owner.
pub(super) type Others = Vec<(Unit, Option<Owner>)>;

/// Those that nobody works on, or that a process holds which has more than `most` while this member is `short`.
pub(super) fn kept_back(others: Others, short: bool, most: usize) -> Others {
    let mut held: BTreeMap<u32, usize> = BTreeMap::new();
    for owner in others.iter().filter_map(|(_, owner)| *owner) {
        *held.entry(owner.process).or_default() += 1;
    }
    let mut kept = others;
    kept.retain(|(_, owner)| match owner {
        None => true,
        Some(owner) if owner.process == std::process::id() => false,
        Some(owner) => owner.stopped == Some(true) || short && held[&owner.process] > most,
    });
    kept
}

impl Vigil {
    /// Takes note of what is kept back now, and names what has been for long.
    pub(super) fn look(&mut self, kept: Others, now: Moment) -> Vec<Withheld> {
        let mut seen = std::mem::take(&mut self.seen);
        let mut named = Vec::new();
        for (unit, owner) in kept {
            let same = |seen: &Seen| seen.owner.map(|owner| owner.process) == owner.map(|owner| owner.process);
            let new = Seen { owner, since: now, name_after: WITHHELD_AFTER };
            let mut seen = seen.remove(&unit).filter(same).unwrap_or(new);
            seen.owner = owner;
            let time = now.since(seen.since);
            if time >= seen.name_after {
                seen.name_after = time * 2;
                named.push(Withheld { unit, owner, time });
            }
            self.seen.insert(unit, seen);
        }
        named
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;

    fn unit(partition: u32) -> Unit {
        Unit { set: 0, partition }
    }

    fn of(process: u32, stopped: bool) -> Option<Owner> {
        Some(Owner { process, stopped: Some(stopped) })
    }

    #[test]
    fn who_holds_no_more_than_its_share_keeps_nothing_back() {
        let others = vec![(unit(0), of(1, false)), (unit(1), of(1, false)), (unit(2), of(2, true)), (unit(3), None)];
        let kept = |short, most| -> Vec<u32> {
            kept_back(others.clone(), short, most).into_iter().map(|(unit, _)| unit.partition).collect()
        };
        assert_eq!(kept(true, 2), [2, 3]);
        assert_eq!(kept(true, 1), [0, 1, 2, 3]);
        assert_eq!(kept(false, 1), [2, 3]);
    }

    #[test]
    fn a_unit_is_named_after_a_while_and_ever_more_seldom() {
        let clock = Clock::manual(0);
        let mut vigil = Vigil::default();
        let mut look = |owner, seconds: u64| {
            let mut named = Vec::new();
            for _ in 0..seconds {
                let kept = vec![(unit(3), owner)];
                named.extend(vigil.look(kept, clock.moment()).into_iter().map(|withheld| withheld.time.as_secs()));
                clock.advance(Duration::from_secs(1));
            }
            named
        };
        assert_eq!(look(of(7, false), 12), [5, 10]);
        assert_eq!(look(of(7, true), 10), [20], "the same process");
        assert_eq!(look(of(8, true), 6), [5], "another");
        vigil.look(Vec::new(), clock.moment());
        assert_eq!(vigil.look(vec![(unit(3), of(8, true))], clock.moment()), [], "it was given back in between");
    }
}

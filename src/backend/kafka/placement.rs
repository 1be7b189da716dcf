//! Who works on which unit of a set, and who keeps a warm copy of its state: a pure function of what the members have.
//!
//! It first decides where everything should be in the end, balanced and with as few moves as that takes. Then it looks who is
//! ready. A unit that should move to a member whose copy is not caught up stays where its state is, and the member gets a copy
//! first; it asks for the units to be shared out again when it has caught up.

use crate::backend::CAUGHT_UP;

/// How far behind a copy is of which only is known that it is there.
pub(super) const OF_ANY_AGE: u64 = u64::MAX - 1;

/// Behind by more than any copy: there is none.
const COLD: u64 = u64::MAX;

/// A member, as it was when it joined.
#[derive(Clone, Debug, Default)]
pub(super) struct Member {
    /// What its copies are in; members with the same share them, and no two can have one open.
    pub(super) place: String,
    /// The units that it owns.
    pub(super) owns: Vec<usize>,
    /// The copies that it has beside them, and by how many records each is behind.
    pub(super) copies: Vec<(usize, u64)>,
}

/// A copy that a member is to keep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Copy {
    pub(super) member: usize,
    /// Something moves as soon as it has caught up: then the units should be shared out again.
    pub(super) awaited: bool,
}

/// What becomes of a unit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Placed {
    pub(super) owner: usize,
    /// By member; never the owner, nor another in its place.
    pub(super) copies: Vec<Copy>,
}

/// Places units 0 to `units` - 1 with `standbys` copies each. There is at least one member; their order must not depend on
/// who computes this. `busy` says how much else each member has.
pub(super) fn place(units: usize, members: &[Member], standbys: usize, busy: &[usize]) -> Vec<Placed> {
    let state = State::of(units, members);
    let owners = state.share_out(busy);
    let copies = state.spread_copies(&owners, standbys, busy);
    let mut now = vec![0; members.len()];
    // Those that are where they should be, first: the others go to where the least is meanwhile.
    let stays: Vec<bool> = (0..units).map(|unit| standbys == 0 || state.is_ready(owners[unit], unit)).collect();
    owners.iter().zip(&stays).filter(|(_, stays)| **stays).for_each(|(owner, _)| now[*owner] += 1);
    (0..units)
        .map(|unit| {
            let goal = owners[unit];
            let owner = if stays[unit] { goal } else { state.meanwhile(unit, goal, &now) };
            if !stays[unit] {
                now[owner] += 1;
            }
            Placed { owner, copies: state.copies_now(unit, owner, goal, &copies[unit], standbys) }
        })
        .collect()
}

/// The members' copies, as a table.
struct State<'a> {
    units: usize,
    members: &'a [Member],
    /// By unit.
    owners: Vec<Option<usize>>,
    /// By member, then by unit: by how much the member's copy is behind.
    behind: Vec<Vec<u64>>,
}

impl<'a> State<'a> {
    fn of(units: usize, members: &'a [Member]) -> Self {
        let mut owners = vec![None; units];
        let mut behind = vec![vec![COLD; units]; members.len()];
        for (number, member) in members.iter().enumerate() {
            for unit in member.owns.iter().filter(|unit| **unit < units) {
                // Who says so first: that two do is over when one of them has heard of it.
                owners[*unit].get_or_insert(number);
            }
        }
        // What is in a place is there for all of its members.
        for (number, member) in members.iter().enumerate() {
            for other in members.iter().filter(|other| other.place == member.place) {
                for (unit, lag) in other.copies.iter().filter(|(unit, _)| *unit < units) {
                    behind[number][*unit] = behind[number][*unit].min((*lag).min(OF_ANY_AGE));
                }
            }
            for (unit, owner) in owners.iter().enumerate() {
                if owner.is_some_and(|owner| members[owner].place == member.place) {
                    behind[number][unit] = 0;
                }
            }
        }
        Self { units, members, owners, behind }
    }

    fn is_ready(&self, member: usize, unit: usize) -> bool {
        self.behind[member][unit] <= CAUGHT_UP
    }

    /// How good a member's copy is: caught up, on its way, of any age, or not there. No finer, so that what is decided does not
    /// change with every record.
    fn rank(&self, member: usize, unit: usize) -> u8 {
        match self.behind[member][unit] {
            0..=CAUGHT_UP => 0,
            OF_ANY_AGE => 2,
            COLD => 3,
            _ => 1,
        }
    }

    /// The owner of each unit in the end: no member has two more than another. A unit moves only where that asks for it, and
    /// rather to a member that has a copy.
    fn share_out(&self, busy: &[usize]) -> Vec<usize> {
        let mut loads = vec![0; self.members.len()];
        let mut owned: Vec<Vec<usize>> = vec![Vec::new(); self.members.len()];
        for (unit, owner) in self.owners.iter().enumerate() {
            if let Some(owner) = owner {
                loads[*owner] += 1;
                owned[*owner].push(unit);
            }
        }
        for unit in (0..self.units).filter(|unit| self.owners[*unit].is_none()) {
            let key = |member: &usize| (self.rank(*member, unit), loads[*member], busy[*member], *member);
            let Some(member) = (0..self.members.len()).min_by_key(key) else { continue };
            loads[member] += 1;
            owned[member].push(unit);
        }
        loop {
            let most = loads.iter().copied().max().unwrap_or(0);
            let least = loads.iter().copied().min().unwrap_or(0);
            if most - least < 2 {
                break;
            }
            let givers = (0..loads.len()).filter(|member| loads[*member] == most);
            let moves =
                givers.flat_map(|from| owned[from].iter().map(move |unit| (from, *unit))).flat_map(|(from, unit)| {
                    let takers = (0..loads.len()).filter(|member| loads[*member] == least);
                    takers.map(move |to| (from, unit, to))
                });
            // A unit without an owner moves for nothing.
            let key = |(from, unit, to): &(usize, usize, usize)| {
                (self.rank(*to, *unit), self.owners[*unit].is_some(), busy[*to], *unit, *from, *to)
            };
            let Some((from, unit, to)) = moves.min_by_key(key) else { break };
            owned[from].retain(|owned| *owned != unit);
            owned[to].push(unit);
            loads[from] -= 1;
            loads[to] += 1;
        }
        let mut owners = vec![0; self.units];
        for (member, units) in owned.iter().enumerate() {
            units.iter().for_each(|unit| owners[*unit] = member);
        }
        owners
    }

    /// The members with copies of each unit in the end: as many as there are places for, balanced together with what the
    /// members own as far as places allow it.
    fn spread_copies(&self, owners: &[usize], standbys: usize, busy: &[usize]) -> Vec<Vec<usize>> {
        let mut loads = busy.to_vec();
        owners.iter().for_each(|owner| loads[*owner] += 1);
        let mut copies: Vec<Vec<usize>> = vec![Vec::new(); self.units];
        for _ in 0..standbys {
            for unit in 0..self.units {
                let fits =
                    (0..self.members.len()).filter(|member| self.fits(*member, owners[unit], &copies[unit], None));
                let key = |member: &usize| (self.rank(*member, unit), loads[*member], *member);
                if let Some(member) = fits.min_by_key(key) {
                    loads[member] += 1;
                    copies[unit].push(member);
                }
            }
        }
        // Each move brings the loads nearer to each other, so that there is a last one.
        while let Some((unit, from, to)) = self.best_move(owners, &copies, &loads) {
            copies[unit].retain(|member| *member != from);
            copies[unit].push(to);
            loads[from] -= 1;
            loads[to] += 1;
        }
        copies
    }

    /// The move of a copy that makes the largest difference of loads smaller.
    fn best_move(&self, owners: &[usize], copies: &[Vec<usize>], loads: &[usize]) -> Option<(usize, usize, usize)> {
        let mut best: Option<((usize, u8, usize, usize), usize)> = None;
        for (unit, have) in copies.iter().enumerate() {
            for from in have {
                for to in 0..loads.len() {
                    let gain = loads[*from].saturating_sub(loads[to]);
                    if gain < 2 || !self.fits(to, owners[unit], have, Some(*from)) {
                        continue;
                    }
                    let key = (usize::MAX - gain, self.rank(to, unit), unit, to);
                    if best.is_none_or(|(least, _)| key < least) {
                        best = Some((key, *from));
                    }
                }
            }
        }
        best.map(|((_, _, unit, to), from)| (unit, from, to))
    }

    /// Whether a member can have a copy beside the owner and those that have one, but for the one that it is to replace.
    fn fits(&self, member: usize, owner: usize, copies: &[usize], instead: Option<usize>) -> bool {
        let place = |member: usize| &*self.members[member].place;
        let taken = copies.iter().filter(|copy| Some(**copy) != instead).chain([&owner]);
        !taken.into_iter().any(|other| place(*other) == place(member)) && instead != Some(member)
    }

    /// Who works on a unit while the member that should have it is not ready: its owner, or else whoever is.
    fn meanwhile(&self, unit: usize, goal: usize, loads: &[usize]) -> usize {
        if let Some(owner) = self.owners[unit] {
            return owner;
        }
        let key = |member: &usize| {
            let behind = self.behind[*member][unit];
            (if behind <= CAUGHT_UP { 0 } else { behind }, *member != goal, loads[*member], behind, *member)
        };
        (0..self.members.len()).min_by_key(key).unwrap_or(goal)
    }

    /// The copies for now: those that should be there in the end, and as many of today's as it takes until they are caught up.
    fn copies_now(&self, unit: usize, owner: usize, goal: usize, copies: &[usize], standbys: usize) -> Vec<Copy> {
        let wanted: Vec<usize> = if owner == goal { copies.to_vec() } else { [&[goal], copies].concat() };
        let mut now: Vec<usize> = Vec::new();
        // In the owner's place is its own state.
        for member in wanted {
            if self.fits(member, owner, &now, None) {
                now.push(member);
            }
        }
        let steady = now.len();
        let mut ready = now.iter().filter(|member| self.is_ready(**member, unit)).count();
        let mut others: Vec<usize> = (0..self.members.len()).filter(|member| self.is_ready(*member, unit)).collect();
        others.sort_by_key(|member| (self.behind[*member][unit], *member));
        for member in others {
            if ready < standbys && self.fits(member, owner, &now, None) {
                now.push(member);
                ready += 1;
            }
        }
        let moves = owner != goal || now.len() > steady;
        let mut now: Vec<Copy> = now
            .iter()
            .enumerate()
            .map(|(at, member)| Copy {
                member: *member,
                awaited: moves && at < steady && !self.is_ready(*member, unit),
            })
            .collect();
        now.sort_by_key(|copy| copy.member);
        now
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn member(place: &str, owns: &[usize], copies: &[(usize, u64)]) -> Member {
        Member { place: place.to_owned(), owns: owns.to_vec(), copies: copies.to_vec() }
    }

    fn placed(units: usize, members: &[Member], standbys: usize) -> Vec<Placed> {
        place(units, members, standbys, &vec![0; members.len()])
    }

    fn owners(placed: &[Placed]) -> Vec<usize> {
        placed.iter().map(|placed| placed.owner).collect()
    }

    fn holders(placed: &Placed) -> Vec<usize> {
        placed.copies.iter().map(|copy| copy.member).collect()
    }

    #[test]
    fn the_first_members_share_what_nobody_has() {
        let members = [member("a", &[], &[]), member("b", &[], &[])];
        let placed = placed(4, &members, 1);
        assert_eq!(owners(&placed), [0, 1, 0, 1]);
        for placed in &placed {
            assert_eq!(placed.copies, [Copy { member: 1 - placed.owner, awaited: false }]);
        }
    }

    #[test]
    fn units_of_one_that_went_are_with_those_that_hold_them_warm() {
        // The third member is gone; it had 4 and 5.
        let members = [member("a", &[0, 1], &[(4, 3), (5, 20), (2, 0)]), member("b", &[2, 3], &[(0, 0), (1, 0)])];
        let placed = placed(6, &members, 1);
        // Both are warm at the first, which gives another away for them that is warm at the second.
        assert_eq!(owners(&placed), [1, 0, 1, 1, 0, 0]);
        assert!(placed.iter().all(|placed| placed.copies.len() == 1), "{placed:?}");
    }

    #[test]
    fn a_newcomer_gets_copies_first_and_units_when_it_has_caught_up() {
        let old = [member("a", &[0, 1], &[(2, 0), (3, 0)]), member("b", &[2, 3], &[(0, 0), (1, 0)])];
        let mut members = [old[0].clone(), old[1].clone(), member("c", &[], &[])];
        let first = placed(4, &members, 1);
        assert_eq!(owners(&first), [0, 0, 1, 1]);
        let awaited: Vec<usize> =
            (0..4).filter(|unit| first[*unit].copies.contains(&Copy { member: 2, awaited: true })).collect();
        assert!(!awaited.is_empty(), "{first:?}");
        for unit in 0..4 {
            assert!(
                holders(&first[unit]).contains(&(1 - first[unit].owner)),
                "no copy is given up for a cold one: {first:?}"
            );
        }
        members[2].copies = awaited.iter().map(|unit| (*unit, CAUGHT_UP + 1)).collect();
        assert_eq!(placed(4, &members, 1), first, "it is on its way");
        members[2].copies = awaited.iter().map(|unit| (*unit, CAUGHT_UP)).collect();
        let then = owners(&placed(4, &members, 1));
        assert_eq!(then.iter().filter(|owner| **owner == 2).count(), 1, "{then:?}");
    }

    #[test]
    fn without_standbys_units_move_at_once() {
        let members = [member("a", &[0, 1, 2, 3], &[]), member("b", &[], &[])];
        let placed = placed(4, &members, 0);
        assert_eq!(owners(&placed).iter().filter(|owner| **owner == 1).count(), 2);
        assert!(placed.iter().all(|placed| placed.copies.is_empty()));
    }

    #[test]
    fn workers_on_one_folder_need_no_copies_of_each_other() {
        let members = [member("a", &[0, 1, 2, 3], &[]), member("a", &[], &[])];
        let placed = placed(4, &members, 2);
        assert_eq!(owners(&placed).iter().filter(|owner| **owner == 1).count(), 2, "the state is there: {placed:?}");
        assert!(placed.iter().all(|placed| placed.copies.is_empty()), "{placed:?}");
    }

    #[test]
    fn a_unit_is_rather_with_an_old_copy_than_with_none() {
        let members = [member("a", &[], &[]), member("b", &[], &[(0, OF_ANY_AGE)]), member("c", &[], &[])];
        for standbys in [0, 1] {
            assert_eq!(placed(1, &members, standbys)[0].owner, 1);
        }
    }

    #[test]
    fn of_late_copies_the_one_that_is_least_behind_takes_over() {
        let members = [member("a", &[], &[(0, 90_000)]), member("b", &[], &[(0, 40_000)])];
        let placed = placed(1, &members, 1);
        assert_eq!((placed[0].owner, holders(&placed[0])), (1, vec![0]));
    }

    fn lag() -> impl Strategy<Value = u64> {
        prop_oneof![Just(0), 1..CAUGHT_UP, CAUGHT_UP + 1..1_000_000, Just(OF_ANY_AGE)]
    }

    /// Some members, in some places, with copies of some units; some units are owned.
    fn group() -> impl Strategy<Value = (usize, Vec<Member>)> {
        (1..24_usize, 1..7_usize).prop_flat_map(|(units, members)| {
            let owners = prop::collection::vec(prop::option::of(0..members), units);
            let copies = prop::collection::vec(prop::collection::btree_map(0..units, lag(), 0..units), members);
            let places = prop::collection::vec(0..members * 2, members);
            (Just(units), owners, copies, places).prop_map(|(units, owners, copies, places)| {
                let members = copies.into_iter().zip(places).enumerate().map(|(number, (copies, place))| {
                    let owns: Vec<usize> = (0..units).filter(|unit| owners[*unit] == Some(number)).collect();
                    let copies = copies.into_iter().filter(|(unit, _)| !owns.contains(unit)).collect();
                    Member { place: place.to_string(), owns, copies }
                });
                (units, members.collect())
            })
        })
    }

    /// What the members have a while later: they own what they were given, where nobody else had it, and all copies are caught
    /// up.
    fn later(members: &[Member], placed: &[Placed]) -> Vec<Member> {
        let owner_of = |unit: usize| (0..members.len()).find(|member| members[*member].owns.contains(&unit));
        let mut later: Vec<Member> = members.iter().map(|member| member_at(&member.place)).collect();
        for (unit, Placed { owner, copies }) in placed.iter().enumerate() {
            match owner_of(unit) {
                // The one before gives it back, and it is nobody's; its copy is there.
                Some(before) if before != *owner => {
                    later[before].copies.push((unit, 0));
                    later[*owner].copies.push((unit, 5));
                }
                _ => later[*owner].owns.push(unit),
            }
            for copy in copies.iter().filter(|copy| owner_of(unit) != Some(copy.member)) {
                later[copy.member].copies.push((unit, 1));
            }
        }
        later
    }

    fn member_at(place: &str) -> Member {
        member(place, &[], &[])
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(600))]

        #[test]
        fn whoever_places_does_it_rightly((units, members) in group(), standbys in 0..4_usize) {
            let placed = placed(units, &members, standbys);
            prop_assert_eq!(&placed, &super::place(units, &members, standbys, &vec![0; members.len()]));
            prop_assert_eq!(placed.len(), units);
            let state = State::of(units, &members);
            for (unit, Placed { owner, copies }) in placed.iter().enumerate() {
                let mut places: BTreeSet<&str> = BTreeSet::from([&*members[*owner].place]);
                for copy in copies {
                    prop_assert!(places.insert(&members[copy.member].place), "two in one place: {:?}", placed);
                }
                if standbys == 0 {
                    prop_assert!(copies.is_empty());
                }
                // While something moves there are more, and never fewer that are caught up than there could be.
                prop_assert!(copies.len() <= 2 * standbys + 1);
                let all: BTreeSet<&str> = members.iter().map(|member| &*member.place).collect();
                prop_assert!(copies.len() >= standbys.min(all.len() - 1));
                let ready: BTreeSet<&str> = (0..members.len())
                    .filter(|member| state.is_ready(*member, unit) && members[*member].place != members[*owner].place)
                    .map(|member| &*members[member].place)
                    .collect();
                let kept = copies.iter().filter(|copy| state.is_ready(copy.member, unit)).count();
                prop_assert!(kept >= standbys.min(ready.len()), "unit {}: {:?}", unit, placed);
                // Nobody who is not caught up takes over from one who is.
                if standbys > 0 && (0..members.len()).any(|member| state.is_ready(member, unit)) {
                    prop_assert!(state.is_ready(*owner, unit), "unit {}: {:?}", unit, placed);
                }
            }
        }

        #[test]
        fn it_comes_to_rest_balanced((units, members) in group(), standbys in 0..4_usize) {
            let mut members = members;
            let mut before = None;
            for round in 0.. {
                let placed = placed(units, &members, standbys);
                let next = later(&members, &placed);
                if before.as_ref() == Some(&placed) {
                    break;
                }
                prop_assert!(round < 12, "it does not come to rest: {:?}", placed);
                before = Some(placed);
                members = next;
            }
            let placed = before.unwrap();
            let mut loads = vec![0; members.len()];
            placed.iter().for_each(|placed| loads[placed.owner] += 1);
            prop_assert!(loads.iter().max().unwrap() - loads.iter().min().unwrap() <= 1, "{:?}", loads);
            let places: BTreeSet<&str> = members.iter().map(|member| &*member.place).collect();
            for placed in &placed {
                prop_assert_eq!(placed.copies.len(), standbys.min(places.len() - 1));
                prop_assert!(placed.copies.iter().all(|copy| !copy.awaited));
            }
        }

        #[test]
        fn what_is_balanced_and_warm_stays(units in 1..24_usize, count in 2..6_usize, standbys in 0..3_usize) {
            let mut members: Vec<Member> = (0..count).map(|number| member_at(&number.to_string())).collect();
            for _ in 0..4 {
                let placed = placed(units, &members, standbys);
                members = later(&members, &placed);
            }
            let now: Vec<Vec<usize>> = members.iter().map(|member| member.owns.clone()).collect();
            let owners = owners(&placed(units, &members, standbys));
            for (member, owns) in now.iter().enumerate() {
                prop_assert!(owns.iter().all(|unit| owners[*unit] == member));
            }
            // One goes; what it owned is with one that is warm, and whatever moves for that goes to one that is warm.
            let gone = members.remove(0);
            let after = super::place(units, &members, standbys, &vec![0; members.len()]);
            let state = State::of(units, &members);
            for (unit, Placed { owner, .. }) in after.iter().enumerate().filter(|_| standbys > 0) {
                prop_assert!(state.is_ready(*owner, unit), "{:?} of {:?}", after, gone);
            }
        }
    }
}

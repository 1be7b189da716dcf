//! What the members of a group and the one that leads it tell each other when units are shared out: what everybody has, and
//! what it is to own and to keep warm. Both are the user's part of Kafka's messages, as JSON.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::placement::{self, Member};
use crate::backend::{AssignmentSet, Copies, Standby, Unit};

/// What is told looks so; who tells something else is of another release.
const VERSION: u32 = 1;

/// A partition as the cluster names it.
pub(super) type Partition = (String, i32);

/// What a member tells.
#[derive(Debug, Serialize, Deserialize)]
struct Told {
    gretchen: u32,
    place: String,
    standbys: u32,
    sets: Vec<ToldSet>,
}

#[derive(Debug, Serialize, Deserialize)]
struct ToldSet {
    /// The first stands for the set.
    topics: Vec<String>,
    /// Units, and by how much each copy is behind.
    copies: Vec<(usize, Option<u64>)>,
}

/// What a member is told, beside the partitions that are its own.
#[derive(Debug, Serialize, Deserialize)]
struct Given {
    gretchen: u32,
    standbys: Vec<GivenSet>,
}

#[derive(Debug, Serialize, Deserialize)]
struct GivenSet {
    topic: String,
    /// Partitions, and whether something moves when the copy has caught up.
    copies: Vec<(usize, bool)>,
}

/// What a member tells, for the message by which it joins. `topics` are those of its sets as the cluster names them.
pub(super) fn tell(sets: &[AssignmentSet], topics: impl Fn(&AssignmentSet) -> Vec<String>, copies: &Copies) -> Vec<u8> {
    let all = copies.all();
    let of_set = |set: usize| all.iter().filter(move |(unit, _)| unit.set == set);
    let told = Told {
        gretchen: VERSION,
        place: copies.place().to_owned(),
        standbys: copies.standbys(),
        sets: sets
            .iter()
            .enumerate()
            .map(|(number, set)| ToldSet {
                topics: topics(set),
                copies: of_set(number).map(|(unit, behind)| (unit.partition as usize, *behind)).collect(),
            })
            .collect(),
    };
    // Texts and numbers always fit.
    serde_json::to_vec(&told).unwrap_or_default()
}

/// A member as the leader sees it.
#[derive(Clone, Debug, Default)]
pub(super) struct Joined {
    pub(super) id: String,
    pub(super) told: Vec<u8>,
    pub(super) owns: Vec<Partition>,
    /// When it came to own that.
    pub(super) generation: i32,
}

/// A member's part.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Share {
    pub(super) owns: Vec<Partition>,
    /// What it is told beside that.
    pub(super) given: Vec<u8>,
}

/// Shares out the units of all sets; `partitions_of` says how many a topic has. `None` where a member tells nothing that this
/// release understands: then Kafka's own strategy must do it.
pub(super) fn share_out(members: &[Joined], partitions_of: impl Fn(&str) -> usize) -> Option<Vec<Share>> {
    let told = members
        .iter()
        .map(|member| serde_json::from_slice(&member.told).ok().filter(|told: &Told| told.gretchen == VERSION))
        .collect::<Option<Vec<Told>>>()?;
    let standbys = told.iter().map(|told| told.standbys).max()? as usize;
    let mut order: Vec<usize> = (0..members.len()).collect();
    order.sort_by(|a, b| members[*a].id.cmp(&members[*b].id));
    // For each set those who take part in it, with its place among their own.
    let mut sets: BTreeMap<&str, Vec<(usize, &ToldSet)>> = BTreeMap::new();
    for member in order {
        for set in &told[member].sets {
            if let Some(topic) = set.topics.first() {
                sets.entry(topic).or_default().push((member, set));
            }
        }
    }
    let mut owns: Vec<Vec<Partition>> = vec![Vec::new(); members.len()];
    let mut given: Vec<Vec<GivenSet>> = members.iter().map(|_| Vec::new()).collect();
    let mut busy = vec![0; members.len()];
    for (topic, parts) in sets {
        let units = partitions_of(topic);
        let owners = owners(topic, units, members);
        let of_set: Vec<Member> = parts
            .iter()
            .map(|(member, set)| Member {
                place: told[*member].place.clone(),
                owns: (0..units).filter(|unit| owners[*unit] == Some(*member)).collect(),
                copies: set.copies.iter().map(|(unit, lag)| (*unit, lag.unwrap_or(placement::OF_ANY_AGE))).collect(),
            })
            .collect();
        let busy_of: Vec<usize> = parts.iter().map(|(member, _)| busy[*member]).collect();
        let mut copies: Vec<Vec<(usize, bool)>> = vec![Vec::new(); parts.len()];
        for (unit, placed) in placement::place(units, &of_set, standbys, &busy_of).into_iter().enumerate() {
            let (member, set) = parts[placed.owner];
            busy[member] += 1;
            owns[member].extend(set.topics.iter().map(|topic| (topic.clone(), unit as i32)));
            // The owner of now has its state open until it has given the unit back, and nobody else in its place can. When it
            // has, the units are shared out again.
            let place = |member: usize| &told[member].place;
            let open_to =
                |other: usize| owners[unit].is_none_or(|owner| owner == other || place(owner) != place(other));
            let kept = placed.copies.iter().filter(|copy| open_to(parts[copy.member].0));
            kept.for_each(|copy| copies[copy.member].push((unit, copy.awaited)));
            // It gets the unit then, and keeps its copy warm until then.
            if standbys > 0 && owners[unit].is_some_and(|owner| owner != member) && open_to(member) {
                copies[placed.owner].push((unit, false));
            }
        }
        for ((member, _), copies) in parts.iter().zip(copies).filter(|(_, copies)| !copies.is_empty()) {
            given[*member].push(GivenSet { topic: topic.to_owned(), copies });
        }
    }
    let shares = owns.into_iter().zip(given).map(|(owns, standbys)| Share {
        owns,
        given: serde_json::to_vec(&Given { gretchen: VERSION, standbys }).unwrap_or_default(),
    });
    Some(shares.collect())
}

/// The member that owns each unit. Of two who say so the one who has heard later is right.
fn owners(topic: &str, units: usize, members: &[Joined]) -> Vec<Option<usize>> {
    let mut owners: Vec<Option<usize>> = vec![None; units];
    for (number, member) in members.iter().enumerate() {
        for (_, partition) in member.owns.iter().filter(|(owned, _)| owned == topic) {
            let Some(owner) = usize::try_from(*partition).ok().and_then(|unit| owners.get_mut(unit)) else { continue };
            if owner.is_none_or(|other: usize| members[other].generation < member.generation) {
                *owner = Some(number);
            }
        }
    }
    owners
}

/// What a member is to keep warm, by the sets that `set_of` knows; nothing where another release or Kafka's own strategy has
/// shared out.
pub(super) fn standbys_of(given: &[u8], set_of: impl Fn(&str) -> Option<usize>) -> Vec<Standby> {
    let given = serde_json::from_slice(given).ok().filter(|given: &Given| given.gretchen == VERSION);
    let sets = given.into_iter().flat_map(|given| given.standbys);
    let mut standbys = Vec::new();
    for set in sets {
        let Some(number) = set_of(&set.topic) else { continue };
        for (partition, awaited) in set.copies {
            let Ok(partition) = u32::try_from(partition) else { continue };
            standbys.push(Standby { unit: Unit { set: number, partition }, awaited });
        }
    }
    standbys
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(topics: &[&str]) -> AssignmentSet {
        AssignmentSet {
            name: "partitions".into(),
            partitions: 4,
            topics: topics.iter().map(|topic| (*topic).into()).collect(),
        }
    }

    fn joined(id: &str, place: &str, copies: &[(u32, u64)], owns: &[i32]) -> Joined {
        let mine = Copies::new(1, place.to_owned());
        copies.iter().for_each(|(unit, lag)| mine.set(Unit { set: 0, partition: *unit }, Some(*lag)));
        let topics = |set: &AssignmentSet| set.topics.iter().map(|topic| format!("t.{topic}")).collect();
        let told = tell(&[set(&["orders", "payments"])], topics, &mine);
        let owns = owns.iter().map(|unit| ("t.orders".to_owned(), *unit)).collect();
        Joined { id: id.to_owned(), told, owns, generation: 3 }
    }

    fn partitions(share: &Share, topic: &str) -> Vec<i32> {
        share.owns.iter().filter(|(owned, _)| owned == topic).map(|(_, unit)| *unit).collect()
    }

    fn kept(share: &Share) -> Vec<(u32, bool)> {
        let kept = standbys_of(&share.given, |topic| (topic == "t.orders").then_some(0));
        kept.into_iter().map(|standby| (standby.unit.partition, standby.awaited)).collect()
    }

    #[test]
    fn all_topics_of_a_set_go_together_and_copies_are_told_of() {
        let members = [joined("a", "1", &[], &[0, 1]), joined("b", "2", &[(0, 4)], &[2, 3])];
        let shares = share_out(&members, |_| 4).unwrap();
        for topic in ["t.orders", "t.payments"] {
            assert_eq!(partitions(&shares[0], topic), [0, 1]);
            assert_eq!(partitions(&shares[1], topic), [2, 3]);
        }
        assert_eq!(kept(&shares[0]), [(2, false), (3, false)]);
        assert_eq!(kept(&shares[1]), [(0, false), (1, false)]);
    }

    #[test]
    fn who_gets_a_unit_keeps_it_warm_until_its_owner_has_given_it_back() {
        let members = [joined("a", "1", &[], &[0, 1, 2, 3]), joined("b", "2", &[(2, 9), (3, 9)], &[])];
        let shares = share_out(&members, |_| 4).unwrap();
        assert_eq!(partitions(&shares[1], "t.orders"), [2, 3]);
        assert!(kept(&shares[1]).contains(&(2, false)) && kept(&shares[1]).contains(&(3, false)), "{shares:?}");
        assert!(kept(&shares[0]).contains(&(2, false)), "it is warm where it was: {shares:?}");
    }

    #[test]
    fn nobody_is_to_keep_warm_what_another_of_its_place_has_open() {
        // Both are in one place, and the second gets two of the units.
        let members = [joined("a", "1", &[], &[0, 1, 2, 3]), joined("b", "1", &[], &[])];
        let shares = share_out(&members, |_| 4).unwrap();
        assert_eq!(partitions(&shares[1], "t.orders").len(), 2);
        assert_eq!(kept(&shares[1]), [], "the owner of now has them open");

        // Some go to another place; who is beside their owner of now cannot have them open either.
        let members = [
            joined("a", "1", &[], &[]),
            joined("b", "1", &[], &[0, 1, 2, 3]),
            joined("c", "2", &[(0, 0), (1, 0), (2, 0), (3, 0)], &[]),
        ];
        let shares = share_out(&members, |_| 4).unwrap();
        assert!(!partitions(&shares[2], "t.orders").is_empty(), "{shares:?}");
        assert_eq!(kept(&shares[0]), [], "{shares:?}");
        for unit in partitions(&shares[2], "t.orders") {
            assert!(kept(&shares[2]).contains(&(unit as u32, false)), "it is of another place: {shares:?}");
        }
    }

    #[test]
    fn of_two_owners_the_later_one_counts() {
        let mut members = [joined("a", "1", &[], &[0]), joined("b", "2", &[], &[0])];
        members[0].generation = 2;
        assert_eq!(owners("t.orders", 1, &members), [Some(1)]);
    }

    #[test]
    fn what_another_release_tells_is_left_to_kafka() {
        let mut members = [joined("a", "1", &[], &[]), joined("b", "2", &[], &[])];
        for told in [&b""[..], b"{}", b"\x00\x01", br#"{"gretchen":2,"place":"","standbys":0,"sets":[]}"#] {
            members[1].told = told.to_owned();
            assert_eq!(share_out(&members, |_| 4), None);
        }
        // Kafka's own strategy gives back what was told.
        assert_eq!(standbys_of(&members[0].told, |_| Some(0)), []);
    }

    #[test]
    fn the_order_of_the_members_does_not_matter() {
        let members = [joined("b", "1", &[], &[]), joined("a", "2", &[], &[]), joined("c", "3", &[], &[])];
        let shares = share_out(&members, |_| 4).unwrap();
        let turned: Vec<Joined> = members.iter().rev().cloned().collect();
        let back: Vec<Share> = share_out(&turned, |_| 4).unwrap().into_iter().rev().collect();
        assert_eq!(shares, back);
    }
}

//! Consumer groups.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::{Subject, kind_of, soon};
use crate::backend::{Assignment, AssignmentSet, Consumer, Unit};
use crate::error::{ErrorKind, Result};
use crate::topic::TopicSpec;

/// Sets whose topics exist; the name of a set lists them.
async fn sets(subject: &Subject, of: &[(&str, u32)]) -> Result<Vec<AssignmentSet>> {
    let mut sets = Vec::new();
    for (name, partitions) in of {
        let topics: Vec<Arc<str>> = name.split('+').map(Arc::from).collect();
        for topic in &topics {
            subject.backend.create_topic(&TopicSpec::new(topic.clone(), *partitions)).await?;
        }
        sets.push(AssignmentSet { name: (*name).to_owned(), partitions: *partitions, topics });
    }
    Ok(sets)
}

/// A member with the units that it was told of.
struct Member {
    consumer: Box<dyn Consumer>,
    units: BTreeSet<Unit>,
}

impl Member {
    async fn join(subject: &Subject, group: &str, of: &[(&str, u32)]) -> Result<Self> {
        let sets = sets(subject, of).await?;
        Ok(Self { consumer: subject.backend.consumer(group, &sets).await?, units: BTreeSet::new() })
    }

    /// Does what the next assignment asks for.
    async fn follow(&mut self) -> Result<()> {
        match self.consumer.assignment().await? {
            Assignment::Gained(units) => {
                for unit in units {
                    assert!(self.units.insert(unit), "{unit:?} was gained twice");
                }
            }
            Assignment::Wanted(units) => {
                for unit in units {
                    assert!(self.units.remove(&unit), "{unit:?} is wanted and not held");
                    self.consumer.release(unit).await?;
                }
            }
            Assignment::Lost(units) => self.units.retain(|unit| !units.contains(unit)),
            Assignment::Standbys(_) | Assignment::Withheld(_) => {}
        }
        Ok(())
    }

    async fn until_it_has(&mut self, count: usize) -> Result<()> {
        soon("gaining units", async {
            while self.units.len() != count {
                self.follow().await?;
            }
            Ok(())
        })
        .await
    }
}

/// Follows the assignments of two members until they hold that many.
async fn until_they_have(one: &mut Member, two: &mut Member, counts: (usize, usize)) -> Result<()> {
    soon("sharing", async {
        while (one.units.len(), two.units.len()) != counts {
            tokio::select! {
                done = one.follow() => done?,
                done = two.follow() => done?,
            }
            assert!(one.units.is_disjoint(&two.units), "two owners: {:?} {:?}", one.units, two.units);
        }
        Ok(())
    })
    .await
}

/// A single member gets every unit of every set.
pub async fn one_member_gets_every_unit(subject: Subject) -> Result<()> {
    let mut member = Member::join(&subject, "app", &[("orders", 5), ("a+b", 3)]).await?;
    member.until_it_has(8).await?;
    assert_eq!(member.units.iter().filter(|unit| unit.set == 1).count(), 3);
    Ok(())
}

/// A second member gets half once the first has released it; what the first keeps stays with it.
pub async fn a_second_member_gets_its_share(subject: Subject) -> Result<()> {
    let of = [("orders", 4), ("clicks", 4)];
    let mut one = Member::join(&subject, "app", &of).await?;
    one.until_it_has(8).await?;
    let mut two = Member::join(&subject, "app", &of).await?;
    let wanted = soon("wanting", one.consumer.assignment()).await?;
    let Assignment::Wanted(wanted) = wanted else { panic!("{wanted:?} instead of units to release") };
    assert_eq!(wanted.len(), 4);
    // Nothing moves before it is released.
    let early = tokio::time::timeout(std::time::Duration::from_millis(300), two.consumer.assignment()).await;
    assert!(early.is_err(), "{early:?} before a release");
    for unit in wanted {
        one.units.remove(&unit);
        one.consumer.release(unit).await?;
    }
    until_they_have(&mut one, &mut two, (4, 4)).await
}

/// A second member gets half of each set, and not all of one and none of another.
pub async fn each_set_is_shared_out_by_itself(subject: Subject) -> Result<()> {
    let of = [("orders", 4), ("clicks", 4)];
    let mut one = Member::join(&subject, "app", &of).await?;
    one.until_it_has(8).await?;
    let mut two = Member::join(&subject, "app", &of).await?;
    until_they_have(&mut one, &mut two, (4, 4)).await?;
    for member in [one, two] {
        assert_eq!(member.units.iter().filter(|unit| unit.set == 0).count(), 2, "{:?}", member.units);
    }
    Ok(())
}

/// What a member leaves, or drops, is free for the others.
pub async fn what_a_member_leaves_is_free(subject: Subject) -> Result<()> {
    let mut one = Member::join(&subject, "app", &[("orders", 5)]).await?;
    one.until_it_has(5).await?;
    let mut two = Member::join(&subject, "app", &[("orders", 5)]).await?;
    until_they_have(&mut one, &mut two, (3, 2)).await?;
    one.consumer.leave().await?;
    assert_eq!(kind_of(one.consumer.assignment().await), Some(ErrorKind::Closed));
    two.until_it_has(5).await?;
    drop(two);
    Member::join(&subject, "app", &[("orders", 5)]).await?.until_it_has(5).await
}

/// Members of one group that read other sets leave each other's units alone.
pub async fn members_with_other_sets_do_not_share(subject: Subject) -> Result<()> {
    let mut one = Member::join(&subject, "app", &[("orders", 3)]).await?;
    let mut two = Member::join(&subject, "app", &[("clicks", 2)]).await?;
    one.until_it_has(3).await?;
    two.until_it_has(2).await
}

/// Another group reads everything again.
pub async fn groups_are_apart(subject: Subject) -> Result<()> {
    let mut one = Member::join(&subject, "app", &[("orders", 3)]).await?;
    let mut two = Member::join(&subject, "other/../app", &[("orders", 3)]).await?;
    one.until_it_has(3).await?;
    two.until_it_has(3).await
}

/// What was acknowledged can be asked for, and forgotten once the group has no members.
pub async fn positions_are_kept_and_forgotten(subject: Subject) -> Result<()> {
    let place = subject.topic("orders", 1).await?;
    let replay = subject.replay()?;
    assert_eq!(replay.position("app", &place)?, None);
    let mut member = subject.backend.consumer("app", &sets(&subject, &[("orders", 1)]).await?).await?;
    for position in [7, 9, 8] {
        member.ack(&place, position)?;
        assert_eq!(replay.position("app", &place)?, Some(position));
    }
    assert_eq!(replay.position("other", &place)?, None);
    assert_eq!(kind_of(replay.forget("app", &place)), Some(ErrorKind::Conflict));
    member.leave().await?;
    assert_eq!(replay.position("app", &place)?, Some(8));
    replay.forget("app", &place)?;
    replay.forget("app", &place)?;
    assert_eq!(replay.position("app", &place)?, None);
    Ok(())
}

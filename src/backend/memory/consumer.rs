//! Groups within the process.

use std::collections::{BTreeMap, HashMap};

use async_trait::async_trait;

use super::MemoryBackend;
use crate::backend::share::{Holding, fair_share};
use crate::backend::{Assignment, AssignmentSet, Consumer, Unit};
use crate::error::{Error, ErrorKind, Result};
use crate::topic::TopicPartition;

/// What a group is.
#[derive(Debug, Default)]
pub(super) struct Group {
    /// Each member's sets, by the order of joining.
    pub(super) members: BTreeMap<u64, Vec<AssignmentSet>>,
    pub(super) positions: HashMap<TopicPartition, u64>,
    /// Who holds a unit of a set.
    owners: HashMap<(String, u32), u64>,
    next_member: u64,
}

impl Group {
    /// Whether a member holds the unit.
    pub(super) fn owns(&self, set: &str, partition: u32) -> bool {
        self.owners.contains_key(&(set.to_owned(), partition))
    }
}

/// A member of a group.
#[derive(Debug)]
pub(super) struct MemoryConsumer {
    backend: MemoryBackend,
    group: String,
    sets: Vec<AssignmentSet>,
    member: u64,
    holding: Holding<()>,
}

impl MemoryConsumer {
    pub(super) fn join(backend: MemoryBackend, group: &str, sets: &[AssignmentSet]) -> Self {
        let mut groups = backend.groups();
        let of = groups.entry(group.to_owned()).or_default();
        let member = of.next_member;
        of.next_member += 1;
        of.members.insert(member, sets.to_vec());
        drop(groups);
        backend.0.groups_changed.notify_waiters();
        Self { backend, group: group.to_owned(), sets: sets.to_vec(), member, holding: Holding::new(sets) }
    }

    /// Moves towards the fair share among the members with the same sets.
    fn balance(&mut self) -> Result<Option<Assignment>> {
        let mut groups = self.backend.groups();
        let group = groups.entry(self.group.clone()).or_default();
        if !group.members.contains_key(&self.member) {
            return Err(Error::new(ErrorKind::Closed, format!("this member has left group {}", self.group)));
        }
        let peers: Vec<_> =
            group.members.iter().filter(|(_, sets)| **sets == self.sets).map(|(member, _)| *member).collect();
        let rank = peers.iter().filter(|member| **member < self.member).count();
        let share = fair_share(self.holding.units(), peers.len(), rank);
        self.holding.towards(share, |unit| {
            let unit = (self.sets[unit.set].name.clone(), unit.partition);
            let free = !group.owners.contains_key(&unit);
            if free {
                group.owners.insert(unit, self.member);
            }
            Ok(free.then_some(()))
        })
    }

    fn give_up_everything(&mut self) {
        let mut groups = self.backend.groups();
        if let Some(group) = groups.get_mut(&self.group) {
            group.members.remove(&self.member);
            group.owners.retain(|_, owner| *owner != self.member);
        }
        drop(groups);
        self.holding.release_all();
        self.backend.0.groups_changed.notify_waiters();
    }
}

#[async_trait]
impl Consumer for MemoryConsumer {
    async fn assignment(&mut self) -> Result<Assignment> {
        let backend = self.backend.clone();
        loop {
            let changed = backend.0.groups_changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if let Some(assignment) = self.balance()? {
                return Ok(assignment);
            }
            changed.await;
        }
    }

    async fn release(&mut self, unit: Unit) -> Result<()> {
        self.holding.release(unit)?;
        if let Some(group) = self.backend.groups().get_mut(&self.group) {
            group.owners.remove(&(self.sets[unit.set].name.clone(), unit.partition));
        }
        self.backend.0.groups_changed.notify_waiters();
        Ok(())
    }

    fn ack(&self, partition: &TopicPartition, position: u64) -> Result<()> {
        self.backend.groups().entry(self.group.clone()).or_default().positions.insert(partition.clone(), position);
        Ok(())
    }

    async fn leave(&mut self) -> Result<()> {
        self.give_up_everything();
        Ok(())
    }
}

/// As the kernel frees the locks of a process that was killed.
impl Drop for MemoryConsumer {
    fn drop(&mut self) {
        self.give_up_everything();
    }
}

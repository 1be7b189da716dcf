//! What a group has come to, as its broker knows it, and who its members are.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _};
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::topic_partition_list::TopicPartitionListElem;
use rdkafka::{Offset, TopicPartitionList};

use super::Inner;
use super::admin::delete_positions;
use super::client::{Context, Role};
use super::consumer::positions_of;
use super::exchange::{Partition, standbys_of};
use super::native::{annotate, note_of};
use super::options::ANSWER_TIMEOUT;
use crate::backend::{AssignmentSet, Owner};
use crate::error::{Error, ErrorKind, Result};
use crate::topic::TopicPartition;

/// What stands beside a position that was set.
const SET: &str = "set by gretchen";

/// What stands beside one that was committed in a transaction, before the number of the commit.
const COMMIT: &str = "commit ";

/// Notes which commit positions are part of.
pub(super) fn number(positions: &mut TopicPartitionList, commit: u64) {
    annotate(positions, &format!("{COMMIT}{commit}"));
}

/// A member of a group.
struct Member {
    client: String,
    owns: Vec<Partition>,
    /// What it was told beside that.
    given: Vec<u8>,
}

impl Member {
    /// The number of its process, as far as its name tells.
    fn process(&self) -> Option<u32> {
        self.client.rsplit('-').next().and_then(|number| number.parse().ok())
    }
}

impl Inner {
    /// A client that asks for a group's positions and is no member of it.
    fn group_client(&self, group: &str) -> Result<Arc<BaseConsumer<Context>>> {
        let mut groups = self.groups.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(client) = groups.get(group) {
            // It has things to say that nobody needs.
            while client.poll(Duration::ZERO).is_some() {}
            return Ok(client.clone());
        }
        let client: Arc<BaseConsumer<Context>> =
            Arc::new(self.clients.make(Role::Group(group), self.clients.context.clone())?);
        groups.insert(group.to_owned(), client.clone());
        Ok(client)
    }

    fn list_of(&self, place: &TopicPartition) -> TopicPartitionList {
        let mut list = TopicPartitionList::new();
        list.add_partition(&self.clients.named(&place.topic), place.partition as i32);
        list
    }

    /// What the broker has of a group's position; what a transaction has not settled yet is waited for. Blocks.
    fn committed(&self, group: &str, place: &TopicPartition) -> Result<TopicPartitionList> {
        self.group_client(group)?.committed_offsets(self.list_of(place), ANSWER_TIMEOUT).map_err(|error| {
            self.clients.explain(&format!("cannot ask for the position of group {group}"), error).at(place)
        })
    }

    /// Whether a group's position is one that was set. Blocks.
    pub(super) fn position_was_set(&self, group: &str, place: &TopicPartition) -> Result<bool> {
        let found = self.committed(group, place)?;
        Ok(note_of(&found).as_deref() == Some(SET))
    }

    /// Which commit a group's position is part of, where it says so. Blocks.
    pub(super) fn commit_of_position(&self, group: &str, place: &TopicPartition) -> Result<Option<u64>> {
        let found = self.committed(group, place)?;
        Ok(note_of(&found).and_then(|note| note.strip_prefix(COMMIT)?.parse().ok()))
    }

    /// How far a group has come. Blocks.
    pub(super) fn position(&self, group: &str, place: &TopicPartition) -> Result<Option<u64>> {
        let found = self.committed(group, place)?;
        let offset = found.elements().first().map(TopicPartitionListElem::offset);
        Ok(match offset {
            Some(Offset::Offset(offset)) => u64::try_from(offset).ok(),
            _ => None,
        })
    }

    /// The members of a group. Blocks.
    fn members(&self, group: &str) -> Result<Vec<Member>> {
        let client = self.readers.client()?;
        let named = self.clients.named(group);
        let found = client
            .fetch_group_list(Some(&named), ANSWER_TIMEOUT)
            .map_err(|error| self.clients.explain(&format!("cannot ask for the members of group {group}"), error))?;
        let members = found.groups().iter().filter(|found| found.name() == named).flat_map(|found| found.members());
        Ok(members
            .map(|member| {
                let (owns, given) = assignment_of(member.assignment().unwrap_or_default());
                Member { client: member.client_id().to_owned(), owns, given: given.to_vec() }
            })
            .collect())
    }

    /// Sets how far a group has come. Blocks.
    pub(super) fn set_position(&self, group: &str, place: &TopicPartition, position: u64) -> Result<()> {
        let members = self.members(group)?.len();
        if members > 0 {
            return Err(running(group, members, place));
        }
        let mut list = positions_of(&self.clients, &[(place.clone(), position)])?;
        annotate(&mut list, SET);
        self.group_client(group)?.commit(&list, CommitMode::Sync).map_err(|error| {
            match error.rdkafka_error_code() {
                // The broker takes it from nobody else while there are members.
                Some(RDKafkaErrorCode::UnknownMemberId | RDKafkaErrorCode::IllegalGeneration) => {
                    running(group, 1, place)
                }
                _ => self.clients.explain(&format!("cannot set the position of group {group}"), error).at(place),
            }
        })
    }

    /// Forgets how far a group has come. Blocks.
    pub(super) fn forget(&self, group: &str, place: &TopicPartition) -> Result<()> {
        let members = self.members(group)?.len();
        if members > 0 {
            return Err(running(group, members, place));
        }
        let named = self.clients.named(group);
        let client = self.readers.client()?;
        match delete_positions(&client, &named, &self.list_of(place), ANSWER_TIMEOUT) {
            Ok(()) => Ok(()),
            Err(error) => match error.rdkafka_error_code() {
                Some(RDKafkaErrorCode::GroupIdNotFound | RDKafkaErrorCode::UnknownTopicOrPartition) => Ok(()),
                Some(RDKafkaErrorCode::GroupSubscribedToTopic | RDKafkaErrorCode::NonEmptyGroup) => {
                    Err(running(group, 1, place))
                }
                _ => {
                    Err(self.clients.explain(&format!("cannot forget the position of group {group}"), error).at(place))
                }
            },
        }
    }

    /// Which process owns each unit, as far as the clients' names tell. Blocks.
    pub(super) fn owners(&self, group: &str, set: &AssignmentSet) -> Result<Vec<Option<Owner>>> {
        let mut owners = vec![None; set.partitions as usize];
        let Some(topic) = set.topics.first().map(|topic| self.clients.named(topic)) else { return Ok(owners) };
        for member in self.members(group)? {
            for (_, partition) in member.owns.iter().filter(|(name, _)| *name == topic) {
                let owner = usize::try_from(*partition).ok().and_then(|partition| owners.get_mut(partition));
                if let (Some(owner), Some(process)) = (owner, member.process()) {
                    *owner = Some(Owner { process, stopped: None });
                }
            }
        }
        Ok(owners)
    }

    /// Which processes keep a warm copy of each unit, as far as the clients' names tell. Blocks.
    pub(super) fn standbys(&self, group: &str, set: &AssignmentSet) -> Result<Vec<Vec<u32>>> {
        let mut standbys = vec![Vec::new(); set.partitions as usize];
        let topic = set.topics.first().map(|topic| self.clients.named(topic));
        for member in self.members(group)? {
            let of_set = |name: &str| (Some(name) == topic.as_deref()).then_some(0);
            for standby in standbys_of(&member.given, of_set) {
                if let Some(unit) = standbys.get_mut(standby.unit.partition as usize) {
                    unit.extend(member.process());
                }
            }
        }
        Ok(standbys)
    }
}

/// Members keep others from changing what their group has come to.
fn running(group: &str, count: usize, place: &TopicPartition) -> Error {
    let message = format!("group {group} has {count} running members; stop them first");
    Error::new(ErrorKind::Conflict, message).at(place)
}

/// The partitions in a member's assignment, and what it was told beside them: a version (2 bytes), then for each topic its
/// name and its partitions, then the bytes of the user, counts and lengths before them, big-endian (Kafka's
/// `ConsumerProtocolAssignment`).
fn assignment_of(bytes: &[u8]) -> (Vec<Partition>, &[u8]) {
    let (mut found, mut given) = (Vec::new(), &[][..]);
    let mut rest = bytes.get(2..).unwrap_or_default();
    let mut walk = || -> Option<()> {
        for _ in 0..take_i32(&mut rest)? {
            let (length, after) = rest.split_first_chunk::<2>()?;
            let (name, after) = after.split_at_checked(usize::from(u16::from_be_bytes(*length)))?;
            rest = after;
            for _ in 0..take_i32(&mut rest)? {
                found.push((String::from_utf8_lossy(name).into_owned(), take_i32(&mut rest)?));
            }
        }
        let length = usize::try_from(take_i32(&mut rest)?).ok()?;
        given = rest.get(..length)?;
        Some(())
    };
    // What is cut off is left out: it is for people.
    let _ = walk();
    (found, given)
}

fn take_i32(rest: &mut &[u8]) -> Option<i32> {
    let (number, after) = rest.split_first_chunk::<4>()?;
    *rest = after;
    Some(i32::from_be_bytes(*number))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_assignment_is_read_and_a_cut_one_does_no_harm() {
        let mut bytes = vec![0, 1, 0, 0, 0, 2, 0, 1, b'a', 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 3];
        bytes.extend([0, 2, b'b', b'c', 0, 0, 0, 1, 0, 0, 0, 7, 255, 255, 255, 255]);
        let whole = [("a".to_owned(), 0), ("a".to_owned(), 3), ("bc".to_owned(), 7)];
        assert_eq!(assignment_of(&bytes), (whole.to_vec(), &[][..]));
        let told = [&bytes[..bytes.len() - 4], &[0, 0, 0, 2, 8, 9]].concat();
        assert_eq!(assignment_of(&told), (whole.to_vec(), &[8, 9][..]));
        for cut in 0..bytes.len() {
            assert!(whole.starts_with(&assignment_of(&bytes[..cut]).0), "{cut}");
        }
    }
}

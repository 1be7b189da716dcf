//! Everything in the memory of this process: for tests, and for apps whose records need not outlive them.
//!
//! No threads and no clock of its own: what happens follows from the order of the calls alone.

mod consumer;
mod producer;
mod reader;
mod topic;

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use tokio::sync::Notify;

use self::consumer::{Group, MemoryConsumer};
use self::producer::MemoryProducer;
use self::reader::MemoryReader;
use self::topic::{Partition, StoredTopic};
use super::{
    AssignmentSet, BATCH_BYTES, Backend, Capabilities, Consumer, Offsets, Owner, Producer, ProducerId, Reader, Replay,
    Topic,
};
use crate::clock::Clock;
use crate::error::{Error, ErrorKind, Result};
use crate::record::MAX_RECORD_BYTES;
use crate::topic::{TopicPartition, TopicSettings, TopicSpec};

/// A backend in memory. Clones are handles to the same records.
#[derive(Clone)]
pub struct MemoryBackend(Arc<Inner>);

struct Inner {
    clock: Clock,
    topics: Mutex<BTreeMap<Arc<str>, StoredTopic>>,
    groups: Mutex<HashMap<String, Group>>,
    /// Somebody joined, released or left.
    groups_changed: Notify,
}

impl fmt::Debug for MemoryBackend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let topics: Vec<_> = self.topics().keys().cloned().collect();
        f.debug_struct("MemoryBackend").field("topics", &topics).finish_non_exhaustive()
    }
}

impl MemoryBackend {
    /// An empty backend. `clock` is the clock of whoever uses it.
    pub fn new(clock: Clock) -> Self {
        Self(Arc::new(Inner {
            clock,
            topics: Mutex::default(),
            groups: Mutex::default(),
            groups_changed: Notify::new(),
        }))
    }

    /// The clock that it was made with.
    pub fn clock(&self) -> &Clock {
        &self.0.clock
    }

    fn topics(&self) -> MutexGuard<'_, BTreeMap<Arc<str>, StoredTopic>> {
        self.0.topics.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn groups(&self) -> MutexGuard<'_, HashMap<String, Group>> {
        self.0.groups.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn partition(&self, place: &TopicPartition) -> Result<Arc<Partition>> {
        let topics = self.topics();
        let Some(topic) = topics.get(&place.topic) else {
            return Err(Error::new(ErrorKind::NotFound, "the topic does not exist; create it first").at(place));
        };
        topic.partitions.get(place.partition as usize).cloned().ok_or_else(|| {
            let have = topic.partitions.len();
            Error::new(ErrorKind::NotFound, format!("the topic has partitions 0 to {}", have - 1)).at(place)
        })
    }
}

#[async_trait]
impl Backend for MemoryBackend {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            replay: true,
            durable: false,
            shared: false,
            deduplicates: true,
            survives_power_loss: false,
            transactions: false,
            shares_each_set: true,
            standbys: false,
            max_record_bytes: MAX_RECORD_BYTES,
            batch_bytes: BATCH_BYTES,
        }
    }

    async fn create_topic(&self, spec: &TopicSpec) -> Result<Topic> {
        topic::create(&mut self.topics(), spec)
    }

    async fn topics(&self) -> Result<Vec<Topic>> {
        Ok(MemoryBackend::topics(self).values().map(|stored| stored.topic.clone()).collect())
    }

    async fn producer(&self, id: ProducerId) -> Result<Box<dyn Producer>> {
        Ok(Box::new(MemoryProducer::new(self.clone(), id)))
    }

    async fn consumer(&self, group: &str, sets: &[AssignmentSet]) -> Result<Box<dyn Consumer>> {
        Ok(Box::new(MemoryConsumer::join(self.clone(), group, sets)))
    }

    fn replay(&self) -> Option<Arc<dyn Replay>> {
        Some(Arc::new(self.clone()))
    }
}

#[async_trait]
impl Replay for MemoryBackend {
    fn reader(&self, place: &TopicPartition, from: u64) -> Result<Box<dyn Reader>> {
        Ok(Box::new(MemoryReader::new(self.partition(place)?, place, from)?))
    }

    fn offsets(&self, place: &TopicPartition) -> Result<Offsets> {
        let end = self.partition(place)?.log().end;
        Ok(Offsets { start: 0, end, durable: end })
    }

    async fn sync(&self, place: &TopicPartition, _up_to: u64) -> Result<()> {
        self.partition(place).map(drop)
    }

    fn next_sequence(&self, place: &TopicPartition, producer: ProducerId) -> Result<u64> {
        Ok(self.partition(place)?.log().sequences.get(&producer.0).copied().unwrap_or(0))
    }

    fn topic(&self, name: &str) -> Result<Topic> {
        let topics = self.topics();
        let found = topics.get(name).map(|topic| topic.topic.clone());
        found.ok_or_else(|| Error::new(ErrorKind::NotFound, format!("topic {name} does not exist")))
    }

    fn schema(&self, topic: &str, fingerprint: u64) -> Result<Option<Arc<str>>> {
        let topics = self.topics();
        let schemas = topics.get(topic).map(|topic| topic.topic.schemas.as_slice()).unwrap_or_default();
        Ok(schemas.iter().find(|schema| schema.fingerprint == fingerprint).map(|schema| schema.json.clone()))
    }

    fn position(&self, group: &str, place: &TopicPartition) -> Result<Option<u64>> {
        Ok(self.groups().get(group).and_then(|group| group.positions.get(place).copied()))
    }

    fn owners(&self, group: &str, set: &AssignmentSet) -> Result<Vec<Option<Owner>>> {
        let groups = self.groups();
        let of = groups.get(group);
        // All members are of this process, which is at work.
        let owner = Owner { process: std::process::id(), stopped: Some(false) };
        Ok((0..set.partitions).map(|unit| of.filter(|of| of.owns(&set.name, unit)).map(|_| owner)).collect())
    }

    fn forget(&self, group: &str, place: &TopicPartition) -> Result<()> {
        match self.groups().get_mut(group) {
            Some(of) if !of.members.is_empty() => Err(Error::new(
                ErrorKind::Conflict,
                format!("group {group} has {} running members; stop them first", of.members.len()),
            )
            .at(place)),
            Some(of) => {
                of.positions.remove(place);
                Ok(())
            }
            None => Ok(()),
        }
    }

    async fn set_topic(&self, name: &str, settings: &TopicSettings) -> Result<Topic> {
        match MemoryBackend::topics(self).get_mut(name) {
            Some(topic) => {
                topic.topic.spec.check_settable()?;
                Ok(topic.set(*settings))
            }
            None => Err(Error::new(ErrorKind::NotFound, format!("topic {name} does not exist"))),
        }
    }

    async fn delete_topic(&self, name: &str) -> Result<()> {
        topic::delete(&mut MemoryBackend::topics(self), name)?;
        self.groups().values_mut().for_each(|group| group.positions.retain(|place, _| &*place.topic != name));
        Ok(())
    }
}

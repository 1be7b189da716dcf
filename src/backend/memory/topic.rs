//! Topics and the records of their partitions.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::backend::Topic;
use crate::error::{Error, ErrorKind, Result};
use crate::record::FrameHeader;
use crate::topic::{TopicSpec, check_spec};

/// A topic with its records.
#[derive(Debug)]
pub(super) struct StoredTopic {
    pub(super) topic: Topic,
    pub(super) partitions: Vec<Arc<Partition>>,
}

/// A partition, and who waits for its next record.
#[derive(Debug, Default)]
pub(super) struct Partition {
    log: Mutex<Log>,
    pub(super) appended: Notify,
}

/// The records of a partition.
#[derive(Debug, Default)]
pub(super) struct Log {
    /// Each frame's header and payload, in order of offsets.
    pub(super) frames: Vec<(FrameHeader, Box<[u8]>)>,
    /// The offset that the next record gets.
    pub(super) end: u64,
    /// The sequence after the last, by producer.
    pub(super) sequences: HashMap<u64, u64>,
}

impl Partition {
    pub(super) fn log(&self) -> MutexGuard<'_, Log> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

pub(super) fn create(topics: &mut BTreeMap<Arc<str>, StoredTopic>, spec: &TopicSpec) -> Result<Topic> {
    check_spec(spec)?;
    let stored = topics.entry(spec.name.clone()).or_insert_with(|| StoredTopic {
        topic: Topic {
            spec: TopicSpec { schema: None, format: Some(spec.format.unwrap_or_default()), ..spec.clone() },
            schemas: Vec::new(),
        },
        partitions: (0..spec.partitions).map(|_| Arc::default()).collect(),
    });
    stored.topic.spec.check_fits(spec)?;
    if let Some(schema) = &spec.schema
        && stored.topic.schemas.iter().all(|have| have.fingerprint != schema.fingerprint)
    {
        stored.topic.schemas.push(schema.clone());
        stored.topic.spec.schema = Some(schema.clone());
    }
    Ok(stored.topic.clone())
}

pub(super) fn delete(topics: &mut BTreeMap<Arc<str>, StoredTopic>, name: &str) -> Result<()> {
    let Some(stored) = topics.get(name) else {
        return Err(Error::new(ErrorKind::NotFound, format!("topic {name} does not exist")));
    };
    // A reader holds its partition.
    if let Some(at) = stored.partitions.iter().position(|partition| Arc::strong_count(partition) > 1) {
        return Err(Error::new(
            ErrorKind::Conflict,
            format!("partition {at} of topic {name} is being read; stop its readers first"),
        ));
    }
    topics.remove(name);
    Ok(())
}

//! Topics and the records of their partitions.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::backend::{Topic, check_same_meaning};
use crate::error::{Error, ErrorKind, Result};
use crate::record::FrameHeader;
use crate::topic::{TopicSettings, TopicSpec, check_spec};

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
    compacts: AtomicBool,
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

    /// Whether every record must have a key.
    pub(super) fn compacts(&self) -> bool {
        self.compacts.load(Ordering::Relaxed)
    }
}

impl StoredTopic {
    /// Changes what becomes of old records. In memory none goes, but what a topic takes is the same everywhere.
    pub(super) fn set(&mut self, settings: TopicSettings) -> Topic {
        self.topic.spec.settings = settings;
        for partition in &self.partitions {
            partition.compacts.store(settings.cleanup.compacts(), Ordering::Relaxed);
        }
        self.topic.clone()
    }
}

pub(super) fn create(topics: &mut BTreeMap<Arc<str>, StoredTopic>, spec: &TopicSpec) -> Result<Topic> {
    check_spec(spec)?;
    let stored = topics.entry(spec.name.clone()).or_insert_with(|| StoredTopic {
        topic: Topic {
            spec: TopicSpec { schema: None, format: Some(spec.format.unwrap_or_default()), ..spec.clone() },
            schemas: Vec::new(),
        },
        partitions: (0..spec.partitions)
            .map(|_| {
                let compacts = AtomicBool::new(spec.settings.cleanup.compacts());
                Arc::new(Partition { compacts, ..Partition::default() })
            })
            .collect(),
    });
    stored.topic.spec.check_fits(spec)?;
    stored.topic.spec.numbers = stored.topic.spec.numbers.or(spec.numbers);
    if let Some(schema) = &spec.schema {
        check_same_meaning(&spec.name, &stored.topic.schemas, schema)?;
    }
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

//! What the brokers have no place for: properties and schemas of topics, and how far named producers have come.
//!
//! All of it is in one compacted topic, `gretchen-topics` where no other is named, with a key for each thing. Who changes
//! something about topics takes over the transactions of that name, reads to the end, and commits: whoever comes in between
//! shuts the first one out, who then begins again. So changes come one after another, and each knows those before it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::reader::KafkaReader;
use crate::backend::{ProducerId, Reader, Topic};
use crate::error::{Error, ErrorKind, Result};
use crate::record::Frames;
use crate::topic::{Numbering, TopicPartition, TopicSchema, TopicSettings, TopicSpec, WireFormat};

/// How long what was committed is waited for, in steps.
pub(super) const WAIT: Duration = Duration::from_millis(2);
const MOST_WAITS: u32 = 4_000;

/// A topic as the ledger has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Entry {
    partitions: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    key: Option<String>,
    #[serde(default)]
    settings: TopicSettings,
    #[serde(default)]
    internal: bool,
    /// `None` for a topic that somebody else made, as long as nobody has said what it holds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    format: Option<WireFormat>,
    /// Who gives the numbers in Confluent headers, where somebody has written one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    numbers: Option<Numbering>,
    /// Fingerprints with their schemas, oldest first.
    #[serde(default)]
    schemas: Vec<(String, String)>,
}

impl Entry {
    pub(super) fn of(topic: &Topic) -> Self {
        let schemas =
            topic.schemas.iter().map(|schema| (format!("{:016x}", schema.fingerprint), schema.json.to_string()));
        Self {
            partitions: topic.spec.partitions,
            key: topic.spec.key_field.as_deref().map(str::to_owned),
            settings: topic.spec.settings,
            internal: topic.spec.internal,
            format: topic.spec.format,
            numbers: topic.spec.numbers,
            schemas: schemas.collect(),
        }
    }

    fn topic(&self, name: &str) -> Topic {
        let schema = |(fingerprint, json): &(String, String)| {
            let fingerprint = u64::from_str_radix(fingerprint, 16).ok()?;
            Some(TopicSchema { fingerprint, json: json.as_str().into() })
        };
        let schemas: Vec<_> = self.schemas.iter().filter_map(schema).collect();
        let spec = TopicSpec {
            key_field: self.key.as_deref().map(Arc::from),
            schema: schemas.last().cloned(),
            settings: self.settings,
            internal: self.internal,
            format: self.format,
            numbers: self.numbers,
            ..TopicSpec::new(name, self.partitions)
        };
        Topic { spec, schemas }
    }
}

/// The key of a topic's entry.
pub(super) fn topic_key(name: &str) -> Vec<u8> {
    format!("topic/{name}").into_bytes()
}

/// The key of a producer's place in a partition.
pub(super) fn sequence_key(producer: ProducerId, place: &TopicPartition) -> Vec<u8> {
    format!("producer/{:016x}/{}/{}", producer.0, place.topic, place.partition).into_bytes()
}

/// What has been read of the topic.
#[derive(Debug)]
pub(super) struct Ledger {
    /// Its name, for errors.
    topic: String,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    reader: Option<KafkaReader>,
    entries: BTreeMap<Vec<u8>, Vec<u8>>,
}

impl Ledger {
    /// Nothing is read yet.
    pub(super) fn new(topic: &str) -> Self {
        Self { topic: topic.to_owned(), state: Mutex::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether there was something to read.
    pub(super) fn was_read(&self) -> bool {
        self.state().reader.is_some()
    }

    /// Reads up to an offset; `open` makes a reader from the start.
    pub(super) fn read_up_to(&self, end: u64, open: impl FnOnce() -> Result<KafkaReader>) -> Result<()> {
        let mut state = self.state();
        let State { reader, entries } = &mut *state;
        let reader = match reader {
            Some(reader) => reader,
            none => none.insert(open()?),
        };
        let mut frames = Frames::default();
        let mut waits = 0;
        while reader.position() < end {
            if !reader.read(&mut frames)? {
                // What is committed is seen when the marks of its transaction are written, a little later.
                waits += 1;
                if waits > MOST_WAITS {
                    let message =
                        format!("what was committed to {} is not seen; look at the state of the brokers", self.topic);
                    return Err(Error::new(ErrorKind::Io, message).at_offset(end));
                }
                super::pause(WAIT);
                continue;
            }
            for record in frames.iter().flat_map(|frame| frame.records()) {
                match (record.key, record.value) {
                    (Some(key), Some(value)) => drop(entries.insert(key.to_vec(), value.to_vec())),
                    (Some(key), None) => drop(entries.remove(key)),
                    (None, _) => {}
                }
            }
        }
        Ok(())
    }

    /// The properties of a topic, as far as it was read.
    pub(super) fn topic(&self, name: &str) -> Result<Option<Topic>> {
        let state = self.state();
        let Some(json) = state.entries.get(&topic_key(name)) else { return Ok(None) };
        let entry: Entry = serde_json::from_slice(json).map_err(|error| {
            let message = format!(
                "what {} holds of topic {name} cannot be read; a newer release may have written it",
                self.topic
            );
            Error::new(ErrorKind::Corrupt, message).with_source(error)
        })?;
        Ok(Some(entry.topic(name)))
    }

    /// The sequence after the last that a partition has from a producer.
    pub(super) fn sequence(&self, producer: ProducerId, place: &TopicPartition) -> u64 {
        let state = self.state();
        let text = state.entries.get(&sequence_key(producer, place)).and_then(|text| std::str::from_utf8(text).ok());
        text.and_then(|text| text.parse().ok()).unwrap_or(0)
    }

    /// The keys of what producers have in a topic.
    pub(super) fn sequences_in(&self, topic: &str) -> Vec<Vec<u8>> {
        let of = |key: &&Vec<u8>| {
            let text = String::from_utf8_lossy(key);
            text.strip_prefix("producer/").and_then(|rest| rest.split('/').nth(1)) == Some(topic)
        };
        self.state().entries.keys().filter(of).cloned().collect()
    }
}

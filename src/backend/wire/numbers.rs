//! What the numbers in Confluent headers stand for, by a registry.
//!
//! A number means the same for ever, so what was learnt is kept as long as the process lives. Where the registry is away,
//! whoever reads waits and whoever writes gives up after a while: no record is to blame for it.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

use super::form::split_confluent;
use crate::backend::registry::Registry;
use crate::backend::{Backend, Replay, check_same_meaning};
use crate::clock::{Clock, Moment};
use crate::error::{Error, ErrorKind, Result};
use crate::record::{DynamicSchema, split_single_object};
use crate::topic::{TopicSchema, TopicSpec};

/// How soon a registry that is away is asked again, at first and at most.
const ASK_AGAIN: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

/// How long a call waits for it that holds up something else: a transaction of Kafka's, or a command.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long a number stays unknown that the registry does not have; whoever has registered it may have asked another node.
const UNKNOWN_FOR: Duration = Duration::from_secs(10);

/// What a number stands for.
pub(super) enum Meaning {
    /// The schema of that fingerprint.
    Schema(u64),
    /// Nothing that can be read: the registry does not have it, or it is no schema for this topic.
    Nothing,
    /// Nobody has asked yet.
    Unknown,
}

/// What is known of a topic's number.
enum Known {
    Schema(u64),
    Unusable { why: String, until: Option<Moment> },
}

/// A number in a topic.
type Key = (Arc<str>, u32);

#[derive(Default)]
struct State {
    known: HashMap<Key, Known>,
    /// Schemas that came from the registry, with their numbers.
    schemas: HashMap<(Arc<str>, u64), (u32, Arc<str>)>,
    /// What is asked for at the moment.
    asked: HashSet<Key>,
    /// Why an answer is not waited for any more.
    failed: HashMap<Key, Error>,
    /// Numbers that were given to schemas which are written.
    given: HashMap<(Arc<str>, u64), u32>,
}

/// Asks a registry what numbers stand for, and which number a schema has.
pub(super) struct Numbers {
    registry: Registry,
    clock: Clock,
    /// Keeps schemas with their topics.
    backend: Arc<dyn Backend>,
    replay: Arc<dyn Replay>,
    state: Mutex<State>,
    changed: Notify,
}

impl fmt::Debug for Numbers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Numbers").field("registry", &self.registry).finish_non_exhaustive()
    }
}

impl Numbers {
    pub(super) fn new(registry: Registry, clock: Clock, backend: Arc<dyn Backend>, replay: Arc<dyn Replay>) -> Self {
        Self { registry, clock, backend, replay, state: Mutex::default(), changed: Notify::new() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What a number of a topic's values stands for.
    pub(super) fn meaning(&self, topic: &Arc<str>, number: u32) -> Meaning {
        match self.state().known.get(&(topic.clone(), number)) {
            Some(Known::Schema(fingerprint)) => Meaning::Schema(*fingerprint),
            Some(Known::Unusable { until: Some(until), .. }) if self.clock.moment() >= *until => Meaning::Unknown,
            Some(Known::Unusable { .. }) => Meaning::Nothing,
            None => Meaning::Unknown,
        }
    }

    /// A schema of a topic's that came from the registry.
    pub(super) fn schema(&self, topic: &str, fingerprint: u64) -> Option<Arc<str>> {
        self.state().schemas.get(&(topic.into(), fingerprint)).map(|(_, json)| json.clone())
    }

    /// What the registry has to do with a value of the topic.
    pub(super) fn remark(&self, topic: &str, value: &[u8]) -> Option<String> {
        let state = self.state();
        if let Some((fingerprint, _)) = split_single_object(value) {
            let (number, _) = state.schemas.get(&(topic.into(), fingerprint))?;
            return Some(format!("the writer's is schema {number} of {}", self.registry.name()));
        }
        let (number, _) = split_confluent(value)?;
        match state.known.get(&(topic.into(), number))? {
            Known::Unusable { why, .. } => Some(why.clone()),
            Known::Schema(_) => None,
        }
    }

    /// Waits until it is known what these numbers stand for, however long the registry is away. Cancel-safe.
    pub(super) async fn learnt(self: &Arc<Self>, topic: &Arc<str>, numbers: &[u32]) -> Result<()> {
        for number in numbers {
            let key = (topic.clone(), *number);
            loop {
                let changed = self.changed.notified();
                if !matches!(self.meaning(topic, *number), Meaning::Unknown) {
                    break;
                }
                let begins = {
                    let state = &mut *self.state();
                    if let Some(error) = state.failed.remove(&key) {
                        return Err(error);
                    }
                    state.asked.insert(key.clone())
                };
                if begins {
                    // One task for all who wait: those may be dropped and come back many times meanwhile.
                    let asked = Asked { numbers: self.clone(), key: key.clone() };
                    tokio::spawn(asked.answered());
                }
                changed.await;
            }
        }
        Ok(())
    }

    /// The same for a thread that may be blocked, and for some seconds only.
    pub(super) fn learn_here(&self, topic: &Arc<str>, number: u32) -> Result<()> {
        let began = self.clock.moment();
        let mut wait = ASK_AGAIN.0;
        loop {
            let learnt = self.ask(number).and_then(|found| self.fitting(topic, found));
            match learnt {
                Err(error) if passes(&error) && self.clock.moment().since(began) < PATIENCE => {
                    std::thread::park_timeout(wait);
                    wait = (wait * 2).min(ASK_AGAIN.1);
                }
                learnt => return self.note(topic, number, learnt.map(|(schema, _)| schema)),
            }
        }
    }

    /// What the registry has under a number. Blocks.
    fn ask(&self, number: u32) -> Result<TopicSchema> {
        let text = self.registry.schema(number)?;
        let name = format!("schema {number} of {}", self.registry.name());
        let whole = self.registry.whole(&name, &text)?;
        Ok(TopicSchema { fingerprint: whole.fingerprint(), json: whole.json() })
    }

    /// A schema that can stand beside those that the topic keeps, and the topic where it is not among them. Blocks.
    fn fitting(&self, topic: &Arc<str>, found: TopicSchema) -> Result<(TopicSchema, Option<TopicSpec>)> {
        let kept = self.replay.topic(topic)?;
        check_same_meaning(topic, &kept.schemas, &found)?;
        let is_kept = kept.schemas.iter().any(|schema| schema.fingerprint == found.fingerprint);
        Ok((found, (!is_kept).then_some(kept.spec)))
    }

    /// Asks for a number and keeps its schema with the topic, so that others who meet its fingerprint know it, too: in
    /// repartition topics, in dead letters, after a restart.
    async fn learn(self: &Arc<Self>, topic: &Arc<str>, number: u32) -> Result<()> {
        let (this, name) = (self.clone(), topic.clone());
        let found = blocking(move || this.ask(number).and_then(|found| this.fitting(&name, found))).await;
        let found = match found {
            Ok((schema, Some(spec))) => {
                let spec = TopicSpec { schema: Some(schema.clone()), ..spec };
                match self.backend.create_topic(&spec).await {
                    Err(error) if error.kind() == ErrorKind::Config => {
                        tracing::warn!(%topic, %error, "a schema cannot be kept with its topic, only in this process");
                        Ok(schema)
                    }
                    kept => kept.map(|_| schema),
                }
            }
            found => found.map(|(schema, _)| schema),
        };
        self.note(topic, number, found)
    }

    /// Keeps what was found out of a number; what cannot be read is a value's trouble and no error here.
    fn note(&self, topic: &Arc<str>, number: u32, found: Result<TopicSchema>) -> Result<()> {
        let key = (topic.clone(), number);
        let known = match found {
            Ok(TopicSchema { fingerprint, json }) => {
                self.state().schemas.insert((topic.clone(), fingerprint), (number, json));
                Known::Schema(fingerprint)
            }
            Err(error) => {
                let until = match error.kind() {
                    ErrorKind::NotFound => Some(self.clock.moment().after(UNKNOWN_FOR)),
                    ErrorKind::Schema | ErrorKind::Conflict => None,
                    _ => return Err(error),
                };
                let why = format!("schema {number} cannot be had: {error}");
                tracing::warn!(%topic, number, %error, "the schema that values name cannot be had");
                Known::Unusable { why, until }
            }
        };
        self.state().known.insert(key, known);
        Ok(())
    }

    /// The number that the registry gives to a schema of what is written to the topic.
    pub(super) async fn number(&self, topic: &Arc<str>, fingerprint: u64) -> Result<u32> {
        let key = (topic.clone(), fingerprint);
        if let Some(number) = self.state().given.get(&key) {
            return Ok(*number);
        }
        let kept = self.replay.schema(topic, fingerprint)?;
        let Some(json) = kept.or_else(|| self.schema(topic, fingerprint)) else {
            let message = format!("topic {topic} does not keep schema {fingerprint:016x} of what is written; add it");
            return Err(Error::new(ErrorKind::Encode, message));
        };
        let schema = TopicSchema { fingerprint, json };
        let began = self.clock.moment();
        let mut wait = ASK_AGAIN.0;
        loop {
            match self.give(topic, &schema).await {
                Err(error) if passes(&error) => {
                    if self.clock.moment().since(began) > PATIENCE {
                        // Whoever opens anew, or sends again, finds out whether it is back.
                        let message = format!("topic {topic} needs a number for schema {fingerprint:016x}");
                        return Err(Error::new(ErrorKind::Unsettled, message).with_source(error));
                    }
                    tracing::warn!(%topic, %error, "waiting for the schema registry");
                    self.clock.sleep(wait).await;
                    wait = (wait * 2).min(ASK_AGAIN.1);
                }
                given => return given,
            }
        }
    }

    /// Gets a number for a schema that will be written. A registry that is away is asked again when it is.
    pub(super) async fn announce(&self, topic: &Arc<str>, schema: &TopicSchema) -> Result<()> {
        match self.give(topic, schema).await {
            Err(error) if passes(&error) => {
                tracing::warn!(%topic, %error, "what is written needs the schema registry");
                Ok(())
            }
            given => given.map(drop),
        }
    }

    async fn give(&self, topic: &Arc<str>, schema: &TopicSchema) -> Result<u32> {
        let (registry, native, wanted) = (self.registry.clone(), self.backend.native_name(topic), schema.clone());
        let number = blocking(move || {
            let whole = DynamicSchema::parse_named("the schema of what is written", &wanted.json)?;
            registry.enrol(&native, &whole)
        })
        .await?;
        self.state().given.insert((topic.clone(), schema.fingerprint), number);
        Ok(number)
    }

    /// Forgets what was learnt for a topic that is gone.
    pub(super) fn forget(&self, topic: &str) {
        let state = &mut *self.state();
        state.known.retain(|(name, _), _| **name != *topic);
        state.schemas.retain(|(name, _), _| **name != *topic);
        state.given.retain(|(name, _), _| **name != *topic);
    }
}

/// Whether the same call may work later.
fn passes(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Io | ErrorKind::Unsettled)
}

/// A number that is asked for. When this is gone nobody asks for it any more.
struct Asked {
    numbers: Arc<Numbers>,
    key: Key,
}

impl Asked {
    /// Asks until there is an answer.
    async fn answered(self) {
        let Self { numbers, key: (topic, number) } = &self;
        let began = numbers.clock.moment();
        let (mut wait, mut say_after) = (ASK_AGAIN.0, Duration::ZERO);
        loop {
            match numbers.learn(topic, *number).await {
                Ok(()) => {
                    if say_after > Duration::ZERO {
                        tracing::info!(%topic, number, "the schema registry answers again");
                    }
                    return;
                }
                Err(error) if passes(&error) => {
                    let time = numbers.clock.moment().since(began);
                    if time >= say_after {
                        // Ever more seldom, but not never.
                        say_after = (time * 2).max(Duration::from_secs(1));
                        tracing::warn!(%topic, number, %error, seconds = time.as_secs(), "records wait for the schema that they name");
                    }
                    numbers.clock.sleep(wait).await;
                    wait = (wait * 2).min(ASK_AGAIN.1);
                }
                Err(error) => {
                    numbers.state().failed.insert(self.key.clone(), error);
                    return;
                }
            }
        }
    }
}

impl Drop for Asked {
    /// Also where the runtime ends that it ran on: another may wait for the answer.
    fn drop(&mut self) {
        self.numbers.state().asked.remove(&self.key);
        self.numbers.changed.notify_waiters();
    }
}

/// Does what blocks off the threads that others need.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => {
            let message = "a call to the schema registry was ended with its runtime";
            Err(Error::new(ErrorKind::Closed, message).with_source(error))
        }
    }
}

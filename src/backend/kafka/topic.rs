//! Topics on the brokers: made with what is asked for, looked at, deleted.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use futures::executor::block_on;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::consumer::Consumer as _;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::metadata::Metadata;

use super::Inner;
use super::admin::topic_id;
use super::client::{Context, Role};
use super::delivery::Sender;
use super::ledger::{Entry, topic_key};
use super::options::ANSWER_TIMEOUT;
use super::topic_config::{Config, asked_for, config_of, without_latest};
use crate::backend::{Topic, check_same_meaning};
use crate::error::{Error, ErrorKind, Result};
use crate::topic::{Cleanup, TopicPartition, TopicSettings, TopicSpec, check_spec};

const ASKING: &str = "cannot ask the broker for its topics";

/// How long everybody may take to hear of a new topic, in steps of [`STEP`](super::STEP).
const STEPS: u32 = 200;

/// For how long partitions that are known of may not be found, in the same steps.
const STEPS_BACK: u32 = 60;

/// How often another process may come in between while a topic is made.
const ATTEMPTS: u32 = 50;

/// Keys of the ledger with what is to be written; nothing takes a key away.
pub(super) type Entries = Vec<(Vec<u8>, Option<Vec<u8>>)>;

impl Inner {
    /// The client that makes topics and deletes them.
    pub(super) fn admin(&self) -> Result<Arc<AdminClient<Context>>> {
        let mut admin = self.admin.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(admin) = &*admin {
            return Ok(admin.clone());
        }
        let made: Arc<AdminClient<Context>> = Arc::new(self.clients.make(Role::Admin, self.clients.context.clone())?);
        *admin = Some(Arc::clone(&made));
        Ok(made)
    }

    /// The number of a topic's partitions, by its name here; `None` where there is no such topic. Blocks.
    pub(super) fn find_partitions(&self, name: &str) -> Result<Option<u32>> {
        let native = self.clients.named(name);
        let metadata = self.metadata(Some(&native))?;
        let Some(topic) = metadata.topics().iter().find(|topic| topic.name() == native) else { return Ok(None) };
        match topic.error().map(RDKafkaErrorCode::from) {
            // A broker that has just come back may not name all of them.
            None => Ok(topic.partitions().iter().map(|partition| partition.id() as u32 + 1).max()),
            Some(RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic) => Ok(None),
            Some(RDKafkaErrorCode::LeaderNotAvailable) => Ok(None),
            Some(code) => Err(self.clients.explain(ASKING, KafkaError::MetadataFetch(code))),
        }
    }

    /// The number of a topic's partitions; where fewer are found than are known of they are looked for again for a while: a
    /// broker that has just come back may not know them. Blocks.
    fn find_at_least(&self, name: &str, known: u32) -> Result<Option<u32>> {
        for _ in 0..STEPS_BACK {
            let found = self.find_partitions(name)?;
            if found.unwrap_or(0) >= known {
                return Ok(found);
            }
            super::pause(super::STEP);
        }
        self.find_partitions(name)
    }

    /// What the brokers say of themselves and of one topic, or of all. Blocks.
    fn ask_metadata(&self, native: Option<&str>, timeout: Duration) -> Result<Metadata> {
        let asked = self.readers.client()?.fetch_metadata(native, timeout);
        asked.map_err(|error| self.clients.explain(ASKING, error))
    }

    /// Whether any broker answers; an error soon where none does. Blocks.
    pub(super) fn reach(&self) -> Result<()> {
        // A broker that goes in this moment keeps the question, and the next one goes to another.
        let half = ANSWER_TIMEOUT / 2;
        match self.ask_metadata(None, half) {
            Err(error) if error.kind() == ErrorKind::Io => self.ask_metadata(None, half).map(drop),
            answer => answer.map(drop),
        }
    }

    /// What the brokers say, which have answered before: one that has gone just now, or is busy, is no reason to give up.
    /// Blocks.
    pub(super) fn metadata(&self, native: Option<&str>) -> Result<Metadata> {
        match self.ask_metadata(native, ANSWER_TIMEOUT) {
            Err(error) if error.kind() == ErrorKind::Io => {
                tracing::warn!(%error, "asking again");
                self.ask_metadata(native, ANSWER_TIMEOUT)
            }
            answer => answer,
        }
    }

    /// The id that the broker has given a topic; `None` where it gives none. Blocks.
    pub(super) fn topic_id(&self, name: &str) -> Result<Option<Arc<str>>> {
        let client = self.readers.client()?;
        match topic_id(&client, &self.clients.named(name), ANSWER_TIMEOUT) {
            Ok(id) => Ok(id.map(Arc::from)),
            Err(error) => match error.rdkafka_error_code() {
                Some(RDKafkaErrorCode::UnsupportedFeature | RDKafkaErrorCode::UnsupportedVersion) => Ok(None),
                _ => Err(self.clients.explain(&format!("cannot ask for the id of topic {name}"), error)),
            },
        }
    }

    /// All topics of this name space with their numbers of partitions. Blocks.
    pub(super) fn list_partitions(&self) -> Result<Vec<(String, u32)>> {
        let metadata = self.metadata(None)?;
        let ours = |name: &str| name.strip_prefix(&self.clients.options.prefix).map(str::to_owned);
        let mut list: Vec<_> = metadata
            .topics()
            .iter()
            .filter(|topic| topic.error().is_none() && !topic.name().starts_with("__"))
            .filter_map(|topic| Some((ours(topic.name())?, topic.partitions().len() as u32)))
            .filter(|(name, _)| *name != self.clients.options.topics)
            .collect();
        list.sort();
        Ok(list)
    }

    /// Makes a topic on the broker. Blocks until everybody knows it.
    fn make_on_broker(&self, name: &str, partitions: u32, config: &Config) -> Result<()> {
        let admin = self.admin()?;
        let native = self.clients.named(name);
        let options = AdminOptions::new().request_timeout(Some(ANSWER_TIMEOUT)).operation_timeout(Some(ANSWER_TIMEOUT));
        let replication = TopicReplication::Fixed(self.clients.options.replicas.map_or(-1, i32::from));
        let mut topic = NewTopic::new(&native, partitions as i32, replication);
        for (name, value) in config {
            topic = topic.set(name, value);
        }
        let doing = format!("cannot make topic {name}");
        let failed = |error| self.clients.explain(&doing, error);
        let made = block_on(admin.create_topics([&topic], &options)).map_err(failed)?;
        for result in made {
            match result {
                Ok(_) | Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
                Err((_, RDKafkaErrorCode::InvalidConfig)) => {
                    if let Some(config) = without_latest(config) {
                        return self.make_on_broker(name, partitions, &config);
                    }
                    let settings: Vec<_> = config.iter().map(|(name, value)| format!("{name}={value}")).collect();
                    let message =
                        format!("{doing}: the broker does not take one of its settings ({})", settings.join(", "));
                    return Err(Error::new(ErrorKind::Config, message));
                }
                Err((_, code)) => return Err(failed(KafkaError::AdminOp(code))),
            }
        }
        self.wait_for(name, Some(partitions))
    }

    /// Waits until the broker says that a topic is there, or is not.
    fn wait_for(&self, name: &str, partitions: Option<u32>) -> Result<()> {
        for _ in 0..STEPS {
            if self.find_partitions(name)? == partitions {
                return Ok(());
            }
            super::pause(super::STEP);
        }
        let error = KafkaError::MetadataFetch(RDKafkaErrorCode::OperationTimedOut);
        Err(self.clients.explain(&format!("topic {name} does not appear, or does not go"), error))
    }

    /// Makes the topic that the ledger is in, where it is missing. Blocks.
    pub(super) fn make_ledger(&self) -> Result<()> {
        let name = &self.clients.options.topics;
        let settings = TopicSettings { cleanup: Cleanup::Compact, ..TopicSettings::default() };
        let config = config_of(&settings, true);
        match self.find_partitions(name)? {
            Some(1) => return self.check_config(name, &config, true),
            Some(partitions) => {
                let message = format!(
                    "topic {name} (gretchen.topics) is to hold what is known of topics, has {partitions} partitions and so \
                     is somebody else's; name one that is used for nothing else"
                );
                return Err(Error::new(ErrorKind::Config, message));
            }
            None => {}
        }
        self.make_on_broker(name, 1, &config)
    }

    /// Creates a topic, or returns the one that exists; adds the schema. Blocks.
    pub(super) fn create(&self, spec: &TopicSpec) -> Result<Topic> {
        check_spec(spec)?;
        if *spec.name == *self.clients.options.topics {
            let message = format!(
                "topic {} holds what is known of all topics; use another, or name another for that with gretchen.topics",
                spec.name
            );
            return Err(Error::new(ErrorKind::Config, message));
        }
        self.read_ledger_patiently()?;
        let (topic, had) = match self.wanted(spec) {
            Err(error) if error.kind() == ErrorKind::Conflict && self.adopt(&spec.name)? => self.wanted(spec),
            wanted => wanted,
        }?;
        if had.as_ref() != Some(&Entry::of(&topic)) {
            self.change(|inner| {
                let (topic, had) = inner.wanted(spec)?;
                let entry = Entry::of(&topic);
                let changed = had.as_ref() != Some(&entry);
                Ok((topic, changed.then(|| vec![(topic_key(&spec.name), serde_json::to_vec(&entry).ok())])))
            })?;
        }
        // Behind the entry: whoever finds a topic without one takes it for somebody else's.
        if self.find_partitions(&spec.name)?.is_none() {
            let config = config_of(&topic.spec.settings, topic.spec.internal);
            self.make_on_broker(&spec.name, topic.spec.partitions, &config)?;
        } else {
            // What `topics --set` has set later counts more than what the app asks for.
            let was_set = !spec.internal && topic.spec.settings != TopicSettings::default();
            let settings = if was_set { &topic.spec.settings } else { &spec.settings };
            let is_kept = spec.internal && spec.settings.cleanup == Cleanup::Compact;
            self.check_config(&spec.name, &asked_for(settings, spec.internal), is_kept)?;
        }
        // Somebody may have added a schema since.
        self.read_ledger_patiently()?;
        Ok(self.ledger.topic(&spec.name)?.unwrap_or(topic))
    }

    /// The topic as it should be, and the entry that it has.
    fn wanted(&self, spec: &TopicSpec) -> Result<(Topic, Option<Entry>)> {
        let kept = self.ledger.topic(&spec.name)?;
        let found = self.find_at_least(&spec.name, kept.as_ref().map_or(0, |topic| topic.spec.partitions))?;
        let had = kept.as_ref().map(Entry::of);
        let mut topic = match (kept, found) {
            (Some(topic), Some(partitions)) => {
                if topic.spec.partitions != partitions {
                    let message = format!(
                        "topic {} was made with {} partitions and has {partitions}: agents and keys go by the number it was \
                         made with; put its records into a new topic",
                        spec.name, topic.spec.partitions
                    );
                    return Err(Error::new(ErrorKind::Conflict, message));
                }
                topic
            }
            // What somebody else made is taken as it is.
            (None, Some(partitions)) => foreign(&spec.name, partitions),
            (_, None) => Topic {
                spec: TopicSpec { schema: None, format: Some(spec.format.unwrap_or_default()), ..spec.clone() },
                schemas: Vec::new(),
            },
        };
        // Only who reads or writes a topic of somebody else's knows what is in it.
        topic.spec.format = topic.spec.format.or(spec.format);
        topic.spec.check_fits(spec)?;
        topic.spec.numbers = topic.spec.numbers.or(spec.numbers);
        if let Some(schema) = &spec.schema {
            check_same_meaning(&spec.name, &topic.schemas, schema)?;
            if topic.schemas.iter().all(|have| have.fingerprint != schema.fingerprint) {
                topic.schemas.push(schema.clone());
                topic.spec.schema = Some(schema.clone());
            }
        }
        Ok((topic, had))
    }

    /// Takes over the number of partitions that a topic has on the brokers, where it never had a record: nothing goes by the
    /// other number. An app has said what the topic is to be and was not allowed to make it, and somebody else has made it.
    fn adopt(&self, name: &str) -> Result<bool> {
        let Some(kept) = self.ledger.topic(name)? else { return Ok(false) };
        let had = kept.spec.partitions;
        // Twice for a while: a broker that has just come back may name some of them.
        self.find_at_least(name, had)?;
        let Some(partitions) = self.find_at_least(name, had)?.filter(|found| *found != had) else {
            return Ok(false);
        };
        for partition in 0..partitions {
            if self.written_end(&TopicPartition::new(name, partition))? > 0 {
                return Ok(false);
            }
        }
        self.change(|inner| {
            let Some(mut topic) = inner.ledger.topic(name)? else { return Ok((false, None)) };
            match topic.spec.partitions {
                // Somebody else was as far.
                now if now == partitions => return Ok((true, None)),
                now if now != had => return Ok((false, None)),
                _ => topic.spec.partitions = partitions,
            }
            Ok((true, Some(vec![(topic_key(name), serde_json::to_vec(&Entry::of(&topic)).ok())])))
        })
    }

    /// Changes the ledger: `decide` says what to write, by what was read up to its end, and is asked again when somebody
    /// else came in between. Blocks.
    pub(super) fn change<T>(&self, decide: impl Fn(&Self) -> Result<(T, Option<Entries>)>) -> Result<T> {
        self.make_ledger()?;
        for attempt in 1.. {
            let result = self.attempt(&decide);
            match result {
                Err(error) if error.kind() == ErrorKind::Unsettled && attempt < ATTEMPTS => {
                    // Two that shut each other out must not go in step.
                    let wait_ms = u64::from(std::process::id() % 31 + attempt * 7 % 23);
                    super::pause(std::time::Duration::from_millis(wait_ms));
                }
                result => return result,
            }
        }
        unreachable!("the last attempt returns")
    }

    fn attempt<T>(&self, decide: &impl Fn(&Self) -> Result<(T, Option<Entries>)>) -> Result<T> {
        let mut kept = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        let writer = match kept.take() {
            Some(writer) => writer,
            None => {
                let writer = Sender::take_over(&self.clients, &self.clock, &self.clients.options.topics)?;
                // The change that somebody has made just before may not be seen yet.
                self.read_settled_ledger()?;
                writer
            }
        };
        self.read_ledger()?;
        let (result, entries) = decide(self)?;
        if let Some(entries) = entries {
            self.write(&writer, &entries)?;
        }
        *kept = Some(writer);
        Ok(result)
    }

    /// Changes what becomes of a topic's old records. Blocks.
    pub(super) fn set(&self, name: &str, settings: &TopicSettings) -> Result<Topic> {
        self.read_ledger()?;
        let topic = self.found(name)?;
        topic.spec.check_settable()?;
        if self.ledger.topic(name)?.is_none() {
            let message = format!("topic {name} was not made by gretchen; set it with kafka-configs");
            return Err(Error::new(ErrorKind::Config, message));
        }
        self.change_to(name, &config_of(settings, false))?;
        self.change(|inner| {
            let mut topic = inner.found(name)?;
            topic.spec.settings = *settings;
            let entry = serde_json::to_vec(&Entry::of(&topic)).ok();
            Ok((topic, Some(vec![(topic_key(name), entry)])))
        })
    }

    /// Deletes a topic with its records and what is known of it. Blocks.
    pub(super) fn delete(&self, name: &str) -> Result<()> {
        if self.find_partitions(name)?.is_none() {
            return Err(Error::new(ErrorKind::NotFound, format!("topic {name} does not exist")));
        }
        if self.readers.reads(name) {
            let message = format!("topic {name} is being read in this process; stop its readers first");
            return Err(Error::new(ErrorKind::Conflict, message));
        }
        let admin = self.admin()?;
        let native = self.clients.named(name);
        let options = AdminOptions::new().request_timeout(Some(ANSWER_TIMEOUT)).operation_timeout(Some(ANSWER_TIMEOUT));
        let failed = |error| self.clients.explain(&format!("cannot delete topic {name}"), error);
        let deleted = block_on(admin.delete_topics(&[&native], &options)).map_err(failed)?;
        for result in deleted {
            result.map_err(|(_, code)| failed(KafkaError::AdminOp(code)))?;
        }
        self.forget_partitions(name);
        self.wait_for(name, None)?;
        self.change(|inner| {
            let mut entries = vec![(topic_key(name), None)];
            entries.extend(inner.ledger.sequences_in(name).into_iter().map(|key| (key, None)));
            Ok(((), Some(entries)))
        })
    }

    /// A topic as it is, by what was read of the ledger. Blocks.
    pub(super) fn found(&self, name: &str) -> Result<Topic> {
        let Some(partitions) = self.find_partitions(name)? else {
            return Err(Error::new(ErrorKind::NotFound, format!("topic {name} does not exist")));
        };
        Ok(self.ledger.topic(name)?.unwrap_or_else(|| foreign(name, partitions)))
    }

    /// All topics. Blocks.
    pub(super) fn list(&self) -> Result<Vec<Topic>> {
        self.read_ledger_patiently()?;
        let topics = self.list_partitions()?;
        topics
            .into_iter()
            .map(|(name, partitions)| Ok(self.ledger.topic(&name)?.unwrap_or_else(|| foreign(&name, partitions))))
            .collect()
    }
}

/// A topic that somebody else has made.
fn foreign(name: &str, partitions: u32) -> Topic {
    Topic { spec: TopicSpec::new(Arc::<str>::from(name), partitions), schemas: Vec::new() }
}

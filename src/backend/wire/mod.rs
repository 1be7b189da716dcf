//! Topics whose values have another form on the wire than single objects, as a layer over any backend.
//!
//! Above the layer every value of a record is a single object, whatever its topic holds: readers put the header in
//! front that names the schema, producers take it off. Topics of single objects pass untouched, and so do those of plain
//! values, of which producers only see whether they are such.

mod form;
mod numbers;
mod producer;
mod reader;

use std::any::Any;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;

use self::form::{Form, Wire};
use self::numbers::Numbers;
use self::producer::{WireProducer, WireTransactions};
use self::reader::WireReader;
use super::registry::Registry;
use super::{
    AssignmentSet, Backend, Capabilities, Cleaned, Compaction, Consumer, Copies, Need, Offsets, Owner, Producer,
    ProducerId, Reader, Replay, Topic, Transactions,
};
use crate::clock::Clock;
use crate::error::{Error, ErrorKind, Result};
use crate::topic::{Numbering, TopicPartition, TopicSchema, TopicSettings, TopicSpec, WireFormat};

pub use self::form::plain_of;

/// A backend whose topics may hold values in any [`WireFormat`].
#[derive(Clone, Debug)]
pub struct WireLayer {
    inner: Arc<dyn Backend>,
    replay: Option<Arc<WireReplay>>,
    /// What the app says of its topics.
    formats: Arc<BTreeMap<String, WireFormat>>,
    settings: Arc<BTreeMap<String, TopicSettings>>,
}

impl WireLayer {
    /// The layer over a backend; topics that are created get the format that `formats` says for them.
    pub fn new(inner: Arc<dyn Backend>, formats: BTreeMap<String, WireFormat>) -> Self {
        let replay = inner.replay().map(|replay| Arc::new(WireReplay::new(inner.clone(), replay, None)));
        Self { inner, replay, formats: Arc::new(formats), settings: Arc::default() }
    }

    /// The numbers in Confluent headers are those that a registry gives. Schemas that come from there are kept with their
    /// topics, as all others are.
    #[must_use]
    pub fn with_registry(self, registry: Registry, clock: Clock) -> Self {
        let replay = self.inner.replay().map(|replay| {
            let numbers = Arc::new(Numbers::new(registry, clock, self.inner.clone(), replay.clone()));
            Arc::new(WireReplay::new(self.inner.clone(), replay, Some(numbers)))
        });
        Self { replay, ..self }
    }

    /// Topics that are created also get the settings that are said for them here.
    #[must_use]
    pub fn with_settings(self, settings: BTreeMap<String, TopicSettings>) -> Self {
        Self { settings: Arc::new(settings), ..self }
    }
}

#[async_trait]
impl Backend for WireLayer {
    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }

    async fn create_topic(&self, spec: &TopicSpec) -> Result<Topic> {
        let mut spec = spec.clone();
        spec.format = self.formats.get(&*spec.name).copied().or(spec.format);
        spec.settings = self.settings.get(&*spec.name).copied().unwrap_or(spec.settings);
        self.inner.create_topic(&spec).await
    }

    async fn topics(&self) -> Result<Vec<Topic>> {
        self.inner.topics().await
    }

    async fn producer(&self, id: ProducerId) -> Result<Box<dyn Producer>> {
        let inner = self.inner.producer(id).await?;
        Ok(match &self.replay {
            Some(replay) => Box::new(WireProducer::new(inner, replay.clone())),
            None => inner,
        })
    }

    async fn consumer(&self, group: &str, sets: &[AssignmentSet]) -> Result<Box<dyn Consumer>> {
        self.inner.consumer(group, sets).await
    }

    async fn consumer_with(
        &self,
        group: &str,
        sets: &[AssignmentSet],
        copies: Arc<Copies>,
    ) -> Result<Box<dyn Consumer>> {
        self.inner.consumer_with(group, sets, copies).await
    }

    fn check_room(&self, need: Need) -> Result<()> {
        self.inner.check_room(need)
    }

    fn native_name(&self, topic: &str) -> String {
        self.inner.native_name(topic)
    }

    async fn announce(&self, topic: &Arc<str>, schema: &TopicSchema) -> Result<()> {
        let Some(replay) = &self.replay else { return Ok(()) };
        replay.claim(topic).await?;
        match (&replay.numbers, replay.format(topic)?) {
            (Some(numbers), WireFormat::Confluent) => numbers.announce(topic, schema).await,
            _ => self.inner.announce(topic, schema).await,
        }
    }

    fn replay(&self) -> Option<Arc<dyn Replay>> {
        self.replay.clone().map(|replay| replay as _)
    }

    fn transactions(&self) -> Option<Arc<dyn Transactions>> {
        let inner = self.inner.transactions()?;
        Some(match &self.replay {
            Some(replay) => Arc::new(WireTransactions { inner, replay: replay.clone() }),
            None => inner,
        })
    }
}

/// The other side of the layer: what reads.
#[derive(Debug)]
struct WireReplay {
    /// Knows whose the numbers in a topic's values are.
    backend: Arc<dyn Backend>,
    inner: Arc<dyn Replay>,
    /// A topic's format never changes, and every commit opens a reader.
    formats: Mutex<HashMap<Arc<str>, WireFormat>>,
    /// What the numbers in Confluent headers stand for, where a registry gives them.
    numbers: Option<Arc<Numbers>>,
    /// Topics that are known to have the numbers which are written here.
    claimed: Mutex<HashSet<Arc<str>>>,
}

impl WireReplay {
    fn new(backend: Arc<dyn Backend>, inner: Arc<dyn Replay>, numbers: Option<Arc<Numbers>>) -> Self {
        Self { backend, inner, formats: Mutex::default(), numbers, claimed: Mutex::default() }
    }

    fn claimed(&self) -> MutexGuard<'_, HashSet<Arc<str>>> {
        self.claimed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Before the first value is written: a topic has either numbers of its own or those of a registry, and keeps whose they
    /// are, so that whoever would write others is refused and whoever reads knows what they stand for.
    async fn claim(&self, topic: &Arc<str>) -> Result<()> {
        if self.format(topic)? != WireFormat::Confluent || self.claimed().contains(topic) {
            return Ok(());
        }
        let ours = if self.numbers.is_some() { Numbering::Registry } else { Numbering::Own };
        let found = self.inner.topic(topic)?.spec;
        if found.numbers != Some(ours) {
            self.backend.create_topic(&TopicSpec { schema: None, numbers: Some(ours), ..found }).await?;
        }
        self.claimed().insert(topic.clone());
        Ok(())
    }

    fn formats(&self) -> MutexGuard<'_, HashMap<Arc<str>, WireFormat>> {
        self.formats.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The topic's format.
    fn format(&self, topic: &Arc<str>) -> Result<WireFormat> {
        let known = self.formats().get(topic).copied();
        match known {
            Some(format) => Ok(format),
            None => {
                let format = self.inner.topic(topic)?.spec.format.unwrap_or_default();
                self.formats().insert(topic.clone(), format);
                Ok(format)
            }
        }
    }

    /// What is done with the topic's values.
    fn form(&self, topic: &Arc<str>) -> Result<Form> {
        let known = self.formats().get(topic).copied();
        if let Some(form) = known.and_then(Form::of_untouched) {
            return Ok(form);
        }
        let found = self.inner.topic(topic)?;
        let format = found.spec.format.unwrap_or_default();
        self.formats().insert(topic.clone(), format);
        if let Some(form) = Form::of_untouched(format) {
            return Ok(form);
        }
        let numbers = match found.spec.numbers {
            Some(Numbering::Own) => None,
            Some(Numbering::Registry) if self.numbers.is_none() => {
                return Err(Error::new(ErrorKind::Config, found.spec.lacks_registry()));
            }
            _ => self.numbers.as_ref(),
        };
        Ok(Form::Wire(Box::new(Wire::new(self.inner.clone(), format, &found, numbers))))
    }
}

#[async_trait]
impl Replay for WireReplay {
    fn reader(&self, partition: &TopicPartition, from: u64) -> Result<Box<dyn Reader>> {
        let inner = self.inner.reader(partition, from)?;
        Ok(match self.form(&partition.topic)? {
            Form::Wire(wire) => Box::new(WireReader::new(inner, *wire)),
            Form::Single | Form::Plain(_) => inner,
        })
    }

    fn offsets(&self, partition: &TopicPartition) -> Result<Offsets> {
        self.inner.offsets(partition)
    }

    fn reads_committed(&self) -> bool {
        self.inner.reads_committed()
    }

    async fn sync(&self, partition: &TopicPartition, up_to: u64) -> Result<()> {
        self.inner.sync(partition, up_to).await
    }

    fn next_sequence(&self, partition: &TopicPartition, producer: ProducerId) -> Result<u64> {
        self.inner.next_sequence(partition, producer)
    }

    fn position(&self, group: &str, partition: &TopicPartition) -> Result<Option<u64>> {
        self.inner.position(group, partition)
    }

    fn standbys(&self, group: &str, set: &AssignmentSet) -> Result<Vec<Vec<u32>>> {
        self.inner.standbys(group, set)
    }

    fn owners(&self, group: &str, set: &AssignmentSet) -> Result<Vec<Option<Owner>>> {
        self.inner.owners(group, set)
    }

    fn forget(&self, group: &str, partition: &TopicPartition) -> Result<()> {
        self.inner.forget(group, partition)
    }

    fn set_position(&self, group: &str, partition: &TopicPartition, position: u64) -> Result<()> {
        self.inner.set_position(group, partition, position)
    }

    fn offset_at(&self, partition: &TopicPartition, timestamp_ms: i64) -> Result<Option<u64>> {
        self.inner.offset_at(partition, timestamp_ms)
    }

    fn commit_of_position(&self, group: &str, partition: &TopicPartition) -> Result<Option<u64>> {
        self.inner.commit_of_position(group, partition)
    }

    fn position_was_set(&self, group: &str, partition: &TopicPartition) -> Result<bool> {
        self.inner.position_was_set(group, partition)
    }

    fn topic(&self, name: &str) -> Result<Topic> {
        self.inner.topic(name)
    }

    fn topic_id(&self, name: &str) -> Result<Option<Arc<str>>> {
        self.inner.topic_id(name)
    }

    fn schema(&self, topic: &str, fingerprint: u64) -> Result<Option<Arc<str>>> {
        match self.inner.schema(topic, fingerprint)? {
            // Who may only read could not keep it with the topic.
            None => Ok(self.numbers.as_ref().and_then(|numbers| numbers.schema(topic, fingerprint))),
            found => Ok(found),
        }
    }

    fn remark(&self, topic: &str, value: &[u8]) -> Option<String> {
        self.numbers.as_ref()?.remark(topic, value)
    }

    async fn set_topic(&self, name: &str, settings: &TopicSettings) -> Result<Topic> {
        self.inner.set_topic(name, settings).await
    }

    async fn hold_cleaning(&self, partition: &TopicPartition) -> Result<Option<Box<dyn Any + Send>>> {
        self.inner.hold_cleaning(partition).await
    }

    async fn clean(&self, partition: &TopicPartition, thorough: bool) -> Result<Cleaned> {
        self.inner.clean(partition, thorough).await
    }

    async fn delete_before(&self, partition: &TopicPartition, offset: u64) -> Result<Cleaned> {
        self.inner.delete_before(partition, offset).await
    }

    async fn compact(
        &self,
        partition: &TopicPartition,
        before: u64,
        rules: Box<dyn Compaction>,
        thorough: bool,
    ) -> Result<Cleaned> {
        self.inner.compact(partition, before, rules, thorough).await
    }

    async fn delete_topic(&self, name: &str) -> Result<()> {
        self.inner.delete_topic(name).await?;
        self.formats().remove(name);
        self.claimed().remove(name);
        if let Some(numbers) = &self.numbers {
            numbers.forget(name);
        }
        Ok(())
    }
}

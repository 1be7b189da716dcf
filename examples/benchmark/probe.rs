//! A backend that notes when a topic is read; all else it passes on.

use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use gretchen::backend::{
    AssignmentSet, Backend, Capabilities, Cleaned, Compaction, Consumer, Need, Offsets, Owner, Producer, ProducerId,
    Reader, Replay, Topic, Transactions,
};
use gretchen::error::Result;
use gretchen::prelude::Clock;
use gretchen::record::Frames;
use gretchen::topic::{TopicPartition, TopicSettings, TopicSpec};

use crate::measure::Sample;

/// When the topic was read, and how many records had been handed out by then.
#[derive(Clone, Debug)]
pub(crate) struct Notes {
    clock: Clock,
    samples: Arc<Mutex<Vec<Sample>>>,
}

impl Notes {
    pub(crate) fn new(clock: &Clock) -> Self {
        Self { clock: clock.clone(), samples: Arc::default() }
    }

    /// `more` records are about to be worked on.
    pub(crate) fn note(&self, more: u64) {
        let mut samples = self.samples.lock().unwrap_or_else(PoisonError::into_inner);
        let done = samples.last().map_or(0, |last| last.records);
        samples.push(Sample::take(&self.clock, done + more));
    }

    /// How many records have been handed out.
    pub(crate) fn records(&self) -> u64 {
        self.samples.lock().unwrap_or_else(PoisonError::into_inner).last().map_or(0, |last| last.records)
    }

    pub(crate) fn samples(&self) -> Vec<Sample> {
        self.samples.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// A backend of which one topic is watched.
#[derive(Debug)]
pub(crate) struct Probe<B: ?Sized> {
    topic: &'static str,
    notes: Notes,
    inner: Arc<B>,
}

impl<B: ?Sized> Probe<B> {
    pub(crate) fn new(topic: &'static str, notes: Notes, inner: Arc<B>) -> Self {
        Self { topic, notes, inner }
    }
}

#[async_trait]
impl Backend for Probe<dyn Backend> {
    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }

    async fn create_topic(&self, spec: &TopicSpec) -> Result<Topic> {
        self.inner.create_topic(spec).await
    }

    async fn topics(&self) -> Result<Vec<Topic>> {
        self.inner.topics().await
    }

    async fn producer(&self, id: ProducerId) -> Result<Box<dyn Producer>> {
        self.inner.producer(id).await
    }

    async fn consumer(&self, group: &str, sets: &[AssignmentSet]) -> Result<Box<dyn Consumer>> {
        self.inner.consumer(group, sets).await
    }

    fn check_room(&self, need: Need) -> Result<()> {
        self.inner.check_room(need)
    }

    fn transactions(&self) -> Option<Arc<dyn Transactions>> {
        self.inner.transactions()
    }

    fn replay(&self) -> Option<Arc<dyn Replay>> {
        let inner = self.inner.replay()?;
        Some(Arc::new(Probe { topic: self.topic, notes: self.notes.clone(), inner }))
    }
}

#[async_trait]
impl Replay for Probe<dyn Replay> {
    fn reader(&self, partition: &TopicPartition, from: u64) -> Result<Box<dyn Reader>> {
        let reader = self.inner.reader(partition, from)?;
        match *partition.topic == *self.topic {
            true => Ok(Box::new(Noting { notes: self.notes.clone(), reader })),
            false => Ok(reader),
        }
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

    fn topic(&self, name: &str) -> Result<Topic> {
        self.inner.topic(name)
    }

    fn schema(&self, topic: &str, fingerprint: u64) -> Result<Option<Arc<str>>> {
        self.inner.schema(topic, fingerprint)
    }

    async fn set_topic(&self, name: &str, settings: &TopicSettings) -> Result<Topic> {
        self.inner.set_topic(name, settings).await
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
        self.inner.delete_topic(name).await
    }
}

struct Noting {
    notes: Notes,
    reader: Box<dyn Reader>,
}

#[async_trait]
impl Reader for Noting {
    fn read(&mut self, into: &mut Frames) -> Result<bool> {
        let before = self.reader.position();
        let read = self.reader.read(into)?;
        if read {
            self.notes.note(self.reader.position() - before);
        }
        Ok(read)
    }

    fn read_now(&mut self, into: &mut Frames) -> Result<Option<bool>> {
        let before = self.reader.position();
        let read = self.reader.read_now(into)?;
        if read == Some(true) {
            self.notes.note(self.reader.position() - before);
        }
        Ok(read)
    }

    async fn ready(&mut self) -> Result<()> {
        self.reader.ready().await
    }

    fn position(&self) -> u64 {
        self.reader.position()
    }
}

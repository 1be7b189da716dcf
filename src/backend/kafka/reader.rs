//! Reads a partition by position, apart from any group.
//!
//! A client fetches a partition once, so that several readers of one need several clients; [`Readers`] keeps as many as
//! were needed at once.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use async_trait::async_trait;
use rdkafka::consumer::BaseConsumer;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use super::client::{Clients, Context, Role};
use super::native::{PartitionQueue, Polled};
use super::options::ANSWER_TIMEOUT;
use crate::backend::{Offsets, Reader};
use crate::error::{Error, ErrorKind, Result};
use crate::record::{FrameBuilder, Frames};
use crate::topic::TopicPartition;

/// Bytes of a batch, about.
const BATCH_BYTES: usize = 256 << 10;

/// How often librdkafka's messages to the program are looked at.
const HEAR_EVERY: Duration = Duration::from_millis(200);

/// How long a step of a waiting read takes, and how many of them without anything make an error.
const STEP: Duration = Duration::from_millis(100);
const STEPS: u32 = 300;

/// For so many steps a partition may be unknown.
const UNKNOWN_STEPS: u32 = 80;

/// The clients of readers.
#[derive(Debug)]
pub(super) struct Readers {
    clients: Clients,
    slots: Arc<Mutex<Vec<Slot>>>,
}

/// A client, and what it fetches.
struct Slot {
    client: Arc<BaseConsumer<Context>>,
    busy: HashSet<TopicPartition>,
}

impl std::fmt::Debug for Slot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Slot").field("busy", &self.busy).finish_non_exhaustive()
    }
}

fn locked(slots: &Mutex<Vec<Slot>>) -> MutexGuard<'_, Vec<Slot>> {
    slots.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Readers {
    pub(super) fn new(clients: Clients) -> Result<Self> {
        let slots = Arc::default();
        let heard = Arc::downgrade(&slots);
        std::thread::Builder::new()
            .name("kafka-readers".into())
            .spawn(move || hear(&heard))
            .map_err(|error| Error::io("cannot start a thread for Kafka", error))?;
        Ok(Self { clients, slots })
    }

    /// A client to ask for offsets and metadata.
    pub(super) fn client(&self) -> Result<Arc<BaseConsumer<Context>>> {
        let mut slots = locked(&self.slots);
        if let Some(slot) = slots.first() {
            return Ok(slot.client.clone());
        }
        let client = self.make()?;
        slots.push(Slot { client: client.clone(), busy: HashSet::new() });
        Ok(client)
    }

    fn make(&self) -> Result<Arc<BaseConsumer<Context>>> {
        Ok(Arc::new(self.clients.make(Role::Reader, self.clients.context.clone())?))
    }

    /// Takes a client that does not fetch the partition yet.
    fn lease(&self, place: &TopicPartition) -> Result<Lease> {
        let mut slots = locked(&self.slots);
        let at = match slots.iter().position(|slot| !slot.busy.contains(place)) {
            Some(at) => at,
            None => {
                let client = self.make()?;
                slots.push(Slot { client, busy: HashSet::new() });
                slots.len() - 1
            }
        };
        slots[at].busy.insert(place.clone());
        Ok(Lease { slots: self.slots.clone(), at, place: place.clone(), client: slots[at].client.clone() })
    }

    /// Whether something in this process reads the topic.
    pub(super) fn reads(&self, topic: &str) -> bool {
        locked(&self.slots).iter().any(|slot| slot.busy.iter().any(|place| *place.topic == *topic))
    }

    /// A reader from an offset on; `offsets` are those of now.
    pub(super) fn reader(&self, place: &TopicPartition, from: u64, offsets: Offsets) -> Result<KafkaReader> {
        if from > offsets.end {
            let message = format!("the partition ends at offset {}", offsets.end);
            return Err(Error::new(ErrorKind::NotFound, message).at(place).at_offset(from));
        }
        let lease = self.lease(place)?;
        let mut reader = KafkaReader {
            clients: self.clients.clone(),
            topic: self.clients.named(&place.topic),
            queue: None,
            lease,
            position: from,
            at_end: from == offsets.end,
            committed: offsets.end,
            begins: from,
            tail: from,
            next: from,
            builder: FrameBuilder::new(),
            record_bytes: 64,
            failed: None,
        };
        reader.start()?;
        Ok(reader)
    }
}

impl Drop for Readers {
    fn drop(&mut self) {
        // Whoever drops a client waits for its threads.
        let slots = std::mem::take(&mut *locked(&self.slots));
        self.clients.farewells.say(slots);
    }
}

/// Hears what the clients have to say for as long as there are any.
fn hear(slots: &Weak<Mutex<Vec<Slot>>>) {
    while let Some(slots) = slots.upgrade() {
        let clients: Vec<_> = locked(&slots).iter().map(|slot| slot.client.clone()).collect();
        drop(slots);
        for client in clients {
            while client.poll(Duration::ZERO).is_some() {}
        }
        super::pause(HEAR_EVERY);
    }
}

/// A client that fetches a partition for one reader.
struct Lease {
    slots: Arc<Mutex<Vec<Slot>>>,
    at: usize,
    place: TopicPartition,
    client: Arc<BaseConsumer<Context>>,
}

impl std::fmt::Debug for Lease {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lease").field("place", &self.place).finish_non_exhaustive()
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Some(slot) = locked(&self.slots).get_mut(self.at) {
            slot.busy.remove(&self.place);
        }
    }
}

/// A reader of one partition.
#[derive(Debug)]
pub(super) struct KafkaReader {
    clients: Clients,
    topic: String,
    // Before the lease: the queue must be gone when somebody else may fetch the partition.
    queue: Option<PartitionQueue>,
    lease: Lease,
    position: u64,
    /// Nothing is left to read, as far as is known.
    at_end: bool,
    /// Up to here something is committed: the leader has said so when the reader began. A broker that has just become the
    /// leader, and one that only follows, may know of less for a moment, and an end before this one is theirs alone.
    committed: u64,
    /// Where the records that wait begin.
    begins: u64,
    /// The offset after the last of them.
    tail: u64,
    /// The offset that is read next; behind the last record there may be offsets that no record has.
    next: u64,
    builder: FrameBuilder,
    /// Bytes of a record, about.
    record_bytes: usize,
    failed: Option<RDKafkaErrorCode>,
}

impl KafkaReader {
    fn start(&mut self) -> Result<()> {
        self.queue = None;
        let offset = i64::try_from(self.next).unwrap_or(i64::MAX);
        let partition = self.lease.place.partition as i32;
        let queue = PartitionQueue::start(self.lease.client.clone(), &self.topic, partition, offset);
        self.queue = Some(queue.map_err(|error| self.clients.explain("cannot read", error).at(&self.lease.place))?);
        Ok(())
    }

    /// Takes what has come; waits for something if nothing has.
    fn pull(&mut self, wait: Duration) -> Result<()> {
        let most = BATCH_BYTES / self.record_bytes.max(1);
        let Self { queue, builder, tail, next, at_end, committed, failed, .. } = self;
        let Some(queue) = queue else {
            return Err(Error::new(ErrorKind::Closed, "the reader has failed before").at(&self.lease.place));
        };
        let before = (builder.len(), builder.count());
        queue.take(most, wait, |polled| match polled {
            Polled::Record { offset, timestamp, key, value, headers } => {
                if offset >= *next {
                    // The hole before it counts from the record before, wherever the end has been seen meanwhile.
                    builder.push_at(tail, offset, key, value, timestamp, headers);
                    *next = *tail;
                }
                *at_end = false;
            }
            // Behind the last record there may be the marks of transactions, which nobody gets to see.
            Polled::End(offset) => {
                *next = offset.max(*next);
                *at_end = *next >= *committed;
            }
            Polled::Failed(code) => *failed = Some(code),
        });
        let count = (builder.count() - before.1) as usize;
        if let Some(bytes) = (builder.len() - before.0).checked_div(count) {
            self.record_bytes = bytes.max(1);
        }
        match self.failed.take() {
            Some(code) if self.builder.is_empty() => self.fail(code),
            Some(code) => {
                // What came before it counts.
                self.failed = Some(code);
                Ok(())
            }
            None => Ok(()),
        }
    }

    fn fail(&mut self, code: RDKafkaErrorCode) -> Result<()> {
        let place = self.lease.place.clone();
        match code {
            RDKafkaErrorCode::AutoOffsetReset | RDKafkaErrorCode::OffsetOutOfRange => {
                let (low, high) = self
                    .lease
                    .client
                    .fetch_watermarks_of(&self.topic, place.partition)
                    .map_err(|error| self.clients.explain("cannot read", error).at(&place))?;
                if self.next >= low {
                    let message =
                        format!("the partition ends at offset {high} now: records were lost, or it was made anew");
                    return Err(Error::new(ErrorKind::State, message).at(&place).at_offset(self.next));
                }
                tracing::warn!(topic = %place.topic, partition = place.partition, wanted = self.next, start = low, "records are gone before they were read");
                self.next = low;
                self.start()
            }
            // It connects again by itself.
            RDKafkaErrorCode::BrokerTransportFailure
            | RDKafkaErrorCode::AllBrokersDown
            | RDKafkaErrorCode::OperationTimedOut => Ok(()),
            code => {
                let error = KafkaError::MessageConsumption(code);
                Err(self.clients.explain("cannot read", error).at(&place).at_offset(self.next))
            }
        }
    }

    /// Hands over the records that wait.
    fn give(&mut self, into: &mut Frames) -> bool {
        into.clear();
        let begins = std::mem::replace(&mut self.begins, self.next);
        self.position = self.next;
        self.tail = self.next;
        if self.builder.is_empty() {
            return false;
        }
        self.builder.move_into(into, begins, self.next);
        true
    }
}

#[async_trait]
impl Reader for KafkaReader {
    fn read(&mut self, into: &mut Frames) -> Result<bool> {
        for _ in 0..STEPS {
            if let Some(found) = self.read_now(into)? {
                return Ok(found);
            }
            self.pull(STEP)?;
        }
        let error = KafkaError::MessageConsumption(RDKafkaErrorCode::OperationTimedOut);
        Err(self.clients.explain("cannot read", error).at(&self.lease.place).at_offset(self.next))
    }

    fn read_now(&mut self, into: &mut Frames) -> Result<Option<bool>> {
        if self.builder.is_empty() {
            self.pull(Duration::ZERO)?;
        }
        let found = self.give(into);
        Ok((found || self.at_end).then_some(found))
    }

    async fn ready(&mut self) -> Result<()> {
        let before = (self.next, self.at_end);
        loop {
            if !self.builder.is_empty() || before != (self.next, self.at_end) {
                return Ok(());
            }
            let bell = self.queue.as_ref().map(PartitionQueue::cleared_bell);
            self.pull(Duration::ZERO)?;
            if !self.builder.is_empty() || before != (self.next, self.at_end) {
                return Ok(());
            }
            match bell {
                Some(bell) => bell.rung().await,
                None => return Ok(()),
            }
        }
    }

    fn position(&self) -> u64 {
        self.position
    }
}

/// Asks for the ends of a partition.
pub(super) trait Watermarks {
    fn fetch_watermarks_of(&self, topic: &str, partition: u32) -> Result<(u64, u64), KafkaError>;
}

impl Watermarks for BaseConsumer<Context> {
    fn fetch_watermarks_of(&self, topic: &str, partition: u32) -> Result<(u64, u64), KafkaError> {
        use rdkafka::consumer::Consumer;
        for _ in 0..UNKNOWN_STEPS {
            let found = self.fetch_watermarks(topic, partition as i32, ANSWER_TIMEOUT);
            if found.as_ref().err().and_then(KafkaError::rdkafka_error_code) != Some(RDKafkaErrorCode::UnknownPartition)
            {
                let (low, high) = found?;
                return Ok((u64::try_from(low).unwrap_or(0), u64::try_from(high).unwrap_or(0)));
            }
            // Partitions do not go. A broker that has just come back may know a topic before it knows all of it, and what it
            // says of it is believed until it is asked again.
            super::pause(STEP);
            let metadata = self.fetch_metadata(Some(topic), ANSWER_TIMEOUT)?;
            let is_gone =
                |code| matches!(code, RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic);
            let error = metadata.topics().iter().find_map(|found| found.error().map(RDKafkaErrorCode::from));
            if let Some(code) = error.filter(|code| is_gone(*code)) {
                return Err(KafkaError::MetadataFetch(code));
            }
        }
        // So the client also calls one that has nobody who leads it.
        Err(KafkaError::MetadataFetch(RDKafkaErrorCode::LeaderNotAvailable))
    }
}

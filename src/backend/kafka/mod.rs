//! Topics on a Kafka, which many machines share.
//!
//! Reading by position (`reader`) and being a member of a group (`consumer`) are apart: a group's members only share out
//! partitions. What the brokers have no place for is in a topic of its own (`ledger`). Positions, outputs and changelogs
//! are committed by transactions (`transaction`).

mod admin;
mod assignor;
mod at_least_once;
mod client;
mod consumer;
mod delivery;
mod exchange;
mod farewell;
mod group;
mod ledger;
mod native;
mod options;
mod placement;
mod producer;
mod reader;
mod topic;
mod topic_config;
mod transaction;

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use futures::executor::block_on;
use rdkafka::admin::{AdminClient, AdminOptions};
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::producer::Producer as _;
use rdkafka::{Offset, TopicPartitionList};

use self::client::{Clients, Context, Role};
use self::consumer::KafkaConsumer;
use self::delivery::Sender;
use self::farewell::LastFarewell;
use self::ledger::{Ledger, WAIT};
use self::options::ANSWER_TIMEOUT;
pub use self::options::{Guarantee, KafkaOptions};
use self::producer::KafkaProducer;
use self::reader::{Readers, Watermarks as _};
use self::transaction::KafkaTransactions;
use super::{
    AssignmentSet, Backend, Capabilities, Cleaned, Consumer, Copies, Offsets, Owner, Producer, ProducerId, Reader,
    Replay, Topic, Transactions,
};
use crate::clock::Clock;
use crate::error::{Error, ErrorKind, Result};
use crate::record::{Headers, RawRecord};
use crate::topic::{TopicPartition, TopicSettings, TopicSpec};

/// What is asked for again and again is asked for this often.
const STEP: Duration = Duration::from_millis(50);

/// What is committed is asked for again after this long at most.
const MOST_WAIT: Duration = Duration::from_millis(50);

/// How long it may take until it is seen: by then the broker has ended a transaction that somebody has left open.
const SETTLED_WITHIN: Duration = Duration::from_secs(60);

/// How often it is asked again for what a broker had that is gone, while others answer: until another has taken its place.
const FAILOVER_ATTEMPTS: u32 = 4;

/// A backend on a Kafka. Clones are handles to the same clients.
#[derive(Clone)]
pub struct KafkaBackend(Arc<Inner>);

struct Inner {
    clients: Clients,
    clock: Clock,
    readers: Readers,
    ledger: Ledger,
    /// Who changes the ledger, as long as nobody else does.
    writer: Mutex<Option<Sender>>,
    /// Topics that are known to exist, with their numbers of partitions.
    partitions: Mutex<HashMap<Arc<str>, u32>>,
    /// Topics whose settings have been compared with what they should be.
    checked: Mutex<HashSet<String>>,
    groups: Mutex<HashMap<String, Arc<BaseConsumer<Context>>>>,
    admin: Mutex<Option<Arc<AdminClient<Context>>>>,
    /// Behind everything that has clients.
    _last: LastFarewell,
}

impl fmt::Debug for KafkaBackend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KafkaBackend").field("servers", &self.0.clients.options.servers).finish_non_exhaustive()
    }
}

impl fmt::Debug for Inner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inner").field("servers", &self.clients.options.servers).finish_non_exhaustive()
    }
}

impl KafkaBackend {
    /// Begins to talk to a Kafka; an error where nobody answers. Blocks for some seconds at most.
    pub fn open(options: KafkaOptions, clock: Clock) -> Result<Self> {
        let clients = Clients::new(options);
        let last = LastFarewell(Arc::clone(&clients.farewells));
        let inner = Inner {
            readers: Readers::new(clients.clone())?,
            ledger: Ledger::new(&clients.options.topics),
            clients,
            clock,
            writer: Mutex::default(),
            partitions: Mutex::default(),
            checked: Mutex::default(),
            groups: Mutex::default(),
            admin: Mutex::default(),
            _last: last,
        };
        inner.reach()?;
        Ok(Self(Arc::new(inner)))
    }
}

impl Inner {
    /// Refuses a partition that does not exist. Blocks where the topic is not known yet.
    fn check_partition(&self, place: &TopicPartition) -> Result<()> {
        let known = self.partitions.lock().unwrap_or_else(PoisonError::into_inner).get(&place.topic).copied();
        if known.is_some_and(|partitions| place.partition < partitions) {
            return Ok(());
        }
        let Some(partitions) = self.find_partitions(&place.topic)? else {
            return Err(Error::new(ErrorKind::NotFound, "the topic does not exist; create it first").at(place));
        };
        self.partitions.lock().unwrap_or_else(PoisonError::into_inner).insert(place.topic.clone(), partitions);
        if place.partition < partitions {
            return Ok(());
        }
        Err(Error::new(ErrorKind::NotFound, format!("the topic has partitions 0 to {}", partitions - 1)).at(place))
    }

    fn forget_partitions(&self, topic: &str) {
        self.partitions.lock().unwrap_or_else(PoisonError::into_inner).remove(topic);
        self.checked.lock().unwrap_or_else(PoisonError::into_inner).remove(topic);
    }

    /// Where a partition begins, and where what is committed ends. Blocks.
    fn offsets(&self, place: &TopicPartition) -> Result<Offsets> {
        self.check_partition(place)?;
        let native = self.clients.named(&place.topic);
        match self.readers.client()?.fetch_watermarks_of(&native, place.partition) {
            // What is acknowledged is on every replica that is in sync.
            Ok((start, end)) => {
                self.clients.context.trouble.is_over();
                Ok(Offsets { start, end, durable: end })
            }
            Err(error) => {
                let error = self.clients.explain("cannot ask where a partition ends", error).at(place);
                if error.kind() == ErrorKind::NotFound {
                    self.forget_partitions(&place.topic);
                }
                Err(error)
            }
        }
    }

    /// The offset of the first record of that time or later. Blocks.
    fn offset_at(&self, place: &TopicPartition, timestamp_ms: i64) -> Result<Option<u64>> {
        self.check_partition(place)?;
        let failed = |error| self.clients.explain("cannot look for a record by its time", error).at(place);
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(
            &self.clients.named(&place.topic),
            place.partition as i32,
            Offset::Offset(timestamp_ms),
        )
        .map_err(failed)?;
        let found = self.readers.client()?.offsets_for_times(list, ANSWER_TIMEOUT).map_err(failed)?;
        Ok(match found.elements().first().map(|element| element.offset()) {
            Some(Offset::Offset(offset)) => u64::try_from(offset).ok(),
            _ => None,
        })
    }

    fn ledger_place(&self) -> TopicPartition {
        TopicPartition::new(&*self.clients.options.topics, 0)
    }

    /// Reads the ledger to its end. Blocks.
    fn read_ledger(&self) -> Result<()> {
        let place = self.ledger_place();
        let offsets = match self.check_partition(&place).and_then(|()| self.offsets(&place)) {
            Ok(offsets) => offsets,
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            // A broker that has just come back does not know all that there is.
            Err(error) if self.ledger.was_read() => {
                return Err(Error::new(ErrorKind::Io, "what is known of topics cannot be found now").with_source(error));
            }
            // Nothing was ever written to it.
            Err(_) => return Ok(()),
        };
        self.ledger.read_up_to(offsets.end, || self.readers.reader(&place, offsets.start, offsets))
    }

    /// The same for who begins. Blocks.
    fn read_ledger_patiently(&self) -> Result<()> {
        self.patiently(Self::read_ledger)
    }

    /// Asks again where a broker has gone just now: that is no reason to give up. Blocks.
    fn patiently<T>(&self, ask: impl Fn(&Self) -> Result<T>) -> Result<T> {
        for _ in 1..FAILOVER_ATTEMPTS {
            match ask(self) {
                Err(error) if error.kind() == ErrorKind::Io && self.reach().is_ok() => {
                    tracing::warn!(%error, "asking again, because another broker should take over");
                }
                result => return result,
            }
        }
        ask(self)
    }

    /// Reads the ledger up to what was committed at that offset, which may not be seen yet. Blocks.
    fn read_ledger_past(&self, offset: u64) -> Result<()> {
        self.wait_until_seen(&self.ledger_place(), offset)?;
        self.read_ledger()
    }

    /// Reads everything that those who had a name before could have written to the ledger, for who has just taken it over.
    ///
    /// What a transaction of theirs has written counts or does not by now, and is still not seen behind one of somebody else
    /// that has not ended. Blocks until that has.
    fn read_settled_ledger(&self) -> Result<()> {
        let place = self.ledger_place();
        match self.patiently(|inner| inner.written_end(&place))?.checked_sub(1) {
            Some(last) => self.read_ledger_past(last),
            None => Ok(()),
        }
    }

    /// Where a partition ends, with what is not committed. Blocks.
    pub(super) fn written_end(&self, place: &TopicPartition) -> Result<u64> {
        let failed = |error| self.clients.explain("cannot ask where a partition ends", error).at(place);
        let client: BaseConsumer<Context> = self.clients.make(Role::Written, self.clients.context.clone())?;
        let ends = client.fetch_watermarks_of(&self.clients.named(&place.topic), place.partition);
        self.clients.farewells.say(client);
        Ok(ends.map_err(failed)?.1)
    }

    /// Waits until readers see what was committed at that offset: the marks of a transaction come to each partition on its
    /// own, a little after the commit is acknowledged, and a transaction that somebody has left open hides what is behind it
    /// until the broker ends it. Blocks.
    fn wait_until_seen(&self, place: &TopicPartition, offset: u64) -> Result<()> {
        let began = self.clock.moment();
        let mut wait = WAIT;
        while self.patiently(|inner| inner.offsets(place))?.end <= offset {
            if self.clock.moment().since(began) > SETTLED_WITHIN {
                let message = "what was committed is not seen; look at the state of the brokers, and for transactions that \
                               are open (kafka-transactions.sh)";
                return Err(Error::new(ErrorKind::Io, message).at(place).at_offset(offset));
            }
            pause(wait);
            wait = (wait * 2).min(MOST_WAIT);
        }
        Ok(())
    }

    /// Writes to the ledger, all or nothing. Blocks.
    fn write(&self, writer: &Sender, entries: &[(Vec<u8>, Option<Vec<u8>>)]) -> Result<()> {
        // Whoever takes it over finds out.
        let unknown = |error: Error| match error.kind() {
            ErrorKind::Io => {
                Error::new(ErrorKind::Unsettled, "it is not known whether a change counts").with_source(error)
            }
            _ => error,
        };
        let name = &self.clients.options.topics;
        let failed = |error| unknown(self.clients.explain(&format!("cannot write to topic {name}"), error));
        let topic = self.clients.named(name);
        writer.producer().begin_transaction().map_err(failed)?;
        for (key, value) in entries {
            let record = RawRecord {
                offset: 0,
                timestamp: self.clock.now_ms(),
                key: Some(key),
                value: value.as_deref(),
                headers: Headers::default(),
            };
            writer.send_record(&topic, 0, 0, &record).map_err(unknown)?;
        }
        let places = writer.finish().map_err(unknown)?;
        writer.producer().commit_transaction(ANSWER_TIMEOUT).map_err(failed)?;
        // Who changes something next must see it.
        match places.first().copied().flatten() {
            Some((_, last)) => self.read_ledger_past(last),
            None => Ok(()),
        }
    }

    /// Deletes the records before an offset. Blocks.
    fn delete_before(&self, place: &TopicPartition, offset: u64) -> Result<Cleaned> {
        let before = self.offsets(place)?;
        let offset = offset.min(before.end);
        if offset <= before.start {
            return Ok(Cleaned::default());
        }
        let failed = |error| self.clients.explain("cannot delete old records", error).at(place);
        let mut list = TopicPartitionList::new();
        let until = Offset::Offset(i64::try_from(offset).unwrap_or(i64::MAX));
        list.add_partition_offset(&self.clients.named(&place.topic), place.partition as i32, until).map_err(failed)?;
        let admin = self.admin()?;
        let options = AdminOptions::new().request_timeout(Some(ANSWER_TIMEOUT));
        let deleted = block_on(admin.delete_records(&list, &options)).map_err(failed)?;
        for element in deleted.elements() {
            element.error().map_err(failed)?;
        }
        Ok(Cleaned { deleted_records: offset - before.start, ..Cleaned::default() })
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        let farewells = &self.clients.farewells;
        farewells.say(std::mem::take(&mut *self.groups.lock().unwrap_or_else(PoisonError::into_inner)));
        farewells.say(self.admin.lock().unwrap_or_else(PoisonError::into_inner).take());
    }
}

#[async_trait]
impl Backend for KafkaBackend {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            replay: true,
            durable: true,
            shared: true,
            deduplicates: true,
            // Brokers do not sync: what is acknowledged is on several machines, as many as the topic has replicas.
            survives_power_loss: false,
            transactions: true,
            shares_each_set: false,
            standbys: true,
            max_record_bytes: self.0.clients.options.max_record_bytes,
            batch_bytes: self.0.clients.options.batch_bytes,
        }
    }

    async fn create_topic(&self, spec: &TopicSpec) -> Result<Topic> {
        let (inner, spec) = (self.0.clone(), spec.clone());
        blocking(move || inner.create(&spec)).await
    }

    async fn topics(&self) -> Result<Vec<Topic>> {
        let inner = self.0.clone();
        blocking(move || inner.list()).await
    }

    async fn producer(&self, id: ProducerId) -> Result<Box<dyn Producer>> {
        Ok(Box::new(KafkaProducer::new(self.0.clone(), id)))
    }

    async fn consumer(&self, group: &str, sets: &[AssignmentSet]) -> Result<Box<dyn Consumer>> {
        self.consumer_with(group, sets, Arc::default()).await
    }

    async fn consumer_with(
        &self,
        group: &str,
        sets: &[AssignmentSet],
        copies: Arc<Copies>,
    ) -> Result<Box<dyn Consumer>> {
        Ok(Box::new(KafkaConsumer::join(&self.0.clients, &self.0.clock, group, sets, copies)?))
    }

    fn native_name(&self, topic: &str) -> String {
        self.0.clients.named(topic)
    }

    fn replay(&self) -> Option<Arc<dyn Replay>> {
        Some(Arc::new(self.clone()))
    }

    fn transactions(&self) -> Option<Arc<dyn Transactions>> {
        Some(Arc::new(KafkaTransactions(self.0.clone())))
    }
}

#[async_trait]
impl Replay for KafkaBackend {
    fn reader(&self, place: &TopicPartition, from: u64) -> Result<Box<dyn Reader>> {
        let offsets = self.0.offsets(place)?;
        Ok(Box::new(self.0.readers.reader(place, from, offsets)?))
    }

    fn offsets(&self, place: &TopicPartition) -> Result<Offsets> {
        self.0.offsets(place)
    }

    fn reads_committed(&self) -> bool {
        true
    }

    /// What was appended was acknowledged by every replica that is in sync.
    async fn sync(&self, place: &TopicPartition, _up_to: u64) -> Result<()> {
        let (inner, place) = (self.0.clone(), place.clone());
        blocking(move || inner.check_partition(&place)).await
    }

    fn next_sequence(&self, place: &TopicPartition, producer: ProducerId) -> Result<u64> {
        self.0.read_ledger()?;
        Ok(self.0.ledger.sequence(producer, place))
    }

    fn position(&self, group: &str, place: &TopicPartition) -> Result<Option<u64>> {
        self.0.position(group, place)
    }

    fn owners(&self, group: &str, set: &AssignmentSet) -> Result<Vec<Option<Owner>>> {
        self.0.owners(group, set)
    }

    fn standbys(&self, group: &str, set: &AssignmentSet) -> Result<Vec<Vec<u32>>> {
        self.0.standbys(group, set)
    }

    fn forget(&self, group: &str, place: &TopicPartition) -> Result<()> {
        self.0.forget(group, place)
    }

    fn set_position(&self, group: &str, place: &TopicPartition, position: u64) -> Result<()> {
        self.0.set_position(group, place, position)
    }

    fn offset_at(&self, place: &TopicPartition, timestamp_ms: i64) -> Result<Option<u64>> {
        self.0.offset_at(place, timestamp_ms)
    }

    fn commit_of_position(&self, group: &str, partition: &TopicPartition) -> Result<Option<u64>> {
        self.0.commit_of_position(group, partition)
    }

    fn position_was_set(&self, group: &str, place: &TopicPartition) -> Result<bool> {
        self.0.position_was_set(group, place)
    }

    fn topic(&self, name: &str) -> Result<Topic> {
        self.0.read_ledger()?;
        self.0.found(name)
    }

    fn topic_id(&self, name: &str) -> Result<Option<Arc<str>>> {
        self.0.topic_id(name)
    }

    fn schema(&self, topic: &str, fingerprint: u64) -> Result<Option<Arc<str>>> {
        let known = || -> Result<Option<Arc<str>>> {
            let topic = self.0.ledger.topic(topic)?;
            let schema = |topic: &Topic| topic.schemas.iter().find(|schema| schema.fingerprint == fingerprint).cloned();
            Ok(topic.as_ref().and_then(schema).map(|schema| schema.json))
        };
        match known()? {
            Some(json) => Ok(Some(json)),
            // Whoever wrote the record has added its schema before.
            None => {
                self.0.read_ledger()?;
                known()
            }
        }
    }

    async fn set_topic(&self, name: &str, settings: &TopicSettings) -> Result<Topic> {
        let (inner, name, settings) = (self.0.clone(), name.to_owned(), *settings);
        blocking(move || inner.set(&name, &settings)).await
    }

    async fn delete_before(&self, place: &TopicPartition, offset: u64) -> Result<Cleaned> {
        let (inner, place) = (self.0.clone(), place.clone());
        blocking(move || inner.delete_before(&place, offset)).await
    }

    async fn delete_topic(&self, name: &str) -> Result<()> {
        let (inner, name) = (self.0.clone(), name.to_owned());
        blocking(move || inner.delete(&name)).await
    }
}

/// Does what blocks off the threads that others need.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => {
            Err(Error::new(ErrorKind::Closed, "a call to Kafka was ended with its runtime").with_source(error))
        }
    }
}

/// Waits on a thread that may be blocked.
fn pause(time: Duration) {
    std::thread::park_timeout(time);
}

//! The loop that one would write by hand over the same client, on the same topic, with one thread.
//!
//! Alone, it polls, decodes and folds into a hash map. With outputs it does what the others must: every 100 ms the totals that
//! have changed go to a topic, and the positions follow, in a transaction or without one. It keeps no changelog, so it
//! has nothing to go on with after a crash.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use gretchen::prelude::*;
use gretchen::record::Value as _;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _};
use rdkafka::message::BorrowedMessage;
use rdkafka::producer::{BaseRecord, DeliveryResult, Producer as _, ProducerContext, ThreadedProducer};
use rdkafka::{ClientConfig, ClientContext, Message as _, Offset, TopicPartitionList};

use crate::bench::SaleTotal;
use crate::by_hand::{self, ByHand};
use crate::measure::Sample;

const COMMIT_INTERVAL: Duration = Duration::from_millis(100);

/// How long a broker may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// What a loop reads.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Source<'a> {
    pub(crate) brokers: &'a str,
    /// Also the names of groups and transactions begin with it.
    pub(crate) topic: &'a str,
    /// What tells runs apart.
    pub(crate) run: &'a str,
    pub(crate) partitions: u32,
    pub(crate) records: u64,
}

/// How far a loop has come at which time, and sales and revenue of each customer.
#[derive(Debug)]
pub(crate) struct Folded {
    pub(crate) samples: Vec<Sample>,
    pub(crate) rows: Vec<(i64, f64)>,
}

impl Source<'_> {
    fn group(&self) -> String {
        format!("{}-loop-{}", self.topic, self.run)
    }

    fn consumer(&self) -> Result<BaseConsumer> {
        let consumer: BaseConsumer = ClientConfig::new()
            .set("bootstrap.servers", self.brokers)
            .set("group.id", self.group())
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            .set("isolation.level", "read_committed")
            // As ours has them for each partition, of which all are in one queue here. By default it sleeps for a second
            // whenever enough is waiting.
            .set("queued.max.messages.kbytes", (8192 * self.partitions).to_string())
            .set("queued.min.messages", (100_000 * self.partitions).to_string())
            .set("fetch.queue.backoff.ms", "10")
            .set("fetch.wait.max.ms", "50")
            .set("check.crcs", "true")
            .create()?;
        let mut list = TopicPartitionList::new();
        for partition in 0..self.partitions {
            list.add_partition_offset(self.topic, partition as i32, Offset::Beginning)?;
        }
        consumer.assign(&list)?;
        Ok(consumer)
    }

    /// Polls until every record was there once.
    fn each(
        &self,
        consumer: &BaseConsumer,
        at_work: impl FnOnce(),
        mut fold: impl FnMut(&BorrowedMessage<'_>, u64) -> Result<()>,
    ) -> Result<Vec<Sample>> {
        let clock = Clock::system();
        let mut at_work = Some(at_work);
        let mut samples = vec![Sample::take(&clock, 0)];
        for done in 1..=self.records {
            let Some(message) = consumer.poll(Duration::from_secs(10)) else {
                return Err(format!("nothing came for ten seconds after {} records", done - 1).into());
            };
            fold(&message?, done)?;
            if let Some(at_work) = at_work.take() {
                at_work();
            }
            if done.is_multiple_of(10_000) || done == self.records {
                samples.push(Sample::take(&clock, done));
            }
        }
        Ok(samples)
    }

    /// The loop alone. `at_work` is called after the first record.
    pub(crate) fn fold(&self, at_work: impl FnOnce()) -> Result<Folded> {
        let consumer = self.consumer()?;
        let mut totals = ByHand::default();
        let samples = self.each(&consumer, at_work, |message, _| {
            by_hand::add(&mut totals, message.payload().unwrap_or_default(), by_hand::std_check)
        })?;
        Ok(Folded { samples, rows: totals.values().map(|figures| (figures.sales, figures.revenue)).collect() })
    }

    /// The loop with outputs.
    pub(crate) fn put_out(&self, to: &str, exactly_once: bool, at_work: impl FnOnce()) -> Result<Folded> {
        let consumer = self.consumer()?;
        let clock = Clock::system();
        let mut writer = Writer::new(self, to, exactly_once)?;
        let mut totals = Totals::new(self.partitions);
        let mut last = clock.moment();
        let samples = self.each(&consumer, at_work, |message, done| {
            totals.add(message)?;
            let due = done.is_multiple_of(256) && clock.moment().since(last) >= COMMIT_INTERVAL;
            if due || done == self.records {
                last = clock.moment();
                writer.commit(&mut totals, &consumer)?;
            }
            Ok(())
        })?;
        writer.check()?;
        Ok(Folded { samples, rows: totals.all.iter().map(|one| (one.total.sales, one.total.revenue)).collect() })
    }
}

/// A customer's figures.
struct One {
    total: SaleTotal,
    partition: i32,
    changed: bool,
}

struct Totals {
    by_customer: HashMap<Box<[u8]>, usize, foldhash::fast::RandomState>,
    all: Vec<One>,
    changed: Vec<usize>,
    /// The offset that is next, by partition.
    next: Vec<i64>,
}

impl Totals {
    fn new(partitions: u32) -> Self {
        let next = vec![0; partitions as usize];
        Self { by_customer: HashMap::default(), all: Vec::new(), changed: Vec::new(), next }
    }

    fn add(&mut self, message: &BorrowedMessage<'_>) -> Result<()> {
        let (customer, price) = by_hand::customer_and_price(message.payload().unwrap_or_default())?;
        let name = str::from_utf8(customer)?;
        let place = match self.by_customer.get(customer) {
            Some(place) => *place,
            None => {
                let total = SaleTotal { customer: name.to_owned(), ..SaleTotal::default() };
                self.all.push(One { total, partition: message.partition(), changed: false });
                self.by_customer.insert(customer.into(), self.all.len() - 1);
                self.all.len() - 1
            }
        };
        let one = &mut self.all[place];
        if one.total.sales == 0 {
            (one.total.smallest, one.total.largest) = (price, price);
        }
        one.total.sales += 1;
        one.total.revenue += price;
        one.total.smallest = one.total.smallest.min(price);
        one.total.largest = one.total.largest.max(price);
        if !one.changed {
            one.changed = true;
            self.changed.push(place);
        }
        self.next[message.partition() as usize] = message.offset() + 1;
        Ok(())
    }
}

/// Counts what became of the records.
#[derive(Default)]
struct Reports {
    written: AtomicU64,
    failed: AtomicU64,
}

impl ClientContext for Reports {}

impl ProducerContext for Reports {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        let counter = if result.is_ok() { &self.written } else { &self.failed };
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

struct Writer<'a> {
    source: &'a Source<'a>,
    to: &'a str,
    exactly_once: bool,
    producer: ThreadedProducer<Reports>,
    wire: Vec<u8>,
    sent: u64,
}

impl<'a> Writer<'a> {
    fn new(source: &'a Source<'a>, to: &'a str, exactly_once: bool) -> Result<Self> {
        let mut config = ClientConfig::new();
        config
            .set("bootstrap.servers", source.brokers)
            // As ours has them.
            .set("enable.idempotence", "true")
            .set("compression.type", "lz4")
            .set("linger.ms", "1")
            .set("queue.buffering.max.messages", "0")
            .set("queue.buffering.max.kbytes", "2147483647");
        if exactly_once {
            config.set("transactional.id", source.group());
        }
        let producer: ThreadedProducer<Reports> = config.create_with_context(Reports::default())?;
        if exactly_once {
            producer.init_transactions(PATIENCE)?;
        }
        Ok(Self { source, to, exactly_once, producer, wire: Vec::new(), sent: 0 })
    }

    /// Puts out what has changed, and notes how far it has come.
    fn commit(&mut self, totals: &mut Totals, consumer: &BaseConsumer) -> Result<()> {
        if self.exactly_once {
            self.producer.begin_transaction()?;
        }
        for place in totals.changed.drain(..) {
            let one = &mut totals.all[place];
            one.changed = false;
            self.wire.clear();
            one.total.encode_value(&mut self.wire)?;
            let record = BaseRecord::to(self.to).partition(one.partition).key(&one.total.customer).payload(&self.wire);
            self.producer.send(record).map_err(|(error, _)| error)?;
            self.sent += 1;
        }
        let mut positions = TopicPartitionList::new();
        for (partition, next) in (0..).zip(&totals.next) {
            positions.add_partition_offset(self.source.topic, partition, Offset::Offset(*next))?;
        }
        if self.exactly_once {
            let group = consumer.group_metadata().ok_or("a consumer without a group")?;
            self.producer.send_offsets_to_transaction(&positions, &group, PATIENCE)?;
            self.wait_until_written()?;
            self.producer.commit_transaction(PATIENCE)?;
        } else {
            self.wait_until_written()?;
            consumer.commit(&positions, CommitMode::Sync)?;
        }
        Ok(())
    }

    /// The client's own call for it would wait for a hundred milliseconds at once.
    fn wait_until_written(&self) -> Result<()> {
        while self.producer.in_flight_count() > 0 {
            std::thread::park_timeout(Duration::from_millis(1));
        }
        self.check()
    }

    /// Every total that was sent is written.
    fn check(&self) -> Result<()> {
        let reports = self.producer.context();
        match (reports.written.load(Ordering::Relaxed), reports.failed.load(Ordering::Relaxed)) {
            (written, 0) if written == self.sent => Ok(()),
            (written, failed) => Err(format!("of {} totals {written} were written, {failed} failed", self.sent).into()),
        }
    }
}

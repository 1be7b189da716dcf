//! Sends records and waits for what becomes of them.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rdkafka::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Header, Message, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, DeliveryResult, Producer, ProducerContext};

use super::client::{Clients, Context, Role};
use super::native::Events;
use super::options::ANSWER_TIMEOUT;
use crate::clock::Clock;
use crate::error::Result;
use crate::record::{FrameBuilder, RawRecord};

/// How long librdkafka's events are waited for at most, before it is looked at the clock.
const TURN: Duration = Duration::from_millis(100);

/// Beyond this nothing comes any more: `delivery.timeout.ms` ends every record before.
const DELIVERY_TIMEOUT: Duration = Duration::from_secs(60);

/// How often it is asked again whether the transactions of an owner before have ended.
const TAKE_OVER_ATTEMPTS: u32 = 4;

/// What became of the records that were sent.
#[derive(Debug, Default)]
struct Reports {
    reported: u64,
    failed: Option<RDKafkaErrorCode>,
    /// By the number of the place: offsets of the first and the last record.
    places: Vec<Option<(u64, u64)>>,
}

/// Counts the reports.
#[derive(Debug, Default)]
pub(super) struct Reporting {
    context: Context,
    reports: Mutex<Reports>,
}

impl Reporting {
    fn reports(&self) -> MutexGuard<'_, Reports> {
        self.reports.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ClientContext for Reporting {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        self.context.log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.context.error(error, reason);
    }
}

impl ProducerContext for Reporting {
    /// The number of the place that the record goes to.
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, place: usize) {
        let mut reports = self.reports();
        reports.reported += 1;
        match result {
            Ok(message) => {
                let offset = u64::try_from(message.offset()).unwrap_or(0);
                if reports.places.len() <= place {
                    reports.places.resize(place + 1, None);
                }
                let (first, last) = reports.places[place].unwrap_or((offset, offset));
                reports.places[place] = Some((first.min(offset), last.max(offset)));
            }
            Err((error, _)) => reports.failed = reports.failed.or(error.rdkafka_error_code()),
        }
    }
}

/// A producer, and what it has sent.
pub(super) struct Sender {
    /// The producer's; gone before it.
    events: Option<Events>,
    /// Taken out when it is dropped, which waits for its threads.
    producer: Option<BaseProducer<Reporting>>,
    clients: Clients,
    clock: Clock,
    sent: Mutex<u64>,
}

impl std::fmt::Debug for Sender {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sender").finish_non_exhaustive()
    }
}

impl Sender {
    pub(super) fn new(clients: &Clients, clock: &Clock, role: Role<'_>) -> Result<Self> {
        let reporting = Reporting { context: clients.context.clone(), reports: Mutex::default() };
        let producer: BaseProducer<Reporting> = clients.make(role, reporting)?;
        let events = Some(Events::of(&producer));
        Ok(Self {
            events,
            producer: Some(producer),
            clients: clients.clone(),
            clock: clock.clone(),
            sent: Mutex::new(0),
        })
    }

    /// Takes over the transactions of that name: what is on its way under it is ended, and whoever had it is shut out.
    /// Blocks.
    pub(super) fn take_over(clients: &Clients, clock: &Clock, name: &str) -> Result<Self> {
        let mut attempt = 1;
        loop {
            let sender = Self::new(clients, clock, Role::Transactions(name))?;
            match sender.producer().init_transactions(ANSWER_TIMEOUT) {
                Ok(()) => return Ok(sender),
                Err(KafkaError::Transaction(error)) if error.is_retriable() && attempt < TAKE_OVER_ATTEMPTS => {
                    attempt += 1
                }
                Err(error) => return Err(clients.explain(&format!("cannot take over the transactions {name}"), error)),
            }
        }
    }

    pub(super) fn producer(&self) -> &BaseProducer<Reporting> {
        match &self.producer {
            Some(producer) => producer,
            None => unreachable!("it is taken out in drop alone"),
        }
    }

    /// Hands the records of a frame to the client, which copies them. `topic` is as the cluster has it; `place` numbers the
    /// partition in [`Sender::finish`].
    pub(super) fn send(&self, topic: &str, partition: u32, place: usize, frame: &FrameBuilder) -> Result<()> {
        frame.records().try_for_each(|record| self.send_record(topic, partition, place, &record))
    }

    pub(super) fn send_record(&self, topic: &str, partition: u32, place: usize, record: &RawRecord<'_>) -> Result<()> {
        // Librdkafka takes 0 for now: the timestamp that is nearest to it is not.
        let timestamp = if record.timestamp == 0 { 1 } else { record.timestamp };
        let mut message = BaseRecord::<[u8], [u8], usize>::with_opaque_to(topic, place)
            .partition(partition as i32)
            .timestamp(timestamp);
        message.key = record.key;
        message.payload = record.value;
        if !record.headers.is_empty() {
            let mut headers = OwnedHeaders::new_with_capacity(record.headers.len());
            for (key, value) in record.headers.iter() {
                headers = headers.insert(Header { key, value: Some(value) });
            }
            message.headers = Some(headers);
        }
        loop {
            match self.producer().send(message) {
                Ok(()) => break,
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), back)) => {
                    message = back;
                    self.take_reports();
                }
                Err((error, _)) => return Err(self.clients.explain("cannot send a record", error)),
            }
        }
        *self.sent.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        Ok(())
    }

    fn reported(&self) -> u64 {
        self.producer().context().reports().reported
    }

    /// Takes the reports that have come, or waits for some. Blocks.
    fn take_reports(&self) {
        let Some(events) = &self.events else { return };
        let (before, so_far) = (self.reported(), events.so_far());
        self.producer().poll(Duration::ZERO);
        if self.reported() == before {
            events.wait(so_far, TURN);
        }
    }

    /// Waits until everything that was sent is written; for each place the offsets of its first and its last record.
    /// Blocks.
    pub(super) fn finish(&self) -> Result<Vec<Option<(u64, u64)>>> {
        let began = self.clock.moment();
        let mut sent = self.sent.lock().unwrap_or_else(PoisonError::into_inner);
        while self.reported() < *sent {
            if self.clock.moment().since(began) > DELIVERY_TIMEOUT {
                let error = KafkaError::MessageProduction(RDKafkaErrorCode::MessageTimedOut);
                return Err(self.clients.explain("what was sent is not acknowledged", error));
            }
            self.take_reports();
        }
        *sent = 0;
        let reports = std::mem::take(&mut *self.producer().context().reports());
        match reports.failed {
            Some(code) => Err(self.clients.explain("cannot append", KafkaError::MessageProduction(code))),
            None => Ok(reports.places),
        }
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        self.events = None;
        self.clients.farewells.say(self.producer.take());
    }
}

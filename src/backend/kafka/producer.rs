//! Appends to partitions: as they come, or under a name, by transactions that keep how far the producer has come.

use std::sync::Arc;

use async_trait::async_trait;
use rdkafka::error::KafkaError;
use rdkafka::producer::Producer as _;

use super::Inner;
use super::client::Role;
use super::delivery::Sender;
use super::ledger::sequence_key;
use super::options::ANSWER_TIMEOUT;
use crate::backend::repeat::{repeated, without_first};
use crate::backend::{Appended, Producer, ProducerId};
use crate::error::{Error, ErrorKind, Result};
use crate::record::{FrameBuilder, Headers, RawRecord};
use crate::topic::TopicPartition;

/// How often another producer of the same name may shut this one out within one append.
const ATTEMPTS: u32 = 20;

/// A producer of a [`KafkaBackend`](super::KafkaBackend).
#[derive(Debug)]
pub(super) struct KafkaProducer {
    id: ProducerId,
    plain: Option<Arc<Sender>>,
    named: Option<Arc<Sender>>,
    /// Behind the senders: the last that has it waits for all clients.
    inner: Arc<Inner>,
}

impl KafkaProducer {
    pub(super) fn new(inner: Arc<Inner>, id: ProducerId) -> Self {
        Self { inner, id, plain: None, named: None }
    }

    async fn append_plain(&mut self, to: &TopicPartition, frame: &FrameBuilder) -> Result<Appended> {
        let sender = match self.plain.clone() {
            Some(sender) => sender,
            None => {
                let sender = Arc::new(Sender::new(&self.inner.clients, &self.inner.clock, Role::Producer)?);
                self.plain = Some(sender.clone());
                sender
            }
        };
        sender.send(&self.inner.clients.named(&to.topic), to.partition, 0, frame)?;
        let places = super::blocking(move || sender.finish()).await.map_err(|error| error.at(to))?;
        let base_offset = places.first().copied().flatten().map_or(0, |(first, _)| first);
        Ok(Appended { base_offset, added: frame.count(), dropped: 0 })
    }

    /// Takes over the producer's name. Blocks.
    fn take_over(inner: &Inner, id: ProducerId) -> Result<Arc<Sender>> {
        let name = format!("gretchen-producer-{:016x}", id.0);
        let sender = Sender::take_over(&inner.clients, &inner.clock, &name)?;
        inner.make_ledger()?;
        // The sequence that it goes on from may have been written, and not be seen yet.
        inner.read_settled_ledger()?;
        Ok(Arc::new(sender))
    }

    async fn append_named(&mut self, to: &TopicPartition, frame: &FrameBuilder, sequence: u64) -> Result<Appended> {
        for attempt in 1.. {
            let (inner, id, place, frame) = (self.inner.clone(), self.id, to.clone(), frame.clone());
            let sender = self.named.take();
            let result = super::blocking(move || {
                let sender = match sender {
                    Some(sender) => sender,
                    None => Self::take_over(&inner, id)?,
                };
                let appended = append_counted(&inner, &sender, id, &place, &frame, sequence)?;
                Ok((sender, appended))
            });
            match result.await {
                Ok((sender, appended)) => {
                    self.named = Some(sender);
                    return Ok(appended);
                }
                // Another of that name: what it has appended is known after it was shut out in turn.
                Err(error) if error.kind() == ErrorKind::Unsettled && attempt < ATTEMPTS => {}
                Err(error) => return Err(error.at(to)),
            }
        }
        unreachable!("the last attempt returns")
    }
}

/// Appends what the partition has not yet. Blocks.
fn append_counted(
    inner: &Inner,
    sender: &Sender,
    id: ProducerId,
    to: &TopicPartition,
    frame: &FrameBuilder,
    sequence: u64,
) -> Result<Appended> {
    let failed = |error: KafkaError| inner.clients.explain("cannot append under a producer's name", error);
    inner.read_ledger()?;
    let known = inner.ledger.sequence(id, to);
    let dropped = repeated(known, sequence, frame.count());
    let added = frame.count() - dropped;
    if added == 0 {
        return Ok(Appended { base_offset: inner.offsets(to)?.end, added, dropped });
    }
    let rest = (dropped > 0).then(|| without_first(frame, dropped));
    sender.producer().begin_transaction().map_err(failed)?;
    let sent = sender.send(&inner.clients.named(&to.topic), to.partition, 0, rest.as_ref().unwrap_or(frame));
    let next = (sequence + u64::from(frame.count())).to_string();
    let noted = RawRecord {
        offset: 0,
        timestamp: inner.clock.now_ms(),
        key: Some(&sequence_key(id, to)),
        value: Some(next.as_bytes()),
        headers: Headers::default(),
    };
    let result = sent
        .and_then(|()| sender.send_record(&inner.clients.named(&inner.clients.options.topics), 0, 1, &noted))
        .and_then(|()| sender.finish())
        .and_then(|places| {
            sender.producer().commit_transaction(ANSWER_TIMEOUT).map_err(failed)?;
            Ok(places)
        });
    match result {
        Ok(places) => {
            let first = |place: usize| places.get(place).copied().flatten().map(|(first, _)| first);
            // The next append goes by it.
            first(1).map_or(Ok(()), |noted| inner.read_ledger_past(noted))?;
            // Whoever asks then whether all is processed must know of these.
            let last = places.first().copied().flatten().map(|(_, last)| last);
            last.map_or(Ok(()), |last| inner.wait_until_seen(to, last))?;
            Ok(Appended { base_offset: first(0).unwrap_or(0), added, dropped })
        }
        // What is unknown is found out by whoever takes the name over, this one among them.
        Err(error) if error.kind() == ErrorKind::Io => {
            Err(Error::new(ErrorKind::Unsettled, "it is not known whether the records were appended")
                .with_source(error))
        }
        Err(error) => Err(error),
    }
}

#[async_trait]
impl Producer for KafkaProducer {
    async fn append(
        &mut self,
        to: &TopicPartition,
        frame: &mut FrameBuilder,
        sequence: Option<u64>,
    ) -> Result<Appended> {
        let (inner, place) = (self.inner.clone(), to.clone());
        super::blocking(move || inner.check_partition(&place)).await?;
        if frame.is_empty() {
            let (inner, place) = (self.inner.clone(), to.clone());
            let end = super::blocking(move || inner.offsets(&place)).await?.end;
            return Ok(Appended { base_offset: end, added: 0, dropped: 0 });
        }
        match sequence.filter(|_| self.id != ProducerId::ANONYMOUS) {
            Some(sequence) => self.append_named(to, frame, sequence).await,
            None => self.append_plain(to, frame).await,
        }
    }

    async fn append_at(&mut self, to: &TopicPartition, _: &mut FrameBuilder, _: u64) -> Result<Appended> {
        let message = "Kafka appends nowhere but at the end, wherever that is; owners are kept apart by transactions";
        Err(Error::new(ErrorKind::Unsupported, message).at(to))
    }

    /// What was appended was acknowledged by every replica that is in sync.
    async fn flush(&mut self) -> Result<()> {
        Ok(())
    }
}

//! Transactions: outputs, changelog and positions, whole or not at all.

use std::sync::Arc;

use async_trait::async_trait;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::Producer as _;

use super::Inner;
use super::at_least_once::AtLeastOnce;
use super::consumer::{Member, positions_of};
use super::delivery::Sender;
use super::options::{ANSWER_TIMEOUT, Guarantee};
use crate::backend::{Membership, Transaction, Transactions};
use crate::error::{Error, ErrorKind, Result};
use crate::record::FrameBuilder;
use crate::topic::TopicPartition;

/// Opens transactions of a [`KafkaBackend`](super::KafkaBackend).
#[derive(Debug)]
pub(super) struct KafkaTransactions(pub(super) Arc<Inner>);

#[async_trait]
impl Transactions for KafkaTransactions {
    async fn open(&self, name: &str) -> Result<Box<dyn Transaction>> {
        let (inner, name) = (self.0.clone(), name.to_owned());
        if inner.clients.options.guarantee == Guarantee::AtLeastOnce {
            return Ok(Box::new(AtLeastOnce::open(inner)?));
        }
        let sender = super::blocking(move || Sender::take_over(&inner.clients, &inner.clock, &name)).await?;
        let sender = Arc::new(sender);
        Ok(Box::new(KafkaTransaction { inner: self.0.clone(), sender, places: Vec::new() }))
    }

    fn count_whole(&self) -> bool {
        self.0.clients.options.guarantee == Guarantee::ExactlyOnce
    }
}

/// Commits of one owner.
#[derive(Debug)]
struct KafkaTransaction {
    sender: Arc<Sender>,
    /// The partitions that something was appended to.
    places: Vec<TopicPartition>,
    /// Behind the sender: the last that has it waits for all clients.
    inner: Arc<Inner>,
}

#[async_trait]
impl Transaction for KafkaTransaction {
    async fn begin(&mut self) -> Result<()> {
        self.places.clear();
        self.sender.producer().begin_transaction().map_err(|error| unsettled(&self.inner, error))
    }

    async fn append(&mut self, to: &TopicPartition, frame: &mut FrameBuilder) -> Result<()> {
        let place = place_of(&mut self.places, to);
        self.sender.send(&self.inner.clients.named(&to.topic), to.partition, place, frame)
    }

    async fn put_behind(&mut self) -> Result<()> {
        Ok(())
    }

    async fn commit(
        &mut self,
        group: &Membership,
        positions: &[(TopicPartition, u64)],
        number: u64,
    ) -> Result<Vec<(TopicPartition, u64)>> {
        let (inner, sender) = (self.inner.clone(), self.sender.clone());
        let (group, positions) = (group.clone(), positions.to_vec());
        let places = super::blocking(move || commit(&inner, &sender, &group, &positions, number)).await?;
        Ok(last_offsets(&self.places, &places))
    }
}

/// The number of a partition among those that something was appended to.
pub(super) fn place_of(places: &mut Vec<TopicPartition>, to: &TopicPartition) -> usize {
    places.iter().position(|place| place == to).unwrap_or_else(|| {
        places.push(to.clone());
        places.len() - 1
    })
}

/// For each partition the offset of its last record.
pub(super) fn last_offsets(places: &[TopicPartition], offsets: &[Option<(u64, u64)>]) -> Vec<(TopicPartition, u64)> {
    let last = |(place, offsets): (&TopicPartition, &Option<(u64, u64)>)| Some((place.clone(), (*offsets)?.1));
    places.iter().zip(offsets).filter_map(last).collect()
}

/// Commits; blocks.
fn commit(
    inner: &Inner,
    sender: &Sender,
    group: &Membership,
    positions: &[(TopicPartition, u64)],
    number: u64,
) -> Result<Vec<Option<(u64, u64)>>> {
    let Some(member) = group.proof::<Member>() else {
        return Err(Error::new(ErrorKind::Unsupported, "the member of the group is of another backend"));
    };
    let producer = sender.producer();
    let mut list = positions_of(&inner.clients, positions)?;
    super::group::number(&mut list, number);
    // While records are on their way. The group as it is now: it counts its generations.
    let metadata = member.metadata()?;
    if let Err(error) = producer.send_offsets_to_transaction(&list, &metadata, ANSWER_TIMEOUT) {
        return Err(given_up(inner, sender, error));
    }
    let places = match sender.finish() {
        Ok(places) => places,
        Err(error) => {
            return Err(Error::new(ErrorKind::Unsettled, "a commit was not written").with_source(error));
        }
    };
    match producer.commit_transaction(ANSWER_TIMEOUT) {
        Ok(()) => Ok(places),
        Err(error) => Err(unsettled(inner, error)),
    }
}

/// The group has not taken the positions. Where the transaction could be given up it can be tried again.
fn given_up(inner: &Inner, sender: &Sender, error: KafkaError) -> Error {
    use RDKafkaErrorCode as Code;
    let KafkaError::Transaction(failed) = &error else { return unsettled(inner, error) };
    // Another generation of the group has begun, and this member may be in it.
    let passes = matches!(
        failed.code(),
        Code::IllegalGeneration | Code::RebalanceInProgress | Code::UnknownMemberId | Code::CoordinatorLoadInProgress
    );
    if !passes || failed.is_fatal() {
        return unsettled(inner, error);
    }
    // The abort would wait for reports that nobody takes meanwhile.
    let _ = sender.finish();
    match sender.producer().abort_transaction(ANSWER_TIMEOUT) {
        Ok(()) => {
            let message = "the group has changed meanwhile";
            Error::new(ErrorKind::Conflict, message)
                .with_source(inner.clients.explain("cannot commit positions", error))
        }
        Err(error) => unsettled(inner, error),
    }
}

fn unsettled(inner: &Inner, error: KafkaError) -> Error {
    let explained = inner.clients.explain("a transaction did not end well", error);
    match explained.kind() {
        ErrorKind::Unsettled | ErrorKind::Config => explained,
        _ => Error::new(ErrorKind::Unsettled, "it is not known what became of a commit").with_source(explained),
    }
}

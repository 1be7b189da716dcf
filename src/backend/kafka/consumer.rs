//! Members of groups. A member takes part in the sharing out of partitions and reads nothing: [`super::reader`] does.
//!
//! It subscribes to the first topic of each set. Partition 3 of the others belongs to whoever has partition 3 of that one,
//! so that topics that are read together have the same owner whatever the group's strategy is. Our own ([`super::assignor`])
//! gives out the others with it, so that Kafka's tools show the owner of each.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use async_trait::async_trait;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _, ConsumerContext, ConsumerGroupMetadata};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::types::RDKafkaRespErr;
use rdkafka::{ClientContext, Offset, TopicPartitionList};
use tokio::sync::{mpsc, oneshot};

use super::assignor::{Strategist, Strategy};
use super::client::{Clients, Context, Role};
use super::exchange::{self, Partition};
use crate::backend::{Assignment, AssignmentSet, Consumer, Copies, Membership, Unit};
use crate::clock::Clock;
use crate::error::{Error, ErrorKind, Result};
use crate::topic::TopicPartition;

/// How long the member's thread waits for events at once.
const TURN: Duration = Duration::from_millis(100);

/// How long leaving may take before the rest is left to the group's own time-out.
const LEAVE_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a member may stay at one record, where `max.poll.interval.ms` says nothing.
pub(super) const MAX_POLL_INTERVAL: Duration = Duration::from_secs(300);

/// How long positions may take to be committed, while the group changes.
const COMMIT_TIMEOUT: Duration = Duration::from_secs(8);

/// How long they may take while the broker that has the group is away, and another takes its place.
const COORDINATOR_TIMEOUT: Duration = Duration::from_secs(30);

/// Hears of changes of the share; lives on the member's thread.
#[derive(Debug)]
pub(super) struct Hearing {
    context: Context,
    /// Sets by the topic that stands for them.
    sets: BTreeMap<String, usize>,
    changes: mpsc::UnboundedSender<Result<Assignment>>,
    state: Arc<State>,
    /// The client uses it until it is gone.
    _strategy: Arc<Strategy>,
}

/// What the member and the group's leader tell each other.
struct Dialogue {
    clients: Clients,
    sets: Vec<AssignmentSet>,
    /// Sets by the topic that stands for them.
    numbers: BTreeMap<String, usize>,
    copies: Arc<Copies>,
    /// It was told to keep some, the last time.
    has_standbys: AtomicBool,
    changes: mpsc::UnboundedSender<Result<Assignment>>,
}

impl Strategist for Dialogue {
    fn tell(&self) -> Vec<u8> {
        let topics = |set: &AssignmentSet| set.topics.iter().map(|topic| self.clients.named(topic)).collect();
        exchange::tell(&self.sets, topics, &self.copies)
    }

    fn given(&self, given: &[u8]) {
        let standbys = exchange::standbys_of(given, |topic| self.numbers.get(topic).copied());
        let some = !standbys.is_empty();
        if self.has_standbys.swap(some, Ordering::SeqCst) || some || self.copies.standbys() > 0 {
            // Who does not listen any more has left.
            let _ = self.changes.send(Ok(Assignment::Standbys(standbys)));
        }
    }
}

/// What the member and its thread share.
#[derive(Debug, Default)]
struct State {
    closing: AtomicBool,
    /// The group has told this member of its share, if only that it is empty.
    joined: AtomicBool,
    revoked: Mutex<Revoked>,
}

/// Partitions that are wanted elsewhere and not given back yet. The group waits for all of them.
#[derive(Debug, Default)]
struct Revoked {
    left: BTreeSet<Partition>,
    all: Vec<Partition>,
}

impl State {
    fn revoked(&self) -> MutexGuard<'_, Revoked> {
        self.revoked.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Hearing {
    fn units(&self, partitions: &[Partition]) -> Vec<Unit> {
        let unit = |(topic, partition): &Partition| {
            Some(Unit { set: *self.sets.get(topic)?, partition: u32::try_from(*partition).ok()? })
        };
        let mut units: Vec<Unit> = partitions.iter().filter_map(unit).collect();
        units.sort();
        units
    }

    fn tell(&self, change: Result<Assignment>) {
        // Who does not listen any more has left.
        let _ = self.changes.send(change);
    }

    fn assigned(&self, client: &BaseConsumer<Self>, partitions: &[Partition]) -> Result<(), KafkaError> {
        self.state.joined.store(true, Ordering::SeqCst);
        // An offset that needs no asking: nothing is fetched.
        let list = list_of(partitions, Offset::Offset(0))?;
        client.incremental_assign(&list)?;
        if !partitions.is_empty() {
            client.pause(&list)?;
        }
        let units = self.units(partitions);
        if !units.is_empty() {
            self.tell(Ok(Assignment::Gained(units)));
        }
        Ok(())
    }

    fn revoked(&self, client: &BaseConsumer<Self>, partitions: Vec<Partition>) -> Result<(), KafkaError> {
        let lost = client.assignment_lost();
        let units = self.units(&partitions);
        if !lost && !units.is_empty() && !self.state.closing.load(Ordering::SeqCst) {
            // A unit is given back as a whole, by the topic that stands for its set.
            let first = |(topic, _): &&Partition| self.sets.contains_key(topic);
            let left = partitions.iter().filter(first).cloned().collect();
            *self.state.revoked() = Revoked { left, all: partitions };
            self.tell(Ok(Assignment::Wanted(units)));
            return Ok(());
        }
        *self.state.revoked() = Revoked::default();
        client.incremental_unassign(&list_of(&partitions, Offset::Invalid)?)?;
        if lost && !units.is_empty() {
            self.tell(Ok(Assignment::Lost(units)));
        }
        Ok(())
    }
}

fn list_of(partitions: &[Partition], offset: Offset) -> Result<TopicPartitionList, KafkaError> {
    let mut list = TopicPartitionList::with_capacity(partitions.len());
    for (topic, partition) in partitions {
        list.add_partition_offset(topic, *partition, offset)?;
    }
    Ok(list)
}

/// Positions as librdkafka has them.
pub(super) fn positions_of(clients: &Clients, positions: &[(TopicPartition, u64)]) -> Result<TopicPartitionList> {
    let mut list = TopicPartitionList::with_capacity(positions.len());
    for (place, position) in positions {
        let offset = Offset::Offset(i64::try_from(*position).unwrap_or(i64::MAX));
        list.add_partition_offset(&clients.named(&place.topic), place.partition as i32, offset)
            .map_err(|error| clients.explain("cannot commit a position", error).at(place))?;
    }
    Ok(list)
}

impl ClientContext for Hearing {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        self.context.log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.context.error(error, reason);
    }
}

impl ConsumerContext for Hearing {
    fn rebalance(&self, client: &BaseConsumer<Self>, what: RDKafkaRespErr, list: &mut TopicPartitionList) {
        let partitions: Vec<Partition> =
            list.elements().iter().map(|element| (element.topic().to_owned(), element.partition())).collect();
        let done = match what {
            RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS => self.assigned(client, &partitions),
            _ => self.revoked(client, partitions),
        };
        if let Err(error) = done {
            tracing::warn!(%error, "a change of the group could not be followed");
        }
    }
}

/// What proves that somebody is a member, and lets its positions be committed.
#[derive(Clone, Debug)]
pub(super) struct Member {
    client: Weak<BaseConsumer<Hearing>>,
    state: Arc<State>,
    group: String,
}

impl Member {
    fn client(&self) -> Result<Arc<BaseConsumer<Hearing>>> {
        let gone = || Error::new(ErrorKind::Closed, format!("this member has left group {}", self.group));
        self.client.upgrade().ok_or_else(gone)
    }

    /// Commits positions of the group, apart from any transaction; waits while the group changes. Blocks.
    pub(super) fn commit(&self, clients: &Clients, clock: &Clock, positions: &[(TopicPartition, u64)]) -> Result<()> {
        let client = self.client()?;
        let list = positions_of(clients, positions)?;
        let began = clock.moment();
        // Before that it is not a member, and the group may take a position from anybody.
        while !self.state.joined.load(Ordering::SeqCst) && clock.moment().since(began) < COMMIT_TIMEOUT {
            super::pause(super::STEP);
        }
        loop {
            let Err(error) = client.commit(&list, CommitMode::Sync) else { return Ok(()) };
            let within = match error.rdkafka_error_code() {
                Some(
                    RDKafkaErrorCode::IllegalGeneration
                    | RDKafkaErrorCode::UnknownMemberId
                    | RDKafkaErrorCode::RebalanceInProgress,
                ) => COMMIT_TIMEOUT,
                Some(
                    RDKafkaErrorCode::CoordinatorNotAvailable
                    | RDKafkaErrorCode::NotCoordinator
                    | RDKafkaErrorCode::CoordinatorLoadInProgress
                    | RDKafkaErrorCode::BrokerTransportFailure
                    | RDKafkaErrorCode::AllBrokersDown
                    | RDKafkaErrorCode::NetworkException
                    | RDKafkaErrorCode::OperationTimedOut
                    | RDKafkaErrorCode::RequestTimedOut,
                ) => COORDINATOR_TIMEOUT,
                _ => Duration::ZERO,
            };
            if clock.moment().since(began) >= within {
                return Err(clients.explain(&format!("cannot commit positions of group {}", self.group), error));
            }
            super::pause(Duration::from_millis(50));
        }
    }

    /// The group as it is now.
    pub(super) fn metadata(&self) -> Result<ConsumerGroupMetadata> {
        let gone = || Error::new(ErrorKind::Closed, format!("this member has left group {}", self.group));
        self.client()?.group_metadata().ok_or_else(gone)
    }
}

/// A member of a group.
#[derive(Debug)]
pub(super) struct KafkaConsumer {
    clients: Clients,
    clock: Clock,
    group: String,
    sets: Vec<AssignmentSet>,
    /// The topics that stand for the sets, and whether one more is subscribed to.
    subscribed: (Vec<String>, bool),
    member: Member,
    state: Arc<State>,
    changes: mpsc::UnboundedReceiver<Result<Assignment>>,
    ended: Option<oneshot::Receiver<()>>,
    left: bool,
}

impl KafkaConsumer {
    /// Joins; blocks for as long as it takes to begin.
    pub(super) fn join(
        clients: &Clients,
        clock: &Clock,
        group: &str,
        sets: &[AssignmentSet],
        copies: Arc<Copies>,
    ) -> Result<Self> {
        let (sender, changes) = mpsc::unbounded_channel();
        let state = Arc::new(State::default());
        let first = |set: &AssignmentSet| set.topics.first().map(|topic| clients.named(topic));
        let topics: BTreeMap<String, usize> =
            sets.iter().enumerate().filter_map(|(at, set)| Some((first(set)?, at))).collect();
        let strategy = Strategy::new(Arc::new(Dialogue {
            clients: clients.clone(),
            sets: sets.to_vec(),
            numbers: topics.clone(),
            copies: copies.clone(),
            has_standbys: AtomicBool::new(false),
            changes: sender.clone(),
        }));
        let hearing = Hearing {
            context: clients.context.clone(),
            sets: topics.clone(),
            changes: sender,
            state: state.clone(),
            _strategy: strategy.clone(),
        };
        let client: BaseConsumer<Hearing> = clients.make(Role::Member(group), hearing)?;
        if let Err(why) = strategy.install(&client) {
            if copies.standbys() > 0 {
                let message = format!(
                    "standbys cannot be kept: {why}; build with the librdkafka that comes with this release, or set standby = 0"
                );
                return Err(Error::new(ErrorKind::Unsupported, message));
            }
            tracing::warn!(group, why, "partitions are shared out by Kafka's own strategy");
        }
        // Who shares in nothing has nothing to wait for.
        state.joined.store(topics.is_empty(), Ordering::SeqCst);
        let topics: Vec<String> = topics.into_keys().collect();
        if !topics.is_empty() {
            let topics: Vec<&str> = topics.iter().map(String::as_str).collect();
            client.subscribe(&topics).map_err(|error| clients.explain(&format!("cannot join group {group}"), error))?;
        }
        let client = Arc::new(client);
        let member = Member { client: Arc::downgrade(&client), state: state.clone(), group: group.to_owned() };
        let (ending, ended) = oneshot::channel();
        let (watched, explained, name) = (state.clone(), clients.clone(), group.to_owned());
        let farewell = clients.farewells.begin();
        std::thread::Builder::new()
            .name("kafka-member".into())
            .spawn(move || {
                be_a_member(client, &watched, &explained, &name);
                drop(farewell);
                let _ = ending.send(());
            })
            .map_err(|error| Error::io("cannot start a thread for Kafka", error))?;
        Ok(Self {
            clients: clients.clone(),
            clock: clock.clone(),
            group: group.to_owned(),
            sets: sets.to_vec(),
            subscribed: (topics, false),
            member,
            state,
            changes,
            ended: Some(ended),
            left: false,
        })
    }

    fn gone(&self) -> Error {
        Error::new(ErrorKind::Closed, format!("this member has left group {}", self.group))
    }
}

/// Follows the group until it is time to leave.
fn be_a_member(client: Arc<BaseConsumer<Hearing>>, state: &State, clients: &Clients, group: &str) {
    let mut told = None;
    while !state.closing.load(Ordering::SeqCst) {
        match client.poll(TURN) {
            Some(Err(error @ KafkaError::MessageConsumptionFatal(_))) => {
                let error = clients.explain(&format!("group {group} has shut this member out"), error);
                client.context().tell(Err(error));
                break;
            }
            Some(Err(KafkaError::MessageConsumption(
                code @ (RDKafkaErrorCode::GroupAuthorizationFailed | RDKafkaErrorCode::TopicAuthorizationFailed),
            ))) => {
                let error = KafkaError::MessageConsumption(code);
                client.context().tell(Err(clients.explain(&format!("cannot join group {group}"), error)));
                break;
            }
            // The client tries to join for ever, and nobody would know why the member gets nothing.
            Some(Err(KafkaError::MessageConsumption(
                code @ (RDKafkaErrorCode::InconsistentGroupProtocol
                | RDKafkaErrorCode::GroupMaxSizeReached
                | RDKafkaErrorCode::InvalidSessionTimeout),
            ))) if told != Some(code) => {
                told = Some(code);
                let error = KafkaError::MessageConsumption(code);
                tracing::warn!(group, %error, "this worker cannot join its group, and tries on; see who else is in it");
            }
            Some(Err(error)) => tracing::debug!(group, %error, "a member of a group meets an error and goes on"),
            // Nothing is fetched while partitions are paused, except before that was heard.
            Some(Ok(_)) | None => {}
        }
    }
    state.closing.store(true, Ordering::SeqCst);
    // The group would wait for what was not given back.
    let revoked = std::mem::take(&mut *state.revoked());
    if let Ok(list) = list_of(&revoked.all, Offset::Invalid)
        && list.count() > 0
    {
        let _ = client.incremental_unassign(&list);
    }
    // Leaves the group, which is told of it.
    drop(client);
}

#[async_trait]
impl Consumer for KafkaConsumer {
    async fn assignment(&mut self) -> Result<Assignment> {
        if self.left {
            return Err(self.gone());
        }
        match self.changes.recv().await {
            Some(change) => change,
            None => Err(self.gone()),
        }
    }

    async fn release(&mut self, unit: Unit) -> Result<()> {
        let topic = self.sets.get(unit.set).and_then(|set| set.topics.first());
        let Some(topic) = topic else { return Ok(()) };
        let partition = (self.clients.named(topic), unit.partition as i32);
        let all = {
            let mut revoked = self.state.revoked();
            // What nobody wants stays this member's until it leaves; what was lost is gone.
            if !revoked.left.remove(&partition) || !revoked.left.is_empty() {
                return Ok(());
            }
            std::mem::take(&mut revoked.all)
        };
        let (client, clients) = (self.member.client()?, self.clients.clone());
        super::blocking(move || {
            let given = list_of(&all, Offset::Invalid).and_then(|list| client.incremental_unassign(&list));
            given.map_err(|error| clients.explain("cannot give a partition back", error))
        })
        .await
    }

    /// A group shares out again when a member joins anew with something else to tell, and librdkafka's members do so when they
    /// subscribe to other topics than before. One that nobody shares in makes the difference.
    async fn share_out_again(&mut self) -> Result<()> {
        let (topics, more) = &mut self.subscribed;
        *more = !*more;
        let mut topics = topics.clone();
        topics.extend(more.then(|| self.clients.named(&self.clients.options.topics)));
        let (client, clients, group) = (self.member.client()?, self.clients.clone(), self.group.clone());
        super::blocking(move || {
            let topics: Vec<&str> = topics.iter().map(String::as_str).collect();
            client
                .subscribe(&topics)
                .map_err(|error| clients.explain(&format!("cannot ask group {group} to share out again"), error))
        })
        .await
    }

    fn ack(&self, partition: &TopicPartition, position: u64) -> Result<()> {
        self.member.commit(&self.clients, &self.clock, &[(partition.clone(), position)])
    }

    async fn leave(&mut self) -> Result<()> {
        self.left = true;
        self.state.closing.store(true, Ordering::SeqCst);
        if let Some(ended) = self.ended.take() {
            tokio::select! {
                _ = ended => {}
                () = self.clock.sleep(LEAVE_TIMEOUT) => {
                    tracing::warn!(group = self.group, "the group was not told in time that this member leaves; it will see by itself");
                }
            }
        }
        Ok(())
    }

    fn patience(&self) -> Option<Duration> {
        let setting = self.clients.options.settings.get("max.poll.interval.ms");
        let time_ms = setting.and_then(|setting| setting.reveal().parse().ok());
        Some(time_ms.map_or(MAX_POLL_INTERVAL, Duration::from_millis))
    }

    fn membership(&self) -> Option<Membership> {
        Some(Membership::new(self.member.clone()))
    }
}

impl Drop for KafkaConsumer {
    fn drop(&mut self) {
        self.state.closing.store(true, Ordering::SeqCst);
    }
}

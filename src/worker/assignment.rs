//! Who owns which partition: a member of each agent's group, and the threads that its tasks run on.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use futures::FutureExt;
use tokio::sync::{mpsc, watch};
use tokio::task::LocalSet;

use super::commit::Progress;
use super::lookout::{LOOK_EVERY, Stuck, Watch};
use super::partition::{Context, Signals, TaskRun};
use super::{Recovered, Summary, WorkerEvent, WorkerOptions, partition_set};
use crate::agent::panicked;
use crate::backend::{Assignment, Backend, Consumer, Unit, Withheld};
use crate::clock::{Clock, Moment};
use crate::error::{Error, ErrorKind, Result};
use crate::plan::AgentPlan;
use crate::topic::TopicPartition;

/// The threads that agents run on. A partition stays on its thread, a record never moves.
#[derive(Clone)]
pub(crate) struct Pool {
    threads: Arc<Vec<mpsc::UnboundedSender<Start>>>,
}

/// A task to begin.
struct Start {
    context: Context,
    signals: Signals,
    plan: Arc<AgentPlan>,
    partition: u32,
    /// Numbers the tasks of a member, one after another on a partition among them.
    number: u64,
    opened: mpsc::UnboundedSender<Told>,
}

/// What the task of that number tells its member.
type Told = (u64, TaskEvent);

/// What a task tells its member.
enum TaskEvent {
    Started(u32, Recovered),
    Paused(u32, Error),
    Ended(u32, Result<()>),
}

impl Pool {
    pub(crate) fn new(threads: usize) -> Result<Self> {
        let mut senders = Vec::new();
        for number in 0..threads {
            let (sender, receiver) = mpsc::unbounded_channel();
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .map_err(|error| Error::io("cannot start a runtime for agents", error))?;
            std::thread::Builder::new()
                .name(format!("agents-{number}"))
                .spawn(move || LocalSet::new().block_on(&runtime, work(receiver)))
                .map_err(|error| Error::io("cannot start a thread for agents", error))?;
            senders.push(sender);
        }
        Ok(Self { threads: Arc::new(senders) })
    }

    /// The thread that it is called on, within the `LocalSet` that it is called in.
    pub(crate) fn here() -> Self {
        let (sender, receiver) = mpsc::unbounded_channel();
        tokio::task::spawn_local(work(receiver));
        Self { threads: Arc::new(vec![sender]) }
    }

    fn start(&self, number: usize, start: Start) -> Result<()> {
        self.threads[number % self.threads.len()]
            .send(start)
            .map_err(|_| Error::new(ErrorKind::Closed, "the thread of the agents has ended"))
    }
}

/// A thread's loop: begins tasks until the pool is dropped.
async fn work(mut starts: mpsc::UnboundedReceiver<Start>) {
    while let Some(start) = starts.recv().await {
        tokio::task::spawn_local(async move {
            let result = start.work().await;
            start.tell(TaskEvent::Ended(start.partition, result));
        });
    }
}

/// How often a task that found no room looks whether there is.
const LOOK_FOR_ROOM: Duration = Duration::from_secs(1);

/// How long a task waits that does not know what became of a commit, at first and at most.
const FIND_OUT: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

/// What fails after a task has been at work for this long is a trouble of its own, not the one before.
const STEADY: Duration = Duration::from_secs(60);

impl Start {
    /// Works until the task is told to stop or fails. Where there is no room it waits for some: everything is closed
    /// and opened again, since nothing else makes RocksDB write anew, and what was not committed is processed again.
    ///
    /// So it is with a commit of which nobody knows what became: the task that is opened anew finds out. Should another
    /// owner have taken over, this member is told that the partition is lost.
    async fn work(&self) -> Result<()> {
        let mut stop = self.signals.stop.clone();
        let mut wait = FIND_OUT.0;
        let clock = &self.context.clock;
        // Since when, and how often, it was opened anew.
        let mut troubled: Option<(Moment, u32)> = None;
        loop {
            let started = Cell::new(None);
            // The agent's own panics are its policy's; one of its types' code in a commit ends here.
            let result = match AssertUnwindSafe(self.attempt(&started)).catch_unwind().await {
                Ok(result) => result,
                Err(panic) => Err(panicked(&*panic)),
            };
            match result {
                Err(error) if is_full(&error) => {
                    self.tell(TaskEvent::Paused(self.partition, error));
                    self.make_room().await;
                    if self.stops_within(&mut stop, LOOK_FOR_ROOM).await {
                        return Ok(());
                    }
                }
                Err(error) if self.may_pass(&error) => {
                    if stop.has_changed().is_err() {
                        return Ok(());
                    }
                    let now = clock.moment();
                    if started.get().is_some_and(|started| now.since(started) > STEADY) {
                        (troubled, wait) = (None, FIND_OUT.0);
                    }
                    let (since, times) = troubled.map_or((now, 1), |(since, times)| (since, times + 1));
                    troubled = Some((since, times));
                    if now.since(since) > self.context.options.give_up_after {
                        return Err(self.given_up(now.since(since), times, error));
                    }
                    tracing::warn!(agent = self.plan.def.name, partition = self.partition, %error, "the partition is opened anew to find out what counts");
                    if self.stops_within(&mut stop, wait).await {
                        return Ok(());
                    }
                    wait = (wait * 2).min(FIND_OUT.1);
                }
                other => return other,
            }
        }
    }

    /// Lets go what no recovery needs, before its time: it may be what the disk is full of.
    async fn make_room(&self) {
        if let (Some(needless), Some(replay)) = (self.signals.take_needless(), self.context.backend.replay()) {
            needless.clean(replay).await;
        }
    }

    /// Whether opening the task anew finds out what counts, or helps as soon as the brokers answer again: they are elsewhere,
    /// and may be away for a while.
    fn may_pass(&self, error: &Error) -> bool {
        let elsewhere = self.context.backend.capabilities().transactions;
        error.kind() == ErrorKind::Unsettled || (elsewhere && error.kind() == ErrorKind::Io)
    }

    /// Waits; whether the task is to end.
    async fn stops_within(&self, stop: &mut watch::Receiver<bool>, time: Duration) -> bool {
        tokio::select! {
            biased;
            () = self.context.clock.sleep(time) => {}
            _ = stop.changed() => {}
        }
        stop.has_changed().is_err() || *stop.borrow()
    }

    fn tell(&self, event: TaskEvent) {
        // A member that has ended does not listen.
        let _ = self.opened.send((self.number, event));
    }

    #[cold]
    fn given_up(&self, time: Duration, times: u32, error: Error) -> Error {
        let message = format!(
            "partition {} of agent {} was opened anew {times} times in {} s, and fails each time; see whether the brokers are \
             well, then start the worker again: it goes on at its last commit",
            self.partition,
            self.plan.def.name,
            time.as_secs()
        );
        Error::new(error.kind(), message).with_source(error)
    }

    async fn attempt(&self, started: &Cell<Option<Moment>>) -> Result<()> {
        let task = TaskRun::open(self.context.clone(), self.signals.clone(), self.plan.clone(), self.partition).await?;
        self.tell(TaskEvent::Started(self.partition, task.recovered()));
        started.set(Some(self.context.clock.moment()));
        task.run().await
    }
}

/// Whether the reason is that there is no room.
fn is_full(error: &Error) -> bool {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = cause {
        if error.downcast_ref::<Error>().is_some_and(|error| error.kind() == ErrorKind::Full) {
            return true;
        }
        cause = error.source();
    }
    false
}

/// A task that runs, or has failed and keeps its partition.
struct Running {
    number: u64,
    stop: watch::Sender<bool>,
    idle: Arc<AtomicBool>,
    finished: Arc<AtomicU64>,
    watch: Watch,
    ended: bool,
}

/// This worker as a member of one agent's group.
pub(super) struct Member {
    plan: Arc<AgentPlan>,
    consumer: Box<dyn Consumer>,
    pool: Pool,
    context: Context,
    progress: mpsc::UnboundedReceiver<Progress>,
    tasks: BTreeMap<u32, Running>,
    /// Tasks that were begun so far.
    begun: u64,
    /// Tasks whose partition was lost and that have not ended, by partition; and whether it has come back since. Their stores
    /// are open as long as they live.
    ending: BTreeMap<u32, (u64, bool)>,
    /// It has left the group, because an agent has stayed at one record for too long.
    away: bool,
    task_events: (mpsc::UnboundedSender<Told>, mpsc::UnboundedReceiver<Told>),
    summary: Summary,
}

impl Member {
    pub(super) async fn join(
        plan: Arc<AgentPlan>,
        backend: Arc<dyn Backend>,
        options: WorkerOptions,
        clock: Clock,
        pool: Pool,
    ) -> Result<Self> {
        let consumer = backend.consumer(&plan.group, &[partition_set(&plan)]).await?;
        let (sender, progress) = mpsc::unbounded_channel();
        let context = Context {
            backend,
            clock,
            options,
            helpers: tokio::runtime::Handle::current(),
            progress: sender,
            membership: consumer.membership(),
        };
        Ok(Self {
            plan,
            consumer,
            pool,
            context,
            progress,
            tasks: BTreeMap::new(),
            begun: 0,
            ending: BTreeMap::new(),
            away: false,
            task_events: mpsc::unbounded_channel(),
            summary: Summary::default(),
        })
    }

    pub(super) async fn run(
        mut self,
        mut stop: watch::Receiver<bool>,
        events: mpsc::UnboundedSender<WorkerEvent>,
    ) -> Result<Summary> {
        let result = match self.work(&mut stop, &events).await {
            Ok(()) => self.end(&events).await,
            Err(error) => Err(error),
        };
        let stuck = self.tasks.values().any(|task| !task.ended);
        // Without its signals a task that goes on later commits nothing.
        self.tasks.clear();
        if stuck {
            // A commit of theirs may be on its way. The next owner must not meet it, so that their partitions stay
            // locked until this process ends.
            std::mem::forget(self.consumer);
        }
        result
    }

    async fn work(
        &mut self,
        stop: &mut watch::Receiver<bool>,
        events: &mpsc::UnboundedSender<WorkerEvent>,
    ) -> Result<()> {
        let mut caught_up = false;
        let clock = self.context.clock.clone();
        let mut look = std::pin::pin!(clock.sleep(LOOK_EVERY));
        while !*stop.borrow() {
            // In this order, which a simulation repeats: what is ready seldom must not wait for the rest to cease.
            tokio::select! {
                biased;
                changed = self.consumer.assignment(), if !self.away => self.assigned(changed?, events).await?,
                Some((number, event)) = self.task_events.1.recv() => self.task_event(number, event, events).await?,
                () = &mut look => {
                    self.name_stuck(events);
                    self.leave_stuck_group(events).await?;
                    look.set(clock.sleep(LOOK_EVERY));
                }
                Some((partition, position)) = self.progress.recv() => self.ack(&partition, position),
                _ = stop.changed() => {}
            }
            if self.has_failed() {
                break;
            }
            if self.away && self.ending.is_empty() {
                self.join_again().await?;
            }
            let idle = !self.tasks.is_empty() && self.tasks.values().all(|task| task.idle.load(Ordering::SeqCst));
            if idle && !caught_up {
                let _ = events.send(WorkerEvent::CaughtUp);
            }
            caught_up = idle;
        }
        Ok(())
    }

    /// Names agents that have stayed at one record for long.
    fn name_stuck(&mut self, events: &mpsc::UnboundedSender<WorkerEvent>) {
        let now = self.context.clock.moment();
        for (partition, task) in self.tasks.iter_mut().filter(|(_, task)| !task.ended) {
            let Some(Stuck { source, offset, time, holds_thread }) = task.watch.look(now) else { continue };
            let Some((topic, _)) = self.plan.sources.get(source) else { continue };
            let (agent, topic, partition) = (self.plan.def.name, topic.clone(), *partition);
            let _ = events.send(WorkerEvent::Stuck { agent, topic, partition, offset, time, holds_thread });
        }
    }

    /// Leaves the group where an agent has stayed at one record for longer than a member may. What its tasks have not
    /// committed is dropped, as if their partitions had been lost.
    async fn leave_stuck_group(&mut self, events: &mpsc::UnboundedSender<WorkerEvent>) -> Result<()> {
        let Some(patience) = self.consumer.patience().filter(|_| !self.away) else { return Ok(()) };
        let now = self.context.clock.moment();
        let mut running = self.tasks.iter().filter(|(_, task)| !task.ended);
        let stuck = running.find_map(|(partition, task)| {
            let stuck = task.watch.stays(now).filter(|stuck| stuck.time >= patience)?;
            Some((*partition, self.plan.sources.get(stuck.source)?.0.clone(), stuck))
        });
        let Some((partition, topic, Stuck { offset, time, .. })) = stuck else { return Ok(()) };
        let agent = self.plan.def.name;
        let _ = events.send(WorkerEvent::Left { agent, topic, partition, offset, time });
        for (partition, task) in std::mem::take(&mut self.tasks) {
            if !task.ended {
                self.ending.insert(partition, (task.number, false));
            }
        }
        self.away = true;
        self.consumer.leave().await
    }

    /// Becomes a member again, as a new one.
    async fn join_again(&mut self) -> Result<()> {
        self.consumer = self.context.backend.consumer(&self.plan.group, &[partition_set(&self.plan)]).await?;
        self.context.membership = self.consumer.membership();
        self.away = false;
        Ok(())
    }

    /// Whether nothing is left that could go on.
    fn has_failed(&self) -> bool {
        !self.tasks.is_empty() && self.tasks.values().all(|task| task.ended)
    }

    async fn assigned(&mut self, change: Assignment, events: &mpsc::UnboundedSender<WorkerEvent>) -> Result<()> {
        match change {
            Assignment::Gained(units) => units.into_iter().try_for_each(|unit| self.start(unit.partition)),
            Assignment::Wanted(units) => {
                for Unit { partition, .. } in units {
                    match self.tasks.get(&partition) {
                        Some(task) if !task.ended => {
                            let _ = task.stop.send(true);
                        }
                        // A partition that failed here goes to whoever wants it: it may have been this machine's fault.
                        _ => {
                            if let Some((_, back)) = self.ending.get_mut(&partition) {
                                *back = false;
                            }
                            self.give_back(partition).await?;
                        }
                    }
                }
                Ok(())
            }
            Assignment::Withheld(units) => {
                for Withheld { unit: Unit { partition, .. }, owner, time } in units {
                    let agent = self.plan.def.name;
                    let _ = events.send(WorkerEvent::Withheld { agent, partition, owner, time });
                }
                Ok(())
            }
            Assignment::Lost(units) => {
                for Unit { partition, .. } in units {
                    tracing::error!(
                        agent = self.plan.def.name,
                        partition,
                        "the partition was lost; what is uncommitted is dropped"
                    );
                    // Without its signals the task ends at the next pause, and commits nothing.
                    if let Some(task) = self.tasks.remove(&partition).filter(|task| !task.ended) {
                        self.ending.insert(partition, (task.number, false));
                    } else if let Some((_, back)) = self.ending.get_mut(&partition) {
                        *back = false;
                    }
                }
                Ok(())
            }
        }
    }

    fn start(&mut self, partition: u32) -> Result<()> {
        if let Some((_, back)) = self.ending.get_mut(&partition) {
            *back = true;
            return Ok(());
        }
        let (stop, stopped) = watch::channel(false);
        let finished = Arc::new(AtomicU64::new(0));
        let idle = Arc::new(AtomicBool::new(false));
        let pulse = Arc::default();
        let watch = Watch::new(Arc::clone(&pulse));
        let signals = Signals::new(stopped, idle.clone(), finished.clone(), pulse);
        self.begun += 1;
        let number = self.begun;
        self.tasks.insert(partition, Running { number, stop, idle, finished, watch, ended: false });
        let place = partition as usize;
        self.pool.start(
            place,
            Start {
                context: self.context.clone(),
                signals,
                plan: self.plan.clone(),
                partition,
                number,
                opened: self.task_events.0.clone(),
            },
        )
    }

    async fn task_event(
        &mut self,
        number: u64,
        event: TaskEvent,
        events: &mpsc::UnboundedSender<WorkerEvent>,
    ) -> Result<()> {
        let agent = self.plan.def.name;
        let (TaskEvent::Started(partition, _) | TaskEvent::Paused(partition, _) | TaskEvent::Ended(partition, _)) =
            event;
        // A task whose partition was lost ends later; the partition may have come back meanwhile.
        if let Some((_, back)) = self.ending.get(&partition).copied().filter(|(ending, _)| *ending == number) {
            if !matches!(event, TaskEvent::Ended(..)) {
                return Ok(());
            }
            self.ending.remove(&partition);
            return if back { self.start(partition) } else { Ok(()) };
        }
        if self.tasks.get(&partition).is_none_or(|task| task.number != number) {
            return Ok(());
        }
        match event {
            TaskEvent::Started(partition, recovered) => {
                let _ = events.send(WorkerEvent::Started { agent, partition, recovered });
            }
            TaskEvent::Paused(partition, error) => {
                let _ = events.send(WorkerEvent::Paused { agent, partition, error });
            }
            TaskEvent::Ended(partition, Ok(())) => {
                let _ = events.send(WorkerEvent::Stopped { agent, partition });
                self.give_back(partition).await?;
            }
            TaskEvent::Ended(partition, Err(error)) => {
                self.summary.failed += 1;
                if let Some(task) = self.tasks.get_mut(&partition) {
                    task.ended = true;
                    task.idle.store(true, Ordering::SeqCst);
                }
                let _ = events.send(WorkerEvent::Failed { agent, partition, error });
            }
        }
        Ok(())
    }

    async fn give_back(&mut self, partition: u32) -> Result<()> {
        // What the task has published must not overtake what the next owner publishes.
        self.publish();
        if let Some(task) = self.tasks.remove(&partition) {
            self.summary.finished += task.finished.load(Ordering::SeqCst);
        }
        self.consumer.release(Unit { set: 0, partition }).await
    }

    /// Publishes the positions that the tasks have come to.
    fn publish(&mut self) {
        while let Ok((partition, position)) = self.progress.try_recv() {
            self.ack(&partition, position);
        }
    }

    /// Publishes a position. It is for people: no work ends because it cannot be written.
    fn ack(&self, partition: &TopicPartition, position: u64) {
        if let Err(error) = self.consumer.ack(partition, position) {
            tracing::warn!(agent = self.plan.def.name, topic = %partition.topic, partition = partition.partition, %error, "the position is not published; the commit itself counts");
        }
    }

    /// Stops what runs, publishes the last positions and leaves the group.
    async fn end(&mut self, events: &mpsc::UnboundedSender<WorkerEvent>) -> Result<Summary> {
        for task in self.tasks.values() {
            let _ = task.stop.send(true);
        }
        self.ending.values_mut().for_each(|(_, back)| *back = false);
        let clock = self.context.clock.clone();
        let timeout = clock.sleep(self.context.options.stop_timeout);
        tokio::pin!(timeout);
        let mut stuck = 0;
        while self.tasks.values().any(|task| !task.ended) || !self.ending.is_empty() {
            tokio::select! {
                biased;
                Some((number, event)) = self.task_events.1.recv() => self.task_event(number, event, events).await?,
                () = &mut timeout => {
                    stuck = self.leave_stuck();
                    // Those whose partitions are gone hold nothing up but the end of the process.
                    self.summary.stuck = stuck + self.ending.len();
                    break;
                }
            }
        }
        self.publish();
        for task in self.tasks.values() {
            self.summary.finished += task.finished.load(Ordering::SeqCst);
        }
        if stuck == 0 {
            self.consumer.leave().await?;
        }
        Ok(self.summary)
    }

    /// Names the partitions that have not ended in time; returns how many there are.
    fn leave_stuck(&self) -> usize {
        let agent = self.plan.def.name;
        let stuck = self.tasks.iter().filter(|(_, task)| !task.ended);
        stuck
            .inspect(|(partition, task)| match task.watch.at_hand() {
                Some((source, offset)) => {
                    let topic = self.plan.sources.get(source).map_or("", |(topic, _)| topic);
                    tracing::warn!(
                        agent,
                        topic,
                        partition,
                        offset,
                        "the agent did not finish this record in time; it stays uncommitted and will be processed again"
                    );
                }
                None => tracing::warn!(agent, partition, "the partition did not end in time; its last commit stands"),
            })
            .count()
    }
}

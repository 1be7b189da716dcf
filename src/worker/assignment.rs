//! Who owns which partition: a member of each agent's group, and the tasks of its partitions.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::{mpsc, watch};

use super::commit::Progress;
use super::lookout::{LOOK_EVERY, Stuck, Watch};
use super::partition::{Context, Signals};
use super::pool::{Pool, Start, TaskEvent, Told};
use super::standby::{StandbyEvent, StandbyThread};
use super::standbys::Standbys;
use super::{Standing, Summary, WorkerEvent, WorkerOptions, partition_set};
use crate::backend::{Assignment, Backend, Consumer, Owner, Unit, Withheld};
use crate::clock::Clock;
use crate::error::Result;
use crate::plan::AgentPlan;
use crate::topic::TopicPartition;

/// How often a member looks whether others have the partitions that it has not, until every one is with somebody.
const LOOK_AT_OTHERS: Duration = Duration::from_millis(50);

/// A task that runs, or has failed and keeps its partition.
struct Running {
    number: u64,
    /// Whether its tables have been opened.
    open: bool,
    stop: watch::Sender<bool>,
    idle: Arc<AtomicBool>,
    finished: Arc<AtomicU64>,
    watch: Watch,
    /// Its partition is to be given back as soon as it has ended, whatever the way.
    wanted: bool,
    ended: bool,
}

/// A task whose partition was lost, and that has not ended: its stores are open as long as it lives.
struct Ending {
    number: u64,
    watch: Watch,
    /// The partition has come back since.
    back: bool,
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
    /// By partition.
    ending: BTreeMap<u32, Ending>,
    /// It has left the group, because an agent has stayed at one record for too long.
    away: bool,
    task_events: (mpsc::UnboundedSender<Told>, mpsc::UnboundedReceiver<Told>),
    standbys: Standbys,
    summary: Summary,
}

impl Member {
    pub(super) async fn join(
        plan: Arc<AgentPlan>,
        backend: Arc<dyn Backend>,
        options: WorkerOptions,
        clock: Clock,
        pool: Pool,
        thread: StandbyThread,
    ) -> Result<Self> {
        let (sender, progress) = mpsc::unbounded_channel();
        let mut context = Context {
            backend,
            clock,
            options,
            helpers: tokio::runtime::Handle::current(),
            progress: sender,
            membership: None,
        };
        let standbys = Standbys::new(plan.clone(), &context, thread)?;
        let sets = [partition_set(&plan)];
        let consumer = context.backend.consumer_with(&plan.group, &sets, standbys.copies.clone()).await?;
        context.membership = consumer.membership();
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
            standbys,
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
            self.context.options.disk.keep(Box::new(self.consumer));
        }
        result
    }

    async fn work(
        &mut self,
        stop: &mut watch::Receiver<bool>,
        events: &mpsc::UnboundedSender<WorkerEvent>,
    ) -> Result<()> {
        let (mut caught_up, mut opened, mut others) = (false, false, Vec::new());
        let clock = self.context.clock.clone();
        let mut look = std::pin::pin!(clock.sleep(LOOK_EVERY));
        let mut look_at_others = std::pin::pin!(clock.sleep(LOOK_AT_OTHERS));
        while !*stop.borrow() {
            // In this order, which a simulation repeats: what is ready seldom must not wait for the rest to cease.
            tokio::select! {
                biased;
                changed = self.consumer.assignment(), if !self.away => self.assigned(changed?, events).await?,
                Some((number, event)) = self.task_events.1.recv() => self.task_event(number, event, events).await?,
                (partition, event) = self.standbys.event() => self.standby_event(partition, &event, events)?,
                () = &mut look => {
                    self.name_stuck(events);
                    self.leave_stuck_group(events).await?;
                    if !self.away && self.standbys.is_due(clock.moment()) {
                        self.consumer.share_out_again().await?;
                    }
                    look.set(clock.sleep(LOOK_EVERY));
                }
                () = &mut look_at_others, if !opened => {
                    others = self.owners();
                    look_at_others.set(clock.sleep(LOOK_AT_OTHERS));
                }
                Some((partition, position)) = self.progress.recv() => self.ack(&partition, position),
                _ = stop.changed() => {}
            }
            if self.has_failed() {
                break;
            }
            if !opened && self.all_open(&others) {
                opened = true;
                let _ = events.send(WorkerEvent::Opened { agent: self.plan.def.name });
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

    /// Which process has each partition, as far as that can be seen.
    fn owners(&self) -> Vec<Option<Owner>> {
        let replay = self.context.backend.replay();
        // Who cannot be seen now is looked for again.
        replay.and_then(|replay| replay.owners(&self.plan.group, &partition_set(&self.plan)).ok()).unwrap_or_default()
    }

    /// Whether every partition has been opened here, or has failed, or is another's.
    fn all_open(&self, others: &[Option<Owner>]) -> bool {
        (0..self.plan.partitions).all(|partition| match self.tasks.get(&partition) {
            Some(task) => task.open || task.ended,
            None if self.standbys.waits(partition) => false,
            None => others.get(partition as usize).is_some_and(Option::is_some),
        })
    }

    /// Names agents that have stayed at one record for long.
    fn name_stuck(&mut self, events: &mpsc::UnboundedSender<WorkerEvent>) {
        let now = self.context.clock.moment();
        let running = self.tasks.iter_mut().filter(|(_, task)| !task.ended);
        let running = running.map(|(partition, task)| (partition, &mut task.watch));
        // Nobody works on a partition that has come back before its agent does.
        let ending = self.ending.iter_mut().map(|(partition, task)| (partition, &mut task.watch));
        for (partition, watch) in running.chain(ending) {
            let Some(Stuck { source, offset, time, holds_thread }) = watch.look(now) else { continue };
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
        let running = self.tasks.iter().filter(|(_, task)| !task.ended);
        let running = running.map(|(partition, task)| (partition, &task.watch));
        let back = self.ending.iter().filter(|(_, task)| task.back);
        let mut own = running.chain(back.map(|(partition, task)| (partition, &task.watch)));
        let stuck = own.find_map(|(partition, watch)| {
            let stuck = watch.stays(now).filter(|stuck| stuck.time >= patience)?;
            Some((*partition, self.plan.sources.get(stuck.source)?.0.clone(), stuck))
        });
        let Some((partition, topic, Stuck { offset, time, .. })) = stuck else { return Ok(()) };
        let agent = self.plan.def.name;
        let _ = events.send(WorkerEvent::Left { agent, topic, partition, offset, time });
        self.ending.values_mut().for_each(|task| task.back = false);
        for (partition, task) in std::mem::take(&mut self.tasks) {
            self.let_end(partition, task);
            self.standbys.given_back(partition, false);
        }
        self.standbys.left();
        self.away = true;
        self.consumer.leave().await
    }

    /// The task's partition is not this member's any more. Without its signals it ends at the next pause, and commits nothing.
    fn let_end(&mut self, partition: u32, task: Running) {
        if !task.ended {
            self.ending.insert(partition, Ending { number: task.number, watch: task.watch, back: false });
        }
    }

    /// Becomes a member again, as a new one.
    async fn join_again(&mut self) -> Result<()> {
        let (sets, copies) = ([partition_set(&self.plan)], self.standbys.copies.clone());
        self.consumer = self.context.backend.consumer_with(&self.plan.group, &sets, copies).await?;
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
                    match self.tasks.get_mut(&partition) {
                        Some(task) if !task.ended => {
                            task.wanted = true;
                            let _ = task.stop.send(true);
                        }
                        // A partition that failed here goes to whoever wants it: it may have been this machine's fault.
                        _ => {
                            if let Some(ending) = self.ending.get_mut(&partition) {
                                ending.back = false;
                            }
                            self.give_back(partition).await?;
                        }
                    }
                }
                Ok(())
            }
            Assignment::Standbys(standbys) => {
                self.standbys.want(&standbys);
                self.begin_standbys()
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
                    if let Some(task) = self.tasks.remove(&partition) {
                        self.let_end(partition, task);
                    } else if let Some(ending) = self.ending.get_mut(&partition) {
                        ending.back = false;
                    }
                    self.standbys.given_back(partition, false);
                }
                self.begin_standbys()
            }
        }
    }

    /// Begins the standbys that are wanted, where no task has the partition's stores.
    fn begin_standbys(&mut self) -> Result<()> {
        let (tasks, ending) = (&self.tasks, &self.ending);
        let has_task = |partition| tasks.contains_key(&partition) || ending.contains_key(&partition);
        self.standbys.begin(&self.context, has_task)
    }

    fn standby_event(
        &mut self,
        partition: u32,
        event: &StandbyEvent,
        events: &mpsc::UnboundedSender<WorkerEvent>,
    ) -> Result<()> {
        let standing = match *event {
            StandbyEvent::Opened { covered, behind } => Standing::Opened { covered, behind },
            StandbyEvent::CaughtUp => Standing::CaughtUp,
            StandbyEvent::Closed => Standing::Closed,
        };
        let _ = events.send(WorkerEvent::Standby { agent: self.plan.def.name, partition, standing });
        if standing != Standing::Closed {
            return Ok(());
        }
        if self.standbys.closed(partition) { self.start(partition) } else { self.begin_standbys() }
    }

    fn start(&mut self, partition: u32) -> Result<()> {
        if let Some(ending) = self.ending.get_mut(&partition) {
            ending.back = true;
            return Ok(());
        }
        if self.standbys.holds_up(partition) {
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
        self.tasks.insert(
            partition,
            Running { number, open: false, stop, idle, finished, watch, wanted: false, ended: false },
        );
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
        if let Some(back) = self.ending.get(&partition).filter(|task| task.number == number).map(|task| task.back) {
            if !matches!(event, TaskEvent::Ended(..)) {
                return Ok(());
            }
            self.ending.remove(&partition);
            return if back { self.start(partition) } else { self.begin_standbys() };
        }
        if self.tasks.get(&partition).is_none_or(|task| task.number != number) {
            return Ok(());
        }
        match event {
            TaskEvent::Started(partition, recovered) => {
                if let Some(task) = self.tasks.get_mut(&partition) {
                    task.open = true;
                }
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
                let mut wanted = false;
                if let Some(task) = self.tasks.get_mut(&partition) {
                    task.ended = true;
                    task.idle.store(true, Ordering::SeqCst);
                    wanted = task.wanted;
                }
                let _ = events.send(WorkerEvent::Failed { agent, partition, error });
                // The group waits for it, and keeps what else is wanted from everybody meanwhile.
                if wanted {
                    self.give_back(partition).await?;
                }
            }
        }
        Ok(())
    }

    async fn give_back(&mut self, partition: u32) -> Result<()> {
        // What the task has published must not overtake what the next owner publishes.
        self.publish();
        let task = self.tasks.remove(&partition);
        if let Some(task) = &task {
            self.summary.finished += task.finished.load(Ordering::SeqCst);
        }
        // One that was stopped on its way has not all of the state.
        self.standbys.given_back(partition, task.is_some_and(|task| task.open && !task.ended));
        self.begin_standbys()?;
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
        self.ending.values_mut().for_each(|task| task.back = false);
        self.standbys.stop();
        let clock = self.context.clock.clone();
        let timeout = clock.sleep(self.context.options.stop_timeout);
        tokio::pin!(timeout);
        let mut stuck = 0;
        while self.tasks.values().any(|task| !task.ended) || !self.ending.is_empty() || self.standbys.running() > 0 {
            tokio::select! {
                biased;
                Some((number, event)) = self.task_events.1.recv() => self.task_event(number, event, events).await?,
                (partition, event) = self.standbys.event() => self.standby_event(partition, &event, events)?,
                () = &mut timeout => {
                    stuck = self.leave_stuck();
                    // Those whose partitions are gone hold nothing up but the end of the process.
                    self.summary.stuck = stuck + self.ending.len() + self.standbys.running();
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

//! The path of a record: one agent on one partition, from batch to commit.
//!
//! [`TaskRun::run`] reads top to bottom: recover, then turn by turn let the agent take records until it pauses between
//! two of them, and commit or refill while it stands there.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::Poll;
use std::time::Duration;

use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::cleaning::Needless;
use super::commit::{Committer, Progress, Settler, any_dirty, checkpoint};
use super::failure::Verdict;
use super::position_file::PositionFile;
use super::recovery::{Recovered, recover};
use crate::agent::{AgentFuture, Mail, OnError, Outbox, OutboxLimits, Shape, Shared, Source, Task, panicked};
use crate::backend::{Backend, ProducerId, Reader};
use crate::clock::{Clock, Moment};
use crate::error::{BoxError, Error, ErrorKind, Result};
use crate::plan::AgentPlan;
use crate::record::Cursor;
use crate::table::{AnyPartition, Checkpoint, CheckpointDone, OpenPartition};
use crate::topic::TopicPartition;

/// What all tasks of a worker share.
#[derive(Clone)]
pub(crate) struct Context {
    pub(crate) backend: Arc<dyn Backend>,
    pub(crate) clock: Clock,
    pub(crate) options: super::WorkerOptions,
    /// Where fsyncs and checkpoints go on beside the tasks.
    pub(crate) helpers: tokio::runtime::Handle,
    /// Positions for people.
    pub(crate) progress: UnboundedSender<Progress>,
}

/// Tells a task to end, and the worker how the task is.
#[derive(Clone)]
pub(crate) struct Signals {
    /// Turns to `true` when the task is to commit and end.
    pub(crate) stop: watch::Receiver<bool>,
    /// Whether the task has nothing to do.
    pub(crate) idle: Arc<AtomicBool>,
    /// Records that the task has finished.
    pub(crate) finished: Arc<AtomicU64>,
}

/// What the agent's turn came to.
enum Turn {
    /// It stands between two records and waits for the worker.
    Pause,
    /// A commit is due, and this agent can be committed at any time.
    Due,
    /// It returned.
    Ended(Result<(), BoxError>),
    /// It panicked.
    Panicked(Box<dyn Any + Send>),
}

/// What a checkpoint came to: the tables that were written, by their place among the agent's.
type Checkpointed = Result<Vec<(usize, CheckpointDone)>>;

/// One task at work.
pub(crate) struct TaskRun {
    pub(super) context: Context,
    pub(super) signals: Signals,
    pub(super) plan: Arc<AgentPlan>,
    pub(super) shared: Rc<Shared>,
    readers: Vec<Box<dyn Reader>>,
    next_reader: usize,
    committer: Committer,
    positions: PositionFile,
    checkpointing: Option<JoinHandle<Checkpointed>>,
    checkpointed_at: Moment,
    /// Commits that no checkpoint covers yet.
    uncovered: bool,
    /// What the checkpoint that was begun last makes needless.
    needless: Option<Needless>,
    /// Lets it go, beside the records.
    cleaning: Option<JoinHandle<()>>,
    cleaned_at: Moment,
    committed: u64,
    /// Attempts at the record that failed last: its source and offset, and how many.
    pub(super) attempts: (Option<(usize, u64)>, u32),
    recovered: Recovered,
    /// For each table, the keys that its store had been asked for when a batch was last looked up ahead.
    loads: Vec<Cell<u64>>,
}

impl TaskRun {
    /// Opens the state of agent and partition and recovers it.
    pub(crate) async fn open(context: Context, signals: Signals, plan: Arc<AgentPlan>, partition: u32) -> Result<Self> {
        let changelog = TopicPartition::new(plan.changelog.clone(), partition);
        let replay = context.backend.replay().ok_or_else(|| {
            Error::new(
                ErrorKind::Unsupported,
                "this backend cannot be read again by position, so no state can be kept on it",
            )
        })?;
        let now = Rc::new(Cell::new(0));
        let tables = open_tables(&context, &plan, partition, &changelog, &now)?;
        let shared = Rc::new(share(&context, &plan, partition, tables, now));
        let state_dir = context.options.state_dir.as_ref().map(|dir| dir.join(plan.def.name));
        let positions = PositionFile::new(context.options.disk.clone(), state_dir, partition);

        let producer_id = ProducerId::named(&format!("{}/{partition}", plan.changelog));
        let mut settler = Settler {
            replay: replay.clone(),
            changelog: changelog.clone(),
            producer: context.backend.producer(producer_id).await?,
            producer_id,
            progress: context.progress.clone(),
            partition,
            sources: shared.sources.iter().map(|source| source.topic.clone()).collect(),
            durable: context.backend.capabilities().survives_power_loss,
            unsynced: Vec::new(),
            frames: Default::default(),
        };
        let stored = stored_position(&shared.tables, &positions)?;
        let (resume, recovered) = recover(&shared, &mut settler, stored, &context.clock).await?;
        let mut sequences = Vec::new();
        for to in &plan.destinations {
            for partition in 0..to.partitions {
                sequences.push(
                    replay.next_sequence(&TopicPartition::new(to.topic.clone(), partition), settler.producer_id)?,
                );
            }
        }
        let mut readers = Vec::new();
        for (source, position) in shared.sources.iter().zip(&shared.positions) {
            readers.push(replay.reader(&TopicPartition::new(source.topic.clone(), partition), position.get())?);
        }
        let changelog_producer = context.backend.producer(ProducerId::ANONYMOUS).await?;
        let committer =
            Committer::new(shared.clone(), changelog_producer, settler, sequences, resume, context.helpers.clone());
        let now = context.clock.moment();
        shared.committed_at.set(now);
        Ok(Self {
            loads: shared.tables.iter().map(|_| Cell::new(0)).collect(),
            uncovered: recovered.commits > 0,
            context,
            signals,
            plan,
            shared,
            readers,
            next_reader: 0,
            committer,
            positions,
            checkpointing: None,
            checkpointed_at: now,
            needless: None,
            cleaning: None,
            cleaned_at: now,
            committed: 0,
            attempts: (None, 0),
            recovered,
        })
    }

    /// What the recovery did.
    pub(crate) fn recovered(&self) -> Recovered {
        self.recovered
    }

    /// Processes records until told to stop, or until a record fails for good. Dropping it leaves everything since
    /// the last commit to be processed again.
    pub(crate) async fn run(mut self) -> Result<()> {
        let result = self.turns().await;
        self.signals.idle.store(true, Ordering::SeqCst);
        result
    }

    async fn turns(&mut self) -> Result<()> {
        let mut agent = (self.plan.def.start)(Task(self.shared.clone()));
        loop {
            let verdict = match self.turn(&mut agent).await {
                Turn::Pause => match self.shared.failure.take() {
                    Some(error) => self.failed(&mut agent, error).await?,
                    None if self.pause().await? => return Ok(()),
                    None => continue,
                },
                Turn::Due if self.signals.stop.has_changed().is_err() => return Ok(()),
                Turn::Due => {
                    self.commit().await?;
                    continue;
                }
                Turn::Ended(Ok(())) => {
                    self.drop_agent(&mut agent);
                    Verdict::Stop(Error::new(
                        ErrorKind::Agent,
                        format!(
                            "agent {} returned although its topic goes on; loop over `next().await` until the task is ended",
                            self.plan.def.name
                        ),
                    ))
                }
                Turn::Ended(Err(error)) => self.failed(&mut agent, error).await?,
                Turn::Panicked(panic) => self.failed(&mut agent, panicked(&*panic).into()).await?,
            };
            match verdict {
                Verdict::Restart => agent = (self.plan.def.start)(Task(self.shared.clone())),
                Verdict::Stop(error) => {
                    drop(agent);
                    return Err(self.stop_at_record(error).await);
                }
            }
        }
    }

    /// Lets the agent work until it pauses.
    async fn turn(&mut self, agent: &mut AgentFuture) -> Turn {
        let shared = self.shared.clone();
        let due = async {
            if !shared.commits_any_time.get() {
                return std::future::pending().await;
            }
            loop {
                self.context.clock.sleep(shared.commit_interval).await;
                if shared.finished.get() > self.committed {
                    return;
                }
            }
        };
        let mut due = pin!(due);
        poll_fn(|cx| {
            shared.waits.set(false);
            match catch_unwind(AssertUnwindSafe(|| agent.as_mut().poll(cx))) {
                Ok(Poll::Ready(result)) => return Poll::Ready(Turn::Ended(result)),
                Ok(Poll::Pending) if shared.waits.get() => return Poll::Ready(Turn::Pause),
                Ok(Poll::Pending) => {}
                Err(panic) => return Poll::Ready(Turn::Panicked(panic)),
            }
            due.as_mut().poll(cx).map(|()| Turn::Due)
        })
        .await
    }

    /// The agent stands between two records: commits what is due, or gets more records. `true` when the task has ended.
    async fn pause(&mut self) -> Result<bool> {
        self.signals.finished.store(self.shared.finished.get(), Ordering::Relaxed);
        if self.signals.stop.has_changed().is_err() {
            // Whoever started the task has let go of it: nothing may be committed any more.
            return Ok(true);
        }
        let stopping = *self.signals.stop.borrow();
        if stopping {
            self.shut_down().await?;
            return Ok(true);
        }
        if self.is_dirty() && (self.interval_passed() || self.is_pressed() || self.shared.outbox.borrow().is_full()) {
            self.commit().await?;
        }
        self.shared.commit_due.set(false);
        // An agent that paused for a commit keeps its buffer and goes on with it.
        let used_up = self.shared.mail.borrow().as_ref().is_some_and(Mail::is_used_up);
        if used_up && !self.refill()? {
            if self.is_dirty() {
                // Idle: chained agents should not wait an interval each.
                self.commit().await?;
            }
            self.idle().await?;
        } else {
            // Other tasks of this thread take their turn.
            tokio::task::yield_now().await;
        }
        if let Some(waker) = self.shared.waker.take() {
            waker.wake();
        }
        Ok(false)
    }

    /// Whether what no checkpoint covers takes so much memory that one should begin; while one runs, it has begun.
    fn is_pressed(&self) -> bool {
        self.checkpointing.is_none() && self.shared.tables.iter().any(|table| table.wants_commit())
    }

    fn interval_passed(&self) -> bool {
        self.context.clock.moment().since(self.shared.committed_at.get()) >= self.shared.commit_interval
    }

    fn is_dirty(&self) -> bool {
        self.shared.finished.get() > self.committed
            || !self.shared.outbox.borrow().is_empty()
            || any_dirty(&self.shared.tables)
    }

    /// Reads the next batch, from the sources in turn.
    fn refill(&mut self) -> Result<bool> {
        let mut slot = self.shared.mail.borrow_mut();
        let Some(mail) = slot.as_mut() else { return Ok(false) };
        for _ in 0..self.readers.len() {
            let source = self.next_reader;
            self.next_reader = (source + 1) % self.readers.len();
            if self.readers[source].read(&mut mail.frames)? {
                mail.source = source;
                mail.begin = Cursor::at_offset(&mail.frames, self.shared.positions[source].get());
                mail.next = mail.begin;
                self.prefetch(mail)?;
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Loads the values of the batch's keys at once, where the records are keyed as the table is.
    ///
    /// Only while keys are still missing: once all are in the cache, looking them up twice would cost for nothing. A
    /// declared aggregation looks its keys up by groups itself.
    fn prefetch(&self, mail: &Mail) -> Result<()> {
        if !self.plan.keyed || self.plan.def.shape == Shape::Aggregate {
            return Ok(());
        }
        for (table, seen) in self.shared.tables.iter().zip(&self.loads) {
            if table.loads() != seen.get() {
                seen.set(table.loads());
                let mut keys = mail.frames.iter().flat_map(|frame| frame.records().filter_map(|record| record.key));
                table.prefetch(&mut keys)?;
            }
        }
        Ok(())
    }

    /// Waits until there is something to do.
    async fn idle(&mut self) -> Result<()> {
        let nothing_on_its_way = !self.committer.is_settling() && self.checkpointing.is_none();
        self.signals.idle.store(nothing_on_its_way, Ordering::SeqCst);
        let checkpoint_due = self.checkpoint_due_in();
        let clock = &self.context.clock;
        let stop = &mut self.signals.stop;
        let readers = &mut self.readers;
        let committer = &mut self.committer;
        let checkpointing = &mut self.checkpointing;
        let mut done = None;
        {
            let ready = futures::future::select_all(readers.iter_mut().map(|reader| reader.ready()));
            let checkpointed = async {
                match checkpointing {
                    Some(running) => running.await,
                    None => std::future::pending().await,
                }
            };
            let settled = async {
                if committer.is_settling() { committer.settled().await } else { std::future::pending().await }
            };
            tokio::select! {
                biased;
                _ = stop.changed() => {}
                result = settled => result?,
                result = checkpointed => done = Some(result),
                (result, ..) = ready => result?,
                () = clock.sleep(checkpoint_due.unwrap_or(Duration::MAX / 4)), if checkpoint_due.is_some() => {}
            }
        }
        self.signals.idle.store(false, Ordering::SeqCst);
        if let Some(done) = done {
            self.checkpointing = None;
            self.end_checkpoint(done)?;
        }
        if self.checkpoint_due_in() == Some(Duration::ZERO) && !self.is_dirty() {
            self.committer.settled().await?;
            self.start_checkpoint()?;
        }
        Ok(())
    }

    async fn commit(&mut self) -> Result<()> {
        let finished = self.shared.finished.get();
        self.reap_checkpoint().await?;
        self.committer.commit(&self.plan.table_outputs).await?;
        self.committed = finished;
        self.uncovered = true;
        // Under pressure a checkpoint begins at once; where memory is used up, the records wait for it.
        let pressed = self.is_pressed();
        let full =
            self.shared.tables.iter().any(|table| table.dirty_bytes() >= self.context.options.table_memory_bytes);
        if full {
            self.finish_checkpoint().await?;
        }
        if self.checkpointing.is_none() && (pressed || self.checkpoint_due_in() == Some(Duration::ZERO)) {
            self.committer.settled().await?;
            self.start_checkpoint()?;
        }
        if full {
            self.finish_checkpoint().await?;
        }
        for table in &self.shared.tables {
            table.evict();
        }
        Ok(())
    }

    /// Time until the next checkpoint is due; `None` when there is nothing for it to cover or one is running.
    fn checkpoint_due_in(&self) -> Option<Duration> {
        let passed = self.context.clock.moment().since(self.checkpointed_at);
        (self.uncovered && self.checkpointing.is_none())
            .then(|| self.context.options.checkpoint_interval.saturating_sub(passed))
    }

    /// Begins to write what is committed to the stores, beside the records. The last commit has settled, and nothing
    /// has changed since.
    fn start_checkpoint(&mut self) -> Result<()> {
        let Some((replay, unsynced)) = self.committer.take_unsynced() else { return Ok(()) };
        let mut tables: Vec<(usize, Checkpoint)> = Vec::new();
        for (place, table) in self.shared.tables.iter().enumerate() {
            tables.extend(table.start_checkpoint()?.map(|checkpoint| (place, checkpoint)));
        }
        let begins = self.committer.last_begins;
        let positions = self.positions.clone();
        let write = move || {
            let done =
                tables.into_iter().map(|(place, table)| Ok((place, table.run(begins)?))).collect::<Result<Vec<_>>>()?;
            positions.store(begins)?;
            Ok(done)
        };
        self.checkpointing =
            Some(self.context.helpers.spawn(checkpoint(self.context.options.disk.clone(), replay, unsynced, write)));
        self.checkpointed_at = self.context.clock.moment();
        self.uncovered = false;
        self.needless = Some(self.needless_after(begins));
        Ok(())
    }

    /// Takes note of a checkpoint that has ended meanwhile.
    async fn reap_checkpoint(&mut self) -> Result<()> {
        if self.checkpointing.as_ref().is_some_and(JoinHandle::is_finished) {
            self.finish_checkpoint().await
        } else {
            Ok(())
        }
    }

    async fn finish_checkpoint(&mut self) -> Result<()> {
        match self.checkpointing.take() {
            Some(running) => self.end_checkpoint(running.await),
            None => Ok(()),
        }
    }

    fn end_checkpoint(&mut self, ended: Result<Checkpointed, tokio::task::JoinError>) -> Result<()> {
        let done = ended.map_err(|error| {
            Error::new(ErrorKind::Closed, "the checkpoint was ended with its runtime").with_source(error)
        })??;
        for (place, done) in done {
            self.shared.tables[place].finish_checkpoint(done);
        }
        self.clean();
        Ok(())
    }

    /// What no recovery needs once the stores cover the commits before `begins`.
    fn needless_after(&self, begins: u64) -> Needless {
        let partition = self.shared.partition;
        let sources = self.shared.sources.iter().zip(&self.shared.positions);
        let repartitions = sources.filter(|(source, _)| self.plan.repartitions.contains(&source.topic));
        Needless {
            changelog: TopicPartition::new(self.plan.changelog.clone(), partition),
            begins,
            repartitions: repartitions
                .map(|(source, at)| (TopicPartition::new(source.topic.clone(), partition), at.get()))
                .collect(),
        }
    }

    /// Lets go what a checkpoint that has ended made needless, if it is time.
    fn clean(&mut self) {
        let now = self.context.clock.moment();
        let due = now.since(self.cleaned_at) >= self.context.options.clean_interval;
        let runs = self.cleaning.as_ref().is_some_and(|cleaning| !cleaning.is_finished());
        if due
            && !runs
            && let (Some(needless), Some(replay)) = (self.needless.take(), self.context.backend.replay())
        {
            self.cleaned_at = now;
            self.cleaning = Some(self.context.helpers.spawn(needless.clean(replay)));
        }
    }

    /// Commits, waits until everything is durable, and writes a last checkpoint so that the next start is quick.
    pub(super) async fn shut_down(&mut self) -> Result<()> {
        if self.is_dirty() {
            self.commit().await?;
        }
        self.committer.settled().await?;
        self.finish_checkpoint().await?;
        if self.uncovered {
            self.start_checkpoint()?;
            self.finish_checkpoint().await?;
        }
        Ok(())
    }
}

fn open_tables(
    context: &Context,
    plan: &AgentPlan,
    partition: u32,
    changelog: &TopicPartition,
    now: &Rc<Cell<i64>>,
) -> Result<Vec<Rc<dyn AnyPartition>>> {
    let mut tables = Vec::new();
    for def in &plan.tables {
        let table = def.open(OpenPartition {
            dir: context.options.state_dir.as_ref().map(|dir| dir.join(def.name).join(partition.to_string())),
            disk: context.options.disk.clone(),
            memory: context.options.state_dir.is_none().then(|| context.options.memory_stores.clone()),
            partition,
            partitions: plan.partitions,
            place: changelog.clone(),
            schemas: plan.stored.clone(),
            memory_bytes: context.options.table_memory_bytes,
            store_bytes: context.options.store_memory_bytes,
            now: now.clone(),
        })?;
        table.enable_undo(needs_undo(plan));
        tables.push(table);
    }
    Ok(tables)
}

/// Whether tables must be able to go back to before a failed record. An aggregation's failed fold leaves no trace.
fn needs_undo(plan: &AgentPlan) -> bool {
    plan.def.on_error != OnError::Fail && plan.def.shape != Shape::Aggregate
}

fn share(
    context: &Context,
    plan: &AgentPlan,
    partition: u32,
    tables: Vec<Rc<dyn AnyPartition>>,
    now: Rc<Cell<i64>>,
) -> Shared {
    Shared {
        agent: plan.def,
        partition,
        sources: plan
            .sources
            .iter()
            .map(|(topic, schemas)| Source { topic: topic.clone(), schemas: schemas.clone() })
            .collect(),
        positions: plan.sources.iter().map(|_| Cell::new(0)).collect(),
        mail: RefCell::new(Some(Mail::default())),
        waits: Cell::new(false),
        commit_due: Cell::new(false),
        committed_at: Cell::new(context.clock.moment()),
        commit_interval: context.options.commit_interval,
        clock: context.clock.clone(),
        finished: Cell::new(0),
        dropped: Cell::new(0),
        now,
        stream_time: Cell::new(i64::MIN),
        outbox: RefCell::new(Outbox::new(
            plan.destinations.clone(),
            partition,
            OutboxLimits {
                record_bytes: context.backend.capabilities().max_record_bytes,
                bytes: context.options.output_memory_bytes,
            },
        )),
        output: plan.output,
        warms: plan.keyed && !tables.is_empty() && plan.def.shape != Shape::Aggregate,
        failure: RefCell::new(None),
        undo: needs_undo(plan),
        tables,
        outbox_mark: Cell::new(None),
        keeps_key: Cell::new(false),
        key: RefCell::new(None),
        waker: RefCell::new(None),
        commits_any_time: Cell::new(false),
        dead_letters: plan.dead_letters,
    }
}

/// The changelog position that all stores of the task cover.
fn stored_position(tables: &[Rc<dyn AnyPartition>], positions: &PositionFile) -> Result<Option<u64>> {
    if tables.is_empty() {
        return positions.load();
    }
    let mut least = Some(u64::MAX);
    for table in tables {
        // A table without a position is rebuilt from the start, and the others with it.
        least = match (least, table.store_position()?) {
            (Some(least), Some(position)) => Some(least.min(position)),
            _ => None,
        };
    }
    Ok(least)
}

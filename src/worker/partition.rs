//! The path of a record: one agent on one partition, from batch to commit.
//!
//! [`TaskRun::run`] reads top to bottom: recover, then turn by turn let the agent take records until it pauses between
//! two of them, and commit or refill while it stands there.

use std::any::Any;
use std::cell::Cell;
use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Poll, Waker};
use std::time::Duration;

use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::watch;

use super::checkpoints::Checkpoints;
use super::cleaning::Needless;
use super::commit::{Progress, any_dirty};
use super::commits::Commits;
use super::failure::Verdict;
use super::position_file::PositionFile;
use super::recovery::Recovered;
use super::setup::{ask, ask_for_readers, open_tables, recovered_journal, share, stored_position};
use super::takeover::{Taken, take_over};
use super::wakes::Wakes;
use crate::agent::{AgentFuture, Mail, Pulse, Shape, Shared, Task, panicked};
use crate::backend::{Backend, Membership, Need, Reader, Replay};
use crate::clock::Clock;
use crate::error::{BoxError, Error, ErrorKind, Result};
use crate::plan::AgentPlan;
use crate::record::Cursor;
use crate::table::AtHand;
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
    /// What transactions prove the worker's membership by.
    pub(crate) membership: Option<Membership>,
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
    /// What its agent does.
    pub(crate) pulse: Arc<Pulse>,
    /// Commits that were begun, over all openings of the task.
    pub(crate) commits: Arc<AtomicU64>,
    /// What the last checkpoint that ended has made needless and is still there.
    pub(super) needless: Arc<Mutex<Option<Needless>>>,
}

impl Signals {
    pub(crate) fn new(
        stop: watch::Receiver<bool>,
        idle: Arc<AtomicBool>,
        finished: Arc<AtomicU64>,
        pulse: Arc<Pulse>,
    ) -> Self {
        Self { stop, idle, finished, pulse, commits: Arc::default(), needless: Arc::default() }
    }

    /// Lets go what may go now, nobody else then; `None` where there is nothing.
    pub(super) fn let_go(&self, backend: &dyn Backend) -> Option<impl Future<Output = ()> + Send + use<>> {
        let replay = backend.replay()?;
        let needless = self.needless.lock().unwrap_or_else(PoisonError::into_inner).take()?;
        Some(needless.clean(replay))
    }
}

/// What the agent's turn came to.
enum Turn {
    /// It stands between two records and waits for the worker.
    Pause,
    /// A commit is due, and this agent can be committed at any time.
    Due,
    /// There is more to read for an agent that works on some records and has room for others, or it cannot be known.
    More(Result<()>),
    /// It returned.
    Ended(Result<(), BoxError>),
    /// It panicked.
    Panicked(Box<dyn Any + Send>),
}

/// How soon to ask again whether the commit before has settled.
const ASK_AGAIN: Duration = Duration::from_millis(1);

/// One task at work.
pub(crate) struct TaskRun {
    pub(super) context: Context,
    pub(super) signals: Signals,
    pub(super) plan: Arc<AgentPlan>,
    pub(super) shared: Rc<Shared>,
    readers: Vec<Box<dyn Reader>>,
    next_reader: usize,
    pub(super) commits: Commits,
    /// A position has passed over offsets without records since the last commit, or the group has forgotten one.
    skipped: bool,
    /// It is not known whether there is more to read.
    behind: bool,
    pub(super) positions: PositionFile,
    pub(super) checkpoints: Checkpoints,
    committed: u64,
    /// Attempts at the record that failed last: its source and offset, and how many.
    pub(super) attempts: (Option<(usize, u64)>, u32),
    recovered: Recovered,
    /// For each table, the keys that its store had been asked for when a batch was last looked up ahead.
    loads: Vec<Cell<u64>>,
    /// What wakes the agent, and the waker that it is polled with.
    wakes: Arc<Wakes>,
    waker: Waker,
}

fn ids_of(replay: &dyn Replay, topics: &[Arc<str>]) -> Result<Vec<Option<Arc<str>>>> {
    topics.iter().map(|topic| replay.topic_id(topic)).collect()
}

impl TaskRun {
    /// Opens the state of agent and partition and recovers it. `None` when it was told to stop before that was done.
    pub(crate) async fn open(
        context: Context,
        signals: Signals,
        plan: Arc<AgentPlan>,
        partition: u32,
    ) -> Result<Option<Self>> {
        let changelog = TopicPartition::new(plan.changelog.clone(), partition);
        let replay = context.backend.replay().ok_or_else(|| {
            Error::new(
                ErrorKind::Unsupported,
                "this backend cannot be read again by position, so no state can be kept on it",
            )
        })?;
        let at_hand = Rc::new(AtHand::default());
        let transactions = context.backend.transactions();
        let topics: Vec<Arc<str>> = plan.sources.iter().map(|(topic, _)| topic.clone()).collect();
        let place = changelog.clone();
        let (changelog_id, ids) = match &transactions {
            // Brokers may be away.
            Some(_) => {
                let question =
                    move |replay: &dyn Replay| Ok((replay.topic_id(&place.topic)?, ids_of(replay, &topics)?));
                ask(&context, &replay, question).await?
            }
            // Here positions are in the changelog, too: where that is another one the stores say so, and all begins anew.
            None => (None, ids_of(&*replay, &topics)?),
        };
        let tables = open_tables(&context, &plan, &changelog, changelog_id.as_ref(), &at_hand).await?;
        let shared = Rc::new(share(&context, signals.pulse.clone(), &plan, partition, tables, at_hand, &ids));
        let state_dir = context.options.state_dir.as_ref().map(|dir| dir.join(plan.def.name));
        let positions =
            PositionFile::new(context.options.disk.clone(), state_dir, partition).of_changelog(changelog_id);

        let (commits, recovered, readers, forgotten) = match transactions {
            Some(transactions) => {
                let stored = stored_position(&shared.tables, &positions)?;
                let (replay, stop) = (replay.clone(), signals.stop.clone());
                let taken = take_over(&context, &plan, &shared, &*transactions, replay.clone(), stored, stop).await?;
                let Some(Taken { transactor, recovered, forgotten }) = taken else { return Ok(None) };
                let readers = ask_for_readers(&context, &shared, &replay).await?;
                (Commits::Transaction(Box::new(transactor)), recovered, readers, forgotten)
            }
            None => {
                let stop = &signals.stop;
                let recovered = recovered_journal(&context, &plan, &shared, &replay, &positions, stop).await?;
                let Some((commits, recovered, readers)) = recovered else { return Ok(None) };
                (Commits::Journal(Box::new(commits)), recovered, readers, false)
            }
        };
        let now = context.clock.moment();
        shared.commit_after(shared.commit_interval);
        let wakes = Arc::new(Wakes::default());
        Ok(Some(Self {
            waker: Waker::from(wakes.clone()),
            wakes,
            loads: shared.tables.iter().map(|_| Cell::new(0)).collect(),
            checkpoints: Checkpoints::new(now, &commits, recovered),
            context,
            signals,
            plan,
            shared,
            readers,
            next_reader: 0,
            commits,
            skipped: forgotten,
            behind: false,
            positions,
            committed: 0,
            attempts: (None, 0),
            recovered,
        }))
    }

    /// What the recovery did.
    pub(crate) fn recovered(&self) -> Recovered {
        self.recovered
    }

    /// Processes records until told to stop, or until a record fails for good. Dropping it leaves everything since
    /// the last commit to be processed again.
    pub(crate) async fn run(mut self) -> Result<()> {
        let result = self.turns().await;
        if self.commits.is_transaction() {
            // Where the partition comes back, here or as another task, its stores must be closed by then.
            let _ = self.finish_checkpoint().await;
        }
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
                Turn::More(result) => {
                    result?;
                    self.refill()?;
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
        let shared = &*self.shared;
        let (clock, committed, readers, idle) =
            (&self.context.clock, self.committed, &mut self.readers, &self.signals.idle);
        let (wakes, waker) = (&self.wakes, &self.waker);
        let due = async {
            loop {
                clock.sleep(shared.commit_interval).await;
                if !shared.commits_any_time.get() {
                    shared.commit_due.set(true);
                } else if shared.finished.get() > committed {
                    return Turn::Due;
                }
            }
        };
        let more = async {
            if !shared.starved.get() {
                return std::future::pending().await;
            }
            let (result, ..) = futures::future::select_all(readers.iter_mut().map(|reader| reader.ready())).await;
            shared.starved.set(false);
            Turn::More(result)
        };
        let stop = self.signals.stop.wait_for(|stop| *stop);
        let stopping = async {
            // Without an answer whoever started the task has let go of it: the agent is to pause all the same.
            let _ = stop.await;
            shared.commit_due.set(true);
            std::future::pending().await
        };
        // Looked at only while the agent waits for something of its own, so that they cost records nothing.
        let mut due = pin!(due);
        let mut more = pin!(more);
        let mut stopping = pin!(stopping);
        shared.pulse.turn(true);
        let turn = poll_fn(|cx| {
            shared.waits.set(false);
            shared.pulse.thread(true);
            let polled = wakes.poll(waker, cx, |cx| match catch_unwind(AssertUnwindSafe(|| agent.as_mut().poll(cx))) {
                Ok(polled) => polled.map(Turn::Ended),
                Err(panic) => Poll::Ready(Turn::Panicked(panic)),
            });
            shared.pulse.thread(false);
            match polled {
                Poll::Ready(turn) => return Poll::Ready(turn),
                Poll::Pending if shared.waits.get() => return Poll::Ready(Turn::Pause),
                Poll::Pending => {}
            }
            // Calls that wait before they try again are nothing to wait for.
            let resting = shared.resting.get() > 0 && shared.resting.get() == shared.calls.get();
            idle.store(resting, Ordering::SeqCst);
            if let Poll::Ready(turn) = more.as_mut().poll(cx) {
                return Poll::Ready(turn);
            }
            match stopping.as_mut().poll(cx) {
                Poll::Ready(turn) => Poll::Ready(turn),
                Poll::Pending => due.as_mut().poll(cx),
            }
        })
        .await;
        shared.pulse.turn(false);
        idle.store(false, Ordering::SeqCst);
        turn
    }

    /// The agent stands between two records: commits what is due, or gets more records. `true` when the task has ended.
    async fn pause(&mut self) -> Result<bool> {
        self.signals.finished.store(self.shared.finished.get(), Ordering::Relaxed);
        if self.signals.stop.has_changed().is_err() {
            // Whoever started the task has let go of it: nothing may be committed any more.
            return Ok(true);
        }
        let busy = self.shared.in_flight.get() > 0;
        let stopping = *self.signals.stop.borrow() && !busy;
        if stopping {
            self.shut_down().await?;
            return Ok(true);
        }
        let full = self.shared.outbox.borrow().is_full();
        if self.is_dirty() && (self.shared.interval_passed() || self.is_pressed() || full) {
            if self.commits.is_on_its_way() && !self.is_pressed() && !full {
                // The disk is behind: records go on meanwhile, and the next commit is the larger.
                self.shared.commit_after(ASK_AGAIN);
            } else {
                self.commit().await?;
            }
        }
        self.shared.commit_due.set(false);
        // An agent that paused for a commit keeps its buffer and goes on with it.
        let used_up = self.shared.mail.borrow().as_ref().is_some_and(Mail::is_used_up);
        let refilled = used_up && self.refill()?;
        self.shared.starved.set(busy && used_up && !refilled);
        if used_up && !refilled && !busy {
            if self.is_dirty() && !self.behind {
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
        self.checkpoints.running.is_none() && self.shared.tables.iter().any(|table| table.wants_commit())
    }

    fn is_dirty(&self) -> bool {
        self.shared.finished.get() > self.committed
            || self.skipped
            || !self.shared.outbox.borrow().is_empty()
            || any_dirty(&self.shared.tables)
    }

    /// Reads the next batch, from the sources in turn.
    fn refill(&mut self) -> Result<bool> {
        self.behind = false;
        let mut slot = self.shared.mail.borrow_mut();
        let Some(mail) = slot.as_mut().filter(|mail| mail.is_used_up()) else { return Ok(false) };
        for _ in 0..self.readers.len() {
            let source = self.next_reader;
            self.next_reader = (source + 1) % self.readers.len();
            // A concurrent agent may still work on records before it.
            let from = self.readers[source].position();
            match self.readers[source].read_now(&mut mail.frames)? {
                Some(true) => {
                    mail.source = source;
                    mail.begin = Cursor::at_offset(&mail.frames, from);
                    mail.next = mail.begin;
                    mail.counted.set(mail.begin);
                    self.prefetch(mail)?;
                    return Ok(true);
                }
                Some(false) => self.skipped |= self.skip_holes(source),
                None => self.behind = true,
            }
        }
        Ok(false)
    }

    /// Where nothing is left to read, and nothing is unfinished, the position passes over what no record has: others see
    /// by it that the task is done. Whether it has moved.
    fn skip_holes(&self, source: usize) -> bool {
        let (position, read) = (&self.shared.positions[source], self.readers[source].position());
        let skips = self.commits.is_transaction() && self.shared.in_flight.get() == 0 && read > position.get();
        if skips {
            position.set(read);
        }
        skips
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
        let nothing_on_its_way = !self.commits.is_settling() && self.checkpoints.running.is_none() && !self.behind;
        // What is not committed because more may come any moment is not left for longer than usual.
        let unfinished = self.behind && self.is_dirty();
        let interval = self.shared.commit_interval;
        self.signals.idle.store(nothing_on_its_way, Ordering::SeqCst);
        let checkpoint_due = self.checkpoint_due_in();
        let make_room = self.make_room_in();
        let clock = &self.context.clock;
        let stop = &mut self.signals.stop;
        let readers = &mut self.readers;
        let wakes = &self.wakes;
        let commits = &mut self.commits;
        let checkpointing = &mut self.checkpoints.running;
        let mut done = None;
        {
            let ready = futures::future::select_all(readers.iter_mut().map(|reader| reader.ready()));
            let checkpointed = async {
                match checkpointing {
                    Some(running) => running.await,
                    None => std::future::pending().await,
                }
            };
            let settled =
                async { if commits.is_settling() { commits.settled().await } else { std::future::pending().await } };
            tokio::select! {
                biased;
                _ = stop.changed() => {}
                result = settled => result?,
                result = checkpointed => done = Some(result),
                (result, ..) = ready => result?,
                () = wakes.woken() => {}
                () = clock.sleep(checkpoint_due.unwrap_or(Duration::MAX / 4)), if checkpoint_due.is_some() => {}
                () = clock.sleep(interval), if unfinished => {}
                () = clock.sleep(make_room.unwrap_or_default()), if make_room.is_some() => {}
            }
        }
        self.signals.idle.store(false, Ordering::SeqCst);
        if let Some(done) = done {
            self.checkpoints.running = None;
            self.end_checkpoint(done)?;
        }
        if self.checkpoint_due_in() == Some(Duration::ZERO) && !self.is_dirty() {
            self.commits.settled().await?;
            self.start_checkpoint()?;
        }
        if self.make_room_in() == Some(Duration::ZERO) && !self.is_dirty() {
            self.make_room().await?;
        }
        Ok(())
    }

    async fn commit(&mut self) -> Result<()> {
        let finished = self.shared.finished.get();
        self.reap_checkpoint().await?;
        let need = if self.plan.repartitions.is_empty() { Need::Commit } else { Need::Drain };
        self.context.backend.check_room(need).map_err(|error| error.at(&self.changelog()))?;
        self.commits.commit(&self.plan.table_outputs).await?;
        self.signals.commits.fetch_add(1, Ordering::Relaxed);
        self.committed = finished;
        self.skipped = false;
        self.checkpoints.uncovered = true;
        // Under pressure a checkpoint begins at once; where memory is used up, the records wait for it.
        let pressed = self.is_pressed();
        let full = self.shared.tables.iter().any(|table| table.is_full());
        if full {
            self.finish_checkpoint().await?;
        }
        if self.checkpoints.running.is_none() && (pressed || self.checkpoint_due_in() == Some(Duration::ZERO)) {
            self.commits.settled().await?;
            self.start_checkpoint()?;
        }
        if full {
            self.finish_checkpoint().await?;
        }
        self.look_for_room();
        if self.make_room_in() == Some(Duration::ZERO) {
            self.make_room().await?;
        }
        for table in &self.shared.tables {
            table.evict();
        }
        Ok(())
    }

    /// Commits, waits until everything is durable, and writes a last checkpoint so that the next start is quick.
    pub(super) async fn shut_down(&mut self) -> Result<()> {
        if self.is_dirty() {
            self.commit().await?;
        }
        self.commits.settled().await?;
        self.finish_checkpoint().await?;
        if self.checkpoints.uncovered {
            self.start_checkpoint()?;
            self.finish_checkpoint().await?;
        }
        Ok(())
    }
}

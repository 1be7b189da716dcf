//! The threads that agents run on, and how a task is begun on one, again and again where that may help.

use std::cell::Cell;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures::FutureExt;
use tokio::sync::{mpsc, watch};
use tokio::task::LocalSet;

use super::Recovered;
use super::partition::{Context, Signals, TaskRun};
use crate::agent::panicked;
use crate::clock::Moment;
use crate::error::{Error, ErrorKind, Result};
use crate::plan::AgentPlan;

/// The threads that agents run on. A partition stays on its thread, a record never moves.
#[derive(Clone)]
pub(crate) struct Pool {
    threads: Arc<Vec<mpsc::UnboundedSender<Start>>>,
}

/// A task to begin.
pub(super) struct Start {
    pub(super) context: Context,
    pub(super) signals: Signals,
    pub(super) plan: Arc<AgentPlan>,
    pub(super) partition: u32,
    /// Numbers the tasks of a member, one after another on a partition among them.
    pub(super) number: u64,
    pub(super) opened: mpsc::UnboundedSender<Told>,
}

/// What the task of that number tells its member.
pub(super) type Told = (u64, TaskEvent);

/// What a task tells its member.
pub(super) enum TaskEvent {
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

    pub(super) fn start(&self, number: usize, start: Start) -> Result<()> {
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

/// For how long brokers may not know what was there before: one that has just come back does not know all.
const NOT_FOUND: Duration = Duration::from_secs(20);

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
        let (mut wait, mut was_full) = (FIND_OUT.0, false);
        let clock = &self.context.clock;
        // Since when, and how often, it was opened anew.
        let mut troubled: Option<(Moment, u32)> = None;
        // Since when what was there before is not known, without another trouble in between.
        let mut not_found: Option<Moment> = None;
        loop {
            let started = Cell::new(None);
            let commits = self.signals.commits.load(Ordering::Relaxed);
            // The agent's own panics are its policy's; one of its types' code in a commit ends here.
            let result = match AssertUnwindSafe(self.attempt(was_full, &started)).catch_unwind().await {
                Ok(result) => result,
                Err(panic) => Err(panicked(&*panic)),
            };
            match result {
                Err(error) if is_full(&error) => {
                    was_full = true;
                    self.tell(TaskEvent::Paused(self.partition, error));
                    // Before its time: it may be what the disk is full of.
                    if let Some(letting_go) = self.signals.let_go(&*self.context.backend) {
                        letting_go.await;
                    }
                    if self.stops_within(&mut stop, LOOK_FOR_ROOM).await {
                        return Ok(());
                    }
                }
                Err(error) if self.may_pass(&error) => {
                    if stop.has_changed().is_err() {
                        return Ok(());
                    }
                    let now = clock.moment();
                    // The commit before the last counts: a task begins another when that is known. Of what fails beside
                    // commits that would say nothing.
                    let got_on = error.kind() == ErrorKind::Unsettled
                        && self.signals.commits.load(Ordering::Relaxed) - commits > 1;
                    if got_on || started.get().is_some_and(|started| now.since(started) > STEADY) {
                        (troubled, wait) = (None, FIND_OUT.0);
                    }
                    let (since, times) = troubled.map_or((now, 1), |(since, times)| (since, times + 1));
                    troubled = Some((since, times));
                    not_found = (error.kind() == ErrorKind::NotFound).then(|| not_found.unwrap_or(now));
                    if now.since(since) > self.context.options.give_up_after
                        || not_found.is_some_and(|since| now.since(since) > NOT_FOUND)
                    {
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

    /// Whether opening the task anew finds out what counts, or helps as soon as the brokers answer again: they are elsewhere,
    /// and may be away for a while.
    fn may_pass(&self, error: &Error) -> bool {
        let elsewhere = self.context.backend.capabilities().transactions;
        error.kind() == ErrorKind::Unsettled
            || (elsewhere && [ErrorKind::Io, ErrorKind::NotFound].contains(&error.kind()))
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

    async fn attempt(&self, was_full: bool, started: &Cell<Option<Moment>>) -> Result<()> {
        let opened = TaskRun::open(self.context.clone(), self.signals.clone(), self.plan.clone(), self.partition);
        let Some(mut task) = opened.await? else { return Ok(()) };
        if was_full {
            // What it was full of may be what this task has not let go.
            task.make_room().await?;
        }
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

//! When a task's tables are written to their stores, and what that makes needless.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use tokio::task::{JoinError, JoinHandle};

use super::cleaning::Needless;
use super::commit::checkpoint;
use super::commits::Commits;
use super::partition::{Context, TaskRun};
use super::recovery::Recovered;
use crate::agent::Shared;
use crate::backend::{Need, Replay};
use crate::clock::Moment;
use crate::error::{Error, ErrorKind, Result};
use crate::table::{Checkpoint, CheckpointDone};
use crate::topic::TopicPartition;

/// What a checkpoint came to: the tables that were written, by their place among the agent's.
type Checkpointed = Result<Vec<(usize, CheckpointDone)>>;

/// The checkpoints of a task.
pub(super) struct Checkpoints {
    pub(super) running: Option<JoinHandle<Checkpointed>>,
    begun_at: Moment,
    /// The changelog position of the last that was begun.
    covers: u64,
    /// Commits that no checkpoint covers yet.
    pub(super) uncovered: bool,
    /// What the checkpoint that was begun last makes needless.
    needless: Option<Needless>,
    /// Lets it go, beside the records.
    cleaning: Option<JoinHandle<()>>,
    cleaned_at: Moment,
    /// Publishers are held up, because little of the disk is free.
    short: bool,
    made_room_at: Moment,
}

/// How soon after it has made room a task tries to make more.
const MAKE_ROOM_EVERY: Duration = Duration::from_secs(1);

impl Checkpoints {
    /// After a recovery, which may have replayed much.
    pub(super) fn new(now: Moment, commits: &Commits, recovered: Recovered) -> Self {
        Self {
            running: None,
            begun_at: now,
            covers: commits.covers().saturating_sub(recovered.replayed),
            uncovered: recovered.commits > 0,
            needless: None,
            cleaning: None,
            cleaned_at: now,
            short: false,
            made_room_at: now,
        }
    }
}

/// Writes what a recovery has applied so far to the stores, so that memory has room for the rest. What is in it is part of
/// commits whose outputs are in `unsynced`; `position` is what the stores cover then.
pub(super) async fn cover(
    context: &Context,
    shared: &Shared,
    replay: &Arc<dyn Replay>,
    unsynced: Vec<TopicPartition>,
    position: Option<u64>,
) -> Result<()> {
    let mut tables = Vec::new();
    for (place, table) in shared.tables.iter().enumerate() {
        tables.extend(table.start_checkpoint()?.map(|checkpoint| (place, checkpoint)));
    }
    let write =
        move || tables.into_iter().map(|(place, table)| Ok((place, table.run(position)?))).collect::<Result<Vec<_>>>();
    let disk = context.options.disk.clone();
    let written = context.helpers.spawn(checkpoint(disk, replay.clone(), unsynced, write)).await;
    for (place, done) in written.map_err(ended_early)?? {
        shared.tables[place].finish_checkpoint(done);
        shared.tables[place].evict();
    }
    Ok(())
}

fn ended_early(error: JoinError) -> Error {
    Error::new(ErrorKind::Closed, "the checkpoint was ended with its runtime").with_source(error)
}

impl TaskRun {
    /// Time until the next checkpoint is due; `None` when there is nothing for it to cover or one is running.
    pub(super) fn checkpoint_due_in(&self) -> Option<Duration> {
        if !self.checkpoints.uncovered || self.checkpoints.running.is_some() {
            return None;
        }
        if self.commits.covers().saturating_sub(self.checkpoints.covers) >= self.context.options.checkpoint_records {
            return Some(Duration::ZERO);
        }
        let passed = self.context.clock.moment().since(self.checkpoints.begun_at);
        Some(self.context.options.checkpoint_interval.saturating_sub(passed))
    }

    /// Begins to write what is committed to the stores, beside the records. The last commit has settled, and nothing
    /// has changed since.
    pub(super) fn start_checkpoint(&mut self) -> Result<()> {
        let Some((replay, unsynced)) = self.commits.take_unsynced() else { return Ok(()) };
        let mut tables: Vec<(usize, Checkpoint)> = Vec::new();
        for (place, table) in self.shared.tables.iter().enumerate() {
            tables.extend(table.start_checkpoint()?.map(|checkpoint| (place, checkpoint)));
        }
        let begins = self.commits.covers();
        let positions = self.positions.clone();
        let write = move || {
            let done =
                tables.into_iter().map(|(place, table)| Ok((place, table.run(begins)?))).collect::<Result<Vec<_>>>()?;
            positions.store(begins)?;
            Ok(done)
        };
        self.checkpoints.running =
            Some(self.context.helpers.spawn(checkpoint(self.context.options.disk.clone(), replay, unsynced, write)));
        self.checkpoints.covers = begins;
        self.checkpoints.begun_at = self.context.clock.moment();
        self.checkpoints.uncovered = false;
        self.checkpoints.needless = Some(self.needless_after(begins));
        Ok(())
    }

    /// Takes note of a checkpoint that has ended meanwhile.
    pub(super) async fn reap_checkpoint(&mut self) -> Result<()> {
        if self.checkpoints.running.as_ref().is_some_and(JoinHandle::is_finished) {
            self.finish_checkpoint().await
        } else {
            Ok(())
        }
    }

    pub(super) async fn finish_checkpoint(&mut self) -> Result<()> {
        match self.checkpoints.running.take() {
            Some(running) => self.end_checkpoint(running.await),
            None => Ok(()),
        }
    }

    pub(super) fn end_checkpoint(&mut self, ended: Result<Checkpointed, JoinError>) -> Result<()> {
        for (place, done) in ended.map_err(ended_early)?? {
            self.shared.tables[place].finish_checkpoint(done);
        }
        if let Some(needless) = self.checkpoints.needless.take() {
            *self.signals.needless.lock().unwrap_or_else(PoisonError::into_inner) = Some(needless);
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
            changelog: self.changelog(),
            begins,
            repartitions: repartitions
                .map(|(source, at)| (TopicPartition::new(source.topic.clone(), partition), at.get()))
                .collect(),
        }
    }

    pub(super) fn changelog(&self) -> TopicPartition {
        TopicPartition::new(self.plan.changelog.clone(), self.shared.partition)
    }

    /// Looks whether publishers are held up. After a commit, not with the look before it: a task that has committed has the
    /// more to let go, and where this commit has taken the room, none may come after it that would see so.
    pub(super) fn look_for_room(&mut self) {
        self.checkpoints.short = self.context.backend.check_room(Need::Publish).is_err();
    }

    /// Time until the task is to make room; `None` while there is enough.
    pub(super) fn make_room_in(&self) -> Option<Duration> {
        self.checkpoints.short.then(|| {
            let passed = self.context.clock.moment().since(self.checkpoints.made_room_at);
            MAKE_ROOM_EVERY.saturating_sub(passed)
        })
    }

    /// Writes what is committed to the stores and lets go what is needless then. Nothing has changed since the last commit.
    pub(super) async fn make_room(&mut self) -> Result<()> {
        self.checkpoints.short = false;
        self.commits.settled().await?;
        self.finish_checkpoint().await?;
        if self.checkpoints.uncovered {
            self.start_checkpoint()?;
            self.finish_checkpoint().await?;
        }
        if let Some(letting_go) = self.signals.let_go(&*self.context.backend) {
            letting_go.await;
        }
        self.checkpoints.made_room_at = self.context.clock.moment();
        Ok(())
    }

    /// Lets go what a checkpoint that has ended made needless, if it is time.
    fn clean(&mut self) {
        let now = self.context.clock.moment();
        let due = now.since(self.checkpoints.cleaned_at) >= self.context.options.clean_interval;
        let runs = self.checkpoints.cleaning.as_ref().is_some_and(|cleaning| !cleaning.is_finished());
        if due
            && !runs
            && let Some(letting_go) = self.signals.let_go(&*self.context.backend)
        {
            self.checkpoints.cleaned_at = now;
            self.checkpoints.cleaning = Some(self.context.helpers.spawn(letting_go));
        }
    }
}

//! The commit by transaction, where the backend has them: state, outputs and positions count together, whole or not at all,
//! for every reader of what is committed.
//!
//! [`Transactor::commit`] and [`Runner::run`] are the only places where it happens. Who was the owner before is shut out
//! when the task opens its transactions, before it reads where to go on: this keeps two owners apart.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::task::JoinHandle;

use super::commit::{Sink, not_settled};
use super::mark::{Left, MARK_TAG, Mark};
use super::outgoing::Outgoing;
use crate::agent::Shared;
use crate::backend::{Membership, Replay, Transaction};
use crate::clock::Clock;
use crate::error::{Error, ErrorKind, Result};
use crate::record::FrameBuilder;
use crate::topic::TopicPartition;

/// How often a commit is tried while the group changes, and how long it waits in between.
const ATTEMPTS: u32 = 100;
const BETWEEN: Duration = Duration::from_millis(100);

/// The task's side of its transactions.
pub(crate) struct Transactor {
    shared: Rc<Shared>,
    replay: Arc<dyn Replay>,
    commit: u64,
    /// Offset of the mark of the last commit that counts: all its states stand before it.
    last_mark: u64,
    /// Topics that are read no more.
    left: Left,
    helpers: Handle,
    runner: Option<Runner>,
    running: Option<JoinHandle<(Runner, Collected, Result<u64>)>>,
}

/// What runs a transaction, beside the next interval.
pub(super) struct Runner {
    pub(super) transaction: Box<dyn Transaction>,
    pub(super) membership: Membership,
    pub(super) changelog: TopicPartition,
    pub(super) clock: Clock,
    /// Where the outputs of a commit come together.
    outgoing: Outgoing,
}

/// What a commit consists of.
struct Collected {
    /// For the changelog: the dirty keys' new values, and the mark.
    states: Vec<FrameBuilder>,
    outputs: Vec<(TopicPartition, FrameBuilder)>,
    positions: Vec<(TopicPartition, u64)>,
    /// The number of the commit.
    number: u64,
}

/// What a takeover found out.
#[derive(Clone, Debug, Default)]
pub(super) struct Found {
    pub(super) commit: u64,
    pub(super) last_mark: u64,
    pub(super) left: Left,
}

impl Transactor {
    pub(super) fn new(
        shared: Rc<Shared>,
        replay: Arc<dyn Replay>,
        runner: Runner,
        found: Found,
        helpers: Handle,
    ) -> Self {
        let Found { commit, last_mark, left } = found;
        Self { shared, replay, commit, last_mark, left, helpers, runner: Some(runner), running: None }
    }

    /// Commits what the agent has finished. It must stand between two records.
    ///
    /// Returns when the transaction is on its way; [`Transactor::settled`] waits until it has ended well. Not cancel-safe,
    /// as [`Committer::commit`](super::commit::Committer::commit).
    pub(super) async fn commit(&mut self, table_outputs: &[Option<usize>]) -> Result<()> {
        // 1. The commit before has ended well, so that there is never more than one on its way.
        //    A crash here: this commit's records are read again.
        self.settled().await?;

        // 2. Everything since becomes records: outputs, the dirty keys' new values, and the mark.
        //    A crash here: as before, nothing has left memory.
        let positions = self.positions();
        let Some(mut runner) = self.runner.take() else { return Err(not_settled()) };
        let collected = self.collect(&mut runner.outgoing, positions, table_outputs)?;
        self.shared.commit_after(self.shared.commit_interval);

        // Steps 3 to 5 go on beside the next interval.
        self.running = Some(self.helpers.spawn(runner.run(collected)));
        Ok(())
    }

    /// The changelog's records, and what is put out, by the partition that it goes to.
    fn collect(
        &mut self,
        outgoing: &mut Outgoing,
        positions: Vec<(TopicPartition, u64)>,
        table_outputs: &[Option<usize>],
    ) -> Result<Collected> {
        // What is taken out cannot be gone back to.
        self.shared.outbox_mark.set(None);
        {
            let outbox = &mut *self.shared.outbox.borrow_mut();
            for piece in outbox.take_all() {
                outgoing.set_aside(&piece)?;
                outbox.recycle(piece);
            }
        }
        let mut states = Vec::new();
        for place in 0..self.shared.tables.len() {
            let output = table_outputs.get(place).copied().flatten();
            loop {
                let outbox = &mut *self.shared.outbox.borrow_mut();
                let mut sink = Sink { outbox, outgoing, table: place as u8, output };
                let done = self.shared.tables[place].drain_commit(&mut sink)?;
                states.extend(outbox.take_full());
                if done {
                    break;
                }
            }
        }
        self.collect_mark(&positions)?;
        let outbox = &mut *self.shared.outbox.borrow_mut();
        let mut outputs = Vec::new();
        for (number, topic, partition, _) in outbox.counts() {
            let place = TopicPartition::new(topic.clone(), partition);
            outputs.extend(outgoing.take(number, true).into_iter().map(|piece| (place.clone(), piece)));
        }
        states.extend(outbox.drain());
        Ok(Collected { states, outputs, positions, number: self.commit })
    }

    /// For each source the offset to be read next.
    fn positions(&self) -> Vec<(TopicPartition, u64)> {
        let Shared { sources, positions, partition, .. } = &*self.shared;
        let place = |topic: &Arc<str>| TopicPartition::new(topic.clone(), *partition);
        sources.iter().zip(positions).map(|(source, at)| (place(&source.topic), at.get())).collect()
    }

    /// Adds the mark. What counts needs none; it keeps what the group's positions do not.
    fn collect_mark(&mut self, positions: &[(TopicPartition, u64)]) -> Result<()> {
        let shared = &self.shared;
        self.commit += 1;
        let mark = Mark {
            commit: self.commit,
            begins: 0,
            positions: positions.iter().map(|(place, at)| (place.topic.to_string(), *at)).collect(),
            left: self.left.positions.clone(),
            stream_time: shared.stream_time.get(),
            tables: shared.agent.tables.iter().map(|table| table().name.to_owned()).collect(),
            layouts: shared.agent.tables.iter().map(|table| table().fixed_layout()).collect(),
            derived: Vec::new(),
            outputs: Vec::new(),
            ids: self.left.ids_with(shared.source_ids()),
        };
        let json = serde_json::to_vec(&mark)
            .map_err(|error| Error::new(ErrorKind::Encode, "cannot write the end of a commit").with_source(error))?;
        shared.outbox.borrow_mut().push_entry(&[MARK_TAG], &[], Some(&json), shared.clock.now_ms());
        Ok(())
    }

    /// Waits until the transaction that is on its way has ended well. Cancel-safe.
    pub(super) async fn settled(&mut self) -> Result<()> {
        if let Some(running) = &mut self.running {
            let ended = running.await;
            self.running = None;
            let (mut runner, collected, result) = ended.map_err(|error| {
                Error::new(ErrorKind::Closed, "the commit was ended with its runtime").with_source(error)
            })?;
            self.last_mark = result?;
            let outbox = &mut *self.shared.outbox.borrow_mut();
            collected.states.into_iter().for_each(|piece| outbox.recycle(piece));
            collected.outputs.into_iter().for_each(|(_, piece)| runner.outgoing.recycle(piece));
            runner.outgoing.clear();
            self.runner = Some(runner);
        }
        Ok(())
    }

    /// Whether a transaction is on its way.
    pub(super) fn is_settling(&self) -> bool {
        self.running.is_some()
    }

    /// Whether a transaction is on its way and has not ended by now.
    pub(super) fn is_on_its_way(&self) -> bool {
        self.running.as_ref().is_some_and(|running| !running.is_finished())
    }

    /// What a checkpoint needs; `None` while a transaction is on its way.
    pub(super) fn replay(&self) -> Option<Arc<dyn Replay>> {
        self.runner.as_ref().map(|_| self.replay.clone())
    }

    /// The changelog position that a checkpoint covers.
    pub(super) fn last_mark(&self) -> u64 {
        self.last_mark
    }
}

impl Drop for Transactor {
    fn drop(&mut self) {
        // Whoever opens the task anew shuts the transaction out, and finds out what became of it.
        if let Some(running) = &self.running {
            running.abort();
        }
    }
}

impl Runner {
    pub(super) fn new(
        transaction: Box<dyn Transaction>,
        membership: Membership,
        changelog: TopicPartition,
        clock: Clock,
    ) -> Self {
        Self { transaction, membership, changelog, clock, outgoing: Outgoing::of_all() }
    }

    async fn run(mut self, mut collected: Collected) -> (Self, Collected, Result<u64>) {
        let mut attempt = 1;
        let result = loop {
            match self.steps(&mut collected).await {
                // The group was between two generations; the partition is this task's all the same, or the task is told.
                Err(error) if error.kind() == ErrorKind::Conflict && attempt < ATTEMPTS => {
                    attempt += 1;
                    self.clock.sleep(BETWEEN).await;
                }
                Err(error) if error.kind() == ErrorKind::Conflict => {
                    let message = "the group does not take the positions of a commit";
                    break Err(Error::new(ErrorKind::Unsettled, message).with_source(error));
                }
                result => break result,
            }
        };
        let result = result.map_err(|error| error.at(&self.changelog));
        (self, collected, result)
    }

    async fn steps(&mut self, collected: &mut Collected) -> Result<u64> {
        // 3. The transaction begins, and everything is sent.
        //    A crash here: the brokers give the transaction up when the next owner opens its own, or when its time is up.
        self.transaction.begin().await?;
        for (place, piece) in &mut collected.outputs {
            self.transaction.append(place, piece).await?;
        }
        // The mark says how far the topics were processed, for where the group does not: nobody may go on from there while
        // what was put out is missing.
        self.transaction.put_behind().await?;
        for piece in &mut collected.states {
            self.transaction.append(&self.changelog, piece).await?;
        }

        // 4. The positions join it.
        // 5. It is committed: from here on all of it counts, for the group, for those who read the outputs, and for recovery.
        //    A crash in between: it counts or it does not, and the next owner finds out which by the group's positions.
        let last = self.transaction.commit(&self.membership, &collected.positions, collected.number).await?;
        let mark = last.iter().find(|(place, _)| *place == self.changelog).map(|(_, offset)| *offset);
        mark.ok_or_else(|| {
            Error::new(ErrorKind::Unsettled, "the brokers do not say where a commit stands").at(&self.changelog)
        })
    }
}

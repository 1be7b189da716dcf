//! The one commit: state, outputs and source positions become one atomic end mark in the task's changelog.
//!
//! [`Committer::commit`] and [`Settler::settle`] are the only places where it happens. The steps are numbered; for each
//! the code says what a crash right after it leaves behind. `kill -9` keeps what was written, a loss of power keeps
//! what was synced; the order of the steps is right for both.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

use tokio::runtime::Handle;
use tokio::sync::mpsc::UnboundedSender;
use tokio::task::JoinHandle;

use super::mark::{DELTA_TAG, MARK_TAG, Mark, MarkedOutputs};
use super::outgoing::Outgoing;
use crate::agent::{Outbox, Shared};
use crate::backend::{Producer, ProducerId, Replay};
use crate::disk::Disk;
use crate::error::{Error, ErrorKind, Result};
use crate::fault;
use crate::record::{FrameBuilder, Frames};
use crate::table::{AnyPartition, CommitSink};
use crate::topic::TopicPartition;

/// Positions for people: where a task has come to in a partition.
pub(crate) type Progress = (TopicPartition, u64);

/// The task's side of its commits.
pub(crate) struct Committer {
    shared: Rc<Shared>,
    changelog: TopicPartition,
    producer: Box<dyn Producer>,
    /// Offset that the next changelog record gets: nobody else writes there.
    next_offset: u64,
    commit: u64,
    /// Sequence of the next output, by number of the output partition.
    sequences: Vec<u64>,
    /// Offset at which the last commit begins.
    pub(super) last_begins: u64,
    /// Positions in topics that are read no more.
    left: BTreeMap<String, u64>,
    helpers: Handle,
    settler: Option<Settler>,
    settling: Option<JoinHandle<(Settler, Result<()>)>>,
}

/// The steps after the write, which go on beside the next interval.
pub(crate) struct Settler {
    pub(super) replay: Arc<dyn Replay>,
    pub(super) changelog: TopicPartition,
    pub(super) producer: Box<dyn Producer>,
    pub(super) producer_id: ProducerId,
    pub(super) progress: UnboundedSender<Progress>,
    pub(super) partition: u32,
    /// The topics that the task reads.
    pub(super) sources: Vec<Arc<str>>,
    /// Whether a commit waits until it survives a loss of power.
    pub(super) durable: bool,
    /// Output partitions with something in them that no checkpoint has synced yet.
    pub(super) unsynced: Vec<TopicPartition>,
    pub(super) frames: Frames,
    /// The outputs of the commit that is on its way.
    pub(super) outgoing: Outgoing,
}

/// Where a table's deltas and outputs go while a commit collects them.
pub(super) struct Sink<'a> {
    pub(super) outbox: &'a mut Outbox,
    pub(super) table: u8,
    pub(super) output: Option<usize>,
}

impl CommitSink for Sink<'_> {
    #[inline]
    fn delta(&mut self, key: &[u8], state: Option<&[u8]>) -> Result<()> {
        self.outbox.push_entry(&[DELTA_TAG, self.table], key, state, 0);
        Ok(())
    }

    #[inline]
    fn output(&mut self, key: &[u8], value: Option<&[u8]>, timestamp: i64) -> Result<()> {
        if let Some(destination) = self.output {
            self.outbox.push(destination, Some(key), value, timestamp, &[]);
        }
        Ok(())
    }

    #[inline]
    fn is_full(&self) -> bool {
        self.outbox.has_full()
    }
}

/// What recovery found at the end of a changelog.
#[derive(Clone, Debug, Default)]
pub(crate) struct Resume {
    pub(crate) next_offset: u64,
    pub(crate) commit: u64,
    pub(crate) last_begins: u64,
    /// Positions in topics that are read no more.
    pub(crate) left: BTreeMap<String, u64>,
}

impl Committer {
    pub(crate) fn new(
        shared: Rc<Shared>,
        producer: Box<dyn Producer>,
        settler: Settler,
        sequences: Vec<u64>,
        resume: Resume,
        helpers: Handle,
    ) -> Self {
        Self {
            shared,
            changelog: settler.changelog.clone(),
            producer,
            next_offset: resume.next_offset,
            commit: resume.commit,
            last_begins: resume.last_begins,
            left: resume.left,
            sequences,
            helpers,
            settler: Some(settler),
            settling: None,
        }
    }

    /// Commits what the agent has finished. It must stand between two records.
    ///
    /// Returns when the commit is written; [`Committer::settled`] waits until it has settled. Not cancel-safe: a task
    /// whose commit was dropped or failed is dropped with it, and recovers.
    ///
    /// `table_outputs` says for each table where it puts its values out.
    pub(crate) async fn commit(&mut self, table_outputs: &[Option<usize>]) -> Result<()> {
        // 1. The commit before has settled, so that there is never more than one on its way.
        //    A crash here: this commit's records are read again.
        self.settled().await?;

        // 2. The sources are durable up to the positions of this commit.
        //    Before anything is written: what was not synced may still reach the disk, in whatever order. A loss of power
        //    could otherwise leave this commit and take records that it calls done, and others would get their offsets.
        //    A crash here: as before.
        let positions = self.positions();
        if let Some(settler) = self.settler.as_mut().filter(|settler| settler.durable) {
            settler.sync_sources(&positions).await?;
        }

        // 3. Everything since becomes changelog records, a piece at a time: outputs and the dirty keys' new values.
        //    A crash here: as before, nothing has left memory.
        // 4. Each piece is appended when it is full, and at last the end mark.
        //    A crash between two pieces: no end mark, so recovery passes over what was written.
        //    A crash after the last: the commit counts if the frames are still there, and is whole.
        //    Each must go where this task left off: if another owner has written since, nothing of this one may count.
        let begins = self.next_offset;
        for place in 0..self.shared.tables.len() {
            let output = table_outputs.get(place).copied().flatten();
            while !self.collect(place, output)? {
                let pieces = self.shared.outbox.borrow_mut().take_full();
                self.append(pieces, begins).await?;
            }
        }
        let mark = self.collect_mark(begins, positions)?;
        // What is taken out cannot be gone back to.
        self.shared.outbox_mark.set(None);
        let pieces = self.shared.outbox.borrow_mut().drain();
        self.append(pieces, begins).await?;
        fault::point("commit.written");
        self.last_begins = begins;
        self.shared.commit_after(self.shared.commit_interval);

        // Steps 5 to 7 go on beside the next interval.
        if let Some(settler) = self.settler.take() {
            let end = self.next_offset;
            self.settling = Some(self.helpers.spawn(settler.settle(mark, end)));
        }
        Ok(())
    }

    /// For each source the offset to be read next.
    fn positions(&self) -> BTreeMap<String, u64> {
        let Shared { sources, positions, .. } = &*self.shared;
        sources.iter().zip(positions).map(|(source, at)| (source.topic.to_string(), at.get())).collect()
    }

    /// Collects a table's dirty keys until a piece is full; returns whether there are no more.
    fn collect(&mut self, place: usize, output: Option<usize>) -> Result<bool> {
        let outbox = &mut *self.shared.outbox.borrow_mut();
        self.shared.tables[place].drain_commit(&mut Sink { outbox, table: place as u8, output })
    }

    /// Appends pieces of the commit that begins at that offset.
    async fn append(&mut self, pieces: Vec<FrameBuilder>, begins: u64) -> Result<()> {
        for mut piece in pieces {
            fault::point(if self.next_offset == begins { "commit.collected" } else { "commit.partly-written" });
            let appended = self.producer.append_at(&self.changelog, &mut piece, self.next_offset).await?;
            self.next_offset += u64::from(appended.added);
            if let Some(settler) = &mut self.settler {
                settler.outgoing.set_aside(&piece).map_err(|error| error.at(&self.changelog))?;
            }
            self.shared.outbox.borrow_mut().recycle(piece);
        }
        Ok(())
    }

    /// Adds the end mark.
    fn collect_mark(&mut self, begins: u64, positions: BTreeMap<String, u64>) -> Result<Mark> {
        let shared = &self.shared;
        let outbox = &mut *shared.outbox.borrow_mut();
        let outputs: Vec<MarkedOutputs> = outbox
            .counts()
            .map(|(number, topic, partition, count)| MarkedOutputs {
                number,
                topic: topic.to_string(),
                partition,
                sequence: self.sequences[number as usize],
                count,
            })
            .collect();
        for output in &outputs {
            self.sequences[output.number as usize] += output.count;
        }
        self.commit += 1;
        let mark = Mark {
            commit: self.commit,
            begins,
            positions,
            left: self.left.clone(),
            stream_time: shared.stream_time.get(),
            tables: shared.agent.tables.iter().map(|table| table().name.to_owned()).collect(),
            layouts: shared.agent.tables.iter().map(|table| table().fixed_layout()).collect(),
            outputs,
        };
        let json = serde_json::to_vec(&mark)
            .map_err(|error| Error::new(ErrorKind::Encode, "cannot write the end of a commit").with_source(error))?;
        outbox.push_entry(&[MARK_TAG], &[], Some(&json), shared.clock.now_ms());
        Ok(mark)
    }

    /// Waits until the commit that is on its way has settled. Cancel-safe.
    pub(crate) async fn settled(&mut self) -> Result<()> {
        if let Some(settling) = &mut self.settling {
            let ended = settling.await;
            self.settling = None;
            let (settler, result) = ended.map_err(|error| {
                Error::new(ErrorKind::Closed, "the commit was ended with its runtime").with_source(error)
            })?;
            self.settler = Some(settler);
            result?;
        }
        Ok(())
    }

    /// Whether a commit is on its way.
    pub(crate) fn is_settling(&self) -> bool {
        self.settling.is_some()
    }

    /// Whether a commit is on its way and has not settled by now.
    pub(crate) fn is_on_its_way(&self) -> bool {
        self.settling.as_ref().is_some_and(|settling| !settling.is_finished())
    }

    /// What a checkpoint must sync first: the changelog, and the output partitions; `None` while a commit is on its way.
    pub(crate) fn take_unsynced(&mut self) -> Option<(Arc<dyn Replay>, Vec<TopicPartition>)> {
        let settler = self.settler.as_mut()?;
        let mut unsynced = std::mem::take(&mut settler.unsynced);
        // With `os` the changelog itself is not synced by commits, and no store may be ahead of it.
        unsynced.push(self.changelog.clone());
        Some((settler.replay.clone(), unsynced))
    }
}

impl Drop for Committer {
    fn drop(&mut self) {
        // A task that is dropped leaves the rest to recovery, which does the same steps.
        if let Some(settling) = &self.settling {
            settling.abort();
        }
    }
}

impl Settler {
    async fn settle(mut self, mark: Mark, end: u64) -> (Self, Result<()>) {
        let result = self.steps(&mark, end).await;
        (self, result)
    }

    async fn steps(&mut self, mark: &Mark, end: u64) -> Result<()> {
        // 5. The changelog is durable: from here on the commit counts, come what may.
        //    A crash here: recovery moves the outputs.
        if self.durable {
            self.replay.sync(&self.changelog, end).await?;
        }
        fault::point("commit.synced");

        // 6. The outputs are moved to their partitions and become visible.
        //    A crash in between or here: recovery moves them again, and what is there already is dropped by its sequence.
        self.move_outputs(mark, end).await?;
        fault::point("commit.moved");

        // 7. The positions are published for people.
        //    A crash here: recovery publishes.
        self.publish_positions(mark);
        fault::point("commit.published");
        Ok(())
    }

    /// Makes the sources durable up to a commit's positions. A topic that is read no more may be gone.
    pub(super) async fn sync_sources(&mut self, positions: &BTreeMap<String, u64>) -> Result<()> {
        for (topic, position) in positions.iter().filter(|(topic, _)| self.sources.iter().any(|have| **have == **topic))
        {
            self.replay.sync(&TopicPartition::new(topic.as_str(), self.partition), *position).await?;
        }
        Ok(())
    }

    /// Tells people how far the task has come.
    pub(super) fn publish_positions(&self, mark: &Mark) {
        for (topic, position) in &mark.positions {
            // A closed channel means that the worker ends; the positions are in the mark.
            let _ = self.progress.send((TopicPartition::new(topic.as_str(), self.partition), *position));
        }
    }

    /// Moves the outputs of one commit to their partitions: they are durable in the changelog. Recovery calls the same,
    /// with nothing set aside: they are read from the changelog then, and what a partition has already is dropped there.
    pub(super) async fn move_outputs(&mut self, mark: &Mark, end: u64) -> Result<()> {
        let mut next: Vec<u64> = mark.outputs.iter().map(|to| to.sequence).collect();
        if self.outgoing.is_whole(mark) {
            self.move_pieces(mark, &mut next, true).await?;
        } else {
            // The commit is large, or of a task before this one.
            self.outgoing.clear();
            let mut reader = self.replay.reader(&self.changelog, mark.begins)?;
            while reader.position() < end {
                if !reader.read(&mut self.frames)? {
                    return Err(Error::new(
                        ErrorKind::Corrupt,
                        "the changelog ends before the commit that was written to it",
                    )
                    .at(&self.changelog)
                    .at_offset(reader.position()));
                }
                for frame in self.frames.iter() {
                    let of_commit = |offset: u64| offset >= mark.begins && offset < end;
                    self.outgoing
                        .add(frame.records().filter(|record| of_commit(record.offset)))
                        .map_err(|error| error.at(&self.changelog))?;
                }
                self.move_pieces(mark, &mut next, false).await?;
            }
            self.move_pieces(mark, &mut next, true).await?;
        }
        for to in &mark.outputs {
            let to = TopicPartition::new(to.topic.as_str(), to.partition);
            if !self.unsynced.contains(&to) {
                self.unsynced.push(to);
            }
        }
        Ok(())
    }

    /// Appends the pieces that are full to their partitions, or `all`; `next` has the sequence of each one's first.
    async fn move_pieces(&mut self, mark: &Mark, next: &mut [u64], all: bool) -> Result<()> {
        for (to, sequence) in mark.outputs.iter().zip(next) {
            let place = TopicPartition::new(to.topic.as_str(), to.partition);
            for mut piece in self.outgoing.take(to.number, all) {
                self.producer.append(&place, &mut piece, Some(*sequence)).await?;
                *sequence += u64::from(piece.count());
                self.outgoing.recycle(piece);
                fault::point("commit.partly-moved");
            }
        }
        if all {
            self.outgoing.clear();
        }
        Ok(())
    }
}

/// Makes outputs durable and writes tables to their stores: what recovery then need not replay.
///
/// `begins` is the offset at which the last commit in it begins: recovery reads that commit again, because its end
/// mark holds the positions.
pub(crate) async fn checkpoint<T: Send + 'static>(
    disk: Disk,
    replay: Arc<dyn Replay>,
    unsynced: Vec<TopicPartition>,
    write: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    // 8. The outputs of every commit in the checkpoint are durable, because recovery will not move them again.
    //    A crash here: recovery replays from the checkpoint before.
    for partition in unsynced {
        let end = replay.offsets(&partition)?.end;
        replay.sync(&partition, end).await?;
    }
    fault::point("checkpoint.outputs-synced");

    // 9. The values and the position go to the store in one batch.
    //    A crash in between: the store opens as it was before. After it: recovery replays from here.
    let written = disk.blocking(write).await?;
    fault::point("checkpoint.written");
    Ok(written)
}

/// Whether any table has something to commit.
pub(crate) fn any_dirty(tables: &[Rc<dyn AnyPartition>]) -> bool {
    tables.iter().any(|table| table.is_dirty())
}

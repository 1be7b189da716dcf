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

use super::mark::{DELTA_TAG, Entry, MARK_TAG, Mark, MarkedOutputs};
use crate::agent::{Outbox, Shared};
use crate::backend::{Producer, ProducerId, Replay};
use crate::disk::Disk;
use crate::error::{Error, ErrorKind, Result};
use crate::fault;
use crate::record::{FrameBuilder, Frames};
use crate::table::{AnyPartition, CommitSink};
use crate::topic::TopicPartition;

/// Outputs are moved in frames of at most this many bytes.
const MOVE_BYTES: usize = 256 << 10;

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
}

/// Where a table's deltas and outputs go while a commit collects them.
struct Sink<'a> {
    outbox: &'a mut Outbox,
    table: u8,
    output: Option<usize>,
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

        // 2. Everything since becomes changelog records: outputs, the dirty keys' new values, the end mark.
        //    A crash here: as before, nothing has left memory.
        let begins = self.next_offset;
        let (frames, mark) = self.collect(begins, table_outputs)?;
        fault::point("commit.collected");

        // 3. The sources are durable up to the positions of this commit.
        //    Before anything is written: what was not synced may still reach the disk, in whatever order. A loss of power
        //    could otherwise leave this commit and take records that it calls done, and others would get their offsets.
        //    A crash here: as before.
        if let Some(settler) = self.settler.as_mut().filter(|settler| settler.durable) {
            settler.sync_sources(&mark).await?;
        }

        // 4. The records are appended, the end mark last.
        //    A crash between two frames: no end mark, so recovery passes over what was written.
        //    A crash after the last: the commit counts if the frames are still there, and is whole.
        //    Each must go where this task left off: if another owner has written since, nothing of this one may count.
        for (i, mut frame) in frames.into_iter().enumerate() {
            if i > 0 {
                fault::point("commit.partly-written");
            }
            let appended = self.producer.append_at(&self.changelog, &mut frame, self.next_offset).await?;
            self.next_offset += u64::from(appended.added);
            self.shared.outbox.borrow_mut().recycle(frame);
        }
        fault::point("commit.written");
        self.last_begins = begins;
        self.shared.committed_at.set(self.shared.clock.moment());

        // Steps 5 to 7 go on beside the next interval.
        if let Some(settler) = self.settler.take() {
            let end = self.next_offset;
            self.settling = Some(self.helpers.spawn(settler.settle(mark, end)));
        }
        Ok(())
    }

    fn collect(&mut self, begins: u64, table_outputs: &[Option<usize>]) -> Result<(Vec<FrameBuilder>, Mark)> {
        let shared = &self.shared;
        let outbox = &mut *shared.outbox.borrow_mut();
        for (place, table) in shared.tables.iter().enumerate() {
            let output = table_outputs.get(place).copied().flatten();
            table.drain_commit(&mut Sink { outbox, table: place as u8, output })?;
        }
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
            positions: shared
                .sources
                .iter()
                .zip(&shared.positions)
                .map(|(source, at)| (source.topic.to_string(), at.get()))
                .collect(),
            left: self.left.clone(),
            stream_time: shared.stream_time.get(),
            tables: shared.agent.tables.iter().map(|table| table().name.to_owned()).collect(),
            layouts: shared.agent.tables.iter().map(|table| table().fixed_layout()).collect(),
            outputs,
        };
        let json = serde_json::to_vec(&mark)
            .map_err(|error| Error::new(ErrorKind::Encode, "cannot write the end of a commit").with_source(error))?;
        outbox.push_entry(&[MARK_TAG], &[], Some(&json), shared.clock.now_ms());
        // What is taken out cannot be gone back to.
        shared.outbox_mark.set(None);
        Ok((outbox.drain(), mark))
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
    pub(super) async fn sync_sources(&mut self, mark: &Mark) -> Result<()> {
        for (topic, position) in
            mark.positions.iter().filter(|(topic, _)| self.sources.iter().any(|have| **have == **topic))
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

    /// Moves the outputs of one commit from the changelog, where they are durable, to their partitions. Recovery calls
    /// the same: what a partition has already is dropped there.
    pub(super) async fn move_outputs(&mut self, mark: &Mark, end: u64) -> Result<()> {
        if mark.outputs.is_empty() {
            return Ok(());
        }
        let mut moving: Vec<(TopicPartition, u32, u64, FrameBuilder)> = mark
            .outputs
            .iter()
            .map(|to| {
                (TopicPartition::new(to.topic.as_str(), to.partition), to.number, to.sequence, FrameBuilder::new())
            })
            .collect();
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
                for mut record in frame.records() {
                    if record.offset < mark.begins || record.offset >= end {
                        continue;
                    }
                    let Entry::Output { number, key } =
                        Entry::parse(&record).map_err(|error| error.at(&self.changelog))?
                    else {
                        continue;
                    };
                    record.key = key;
                    let Some((to, _, sequence, frame)) = moving.iter_mut().find(|(_, have, ..)| *have == number) else {
                        continue;
                    };
                    frame.push_raw(&record);
                    if frame.len() >= MOVE_BYTES {
                        append(&mut *self.producer, to, sequence, frame).await?;
                    }
                }
            }
        }
        for (to, _, sequence, frame) in &mut moving {
            append(&mut *self.producer, to, sequence, frame).await?;
            if !self.unsynced.contains(to) {
                self.unsynced.push(to.clone());
            }
        }
        Ok(())
    }
}

async fn append(
    producer: &mut dyn Producer,
    to: &TopicPartition,
    sequence: &mut u64,
    frame: &mut FrameBuilder,
) -> Result<()> {
    if !frame.is_empty() {
        producer.append(to, frame, Some(*sequence)).await?;
        *sequence += u64::from(frame.count());
        frame.clear();
        fault::point("commit.partly-moved");
    }
    Ok(())
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

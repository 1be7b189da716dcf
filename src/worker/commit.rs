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

use super::mark::{DELTA_TAG, Derived, Entry, Left, Mark, MarkedOutputs};
use super::outgoing::Outgoing;
use crate::agent::{Outbox, Shared};
use crate::backend::{Producer, ProducerId, Replay};
use crate::disk::Disk;
use crate::error::{Error, ErrorKind, Result};
use crate::fault;
use crate::record::{EncodeError, FrameBuilder, Frames, RawRecord, StoredSchemas};
use crate::table::{AnyPartition, CommitSink, Encode, TableDef};
use crate::topic::{TopicPartition, partition_of};

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
    /// Topics that are read no more.
    left: Left,
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
    /// Makes the outputs of tables anew.
    pub(super) tables: Tables,
}

/// The agent's tables, as far as their outputs follow from what the changelog has.
pub(crate) struct Tables {
    pub(super) defs: Vec<TableDef>,
    /// The changelog's, for states that an earlier form of a table wrote.
    pub(super) schemas: StoredSchemas,
}

impl Tables {
    /// Adds what a record of a commit puts out, if anything.
    fn put_out(&self, mark: &Mark, record: RawRecord<'_>, outgoing: &mut Outgoing) -> Result<()> {
        match Entry::parse(&record)? {
            Entry::Output { number, .. } if !mark.puts_out_to(number) => {
                let message =
                    format!("the changelog holds an output to partition number {number}, which its commit lacks");
                return Err(Error::new(ErrorKind::Corrupt, message).at_offset(record.offset));
            }
            Entry::Output { number, key } => outgoing.push_raw(number, key, record),
            Entry::Delta { table, key, state } => {
                let Some(derived) = mark.derived.iter().find(|derived| derived.table == table) else { return Ok(()) };
                let number = derived.first + partition_of(key, derived.partitions);
                match (state, self.defs.get(table)) {
                    (Some(state), Some(def)) => {
                        let (timestamp, wire) = def.output_of(key, state, &self.schemas)?;
                        outgoing.push_raw(number, Some(key), RawRecord { value: Some(&wire), timestamp, ..record });
                    }
                    _ => outgoing.push_raw(number, Some(key), record),
                }
            }
            Entry::Mark(_) => {}
        }
        Ok(())
    }
}

#[cold]
pub(super) fn not_settled() -> Error {
    Error::new(ErrorKind::Closed, "the commit before has not settled")
}

/// Where a table's deltas and outputs go while a commit collects them.
pub(super) struct Sink<'a> {
    pub(super) outbox: &'a mut Outbox,
    pub(super) outgoing: &'a mut Outgoing,
    pub(super) table: u8,
    /// The destination of its outputs.
    pub(super) output: Option<usize>,
}

impl CommitSink for Sink<'_> {
    #[inline]
    fn delta(&mut self, key: &[u8], state: Option<Encode<'_>>, timestamp: i64) -> Result<(), EncodeError> {
        let tag = [DELTA_TAG, self.table];
        match state {
            Some(encode) => self.outbox.push_encoded_entry(&tag, key, encode),
            None => {
                // A state has its timestamp in its bytes.
                self.outbox.push_entry(&tag, key, None, timestamp);
                Ok(())
            }
        }
    }

    #[inline]
    fn output(&mut self, key: &[u8], value: Option<Encode<'_>>, timestamp: i64) -> Result<(), EncodeError> {
        let Some(destination) = self.output else { return Ok(()) };
        let number = self.outbox.count_derived(destination, key);
        match self.outgoing.has_room() {
            true => self.outgoing.push_encoded(number, key, value, timestamp),
            false => Ok(()),
        }
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
    /// Topics that are read no more.
    pub(crate) left: Left,
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
        //    What tables put out follows from their new values, and is not written here but made anew should it have to be
        //    moved again.
        let begins = self.next_offset;
        // What is taken out cannot be gone back to.
        self.shared.outbox_mark.set(None);
        let outputs = self.shared.outbox.borrow_mut().take_all();
        self.set_aside(&outputs)?;
        self.append(outputs, begins).await?;
        for place in 0..self.shared.tables.len() {
            let output = table_outputs.get(place).copied().flatten();
            while !self.collect(place, output)? {
                let pieces = self.shared.outbox.borrow_mut().take_full();
                self.append(pieces, begins).await?;
            }
        }
        let mark = self.collect_mark(begins, positions, table_outputs)?;
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
        let Some(settler) = &mut self.settler else { return Err(not_settled()) };
        let outgoing = &mut settler.outgoing;
        self.shared.tables[place].drain_commit(&mut Sink { outbox, outgoing, table: place as u8, output })
    }

    /// Keeps outputs for when they are moved.
    fn set_aside(&mut self, pieces: &[FrameBuilder]) -> Result<()> {
        let Some(settler) = &mut self.settler else { return Err(not_settled()) };
        pieces.iter().try_for_each(|piece| settler.outgoing.set_aside(piece)).map_err(|error| error.at(&self.changelog))
    }

    /// Appends pieces of the commit that begins at that offset.
    async fn append(&mut self, pieces: Vec<FrameBuilder>, begins: u64) -> Result<()> {
        for mut piece in pieces {
            fault::point(if self.next_offset == begins { "commit.collected" } else { "commit.partly-written" });
            let appended = self.producer.append_at(&self.changelog, &mut piece, self.next_offset).await?;
            self.next_offset += u64::from(appended.added);
            self.shared.outbox.borrow_mut().recycle(piece);
        }
        Ok(())
    }

    /// Adds the end mark.
    fn collect_mark(
        &mut self,
        begins: u64,
        positions: BTreeMap<String, u64>,
        table_outputs: &[Option<usize>],
    ) -> Result<Mark> {
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
        let derived = table_outputs.iter().enumerate().filter_map(|(table, output)| {
            let to = outbox.destination((*output)?)?;
            Some(Derived { table, first: to.first, partitions: to.partitions })
        });
        let derived = if outputs.is_empty() { Vec::new() } else { derived.collect() };
        self.commit += 1;
        let mark = Mark {
            commit: self.commit,
            begins,
            positions,
            left: self.left.positions.clone(),
            stream_time: shared.stream_time.get(),
            tables: shared.agent.tables.iter().map(|table| table().name.to_owned()).collect(),
            layouts: shared.agent.tables.iter().map(|table| table().fixed_layout()).collect(),
            derived,
            outputs,
            ids: self.left.ids_with(shared.source_ids()),
        };
        let json = serde_json::to_vec(&mark)
            .map_err(|error| Error::new(ErrorKind::Encode, "cannot write the end of a commit").with_source(error))?;
        outbox.push_entry(&[mark.tag()], &[], Some(&json), shared.clock.now_ms());
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

    /// Moves the outputs of one commit to their partitions: they are durable in the changelog. Recovery comes here, too,
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
                    for record in frame.records().filter(|record| of_commit(record.offset)) {
                        self.tables
                            .put_out(mark, record, &mut self.outgoing)
                            .map_err(|error| error.at(&self.changelog))?;
                    }
                }
                self.move_pieces(mark, &mut next, false).await?;
            }
            self.move_pieces(mark, &mut next, true).await?;
        }
        self.note_unsynced(mark);
        Ok(())
    }

    /// A checkpoint must sync the partitions of these outputs first.
    fn note_unsynced(&mut self, mark: &Mark) {
        for to in &mark.outputs {
            let to = TopicPartition::new(to.topic.as_str(), to.partition);
            if !self.unsynced.contains(&to) {
                self.unsynced.push(to);
            }
        }
    }

    /// Moves the outputs of a commit of the past, as far as their partitions do not have all of them.
    pub(super) async fn move_again(&mut self, mark: &Mark, end: u64) -> Result<()> {
        for to in &mark.outputs {
            let place = TopicPartition::new(to.topic.as_str(), to.partition);
            if self.replay.next_sequence(&place, self.producer_id)? < to.sequence + to.count {
                return self.move_outputs(mark, end).await;
            }
        }
        self.note_unsynced(mark);
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

//! The whole commits in a changelog, one after another: for recovery, and for whoever reads a table from outside.

use std::ops::Range;

use super::mark::{Entry, Mark};
use crate::backend::{Reader, Replay};
use crate::error::Result;
use crate::record::Frames;
use crate::topic::TopicPartition;

/// What a walk over a changelog meets.
pub(crate) trait CommitVisitor {
    /// The keys of the deltas that come next, which may be many of one table.
    fn expect(&mut self, _table: usize, _keys: &[&[u8]]) {}

    /// A table's new value for a key (or its removal), in a commit that ended.
    fn delta(&mut self, table: usize, key: &[u8], stored: Option<&[u8]>) -> Result<()>;

    /// The end of a commit; `next` is the offset after it.
    fn mark(&mut self, mark: Mark, next: u64) -> Result<()>;

    /// Now and then, with the offset that the walk has come to.
    fn progress(&mut self, _offset: u64) {}
}

/// Records that were met.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Walked {
    /// All of them.
    pub(crate) records: u64,
    /// Those of commits that never ended.
    pub(crate) cut: u64,
}

/// New values of keys, until the end of their commit is seen: packed, because there may be a million.
#[derive(Default)]
struct Deltas {
    entries: Vec<Delta>,
    bytes: Vec<u8>,
}

struct Delta {
    offset: u64,
    table: usize,
    start: usize,
    key_len: usize,
    /// `None` for a removed key.
    state_len: Option<usize>,
}

/// Deltas that are told of together.
const GROUP: usize = 32;

impl Deltas {
    fn push(&mut self, offset: u64, table: usize, key: &[u8], state: Option<&[u8]>) {
        let (start, key_len, state_len) = (self.bytes.len(), key.len(), state.map(<[u8]>::len));
        self.entries.push(Delta { offset, table, start, key_len, state_len });
        self.bytes.extend_from_slice(key);
        self.bytes.extend_from_slice(state.unwrap_or_default());
    }

    fn key(&self, delta: &Delta) -> &[u8] {
        &self.bytes[delta.start..delta.start + delta.key_len]
    }

    /// Hands out those from that offset on, and is empty then.
    fn hand_out(&mut self, begins: u64, visitor: &mut dyn CommitVisitor) -> Result<()> {
        for group in self.entries.chunks(GROUP) {
            if let Some(table) = group.first().map(|delta| delta.table) {
                let mut keys: [&[u8]; GROUP] = [&[]; GROUP];
                let same = group.iter().take_while(|delta| delta.table == table);
                let count = keys.iter_mut().zip(same).map(|(key, delta)| *key = self.key(delta)).count();
                visitor.expect(table, &keys[..count]);
            }
            for delta in group.iter().filter(|delta| delta.offset >= begins) {
                let behind_key = &self.bytes[delta.start + delta.key_len..];
                visitor.delta(delta.table, self.key(delta), delta.state_len.map(|len| &behind_key[..len]))?;
            }
        }
        self.entries.clear();
        self.bytes.clear();
        Ok(())
    }
}

/// What readers see only when it is committed: everything counts.
#[derive(Default)]
pub(crate) struct Committed {
    deltas: Deltas,
    /// Offset of the last record that was told of.
    last: Option<u64>,
}

impl Committed {
    /// Offset of the last record that was told of.
    pub(crate) fn last(&self) -> Option<u64> {
        self.last
    }

    /// Tells of the records of a batch that are in that range; returns how many there were.
    pub(crate) fn tell(
        &mut self,
        frames: &Frames,
        changelog: &TopicPartition,
        range: Range<u64>,
        visitor: &mut dyn CommitVisitor,
    ) -> Result<u64> {
        let mut records = 0;
        for frame in frames.iter() {
            for record in frame.records().filter(|record| range.contains(&record.offset)) {
                records += 1;
                self.last = Some(record.offset);
                match Entry::parse(&record).map_err(|error| error.at(changelog))? {
                    Entry::Delta { table, key, state } => self.deltas.push(record.offset, table, key, state),
                    Entry::Output { .. } => {}
                    Entry::Mark(mark) => {
                        self.deltas.hand_out(0, visitor)?;
                        visitor.mark(mark, record.offset + 1)?;
                    }
                }
            }
        }
        self.deltas.hand_out(0, visitor)?;
        Ok(records)
    }
}

/// A walk over the commits in a part of a changelog, a batch at a time. What has no end mark is passed over: it never
/// happened. Where readers see only what is committed, everything counts.
pub(crate) struct Walk<'a> {
    replay: &'a dyn Replay,
    reader: Box<dyn Reader>,
    changelog: &'a TopicPartition,
    range: Range<u64>,
    frames: Frames,
    /// Where everything counts.
    committed: Option<Committed>,
    /// New values of a commit whose end was not seen yet.
    open: Deltas,
    open_records: u64,
    /// Offset of the first of them.
    open_from: u64,
    /// Where it was read again from last.
    again_from: Option<u64>,
    /// What compaction left.
    whole: Deltas,
    walked: Walked,
}

impl<'a> Walk<'a> {
    pub(crate) fn new(replay: &'a dyn Replay, changelog: &'a TopicPartition, range: Range<u64>) -> Result<Self> {
        Ok(Self {
            replay,
            reader: replay.reader(changelog, range.start)?,
            changelog,
            range,
            frames: Frames::default(),
            committed: replay.reads_committed().then(Committed::default),
            open: Deltas::default(),
            open_records: 0,
            open_from: 0,
            again_from: None,
            whole: Deltas::default(),
            walked: Walked::default(),
        })
    }

    /// Tells of the next batch; `false` at the end.
    pub(crate) fn step(&mut self, visitor: &mut dyn CommitVisitor) -> Result<bool> {
        if self.is_at_end() || !self.reader.read(&mut self.frames)? {
            return Ok(false);
        }
        match &mut self.committed {
            Some(committed) => {
                self.walked.records += committed.tell(&self.frames, self.changelog, self.range.clone(), visitor)?;
            }
            None => self.tell(visitor)?,
        }
        visitor.progress(self.reader.position());
        Ok(true)
    }

    /// Whether there is nothing more.
    pub(crate) fn is_at_end(&self) -> bool {
        self.reader.position() >= self.range.end
    }

    fn tell(&mut self, visitor: &mut dyn CommitVisitor) -> Result<()> {
        let Self { changelog, open, whole, walked, .. } = self;
        for frame in self.frames.iter() {
            if frame.header.compacted && self.open_records > 0 && self.again_from != Some(self.open_from) {
                // The end of this commit was taken away by a compaction that has come in between, and what is left of it
                // stands in place of what was read.
                self.again_from = Some(self.open_from);
                self.reader = self.replay.reader(changelog, self.open_from)?;
                *open = Deltas::default();
                walked.records -= self.open_records;
                self.open_records = 0;
                break;
            }
            for record in frame.records().filter(|record| self.range.contains(&record.offset)) {
                walked.records += 1;
                let entry = Entry::parse(&record).map_err(|error| error.at(changelog))?;
                if frame.header.compacted {
                    // Of what did not end, compaction keeps nothing.
                    if let Entry::Delta { table, key, state } = entry {
                        whole.push(record.offset, table, key, state);
                    }
                    continue;
                }
                if self.open_records == 0 {
                    self.open_from = record.offset;
                }
                self.open_records += 1;
                match entry {
                    Entry::Delta { table, key, state } => open.push(record.offset, table, key, state),
                    Entry::Output { .. } => {}
                    Entry::Mark(mark) => {
                        // What compaction left comes before.
                        whole.hand_out(0, visitor)?;
                        open.hand_out(mark.begins, visitor)?;
                        walked.cut += self.open_records.saturating_sub(record.offset + 1 - mark.begins);
                        self.open_records = 0;
                        visitor.mark(mark, record.offset + 1)?;
                    }
                }
            }
        }
        whole.hand_out(0, visitor)
    }

    /// What was met so far, all of it told of or given up.
    pub(crate) fn walked(&self) -> Walked {
        Walked { cut: self.walked.cut + self.open_records, ..self.walked }
    }
}

/// Walks over all of it.
pub(crate) fn walk(
    replay: &dyn Replay,
    changelog: &TopicPartition,
    from: u64,
    end: u64,
    visitor: &mut dyn CommitVisitor,
) -> Result<()> {
    let mut walk = Walk::new(replay, changelog, from..end)?;
    while walk.step(visitor)? {}
    Ok(())
}

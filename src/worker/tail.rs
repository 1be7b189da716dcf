//! The whole commits in a changelog, one after another: for recovery, and for whoever reads a table from outside.

use std::ops::Range;

use super::mark::{Entry, Mark};
use crate::backend::Replay;
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

/// Walks over the commits in `[from, end)`. What has no end mark is passed over: it never happened. Where readers see only
/// what is committed, everything counts.
pub(crate) fn walk(
    replay: &dyn Replay,
    changelog: &TopicPartition,
    from: u64,
    end: u64,
    visitor: &mut dyn CommitVisitor,
) -> Result<Walked> {
    let mut walked = Walked::default();
    let mut open = 0_u64;
    let (mut deltas, mut whole) = (Deltas::default(), Deltas::default());
    let mut frames = Frames::default();
    let mut committed = replay.reads_committed().then(Committed::default);
    let mut reader = replay.reader(changelog, from)?;
    while reader.position() < end && reader.read(&mut frames)? {
        if let Some(committed) = &mut committed {
            walked.records += committed.tell(&frames, changelog, from..end, visitor)?;
            visitor.progress(reader.position());
            continue;
        }
        for frame in frames.iter() {
            for record in frame.records().filter(|record| (from..end).contains(&record.offset)) {
                walked.records += 1;
                if frame.header.compacted {
                    // Of what did not end, compaction keeps nothing.
                    if let Entry::Delta { table, key, state } =
                        Entry::parse(&record).map_err(|error| error.at(changelog))?
                    {
                        whole.push(record.offset, table, key, state);
                    }
                    continue;
                }
                open += 1;
                match Entry::parse(&record).map_err(|error| error.at(changelog))? {
                    Entry::Delta { table, key, state } => {
                        deltas.push(record.offset, table, key, state);
                    }
                    Entry::Output { .. } => {}
                    Entry::Mark(mark) => {
                        // What compaction left comes before.
                        whole.hand_out(0, visitor)?;
                        deltas.hand_out(mark.begins, visitor)?;
                        walked.cut += open.saturating_sub(record.offset + 1 - mark.begins);
                        open = 0;
                        visitor.mark(mark, record.offset + 1)?;
                    }
                }
            }
        }
        whole.hand_out(0, visitor)?;
        visitor.progress(reader.position());
    }
    walked.cut += open;
    Ok(walked)
}

//! The whole commits in a changelog, one after another: for recovery, and for whoever reads a table from outside.

use super::mark::{Entry, Mark};
use crate::backend::Replay;
use crate::error::Result;
use crate::record::Frames;
use crate::topic::TopicPartition;

/// What a walk over a changelog meets.
pub(crate) trait CommitVisitor {
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

/// A key's new value, until the end of its commit is seen.
struct Delta {
    offset: u64,
    table: usize,
    key: Vec<u8>,
    stored: Option<Vec<u8>>,
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
    let mut deltas: Vec<Delta> = Vec::new();
    let mut frames = Frames::default();
    let committed = replay.reads_committed();
    let mut reader = replay.reader(changelog, from)?;
    while reader.position() < end && reader.read(&mut frames)? {
        for frame in frames.iter() {
            for record in frame.records().filter(|record| (from..end).contains(&record.offset)) {
                walked.records += 1;
                if committed {
                    match Entry::parse(&record).map_err(|error| error.at(changelog))? {
                        Entry::Delta { table, key, state } => visitor.delta(table, key, state)?,
                        Entry::Output { .. } => {}
                        Entry::Mark(mark) => visitor.mark(mark, record.offset + 1)?,
                    }
                    continue;
                }
                if frame.header.compacted {
                    // Of what did not end, compaction keeps nothing.
                    if let Entry::Delta { table, key, state } =
                        Entry::parse(&record).map_err(|error| error.at(changelog))?
                    {
                        visitor.delta(table, key, state)?;
                    }
                    continue;
                }
                open += 1;
                match Entry::parse(&record).map_err(|error| error.at(changelog))? {
                    Entry::Delta { table, key, state } => {
                        deltas.push(Delta {
                            offset: record.offset,
                            table,
                            key: key.to_vec(),
                            stored: state.map(<[u8]>::to_vec),
                        });
                    }
                    Entry::Output { .. } => {}
                    Entry::Mark(mark) => {
                        for delta in deltas.drain(..).filter(|delta| delta.offset >= mark.begins) {
                            visitor.delta(delta.table, &delta.key, delta.stored.as_deref())?;
                        }
                        walked.cut += open.saturating_sub(record.offset + 1 - mark.begins);
                        open = 0;
                        visitor.mark(mark, record.offset + 1)?;
                    }
                }
            }
        }
        visitor.progress(reader.position());
    }
    walked.cut += open;
    Ok(walked)
}

//! Recovery: a task's state is its stores plus the tail of its changelog.

use std::sync::Arc;

use super::commit::{Resume, Settler};
use super::mark::{Entry, Mark};
use crate::agent::Shared;
use crate::clock::Clock;
use crate::error::{Error, ErrorKind, Result};
use crate::fault;
use crate::record::Frames;
use std::time::Duration;

/// How often a long recovery says how far it is.
const REPORT_EVERY: Duration = Duration::from_secs(2);

/// What a recovery did, for the log and for tests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Recovered {
    /// Changelog records that were read.
    pub replayed: u64,
    /// Changelog records that a store covered already.
    pub covered: u64,
    /// Commits that were found whole.
    pub commits: u64,
    /// Records of a commit that never ended.
    pub cut: u64,
}

/// A key's new value, until the end of its commit is seen.
struct Delta {
    offset: u64,
    table: usize,
    key: Vec<u8>,
    state: Option<Vec<u8>>,
}

/// Brings the tables to the last commit, moves what that commit and those before it put out, and says where to go on.
///
/// `stored` is the changelog position that the stores cover, if there is one.
pub(crate) async fn recover(shared: &Shared, settler: &mut Settler, stored: Option<u64>, clock: &Clock) -> Result<(Resume, Recovered)> {
    let changelog = settler.changelog.clone();
    let offsets = settler.replay.offsets(&changelog)?;
    let from = stored.unwrap_or(offsets.start);
    if from > offsets.end {
        return Err(Error::new(
            ErrorKind::State,
            format!(
                "the state of agent {} is ahead of its changelog: it covers offset {from}, the changelog ends at {}; \
                 the changelog was lost or replaced. Restore it, or drop the state with `reset` and process the topics again",
                shared.agent.name, offsets.end
            ),
        )
        .at(&changelog));
    }
    if from < offsets.start {
        return Err(Error::new(
            ErrorKind::State,
            format!("the changelog of agent {} begins at {}, its state covers only offset {from}", shared.agent.name, offsets.start),
        )
        .at(&changelog));
    }

    let mut recovered = Recovered { covered: from - offsets.start, ..Recovered::default() };
    let mut last: Option<Mark> = None;
    let mut unmoved: Vec<(Mark, u64)> = Vec::new();
    let mut deltas: Vec<Delta> = Vec::new();
    let mut open = 0_u64;
    let mut frames = Frames::default();
    let mut reported = clock.moment();
    let mut reader = settler.replay.reader(&changelog, from)?;
    while reader.position() < offsets.end && reader.read(&mut frames)? {
        for frame in frames.iter() {
            for record in frame.records().filter(|record| record.offset >= from) {
                recovered.replayed += 1;
                open += 1;
                match Entry::parse(&record).map_err(|error| error.at(&changelog))? {
                    Entry::Delta { table, key, state } => {
                        deltas.push(Delta { offset: record.offset, table, key: key.to_vec(), state: state.map(<[u8]>::to_vec) });
                    }
                    Entry::Output { .. } => {}
                    Entry::Mark(mark) => {
                        apply(shared, deltas.drain(..).filter(|delta| delta.offset >= mark.begins))?;
                        recovered.commits += 1;
                        recovered.cut += open.saturating_sub(record.offset + 1 - mark.begins);
                        open = 0;
                        if !mark.outputs.is_empty() {
                            unmoved.push((mark.clone(), record.offset + 1));
                        }
                        last = Some(mark);
                    }
                }
            }
        }
        if clock.moment().since(reported) >= REPORT_EVERY {
            reported = clock.moment();
            let done = (reader.position() - from) * 100 / (offsets.end - from).max(1);
            tracing::info!(agent = shared.agent.name, partition = shared.partition, records = recovered.replayed, percent = done, "recovering");
        }
    }
    // What has no end mark never happened; the next commit's mark says where it begins, so that readers pass over it.
    recovered.cut += open;
    fault::point("recovery.replayed");

    // What is moved must be durable first: outputs that others have seen cannot be taken back.
    settler.replay.sync(&changelog, offsets.end).await?;
    for (mark, end) in unmoved {
        settler.move_outputs(&mark, end).await?;
    }
    fault::point("recovery.moved");

    let mut resume = Resume { next_offset: offsets.end, commit: 0, last_begins: from };
    if let Some(mark) = last {
        resume.commit = mark.commit;
        resume.last_begins = mark.begins;
        shared.stream_time.set(mark.stream_time);
        restore_positions(shared, settler, &mark)?;
    } else if stored.is_some() && offsets.end > offsets.start {
        return Err(Error::new(ErrorKind::Corrupt, format!("the changelog of agent {} holds no commit where its state says that one begins", shared.agent.name))
            .at(&changelog)
            .at_offset(from));
    } else {
        for (source, position) in shared.sources.iter().zip(&shared.positions) {
            let partition = crate::topic::TopicPartition::new(source.topic.clone(), shared.partition);
            position.set(settler.replay.offsets(&partition)?.start);
        }
    }
    Ok((resume, recovered))
}

fn apply(shared: &Shared, deltas: impl Iterator<Item = Delta>) -> Result<()> {
    for delta in deltas {
        let Some(table) = shared.tables.get(delta.table) else {
            return Err(Error::new(
                ErrorKind::State,
                format!(
                    "the changelog of agent {} holds values of its table number {}, and it has only {}; \
                     tables may be added at the end of the list but not taken away: use `reset` to drop the state",
                    shared.agent.name,
                    delta.table,
                    shared.tables.len()
                ),
            ));
        };
        table.apply(&delta.key, delta.state.as_deref())?;
    }
    Ok(())
}

fn restore_positions(shared: &Shared, settler: &Settler, mark: &Mark) -> Result<()> {
    for (source, position) in shared.sources.iter().zip(&shared.positions) {
        let partition = crate::topic::TopicPartition::new(Arc::clone(&source.topic), shared.partition);
        let offsets = settler.replay.offsets(&partition)?;
        let at = mark.positions.get(&source.topic).copied().unwrap_or(offsets.start);
        if at > offsets.end {
            return Err(Error::new(
                ErrorKind::State,
                format!(
                    "agent {} has committed offset {at}, and the topic ends at {}: its records were lost or it was made anew. \
                     Restore the topic, or use `reset` to process it from the start",
                    shared.agent.name, offsets.end
                ),
            )
            .at(&partition));
        }
        if at < offsets.start {
            tracing::warn!(agent = shared.agent.name, topic = %source.topic, partition = shared.partition, committed = at, start = offsets.start,
                "records before the topic's start are gone without having been processed");
        }
        position.set(at.max(offsets.start));
    }
    Ok(())
}

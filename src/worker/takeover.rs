//! Recovery where commits are transactions: the owner before is shut out, then everything that is in the changelog counts,
//! and the group's positions say where to go on.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

use super::mark::Mark;
use super::partition::Context;
use super::recovery::{Recovered, Replaying, check_reaches, check_sources, foreign_changelog};
use super::tail::{CommitVisitor, walk};
use super::transaction::{Found, Runner, Transactor};
use crate::agent::Shared;
use crate::backend::{Offsets, Replay, Transactions};
use crate::error::{Error, ErrorKind, Result};
use crate::plan::AgentPlan;
use crate::topic::TopicPartition;

/// Takes the task over: brings its tables to the last commit that counts, and says where to go on.
///
/// `stored` is the changelog position that the stores cover, if there is one. Also returns whether a position is to be
/// committed again because the group's is forgotten.
pub(super) async fn take_over(
    context: &Context,
    plan: &AgentPlan,
    shared: &Rc<Shared>,
    transactions: &dyn Transactions,
    replay: Arc<dyn Replay>,
    stored: Option<u64>,
) -> Result<(Transactor, Recovered, bool)> {
    let partition = shared.partition;
    let changelog = TopicPartition::new(plan.changelog.clone(), partition);
    let Some(membership) = context.membership.clone() else {
        return Err(Error::new(ErrorKind::Unsupported, "the backend has transactions, and groups without members"));
    };
    // From here on nobody else commits for this partition, and what was on its way counts or does not.
    let transaction =
        transactions.open(&format!("{}-{partition}", plan.group)).await.map_err(|error| error.at(&changelog))?;

    let offsets = replay.offsets(&changelog)?;
    let from = begin_at(shared, &changelog, stored, offsets)?;
    let mut replaying = Tail { replaying: Replaying::new(shared, &context.clock, from, offsets.end), last: None };
    let walked = walk(&*replay, &changelog, from, offsets.end, &mut replaying)?;
    let (last, commits) = (replaying.last, replaying.replaying.commits());
    let recovered = Recovered { replayed: walked.records, covered: from - offsets.start, commits, cut: 0 };

    let mut found = Found { last_mark: from, ..Found::default() };
    let mut kept = BTreeMap::new();
    match last {
        Some((mark, at)) => {
            check_sources(shared, &mark).map_err(|error| error.at(&changelog))?;
            shared.stream_time.set(mark.stream_time);
            (found.commit, found.last_mark) = (mark.commit, at);
            kept.extend(mark.left);
            kept.extend(mark.positions);
        }
        // A store covers a commit, and the last mark of all stays.
        None => {
            if let Some(stored) = stored {
                return Err(foreign_changelog(shared, stored, "there is none").at(&changelog));
            }
        }
    }
    let forgotten = restore_positions(plan, shared, &*replay, &mut kept)?;
    found.left = kept;
    let runner = Runner::new(transaction, membership, changelog, context.clock.clone());
    Ok((Transactor::new(shared.clone(), replay, runner, found, context.helpers.clone()), recovered, forgotten))
}

/// Where the changelog is to be read from, by the position that the stores cover.
pub(super) fn begin_at(
    shared: &Shared,
    changelog: &TopicPartition,
    stored: Option<u64>,
    offsets: Offsets,
) -> Result<u64> {
    let from = stored.unwrap_or(offsets.start);
    if from < offsets.start || from > offsets.end {
        let message = format!(
            "the state of agent {} covers offset {from} of its changelog, which holds {} to {}: the changelog was lost or \
             replaced. Restore it, or drop the state with `reset` and process the topics again",
            shared.agent.name, offsets.start, offsets.end
        );
        return Err(Error::new(ErrorKind::State, message).at(changelog));
    }
    Ok(from)
}

/// Sets the positions to those of the group; `kept` holds what the last commit says, and loses those that are used.
///
/// Both were committed together, or with "at least once" one after the other. A broker forgets the positions of groups that
/// have been away for long, and people may set them: what the group has goes before what was kept. Returns whether the group
/// lacks one that was kept.
fn restore_positions(
    plan: &AgentPlan,
    shared: &Shared,
    replay: &dyn Replay,
    kept: &mut BTreeMap<String, u64>,
) -> Result<bool> {
    let agent = shared.agent.name;
    let mut forgotten = false;
    for (source, position) in shared.sources.iter().zip(&shared.positions) {
        let place = TopicPartition::new(source.topic.clone(), shared.partition);
        let offsets = replay.offsets(&place)?;
        let kept = kept.remove(&*source.topic);
        let of_group = replay.position(&plan.group, &place)?;
        if let (Some(group), Some(kept)) = (of_group, kept)
            && group != kept
        {
            tracing::warn!(agent, topic = %source.topic, partition = shared.partition, position = group, committed = kept,
                "the group's position is not that of the last commit: it was set, or a commit \"at least once\" has ended \
                 half-way; the agent's tables are as they were");
        }
        forgotten |= of_group.is_none() && kept.is_some();
        let at = of_group.or(kept).unwrap_or(offsets.start);
        check_reaches(agent, replay, &place, offsets.end, at)?;
        if at < offsets.start {
            tracing::warn!(agent, topic = %source.topic, partition = shared.partition, committed = at, start = offsets.start,
                "records before the topic's start are gone without having been processed");
        }
        position.set(at.max(offsets.start));
    }
    Ok(forgotten)
}

/// Brings the tables up to date, and keeps the last mark with its offset.
struct Tail<'a> {
    replaying: Replaying<'a>,
    last: Option<(Mark, u64)>,
}

impl CommitVisitor for Tail<'_> {
    fn expect(&mut self, table: usize, keys: &[&[u8]]) {
        self.replaying.expect(table, keys);
    }

    fn delta(&mut self, table: usize, key: &[u8], stored: Option<&[u8]>) -> Result<()> {
        self.replaying.delta(table, key, stored)
    }

    fn mark(&mut self, mark: Mark, next: u64) -> Result<()> {
        self.last = Some((mark.clone(), next - 1));
        self.replaying.mark(mark, next)
    }

    fn progress(&mut self, offset: u64) {
        self.replaying.progress(offset);
    }
}

//! Recovery where commits are transactions: the owner before is shut out, then everything that is in the changelog counts,
//! and the group's positions say where to go on.
//!
//! Where the state is gone all of a changelog has to be applied. Memory stays bounded meanwhile, what was applied is kept should
//! the process end, and the other tasks of the thread go on.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::following::Following;
use super::mark::Left;
use super::partition::Context;
use super::recovery::{Recovered, check_reaches, check_same_topic, check_sources, foreign_changelog, is_stopped};
use super::setup::ask;
use super::transaction::{Found, Runner, Transactor};
use crate::agent::Shared;
use crate::backend::{Offsets, Reader, Replay, Transactions};
use crate::error::{Error, ErrorKind, Result};
use crate::plan::AgentPlan;
use crate::record::Frames;
use crate::topic::TopicPartition;

/// How long a changelog's broker may keep a takeover waiting.
const PATIENCE: Duration = Duration::from_secs(60);

/// How soon a reader that is at an end before the changelog's is asked again.
const ASK_AGAIN: Duration = Duration::from_millis(50);

/// What the last mark in the changelog says.
struct Last<'a> {
    commit: &'a mut u64,
    /// Loses those that are used.
    positions: &'a mut BTreeMap<String, u64>,
    ids: &'a BTreeMap<String, String>,
}

/// What came of a takeover.
pub(super) struct Taken {
    pub(super) transactor: Transactor,
    pub(super) recovered: Recovered,
    /// Whether a position is to be committed again because the group's is forgotten.
    pub(super) forgotten: bool,
}

/// Takes the task over: brings its tables to the last commit that counts, and says where to go on. `None` when it was
/// told to stop before it had come to the end.
///
/// `stored` is the changelog position that the stores cover, if there is one.
pub(super) async fn take_over(
    context: &Context,
    plan: &AgentPlan,
    shared: &Rc<Shared>,
    transactions: &dyn Transactions,
    replay: Arc<dyn Replay>,
    stored: Option<u64>,
    stop: watch::Receiver<bool>,
) -> Result<Option<Taken>> {
    let partition = shared.partition;
    let changelog = TopicPartition::new(plan.changelog.clone(), partition);
    let Some(membership) = context.membership.clone() else {
        return Err(Error::new(ErrorKind::Unsupported, "the backend has transactions, and groups without members"));
    };
    // Who was told to stop meanwhile may have lost the partition, and must not shut its new owner out.
    if is_stopped(&stop) {
        return Ok(None);
    }
    // From here on nobody else commits for this partition, and what was on its way counts or does not.
    let transaction =
        transactions.open(&format!("{}-{partition}", plan.group)).await.map_err(|error| error.at(&changelog))?;

    let place = changelog.clone();
    let offsets = ask(context, &replay, move |replay| replay.offsets(&place)).await?;
    let from = begin_at(shared, &changelog, stored, offsets)?;
    let mut following = Following::new(context, shared, &replay, &changelog, stored, from..offsets.end);
    following.look_ahead(offsets.end, &stop).await?;
    let place = changelog.clone();
    let reader = ask(context, &replay, move |replay| replay.reader(&place, from)).await?;
    if !follow(context, &mut following, reader, &changelog, offsets.end, stop).await? {
        following.cover().await?;
        return Ok(None);
    }
    following.check().await?;
    let recovered = Recovered {
        replayed: following.records(),
        covered: from - offsets.start,
        commits: following.commits(),
        cut: 0,
    };

    let mut found = Found { last_mark: from, ..Found::default() };
    let (mut kept, mut ids) = (BTreeMap::new(), BTreeMap::new());
    match following.into_last() {
        Some((mark, at)) => {
            check_sources(shared, &mark).map_err(|error| error.at(&changelog))?;
            shared.stream_time.set(mark.stream_time);
            (found.commit, found.last_mark) = (mark.commit, at);
            kept.extend(mark.left);
            kept.extend(mark.positions);
            ids = mark.ids;
        }
        // A store covers a commit, and the last mark of all stays.
        None => {
            if let Some(stored) = stored {
                return Err(foreign_changelog(shared, stored, "there is none").at(&changelog));
            }
        }
    }
    let last = Last { commit: &mut found.commit, positions: &mut kept, ids: &ids };
    let whole = transactions.count_whole();
    let forgotten = restore_positions(context, plan, shared, &replay, last, whole).await?;
    found.left = Left::new(kept, ids);
    let runner = Runner::new(transaction, membership, changelog, context.clock.clone());
    let transactor = Transactor::new(shared.clone(), replay, runner, found, context.helpers.clone());
    Ok(Some(Taken { transactor, recovered, forgotten }))
}

/// Applies the changelog up to its end; `false` when it was told to stop before.
async fn follow(
    context: &Context,
    following: &mut Following<'_>,
    mut reader: Box<dyn Reader>,
    changelog: &TopicPartition,
    end: u64,
    mut stop: watch::Receiver<bool>,
) -> Result<bool> {
    let mut frames = Frames::default();
    let mut heard = context.clock.moment();
    loop {
        let at = reader.position();
        if at >= end {
            return Ok(true);
        }
        match reader.read_now(&mut frames)? {
            Some(true) => {
                heard = context.clock.moment();
                following.apply(&frames, at..end)?;
                following.report(reader.position());
            }
            // The broker that was asked for the end knew of more than the one that is read from, which has just become the
            // leader.
            Some(false) => {
                if context.clock.moment().since(heard) > PATIENCE {
                    return Err(silent(changelog, at, end));
                }
                context.clock.sleep(ASK_AGAIN).await;
            }
            None => {
                tokio::select! {
                    biased;
                    _ = stop.changed() => {}
                    ready = reader.ready() => ready?,
                    () = context.clock.sleep(PATIENCE) => {
                        return Err(silent(changelog, at, end));
                    }
                }
            }
        }
        if is_stopped(&stop) {
            return Ok(false);
        }
        // A takeover that is nearly done writes its first checkpoint as any other task does.
        if following.is_pressed() {
            following.cover().await?;
        }
        // Others of this thread have their turn.
        tokio::task::yield_now().await;
    }
}

/// Positions that the tables have not come to would leave the records in between counted nowhere.
#[cold]
fn lost_commits(
    agent: &str,
    plan: &AgentPlan,
    place: &TopicPartition,
    (number, last): (u64, u64),
    whole: bool,
) -> Error {
    let message = format!(
        "group {} is at commit {number}, and the last in the changelog of agent {agent} is {last}: the changelog has lost what \
         its broker had acknowledged, or was made anew. Restore it, or drop the state with `reset` and process the topics again \
         (with --shift-by 0 it goes on where the group is, with empty tables)",
        plan.group
    );
    // Where no transaction is opened nobody has waited for the last one of those before, which may not be settled everywhere.
    let kind = if whole { ErrorKind::State } else { ErrorKind::Unsettled };
    Error::new(kind, message).at(place)
}

#[cold]
fn silent(changelog: &TopicPartition, at: u64, end: u64) -> Error {
    let message = format!(
        "the changelog's broker has sent nothing for {} s, and the state ends at offset {end}; see to the broker",
        PATIENCE.as_secs()
    );
    Error::new(ErrorKind::Io, message).at(changelog).at_offset(at)
}

/// Where the changelog is to be read from, by the position that the stores cover.
pub(super) fn begin_at(
    shared: &Shared,
    changelog: &TopicPartition,
    stored: Option<u64>,
    offsets: Offsets,
) -> Result<u64> {
    // Without a state all of it is needed. Compaction leaves the start where it is.
    let from = stored.unwrap_or(0);
    if from < offsets.start || from > offsets.end {
        let what = match stored {
            Some(_) => format!("the state of agent {} covers offset {from} of", shared.agent.name),
            None => format!("agent {} has no state here, and all would have to come from", shared.agent.name),
        };
        let message = format!(
            "{what} its changelog, which holds {} to {}: the changelog was lost or replaced. Restore it, or drop the state \
             with `reset` and process the topics again",
            offsets.start, offsets.end
        );
        return Err(Error::new(ErrorKind::State, message).at(changelog));
    }
    Ok(from)
}

/// Sets the positions to those of the group. `whole`: what was committed counts whole.
///
/// Both were committed together, or with "at least once" one after the other. A broker forgets the positions of groups that
/// have been away for long, and people may set them: what the group has goes before what was kept. But where it says of which
/// commit it is, that must be the last in the changelog: brokers may lose what they had
/// acknowledged, the one of the group or that of the changelog. Returns whether the group lacks one that was kept.
async fn restore_positions(
    context: &Context,
    plan: &AgentPlan,
    shared: &Shared,
    replay: &Arc<dyn Replay>,
    last: Last<'_>,
    whole: bool,
) -> Result<bool> {
    let Last { commit, positions: kept, ids } = last;
    let agent = shared.agent.name;
    let mut forgotten = false;
    // One source's number says nothing of another's.
    let in_changelog = *commit;
    for (source, position) in shared.sources.iter().zip(&shared.positions) {
        let place = TopicPartition::new(source.topic.clone(), shared.partition);
        let (group, asked) = (plan.group.clone(), place.clone());
        let question = move |replay: &dyn Replay| {
            let (offsets, position) = (replay.offsets(&asked)?, replay.position(&group, &asked)?);
            Ok((offsets, position, replay.commit_of_position(&group, &asked)?))
        };
        let (offsets, mut of_group, of_commit) = ask(context, replay, question).await?;
        let kept = kept.remove(&*source.topic);
        match of_commit.map(|number| (number, number.cmp(&in_changelog))) {
            Some((number, Ordering::Greater)) if !shared.tables.is_empty() => {
                return Err(lost_commits(agent, plan, &place, (number, in_changelog), whole));
            }
            // Without tables a commit leaves nothing in the changelog that is needed.
            Some((number, Ordering::Greater)) => *commit = number.max(*commit),
            // "At least once" writes no numbers: one that is there is older than the first commit of that kind, and a mark
            // may be there without all that stands before it.
            Some((number, Ordering::Less)) if whole && kept.is_some() && kept != of_group => {
                tracing::warn!(agent, topic = %source.topic, partition = shared.partition, position = of_group, of_commit = number,
                    committed = kept, commit = in_changelog, "the group's position is that of an earlier commit than the last in the \
                    changelog: its broker has lost a later one, and the changelog's counts");
                of_group = None;
            }
            _ => {}
        }
        // Who has set the position of the new topic means it. Where commits count whole they say so beside their positions.
        let was_set = of_group.is_some() && of_commit.is_none() && (whole || of_group != kept);
        if let Some(at) = kept.filter(|_| !was_set) {
            check_same_topic(shared, source, ids, at)?;
        }
        if let (Some(group), Some(kept)) = (of_group, kept)
            && group != kept
        {
            tracing::warn!(agent, topic = %source.topic, partition = shared.partition, position = group, committed = kept,
                "the group's position is not that of the last commit: it was set, or a commit \"at least once\" has ended \
                 half-way; the agent's tables are as they were");
        }
        forgotten |= of_group.is_none() && kept.is_some();
        let at = of_group.or(kept).unwrap_or(offsets.start);
        check_reaches(agent, &**replay, &place, offsets.end, at)?;
        if at < offsets.start {
            tracing::warn!(agent, topic = %source.topic, partition = shared.partition, committed = at, start = offsets.start,
                "records before the topic's start are gone without having been processed");
        }
        position.set(at.max(offsets.start));
    }
    Ok(forgotten)
}

//! Recovery: a task's state is its stores plus the tail of its changelog.
//!
//! Where the stores are gone that is all of it. Memory stays bounded meanwhile, and the other tasks of the thread go on.

use std::any::Any;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::checkpoints::cover;
use super::commit::{Resume, Settler};
use super::mark::{Left, Mark};
use super::pace::{Pace, Report};
use super::partition::Context;
use super::tail::{CommitVisitor, Walk};
use crate::agent::{Shared, Source};
use crate::backend::Replay;
use crate::clock::Clock;
use crate::error::{Error, ErrorKind, Result};
use crate::fault;
use crate::topic::TopicPartition;

/// So many commits with outputs are kept in mind before these are moved.
const MOST_UNMOVED: usize = 1 << 12;

/// How soon it is asked again whether a changelog is being compacted, and after which time people are told.
const ASK_AGAIN: Duration = Duration::from_millis(10);
const TELL_AFTER: Duration = Duration::from_secs(5);

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

/// Brings the tables to the last commit, moves what that commit and those before it put out, and says where to go on.
///
/// `stored` is the changelog position that the stores cover, if there is one. `None` when it was told to stop before it had
/// come to the end.
pub(super) async fn recover(
    context: &Context,
    shared: &Shared,
    settler: &mut Settler,
    stored: Option<u64>,
    stop: &watch::Receiver<bool>,
) -> Result<Option<(Resume, Recovered)>> {
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
            format!(
                "the changelog of agent {} begins at {}, its state covers only offset {from}",
                shared.agent.name, offsets.start
            ),
        )
        .at(&changelog));
    }

    // What the stores cover may be compacted meanwhile, and here some of it is read.
    let _held = if from < offsets.end && covered_beyond(shared, stored)? {
        let Some(held) = hold_cleaning(context, shared, &*settler.replay, &changelog, stop).await? else {
            return Ok(None);
        };
        Some(held)
    } else {
        None
    };
    let changelogs = settler.replay.clone();
    let mut replay = Replaying { stored, ..Replaying::new(shared, &context.clock, from, offsets.end) };
    // What has no end mark never happened; the next commit's mark says where it begins, so that readers pass over it.
    let mut walk = Walk::new(&*changelogs, &changelog, from..offsets.end)?;
    while walk.step(&mut replay)? && !walk.is_at_end() {
        if is_stopped(stop) {
            replay.cover_commits(context, settler).await?;
            return Ok(None);
        }
        if replay.is_pressed() {
            replay.cover(context, settler).await?;
        } else if replay.unmoved.len() >= MOST_UNMOVED {
            replay.put_out(settler).await?;
        }
        tokio::task::yield_now().await;
    }
    let walked = walk.walked();
    fault::point("recovery.replayed");

    if let Some((mark, _)) = &replay.last {
        check_sources(shared, mark).map_err(|error| error.at(&changelog))?;
    }
    replay.put_out(settler).await?;
    settler.replay.sync(&changelog, offsets.end).await?;
    fault::point("recovery.moved");
    let Replaying { last, commits, .. } = replay;
    let recovered = Recovered { replayed: walked.records, covered: from - offsets.start, commits, cut: walked.cut };

    let mut resume = Resume { next_offset: offsets.end, commit: 0, last_begins: from, left: Left::default() };
    if let Some((mark, _)) = last {
        resume.commit = mark.commit;
        resume.last_begins = mark.begins;
        shared.stream_time.set(mark.stream_time);
        resume.left = Left::new(restore_positions(shared, settler, &mark)?, mark.ids.clone());
        // The crash may have come before this commit's positions were published, and no other commit may follow.
        settler.publish_positions(&mark);
    } else if let Some(stored) = stored {
        // A checkpoint follows a commit, so that an empty changelog is not its own either.
        return Err(foreign_changelog(shared, stored, "there is none").at(&changelog));
    } else {
        for (source, position) in shared.sources.iter().zip(&shared.positions) {
            let partition = TopicPartition::new(source.topic.clone(), shared.partition);
            position.set(settler.replay.offsets(&partition)?.start);
        }
    }
    Ok(Some((resume, recovered)))
}

/// Whether a task is to end; also when nobody is left who would say so.
pub(super) fn is_stopped(stop: &watch::Receiver<bool>) -> bool {
    *stop.borrow() || stop.has_changed().is_err()
}

/// Whether some of what is to be read is in stores already, or may be in one that is gone: up to there commits may be compacted
/// into what has none.
fn covered_beyond(shared: &Shared, stored: Option<u64>) -> Result<bool> {
    let mut beyond = stored.is_none();
    for table in &shared.tables {
        beyond |= table.store_position()? > stored;
    }
    Ok(beyond)
}

/// Waits until nobody compacts the changelog, and keeps others from beginning. `None` when it was told to stop before.
async fn hold_cleaning(
    context: &Context,
    shared: &Shared,
    replay: &dyn Replay,
    changelog: &TopicPartition,
    stop: &watch::Receiver<bool>,
) -> Result<Option<Box<dyn Any + Send>>> {
    let begun = context.clock.moment();
    let mut told = false;
    loop {
        if let Some(held) = replay.hold_cleaning(changelog).await? {
            return Ok(Some(held));
        }
        if is_stopped(stop) {
            return Ok(None);
        }
        if !told && context.clock.moment().since(begun) >= TELL_AFTER {
            told = true;
            tracing::warn!(agent = shared.agent.name, %changelog,
                "another process compacts the changelog; tables are made of it when that is done");
        }
        context.clock.sleep(ASK_AGAIN).await;
    }
}

/// The state says that a commit begins at `stored`, and the changelog says otherwise.
pub(super) fn foreign_changelog(shared: &Shared, stored: u64, found: &str) -> Error {
    Error::new(
        ErrorKind::State,
        format!(
            "the state of agent {} does not belong to its changelog: it says that a commit begins at offset {stored}, and \
             {found}; the changelog was lost or replaced. Restore it, or drop the state with `reset` and process the \
             topics again",
            shared.agent.name
        ),
    )
}

/// Brings the tables up to date while the changelog is walked over.
pub(super) struct Replaying<'a> {
    shared: &'a Shared,
    pace: Pace<'a>,
    /// Where the state says that a commit begins.
    stored: Option<u64>,
    /// The last commit, with the offset after it.
    last: Option<(Mark, u64)>,
    /// Commits that put something out, with the offset after each.
    unmoved: Vec<(Mark, u64)>,
    commits: u64,
    /// Something was applied that the stores do not have.
    uncovered: bool,
}

impl<'a> Replaying<'a> {
    /// For a changelog in which everything counts.
    pub(super) fn new(shared: &'a Shared, clock: &'a Clock, from: u64, end: u64) -> Self {
        let pace = Pace::new(clock, from, end);
        Self { shared, pace, stored: None, last: None, unmoved: Vec::new(), commits: 0, uncovered: false }
    }

    /// Whether what the stores do not have takes so much memory that they should.
    fn is_pressed(&self) -> bool {
        self.uncovered && self.shared.tables.iter().any(|table| table.wants_commit())
    }

    /// Moves what the commits so far have put out.
    async fn put_out(&mut self, settler: &mut Settler) -> Result<()> {
        let Some((mark, end)) = &self.last else { return Ok(()) };
        // What is moved must be durable first, the sources before the changelog as in a commit: outputs that others have
        // seen cannot be taken back, and the records that they come from must not get lost under them.
        if settler.durable {
            settler.sync_sources(&mark.positions).await?;
        }
        let changelog = settler.changelog.clone();
        settler.replay.sync(&changelog, *end).await?;
        for (mark, end) in self.unmoved.drain(..) {
            settler.move_again(&mark, end).await?;
        }
        Ok(())
    }

    /// Writes what was applied to the stores, as a checkpoint after the last commit would.
    ///
    /// What compaction left comes before all commits, and has no offset to go on from: the stores cover nothing until there
    /// is one, and a recovery that ends before that begins anew.
    async fn cover(&mut self, context: &Context, settler: &mut Settler) -> Result<()> {
        if self.last.is_some() {
            return self.cover_commits(context, settler).await;
        }
        // Where the stores begin there is a commit, or they are of another changelog.
        if self.stored.is_none() {
            cover(context, self.shared, &settler.replay, Vec::new(), None).await?;
            self.uncovered = false;
        }
        Ok(())
    }

    /// The same, if there was a commit.
    async fn cover_commits(&mut self, context: &Context, settler: &mut Settler) -> Result<()> {
        let Some(begins) = self.last.as_ref().map(|(mark, _)| mark.begins).filter(|_| self.uncovered) else {
            return Ok(());
        };
        self.put_out(settler).await?;
        let unsynced = std::mem::take(&mut settler.unsynced);
        cover(context, self.shared, &settler.replay, unsynced, Some(begins)).await?;
        self.uncovered = false;
        Ok(())
    }

    /// Commits that were walked over.
    pub(super) fn commits(&self) -> u64 {
        self.commits
    }

    /// Tells people how far a standby has come, now and then, whose changelog ends at `end` by now.
    pub(super) fn tell_of_standby(&mut self, offset: u64, end: u64) {
        self.pace.goes_on_to(end);
        self.tell(offset, "the standby is catching up");
    }

    fn tell(&mut self, offset: u64, what: &str) {
        if let Some(Report { records, per_second, percent, seconds_left }) = self.pace.report(offset) {
            tracing::info!(
                agent = self.shared.agent.name,
                partition = self.shared.partition,
                offset,
                end = self.pace.end(),
                percent,
                records,
                per_second,
                seconds_left,
                "{what}"
            );
        }
    }
}

impl CommitVisitor for Replaying<'_> {
    fn expect(&mut self, table: usize, keys: &[&[u8]]) {
        if let Some(table) = self.shared.tables.get(table) {
            table.expect(keys);
        }
    }

    fn delta(&mut self, table: usize, key: &[u8], stored: Option<&[u8]>) -> Result<()> {
        self.pace.count();
        self.uncovered = true;
        match self.shared.tables.get(table) {
            Some(table) => table.apply(key, stored),
            None => Err(Error::new(
                ErrorKind::State,
                format!(
                    "the changelog of agent {} holds values of its table number {table}, and it has only {}; tables may be \
                     added at the end of the list but not taken away: use `reset` to drop the state",
                    self.shared.agent.name,
                    self.shared.tables.len()
                ),
            )),
        }
    }

    fn mark(&mut self, mark: Mark, next: u64) -> Result<()> {
        if let (None, Some(stored)) = (&self.last, self.stored)
            && mark.begins != stored
        {
            return Err(foreign_changelog(self.shared, stored, &format!("the next begins at {}", mark.begins)));
        }
        check_tables(self.shared, &mark)?;
        self.commits += 1;
        if !mark.outputs.is_empty() {
            self.unmoved.push((mark.clone(), next));
        }
        self.last = Some((mark, next));
        Ok(())
    }

    fn progress(&mut self, offset: u64) {
        self.tell(offset, "recovering");
    }
}

/// A changelog's states are only of use to the tables that wrote them.
pub(super) fn check_tables(shared: &Shared, mark: &Mark) -> Result<()> {
    let names: Vec<&str> = shared.agent.tables.iter().map(|table| table().name).collect();
    if !names.iter().zip(&mark.tables).all(|(name, stored)| name == stored) || names.len() < mark.tables.len() {
        return Err(Error::new(
            ErrorKind::State,
            format!(
                "the changelog of agent {} holds the tables {}, the agent has {}; tables may be added at the end of the \
                 list, but neither renamed, reordered nor taken away: put the list back, or drop the state with `reset`",
                shared.agent.name,
                mark.tables.join(", "),
                names.join(", ")
            ),
        ));
    }
    for (table, stored) in shared.agent.tables.iter().zip(&mark.layouts) {
        let (name, layout) = (table().name, table().fixed_layout());
        if layout != *stored {
            return Err(Error::new(
                ErrorKind::State,
                format!(
                    "the changelog of agent {} holds other states of table {name} than this build keeps: {stored:?} \
                     and {layout:?}; go back to the definition that wrote them, or drop the state with `reset`",
                    shared.agent.name
                ),
            ));
        }
    }
    Ok(())
}

/// A topic that takes the place of another holds the same records once more, by another key for one: read from its
/// start on top of what is kept, they would count twice.
pub(super) fn check_sources(shared: &Shared, mark: &Mark) -> Result<()> {
    let reads = |topic: &str| shared.sources.iter().any(|source| *source.topic == *topic);
    let gone = mark.positions.keys().find(|topic| !reads(topic));
    let new = shared.sources.iter().find(|source| {
        let known = |positions: &BTreeMap<String, u64>| positions.contains_key(&*source.topic);
        !known(&mark.positions) && !known(&mark.left)
    });
    if let (Some(gone), Some(new)) = (gone, new) {
        return Err(Error::new(
            ErrorKind::State,
            format!(
                "agent {} has read topic {gone} so far and is to read {} instead, from its start on, while it keeps what \
                 it has made of the former (a `key = …` or a second topic leads to topics of other names, too); use \
                 `reset` to drop what it keeps, or let it read both topics until it has committed, and then the new one",
                shared.agent.name, new.topic
            ),
        ));
    }
    Ok(())
}

/// Refuses a topic that was deleted and made anew since the task had come to `at`: what it holds does not follow, and as many of
/// its records would be passed over.
pub(super) fn check_same_topic(
    shared: &Shared,
    source: &Source,
    ids: &BTreeMap<String, String>,
    at: u64,
) -> Result<()> {
    let (Some(was), Some(is)) = (ids.get(&*source.topic), &source.id) else { return Ok(()) };
    // Where nothing was read nothing is passed over.
    if **was == **is || at == 0 {
        return Ok(());
    }
    let message = format!(
        "agent {} has read the topic up to offset {at}, and it was deleted and made anew since (its id was {was} and is {is}): \
         what it holds now does not follow. Use `reset` to drop what the agent keeps and process the topic from its start",
        shared.agent.name
    );
    Err(Error::new(ErrorKind::State, message).at(&TopicPartition::new(source.topic.clone(), shared.partition)))
}

/// Records that were committed and are not there would be passed over in silence when others take their offsets.
pub(super) fn check_reaches(agent: &str, replay: &dyn Replay, place: &TopicPartition, end: u64, at: u64) -> Result<()> {
    if at <= end {
        return Ok(());
    }
    // Whoever had the partition may have gone on between the two questions, for the end and for what is committed.
    let end = replay.offsets(place)?.end;
    if at <= end {
        return Ok(());
    }
    let message = format!(
        "agent {agent} has committed offset {at}, and the topic ends at {end}: its records were lost or it was made anew. \
         Restore the topic, or use `reset` to process it from the start"
    );
    Err(Error::new(ErrorKind::State, message).at(place))
}

/// Sets the positions; returns those of topics that are read no more.
fn restore_positions(shared: &Shared, settler: &Settler, mark: &Mark) -> Result<BTreeMap<String, u64>> {
    let mut left = mark.left.clone();
    left.extend(mark.positions.clone());
    for (source, position) in shared.sources.iter().zip(&shared.positions) {
        let partition = TopicPartition::new(Arc::clone(&source.topic), shared.partition);
        let offsets = settler.replay.offsets(&partition)?;
        let known = left.remove(&*source.topic);
        if let Some(at) = known {
            check_same_topic(shared, source, &mark.ids, at)?;
        }
        let at = known.unwrap_or(offsets.start);
        check_reaches(shared.agent.name, &*settler.replay, &partition, offsets.end, at)?;
        if at < offsets.start {
            tracing::warn!(agent = shared.agent.name, topic = %source.topic, partition = shared.partition, committed = at, start = offsets.start,
                "records before the topic's start are gone without having been processed");
        }
        let at = at.max(offsets.start);
        position.set(at);
        // The worker before may have ended after the commit and before it published. A closed channel means that this
        // one ends, too.
        let _ = settler.progress.send((partition, at));
    }
    Ok(left)
}

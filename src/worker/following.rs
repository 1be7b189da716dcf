//! Tables that are brought up to date from a changelog in which everything counts, however long it is: what was applied goes to
//! the stores now and then, as its owner's checkpoints do, with the changelog position that they cover then.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::checkpoints::cover;
use super::mark::{Entry, Mark};
use super::partition::Context;
use super::recovery::{Replaying, check_tables, is_stopped};
use super::setup::ask;
use super::tail::{CommitVisitor, Committed};
use super::takeover::begin_at;
use crate::agent::Shared;
use crate::backend::Replay;
use crate::clock::Moment;
use crate::error::Result;
use crate::record::Frames;
use crate::topic::TopicPartition;

/// So many offsets before its end a changelog's last mark is looked for first: it is the last record of a commit.
const LOOK_BACK: u64 = 64;

/// Tables on their way along a changelog.
pub(super) struct Following<'a> {
    context: &'a Context,
    shared: &'a Shared,
    replay: &'a Arc<dyn Replay>,
    changelog: &'a TopicPartition,
    committed: Committed,
    progress: Applied<'a>,
    /// What the stores cover: up to a mark, or to a record behind which one is known to be.
    covered: Option<u64>,
    /// Whether any record may be gone on from: there is a mark behind it, and it is of these tables.
    ends_well: bool,
    covered_at: Moment,
    /// What is applied begins there in any case.
    from: u64,
    records: u64,
}

/// Brings the tables up to date, and knows which mark they have come to.
struct Applied<'a> {
    replaying: Replaying<'a>,
    /// Offset of the last mark; all states before it are applied.
    mark: Option<u64>,
    /// The last mark that was met, with its offset.
    last: Option<(Mark, u64)>,
}

impl<'a> Following<'a> {
    /// `stored` is the mark that the stores cover; `range` is what of the changelog is there and is not covered.
    pub(super) fn new(
        context: &'a Context,
        shared: &'a Shared,
        replay: &'a Arc<dyn Replay>,
        changelog: &'a TopicPartition,
        stored: Option<u64>,
        range: Range<u64>,
    ) -> Self {
        let replaying = Replaying::new(shared, &context.clock, range.start, range.end);
        Self {
            context,
            shared,
            replay,
            changelog,
            committed: Committed::default(),
            progress: Applied { replaying, mark: stored, last: None },
            covered: stored,
            ends_well: false,
            covered_at: context.clock.moment(),
            from: range.start,
            records: 0,
        }
    }

    /// Applies the records of a batch that are in that range.
    pub(super) fn apply(&mut self, frames: &Frames, range: Range<u64>) -> Result<()> {
        self.records += self.committed.tell(frames, self.changelog, range, &mut self.progress)?;
        Ok(())
    }

    /// Tells people how far it has come, now and then.
    pub(super) fn report(&mut self, position: u64) {
        self.progress.replaying.progress(position);
    }

    /// The same of a standby, whose changelog ends at `end` by now.
    pub(super) fn report_standby(&mut self, position: u64, end: u64) {
        self.progress.replaying.tell_of_standby(position, end);
    }

    /// Records that were applied.
    pub(super) fn records(&self) -> u64 {
        self.records
    }

    /// Commits among them.
    pub(super) fn commits(&self) -> u64 {
        self.progress.replaying.commits()
    }

    /// The last mark that was met, with its offset.
    pub(super) fn into_last(self) -> Option<(Mark, u64)> {
        self.progress.last
    }

    /// Looks for the mark at the changelog's end, where commits count whole, unless it is told to stop. What was compacted has
    /// few marks, often none but that one: if it was not known the stores could get nothing before.
    pub(super) async fn look_ahead(&mut self, end: u64, stop: &watch::Receiver<bool>) -> Result<()> {
        let whole = self.context.backend.transactions().is_some_and(|transactions| transactions.count_whole());
        if !whole || end - self.from <= LOOK_BACK {
            return Ok(());
        }
        // What was given up stands there, too, and is not seen: the window grows until something is.
        let (place, least, stop) = (self.changelog.clone(), self.from, stop.clone());
        let found = ask(self.context, self.replay, move |replay| {
            let mut back = LOOK_BACK;
            loop {
                let from = end.saturating_sub(back).max(least);
                let mut reader = replay.reader(&place, from)?;
                let (mut frames, mut last, mut seen) = (Frames::default(), None, false);
                while reader.position() < end && reader.read(&mut frames)? {
                    if is_stopped(&stop) {
                        return Ok(None);
                    }
                    for record in frames.iter().flat_map(|frame| frame.records()) {
                        if !(from..end).contains(&record.offset) {
                            continue;
                        }
                        seen = true;
                        // Behind the last commit nothing may stand that has none.
                        last = match Entry::parse(&record).map_err(|error| error.at(&place))? {
                            Entry::Mark(mark) => Some(mark),
                            Entry::Delta { .. } | Entry::Output { .. } => None,
                        };
                    }
                }
                if seen || from == least {
                    return Ok(last);
                }
                back = back.saturating_mul(LOOK_BACK);
            }
        });
        if let Some(mark) = found.await? {
            check_tables(self.shared, &mark).map_err(|error| error.at(self.changelog))?;
            self.ends_well = true;
        }
        Ok(())
    }

    /// How far the stores may be said to reach.
    fn reached(&self) -> Option<u64> {
        if self.ends_well { self.committed.last().or(self.progress.mark) } else { self.progress.mark }
    }

    /// Whether what the stores do not have takes so much memory that they should.
    pub(super) fn is_pressed(&self) -> bool {
        self.reached() != self.covered && self.shared.tables.iter().any(|table| table.wants_commit())
    }

    /// Time until what was applied should go to the stores; `None` where they have it all.
    pub(super) fn cover_due_in(&self) -> Option<Duration> {
        if self.reached() == self.covered {
            return None;
        }
        if self.is_pressed() {
            return Some(Duration::ZERO);
        }
        let passed = self.context.clock.moment().since(self.covered_at);
        Some(self.context.options.checkpoint_interval.saturating_sub(passed))
    }

    /// Makes sure that nothing of what was read had been taken away before it was.
    pub(super) async fn check(&self) -> Result<()> {
        let place = self.changelog.clone();
        let offsets = ask(self.context, self.replay, move |replay| replay.offsets(&place)).await?;
        begin_at(self.shared, self.changelog, Some(self.covered.unwrap_or(self.from)), offsets).map(drop)
    }

    /// Writes what was applied to the stores.
    pub(super) async fn cover(&mut self) -> Result<()> {
        let Some(reached) = self.reached().filter(|reached| Some(*reached) != self.covered) else { return Ok(()) };
        self.check().await?;
        cover(self.context, self.shared, self.replay, Vec::new(), Some(reached)).await?;
        (self.covered, self.covered_at) = (Some(reached), self.context.clock.moment());
        Ok(())
    }
}

impl CommitVisitor for Applied<'_> {
    fn expect(&mut self, table: usize, keys: &[&[u8]]) {
        self.replaying.expect(table, keys);
    }

    fn delta(&mut self, table: usize, key: &[u8], stored: Option<&[u8]>) -> Result<()> {
        self.replaying.delta(table, key, stored)
    }

    fn mark(&mut self, mark: Mark, next: u64) -> Result<()> {
        self.mark = Some(next - 1);
        self.last = Some((mark.clone(), next - 1));
        self.replaying.mark(mark, next)
    }
}

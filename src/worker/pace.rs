//! How far a walk over a changelog has come, how fast it goes, and how long it will still take.

use std::time::Duration;

use crate::clock::{Clock, Moment};

/// How often a long walk says so.
const REPORT_EVERY: Duration = Duration::from_secs(2);

/// A walk from one offset to another.
pub(super) struct Pace<'a> {
    clock: &'a Clock,
    from: u64,
    end: u64,
    begun: Moment,
    reported: Moment,
    records: u64,
}

/// What is said of it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Report {
    /// Records since its beginning; compaction takes records away and leaves their offsets.
    pub(super) records: u64,
    pub(super) per_second: u64,
    /// By offsets.
    pub(super) percent: u64,
    /// By offsets, at the pace so far; `None` while nothing was passed over.
    pub(super) seconds_left: Option<u64>,
}

impl<'a> Pace<'a> {
    pub(super) fn new(clock: &'a Clock, from: u64, end: u64) -> Self {
        let begun = clock.moment();
        Self { clock, from, end, begun, reported: begun, records: 0 }
    }

    pub(super) fn end(&self) -> u64 {
        self.end
    }

    /// Meanwhile what is walked over goes on to there.
    pub(super) fn goes_on_to(&mut self, end: u64) {
        self.end = self.end.max(end);
    }

    /// One more record was met.
    pub(super) fn count(&mut self) {
        self.records += 1;
    }

    /// What to say now that it has come to `offset`; `None` where the last time is not long ago.
    pub(super) fn report(&mut self, offset: u64) -> Option<Report> {
        let now = self.clock.moment();
        if now.since(self.reported) < REPORT_EVERY {
            return None;
        }
        self.reported = now;
        let taken = now.since(self.begun).as_millis().max(1);
        let (done, left) = (u128::from(offset - self.from), u128::from(self.end.saturating_sub(offset)));
        let whole = |number: u128| u64::try_from(number).unwrap_or(u64::MAX);
        Some(Report {
            records: self.records,
            per_second: whole(u128::from(self.records) * 1000 / taken),
            percent: whole(done * 100 / (done + left).max(1)),
            seconds_left: (left * taken).checked_div(done).map(|millis| whole(millis.div_ceil(1000))),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_says_how_far_it_is_and_how_long_it_takes() {
        let clock = Clock::manual(0);
        let mut pace = Pace::new(&clock, 1000, 5000);
        clock.advance(Duration::from_millis(1999));
        assert_eq!(pace.report(1500), None);
        clock.advance(Duration::from_millis(2001));
        // Half of the offsets that were passed have no record any more.
        (0..500).for_each(|_| pace.count());
        let report = Report { records: 500, per_second: 125, percent: 25, seconds_left: Some(12) };
        assert_eq!(pace.report(2000), Some(report));
        assert_eq!(pace.report(2000), None, "it was said a moment ago");
        clock.advance(REPORT_EVERY);
        let done = Report { records: 500, per_second: 83, percent: 100, seconds_left: Some(0) };
        assert_eq!(pace.report(5000), Some(done));
        pace.goes_on_to(9000);
        clock.advance(REPORT_EVERY);
        let half = Report { records: 500, per_second: 62, percent: 50, seconds_left: Some(8) };
        assert_eq!(pace.report(5000), Some(half));
    }

    #[test]
    fn nothing_is_promised_before_anything_was_passed() {
        let clock = Clock::manual(0);
        let mut pace = Pace::new(&clock, 7, 9);
        clock.advance(REPORT_EVERY);
        let report = Report { records: 0, per_second: 0, percent: 0, seconds_left: None };
        assert_eq!(pace.report(7), Some(report));
        let mut empty = Pace::new(&clock, 7, 7);
        clock.advance(REPORT_EVERY);
        assert_eq!(empty.report(7).unwrap().percent, 0);
    }
}

//! Which of the records that are worked on at once are done, and up to which all are.

use std::collections::VecDeque;

/// Records in the order in which they were started: where each stands (`P`) and, once it is done, what it came to (`T`).
///
/// They may be done in any order and are taken out in the order in which they were started. A position that follows what
/// is taken out therefore never passes an unfinished record. Work that ends without an outcome, because its future was
/// dropped, leaves its record unfinished, and whatever was started after it stays behind it.
#[derive(Debug)]
pub(crate) struct Tracker<P, T> {
    started: VecDeque<Started<P, T>>,
    /// Number of the oldest.
    first: u64,
}

/// A record that was started, as whoever works on it knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ticket(u64);

#[derive(Debug)]
struct Started<P, T> {
    place: P,
    outcome: Option<T>,
}

impl<P, T> Default for Tracker<P, T> {
    fn default() -> Self {
        // Far enough from both ends for records that are started again and for those to come.
        Self { started: VecDeque::new(), first: 1 << 63 }
    }
}

impl<P, T> Tracker<P, T> {
    /// A record is started, after all others.
    pub(crate) fn start(&mut self, place: P) -> Ticket {
        self.started.push_back(Started { place, outcome: None });
        Ticket(self.first + self.started.len() as u64 - 1)
    }

    /// The record that was taken out last is started again, before all others.
    pub(crate) fn start_again(&mut self, place: P) -> Ticket {
        self.started.push_front(Started { place, outcome: None });
        self.first -= 1;
        Ticket(self.first)
    }

    /// A record is done. The first outcome counts.
    pub(crate) fn done(&mut self, ticket: Ticket, outcome: T) {
        if let Some(started) = self.at(ticket) {
            started.outcome.get_or_insert(outcome);
        }
    }

    /// Where a record stands, until it is taken out.
    pub(crate) fn place(&mut self, ticket: Ticket) -> Option<&mut P> {
        self.at(ticket).map(|started| &mut started.place)
    }

    /// Takes the oldest record out, if it is done.
    pub(crate) fn take_oldest(&mut self) -> Option<(P, T)> {
        self.started.front()?.outcome.as_ref()?;
        let Started { place, outcome } = self.started.pop_front()?;
        self.first += 1;
        Some((place, outcome?))
    }

    /// Where the oldest record stands that was not taken out.
    pub(crate) fn oldest(&self) -> Option<&P> {
        self.started.front().map(|started| &started.place)
    }

    /// Records that were not taken out, done or not.
    pub(crate) fn len(&self) -> usize {
        self.started.len()
    }

    fn at(&mut self, Ticket(number): Ticket) -> Option<&mut Started<P, T>> {
        self.started.get_mut(usize::try_from(number.checked_sub(self.first)?).ok()?)
    }
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use proptest::prelude::*;
    use proptest::test_runner::Config;

    use super::*;

    /// What happens to one of the records that are at work.
    #[derive(Clone, Copy, Debug)]
    enum Step {
        Start,
        Finish(usize),
        /// Its work is dropped in the middle, and nobody says so.
        Cancel(usize),
        /// Its work panics; the policy passes the record over, so that it counts as done.
        Panic(usize),
        /// The work that was dropped or not begun is begun again.
        Resume(usize),
        Take,
        /// What was taken out cannot be put out, and is worked on again.
        Again,
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            4 => Just(Step::Start),
            3 => (0..24_usize).prop_map(Step::Finish),
            1 => (0..24_usize).prop_map(Step::Cancel),
            1 => (0..24_usize).prop_map(Step::Panic),
            1 => (0..24_usize).prop_map(Step::Resume),
            3 => Just(Step::Take),
            1 => Just(Step::Again),
        ];
        prop::collection::vec(step, 1..80)
    }

    #[derive(Clone, Copy, Debug, PartialEq)]
    enum Work {
        Running,
        Dropped,
        Done,
        Taken,
    }

    /// Every record by its offset, with its ticket, as the test knows them apart from the tracker.
    #[derive(Default)]
    struct Model {
        tracker: Tracker<u64, u64>,
        records: Vec<(Ticket, Work)>,
        /// The position: everything below it is committed.
        committed: u64,
    }

    impl Model {
        /// The offset of the `nth` record, counted round, that is in this state.
        fn pick(&self, nth: usize, work: Work) -> Option<usize> {
            let some: Vec<usize> = (0..self.records.len()).filter(|at| self.records[*at].1 == work).collect();
            (!some.is_empty()).then(|| some[nth % some.len()])
        }

        fn step(&mut self, step: Step) {
            match step {
                Step::Start => {
                    let offset = self.records.len() as u64;
                    self.records.push((self.tracker.start(offset), Work::Running));
                }
                Step::Finish(nth) => {
                    if let Some(at) = self.pick(nth, Work::Running) {
                        self.tracker.done(self.records[at].0, at as u64);
                        self.records[at].1 = Work::Done;
                    }
                }
                Step::Cancel(nth) => {
                    if let Some(at) = self.pick(nth, Work::Running) {
                        self.records[at].1 = Work::Dropped;
                    }
                }
                Step::Panic(nth) => {
                    if let Some(at) = self.pick(nth, Work::Running) {
                        let tracker = &mut self.tracker;
                        let ticket = self.records[at].0;
                        let panicked = catch_unwind(AssertUnwindSafe(|| {
                            assert_eq!(tracker.place(ticket), Some(&mut (at as u64)));
                            // No message for each of them.
                            std::panic::resume_unwind(Box::new(()));
                        }));
                        assert!(panicked.is_err());
                        self.tracker.done(ticket, at as u64);
                        self.records[at].1 = Work::Done;
                    }
                }
                Step::Resume(nth) => {
                    if let Some(at) = self.pick(nth, Work::Dropped) {
                        self.records[at].1 = Work::Running;
                    }
                }
                Step::Take => {
                    if let Some((offset, outcome)) = self.tracker.take_oldest() {
                        assert_eq!((offset, outcome), (self.committed, self.committed), "not in their order");
                        assert_eq!(self.records[offset as usize].1, Work::Done);
                        self.records[offset as usize].1 = Work::Taken;
                        self.committed = offset + 1;
                    }
                }
                Step::Again => {
                    // Only what is not committed can be begun again: the record at hand, before its position moves.
                    if let Some((offset, _)) = self.tracker.take_oldest() {
                        let ticket = self.tracker.start_again(offset);
                        self.records[offset as usize] = (ticket, Work::Running);
                    }
                }
            }
            let unfinished = |(_, work): &(Ticket, Work)| matches!(work, Work::Running | Work::Dropped);
            let oldest = self.records.iter().position(unfinished).unwrap_or(self.records.len());
            assert!(self.committed <= oldest as u64, "{} is committed, {oldest} is unfinished", self.committed);
            let not_taken = self.records.iter().position(|(_, work)| *work != Work::Taken);
            assert_eq!(self.tracker.oldest().copied(), not_taken.map(|at| at as u64));
            assert_eq!(self.tracker.len(), self.records.len() - self.committed as usize);
        }
    }

    proptest! {
        #![proptest_config(Config { cases: 100_000, failure_persistence: None, ..Config::default() })]

        #[test]
        fn no_position_passes_an_unfinished_record(steps in steps()) {
            let mut model = Model::default();
            steps.into_iter().for_each(|step| model.step(step));
            // Whatever is left is worked on until it is done, the last first.
            while let Some(at) = model.pick(0, Work::Dropped) {
                model.records[at].1 = Work::Running;
            }
            while model.pick(0, Work::Running).is_some() {
                model.step(Step::Finish(usize::MAX - 1));
            }
            while model.tracker.len() > 0 {
                model.step(Step::Take);
            }
            prop_assert_eq!(model.committed, model.records.len() as u64);
        }
    }
}

//! Names agents that have stayed at one record for long: nobody else can tell a slow call from one that never ends.

use std::sync::Arc;
use std::time::Duration;

use crate::agent::{Beat, Pulse};
use crate::clock::Moment;

/// An agent that has been at one record for this long is named, and again whenever that time has doubled.
pub(super) const STUCK_AFTER: Duration = Duration::from_secs(5);

/// How often the agents are looked at.
pub(super) const LOOK_EVERY: Duration = Duration::from_secs(1);

/// One task's agent as it was seen from outside.
#[derive(Debug)]
pub(super) struct Watch {
    pulse: Arc<Pulse>,
    /// The last beat that differed from the one before, and when it was seen first.
    seen: Option<(Beat, Moment)>,
    /// When to name it next.
    name_after: Duration,
}

/// What is known of an agent that has stayed at one record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stuck {
    /// Place of the record's topic among the agent's.
    pub(super) source: usize,
    /// The record's offset.
    pub(super) offset: u64,
    /// For how long.
    pub(super) time: Duration,
    /// Whether the agent keeps its thread meanwhile.
    pub(super) holds_thread: bool,
}

impl Watch {
    pub(super) fn new(pulse: Arc<Pulse>) -> Self {
        Self { pulse, seen: None, name_after: STUCK_AFTER }
    }

    /// Source and offset of the record that the agent has at hand, if it is at work.
    pub(super) fn at_hand(&self) -> Option<(usize, u64)> {
        let beat = self.pulse.beat();
        beat.at_work.then_some((beat.source, beat.offset))
    }

    /// The record that the agent has at hand, and for how long, as of the last look.
    pub(super) fn stays(&self, now: Moment) -> Option<Stuck> {
        let (beat, since) = self.seen.filter(|(beat, _)| beat.at_work && *beat == self.pulse.beat())?;
        let holds_thread = self.pulse.holds_thread();
        Some(Stuck { source: beat.source, offset: beat.offset, time: now.since(since), holds_thread })
    }

    /// Looks at the agent; names it if it has not moved for long.
    pub(super) fn look(&mut self, now: Moment) -> Option<Stuck> {
        let beat = self.pulse.beat();
        let since = match self.seen {
            Some((seen, since)) if seen == beat && beat.at_work => since,
            _ => {
                self.seen = Some((beat, now));
                self.name_after = STUCK_AFTER;
                return None;
            }
        };
        let time = now.since(since);
        if time < self.name_after {
            return None;
        }
        self.name_after = time * 2;
        Some(Stuck { source: beat.source, offset: beat.offset, time, holds_thread: self.pulse.holds_thread() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;

    #[test]
    fn an_agent_is_named_while_it_stays_at_one_record_and_ever_more_seldom() {
        let clock = Clock::manual(0);
        let pulse = Arc::new(Pulse::default());
        let mut watch = Watch::new(pulse.clone());
        let mut look = |seconds: u64| {
            let mut named = Vec::new();
            for _ in 0..seconds {
                clock.advance(Duration::from_secs(1));
                named.extend(watch.look(clock.moment()).map(|stuck| (stuck.offset, stuck.time.as_secs())));
            }
            named
        };
        assert_eq!(look(20), [], "it waits for records");
        pulse.turn(true);
        pulse.at(7);
        assert_eq!(look(25), [(7, 5), (7, 10), (7, 20)]);
        pulse.at(8);
        assert_eq!(look(5), [], "another record");
        assert_eq!(look(1), [(8, 5)]);
        pulse.turn(false);
        assert_eq!(look(20), [], "it has given the turn back");
    }
}

//! Somebody who changes the settings of topics and cleans them, as `gretchen topics --set` and `gretchen clean` do.

use gretchen::backend::Replay;
use gretchen::backend::log::{LogBackend, LogOptions};
use gretchen::error::{ErrorKind, Result};
use gretchen::testing::sim::{Process, Random};
use gretchen::topic::{TopicPartition, TopicSettings};

use crate::support::PARTITIONS;

/// Topics of which each key's last record counts.
pub(super) const UPDATES: [&str; 4] = ["order-totals", "large-totals", "by-quantity", "returned"];

/// Topics of which every record counts.
const WHOLE: [&str; 6] = ["orders", "large", "by-number", "bulky", "batched", "beside"];

/// Settings, one of which each time: no run takes an hour, whatever a clock says that somebody sets.
const SETTINGS: [&[&str]; 4] = [
    &["retention_ms=none", "retention_ms=1h", "retention_ms=1d"],
    &["segment_bytes=none", "segment_bytes=4KiB", "segment_bytes=6000", "segment_bytes=16KiB"],
    &["segment_ms=none", "segment_ms=200ms", "segment_ms=3s"],
    &["delete_retention_ms=none", "delete_retention_ms=0"],
];

/// What is done with a topic.
#[derive(Clone, Copy, Debug)]
pub(super) struct Operation {
    pub(super) topic: &'static str,
    pub(super) settings: TopicSettings,
    /// Cleans it, too, however little has come.
    cleans: bool,
}

impl Operation {
    pub(super) fn new(random: &mut Random) -> Self {
        let mut one_of = |some: &[&'static str]| some[random.within(0..some.len() as u64) as usize];
        let updates = one_of(&["no", "yes"]) == "yes";
        let topic = one_of(if updates { &UPDATES } else { &WHOLE });
        let policies: &[&str] = if updates {
            &["cleanup=compact", "cleanup=compact,delete", "cleanup=delete"]
        } else {
            &["cleanup=delete"]
        };
        let settings = [policies].into_iter().chain(SETTINGS).map(one_of).collect::<Vec<_>>();
        Self { topic, settings: TopicSettings::parse(settings).unwrap(), cleans: !random.one_in(3) }
    }

    /// Whether the log has looked at the clock: from then on it has a time of its own.
    pub(super) async fn carry_out(self, log: &LogBackend) -> Result<bool> {
        match log.set_topic(self.topic, &self.settings).await {
            // Nobody has made it yet.
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
            set => set?,
        };
        if self.cleans {
            clean(log, self.topic).await?;
        }
        Ok(self.cleans && self.settings.lets_go())
    }
}

async fn clean(log: &LogBackend, topic: &str) -> Result<()> {
    for partition in 0..PARTITIONS {
        log.clean(&TopicPartition::new(topic, partition), true).await?;
    }
    Ok(())
}

/// Cleans every topic of the app as its settings say.
pub(super) fn clean_all(process: &Process, log: &LogOptions) -> Result<()> {
    let log = open(process, log)?;
    process.block_on(async {
        for topic in UPDATES.iter().chain(&WHOLE) {
            clean(&log, topic).await?;
        }
        Ok(())
    })
}

/// The log as somebody opens it who knows nothing of an app.
pub(super) fn open(process: &Process, log: &LogOptions) -> Result<LogBackend> {
    LogBackend::open(LogOptions { disk: process.disk(), ..log.clone() }, process.clock())
}

//! What topics are set to on the brokers: what those get that are made here, and what others may not be set to.

use std::sync::PoisonError;

use futures::executor::block_on;
use rdkafka::admin::{AdminOptions, ConfigEntry, ConfigSource, ResourceSpecifier};

use super::Inner;
use super::options::ANSWER_TIMEOUT;
use crate::error::{Error, ErrorKind, Result};
use crate::topic::TopicSettings;

/// The largest batch that topics take which are made here: as large as one of the log's frames.
const MOST_BYTES: &str = "67108864";

/// Time for which the tombstones of changelogs stay: a store may be so old and miss none.
const INTERNAL_TOMBSTONES_MS: u64 = 30 * 24 * 60 * 60 * 1000;

/// What brokers take from Kafka 3.6 on. Those before bound no timestamp.
const SINCE_3_6: &str = "message.timestamp.after.max.ms";

/// A topic's settings on the broker.
pub(super) type Config = [(&'static str, String)];

/// The settings without what older brokers do not know, if that is among them.
pub(super) fn without_latest(config: &Config) -> Option<Vec<(&'static str, String)>> {
    let rest: Vec<_> = config.iter().filter(|(name, _)| *name != SINCE_3_6).cloned().collect();
    (rest.len() < config.len()).then_some(rest)
}

/// What a topic's settings are on the broker.
pub(super) fn config_of(settings: &TopicSettings, internal: bool) -> Vec<(&'static str, String)> {
    let number = |bound: Option<u64>| bound.map_or_else(|| "-1".to_owned(), |bound| bound.to_string());
    let mut config = vec![
        ("cleanup.policy", settings.cleanup.to_string()),
        ("max.message.bytes", MOST_BYTES.to_owned()),
        // Timestamps are those of the records, which may be of any time.
        ("message.timestamp.type", "CreateTime".to_owned()),
        (SINCE_3_6, i64::MAX.to_string()),
        ("retention.ms", number(settings.retention_ms)),
        ("retention.bytes", number(settings.retention_bytes)),
    ];
    let tombstones = settings.delete_retention_ms.or(internal.then_some(INTERNAL_TOMBSTONES_MS));
    let sizes = [
        ("delete.retention.ms", tombstones),
        ("segment.bytes", settings.segment_bytes),
        ("segment.ms", settings.segment_ms),
    ];
    config.extend(sizes.into_iter().filter_map(|(name, size)| Some((name, size?.to_string()))));
    config
}

/// Settings that are ours to change: what else an operator has set stays.
const OURS: [&str; 9] = [
    "cleanup.policy",
    "max.message.bytes",
    "message.timestamp.type",
    SINCE_3_6,
    "retention.ms",
    "retention.bytes",
    "delete.retention.ms",
    "segment.bytes",
    "segment.ms",
];

/// How long a change of settings may take to be seen, in steps of [`STEP`](super::STEP).
const SEEN_WITHIN: u32 = 100;

impl Inner {
    /// A topic's settings as the broker has them; `None` where it does not say them, to this user or not yet. Blocks.
    fn describe(&self, name: &str) -> Result<Option<Vec<ConfigEntry>>> {
        let native = self.clients.named(name);
        let options = AdminOptions::new().request_timeout(Some(ANSWER_TIMEOUT));
        let failed = |error| self.clients.explain(&format!("cannot ask for the settings of topic {name}"), error);
        let asked = [ResourceSpecifier::Topic(&native)];
        let described = block_on(self.admin()?.describe_configs(&asked, &options)).map_err(failed)?;
        // The client does not hand on why a broker says nothing.
        let entries = described.into_iter().find_map(Result::ok).map(|resource| resource.entries);
        Ok(entries.filter(|entries| !entries.is_empty()))
    }

    /// Whether a topic is set so by now; also where the broker does not say it. The client does not hand on that a change
    /// was refused. Blocks.
    pub(super) fn is_set_to(&self, name: &str, config: &Config) -> Result<bool> {
        for _ in 0..SEEN_WITHIN {
            let Some(entries) = self.describe(name)? else { return Ok(true) };
            let has = |(name, value): &(&str, String)| {
                entries.iter().any(|entry| entry.name == *name && entry.value.as_ref() == Some(value))
            };
            if config.iter().all(has) {
                return Ok(true);
            }
            super::pause(super::STEP);
        }
        Ok(false)
    }

    /// What an operator has set of a topic beside what is ours: a change of settings takes away what it does not name. Blocks.
    pub(super) fn set_by_others(&self, name: &str) -> Result<Vec<(String, String)>> {
        let Some(entries) = self.describe(name)? else {
            let message = format!(
                "the broker does not tell this user what topic {name} is set to, and a change would take away what others \
                 have set; it takes the right DescribeConfigs"
            );
            return Err(Error::new(ErrorKind::Config, message));
        };
        let others = entries
            .into_iter()
            .filter(|entry| entry.source == ConfigSource::DynamicTopic && !OURS.contains(&&*entry.name));
        Ok(others.filter_map(|entry| Some((entry.name, entry.value?))).collect())
    }

    /// Refuses a topic of which the broker would delete what has to stay: states, or what is known of topics. It is asked
    /// once. Blocks.
    pub(super) fn check_compacted(&self, name: &str) -> Result<()> {
        let known = || self.compacted.lock().unwrap_or_else(PoisonError::into_inner);
        if known().contains(name) {
            return Ok(());
        }
        let entries = self.describe(name)?.unwrap_or_default();
        let of = |name: &str| entries.iter().find(|entry| entry.name == name)?.value.as_deref();
        match of("cleanup.policy") {
            Some("compact") => {}
            Some(policy) => {
                let native = self.clients.named(name);
                let message = format!(
                    "topic {native} keeps what must stay, and its cleanup.policy is {policy}, by which the broker deletes what \
                     is old; set it with `kafka-configs --alter --topic {native} --add-config cleanup.policy=compact`, and \
                     should it have lost something already, use `reset`"
                );
                return Err(Error::new(ErrorKind::Config, message));
            }
            None => tracing::warn!(
                topic = name,
                "the broker does not say what the topic is set to (the right DescribeConfigs); its cleanup.policy must be \
                 compact"
            ),
        }
        if let Some(tombstones_ms) = of("delete.retention.ms").and_then(|value| value.parse::<u64>().ok())
            && tombstones_ms < INTERNAL_TOMBSTONES_MS
        {
            tracing::warn!(
                topic = name,
                delete_retention_ms = tombstones_ms,
                "a worker that was away for longer than this may miss that keys were removed; topics that are made here have \
                 30 days"
            );
        }
        known().insert(name.to_owned());
        Ok(())
    }
}

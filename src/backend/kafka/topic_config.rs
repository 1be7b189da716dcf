//! What topics are set to on the brokers: what those get that are made here, and what others may not be set to.

use std::sync::PoisonError;

use rdkafka::error::RDKafkaErrorCode;

use super::Inner;
use super::admin::{Refused, change_settings, settings_of};
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

/// What of a topic's settings somebody has asked for; of one of gretchen's own they all matter.
pub(super) fn asked_for(settings: &TopicSettings, internal: bool) -> Vec<(&'static str, String)> {
    let mut config = config_of(settings, internal);
    if !internal {
        let unasked = config_of(&TopicSettings::default(), false);
        config.retain(|setting| !unasked.contains(setting));
    }
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

impl Inner {
    /// A topic's settings as the broker has them; `None` where it does not say them, to this user or not yet. Blocks.
    fn settings(&self, name: &str) -> Result<Option<Vec<(String, String)>>> {
        match settings_of(&*self.readers.client()?, &self.clients.named(name), ANSWER_TIMEOUT) {
            Ok(settings) => Ok(Some(settings)),
            Err(Refused {
                code: RDKafkaErrorCode::TopicAuthorizationFailed | RDKafkaErrorCode::UnknownTopicOrPartition,
                ..
            }) => Ok(None),
            Err(refused) => {
                Err(self.clients.explain(&format!("cannot ask for the settings of topic {name}"), refused.into()))
            }
        }
    }

    /// Sets a topic so, and leaves what an operator has set of it beside. Blocks.
    pub(super) fn change_to(&self, name: &str, config: &Config) -> Result<()> {
        let client = self.readers.client()?;
        let value = |of: &str| config.iter().find(|(name, _)| *name == of).map(|(_, value)| value.as_str());
        let changes = OURS.map(|name| (name, value(name)));
        // Those from before would refuse to take it away, too.
        let older: Vec<_> = changes.into_iter().filter(|(name, _)| *name != SINCE_3_6).collect();
        let native = self.clients.named(name);
        let change = |changes: &[(&str, Option<&str>)]| change_settings(&client, &native, changes, ANSWER_TIMEOUT);
        let changed = match change(&changes) {
            Err(Refused { code: RDKafkaErrorCode::InvalidConfig, .. }) => change(&older),
            changed => changed,
        };
        changed.map_err(|refused| {
            let doing = match &refused.why {
                Some(why) => format!("cannot set topic {name}: {why}"),
                None => format!("cannot set topic {name}"),
            };
            match refused.code {
                RDKafkaErrorCode::InvalidConfig | RDKafkaErrorCode::PolicyViolation => {
                    Error::new(ErrorKind::Config, doing)
                }
                _ => self.clients.explain(&doing, refused.into()),
            }
        })
    }

    /// Compares a topic that is there with what was asked for, once. One of which the broker would delete what has to stay is
    /// refused: states, or what is known of topics. Blocks.
    pub(super) fn check_config(&self, name: &str, config: &Config, is_kept: bool) -> Result<()> {
        let known = || self.checked.lock().unwrap_or_else(PoisonError::into_inner);
        if known().contains(name) {
            return Ok(());
        }
        let settings = match config.is_empty() {
            true => Some(Vec::new()),
            false => match self.patiently(|inner| inner.settings(name)) {
                // There is nothing but a warning at stake.
                Err(error) if !is_kept => {
                    tracing::warn!(topic = name, %error, "what the topic is set to is not compared with what was asked for");
                    return Ok(());
                }
                settings => settings?,
            },
        };
        match settings {
            Some(settings) => self.compare(name, &settings, config, is_kept)?,
            None if is_kept => tracing::warn!(
                topic = name,
                "the broker does not say what the topic is set to (the right DescribeConfigs); its cleanup.policy must be \
                 compact"
            ),
            None => {}
        }
        if let Some(wanted) = self.clients.options.replicas
            && let Some(replicas) = self.replicas(name)?.filter(|have| *have < usize::from(wanted))
        {
            tracing::warn!(
                topic = name,
                replicas,
                wanted,
                "the topic has fewer replicas than gretchen.replicas asks for, which holds for topics that are made; \
                 kafka-reassign-partitions gives it more"
            );
        }
        known().insert(name.to_owned());
        Ok(())
    }

    fn compare(&self, name: &str, settings: &[(String, String)], config: &Config, is_kept: bool) -> Result<()> {
        let has = |of: &str| settings.iter().find(|(name, _)| name == of).map(|(_, value)| value.as_str());
        if let Some(policy) = has("cleanup.policy").filter(|policy| is_kept && *policy != "compact") {
            let native = self.clients.named(name);
            let message = format!(
                "topic {native} keeps what must stay, and its cleanup.policy is {policy}, by which the broker deletes what \
                 is old; set it with `kafka-configs --alter --topic {native} --add-config cleanup.policy=compact`, and \
                 should it have lost something already, use `reset`"
            );
            return Err(Error::new(ErrorKind::Config, message));
        }
        for (setting, wanted) in config {
            // What a broker does not know it does not have; larger batches than it takes it refuses with words of its own.
            let Some(value) = has(setting).filter(|value| value != wanted && *setting != "max.message.bytes") else {
                continue;
            };
            let may_miss = *setting == "delete.retention.ms" && is_kept;
            if may_miss && value.parse::<u64>().is_ok_and(|have| have >= INTERNAL_TOMBSTONES_MS) {
                continue;
            }
            tracing::warn!(
                topic = name,
                setting,
                value,
                wanted,
                "{}",
                if may_miss {
                    "a worker that was away for longer than this may miss that keys were removed"
                } else {
                    "the topic is set to something else than was asked for; kafka-configs changes it"
                }
            );
        }
        Ok(())
    }

    /// How many replicas the partition has that has the fewest; `None` where the broker does not say. Blocks.
    fn replicas(&self, name: &str) -> Result<Option<usize>> {
        let native = self.clients.named(name);
        let metadata = self.metadata(Some(&native))?;
        let topic = metadata.topics().iter().find(|topic| topic.name() == native);
        Ok(topic.and_then(|topic| topic.partitions().iter().map(|partition| partition.replicas().len()).min()))
    }
}

//! What topics are set to on the brokers: what those get that are made here, and what others may not be set to.

use std::sync::PoisonError;

use futures::executor::block_on;
use rdkafka::admin::{AdminOptions, ConfigEntry, ConfigSource, ResourceSpecifier};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};

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

impl Inner {
    /// A topic's settings as the broker has them; `None` where it does not say them to this user. Blocks.
    fn describe(&self, name: &str) -> Result<Option<Vec<ConfigEntry>>> {
        let native = self.clients.named(name);
        let options = AdminOptions::new().request_timeout(Some(ANSWER_TIMEOUT));
        let failed = |error| self.clients.explain(&format!("cannot ask for the settings of topic {name}"), error);
        let asked = [ResourceSpecifier::Topic(&native)];
        let described = block_on(self.admin()?.describe_configs(&asked, &options)).map_err(failed)?;
        match described.into_iter().next() {
            Some(Ok(resource)) => Ok(Some(resource.entries)),
            None | Some(Err(RDKafkaErrorCode::TopicAuthorizationFailed)) => Ok(None),
            Some(Err(code)) => Err(failed(KafkaError::AdminOp(code))),
        }
    }

    /// What an operator has set of a topic beside what is ours: a change of settings takes away what it does not name. Blocks.
    pub(super) fn set_by_others(&self, name: &str) -> Result<Vec<(String, String)>> {
        let entries = self.describe(name)?.unwrap_or_default();
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
        match self.describe(name)? {
            Some(entries) => {
                let policy = entries.into_iter().find(|entry| entry.name == "cleanup.policy");
                let policy = policy.and_then(|entry| entry.value).unwrap_or_default();
                if policy != "compact" {
                    let native = self.clients.named(name);
                    let message = format!(
                        "topic {native} keeps what must stay, and its cleanup.policy is {policy}, by which the broker deletes                          what is old; set it with `kafka-configs --alter --topic {native} --add-config \
                         cleanup.policy=compact`, and should it have lost something already, use `reset`"
                    );
                    return Err(Error::new(ErrorKind::Config, message));
                }
            }
            None => tracing::warn!(
                topic = name,
                "the broker does not tell this user what the topic is set to; its cleanup.policy must be compact"
            ),
        }
        known().insert(name.to_owned());
        Ok(())
    }
}

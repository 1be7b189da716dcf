//! What a Kafka backend is told: addresses and any setting of librdkafka's, and secrets that nobody prints.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::backend::BATCH_BYTES;
use crate::backend::secret::{Secret, decoded};
use crate::error::{Error, ErrorKind, Result};
use crate::record::MAX_RECORD_BYTES;

/// How long a broker may take to answer before an error says so.
pub(super) const ANSWER_TIMEOUT: Duration = Duration::from_secs(8);

/// The topic that holds what is known of topics, where no other is named.
const TOPICS: &str = "gretchen-topics";

/// Settings that decide what is promised; the backend alone sets them.
const OWN: &[(&str, &str)] = &[
    ("group.id", "it is the app's name with the agent's; set gretchen.prefix to put something before it"),
    ("transactional.id", "it is that of the task; set gretchen.prefix to put something before it"),
    ("enable.auto.commit", "positions are committed with what came of the records"),
    ("enable.auto.offset.store", "positions are committed with what came of the records"),
    ("enable.idempotence", "without it what is sent again would be there twice"),
    ("isolation.level", "what is read is always committed"),
    ("partition.assignment.strategy", "it is cooperative-sticky, so that a member keeps what it has"),
    ("enable.partition.eof", "it is needed to know that nothing is left to read"),
    ("bootstrap.servers", "it is what the address says: kafka://host:9092,host:9092"),
    ("group.protocol", "groups are of the classic protocol"),
    ("auto.offset.reset", "a group without a position begins at a topic's start, and `reset` sets another"),
    ("allow.auto.create.topics", "topics are created with what the app says of them"),
];

/// Other names that librdkafka has for its settings: what is set by one must not be set beside it by the other.
const ALIASES: &[(&str, &str)] = &[
    ("metadata.broker.list", "bootstrap.servers"),
    ("max.in.flight", "max.in.flight.requests.per.connection"),
    ("compression.codec", "compression.type"),
    ("message.timeout.ms", "delivery.timeout.ms"),
    ("message.send.max.retries", "retries"),
    ("request.required.acks", "acks"),
    ("queue.buffering.max.ms", "linger.ms"),
    ("fetch.message.max.bytes", "max.partition.fetch.bytes"),
    ("sasl.mechanisms", "sasl.mechanism"),
];

/// The one name that is used for a setting here.
fn name_of(setting: &str) -> &str {
    ALIASES.iter().find(|(alias, _)| *alias == setting).map_or(setting, |(_, name)| name)
}

/// How often a record takes effect.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Guarantee {
    /// Once, for readers of what is committed: state, outputs and positions are one transaction.
    #[default]
    ExactlyOnce,
    /// Once or, after a crash, several times: outputs are written first, then the states, then the positions.
    AtLeastOnce,
}

/// Where a Kafka is, and how it is talked to.
#[derive(Clone, Debug)]
pub struct KafkaOptions {
    /// `host:port`, several with commas between.
    pub servers: String,
    /// Settings of librdkafka by name. All of them are kept from being shown: only their names say which are secret.
    pub settings: BTreeMap<String, Secret>,
    /// Stands before the name of every topic, group and transaction, so that several parties can share a cluster.
    pub prefix: String,
    /// The topic, named behind the prefix, that holds properties and schemas of all topics. Apps that share topics share it.
    pub topics: String,
    /// Replicas of topics that are created; `None` leaves it to the broker.
    pub replicas: Option<u16>,
    /// How often a record takes effect.
    pub guarantee: Guarantee,
    /// The most bytes of a record's value, and of its key.
    pub max_record_bytes: usize,
    /// Bytes of a partition's records that publishers put together before they hand them to the client.
    pub batch_bytes: usize,
    /// Gretchen's own settings that were set.
    named: BTreeSet<String>,
}

impl KafkaOptions {
    /// A Kafka at these addresses.
    pub fn new(servers: impl Into<String>) -> Self {
        Self {
            servers: servers.into(),
            settings: BTreeMap::new(),
            prefix: String::new(),
            topics: TOPICS.to_owned(),
            replicas: None,
            guarantee: Guarantee::default(),
            max_record_bytes: MAX_RECORD_BYTES,
            batch_bytes: BATCH_BYTES,
            named: BTreeSet::new(),
        }
    }

    /// What an address says: `kafka://host:9092[,host:9092][?setting=value&…]`. Values may be percent-encoded.
    pub fn parse(url: &str) -> Result<Self> {
        let wrong = |why: String| {
            let message = format!(
                "the address of Kafka is wrong: {why}; write kafka://host:9092 or kafka://host:9092,host:9092?setting=value"
            );
            Err(Error::new(ErrorKind::Config, message))
        };
        let Some(rest) = url.strip_prefix("kafka:") else { return wrong("it does not begin with kafka:".into()) };
        let rest = rest.trim_start_matches('/');
        let (servers, query) = rest.split_once('?').unwrap_or((rest, ""));
        let servers = servers.trim_end_matches('/');
        if servers.contains('@') {
            return wrong(
                "it names a user; say ?sasl.username=…, and the password in the environment or the file".into(),
            );
        }
        let mut list = Vec::new();
        for server in servers.split(',') {
            let (host, port) = match server.rsplit_once(':') {
                Some((host, port)) if !server.ends_with(']') => (host, port),
                _ => (server, "9092"),
            };
            if host.is_empty() || host.contains('/') || port.parse::<u16>().is_err() {
                return wrong(format!("{server:?} is no host and port"));
            }
            list.push(format!("{host}:{port}"));
        }
        let mut options = Self::new(list.join(","));
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let Some((name, value)) = pair.split_once('=') else {
                return wrong(format!("{:?} in it sets nothing", decoded(pair)));
            };
            options.set(&decoded(name), &decoded(value))?;
        }
        Ok(options)
    }

    /// Sets one of librdkafka's settings, or one of `gretchen.prefix`, `gretchen.topics`, `gretchen.replicas` and
    /// `gretchen.guarantee` (`exactly_once` or `at_least_once`).
    pub fn set(&mut self, name: &str, value: &str) -> Result<()> {
        let refused = |why: String| Err(Error::new(ErrorKind::Config, why));
        if let Some((_, why)) = OWN.iter().find(|(own, _)| *own == name_of(name)) {
            return refused(format!("Kafka's setting {name} cannot be set: {why}"));
        }
        match name {
            "gretchen.prefix" => {
                if !value.is_empty() {
                    crate::topic::check_name(value)?;
                }
                value.clone_into(&mut self.prefix);
            }
            "gretchen.topics" => {
                crate::topic::check_name(value)?;
                value.clone_into(&mut self.topics);
            }
            "gretchen.replicas" => match value.parse() {
                Ok(replicas) if replicas > 0 => self.replicas = Some(replicas),
                _ => return refused(format!("gretchen.replicas is {value:?}; it must be a whole number from 1 on")),
            },
            "gretchen.guarantee" => match value {
                "exactly_once" => self.guarantee = Guarantee::ExactlyOnce,
                "at_least_once" => self.guarantee = Guarantee::AtLeastOnce,
                _ => {
                    return refused(format!(
                        "gretchen.guarantee is {value:?}; it must be exactly_once or at_least_once"
                    ));
                }
            },
            name if name.starts_with("gretchen.") => {
                return refused(format!(
                    "there is no setting {name}; there are gretchen.prefix, gretchen.topics, gretchen.replicas and \
                     gretchen.guarantee"
                ));
            }
            _ => {
                self.settings.insert(name_of(name).to_owned(), Secret::new(value));
                return Ok(());
            }
        }
        self.named.insert(name.to_owned());
        Ok(())
    }

    /// Whether something was set: by [`KafkaOptions::parse`] or [`KafkaOptions::set`].
    pub(crate) fn is_set(&self, name: &str) -> bool {
        self.settings.contains_key(name_of(name)) || self.named.contains(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_says_servers_and_settings() {
        let options = KafkaOptions::parse(
            "kafka://one:9092,two?security.protocol=SASL_SSL&sasl.password=a%26b%25&gretchen.prefix=blue.&gretchen.topics=known&gretchen.replicas=3",
        )
        .unwrap();
        assert_eq!((&*options.servers, &*options.prefix, options.replicas), ("one:9092,two:9092", "blue.", Some(3)));
        assert_eq!(&*options.topics, "known");
        assert_eq!(options.settings["sasl.password"].reveal(), "a&b%");
        assert_eq!(options.settings.len(), 2);
        assert!(!format!("{options:?}").contains("a&b"), "{options:?}");
    }

    /// librdkafka takes either name, and of two the one that it happens to be told last.
    #[test]
    fn a_setting_has_one_name() {
        let mut options = KafkaOptions::parse("kafka://host?compression.codec=zstd&sasl.mechanism=PLAIN").unwrap();
        options.set("compression.type", "gzip").unwrap();
        options.set("sasl.mechanisms", "SCRAM-SHA-256").unwrap();
        let set: Vec<(&str, &str)> =
            options.settings.iter().map(|(name, value)| (name.as_str(), value.reveal())).collect();
        assert_eq!(set, [("compression.type", "gzip"), ("sasl.mechanism", "SCRAM-SHA-256")]);
        assert!(options.is_set("compression.codec") && !options.is_set("message.timeout.ms"));
    }

    /// The names are those that librdkafka takes for the same.
    #[test]
    fn librdkafka_knows_the_aliases() {
        for (alias, name) in ALIASES {
            let value = |set: &str| {
                let mut config = rdkafka::ClientConfig::new();
                let value = match *name {
                    "bootstrap.servers" => "host:9",
                    "compression.type" => "gzip",
                    "sasl.mechanism" => "PLAIN",
                    _ => "7",
                };
                config.set(set, value);
                config.create_native_config().and_then(|native| native.get(name)).unwrap()
            };
            assert_eq!(value(alias), value(name), "{alias}");
        }
    }

    #[test]
    fn what_cannot_be_meant_is_refused() {
        for (url, wanted) in [
            ("kafka://", "no host and port"),
            ("kafka://host:port", "no host and port"),
            ("kafka://me:secret@host", "names a user"),
            ("kafka://host?acks", "sets nothing"),
            ("kafka://host?group.id=mine", "cannot be set"),
            (
                "kafka://host?metadata.broker.list=other",
                "metadata.broker.list cannot be set: it is what the address says",
            ),
            ("kafka://host?auto.offset.reset=latest", "cannot be set"),
            ("kafka://host?gretchen.replica=3", "there are gretchen.prefix"),
            ("kafka://host?gretchen.replicas=0", "from 1 on"),
            ("kafka://host?gretchen.guarantee=some", "exactly_once or at_least_once"),
            ("kafka://host?gretchen.prefix=a/b", "cannot name a topic"),
            ("kafka://host?gretchen.topics=a/b", "cannot name a topic"),
            ("kafka://host?gretchen.topics=", "it is empty"),
        ] {
            let error = KafkaOptions::parse(url).unwrap_err();
            assert!(error.message().contains(wanted), "{url}: {error}");
            assert_eq!(error.kind(), ErrorKind::Config);
        }
    }
}

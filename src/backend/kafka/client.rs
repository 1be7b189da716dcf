//! Clients of librdkafka: how they are set up, and what their errors mean.

use std::sync::{Arc, Mutex, PoisonError};

use rdkafka::ClientContext;
use rdkafka::config::{ClientConfig, FromClientConfigAndContext, RDKafkaLogLevel};
use rdkafka::consumer::ConsumerContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use super::farewell::Farewells;
use super::options::KafkaOptions;
use crate::error::{Error, ErrorKind, Result};

/// What the clients' own threads have met last, for the error of a call that only timed out.
#[derive(Clone, Debug, Default)]
pub(super) struct Trouble(Arc<Mutex<Met>>);

#[derive(Clone, Debug, Default)]
struct Met {
    /// What tells most of what came since a broker answered.
    last: Option<(u8, String)>,
    /// One that leads a partition has answered: the settings are right, and what fails now may work again. The first that is
    /// asked answers also where nobody reaches those that it names.
    answered: bool,
}

impl Trouble {
    /// The leader of a partition has answered.
    pub(super) fn is_over(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Met { last: None, answered: true };
    }

    /// Keeps what tells most: a refused password tells more than that no broker is left.
    fn note(&self, weight: u8, what: String) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.last.as_ref().is_none_or(|(have, _)| *have <= weight) {
            kept.last = Some((weight, what));
        }
    }

    fn met(&self) -> Met {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

const NO_BROKER: u8 = 0;
const NOT_REACHED: u8 = 1;
const NO_SUCH_HOST: u8 = 2;
const TLS: u8 = 3;
const REFUSED: u8 = 4;

/// Hears what a client has to say.
#[derive(Clone, Debug, Default)]
pub(super) struct Context {
    pub(super) trouble: Trouble,
}

impl ClientContext for Context {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        match level {
            // One set of settings serves producers and consumers, and each says which it does not need.
            _ if facility == "CONFWARN" => tracing::debug!(target: "librdkafka", "{message}"),
            RDKafkaLogLevel::Emerg | RDKafkaLogLevel::Alert | RDKafkaLogLevel::Critical => {
                tracing::error!(target: "librdkafka", facility, "{message}");
            }
            // A broker that goes away and comes back is no error here: what fails of it is.
            RDKafkaLogLevel::Error | RDKafkaLogLevel::Warning => {
                tracing::debug!(target: "librdkafka", facility, "{message}");
            }
            _ => tracing::trace!(target: "librdkafka", facility, "{message}"),
        }
    }

    fn error(&self, error: KafkaError, reason: &str) {
        let weight = match error.rdkafka_error_code() {
            Some(RDKafkaErrorCode::Authentication) => REFUSED,
            Some(RDKafkaErrorCode::SSL) => TLS,
            Some(RDKafkaErrorCode::Resolve) => NO_SUCH_HOST,
            // So a broker says that it wants another certificate, or any at all: by OpenSSL's name for its alert.
            Some(RDKafkaErrorCode::BrokerTransportFailure) if reason.contains(":SSL routines:") => TLS,
            Some(RDKafkaErrorCode::BrokerTransportFailure) => NOT_REACHED,
            _ => NO_BROKER,
        };
        self.trouble.note(weight, reason.to_owned());
        tracing::debug!(target: "librdkafka", %error, "{reason}");
    }
}

impl ConsumerContext for Context {}

/// Makes clients by the options, and explains their errors.
#[derive(Clone, Debug)]
pub(super) struct Clients {
    pub(super) options: Arc<KafkaOptions>,
    pub(super) context: Context,
    pub(super) farewells: Arc<Farewells>,
}

/// What a client is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role<'a> {
    /// Reads by position.
    Reader,
    /// Asks where partitions end, with what is not committed.
    Written,
    /// A member of a group.
    Member(&'a str),
    /// Asks for positions of a group.
    Group(&'a str),
    /// Appends.
    Producer,
    /// Appends by transactions of that name.
    Transactions(&'a str),
    /// Makes topics and looks at them.
    Admin,
}

impl Clients {
    pub(super) fn new(options: KafkaOptions) -> Self {
        Self { options: Arc::new(options), context: Context::default(), farewells: Arc::default() }
    }

    /// A client with the context that hears it.
    pub(super) fn make<C, T>(&self, role: Role<'_>, context: C) -> Result<T>
    where
        C: ClientContext,
        T: FromClientConfigAndContext<C>,
    {
        self.config(role)
            .create_with_context(context)
            .map_err(|error| self.explain("cannot begin to talk to Kafka", error))
    }

    fn config(&self, role: Role<'_>) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("client.id", format!("gretchen-{}", std::process::id()));
        // Between a broker that is gone and one that is back little should pass.
        config.set("reconnect.backoff.max.ms", "2000");
        match role {
            Role::Reader => {
                // What waits at the client is bounded for each partition.
                config.set("queued.max.messages.kbytes", "8192");
                config.set("fetch.queue.backoff.ms", "10");
                // How soon it is known that nothing is left to read.
                config.set("fetch.wait.max.ms", "50");
                config.set("check.crcs", "true");
            }
            Role::Member(_) => {
                config.set("session.timeout.ms", "10000");
                config.set("heartbeat.interval.ms", "2000");
                config.set("max.poll.interval.ms", super::consumer::MAX_POLL_INTERVAL.as_millis().to_string());
            }
            Role::Producer | Role::Transactions(_) => {
                config.set("compression.type", "lz4");
                config.set("linger.ms", "1");
                // A commit bounds what waits, and a table's value may be as large as a batch of the log.
                config.set("queue.buffering.max.messages", "0");
                config.set("queue.buffering.max.kbytes", "2147483647");
                config.set("message.max.bytes", "67108864");
                config.set("delivery.timeout.ms", "30000");
                config.set("transaction.timeout.ms", "30000");
            }
            Role::Written | Role::Group(_) | Role::Admin => {}
        }
        for (name, value) in &self.options.settings {
            config.set(name, value.reveal());
        }
        // A shorter session needs more frequent signs of life.
        if let (Role::Member(_), Some(session)) = (role, self.options.settings.get("session.timeout.ms"))
            && let Ok(session_ms) = session.reveal().parse::<u32>()
            && !self.options.is_set("heartbeat.interval.ms")
        {
            config.set("heartbeat.interval.ms", (session_ms / 4).max(1).to_string());
        }
        config.set("bootstrap.servers", &self.options.servers);
        match role {
            Role::Producer | Role::Transactions(_) => {
                config.set("enable.idempotence", "true");
            }
            Role::Reader | Role::Written | Role::Member(_) | Role::Group(_) | Role::Admin => {
                config.set("allow.auto.create.topics", "false");
                config.set("enable.auto.commit", "false");
                config.set("enable.auto.offset.store", "false");
                let isolation = if role == Role::Written { "read_uncommitted" } else { "read_committed" };
                config.set("isolation.level", isolation);
                config.set("auto.offset.reset", "error");
                config.set("enable.partition.eof", "true");
                config.set("partition.assignment.strategy", "cooperative-sticky");
            }
        }
        match role {
            Role::Member(group) | Role::Group(group) => {
                config.set("group.id", self.named(group));
            }
            Role::Transactions(name) => {
                config.set("transactional.id", self.named(name));
            }
            _ => {}
        }
        config
    }

    /// A name of ours as the cluster has it.
    pub(super) fn named(&self, name: &str) -> String {
        format!("{}{name}", self.options.prefix)
    }

    /// What an error of librdkafka's means, and what can be done.
    pub(super) fn explain(&self, doing: &str, error: KafkaError) -> Error {
        if let KafkaError::ClientConfig(_, why, name, _) = &error {
            // The value may be a secret, and librdkafka's text may hold it.
            let why = if crate::backend::is_secret(name) { "its value does not fit" } else { why };
            return Error::new(ErrorKind::Config, format!("Kafka's setting {name} is wrong: {why}"));
        }
        if let KafkaError::ClientCreation(why) = &error
            && why.contains("SASL mechanism")
        {
            let message =
                format!("{doing}: {why}; set sasl.mechanism to PLAIN, SCRAM-SHA-256, SCRAM-SHA-512 or OAUTHBEARER");
            return Error::new(ErrorKind::Config, message);
        }
        let code = match &error {
            // Its own code tells of the kind of error only.
            KafkaError::Transaction(error) => Some(error.code()),
            KafkaError::AdminOp(code) => Some(*code),
            error => error.rdkafka_error_code(),
        };
        let (kind, hint) = match code {
            Some(code) => self.meaning(code),
            None => (ErrorKind::Io, String::new()),
        };
        let message = if hint.is_empty() { doing.to_owned() } else { format!("{doing}; {hint}") };
        Error::new(kind, message).with_source(Plain(error.to_string()))
    }

    fn meaning(&self, code: RDKafkaErrorCode) -> (ErrorKind, String) {
        use RDKafkaErrorCode as Code;
        match code {
            Code::UnknownTopicOrPartition | Code::UnknownTopic | Code::UnknownPartition => {
                (ErrorKind::NotFound, String::new())
            }
            Code::TopicAuthorizationFailed
            | Code::GroupAuthorizationFailed
            | Code::ClusterAuthorizationFailed
            | Code::TransactionalIdAuthorizationFailed => {
                let user = match self.options.settings.get("sasl.username") {
                    Some(user) => format!("the user {:?} (sasl.username)", user.reveal()),
                    None => "an anonymous client (sasl.username is not set)".to_owned(),
                };
                (
                    ErrorKind::Config,
                    format!("{user} has no right to do so; give it one, or let somebody with it make what is missing"),
                )
            }
            Code::OperationTimedOut
            | Code::BrokerTransportFailure
            | Code::AllBrokersDown
            | Code::RequestTimedOut
            | Code::TimedOutQueue
            | Code::MessageTimedOut
            | Code::Authentication
            | Code::SSL
            | Code::Resolve => self.unreachable(),
            Code::UnsupportedFeature | Code::UnsupportedVersion => (
                ErrorKind::Unsupported,
                format!("the broker at {} (backend) is too old for it; use Kafka 2.5 or later", self.options.servers),
            ),
            Code::MessageSizeTooLarge => {
                (ErrorKind::Limit, "raise max.message.bytes of the topic, or send less at once".to_owned())
            }
            Code::NotEnoughReplicas | Code::NotEnoughReplicasAfterAppend => (
                ErrorKind::Io,
                "fewer replicas are in sync than min.insync.replicas of the topic asks for; start the missing brokers"
                    .to_owned(),
            ),
            Code::InvalidReplicationFactor => (
                ErrorKind::Config,
                "there are fewer brokers than gretchen.replicas, or the broker's default, asks for".to_owned(),
            ),
            Code::Fenced | Code::ProducerFenced | Code::InvalidProducerEpoch => {
                (ErrorKind::Unsettled, "another owner has taken over".to_owned())
            }
            Code::FencedInstanceId => (
                ErrorKind::Unsettled,
                "another worker goes by the same group.instance.id and has taken this one's place; give every worker one of \
                 its own"
                    .to_owned(),
            ),
            _ => (ErrorKind::Io, String::new()),
        }
    }

    /// Why no broker answers, by what the client's threads have met.
    fn unreachable(&self) -> (ErrorKind, String) {
        let servers = &self.options.servers;
        let Met { last, answered } = self.context.trouble.met();
        let Some((weight, reason)) = last else {
            let what = "see whether it runs, and whether it wants security.protocol";
            return (ErrorKind::Io, format!("no broker at {servers} (backend) has answered; {what}"));
        };
        // Names, passwords and certificates were right before.
        let kind = if answered || weight < NO_SUCH_HOST { ErrorKind::Io } else { ErrorKind::Config };
        let hint = match weight {
            REFUSED => format!(
                "the broker at {servers} refuses who we are ({reason}); look at sasl.username, sasl.password and sasl.mechanism"
            ),
            TLS => format!(
                "TLS with {servers} fails ({reason}); look at security.protocol, at ssl.ca.location, and where the broker \
                 wants to see a certificate at ssl.keystore.location"
            ),
            NO_SUCH_HOST => format!("there is no host of that name ({reason}); look at backend"),
            _ => format!(
                "no broker at {servers} (backend) has answered ({reason}); see whether it runs, and whether it wants security.protocol"
            ),
        };
        (kind, hint)
    }
}

/// An error of librdkafka's as a text: its own type cannot be kept, and may hold a setting's value.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Plain(String);

#[cfg(test)]
mod tests {
    use super::*;

    /// At the start a name that nobody knows is a wrong setting, and later a server for names that is away.
    #[test]
    fn what_was_right_before_is_no_wrong_setting() {
        let clients = Clients::new(KafkaOptions::new("host:9"));
        let timed_out =
            || clients.explain("cannot ask", KafkaError::MetadataFetch(RDKafkaErrorCode::OperationTimedOut));
        assert_eq!(timed_out().kind(), ErrorKind::Io);
        for (weight, kind, hint) in [
            (NOT_REACHED, ErrorKind::Io, "has answered (why)"),
            (NO_SUCH_HOST, ErrorKind::Config, "look at backend"),
            (TLS, ErrorKind::Config, "ssl.ca.location"),
            (REFUSED, ErrorKind::Config, "sasl.password"),
        ] {
            clients.context.trouble.note(weight, "why".to_owned());
            assert_eq!(timed_out().kind(), kind);
            assert!(timed_out().message().contains(hint), "{}", timed_out());
        }
        clients.context.trouble.is_over();
        assert!(!timed_out().message().contains("why"), "it is over: {}", timed_out());
        clients.context.trouble.note(NO_SUCH_HOST, "gone".to_owned());
        assert_eq!(timed_out().kind(), ErrorKind::Io);
        assert!(timed_out().message().contains("no host of that name (gone)"), "{}", timed_out());
    }
}

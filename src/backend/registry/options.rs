//! What a registry's client is told: where the registry is, who asks, and under which names schemas are kept there.

use std::fmt;
use std::str::FromStr;

use crate::backend::secret::Secret;
use crate::error::{Error, ErrorKind, Result};

/// Where a schema registry is, and how it is used.
#[derive(Clone, Debug)]
pub struct RegistryOptions {
    /// What the paths of Confluent's API are put behind: `http://host:8081`.
    pub(super) url: String,
    /// Who asks.
    pub login: Login,
    /// Whether a schema that is written is registered where the registry does not have it yet.
    pub register: bool,
    /// What the subjects of values are called.
    pub naming: SubjectNaming,
}

/// Who asks the registry.
#[derive(Clone, Debug, Default)]
pub enum Login {
    /// Anybody.
    #[default]
    Anonymous,
    /// A user, by HTTP's basic authentication.
    User {
        /// The user's name.
        name: String,
        /// The user's password.
        password: Secret,
    },
    /// Whoever has this bearer token.
    Token(Secret),
}

/// What the subject is called that the schemas of a topic's values are kept under: the three strategies that Confluent's
/// serializers have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SubjectNaming {
    /// `TOPIC-value`, so that all values of a topic are versions of each other.
    #[default]
    Topic,
    /// The full name of the record.
    Record,
    /// `TOPIC-` and the full name of the record.
    TopicRecord,
}

impl RegistryOptions {
    /// The registry at an address: `http://host:8081`, `https://host/apis/ccompat/v7`.
    pub fn new(url: &str) -> Result<Self> {
        let wrong = |why: &str| {
            let message = format!("the address of the schema registry is wrong: {why}; write http://host:8081");
            Err(Error::new(ErrorKind::Config, message))
        };
        let Some(rest) = url.strip_prefix("http://").or_else(|| url.strip_prefix("https://")) else {
            return wrong("it begins neither with http:// nor with https://");
        };
        let host = rest.split('/').next().unwrap_or_default();
        // An address is shown in messages and in the list of processes, a password must be in neither.
        if host.contains('@') {
            return wrong("it names a user; say registry_user and registry_password");
        }
        if host.is_empty() || url.contains(|c: char| c.is_whitespace() || c.is_control()) {
            return wrong("it names no host");
        }
        if url.contains(['?', '#', ',']) {
            return wrong("it has more than a host and a path");
        }
        let url = url.trim_end_matches('/').to_owned();
        Ok(Self { url, login: Login::default(), register: true, naming: SubjectNaming::default() })
    }

    /// The address, which holds no secret.
    pub fn url(&self) -> &str {
        &self.url
    }
}

impl SubjectNaming {
    /// The subject of the values of a topic that are records of that full name.
    pub fn subject(self, topic: &str, record: &str) -> String {
        match self {
            Self::Topic => format!("{topic}-value"),
            Self::Record => record.to_owned(),
            Self::TopicRecord => format!("{topic}-{record}"),
        }
    }
}

impl FromStr for SubjectNaming {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "topic" => Ok(Self::Topic),
            "record" => Ok(Self::Record),
            "topic-record" => Ok(Self::TopicRecord),
            _ => Err(format!("{text:?} is none of topic, record, topic-record")),
        }
    }
}

impl fmt::Display for SubjectNaming {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Topic => "topic",
            Self::Record => "record",
            Self::TopicRecord => "topic-record",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_a_host_and_a_path() {
        for (url, kept) in [
            ("http://host:8081", "http://host:8081"),
            ("https://host/apis/ccompat/v7/", "https://host/apis/ccompat/v7"),
        ] {
            assert_eq!(RegistryOptions::new(url).unwrap().url(), kept);
        }
        for (url, wanted) in [
            ("host:8081", "begins neither"),
            ("http://me:secret@host", "names a user"),
            ("http://", "no host"),
            ("http:///path", "no host"),
            ("http://host?x=y", "more than a host"),
            ("http://one,http://two", "more than a host"),
        ] {
            let error = RegistryOptions::new(url).unwrap_err();
            assert!(error.message().contains(wanted) && !error.message().contains("secret"), "{url}: {error}");
            assert_eq!(error.kind(), ErrorKind::Config);
        }
    }

    #[test]
    fn secrets_are_not_shown() {
        let mut options = RegistryOptions::new("http://host").unwrap();
        options.login = Login::User { name: "me".into(), password: Secret::new("hush") };
        assert!(!format!("{options:?}").contains("hush"), "{options:?}");
        options.login = Login::Token(Secret::new("hush"));
        assert!(!format!("{options:?}").contains("hush"), "{options:?}");
    }

    #[test]
    fn subjects_are_named_as_confluents_serializers_do() {
        for (naming, subject) in [
            (SubjectNaming::Topic, "orders-value"),
            (SubjectNaming::Record, "shop.Order"),
            (SubjectNaming::TopicRecord, "orders-shop.Order"),
        ] {
            assert_eq!(naming.subject("orders", "shop.Order"), subject);
            assert_eq!(naming.to_string().parse(), Ok(naming));
        }
    }
}

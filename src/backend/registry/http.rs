//! Requests to the registry, and what its answers mean.

use serde_json::Value;

use super::options::RegistryOptions;
use super::transport::{Failed, Method, Transport};
use crate::error::{Error, ErrorKind, Result};

/// Bytes of an answer that is shown although it is no answer of a registry's.
const SHOWN: usize = 200;

/// Talks to one registry.
pub(super) struct Http {
    transport: Transport,
    url: String,
}

impl Http {
    pub(super) fn new(options: &RegistryOptions) -> Result<Self> {
        Ok(Self { transport: Transport::new(&options.login)?, url: options.url.clone() })
    }

    pub(super) fn get(&self, path: &str) -> Result<Value> {
        self.ask(Method::Get, path, None)
    }

    pub(super) fn post(&self, path: &str, body: &Value) -> Result<Value> {
        self.ask(Method::Post, path, Some(body))
    }

    pub(super) fn put(&self, path: &str, body: &Value) -> Result<Value> {
        self.ask(Method::Put, path, Some(body))
    }

    /// Asks, and sorts what comes back by what can be done about it. Of the kinds of error [`ErrorKind::Io`] may pass,
    /// [`ErrorKind::NotFound`] and [`ErrorKind::Schema`] are the registry's last word on what was asked for, and
    /// [`ErrorKind::Config`] asks for an operator. Blocks for some seconds at most.
    fn ask(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Value> {
        let url = &self.url;
        let body = body.map(Value::to_string);
        let (status, text) = match self.transport.send(method, &format!("{url}{path}"), body.as_deref()) {
            Ok(answer) => answer,
            Err(Failed { passes, why }) => {
                let message = format!("the schema registry at {url} (registry) does not answer: {why}");
                return Err(match passes {
                    true => Error::new(ErrorKind::Io, message + "; see whether it runs and can be reached"),
                    false => Error::new(ErrorKind::Config, message),
                });
            }
        };
        let json = serde_json::from_str::<Value>(&text).ok();
        let said = json.as_ref().and_then(|json| json.get("message")).and_then(Value::as_str);
        let code = json.as_ref().and_then(|json| json.get("error_code")).and_then(Value::as_i64).unwrap_or(0);
        let said = said.map_or_else(|| shown(&text), str::to_owned);
        let (kind, message) = match (status, json) {
            (200..=299, Some(json)) => return Ok(json),
            (200..=299, None) => {
                (ErrorKind::Config, format!("answers {path} with what is no JSON ({said}); is it a schema registry?"))
            }
            // Codes of its own begin with 404; without one the path is not there.
            (404, _) if (40_400..40_500).contains(&code) => (ErrorKind::NotFound, format!("says: {said}")),
            (404 | 405, _) => (
                ErrorKind::Config,
                format!(
                    "has no {path}: give the address that Confluent's API is under, e.g. http://host:8081, or \
                     http://host:8080/apis/ccompat/v7 of an Apicurio"
                ),
            ),
            (401 | 403, _) => (
                ErrorKind::Config,
                format!(
                    "refuses who we are, or what we ask for ({status}: {said}); look at registry_user, \
                     registry_password and registry_token, and at the rights that these have"
                ),
            ),
            (409 | 422, _) => (ErrorKind::Schema, format!("refuses it ({status}): {said}")),
            (408 | 429 | 500.., _) => (ErrorKind::Io, format!("cannot answer now ({status}): {said}")),
            _ => (ErrorKind::Config, format!("answers {path} with {status}: {said}")),
        };
        Err(Error::new(kind, format!("the schema registry at {url} (registry) {message}")))
    }
}

/// What can be shown of a text of anybody's.
fn shown(text: &str) -> String {
    let line = text.trim().lines().next().unwrap_or_default();
    let short: String = line.chars().take(SHOWN).collect();
    if short.is_empty() { "nothing".to_owned() } else { short }
}

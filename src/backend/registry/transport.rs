//! HTTP itself, by a library that a build may leave out.

use super::options::Login;
use crate::error::Result;

/// What is done with a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Method {
    Get,
    Post,
    Put,
}

/// Why there is no answer.
pub(super) struct Failed {
    /// Whether there may be one later.
    pub(super) passes: bool,
    pub(super) why: String,
}

pub(super) use client::Transport;

#[cfg(feature = "registry")]
mod client {
    use std::time::Duration;

    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    use ureq::Agent;
    use ureq::tls::{RootCerts, TlsConfig, TlsProvider};

    use super::*;
    use crate::backend::secret::Secret;

    /// How long the registry may take to be there, and to answer.
    const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
    const ANSWER_TIMEOUT: Duration = Duration::from_secs(6);

    /// The longest answer that is read: lists of subjects can be long.
    const MAX_ANSWER_BYTES: u64 = 64 << 20;

    /// What the API's bodies are.
    const CONTENT_TYPE: &str = "application/vnd.schemaregistry.v1+json";

    /// Connections to a registry, which are kept for a while.
    pub(in super::super) struct Transport {
        agent: Agent,
        authorization: Option<Secret>,
    }

    impl Transport {
        pub(in super::super) fn new(login: &Login) -> Result<Self> {
            // The roots of the system's OpenSSL, as for Kafka.
            let tls = TlsConfig::builder().provider(TlsProvider::NativeTls).root_certs(RootCerts::PlatformVerifier);
            let agent = Agent::config_builder()
                .http_status_as_error(false)
                .timeout_connect(Some(CONNECT_TIMEOUT))
                .timeout_global(Some(ANSWER_TIMEOUT))
                .user_agent(concat!("gretchen/", env!("CARGO_PKG_VERSION")))
                .accept(CONTENT_TYPE)
                .tls_config(tls.build())
                .build()
                .new_agent();
            let authorization = match login {
                Login::Anonymous => None,
                Login::User { name, password } => {
                    let pair = STANDARD.encode(format!("{name}:{}", password.reveal()));
                    Some(Secret::new(format!("Basic {pair}")))
                }
                Login::Token(token) => Some(Secret::new(format!("Bearer {}", token.reveal()))),
            };
            Ok(Self { agent, authorization })
        }

        /// The status and the body of the answer. Blocks for some seconds at most.
        pub(in super::super) fn send(
            &self,
            method: Method,
            url: &str,
            body: Option<&str>,
        ) -> Result<(u16, String), Failed> {
            let answer = match method {
                Method::Get => self.head(self.agent.get(url)).call(),
                Method::Post => self.head(self.agent.post(url)).content_type(CONTENT_TYPE).send(body.unwrap_or("")),
                Method::Put => self.head(self.agent.put(url)).content_type(CONTENT_TYPE).send(body.unwrap_or("")),
            };
            let mut answer = answer.map_err(failed)?;
            let status = answer.status().as_u16();
            let text = answer.body_mut().with_config().limit(MAX_ANSWER_BYTES).lossy_utf8(true).read_to_string();
            Ok((status, text.map_err(failed)?))
        }

        fn head<B>(&self, request: ureq::RequestBuilder<B>) -> ureq::RequestBuilder<B> {
            match &self.authorization {
                Some(authorization) => request.header("authorization", authorization.reveal()),
                None => request,
            }
        }
    }

    fn failed(error: ureq::Error) -> Failed {
        use ureq::Error;
        let passes = !matches!(
            error,
            // What a header or an address holds that none may, and whom the other side is not trusted to be.
            Error::Http(_) | Error::BadUri(_) | Error::Tls(_) | Error::NativeTls(_) | Error::TooManyRedirects
        );
        // An error of a header may show what is in it.
        let why = match error {
            Error::Http(_) => "the address, or who we are (registry_user, registry_token), is not fit for HTTP".into(),
            Error::Io(error) => error.to_string(),
            other => other.to_string(),
        };
        Failed { passes, why }
    }
}

#[cfg(not(feature = "registry"))]
mod client {
    use super::*;
    use crate::error::{Error, ErrorKind};

    /// Not there in this build.
    pub(in super::super) struct Transport(());

    impl Transport {
        pub(in super::super) fn new(_: &Login) -> Result<Self> {
            let message =
                "this build has no client for a schema registry (registry); build gretchen with its feature `registry`";
            Err(Error::new(ErrorKind::Unsupported, message))
        }

        pub(in super::super) fn send(&self, _: Method, _: &str, _: Option<&str>) -> Result<(u16, String), Failed> {
            Err(Failed { passes: false, why: "this build has no client for it".to_owned() })
        }
    }
}

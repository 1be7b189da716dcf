//! What settings come to: a store of topics, a registry, and how a worker works.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::{PREFIX, Settings};
use crate::app::App;
use crate::backend::log::{Durability, LogBackend, LogOptions};
use crate::backend::registry::{Login, Registry, RegistryOptions};
use crate::backend::{Backend, Secret, WireLayer, without_secrets};
use crate::clock::Clock;
use crate::error::{Error, ErrorKind, Result};
use crate::session::state_dir;
use crate::worker::WorkerOptions;

impl Settings {
    /// Those of this process, as its command line would have them without a flag: the environment, then
    /// [`DEFAULT_FILE`](super::DEFAULT_FILE) in the working directory.
    pub fn of_process() -> Result<Self> {
        Self::load(&BTreeMap::new(), &environment()?, None)
    }

    /// Whether topics are on a Kafka.
    pub(crate) fn is_kafka(&self) -> bool {
        self.text("backend").is_some_and(|url| url.starts_with("kafka:"))
    }

    /// The folder of the log; `None` where topics are elsewhere.
    pub(crate) fn log_dir(&self) -> Option<PathBuf> {
        let url = self.text("backend").unwrap_or("log:");
        match url.split_once(':').unwrap_or((url, "")) {
            ("log", "") => Some(self.data_dir()),
            ("log", path) => Some(PathBuf::from(path.strip_prefix("//").unwrap_or(path))),
            _ => None,
        }
    }

    /// Of how many partitions topics are made.
    pub(crate) fn partitions(&self) -> u32 {
        self.number("partitions").unwrap_or(4) as u32
    }

    /// The log in a folder.
    pub(crate) fn log_options(&self, dir: &Path) -> LogOptions {
        let mut options = LogOptions::new(dir);
        options.durability = match self.text("durability") {
            Some("os") => Durability::Os,
            _ => Durability::Fsync,
        };
        if let Some(bytes) = self.number("segment_bytes") {
            options.segment_bytes = bytes;
        }
        let number = |name: &str| self.number(name).map(|number| number as usize);
        options.max_record_bytes = number("max_record_bytes").unwrap_or(options.max_record_bytes);
        options.max_batch_bytes = number("max_batch_bytes").unwrap_or(options.max_batch_bytes);
        options.batch_bytes = number("batch_bytes").unwrap_or(options.batch_bytes);
        options.read_bytes = number("read_bytes").unwrap_or(options.read_bytes);
        options.max_open_files = number("max_open_files");
        if let Some(mb) = number("compaction_memory_mb") {
            options.compaction_memory_bytes = mb << 20;
        }
        options
    }

    /// The Kafka; an error says where what it is about was set.
    #[cfg(feature = "kafka")]
    pub(crate) fn kafka_options(&self) -> Result<crate::backend::kafka::KafkaOptions> {
        use crate::backend::kafka::KafkaOptions;
        let wrong = |error: Error, origin: &str| Error::new(ErrorKind::Config, format!("{origin}: {error}"));
        let mut options = KafkaOptions::parse(self.text("backend").unwrap_or_default())
            .map_err(|error| wrong(error, &self.origin("backend")))?;
        for (name, value, origin) in self.kafka() {
            // What the address says is nearer at hand.
            if !options.is_set(name) {
                options.set(name, value).map_err(|error| wrong(error, &origin.to_string()))?;
            }
        }
        if let Some(bytes) = self.number("max_record_bytes") {
            options.max_record_bytes = bytes as usize;
        }
        if let Some(bytes) = self.number("batch_bytes") {
            options.batch_bytes = bytes as usize;
        }
        Ok(options)
    }

    /// The registry, if one is named.
    pub(crate) fn registry_options(&self) -> Result<Option<RegistryOptions>> {
        let wrong = |message: String| Error::new(ErrorKind::Config, message);
        let text = |name: &str| self.text(name);
        let Some(url) = text("registry") else { return Ok(None) };
        let mut options =
            RegistryOptions::new(url).map_err(|error| wrong(format!("{}: {error}", self.origin("registry"))))?;
        options.register = text("registry_register") != Some("false");
        options.naming = text("registry_naming").unwrap_or("topic").parse().map_err(wrong)?;
        options.login = match (text("registry_user"), text("registry_password"), text("registry_token")) {
            (None, None, None) => Login::Anonymous,
            (Some(name), password, None) => {
                Login::User { name: name.to_owned(), password: Secret::new(password.unwrap_or_default()) }
            }
            (None, None, Some(token)) => Login::Token(Secret::new(token)),
            (None, Some(_), _) => return Err(wrong("registry_password is set, and registry_user is not".into())),
            (Some(_), _, Some(_)) => {
                let message = "registry_user and registry_token are set, and only one of them can be asked by";
                return Err(wrong(message.into()));
            }
        };
        Ok(Some(options))
    }

    /// How a worker of an app works.
    pub(crate) fn worker_options(&self, app: &str) -> WorkerOptions {
        let ms = |name: &str| self.number(name).map(Duration::from_millis);
        let mb = |name: &str| self.number(name).map(|mb| (mb as usize) << 20);
        let default = WorkerOptions::default();
        WorkerOptions {
            state_dir: Some(state_dir(&self.data_dir(), app)),
            commit_interval: ms("commit_interval_ms").unwrap_or(default.commit_interval),
            checkpoint_interval: ms("checkpoint_interval_ms").unwrap_or(default.checkpoint_interval),
            checkpoint_records: self.number("checkpoint_records").unwrap_or(default.checkpoint_records),
            clean_interval: ms("clean_interval_ms").unwrap_or(default.clean_interval),
            threads: self.number("threads").map_or(default.threads, |threads| threads as usize),
            table_memory_bytes: mb("table_memory_mb").unwrap_or(default.table_memory_bytes),
            output_memory_bytes: mb("output_memory_mb").unwrap_or(default.output_memory_bytes),
            store_memory_bytes: mb("store_memory_mb").unwrap_or(default.store_memory_bytes),
            store_open_files: self.number("store_open_files").map_or(default.store_open_files, |files| files as u32),
            concurrent_batches: self
                .number("concurrent_batches")
                .map_or(default.concurrent_batches, |batches| batches as usize),
            standby: self.number("standby").unwrap_or(0) as u32,
            stop_timeout: ms("stop_timeout_ms").unwrap_or(default.stop_timeout),
            ..default
        }
    }

    /// Opens the topics as the app sees them: with the formats that it gives them, and the numbers of the registry.
    pub(crate) fn open(&self, app: &App, clock: &Clock) -> Result<Arc<dyn Backend>> {
        let inner = self.open_store(clock)?;
        let mut layer = WireLayer::new(inner, app.formats().clone());
        if let Some(options) = self.registry_options()? {
            layer = layer.with_registry(Registry::new(options)?, clock.clone());
        }
        Ok(Arc::new(layer.with_settings(app.topic_settings().clone())))
    }

    fn open_store(&self, clock: &Clock) -> Result<Arc<dyn Backend>> {
        if let Some(dir) = self.log_dir() {
            return Ok(Arc::new(LogBackend::open(self.log_options(&dir), clock.clone())?));
        }
        #[cfg(feature = "kafka")]
        if self.is_kafka() {
            return Ok(Arc::new(crate::backend::kafka::KafkaBackend::open(self.kafka_options()?, clock.clone())?));
        }
        let url = without_secrets(self.text("backend").unwrap_or_default());
        let message = format!("this build has no backend {url} (asked for by {})", self.origin("backend"));
        Err(Error::new(ErrorKind::Config, message))
    }

    /// Where a setting comes from, for messages.
    pub(crate) fn origin(&self, name: &str) -> String {
        self.get(name).map_or_else(String::new, |setting| setting.origin.to_string())
    }
}

/// The variables of the environment that are meant for settings.
pub(crate) fn environment() -> Result<BTreeMap<String, String>> {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok().filter(|name| name.starts_with(PREFIX))?, value)))
        .map(|(name, value)| match value.into_string() {
            Ok(value) => Ok((name, value)),
            Err(_) => Err(Error::new(ErrorKind::Config, format!("{name}: the value is not UTF-8"))),
        })
        .collect()
}

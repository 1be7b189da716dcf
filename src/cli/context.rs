//! What every command works with: the app, the settings, the backend, the output.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::args::Global;
use super::failure::{Done, Failure};
use super::output::Out;
use crate::agent::AgentDef;
use crate::app::App;
use crate::backend::log::{Durability, LogBackend, LogOptions};
use crate::backend::registry::{Login, Registry, RegistryOptions};
use crate::backend::{Backend, Replay, Secret, Topic, WireLayer, without_secrets};
use crate::clock::Clock;
use crate::config::{Settings, closest};
use crate::plan::Plan;
use crate::session::state_dir;
use crate::worker::WorkerOptions;

pub(super) struct Context {
    pub(super) app: App,
    /// The program's name, for messages that name a command.
    pub(super) program: String,
    pub(super) settings: Settings,
    pub(super) clock: Clock,
    pub(super) out: Out,
}

/// An open backend.
pub(super) struct Store {
    pub(super) backend: Arc<dyn Backend>,
    pub(super) replay: Arc<dyn Replay>,
}

impl Context {
    pub(super) fn new(app: App, program: String, settings: Settings, global: &Global) -> Self {
        let out = Out::new(global.json, global.quiet);
        Self { app, program, settings, clock: Clock::system(), out }
    }

    pub(super) fn agents(&self) -> Vec<&'static AgentDef> {
        self.app.agents()
    }

    /// The folder of the log, by the setting `backend`.
    pub(super) fn log_dir(&self) -> Done<PathBuf> {
        let url = self.settings.text("backend").unwrap_or("log:");
        let (scheme, rest) = url.split_once(':').unwrap_or((url, ""));
        match scheme {
            "log" if rest.is_empty() => Ok(self.settings.data_dir()),
            "log" => Ok(PathBuf::from(rest.strip_prefix("//").unwrap_or(rest))),
            "memory" => Err(Failure::usage(format!(
                "backend {url} keeps topics in one process: nothing would be left for the next command"
            ))
            .help("use log:, a folder on this machine; tests run an app in memory with gretchen::testing::TestApp")),
            "kafka" => Err(Failure::usage(format!(
                "this command looks at the files of a log, and topics are on {} (asked for by {})",
                without_secrets(url),
                self.origin("backend")
            ))
            .help("name a log with --backend log:, or look at the brokers with Kafka's own tools")),
            _ => Err(Failure::usage(format!(
                "this build has no backend for {scheme}: (asked for by {})",
                self.origin("backend")
            ))
            .help(
                "it has log:, topics in the data folder, log:/path, topics in another folder, and kafka://host:9092",
            )),
        }
    }

    /// Whether topics are on a Kafka.
    pub(super) fn is_kafka(&self) -> bool {
        self.settings.text("backend").is_some_and(|url| url.starts_with("kafka:"))
    }

    /// The registry of the settings, if they name one. Nobody is asked yet.
    pub(super) fn registry(&self) -> Done<Option<Registry>> {
        let text = |name: &str| self.settings.text(name);
        let Some(url) = text("registry") else { return Ok(None) };
        let mut options = RegistryOptions::new(url)
            .map_err(|error| Failure::usage(format!("{}: {error}", self.origin("registry"))))?;
        options.register = text("registry_register") != Some("false");
        options.naming = text("registry_naming").unwrap_or("topic").parse().map_err(Failure::usage)?;
        options.login = match (text("registry_user"), text("registry_password"), text("registry_token")) {
            (None, None, None) => Login::Anonymous,
            (Some(name), password, None) => {
                Login::User { name: name.to_owned(), password: Secret::new(password.unwrap_or_default()) }
            }
            (None, None, Some(token)) => Login::Token(Secret::new(token)),
            (None, Some(_), _) => return Err(Failure::usage("registry_password is set, and registry_user is not")),
            (Some(_), _, Some(_)) => {
                return Err(Failure::usage(
                    "registry_user and registry_token are set, and only one of them can be asked by",
                ));
            }
        };
        Ok(Some(Registry::new(options)?))
    }

    /// A topic's name as the store of the settings has it.
    #[cfg(feature = "kafka")]
    pub(super) fn native_name(&self, topic: &str) -> Done<String> {
        let prefix = if self.is_kafka() { self.kafka_options()?.prefix } else { String::new() };
        Ok(prefix + topic)
    }

    #[cfg(not(feature = "kafka"))]
    pub(super) fn native_name(&self, topic: &str) -> Done<String> {
        Ok(topic.to_owned())
    }

    /// The Kafka of the settings.
    #[cfg(feature = "kafka")]
    fn open_kafka(&self) -> Done<Arc<dyn Backend>> {
        use crate::backend::kafka::KafkaBackend;
        Ok(Arc::new(KafkaBackend::open(self.kafka_options()?, self.clock.clone())?))
    }

    #[cfg(feature = "kafka")]
    fn kafka_options(&self) -> Done<crate::backend::kafka::KafkaOptions> {
        use crate::backend::kafka::KafkaOptions;
        let origin = self.origin("backend");
        let wrong = |error: crate::error::Error, origin: &str| Failure::usage(format!("{origin}: {error}"));
        let mut options = KafkaOptions::parse(self.settings.text("backend").unwrap_or_default())
            .map_err(|error| wrong(error, &origin))?;
        for (name, value, origin) in self.settings.kafka() {
            // What the address says is nearer at hand.
            if !options.settings.contains_key(name) {
                options.set(name, value).map_err(|error| wrong(error, &origin.to_string()))?;
            }
        }
        if let Some(bytes) = self.settings.number("max_record_bytes") {
            options.max_record_bytes = bytes as usize;
        }
        Ok(options)
    }

    #[cfg(not(feature = "kafka"))]
    fn open_kafka(&self) -> Done<Arc<dyn Backend>> {
        Err(Failure::usage(format!("this build has no backend for kafka: (asked for by {})", self.origin("backend")))
            .help("build gretchen with its feature `kafka`"))
    }

    fn origin(&self, setting: &str) -> String {
        self.settings.get(setting).map_or_else(String::new, |setting| setting.origin.to_string())
    }

    /// Where the app's tables are kept.
    pub(super) fn state_dir(&self) -> PathBuf {
        state_dir(&self.settings.data_dir(), self.app.name())
    }

    /// The log by the settings.
    pub(super) fn log_options(&self) -> Done<LogOptions> {
        let mut options = LogOptions::new(self.log_dir()?);
        options.durability = match self.settings.text("durability") {
            Some("os") => Durability::Os,
            _ => Durability::Fsync,
        };
        if let Some(bytes) = self.settings.number("segment_bytes") {
            options.segment_bytes = bytes;
        }
        let number = |name: &str| self.settings.number(name).map(|number| number as usize);
        options.max_record_bytes = number("max_record_bytes").unwrap_or(options.max_record_bytes);
        options.max_batch_bytes = number("max_batch_bytes").unwrap_or(options.max_batch_bytes);
        options.read_bytes = number("read_bytes").unwrap_or(options.read_bytes);
        options.max_open_files = number("max_open_files");
        if let Some(mb) = number("compaction_memory_mb") {
            options.compaction_memory_bytes = mb << 20;
        }
        Ok(options)
    }

    /// Opens the backend; makes its folder where it is missing.
    pub(super) fn open(&self) -> Done<Store> {
        let inner: Arc<dyn Backend> = match self.is_kafka() {
            true => self.open_kafka()?,
            false => Arc::new(LogBackend::open(self.log_options()?, self.clock.clone())?),
        };
        let mut layer = WireLayer::new(inner, self.app.formats().clone());
        if let Some(registry) = self.registry()? {
            layer = layer.with_registry(registry, self.clock.clone());
        }
        let backend: Arc<dyn Backend> = Arc::new(layer.with_settings(self.app.topic_settings().clone()));
        let replay = backend
            .replay()
            .ok_or_else(|| Failure::new("this backend cannot be read again by position, so it cannot be shown"))?;
        Ok(Store { backend, replay })
    }

    /// Opens the backend to look at it: a folder that is missing stays missing.
    pub(super) fn open_existing(&self) -> Done<Store> {
        if self.is_kafka() {
            return self.open();
        }
        let dir = self.log_dir()?;
        if !dir.join("FORMAT").exists() {
            return Err(Failure::new(format!("there is no data in {} yet", dir.display())).help(format!(
                "run `{0} worker` or `{0} send` first, or name another folder with --data-dir",
                self.program
            )));
        }
        self.open()
    }

    /// Plans the app and creates the topics that are missing.
    pub(super) async fn plan(&self, store: &Store) -> Done<Plan> {
        let partitions = self.settings.number("partitions").unwrap_or(4) as u32;
        Ok(Plan::make(self.app.name(), &self.agents(), &*store.backend, partitions).await?)
    }

    /// The plan as it would be; creates nothing.
    pub(super) async fn preview(&self, store: &Store) -> Done<Plan> {
        let partitions = self.settings.number("partitions").unwrap_or(4) as u32;
        Ok(Plan::preview(self.app.name(), &self.agents(), &*store.backend, partitions).await?)
    }

    pub(super) fn worker_options(&self) -> WorkerOptions {
        let ms = |name: &str| self.settings.number(name).map(Duration::from_millis);
        let mb = |name: &str| self.settings.number(name).map(|mb| (mb as usize) << 20);
        let default = WorkerOptions::default();
        WorkerOptions {
            state_dir: Some(self.state_dir()),
            commit_interval: ms("commit_interval_ms").unwrap_or(default.commit_interval),
            checkpoint_interval: ms("checkpoint_interval_ms").unwrap_or(default.checkpoint_interval),
            checkpoint_records: self.settings.number("checkpoint_records").unwrap_or(default.checkpoint_records),
            clean_interval: ms("clean_interval_ms").unwrap_or(default.clean_interval),
            threads: self.settings.number("threads").map_or(default.threads, |threads| threads as usize),
            table_memory_bytes: mb("table_memory_mb").unwrap_or(default.table_memory_bytes),
            output_memory_bytes: mb("output_memory_mb").unwrap_or(default.output_memory_bytes),
            store_memory_bytes: mb("store_memory_mb").unwrap_or(default.store_memory_bytes),
            standby: self.settings.number("standby").unwrap_or(0) as u32,
            stop_timeout: ms("stop_timeout_ms").unwrap_or(default.stop_timeout),
            ..default
        }
    }
}

impl Store {
    pub(super) async fn topics(&self) -> Done<Vec<Topic>> {
        Ok(self.backend.topics().await?)
    }

    /// The topic of that name, or which one may have been meant.
    pub(super) async fn topic(&self, name: &str) -> Done<Topic> {
        let topics = self.topics().await?;
        match topics.iter().find(|topic| *topic.spec.name == *name) {
            Some(topic) => Ok(topic.clone()),
            None => {
                let known = topics.iter().filter(|topic| !topic.spec.internal);
                Err(unknown("topic", name, known.map(|topic| &*topic.spec.name)))
            }
        }
    }
}

/// Something of that name does not exist; says what does.
pub(super) fn unknown<'a>(what: &str, name: &str, known: impl Iterator<Item = &'a str> + Clone) -> Failure {
    let failure = Failure::new(format!("there is no {what} {name:?}"));
    if let Some(close) = closest(name, known.clone()) {
        return failure.help(format!("did you mean {close}?"));
    }
    let all: Vec<&str> = known.take(20).collect();
    match all.is_empty() {
        true => failure.help(format!("there are no {what}s yet")),
        false => failure.help(format!("there are {}", all.join(", "))),
    }
}

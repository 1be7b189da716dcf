//! What every command works with: the app, the settings, the backend, the output.

use std::path::PathBuf;
use std::sync::Arc;

use super::args::Global;
use super::failure::{Done, Failure};
use super::output::Out;
use crate::agent::AgentDef;
use crate::app::App;
use crate::backend::log::LogOptions;
use crate::backend::registry::Registry;
use crate::backend::{Backend, Replay, Topic, without_secrets};
use crate::clock::Clock;
use crate::config::{Settings, closest};
use crate::error::Error;
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
        if let Some(dir) = self.settings.log_dir() {
            return Ok(dir);
        }
        let url = self.settings.text("backend").unwrap_or_default();
        let scheme = url.split_once(':').map_or(url, |(scheme, _)| scheme);
        match scheme {
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
        self.settings.is_kafka()
    }

    /// The registry of the settings, if they name one. Nobody is asked yet.
    pub(super) fn registry(&self) -> Done<Option<Registry>> {
        let options = self.settings.registry_options().map_err(misread)?;
        Ok(options.map(Registry::new).transpose()?)
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
    fn kafka_options(&self) -> Done<crate::backend::kafka::KafkaOptions> {
        self.settings.kafka_options().map_err(misread)
    }

    #[cfg(not(feature = "kafka"))]
    fn kafka_options(&self) -> Done {
        Err(Failure::usage(format!("this build has no backend for kafka: (asked for by {})", self.origin("backend")))
            .help("build gretchen with its feature `kafka`"))
    }

    fn origin(&self, setting: &str) -> String {
        self.settings.origin(setting)
    }

    /// Where the app's tables are kept.
    pub(super) fn state_dir(&self) -> PathBuf {
        state_dir(&self.settings.data_dir(), self.app.name())
    }

    /// The log by the settings.
    pub(super) fn log_options(&self) -> Done<LogOptions> {
        Ok(self.settings.log_options(&self.log_dir()?))
    }

    /// Opens the backend; makes its folder where it is missing.
    pub(super) fn open(&self) -> Done<Store> {
        // What cannot be meant is told before anything is opened.
        if self.is_kafka() {
            self.kafka_options()?;
        } else {
            self.log_dir()?;
        }
        self.registry()?;
        let backend = self.settings.open(&self.app, &self.clock)?;
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
        let partitions = self.settings.partitions();
        Ok(Plan::make(self.app.name(), &self.agents(), &*store.backend, partitions).await?)
    }

    /// The plan as it would be; creates nothing.
    pub(super) async fn preview(&self, store: &Store) -> Done<Plan> {
        let partitions = self.settings.partitions();
        Ok(Plan::preview(self.app.name(), &self.agents(), &*store.backend, partitions).await?)
    }

    pub(super) fn worker_options(&self) -> WorkerOptions {
        self.settings.worker_options(self.app.name())
    }
}

/// Settings that cannot be meant are the user's to correct.
fn misread(error: Error) -> Failure {
    Failure::usage(error.to_string())
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

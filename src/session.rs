//! An app that a program drives itself: publish, process what is there, look at the tables.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Runtime;
use tokio::sync::{mpsc, watch};

use crate::app::App;
use crate::backend::log::{LogBackend, LogOptions};
use crate::backend::{Backend, WireLayer};
use crate::clock::Clock;
use crate::config::Settings;
use crate::error::{Error, ErrorKind, Result};
use crate::plan::{Plan, changelog_name, stored_schemas};
use crate::publish::{Published, Publisher};
use crate::record::{Key, Value};
use crate::table::{Table, TableState};
use crate::topic::TopicPartition;
use crate::worker::{self, Summary, WorkerEvent, WorkerOptions, table_view};

/// How often a session asks whether everything is processed.
const ASK_EVERY: Duration = Duration::from_millis(5);

/// An app on the log in a folder, or on another backend.
///
/// Calls block, so they belong outside of a runtime. Other processes may work on the same folder at the same time.
pub struct Session {
    app: App,
    plan: Plan,
    runtime: Runtime,
    backend: Arc<dyn Backend>,
    options: WorkerOptions,
    clock: Clock,
}

impl Session {
    /// Opens the folder, plans the app and creates the topics that are missing, with `partitions` partitions each.
    pub fn open(app: App, log: LogOptions, partitions: u32) -> Result<Self> {
        let data_dir = log.data_dir.clone();
        Self::on(app, &data_dir, partitions, |clock| Ok(Arc::new(LogBackend::open(log, clock)?)))
    }

    /// As [`Session::open`], on the backend that `open` returns; tables are kept in the data folder. Topics of the format
    /// `confluent` have numbers of their own: only [`Session::by_settings`] has a schema registry.
    pub fn on(
        app: App,
        data_dir: &std::path::Path,
        partitions: u32,
        open: impl FnOnce(Clock) -> Result<Arc<dyn Backend>>,
    ) -> Result<Self> {
        let options = WorkerOptions { state_dir: Some(state_dir(data_dir, app.name())), ..WorkerOptions::default() };
        Self::layered(app, options, partitions, |app, clock| {
            let layer = WireLayer::new(open(clock.clone())?, app.formats().clone());
            Ok(Arc::new(layer.with_settings(app.topic_settings().clone())))
        })
    }

    /// As the app's own worker would begin with these settings: on the same topics with the same schema registry, with its
    /// tables in the same folder, and at the same pace. [`Settings::of_process`] are those of the environment and of
    /// `gretchen.toml`.
    pub fn by_settings(app: App, settings: &Settings) -> Result<Self> {
        let options = settings.worker_options(app.name());
        Self::layered(app, options, settings.partitions(), |app, clock| settings.open(app, clock))
    }

    /// Plans the app on the backend that `open` returns, as agents see it.
    fn layered(
        app: App,
        options: WorkerOptions,
        partitions: u32,
        open: impl FnOnce(&App, &Clock) -> Result<Arc<dyn Backend>>,
    ) -> Result<Self> {
        let clock = Clock::system();
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .map_err(|error| Error::io("cannot start a runtime", error))?;
        let backend = {
            let _inside = runtime.enter();
            open(&app, &clock)?
        };
        let plan = runtime.block_on(Plan::make(app.name(), &app.agents(), &*backend, partitions))?;
        Ok(Self { app, plan, runtime, backend, options, clock })
    }

    /// How the session's worker works.
    pub fn options(&mut self) -> &mut WorkerOptions {
        &mut self.options
    }

    /// Publishes records under a producer's name and returns once they are durable: the same list published again
    /// adds nothing.
    pub fn publish<V: Value>(
        &self,
        topic: &str,
        producer: &str,
        records: impl IntoIterator<Item = (Vec<u8>, V)>,
    ) -> Result<Published> {
        self.runtime.block_on(async {
            let mut publisher = Publisher::open(&self.backend, topic, Some(producer)).await?;
            let mut wire = Vec::new();
            for (at, (key, value)) in records.into_iter().enumerate() {
                wire.clear();
                value.encode_value(&mut wire).map_err(|error| {
                    Error::new(ErrorKind::Encode, format!("record {at} for topic {topic} does not fit its schema"))
                        .with_source(error)
                })?;
                publisher.push(Some(&key), Some(&wire), self.clock.now_ms()).await?;
            }
            publisher.flush().await
        })
    }

    /// Processes everything that is there, commits it, and stops. An agent that failed is an error, and so is a table that
    /// cannot be opened, also where nothing was left to process.
    pub fn process(&self) -> Result<Summary> {
        let (stop, stopped) = watch::channel(false);
        let (events, mut received) = mpsc::unbounded_channel();
        self.runtime.block_on(async {
            let work = worker::run(
                &self.plan,
                self.backend.clone(),
                self.options.clone(),
                self.clock.clone(),
                stopped,
                events,
            );
            tokio::pin!(work);
            let mut failure = None;
            let (mut looks, sure) = (0, worker::looks_to_be_sure(&*self.backend));
            let mut unopened = self.plan.agents.len();
            loop {
                tokio::select! {
                    summary = &mut work => {
                        // The worker may have ended before its last events were seen.
                        while let Ok(event) = received.try_recv() {
                            if let WorkerEvent::Failed { error, .. } | WorkerEvent::Paused { error, .. } = event {
                                failure.get_or_insert(error);
                            }
                        }
                        return failure.map_or(summary, Err);
                    }
                    () = self.clock.sleep(ASK_EVERY) => {
                        let caught_up = unopened == 0 && worker::caught_up(&self.plan, &*self.backend)?;
                        looks = if caught_up { looks + 1 } else { 0 };
                        if looks >= sure {
                            let _ = stop.send(true);
                        }
                    }
                    Some(event) = received.recv() => match event {
                        WorkerEvent::Failed { error, .. } | WorkerEvent::Paused { error, .. } => {
                            failure.get_or_insert(error);
                            let _ = stop.send(true);
                        }
                        WorkerEvent::Opened { .. } => unopened -= 1,
                        _ => {}
                    }
                }
            }
        })
    }

    /// All keys of a table with their values, as of the last commit, partition by partition.
    pub fn table<K: Key, V: Value, S: TableState<K, V>>(&self, table: &'static Table<K, V, S>) -> Result<Vec<(K, V)>> {
        let Some((agent, place)) = self.plan.agents.iter().find_map(|agent| {
            let place = agent.tables.iter().position(|def| def.name == table.name())?;
            Some((agent, place))
        }) else {
            return Err(Error::new(
                ErrorKind::NotFound,
                format!("no agent of app {} names table {}", self.app.name(), table.name()),
            ));
        };
        let replay = self
            .backend
            .replay()
            .ok_or_else(|| Error::new(ErrorKind::Unsupported, "this backend cannot be read again by position"))?;
        let state_dir = self.options.state_dir.clone().unwrap_or_default();
        let def = table.def();
        let mut rows = Vec::new();
        let schemas = stored_schemas(replay.clone(), &changelog_name(self.app.name(), agent.def.name));
        for partition in 0..agent.partitions {
            let folder = state_dir.join(def.name).join(partition.to_string());
            let changelog = TopicPartition::new(changelog_name(self.app.name(), agent.def.name), partition);
            for row in table_view(&def, place, &folder, &*replay, &changelog, &schemas)?.iter() {
                let (raw, stored) = row?;
                let unreadable = |error| {
                    Error::new(ErrorKind::Decode, format!("cannot read a row of table {}", def.name)).with_source(error)
                };
                let value = V::decode_value(&def.value_wire(&raw, &stored, &schemas)?).map_err(unreadable)?;
                rows.push((K::decode_key(&raw).map_err(unreadable)?, value));
            }
        }
        Ok(rows)
    }
}

/// The folder of an app's tables within a data folder.
pub(crate) fn state_dir(data_dir: &std::path::Path, app: &str) -> PathBuf {
    data_dir.join("state").join(app)
}

//! Workers as processes of their own, each with a folder of its own, as if it were on a machine of its own.
//!
//! A worker is this test binary once more: [`child_worker`] is a test that returns at once unless it finds its [`Spec`] in
//! the environment. It works until its standard input ends, so that none outlives the test.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use gretchen::app::App;
use gretchen::backend::kafka::{KafkaBackend, KafkaOptions};
use gretchen::backend::{Backend, WireLayer};
use gretchen::clock::Clock;
use gretchen::error::Result;
use gretchen::plan::Plan;
use gretchen::worker::{self, Standing, WorkerEvent, WorkerOptions};
use rustix::process::{Pid, Signal};
use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, watch};

use crate::shop;

const WORKER_VAR: &str = "GRETCHEN_TEST_KAFKA_WORKER";

/// What a worker process is told.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Spec {
    /// The name of the app, as [`app`] knows it.
    pub(super) app: String,
    pub(super) servers: String,
    pub(super) prefix: String,
    /// Of topics that nobody has made.
    pub(super) partitions: u32,
    /// How soon a worker is missed.
    pub(super) session_ms: u64,
    /// More of Kafka's settings.
    pub(super) settings: Vec<(String, String)>,
    /// Workers that keep a warm copy beside the owner.
    pub(super) standby: u32,
    /// The worker's own.
    pub(super) folder: PathBuf,
}

/// What a worker says, a line each.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) enum Said {
    /// Agent, partition, and what of the changelog was covered and replayed.
    Started(String, u32, u64, u64),
    Stopped(String, u32),
    /// A standby has caught up.
    Warm(String, u32),
    /// A standby is closed.
    Closed(String, u32),
    Failed(String),
}

impl Spec {
    pub(super) fn options(&self) -> KafkaOptions {
        let mut options = KafkaOptions::new(&self.servers);
        options.set("gretchen.prefix", &self.prefix).unwrap();
        options.set("session.timeout.ms", &self.session_ms.to_string()).unwrap();
        options.set("heartbeat.interval.ms", &(self.session_ms / 6).min(300).to_string()).unwrap();
        for (name, value) in &self.settings {
            options.set(name, value).unwrap();
        }
        options
    }

    pub(super) fn open(&self, clock: &Clock) -> Result<Arc<dyn Backend>> {
        Ok(Arc::new(KafkaBackend::open(self.options(), clock.clone())?))
    }

    pub(super) fn app(&self) -> App {
        match &*self.app {
            "eos" => super::eos::app(),
            name => shop::app(name),
        }
    }
}

/// A worker is this test binary once more; without its [`Spec`] in the environment this is nothing.
#[test]
fn child_worker() {
    let Ok(json) = std::env::var(WORKER_VAR) else { return };
    let spec: Spec = serde_json::from_str(&json).unwrap();
    let _ = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::INFO)
        .with_ansi(false)
        .with_writer(std::io::stderr)
        .try_init();
    let code = match work(&spec) {
        Ok(()) => 0,
        Err(error) => {
            eprintln!("the worker ends: {error}");
            1
        }
    };
    std::process::exit(code);
}

fn work(spec: &Spec) -> Result<()> {
    let clock = Clock::system();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let backend = spec.open(&clock)?;
    let (stop, stopped) = watch::channel(false);
    std::thread::spawn(move || {
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        let _ = stop.send(true);
        std::mem::forget(stop);
    });
    let (events, mut received) = mpsc::unbounded_channel();
    let mut diary = File::options().create(true).append(true).open(spec.folder.join("said")).unwrap();
    runtime.spawn(async move {
        while let Some(event) = received.recv().await {
            let said = match event {
                WorkerEvent::Started { agent, partition, recovered } => {
                    Said::Started(agent.to_owned(), partition, recovered.covered, recovered.replayed)
                }
                WorkerEvent::Stopped { agent, partition } => Said::Stopped(agent.to_owned(), partition),
                WorkerEvent::Standby { agent, partition, standing: Standing::CaughtUp } => {
                    Said::Warm(agent.to_owned(), partition)
                }
                WorkerEvent::Standby { agent, partition, standing: Standing::Closed } => {
                    Said::Closed(agent.to_owned(), partition)
                }
                WorkerEvent::Failed { agent, partition, error } => {
                    Said::Failed(format!("{agent}/{partition}: {error}"))
                }
                _ => continue,
            };
            let mut line = serde_json::to_vec(&said).unwrap();
            line.push(b'\n');
            diary.write_all(&line).unwrap();
        }
    });
    runtime.block_on(async {
        let app = spec.app();
        let layer = WireLayer::new(backend, app.formats().clone());
        let plan = Plan::make(app.name(), &app.agents(), &layer, spec.partitions).await?;
        let options = WorkerOptions {
            state_dir: Some(spec.folder.join("state")),
            commit_interval: Duration::from_millis(100),
            checkpoint_interval: Duration::from_millis(1_000),
            threads: 2,
            standby: spec.standby,
            ..WorkerOptions::default()
        };
        worker::run(&plan, Arc::new(layer), options, clock.clone(), stopped, events).await.map(drop)
    })
}

/// A worker that runs.
pub(super) struct Worker {
    pub(super) spec: Spec,
    child: Child,
}

impl Worker {
    pub(super) fn start(spec: Spec) -> Self {
        Self::start_by(Command::new(std::env::current_exe().unwrap()), spec)
    }

    /// By a command that runs this test binary in its place.
    pub(super) fn start_by(mut command: Command, spec: Spec) -> Self {
        fs::create_dir_all(&spec.folder).unwrap();
        let stderr = File::options().create(true).append(true).open(spec.folder.join("stderr")).unwrap();
        let child = command
            .args(["kafka::worker::child_worker", "--exact", "--nocapture", "--test-threads=1"])
            .env(WORKER_VAR, serde_json::to_string(&spec).unwrap())
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(stderr)
            .spawn()
            .unwrap();
        Self { spec, child }
    }

    /// Ends it with SIGKILL; what is left is its folder.
    pub(super) fn kill(mut self) -> Spec {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        self.spec.clone()
    }

    pub(super) fn is_gone(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    pub(super) fn stderr(&self) -> String {
        fs::read_to_string(self.spec.folder.join("stderr")).unwrap()
    }

    /// How many partitions were taken from it.
    pub(super) fn losses(&self) -> usize {
        self.stderr().matches("the partition was lost").count()
    }

    /// How often its tasks have begun.
    pub(super) fn starts(&self) -> usize {
        said(&self.spec.folder).len()
    }

    pub(super) fn signal(&self, signal: Signal) {
        rustix::process::kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Lets it finish and commit, and waits for its end.
    pub(super) fn stop(mut self) {
        drop(self.child.stdin.take());
        let status = self.child.wait().unwrap();
        assert!(status.success(), "a worker ended with {status}:\n{}", self.stderr());
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub(super) fn said(folder: &Path) -> Vec<Said> {
    let text = fs::read_to_string(folder.join("said")).unwrap_or_default();
    text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

/// How the tasks of some workers have started.
#[derive(Debug, Default)]
pub(super) struct Starts {
    pub(super) all: usize,
    /// Those that found a store that covered a part of the changelog.
    pub(super) from_store: usize,
    /// The most records that one of these replayed: never the whole changelog, which is read from where the store
    /// stood.
    pub(super) most_replayed: u64,
    /// What the store of that one covered.
    pub(super) covered_there: u64,
}

impl Starts {
    fn note(&mut self, covered: u64, replayed: u64) {
        self.all += 1;
        if covered == 0 {
            return;
        }
        self.from_store += 1;
        if replayed >= self.most_replayed {
            (self.most_replayed, self.covered_there) = (replayed, covered);
        }
    }
}

impl fmt::Display for Starts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { all, from_store, most_replayed, covered_there } = self;
        write!(
            f,
            "{all} starts of tasks, {from_store} of them from a store, which replayed at most {most_replayed} records \
             ({covered_there} offsets were covered there)"
        )
    }
}

/// A worker whose store covered something when it began before begins there or later, also after a kill: no state is
/// wiped, and no whole changelog is replayed.
pub(super) fn check_starts(specs: &[Spec]) -> Starts {
    let mut starts = Starts::default();
    for spec in specs {
        let name = spec.folder.display();
        let mut covered_by: BTreeMap<(String, u32), u64> = BTreeMap::new();
        for said in said(&spec.folder) {
            match said {
                Said::Started(agent, partition, covered, replayed) => {
                    let known = covered_by.entry((agent.clone(), partition)).or_default();
                    assert!(
                        covered >= *known,
                        "{name}: {agent}/{partition} begins at {covered} of its changelog although its store covered \
                         {known}, and replays {replayed} records"
                    );
                    *known = covered;
                    starts.note(covered, replayed);
                }
                Said::Stopped(..) | Said::Warm(..) | Said::Closed(..) => {}
                Said::Failed(why) => panic!("{name}: {why}"),
            }
        }
    }
    starts
}

/// A number from the environment.
pub(super) fn number_of(variable: &str, default: usize) -> usize {
    std::env::var(variable).map_or(default, |number| number.parse().unwrap())
}

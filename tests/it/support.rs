//! Workers as processes of their own, and a shop whose every figure is known apart.
//!
//! A worker is this test binary once more: [`child_worker`] is a test that returns at once unless it finds its
//! [`Spec`] in the environment. It works until its standard input ends, so that none outlives the test.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use gretchen::backend::log::{Durability, LogBackend, LogOptions};
use gretchen::backend::{Backend, Replay};
use gretchen::clock::{Clock, Moment};
use gretchen::error::Result;
use gretchen::plan::Plan;
use gretchen::publish::Publisher;
use gretchen::record::{Frames, Value};
use gretchen::session::Session;
use gretchen::topic::TopicPartition;
use gretchen::worker::{self, WorkerEvent, WorkerOptions};
use serde::{Deserialize, Serialize};
use tempfile::TempDir;
use tokio::runtime::Runtime;
use tokio::sync::{mpsc, watch};

use crate::shop::{self, Evidence, Order};

/// Partitions of every topic.
pub(crate) const PARTITIONS: u32 = 4;

/// Time that workers get to catch up or to stop before the test fails.
const PATIENCE: Duration = Duration::from_secs(60);

const WORKER_VAR: &str = "GRETCHEN_TEST_WORKER";

/// What a worker process is told.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Spec {
    /// The folder of the test; the data are in `data` underneath.
    pub(crate) folder: PathBuf,
    /// Counts the workers of a test.
    pub(crate) number: u32,
    /// One of [`shop::app`].
    pub(crate) app: String,
    pub(crate) fsync: bool,
    pub(crate) commit_ms: u64,
    pub(crate) checkpoint_ms: u64,
    /// Time that agents get to finish their records.
    pub(crate) stop_ms: u64,
    /// Small ones roll often.
    pub(crate) segment_bytes: u64,
    /// What each table may take of each partition.
    pub(crate) table_memory_bytes: usize,
    /// The fault point to arm, and at which pass it ends the process.
    pub(crate) fault: Option<(String, u64)>,
    /// Whether the agent that fails at some orders accepts them.
    pub(crate) accepts: bool,
}

impl Spec {
    pub(crate) fn log(&self) -> LogOptions {
        LogOptions {
            durability: if self.fsync { Durability::Fsync } else { Durability::Os },
            segment_bytes: self.segment_bytes,
            ..LogOptions::new(self.folder.join("data"))
        }
    }

    fn options(&self) -> WorkerOptions {
        WorkerOptions {
            state_dir: Some(self.log().data_dir.join("state").join(APP)),
            commit_interval: Duration::from_millis(self.commit_ms),
            checkpoint_interval: Duration::from_millis(self.checkpoint_ms),
            // So that changelogs are compacted all the time.
            clean_interval: Duration::from_millis(50),
            threads: 2,
            table_memory_bytes: self.table_memory_bytes,
            stop_timeout: Duration::from_millis(self.stop_ms),
            ..WorkerOptions::default()
        }
    }
}

/// The name of every app here.
pub(crate) const APP: &str = "shop";

/// What a worker process was told; in the test itself there is nothing.
pub(crate) fn spec() -> Option<&'static Spec> {
    static SPEC: std::sync::OnceLock<Option<Spec>> = std::sync::OnceLock::new();
    SPEC.get_or_init(|| std::env::var(WORKER_VAR).ok().map(|json| serde_json::from_str(&json).unwrap())).as_ref()
}

/// What a worker says, a line each.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Said {
    pub(crate) at_ms: i64,
    pub(crate) what: What,
}

#[derive(Clone, Debug, Serialize, Deserialize, PartialEq)]
pub(crate) enum What {
    Started {
        agent: String,
        partition: u32,
        covered: u64,
        replayed: u64,
    },
    Stopped {
        agent: String,
        partition: u32,
    },
    Failed {
        agent: String,
        partition: u32,
        kind: String,
        error: String,
    },
    /// `stuck` partitions were given up, since their agents did not finish in the time that they get to stop.
    Ended {
        finished: u64,
        stuck: usize,
    },
}

#[test]
fn child_worker() {
    let Some(spec) = spec() else { return };
    if let Some((name, pass)) = &spec.fault {
        let point = gretchen::fault::ALL.iter().find(|point| *point == name).unwrap();
        gretchen::fault::arm(point, *pass);
    }
    let code = match work(spec) {
        Ok(()) => 0,
        Err(error) => {
            eprintln!("worker {}: {error}", spec.number);
            1
        }
    };
    std::process::exit(code);
}

fn work(spec: &Spec) -> Result<()> {
    let clock = Clock::system();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let _inside = runtime.enter();
    let backend: Arc<dyn Backend> = Arc::new(LogBackend::open(spec.log(), clock.clone())?);
    let (stop, stopped) = watch::channel(false);
    std::thread::spawn(move || {
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        let _ = stop.send(true);
        // Until the end, so that the worker does not take it for lost.
        std::mem::forget(stop);
    });
    let (events, mut received) = mpsc::unbounded_channel();
    let mut diary = Diary(File::create(said_path(&spec.folder, spec.number)).unwrap());
    let told = clock.clone();
    let telling = runtime.spawn(async move {
        while let Some(event) = received.recv().await {
            let what = match event {
                WorkerEvent::Started { agent, partition, recovered } => What::Started {
                    agent: agent.into(),
                    partition,
                    covered: recovered.covered,
                    replayed: recovered.replayed,
                },
                WorkerEvent::Stopped { agent, partition } => What::Stopped { agent: agent.into(), partition },
                WorkerEvent::Failed { agent, partition, error } => What::Failed {
                    agent: agent.into(),
                    partition,
                    kind: format!("{:?}", error.kind()),
                    error: error.to_string(),
                },
                _ => continue,
            };
            diary.write(what, &told);
        }
        diary
    });
    runtime.block_on(async {
        let app = shop::app(&spec.app);
        let plan = Plan::make(app.name(), &app.agents(), &*backend, PARTITIONS).await?;
        let summary = worker::run(&plan, backend, spec.options(), clock.clone(), stopped, events).await?;
        telling.await.unwrap().write(What::Ended { finished: summary.finished, stuck: summary.stuck }, &clock);
        Ok(())
    })
}

/// Where a worker says what it does.
struct Diary(File);

impl Diary {
    fn write(&mut self, what: What, clock: &Clock) {
        let mut line = serde_json::to_vec(&Said { at_ms: clock.now_ms(), what }).unwrap();
        line.push(b'\n');
        self.0.write_all(&line).unwrap();
    }
}

fn said_path(folder: &Path, number: u32) -> PathBuf {
    folder.join("said").join(number.to_string())
}

/// A worker process.
#[derive(Debug)]
pub(crate) struct Worker {
    pub(crate) number: u32,
    child: Child,
    folder: PathBuf,
}

impl Worker {
    /// Ends it with SIGKILL. Afterwards it is gone.
    pub(crate) fn kill(mut self) {
        // Its successor may meet its locks while the kernel takes them away.
        let note = self.folder.join("killed").join(self.number.to_string());
        fs::write(&note, "").unwrap();
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        let started = fs::read_dir(self.folder.join("stderr")).unwrap().count() as u32;
        let left = Left { started, covered: covered(&self.folder.join("data/state").join(APP)) };
        fs::write(&note, serde_json::to_vec(&left).unwrap()).unwrap();
    }

    /// Whether it has ended, and how.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().unwrap()
    }

    /// The most memory that it has had so far, in KiB.
    pub(crate) fn peak_memory_kib(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }

    /// What it wrote to its standard error.
    pub(crate) fn stderr(&self) -> String {
        fs::read_to_string(self.folder.join("stderr").join(self.number.to_string())).unwrap()
    }

    /// What it has said so far.
    pub(crate) fn said(&self) -> Vec<Said> {
        said(&said_path(&self.folder, self.number))
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // A test that fails leaves no process behind; for one that has ended this does nothing.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a killed worker has left.
#[derive(Debug, Serialize, Deserialize)]
struct Left {
    /// How many workers had been started until then.
    started: u32,
    /// Of each agent's partitions how much of the changelog checkpoints cover, whoever wrote them.
    covered: Vec<(String, u32, u64)>,
}

/// The position that each task writes down behind its stores at every checkpoint.
fn covered(state: &Path) -> Vec<(String, u32, u64)> {
    let mut covered = Vec::new();
    for agent in
        fs::read_dir(state).into_iter().flatten().filter_map(|entry| entry.ok()?.file_name().into_string().ok())
    {
        for entry in fs::read_dir(state.join(&agent)).into_iter().flatten().flatten() {
            let name = entry.file_name().into_string().unwrap();
            let Some(partition) = name.strip_suffix(".position") else { continue };
            let text = fs::read_to_string(entry.path()).unwrap();
            let position = text.split(' ').next().unwrap().parse().unwrap();
            covered.push((agent.clone(), partition.parse().unwrap(), position));
        }
    }
    covered
}

/// The lines of a worker; one that was killed may have left half a line.
fn said(path: &Path) -> Vec<Said> {
    let text = fs::read_to_string(path).unwrap_or_default();
    text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

/// Numbers that a seed repeats (xorshift64*).
#[derive(Clone, Debug)]
pub(crate) struct Random(u64);

impl Random {
    /// From `GRETCHEN_SEED` or the clock; the seed is printed, and shown when the test fails.
    pub(crate) fn seeded(test: &str) -> Self {
        let seed = std::env::var("GRETCHEN_SEED")
            .ok()
            .map_or_else(|| Clock::system().now_ms() as u64, |seed| seed.parse().unwrap());
        println!("replay with GRETCHEN_SEED={seed} cargo test --release {test}");
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    /// The same every time.
    pub(crate) fn numbered(number: u64) -> Self {
        Self(number.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    pub(crate) fn within(&mut self, range: Range<u64>) -> u64 {
        range.start + self.next() % (range.end - range.start)
    }

    pub(crate) fn one_in(&mut self, n: u64) -> bool {
        self.next().is_multiple_of(n)
    }
}

/// A folder, who publishes to it, and the workers on it.
pub(crate) struct Stage {
    folder: Option<TempDir>,
    pub(crate) spec: Spec,
    pub(crate) clock: Clock,
    runtime: Runtime,
    /// Open between two `close`s; while it is, no worker is the first to open a partition.
    log: Option<Open>,
    pub(crate) orders: Vec<Order>,
}

struct Open {
    backend: Arc<dyn Backend>,
    plan: Plan,
    publisher: Publisher,
    /// Orders that went through this publisher.
    pushed: usize,
}

impl Stage {
    /// An empty folder for an app of [`shop::app`].
    pub(crate) fn new(app: &str, fsync: bool) -> Self {
        let folder = TempDir::with_prefix("gretchen-").unwrap();
        for name in ["said", "stderr", "owners", "killed"] {
            fs::create_dir(folder.path().join(name)).unwrap();
        }
        let spec = Spec {
            folder: folder.path().to_owned(),
            number: 0,
            app: app.to_owned(),
            fsync,
            commit_ms: 20,
            checkpoint_ms: 300,
            stop_ms: 5_000,
            segment_bytes: 128 << 10,
            table_memory_bytes: WorkerOptions::default().table_memory_bytes,
            fault: None,
            accepts: false,
        };
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        Self { folder: Some(folder), spec, clock: Clock::system(), runtime, log: None, orders: Vec::new() }
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.spec.folder
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.spec.log().data_dir
    }

    /// Starts a worker process.
    pub(crate) fn worker(&mut self) -> Worker {
        self.spec.number += 1;
        let number = self.spec.number;
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "support::child_worker", "--nocapture", "--test-threads=1"])
            .env(WORKER_VAR, serde_json::to_string(&self.spec).unwrap())
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(File::create(self.folder().join("stderr").join(number.to_string())).unwrap())
            .spawn()
            .unwrap();
        Worker { number, child, folder: self.spec.folder.clone() }
    }

    pub(crate) fn sleep_ms(&self, ms: u64) {
        self.runtime.block_on(self.clock.sleep(Duration::from_millis(ms)));
    }

    /// Closes the log: the next worker may be the one that recovers it.
    pub(crate) fn close(&mut self) {
        if let Some(open) = self.log.take() {
            let _inside = self.runtime.enter();
            drop(open);
        }
    }

    fn open(&mut self) -> &mut Open {
        let (spec, clock, runtime) = (&self.spec, &self.clock, &self.runtime);
        self.log.get_or_insert_with(|| {
            let _inside = runtime.enter();
            let backend: Arc<dyn Backend> = Arc::new(LogBackend::open(spec.log(), clock.clone()).unwrap());
            let app = shop::app(&spec.app);
            let (plan, publisher) = runtime.block_on(async {
                let plan = Plan::make(app.name(), &app.agents(), &*backend, PARTITIONS).await.unwrap();
                let publisher = Publisher::open(&backend, "orders", Some("producer")).await.unwrap();
                (plan, publisher)
            });
            Open { backend, plan, publisher, pushed: 0 }
        })
    }

    pub(crate) fn replay(&mut self) -> Arc<dyn Replay> {
        self.open().backend.replay().unwrap()
    }

    /// Publishes orders, under the producer's name. After `close` it publishes every order from the first on, and
    /// those that are there must be dropped.
    pub(crate) fn publish(&mut self, more: Vec<Order>) {
        self.orders.extend(more);
        self.open();
        let Some(open) = &mut self.log else { return };
        let orders = &self.orders;
        self.runtime.block_on(async {
            let mut wire = Vec::new();
            for order in &orders[open.pushed..] {
                wire.clear();
                order.encode_value(&mut wire).unwrap();
                open.publisher.push(Some(order.customer.as_bytes()), Some(&wire), order.order_id).await.unwrap();
            }
            open.publisher.flush().await.unwrap();
        });
        open.pushed = orders.len();
    }

    /// For each agent and partition of its sources: the committed position and the end of its changelog.
    pub(crate) fn progress(&mut self) -> BTreeMap<(String, u32), (u64, u64)> {
        let replay = self.replay();
        let mut progress = BTreeMap::new();
        for agent in &self.open().plan.agents {
            for partition in 0..agent.partitions {
                let at = |(topic, _): &(Arc<str>, _)| {
                    let place = TopicPartition::new(topic.clone(), partition);
                    replay.position(&agent.group, &place).unwrap().unwrap_or(0)
                };
                let changelog = TopicPartition::new(agent.changelog.clone(), partition);
                let end = replay.offsets(&changelog).unwrap().end;
                progress.insert((agent.def.name.to_owned(), partition), (agent.sources.iter().map(at).sum(), end));
            }
        }
        progress
    }

    /// Waits until the workers have processed and committed everything.
    pub(crate) fn catch_up(&mut self, workers: &mut [Worker]) {
        let began = self.clock.moment();
        loop {
            let open = self.open();
            if worker::caught_up(&open.plan, &*open.backend).unwrap() {
                return;
            }
            for worker in &mut *workers {
                if let Some(status) = worker.ended() {
                    panic!("worker {} has ended with {status}:\n{}", worker.number, worker.stderr());
                }
            }
            if self.passed(began) > PATIENCE {
                panic!("the workers have not caught up within {PATIENCE:?}: {}", self.behind());
            }
            self.sleep_ms(5);
        }
    }

    /// What is not processed yet, for people.
    fn behind(&mut self) -> String {
        let replay = self.replay();
        let mut text = String::new();
        for agent in &self.open().plan.agents {
            for partition in 0..agent.partitions {
                for (topic, _) in &agent.sources {
                    let place = TopicPartition::new(topic.clone(), partition);
                    let end = replay.offsets(&place).unwrap().end;
                    let at = replay.position(&agent.group, &place).unwrap();
                    if end > at.unwrap_or(0) {
                        text += &format!("\n  {} at {at:?} of {end} in {place}", agent.def.name);
                    }
                }
            }
        }
        text
    }

    pub(crate) fn passed(&self, since: Moment) -> Duration {
        self.clock.moment().since(since)
    }

    /// Stops workers gracefully.
    pub(crate) fn stop(&self, workers: Vec<Worker>) {
        let mut workers = workers;
        workers.iter_mut().for_each(|worker| drop(worker.child.stdin.take()));
        for mut worker in workers {
            let status = self.wait(&mut worker);
            assert!(status.success(), "worker {} ended with {status}:\n{}", worker.number, worker.stderr());
        }
    }

    /// Waits until a worker ends by itself.
    pub(crate) fn wait(&self, worker: &mut Worker) -> ExitStatus {
        let began = self.clock.moment();
        loop {
            if let Some(status) = worker.ended() {
                return status;
            }
            assert!(self.passed(began) < PATIENCE, "worker {} does not end:\n{}", worker.number, worker.stderr());
            self.sleep_ms(2);
        }
    }

    /// What all workers said, worker by worker.
    pub(crate) fn said(&self) -> Vec<(u32, Said)> {
        (1..=self.spec.number)
            .flat_map(|number| said(&said_path(self.folder(), number)).into_iter().map(move |said| (number, said)))
            .collect()
    }

    /// No owner met another owner of its partition.
    pub(crate) fn check_owners(&self) {
        let path = self.folder().join("violations");
        if let Ok(text) = fs::read_to_string(path) {
            panic!("a partition had two owners: {text}");
        }
    }

    /// No start reads again what a checkpoint had covered when a worker was killed before, or what an earlier start found covered.
    pub(crate) fn check_recoveries(&self) -> (usize, usize) {
        let mut starts: Vec<(i64, u32, String, u32, u64)> = Vec::new();
        let all = (1..=self.spec.number).filter_map(|number| {
            let note = fs::read(self.folder().join("killed").join(number.to_string())).ok()?;
            Some(serde_json::from_slice::<Left>(&note).unwrap())
        });
        // By the first worker that must find it.
        let mut lefts: BTreeMap<(String, u32), Vec<(u32, u64)>> = BTreeMap::new();
        for left in all {
            for (agent, partition, covered) in left.covered {
                lefts.entry((agent, partition)).or_default().push((left.started + 1, covered));
            }
        }
        for (number, said) in self.said() {
            if let What::Started { agent, partition, covered, .. } = said.what {
                starts.push((said.at_ms, number, agent, partition, covered));
            }
        }
        starts.sort();
        let mut covered_by: BTreeMap<(&str, u32), u64> = BTreeMap::new();
        let mut from_checkpoint = 0;
        for (at_ms, number, agent, partition, covered) in &starts {
            let lefts = lefts.get(&(agent.clone(), *partition)).into_iter().flatten();
            let left = lefts.filter(|(from, _)| from <= number).map(|(_, covered)| *covered).max().unwrap_or(0);
            assert!(
                *covered >= left,
                "worker {number} began {agent}/{partition} at {covered} of its changelog at {at_ms} although {left} was covered when a worker was killed before"
            );
            let known = covered_by.entry((agent, *partition)).or_default();
            assert!(
                covered >= known,
                "worker {number} began {agent}/{partition} at {covered} of its changelog at {at_ms} although a checkpoint covered {known}"
            );
            *known = *covered;
            from_checkpoint += usize::from(*covered > 0);
        }
        (starts.len(), from_checkpoint)
    }
}

impl Evidence for Stage {
    fn orders(&self) -> Vec<Order> {
        self.orders.clone()
    }

    fn topic<V: Value>(&mut self, topic: &str) -> Vec<Vec<(Vec<u8>, V)>> {
        records_of(&*self.replay(), topic, true)
    }

    fn session(&mut self) -> Session {
        self.close();
        Session::open(shop::app(&self.spec.app), self.spec.log(), PARTITIONS).unwrap()
    }
}

/// Keys and values of a topic, partition by partition, in order. `whole`: none has gone.
pub(crate) fn records_of<V: Value>(replay: &dyn Replay, topic: &str, whole: bool) -> Vec<Vec<(Vec<u8>, V)>> {
    (0..PARTITIONS)
        .map(|partition| {
            let place = TopicPartition::new(topic, partition);
            let mut reader = replay.reader(&place, 0).unwrap();
            let (mut frames, mut records, mut next) = (Frames::default(), Vec::new(), 0);
            while reader.read(&mut frames).unwrap() {
                for record in frames.iter().flat_map(|frame| frame.records().collect::<Vec<_>>()) {
                    let follows = if whole { record.offset == next } else { record.offset >= next };
                    assert!(follows, "offsets of {place} have a hole or a repeat: {} is not {next}", record.offset);
                    next = record.offset + 1;
                    records.push((record.key.unwrap().to_vec(), V::decode_value(record.value.unwrap()).unwrap()));
                }
            }
            records
        })
        .collect()
}

impl Drop for Stage {
    fn drop(&mut self) {
        self.close();
        if std::thread::panicking()
            && let Some(folder) = self.folder.take()
        {
            eprintln!("the folder of the failed test is {}", folder.keep().display());
        }
    }
}

/// An app's own folder of tables, and everything else of it, copied.
pub(crate) fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &to.join(entry.file_name()));
        } else {
            fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
        }
    }
}

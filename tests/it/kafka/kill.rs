//! Workers on Kafka are killed again and again while orders flow; in the end every figure is exact for a reader of what is
//! committed.
//!
//! Each worker has a folder of its own, as if it were on a machine of its own. `GRETCHEN_KILLS=50` asks for more kills,
//! `GRETCHEN_ORDERS=1000000` for more orders.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use gretchen::backend::kafka::KafkaBackend;
use gretchen::backend::{Backend, Replay, WireLayer};
use gretchen::clock::Clock;
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

use super::{fresh_prefix, options};
use crate::shop::{self, Evidence, Order};
use crate::support::{PARTITIONS, Random};

const WORKER_VAR: &str = "GRETCHEN_TEST_KAFKA_WORKER";
const APP: &str = "simulated";
const WORKERS: usize = 3;
const KILLS: usize = 12;
const ORDERS: usize = 20_000;

/// Time that workers get to catch up or to stop before the test fails.
const PATIENCE: Duration = Duration::from_secs(300);

/// What a worker process is told.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Spec {
    servers: String,
    prefix: String,
    /// The worker's own.
    folder: PathBuf,
}

/// What a worker says of a start, a line each: agent, partition, and what of the changelog was covered and replayed.
#[derive(Debug, Serialize, Deserialize)]
enum Said {
    Started(String, u32, u64, u64),
    Failed(String),
}

fn open(spec: &Spec, clock: &Clock) -> Result<Arc<dyn Backend>> {
    let mut told = options_at(&spec.servers);
    told.set("gretchen.prefix", &spec.prefix)?;
    Ok(Arc::new(KafkaBackend::open(told, clock.clone())?))
}

fn options_at(servers: &str) -> gretchen::backend::kafka::KafkaOptions {
    let mut options = gretchen::backend::kafka::KafkaOptions::new(servers);
    options.set("session.timeout.ms", "2000").unwrap();
    options.set("heartbeat.interval.ms", "300").unwrap();
    options
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
    let backend = open(spec, &clock)?;
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
        let app = shop::app(APP);
        let layer = WireLayer::new(backend, BTreeMap::new());
        let plan = Plan::make(app.name(), &app.agents(), &layer, PARTITIONS).await?;
        let options = WorkerOptions {
            state_dir: Some(spec.folder.join("state")),
            commit_interval: Duration::from_millis(100),
            checkpoint_interval: Duration::from_millis(1_000),
            threads: 2,
            ..WorkerOptions::default()
        };
        worker::run(&plan, Arc::new(layer), options, clock.clone(), stopped, events).await.map(drop)
    })
}

struct Worker {
    spec: Spec,
    child: Child,
}

impl Worker {
    fn start(spec: Spec) -> Self {
        fs::create_dir_all(&spec.folder).unwrap();
        let stderr = File::options().create(true).append(true).open(spec.folder.join("stderr")).unwrap();
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["kafka::kill::child_worker", "--exact", "--nocapture", "--test-threads=1"])
            .env(WORKER_VAR, serde_json::to_string(&spec).unwrap())
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(stderr)
            .spawn()
            .unwrap();
        Self { spec, child }
    }

    /// Ends it with SIGKILL; what is left is its folder.
    fn kill(mut self) -> Spec {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        self.spec.clone()
    }

    fn is_gone(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    fn stderr(&self) -> String {
        fs::read_to_string(self.spec.folder.join("stderr")).unwrap()
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn said(folder: &Path) -> Vec<Said> {
    let text = fs::read_to_string(folder.join("said")).unwrap_or_default();
    text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

/// What was published, and a reader of what is committed.
struct Stage {
    folder: TempDir,
    servers: String,
    prefix: String,
    clock: Clock,
    runtime: Runtime,
    backend: Arc<dyn Backend>,
    plan: Plan,
    orders: Vec<Order>,
}

impl Stage {
    fn new() -> Self {
        let prefix = fresh_prefix();
        let clock = Clock::system();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let app = shop::app(APP);
        let kafka = KafkaBackend::open(options(&prefix), clock.clone()).unwrap();
        let backend: Arc<dyn Backend> = Arc::new(WireLayer::new(Arc::new(kafka), BTreeMap::new()));
        let plan = runtime.block_on(Plan::make(app.name(), &app.agents(), &*backend, PARTITIONS)).unwrap();
        Self {
            folder: TempDir::with_prefix("gretchen-kafka-").unwrap(),
            servers: super::broker().to_owned(),
            prefix,
            clock,
            runtime,
            backend,
            plan,
            orders: Vec::new(),
        }
    }

    /// The folder of a worker of that number.
    fn spec(&self, number: usize) -> Spec {
        let folder = self.folder.path().join(number.to_string());
        Spec { servers: self.servers.clone(), prefix: self.prefix.clone(), folder }
    }

    fn publish(&mut self, publisher: &mut Publisher, more: Vec<Order>) {
        self.runtime.block_on(async {
            let mut wire = Vec::new();
            for order in &more {
                wire.clear();
                order.encode_value(&mut wire).unwrap();
                publisher.push(Some(order.customer.as_bytes()), Some(&wire), 1_000 + order.order_id).await.unwrap();
            }
            publisher.flush().await.unwrap();
        });
        self.orders.extend(more);
    }

    fn sleep_ms(&self, ms: u64) {
        self.runtime.block_on(self.clock.sleep(Duration::from_millis(ms)));
    }

    fn catch_up(&self, workers: &mut [Worker]) {
        let began = self.clock.moment();
        while !worker::caught_up(&self.plan, &*self.backend).unwrap() {
            for worker in &mut *workers {
                assert!(!worker.is_gone(), "a worker has ended:\n{}", worker.stderr());
            }
            if self.clock.moment().since(began) > PATIENCE {
                let stderr: Vec<String> = workers.iter().map(Worker::stderr).collect();
                panic!("the workers do not catch up:\n{}", stderr.join("\n----\n"));
            }
            self.sleep_ms(200);
        }
    }

    /// A worker whose store covered something begins there. Returns the starts, those that read a whole changelog although
    /// the folder had a store, and those that failed.
    fn check_starts(&self, workers: usize) -> (usize, usize) {
        let (mut starts, mut from_store) = (0, 0);
        for number in 0..workers {
            let mut covered_by: BTreeMap<(String, u32), u64> = BTreeMap::new();
            for said in said(&self.spec(number).folder) {
                match said {
                    Said::Started(agent, partition, covered, _) => {
                        let known = covered_by.entry((agent.clone(), partition)).or_default();
                        assert!(
                            covered >= *known,
                            "worker {number} begins {agent}/{partition} at {covered} of its changelog although its store covered {known}"
                        );
                        *known = covered;
                        starts += 1;
                        from_store += usize::from(covered > 0);
                    }
                    Said::Failed(why) => panic!("worker {number}: {why}"),
                }
            }
        }
        (starts, from_store)
    }
}

impl Evidence for Stage {
    fn orders(&self) -> Vec<Order> {
        self.orders.clone()
    }

    fn topic<V: Value>(&mut self, topic: &str) -> Vec<Vec<(Vec<u8>, V)>> {
        let replay = self.backend.replay().unwrap();
        (0..PARTITIONS).map(|partition| records_of(&*replay, &TopicPartition::new(topic, partition))).collect()
    }

    fn session(&mut self) -> Session {
        let spec = self.spec(usize::MAX);
        Session::on(shop::app(APP), &spec.folder, PARTITIONS, |clock| open(&spec, &clock)).unwrap()
    }
}

pub(super) fn records_of<V: Value>(replay: &dyn Replay, place: &TopicPartition) -> Vec<(Vec<u8>, V)> {
    let mut reader = replay.reader(place, 0).unwrap();
    let (mut frames, mut records) = (Frames::default(), Vec::new());
    while reader.read(&mut frames).unwrap() {
        for record in frames.iter().flat_map(|frame| frame.records()) {
            records.push((record.key.unwrap().to_vec(), V::decode_value(record.value.unwrap()).unwrap()));
        }
    }
    records
}

fn number_of(variable: &str, default: usize) -> usize {
    std::env::var(variable).map_or(default, |number| number.parse().unwrap())
}

#[test]
fn kills_change_nothing() {
    let random = &mut Random::seeded("kafka::kill::kills_change_nothing");
    let mut stage = Stage::new();
    let (kills, orders) = (number_of("GRETCHEN_KILLS", KILLS), number_of("GRETCHEN_ORDERS", ORDERS));
    let mut workers: Vec<Worker> = (0..WORKERS).map(|number| Worker::start(stage.spec(number))).collect();
    let opened = stage.runtime.block_on(Publisher::open(&stage.backend, "orders", Some("orders")));
    let mut publisher = opened.unwrap();
    let began = stage.clock.moment();
    let mut killed = 0;
    while killed < kills || stage.orders.len() < orders {
        let left = orders.saturating_sub(stage.orders.len()) as u64;
        if left > 0 {
            let count = (left / (kills - killed).max(1) as u64 / 4).clamp(1, left);
            let bulk = random.one_in(50);
            let more = shop::orders(random, stage.orders.len(), count, bulk);
            stage.publish(&mut publisher, more);
        }
        stage.sleep_ms(random.within(50..400));
        if killed < kills && random.one_in(4) {
            let spec = workers.swap_remove(random.within(0..workers.len() as u64) as usize).kill();
            killed += 1;
            stage.sleep_ms(random.within(0..3_000));
            workers.push(Worker::start(spec));
        }
    }
    stage.catch_up(&mut workers);
    let caught_up = stage.clock.moment().since(began);
    for mut worker in std::mem::take(&mut workers) {
        drop(worker.child.stdin.take());
        let status = worker.child.wait().unwrap();
        assert!(status.success(), "a worker ended with {status}:\n{}", worker.stderr());
    }
    shop::check_figures(&mut stage);
    let (starts, from_store) = stage.check_starts(WORKERS);
    println!(
        "{killed} kills and {} orders, caught up after {caught_up:.1?}; {starts} starts of tasks, {from_store} of them from a store",
        stage.orders.len()
    );
    assert!(from_store > 0, "no start found a store");
}

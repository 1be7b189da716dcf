//! Tables whose state is gone come back from their changelog: within the memory that they may take, and a worker that is told
//! to stop meanwhile keeps what it has so far.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use gretchen::agent;
use gretchen::app::App;
use gretchen::backend::kafka::KafkaBackend;
use gretchen::backend::{Backend, WireLayer};
use gretchen::clock::Clock;
use gretchen::error::BoxError;
use gretchen::plan::Plan;
use gretchen::session::Session;
use gretchen::table::{Table, TableMut};
use gretchen::topic::TopicSpec;
use gretchen::worker::{self, Recovered, WorkerEvent, WorkerOptions};
use rdkafka::ClientConfig;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use tempfile::TempDir;
use tokio::runtime::Runtime;
use tokio::sync::{mpsc, watch};

use super::purging::publish;
use super::stage::PATIENCE;
use super::{broker, fresh_prefix, options};
use crate::shop::{self, Order};
use crate::support::Random;

const CUSTOMERS: u64 = 200_000;

/// A small part of what so many customers take.
const MEMORY: usize = 2 << 20;

static ORDERS: Table<String, i64> = Table::new("restored-orders");

#[agent(topic = "orders", key = customer, table = ORDERS)]
async fn count(order: Order, mut orders: TableMut<'_, String, i64>) -> Result<(), BoxError> {
    orders.update(&order.customer, |count| *count += 1)?;
    Ok(())
}

fn app() -> App {
    App::new("restored").agent::<count>()
}

fn is_checkpoint(entry: &std::fs::DirEntry) -> bool {
    entry.path().extension().is_some_and(|extension| extension == "sst")
}

/// Files of checkpoints in a folder.
fn checkpoints(folder: &Path) -> usize {
    let Ok(entries) = std::fs::read_dir(folder) else { return 0 };
    entries
        .filter_map(Result::ok)
        .map(|entry| if entry.path().is_dir() { checkpoints(&entry.path()) } else { is_checkpoint(&entry).into() })
        .sum()
}

struct Stage {
    backend: Arc<dyn Backend>,
    clock: Clock,
    runtime: Runtime,
    folder: TempDir,
}

impl Stage {
    fn state(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Runs a worker with the state of that name until `enough` says so, who hears whether its task has started; what the
    /// task found then.
    fn work(
        &self,
        state: &str,
        (interval, memory): (Duration, usize),
        enough: impl Fn(&Plan, bool) -> bool,
    ) -> Option<Recovered> {
        self.runtime.block_on(async {
            let plan = Arc::new(Plan::make("restored", &app().agents(), &*self.backend, 1).await.unwrap());
            let (stop, stopped) = watch::channel(false);
            let (events, mut received) = mpsc::unbounded_channel();
            let options = WorkerOptions {
                state_dir: Some(self.state(state)),
                table_memory_bytes: memory,
                commit_interval: interval,
                ..WorkerOptions::default()
            };
            let (at_work, backend, clock) = (plan.clone(), self.backend.clone(), self.clock.clone());
            let work =
                tokio::spawn(async move { worker::run(&at_work, backend, options, clock, stopped, events).await });
            let began = self.clock.moment();
            let mut found = None;
            while !enough(&plan, found.is_some()) {
                assert!(self.clock.moment().since(began) < PATIENCE, "the worker does not get on");
                self.clock.sleep(Duration::from_millis(1)).await;
                while let Ok(event) = received.try_recv() {
                    match event {
                        WorkerEvent::Started { recovered, .. } => found = Some(recovered),
                        WorkerEvent::Failed { error, .. } => panic!("{error}"),
                        _ => {}
                    }
                }
            }
            stop.send(true).unwrap();
            assert_eq!(work.await.unwrap().unwrap().failed, 0);
            found
        })
    }
}

#[test]
fn a_state_that_is_gone_comes_back_in_parts_that_are_kept() {
    come_back(Duration::from_millis(5), MEMORY, 0);
}

/// As it is where brokers have compacted the changelog: there is one end of a commit, behind everything but what was given up.
#[test]
fn a_state_of_one_commit_comes_back_in_parts() {
    come_back(Duration::from_secs(60), 64 << 20, 200);
}

/// Leaves so many records behind a changelog's last commit that no reader sees.
fn give_up(changelog: &str, records: usize) {
    let answer = Duration::from_secs(10);
    let producer: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", broker())
        .set("transactional.id", format!("{changelog}-given-up"))
        .create()
        .unwrap();
    producer.init_transactions(answer).unwrap();
    producer.begin_transaction().unwrap();
    for _ in 0..records {
        producer.send(BaseRecord::to(changelog).partition(0).key("\u{1}\u{0}key").payload("state")).unwrap();
    }
    producer.flush(answer).unwrap();
    producer.abort_transaction(answer).unwrap();
}

fn come_back(commit_interval: Duration, memory: usize, given_up: usize) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let prefix = fresh_prefix();
    let kafka = KafkaBackend::open(options(&prefix), Clock::system()).unwrap();
    let backend: Arc<dyn Backend> = Arc::new(WireLayer::new(Arc::new(kafka), BTreeMap::new()));
    let stage = Stage { backend, clock: Clock::system(), runtime, folder: tempfile::tempdir().unwrap() };
    stage.runtime.block_on(async {
        let orders = TopicSpec { key_field: Some("customer".into()), ..TopicSpec::new("orders", 1) };
        stage.backend.create_topic(&orders).await.unwrap();
        let one = shop::orders(&mut Random::numbered(1), 0, 1, false).remove(0);
        let of = |number: u64| Order { customer: format!("customer {number}"), ..one.clone() };
        publish(&stage.backend, &(0..CUSTOMERS).map(of).collect::<Vec<_>>()).await;
    });
    let all = |plan: &Plan, started: bool| started && worker::caught_up(plan, &*stage.backend).unwrap();
    stage.work("here", (commit_interval, memory), all).unwrap();

    if given_up > 0 {
        give_up(&format!("{prefix}restored-count-changelog"), given_up);
    }
    // On another machine there is no state.
    let little = (Duration::from_millis(100), MEMORY);
    let some = |_: &Plan, started: bool| started || checkpoints(&stage.state("state/restored")) > 1;
    let started = stage.work("state/restored", little, some);
    assert_eq!(started, None, "the worker was to be stopped before it had everything");
    let recovered = stage.work("state/restored", little, |_, started| started).unwrap();
    println!("{recovered:?}");
    assert!(recovered.covered > 0, "what the first had is lost: {recovered:?}");
    assert!(recovered.covered + recovered.replayed >= CUSTOMERS && recovered.replayed > 0, "{recovered:?}");

    let session = Session::on(app(), stage.folder.path(), 1, |_| Ok(stage.backend.clone())).unwrap();
    let orders = session.table(&ORDERS).unwrap();
    assert_eq!(orders.len() as u64, CUSTOMERS);
    assert!(orders.iter().all(|(_, count)| *count == 1));
}

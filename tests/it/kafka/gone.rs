//! Brokers that go away and stay away: a partition is opened anew for as long as it may be, then it stops and says why.
//!
//! It takes a minute, most of it waiting for answers, so it must be asked for: `cargo test --release --test it kafka::gone --
//! --ignored`.

use std::sync::Arc;
use std::time::Duration;

use gretchen::agent;
use gretchen::app::App;
use gretchen::backend::kafka::{KafkaBackend, KafkaOptions};
use gretchen::backend::{Backend, WireLayer};
use gretchen::clock::Clock;
use gretchen::plan::Plan;
use gretchen::publish::Publisher;
use gretchen::worker::{self, WorkerEvent, WorkerOptions};
use tokio::sync::{Semaphore, mpsc, watch};

use super::cluster::Cluster;
use super::stage::PATIENCE;

/// The agent has come to its record; it may go on.
static COME: Semaphore = Semaphore::const_new(0);
static GO_ON: Semaphore = Semaphore::const_new(0);

#[agent(topic = "gone-in", output = "gone-out")]
async fn outlives(text: String) -> String {
    COME.add_permits(1);
    GO_ON.acquire().await.unwrap().forget();
    text
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes a minute"]
async fn brokers_that_stay_away_end_a_partition_with_a_message() {
    let cluster = Cluster::start(1);
    let mut told = KafkaOptions::new(&cluster.servers);
    // Without its session the member would lose the partition first, and wait for the group.
    told.set("session.timeout.ms", "200000").unwrap();
    let kafka = KafkaBackend::open(told, Clock::system()).unwrap();
    let backend: Arc<dyn Backend> = Arc::new(WireLayer::new(Arc::new(kafka), Default::default()));
    let app = App::new("gone").agent::<outlives>();
    let plan = Plan::make(app.name(), &app.agents(), &*backend, 1).await.unwrap();
    let mut publisher = Publisher::open(&backend, "gone-in", None).await.unwrap();
    publisher.push(Some(b"k"), Some(b"text"), 1_000).await.unwrap();
    publisher.flush().await.unwrap();

    let (_stop, stopped) = watch::channel(false);
    let (sender, mut events) = mpsc::unbounded_channel();
    let folder = tempfile::tempdir().unwrap();
    let options = WorkerOptions {
        state_dir: Some(folder.path().to_owned()),
        give_up_after: Duration::from_secs(5),
        ..WorkerOptions::default()
    };
    let work =
        tokio::spawn(async move { worker::run(&plan, backend, options, Clock::system(), stopped, sender).await });
    COME.acquire().await.unwrap().forget();
    cluster.call(&["kill", "1"]);
    GO_ON.add_permits(1);
    let failed = async {
        loop {
            if let WorkerEvent::Failed { agent, partition, error } = events.recv().await.unwrap() {
                return (agent, partition, error);
            }
        }
    };
    let (agent, partition, error) = tokio::time::timeout(PATIENCE, failed).await.unwrap();
    assert_eq!((agent, partition), ("outlives", 0));
    let said = error.to_string();
    assert!(
        said.contains("partition 0 of agent outlives was opened anew") && said.contains("see whether the brokers"),
        "{said}"
    );
    assert_eq!(work.await.unwrap().unwrap().failed, 1);
}

//! What waits before a slow agent waits on the disk: a worker's memory does not grow with it.
//!
//! `GRETCHEN_WAITING=2000000 cargo test --release --test it waiting:: -- --nocapture` lets two million records wait.

use std::sync::Arc;
use std::time::Duration;

use gretchen::agent;
use gretchen::agent::{Batch, Event};
use gretchen::app::App;
use gretchen::backend::Backend;
use gretchen::backend::log::LogBackend;
use gretchen::clock::Clock;
use gretchen::plan::{Plan, group_name};
use gretchen::publish::Publisher;
use gretchen::topic::TopicPartition;

use crate::support::{APP, PARTITIONS, Stage};

/// Bytes of a record.
const RECORD: usize = 1024;

/// What a worker may take at most, whatever waits.
const MOST_KIB: u64 = 150 << 10;

/// Time that an agent takes for a record, or for a batch.
const TAKES: Duration = Duration::from_millis(50);

#[agent(topic = "waiting")]
async fn one_by_one(record: Event<Vec<u8>>) {
    assert_eq!(record.len(), RECORD);
    Clock::system().sleep(TAKES).await;
}

#[agent(topic = "waiting", concurrency = 8)]
async fn some_at_once(record: Vec<u8>) {
    assert_eq!(record.len(), RECORD);
    Clock::system().sleep(TAKES).await;
}

#[agent(topic = "waiting")]
async fn batch_by_batch(records: Batch<Vec<u8>>) {
    assert!(records.iter().all(|record| record.len() == RECORD));
    Clock::system().sleep(TAKES).await;
}

pub(crate) fn app() -> App {
    App::new(APP).agent::<one_by_one>().agent::<some_at_once>().agent::<batch_by_batch>()
}

/// Publishes records of a kibibyte, which do not compress.
async fn publish(backend: &Arc<dyn Backend>, count: u64) {
    let mut publisher = Publisher::open(backend, "waiting", None).await.unwrap();
    let mut record = vec![0; RECORD];
    for number in 0..count {
        record[..8].copy_from_slice(&number.to_le_bytes());
        publisher.push(Some(&number.to_be_bytes()), Some(&record), number as i64).await.unwrap();
    }
    publisher.flush().await.unwrap();
}

#[test]
fn records_that_wait_take_no_memory() {
    let count = std::env::var("GRETCHEN_WAITING").map_or(200_000, |count| count.parse().unwrap());
    let mut stage = Stage::new("waiting", false);
    stage.spec.segment_bytes = 64 << 20;
    // Nobody waits for the records at hand.
    stage.spec.stop_ms = 1_000;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let backend: Arc<dyn Backend> = {
        let _inside = runtime.enter();
        Arc::new(LogBackend::open(stage.spec.log(), Clock::system()).unwrap())
    };
    runtime.block_on(async {
        Plan::make(APP, &app().agents(), &*backend, PARTITIONS).await.unwrap();
        publish(&backend, count).await;
    });

    let replay = backend.replay().unwrap();
    let worker = stage.worker();
    let done = |agent: &str| -> u64 {
        let of = |partition| replay.position(&group_name(APP, agent), &TopicPartition::new("waiting", partition));
        (0..PARTITIONS).filter_map(|partition| of(partition).unwrap()).sum()
    };
    // Each has gone through several buffers of 256 KiB, but for the one that takes its records one by one.
    while done("some_at_once") < 2_500 || done("batch_by_batch") < count.min(20_000) || done("one_by_one") < 200 {
        stage.sleep_ms(20);
    }
    let peak = worker.peak_memory_kib();
    println!("{count} records of {RECORD} bytes wait; the worker has taken {peak} KiB at most");
    assert!(peak < MOST_KIB, "{peak} KiB");
    stage.stop(vec![worker]);
}

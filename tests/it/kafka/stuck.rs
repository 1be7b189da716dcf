//! An agent that stays at one record for longer than a member of a group may: its worker says so by name and leaves the
//! group, another takes the partition over, and nothing that the first had on its way counts.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use gretchen::agent;
use gretchen::app::App;
use gretchen::backend::kafka::KafkaBackend;
use gretchen::backend::{Backend, WireLayer};
use gretchen::clock::Clock;
use gretchen::plan::Plan;
use gretchen::publish::Publisher;
use gretchen::record::Value;
use gretchen::topic::TopicPartition;
use gretchen::worker::{self, WorkerEvent};
use tokio::sync::Semaphore;

use super::here::Worker;
use super::stage::records_of;
use super::{fresh_prefix, options};

const NUMBERS: i32 = 10;
const HALT: i32 = 5;

/// Whether nobody has come to the record yet that halts the first who does.
static FIRST: AtomicBool = AtomicBool::new(true);

/// Lets it go on.
static GO_ON: Semaphore = Semaphore::const_new(0);

#[agent(topic = "halts-in", output = "halts-out")]
async fn halts(number: i32) -> i32 {
    if number == HALT && FIRST.swap(false, Ordering::SeqCst) {
        GO_ON.acquire().await.unwrap().forget();
    }
    number
}

async fn open(prefix: &str) -> (Arc<dyn Backend>, Plan) {
    let mut told = options(prefix);
    told.set("max.poll.interval.ms", "4000").unwrap();
    let kafka = KafkaBackend::open(told, Clock::system()).unwrap();
    let backend: Arc<dyn Backend> = Arc::new(WireLayer::new(Arc::new(kafka), Default::default()));
    let app = App::new("halting").agent::<halts>();
    let plan = Plan::make(app.name(), &app.agents(), &*backend, 1).await.unwrap();
    (backend, plan)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stuck_agent_is_named_and_its_worker_leaves_the_group() {
    let prefix = fresh_prefix();
    let (backend, plan) = open(&prefix).await;
    let mut first = Worker::start(open(&prefix).await);
    first.started().await;
    let mut publisher = Publisher::open(&backend, "halts-in", None).await.unwrap();
    for number in 0..NUMBERS {
        let mut wire = Vec::new();
        number.encode_value(&mut wire).unwrap();
        publisher.push(Some(b"k"), Some(&wire), 1_000).await.unwrap();
    }
    publisher.flush().await.unwrap();

    let mut second = Worker::start(open(&prefix).await);
    let left = first.event(|event| matches!(event, WorkerEvent::Left { .. })).await;
    let WorkerEvent::Left { agent, topic, partition, offset, time } = left else { unreachable!() };
    assert_eq!((agent, &*topic, partition, offset), ("halts", "halts-in", 0, HALT as u64));
    assert!(time >= Duration::from_millis(4_000), "{time:?}");
    second.started().await;
    while !worker::caught_up(&plan, &*backend).unwrap() {
        Clock::system().sleep(Duration::from_millis(100)).await;
    }
    // It comes back late, and joins again: it takes over when the other goes.
    GO_ON.add_permits(1);
    second.stop.send(true).unwrap();
    assert_eq!(second.work.await.unwrap().stuck, 0);
    first.started().await;
    first.stop.send(true).unwrap();
    assert_eq!(first.work.await.unwrap().stuck, 0);

    let replay = backend.replay().unwrap();
    let out: Vec<(Vec<u8>, i32)> = records_of(&*replay, &TopicPartition::new("halts-out", 0));
    let numbers: Vec<i32> = out.into_iter().map(|(_, number)| number).collect();
    assert_eq!(numbers, (0..NUMBERS).collect::<Vec<_>>(), "each once");
}

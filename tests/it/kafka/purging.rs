//! What agents keep for themselves gets shorter: of a repartition topic goes what is committed, and nothing else.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use gretchen::agent;
use gretchen::app::App;
use gretchen::backend::kafka::KafkaBackend;
use gretchen::backend::{Backend, Offsets, Replay, WireLayer};
use gretchen::clock::Clock;
use gretchen::error::BoxError;
use gretchen::plan::Plan;
use gretchen::publish::Publisher;
use gretchen::record::{Frames, Key, Value};
use gretchen::session::Session;
use gretchen::table::{Table, TableMut};
use gretchen::topic::{TopicPartition, TopicSpec};
use gretchen::worker::{self, WorkerEvent, WorkerOptions};
use tokio::sync::{Semaphore, mpsc, watch};

use super::stage::PATIENCE;
use super::{fresh_prefix, options};
use crate::shop::{self, Order};
use crate::support::Random;

const PARTITIONS: u32 = 2;

/// Orders of so many pieces are held up until they may go on.
const HELD: i32 = 1_000_000;

static GO_ON: Semaphore = Semaphore::const_new(0);

static PIECES: Table<i32, i64> = Table::new("purged-pieces");

#[agent(topic = "orders", key = quantity, table = PIECES)]
async fn count_up(order: Order, mut pieces: TableMut<'_, i32, i64>) -> Result<(), BoxError> {
    if order.quantity == HELD {
        GO_ON.acquire().await?.forget();
    }
    pieces.update(&order.quantity, |count| *count += 1)?;
    Ok(())
}

/// Start, position and end of a partition.
type Place = (u64, u64, u64);

struct Watched {
    replay: Arc<dyn Replay>,
    plan: Plan,
}

impl Watched {
    /// Each partition of the repartition topic. Positions only grow, so what was the start before must not be behind the
    /// position.
    fn look(&self) -> Vec<Place> {
        let group = &self.plan.agents.iter().find(|agent| agent.def.name == "count_up").unwrap().group;
        (0..PARTITIONS)
            .map(|partition| {
                let place = TopicPartition::new("purged-count_up-repartition", partition);
                let offsets = self.replay.offsets(&place).unwrap();
                let position = self.replay.position(group, &place).unwrap().unwrap_or(0);
                assert!(offsets.start <= position, "{place}: {offsets:?} was let go, and {position} is committed");
                (offsets.start, position, offsets.end)
            })
            .collect()
    }

    /// Partition and offset of the order that is held up.
    fn held_up(&self) -> Option<(u32, u64)> {
        let mut key = Vec::new();
        <i32 as Key>::encode_key(&HELD, &mut key).unwrap();
        (0..PARTITIONS).find_map(|partition| {
            let place = TopicPartition::new("purged-count_up-repartition", partition);
            let Offsets { start, end, .. } = self.replay.offsets(&place).unwrap();
            let mut reader = self.replay.reader(&place, start).unwrap();
            let mut frames = Frames::default();
            let mut found = None;
            while found.is_none() && reader.position() < end && reader.read(&mut frames).unwrap() {
                let mut records = frames.iter().flat_map(|frame| frame.records());
                found = records.find(|record| record.key == Some(&key)).map(|record| record.offset);
            }
            Some((partition, found?))
        })
    }

    async fn until(&self, what: &str, is_so: impl Fn(&[Place]) -> bool) -> Vec<Place> {
        let clock = Clock::system();
        let began = clock.moment();
        loop {
            let now = self.look();
            if is_so(&now) {
                return now;
            }
            assert!(clock.moment().since(began) < PATIENCE, "{what}: {now:?}");
            clock.sleep(Duration::from_millis(50)).await;
        }
    }
}

pub(super) async fn publish(backend: &Arc<dyn Backend>, orders: &[Order]) {
    let mut publisher = Publisher::open(backend, "orders", None).await.unwrap();
    let mut wire = Vec::new();
    for order in orders {
        wire.clear();
        order.encode_value(&mut wire).unwrap();
        publisher.push(Some(order.customer.as_bytes()), Some(&wire), 1_000).await.unwrap();
    }
    publisher.flush().await.unwrap();
}

#[test]
fn a_repartition_topic_loses_what_is_committed_and_no_more() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let kafka = KafkaBackend::open(options(&fresh_prefix()), Clock::system()).unwrap();
    let backend: Arc<dyn Backend> = Arc::new(WireLayer::new(Arc::new(kafka), BTreeMap::new()));
    let folder = tempfile::tempdir().unwrap();
    let published = runtime.block_on(purge(&backend, folder.path().join("state/purged")));
    // What is gone is missed by nobody.
    let session = Session::on(app(), folder.path(), PARTITIONS, |_| Ok(backend)).unwrap();
    assert_eq!(session.process().unwrap().finished, 0);
    let counted: i64 = session.table(&PIECES).unwrap().iter().map(|(_, count)| count).sum();
    assert_eq!(counted, published);
}

fn app() -> App {
    App::new("purged").agent::<count_up>()
}

async fn purge(backend: &Arc<dyn Backend>, state_dir: PathBuf) -> i64 {
    let orders = TopicSpec { key_field: Some("customer".into()), ..TopicSpec::new("orders", PARTITIONS) };
    backend.create_topic(&orders).await.unwrap();
    let (agents, clock) = (app().agents(), Clock::system());
    let plan = Plan::make("purged", &agents, &**backend, PARTITIONS).await.unwrap();
    let watched = Watched { replay: backend.replay().unwrap(), plan };
    let (stop, stopped) = watch::channel(false);
    let (events, mut received) = mpsc::unbounded_channel();
    let options = WorkerOptions {
        state_dir: Some(state_dir),
        checkpoint_interval: Duration::from_millis(100),
        clean_interval: Duration::from_millis(50),
        ..WorkerOptions::default()
    };
    let plan = Plan::make("purged", &agents, &**backend, PARTITIONS).await.unwrap();
    let store = backend.clone();
    let work = tokio::spawn(async move { worker::run(&plan, store, options, Clock::system(), stopped, events).await });

    let mut random = Random::numbered(7);
    publish(backend, &shop::orders(&mut random, 0, 300, false)).await;
    let done = |now: &[Place]| now.iter().all(|(_, position, end)| *end > 0 && position == end);
    watched.until("the first are let go", |now| done(now) && now.iter().all(|(start, ..)| *start > 0)).await;
    let first = watched.look();

    // Nothing may go from behind one that is not finished on, though others are committed in the other partition.
    let mut more = shop::orders(&mut random, 300, 300, false);
    more[150].quantity = HELD;
    publish(backend, &more).await;
    let began = clock.moment();
    let (partition, offset) = loop {
        if let Some(found) = watched.held_up() {
            break found;
        }
        assert!(clock.moment().since(began) < PATIENCE, "no order is held up");
        clock.sleep(Duration::from_millis(50)).await;
    };
    let (held, other) = (partition as usize, 1 - partition as usize);
    let goes_on = |now: &[Place]| now[other].1 == now[other].2 && now[other].0 > first[other].2;
    let before = watched.until("the other goes on", |now| now[held].2 > offset && goes_on(now)).await;
    for _ in 0..20 {
        let now = watched.look();
        assert!(now[held].1 <= offset && now[held].0 <= offset, "{offset} of {partition} is held up: {now:?}");
        clock.sleep(Duration::from_millis(50)).await;
    }
    GO_ON.add_permits(1);
    // Another checkpoint follows another commit, and lets go what the one before could not.
    let (began, mut published) = (clock.moment(), 600);
    while !watched.look().iter().zip(&before).all(|(now, before)| now.0 >= before.2) {
        assert!(clock.moment().since(began) < PATIENCE, "{:?} after {before:?}", watched.look());
        publish(backend, &shop::orders(&mut random, 600, 10, false)).await;
        published += 10;
        clock.sleep(Duration::from_millis(200)).await;
    }
    watched.until("all is processed", done).await;
    stop.send(true).unwrap();
    assert_eq!(work.await.unwrap().unwrap().failed, 0);
    while let Ok(event) = received.try_recv() {
        assert!(!matches!(event, WorkerEvent::Failed { .. }), "{event:?}");
    }
    published
}

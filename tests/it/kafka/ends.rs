//! The end of a partition as a recovery sees it: on several brokers, behind transactions that were given up, before one that is
//! open, and where what was old has gone.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use gretchen::backend::kafka::KafkaBackend;
use gretchen::backend::{Backend, Replay};
use gretchen::clock::Clock;
use gretchen::record::Frames;
use gretchen::session::Session;
use gretchen::topic::TopicPartition;
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use tempfile::TempDir;

use super::cluster::Cluster;
use super::options_at;
use super::stage::PATIENCE;
use crate::shop::{self, Order};
use crate::support::{PARTITIONS, Random};

const ANSWER: Duration = Duration::from_secs(10);

const CONFIGS: &str = "kafka.admin.ConfigCommand";

const CHANGELOG: &str = "ends-totals-changelog";

/// A client that writes to a topic in transactions of its own.
fn stranger(servers: &str, name: &str) -> BaseProducer {
    let producer: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", servers)
        .set("transactional.id", name)
        .set("transaction.timeout.ms", "300000")
        .create()
        .unwrap();
    producer.init_transactions(ANSWER).unwrap();
    producer
}

/// Begins a transaction with records in every partition, which are of a kind that no release of gretchen writes.
fn begin(producer: &BaseProducer, records: usize) {
    producer.begin_transaction().unwrap();
    for partition in 0..PARTITIONS as i32 {
        for number in 0..records {
            let (key, value) = ([9, number as u8], [0; 100]);
            producer.send(BaseRecord::to(CHANGELOG).partition(partition).key(&key[..]).payload(&value[..])).unwrap();
        }
    }
    producer.flush(ANSWER).unwrap();
}

/// The brokers that lead the changelog's partitions.
fn leaders(servers: &str) -> BTreeSet<i32> {
    let client: BaseConsumer = ClientConfig::new().set("bootstrap.servers", servers).create().unwrap();
    let metadata = client.fetch_metadata(Some(CHANGELOG), ANSWER).unwrap();
    metadata.topics()[0].partitions().iter().map(|partition| partition.leader()).collect()
}

fn session(servers: &str, folder: &TempDir) -> Session {
    let app = gretchen::app::App::new("ends").agent::<shop::totals>();
    let options = options_at(servers, "");
    Session::on(app, folder.path(), PARTITIONS, |clock| Ok(Arc::new(KafkaBackend::open(options, clock)?))).unwrap()
}

fn publish(session: &Session, orders: &[Order]) {
    let keyed = orders.iter().map(|order| (order.customer.clone().into_bytes(), order.clone()));
    session.publish("orders", &format!("from {}", orders[0].order_id), keyed).unwrap();
}

/// Orders by customer, as the table has them.
fn counted(session: &Session) -> BTreeMap<String, i64> {
    session.table(&shop::TOTALS).unwrap().into_iter().map(|(customer, total)| (customer, total.orders)).collect()
}

fn expected(orders: &[Order]) -> BTreeMap<String, i64> {
    let mut expected = BTreeMap::new();
    orders.iter().for_each(|order| *expected.entry(order.customer.clone()).or_default() += 1);
    expected
}

/// How many records of a partition can be read, and where its last stable offset is.
fn read(replay: &dyn Replay, place: &TopicPartition) -> (u64, u64) {
    let mut reader = replay.reader(place, 0).unwrap();
    let (mut frames, mut count) = (Frames::default(), 0);
    loop {
        let before = replay.offsets(place).unwrap().end;
        while reader.read(&mut frames).unwrap() {
            count += frames.iter().map(|frame| u64::from(frame.header.count)).sum::<u64>();
        }
        let end = replay.offsets(place).unwrap().end;
        // The marks of a transaction that was given up come a little after that.
        if end == before {
            assert_eq!(
                reader.position(),
                end,
                "{place}: where nothing is left to read is where what is committed ends"
            );
            return (count, end);
        }
    }
}

#[test]
fn a_recovery_on_three_brokers_ends_and_has_everything() {
    let cluster = Cluster::start(3);
    let servers = cluster.servers.clone();
    let random = &mut Random::seeded("kafka::ends");
    let mut orders = shop::orders(random, 0, 400, false);
    let known = TempDir::new().unwrap();
    let here = session(&servers, &known);
    publish(&here, &orders);
    here.process().unwrap();
    assert_eq!(counted(&here), expected(&orders));
    assert!(leaders(&servers).len() > 1, "the partitions are led by several brokers");

    // Behind the last commit: what was given up, with its marks, again and again.
    let given_up = stranger(&servers, "gives-up");
    for records in [1, 40, 3] {
        begin(&given_up, records);
        given_up.abort_transaction(ANSWER).unwrap();
    }
    let recovered = |orders: &[Order], what: &str| {
        let clock = Clock::system();
        let began = clock.moment();
        let folder = TempDir::new().unwrap();
        let fresh = session(&servers, &folder);
        fresh.process().unwrap();
        assert_eq!(counted(&fresh), expected(orders), "{what}");
        assert!(clock.moment().since(began) < PATIENCE / 5, "{what} took {:?}", clock.moment().since(began));
    };
    recovered(&orders, "behind transactions that were given up");

    // One that is open holds up what is behind it, and no recovery: what counts stands before it.
    let open = stranger(&servers, "stays-open");
    begin(&open, 5);
    let kafka = KafkaBackend::open(options_at(&servers, ""), Clock::system()).unwrap();
    let replay = kafka.replay().unwrap();
    let ends = |what: &str| -> Vec<(u64, u64)> {
        println!("{what}");
        (0..PARTITIONS).map(|partition| read(&*replay, &TopicPartition::new(CHANGELOG, partition))).collect()
    };
    let held = ends("while a transaction is open");
    recovered(&orders, "before a transaction that is open");
    open.abort_transaction(ANSWER).unwrap();
    let after = ends("after it was given up");
    assert!(held.iter().zip(&after).all(|(held, after)| held.0 == after.0 && held.1 < after.1), "{held:?} {after:?}");

    // Old segments are compacted by the brokers: holes stand anywhere, also before the end.
    let small = "segment.bytes=1048576,segment.ms=500,min.cleanable.dirty.ratio=0.001,min.compaction.lag.ms=0,delete.retention.ms=100";
    let alter =
        ["tool", CONFIGS, "--bootstrap-server", &servers, "--alter", "--topic", CHANGELOG, "--add-config", small];
    cluster.call(&alter);
    let mut most: Vec<u64> = after.iter().map(|(count, _)| *count).collect();
    let clock = Clock::system();
    let began = clock.moment();
    loop {
        let more = shop::orders(random, orders.len(), 40, false);
        publish(&here, &more);
        orders.extend(more);
        here.process().unwrap();
        begin(&given_up, 2);
        given_up.abort_transaction(ANSWER).unwrap();
        let now = ends("while old segments are compacted");
        // Some of what was readable is gone.
        if now.iter().all(|(count, end)| *count < end / 2) && now.iter().zip(&most).any(|(now, most)| now.0 < *most) {
            break;
        }
        for (most, now) in most.iter_mut().zip(&now) {
            *most = now.0.max(*most);
        }
        assert!(clock.moment().since(began) < PATIENCE, "nothing is compacted: {now:?}");
        std::thread::park_timeout(Duration::from_millis(700));
    }
    recovered(&orders, "of a changelog that was compacted");

    // A leader goes, and others take its partitions over, while a task recovers.
    cluster.call(&["kill", "2"]);
    recovered(&orders, "while a broker is gone");
    assert!(!leaders(&servers).contains(&2));
}

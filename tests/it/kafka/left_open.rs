//! What is decided by what was committed before, while a transaction of somebody else hides that, and after the broker has
//! forgotten a group's positions.

use std::sync::{Arc, mpsc};
use std::time::Duration;

use futures::executor::block_on;
use gretchen::backend::kafka::KafkaBackend;
use gretchen::backend::{Backend, Replay};
use gretchen::clock::Clock;
use gretchen::publish::Publisher;
use gretchen::record::Value;
use gretchen::session::Session;
use gretchen::topic::TopicPartition;
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions};
use rdkafka::client::DefaultClientContext;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use tempfile::TempDir;

use super::stage::PATIENCE;
use super::{broker, fresh_prefix, options};
use crate::shop::{self, Order};
use crate::support::{PARTITIONS, Random};

const ANSWER: Duration = Duration::from_secs(10);

fn session(prefix: &str, folder: &TempDir) -> Session {
    let app = gretchen::app::App::new("left").agent::<shop::totals>();
    let options = options(prefix);
    Session::on(app, folder.path(), PARTITIONS, |clock| Ok(Arc::new(KafkaBackend::open(options, clock)?))).unwrap()
}

fn publish(session: &Session, orders: &[Order]) {
    let keyed = orders.iter().map(|order| (order.customer.clone().into_bytes(), order.clone()));
    session.publish("orders", "till", keyed).unwrap();
}

fn counted(session: &Session) -> i64 {
    session.table(&shop::TOTALS).unwrap().into_iter().map(|(_, total)| total.orders).sum()
}

fn places() -> impl Iterator<Item = TopicPartition> {
    (0..PARTITIONS).map(|partition| TopicPartition::new("orders", partition))
}

/// Sends orders under one name, and returns how many were added.
async fn send(publisher: &mut Publisher, orders: &[Order]) -> u64 {
    let mut wire = Vec::new();
    for order in orders {
        wire.clear();
        order.encode_value(&mut wire).unwrap();
        publisher.push(Some(order.customer.as_bytes()), Some(&wire), 0).await.unwrap();
    }
    publisher.flush().await.unwrap().added
}

#[test]
fn a_producer_that_begins_anew_waits_until_it_sees_what_it_had_sent() {
    let prefix = fresh_prefix();
    let folder = TempDir::new().unwrap();
    let here = session(&prefix, &folder);
    let mut orders = shop::orders(&mut Random::seeded("kafka::left_open"), 0, 60, false);
    // All of them are one append.
    orders.iter_mut().for_each(|order| order.customer = "one".to_owned());
    let open = || KafkaBackend::open(options(&prefix), Clock::system()).unwrap();
    let seen = open();
    let ends = || places().map(|place| seen.offsets(&place).unwrap().end).sum::<u64>();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let publisher = || {
        let backend: Arc<dyn Backend> = Arc::new(open());
        runtime.block_on(Publisher::open(&backend, "orders", Some("till"))).unwrap()
    };
    let mut first = publisher();
    assert_eq!(runtime.block_on(send(&mut first, &orders[..30])), 30);
    let before = ends();

    // It hides what comes behind it in the topic in which producers have their numbers.
    let stranger: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", broker())
        .set("transactional.id", format!("{prefix}stranger"))
        .create()
        .unwrap();
    stranger.init_transactions(ANSWER).unwrap();
    stranger.begin_transaction().unwrap();
    let topic = format!("{prefix}gretchen-topics");
    stranger.send(BaseRecord::to(&topic).partition(0).key("stranger").payload("open")).unwrap();
    stranger.flush(ANSWER).unwrap();

    std::thread::scope(|scope| {
        let sent = scope.spawn(|| runtime.block_on(send(&mut first, &orders[30..])));
        let clock = Clock::system();
        let began = clock.moment();
        while ends() < before + 30 {
            assert!(clock.moment().since(began) < PATIENCE, "the orders do not come");
            runtime.block_on(clock.sleep(Duration::from_millis(50)));
        }
        // As if the process before had been killed, and had not heard that its records count.
        let again = scope.spawn(|| runtime.block_on(send(&mut publisher(), &orders)));
        runtime.block_on(clock.sleep(Duration::from_secs(3)));
        stranger.abort_transaction(ANSWER).unwrap();
        assert_eq!((sent.join().unwrap(), again.join().unwrap()), (60, 0));
    });
    here.process().unwrap();
    assert_eq!(counted(&here), 60);
}

#[test]
fn positions_that_the_broker_has_forgotten_are_committed_again() {
    let prefix = fresh_prefix();
    let folder = TempDir::new().unwrap();
    let here = session(&prefix, &folder);
    let orders = shop::orders(&mut Random::seeded("kafka::left_open"), 0, 60, false);
    publish(&here, &orders);
    here.process().unwrap();
    drop(here);

    let seen = KafkaBackend::open(options(&prefix), Clock::system()).unwrap();
    let positions = || places().map(|place| seen.position("left.totals", &place).unwrap()).collect::<Vec<_>>();
    let before = positions();
    assert!(before.iter().any(Option::is_some), "{before:?}");
    let admin: AdminClient<DefaultClientContext> =
        ClientConfig::new().set("bootstrap.servers", broker()).create().unwrap();
    let group = format!("{prefix}left.totals");
    let deleted = block_on(admin.delete_groups(&[&group], &AdminOptions::new())).unwrap();
    assert!(deleted.iter().all(Result::is_ok), "{deleted:?}");
    assert!(positions().iter().all(Option::is_none));

    let again = session(&prefix, &folder);
    let (said, heard) = mpsc::channel();
    // Apart, so that waiting for ever ends the test, too.
    std::thread::spawn(move || {
        let finished = again.process().map(|summary| summary.finished);
        // Who waited has given up, perhaps.
        let _ = said.send((finished, again));
    });
    let (finished, again) = heard.recv_timeout(PATIENCE).expect("it is seen that everything is processed");
    assert_eq!(finished.unwrap(), 0);
    assert_eq!(counted(&again), 60);
    assert_eq!(positions(), before);
}

//! The topic in which everything that is known of topics is kept, under a name of the operator's.

use std::sync::Arc;

use gretchen::backend::Backend;
use gretchen::backend::kafka::{KafkaBackend, KafkaOptions};
use gretchen::clock::Clock;
use gretchen::error::{ErrorKind, Result};
use gretchen::session::Session;
use gretchen::topic::{TopicPartition, TopicSpec};
use tempfile::TempDir;

use super::{fresh_prefix, options};
use crate::shop;
use crate::support::Random;

const ORDERS: u64 = 30;

fn named(prefix: &str, topics: &str) -> KafkaOptions {
    let mut options = options(prefix);
    options.set("gretchen.topics", topics).unwrap();
    options
}

fn session(options: KafkaOptions, folder: &TempDir) -> Result<Session> {
    let app = gretchen::app::App::new("named").agent::<shop::totals>();
    Session::on(app, folder.path(), 2, |clock| Ok(Arc::new(KafkaBackend::open(options, clock)?)))
}

fn topics(options: KafkaOptions) -> Vec<String> {
    let backend = KafkaBackend::open(options, Clock::system()).unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().unwrap();
    let topics = runtime.block_on(backend.topics()).unwrap();
    topics.iter().map(|topic| topic.spec.name.to_string()).collect()
}

#[test]
fn what_is_known_of_topics_is_where_the_operator_wants_it() {
    let prefix = fresh_prefix();
    let folder = TempDir::new().unwrap();
    let here = session(named(&prefix, "known"), &folder).unwrap();
    let orders = shop::orders(&mut Random::numbered(3), 0, ORDERS, false);
    let publish = |session: &Session| {
        let keyed = orders.iter().map(|order| (order.customer.clone().into_bytes(), order.clone()));
        session.publish("orders", "till", keyed).unwrap()
    };
    assert_eq!(publish(&here).added, ORDERS);
    here.process().unwrap();
    // A process that begins anew finds there what a producer had sent, and what topics hold.
    drop(here);
    let again = session(named(&prefix, "known"), &folder).unwrap();
    assert_eq!((publish(&again).added, again.process().unwrap().finished), (0, 0));
    drop(again);

    // It is no topic of anybody's; the one of the usual name was never made.
    let seen = topics(named(&prefix, "known"));
    assert!(seen.contains(&"orders".to_owned()), "{seen:?}");
    assert!(!seen.contains(&"known".to_owned()) && !seen.contains(&"gretchen-topics".to_owned()), "{seen:?}");
    assert!(topics(options(&prefix)).contains(&"known".to_owned()), "who goes by another name sees it as any other");
}

#[test]
fn a_topic_of_somebody_else_is_not_written_to_as_if_it_were_that() {
    let prefix = fresh_prefix();
    let folder = TempDir::new().unwrap();
    drop(session(options(&prefix), &folder).unwrap());
    let Err(error) = session(named(&prefix, "orders"), &folder) else { panic!("orders are kept there") };
    let said = error.to_string();
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(said.contains("topic orders (gretchen.topics)") && said.contains("2 partitions"), "{said}");

    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().unwrap();
    let backend = KafkaBackend::open(named(&prefix, "known"), Clock::system()).unwrap();
    let made = runtime.block_on(backend.create_topic(&TopicSpec::new("known", 1)));
    assert!(made.unwrap_err().to_string().contains("gretchen.topics"));
    let read = gretchen::backend::Replay::offsets(&backend, &TopicPartition::new("orders", 0)).unwrap();
    assert_eq!(read.end, 0, "nothing was written to it");
}

//! The app of the kill tests on Kafka without a kill: with and without transactions every figure is right.

use std::collections::BTreeMap;
use std::sync::Arc;

use gretchen::backend::kafka::{Guarantee, KafkaBackend};
use gretchen::backend::{Backend, WireLayer};
use gretchen::clock::Clock;
use gretchen::record::Value;
use gretchen::session::Session;
use gretchen::topic::TopicPartition;

use super::stage::records_of;
use super::{fresh_prefix, options};
use crate::shop::{self, Evidence, Order};
use crate::support::{PARTITIONS, Random};

struct Run {
    backend: Arc<dyn Backend>,
    session: Option<Session>,
    orders: Vec<Order>,
}

impl Evidence for Run {
    fn orders(&self) -> Vec<Order> {
        self.orders.clone()
    }

    fn topic<V: Value>(&mut self, topic: &str) -> Vec<Vec<(Vec<u8>, V)>> {
        let replay = self.backend.replay().unwrap();
        (0..PARTITIONS).map(|partition| records_of(&*replay, &TopicPartition::new(topic, partition))).collect()
    }

    fn session(&mut self) -> Session {
        self.session.take().unwrap()
    }
}

/// Publishes twice under one name, and processes in two runs.
fn every_figure_is_right(guarantee: Guarantee) {
    let folder = tempfile::tempdir().unwrap();
    let mut told = options(&fresh_prefix());
    told.guarantee = guarantee;
    let open = |clock: Clock| KafkaBackend::open(told.clone(), clock);
    let session =
        Session::on(shop::app("usual"), folder.path(), PARTITIONS, |clock| Ok(Arc::new(open(clock)?))).unwrap();
    let mut orders = Vec::new();
    for round in 0..2_u64 {
        orders.extend(shop::orders(&mut Random::numbered(round), orders.len(), 1_500, false));
        let records = || orders.iter().map(|order| (order.customer.clone().into_bytes(), order.clone()));
        let first = session.publish("orders", "the orders", records()).unwrap();
        assert_eq!((first.added, first.dropped), (1_500, 1_500 * round));
        let again = session.publish("orders", "the orders", records()).unwrap();
        assert_eq!((again.added, again.dropped), (0, orders.len() as u64));
        session.process().unwrap();
    }
    let kafka: Arc<dyn Backend> = Arc::new(open(Clock::system()).unwrap());
    let backend: Arc<dyn Backend> = Arc::new(WireLayer::new(kafka, BTreeMap::new()));
    shop::check_figures(&mut Run { backend, session: Some(session), orders });
}

#[test]
fn exactly_once() {
    every_figure_is_right(Guarantee::ExactlyOnce);
}

#[test]
fn at_least_once_without_a_crash() {
    every_figure_is_right(Guarantee::AtLeastOnce);
}

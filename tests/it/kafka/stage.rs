//! Orders that are published while workers work on them, and a reader of what is committed.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use gretchen::backend::kafka::KafkaBackend;
use gretchen::backend::{Backend, Replay, WireLayer};
use gretchen::clock::{Clock, Moment};
use gretchen::plan::Plan;
use gretchen::publish::Publisher;
use gretchen::record::{Frames, Value};
use gretchen::session::Session;
use gretchen::topic::TopicPartition;
use gretchen::worker;
use tempfile::TempDir;
use tokio::runtime::Runtime;

use super::worker::{Spec, Starts, Worker, check_starts};
use super::{fresh_prefix, options_at};
use crate::shop::{self, Evidence, Order};
use crate::support::{PARTITIONS, Random};

const APP: &str = "usual";

/// Workers of a test.
pub(super) const WORKERS: usize = 3;

/// How soon a worker is missed.
pub(super) const SESSION_MS: u64 = 2_000;

/// Time that workers get to catch up or to notice something before the test fails.
pub(super) const PATIENCE: Duration = Duration::from_secs(300);

/// What was published, and a reader of what is committed.
pub(super) struct Stage {
    folder: TempDir,
    servers: String,
    prefix: String,
    pub(super) clock: Clock,
    runtime: Runtime,
    pub(super) backend: Arc<dyn Backend>,
    pub(super) plan: Plan,
    publisher: Publisher,
    pub(super) orders: Vec<Order>,
}

impl Stage {
    pub(super) fn new() -> Self {
        Self::on(super::broker())
    }

    pub(super) fn on(servers: &str) -> Self {
        let prefix = fresh_prefix();
        let clock = Clock::system();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let app = shop::app(APP);
        let kafka = KafkaBackend::open(options_at(servers, &prefix), clock.clone()).unwrap();
        let backend: Arc<dyn Backend> = Arc::new(WireLayer::new(Arc::new(kafka), BTreeMap::new()));
        let plan = runtime.block_on(Plan::make(app.name(), &app.agents(), &*backend, PARTITIONS)).unwrap();
        let publisher = runtime.block_on(Publisher::open(&backend, "orders", Some("orders"))).unwrap();
        let folder = TempDir::with_prefix("gretchen-kafka-").unwrap();
        Self {
            folder,
            servers: servers.to_owned(),
            prefix,
            clock,
            runtime,
            backend,
            plan,
            publisher,
            orders: Vec::new(),
        }
    }

    /// What a worker of that number is told.
    pub(super) fn spec(&self, number: usize) -> Spec {
        Spec {
            app: APP.to_owned(),
            servers: self.servers.clone(),
            prefix: self.prefix.clone(),
            partitions: PARTITIONS,
            session_ms: SESSION_MS,
            settings: Vec::new(),
            standby: 0,
            folder: self.folder.path().join(number.to_string()),
        }
    }

    pub(super) fn workers(&self) -> Vec<Worker> {
        self.workers_with(&[])
    }

    /// Workers with more of Kafka's settings.
    pub(super) fn workers_with(&self, settings: &[(&str, &str)]) -> Vec<Worker> {
        let settings: Vec<_> = settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let spec = |number| Spec { settings: settings.clone(), ..self.spec(number) };
        (0..WORKERS).map(|number| Worker::start(spec(number))).collect()
    }

    pub(super) fn publish(&mut self, more: Vec<Order>) {
        self.runtime.block_on(async {
            let mut wire = Vec::new();
            for order in &more {
                wire.clear();
                order.encode_value(&mut wire).unwrap();
                let key = Some(order.customer.as_bytes());
                self.publisher.push(key, Some(&wire), 1_000 + order.order_id).await.unwrap();
            }
            self.publisher.flush().await.unwrap();
        });
        self.orders.extend(more);
    }

    pub(super) fn sleep_ms(&self, ms: u64) {
        self.runtime.block_on(self.clock.sleep(Duration::from_millis(ms)));
    }

    /// Publishes orders, a few at a time, until something is so.
    pub(super) fn publish_until(&mut self, random: &mut Random, is_so: impl Fn(&Self) -> bool) {
        let began = self.clock.moment();
        while !is_so(self) {
            if self.clock.moment().since(began) > PATIENCE {
                let said =
                    |number| std::fs::read_to_string(self.spec(number).folder.join("stderr")).unwrap_or_default();
                let said: Vec<String> = (0..WORKERS).map(said).collect();
                panic!("what is waited for does not come:\n{}", said.join("\n----\n"));
            }
            let count = random.within(1..40);
            let more = shop::orders(random, self.orders.len(), count, false);
            self.publish(more);
            self.sleep_ms(random.within(50..350));
        }
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

    /// Waits until all is processed, stops the workers, and checks every figure. Returns the time since `began` and how
    /// tasks have started, for the line that sums the test up.
    pub(super) fn end(&mut self, workers: Vec<Worker>, began: Moment) -> (Duration, Starts) {
        self.end_with(workers, began, shop::check_figures)
    }

    pub(super) fn end_with(
        &mut self,
        mut workers: Vec<Worker>,
        began: Moment,
        check: impl FnOnce(&mut Self),
    ) -> (Duration, Starts) {
        self.catch_up(&mut workers);
        let took = self.clock.moment().since(began);
        workers.into_iter().for_each(Worker::stop);
        check(self);
        let specs: Vec<Spec> = (0..WORKERS).map(|number| self.spec(number)).collect();
        (took, check_starts(&specs))
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
        Session::on(shop::app(APP), &spec.folder, PARTITIONS, |clock| spec.open(&clock)).unwrap()
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

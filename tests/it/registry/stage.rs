//! Orders that another program writes to a topic of Kafka's, and a worker on them.

use std::sync::Arc;
use std::time::Duration;

use gretchen::app::App;
use gretchen::backend::kafka::KafkaBackend;
use gretchen::backend::registry::{Registry, RegistryOptions};
use gretchen::backend::{Backend, ProducerId, Replay, WireLayer};
use gretchen::clock::Clock;
use gretchen::error::{BoxError, Error, Result};
use gretchen::plan::Plan;
use gretchen::record::{DynamicSchema, FrameBuilder, Frames, json_to_avro};
use gretchen::table::{Table, TableMut};
use gretchen::topic::{TopicPartition, TopicSpec, WireFormat};
use gretchen::worker::{self, Summary, WorkerEvent, WorkerOptions};
use gretchen::{agent, records};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use crate::kafka::{fresh_prefix, options};

records!("schemas/order.avsc", namespaces = flat);

pub(super) const ORDER: &str = include_str!("../../../schemas/order.avsc");

/// Time that something gets to happen before the test fails.
const PATIENCE: Duration = Duration::from_secs(90);

pub(super) static PIECES: Table<String, i64> = Table::new("registry-pieces");

#[agent(topic = "orders", key = customer, table = PIECES, output = "passed", on_error = dead_letter("failed"))]
async fn add_pieces(mut order: Order, mut pieces: TableMut<'_, String, i64>) -> Result<Order, BoxError> {
    let sum = pieces.get(&order.customer)?.unwrap_or(0) + i64::from(order.quantity);
    pieces.set(&order.customer, sum)?;
    // What has been bought so far.
    order.quantity = i32::try_from(sum)?;
    Ok(order)
}

pub(super) fn app() -> App {
    App::new("numbered")
        .agent::<add_pieces>()
        .format("orders", WireFormat::Confluent)
        .format("passed", WireFormat::Confluent)
}

/// A value with a Confluent header.
pub(super) fn value(number: u32, schema: &str, json: &Value) -> Vec<u8> {
    let mut value = vec![0];
    value.extend_from_slice(&number.to_be_bytes());
    json_to_avro(&DynamicSchema::parse(schema).unwrap(), json, &mut value).unwrap();
    value
}

pub(super) fn order(customer: &str, quantity: i32) -> Value {
    json!({"order_id": 7, "customer": customer, "ordered_on": "1997-01-01", "quantity": quantity, "amount": "2.50"})
}

pub(super) struct Stage {
    pub(super) prefix: String,
    /// The topics as their bytes are.
    pub(super) raw: Arc<dyn Backend>,
    folder: TempDir,
}

/// A value with its headers.
pub(super) type Found = (Vec<u8>, Vec<(String, String)>);

impl Stage {
    /// A name space with the topic `orders`, as if it had been made for others.
    pub(super) async fn new() -> Self {
        let prefix = fresh_prefix();
        let raw: Arc<dyn Backend> = Arc::new(KafkaBackend::open(options(&prefix), Clock::system()).unwrap());
        // It is keyed by nothing that is known, so a repartition topic comes between it and the agent.
        let spec = TopicSpec { format: Some(WireFormat::Confluent), ..TopicSpec::new("orders", 2) };
        raw.create_topic(&spec).await.unwrap();
        Self { prefix, raw, folder: TempDir::with_prefix("gretchen-registry-").unwrap() }
    }

    pub(super) fn subject(&self, topic: &str) -> String {
        format!("{}{topic}-value", self.prefix)
    }

    /// The topics with a registry of their own behind them.
    pub(super) fn backend(&self, options: RegistryOptions) -> Arc<dyn Backend> {
        let layer = WireLayer::new(self.raw.clone(), app().formats().clone());
        Arc::new(layer.with_registry(Registry::new(options).unwrap(), Clock::system()))
    }

    pub(super) async fn plan(&self, backend: &Arc<dyn Backend>) -> Result<Plan> {
        Plan::make("numbered", &app().agents(), &**backend, 2).await
    }

    pub(super) async fn append(&self, topic: &str, values: &[Vec<u8>]) {
        let mut frame = FrameBuilder::new();
        values.iter().for_each(|value| frame.push(None, Some(value), 5));
        let mut producer = self.raw.producer(ProducerId::ANONYMOUS).await.unwrap();
        producer.append(&TopicPartition::new(topic, 0), &mut frame, None).await.unwrap();
    }

    /// What a topic's values are, byte by byte.
    pub(super) fn bytes(&self, topic: &str) -> Vec<Found> {
        found_in(&*self.raw.replay().unwrap(), topic)
    }

    /// A worker as a process would be that begins now.
    pub(super) async fn start(&self, address: &str) -> Running {
        let backend = self.backend(RegistryOptions::new(address).unwrap());
        let plan = Arc::new(self.plan(&backend).await.unwrap());
        let (stop, stopped) = watch::channel(false);
        let (events, received) = mpsc::unbounded_channel();
        let options =
            WorkerOptions { state_dir: Some(self.folder.path().to_owned()), threads: 1, ..WorkerOptions::default() };
        let (its, store) = (plan.clone(), backend.clone());
        let work =
            tokio::spawn(async move { worker::run(&its, store, options, Clock::system(), stopped, events).await });
        Running { plan, backend, stop, events: received, work, failed: Vec::new() }
    }
}

fn found_in(replay: &dyn Replay, topic: &str) -> Vec<Found> {
    let mut all = Vec::new();
    for partition in 0..2 {
        let mut reader = replay.reader(&TopicPartition::new(topic, partition), 0).unwrap();
        let mut frames = Frames::default();
        while reader.read(&mut frames).unwrap() {
            for record in frames.iter().flat_map(|frame| frame.records()) {
                let text =
                    |(name, value): (&str, &[u8])| (name.to_owned(), String::from_utf8_lossy(value).into_owned());
                all.push((record.value.unwrap().to_vec(), record.headers.iter().map(text).collect()));
            }
        }
    }
    all
}

/// A worker at work.
pub(super) struct Running {
    plan: Arc<Plan>,
    backend: Arc<dyn Backend>,
    stop: watch::Sender<bool>,
    events: mpsc::UnboundedReceiver<WorkerEvent>,
    work: JoinHandle<Result<Summary>>,
    pub(super) failed: Vec<Error>,
}

impl Running {
    fn hear(&mut self) {
        while let Ok(event) = self.events.try_recv() {
            if let WorkerEvent::Failed { error, .. } = event {
                self.failed.push(error);
            }
        }
    }

    pub(super) fn caught_up(&mut self) -> bool {
        self.hear();
        worker::caught_up(&self.plan, &*self.backend).unwrap()
    }

    /// Waits for something.
    pub(super) async fn until(&mut self, what: &str, mut reached: impl FnMut(&mut Self) -> bool) {
        let clock = Clock::system();
        let began = clock.moment();
        while !reached(self) {
            assert!(clock.moment().since(began) < PATIENCE, "{what} did not happen; {:?}", self.failed);
            clock.sleep(Duration::from_millis(50)).await;
        }
    }

    /// Waits until everything is processed, several times in a row: positions are seen a moment before outputs.
    pub(super) async fn catch_up(&mut self) {
        for _ in 0..5 {
            self.until("catching up", |this| this.caught_up() || !this.failed.is_empty()).await;
            assert!(self.failed.is_empty(), "{:?}", self.failed);
            Clock::system().sleep(Duration::from_millis(20)).await;
        }
    }

    /// Stops it, and says how long that took.
    pub(super) async fn end(mut self) -> Duration {
        let clock = Clock::system();
        let began = clock.moment();
        self.stop.send(true).unwrap();
        let summary = tokio::time::timeout(PATIENCE, &mut self.work).await.unwrap().unwrap().unwrap();
        assert_eq!(summary.stuck, 0);
        self.hear();
        assert!(self.failed.is_empty(), "{:?}", self.failed);
        clock.moment().since(began)
    }
}

//! Whose numbers a topic has: its own or a registry's, which look alike in a value.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use gretchen::backend::kafka::{KafkaBackend, KafkaOptions};
use gretchen::backend::log::{LogBackend, LogOptions};
use gretchen::backend::registry::{Registry, RegistryOptions, SchemaText};
use gretchen::backend::{Backend, ProducerId, WireLayer};
use gretchen::clock::Clock;
use gretchen::config::Settings;
use gretchen::error::{Error, ErrorKind, Result};
use gretchen::plan::Plan;
use gretchen::record::{FrameBuilder, Frames, Record, SINGLE_OBJECT_MARKER, Value};
use gretchen::session::Session;
use gretchen::topic::{Numbering, TopicPartition, TopicSchema, TopicSpec, WireFormat};

use super::stage::{Order, PIECES, app, order, value};
use super::{address, registry};
use crate::kafka::{broker, fresh_prefix, options};

const SCHEMA: &str = <Order as Record>::SCHEMA.json;

/// The same topics without a registry and with one.
struct Both {
    raw: Arc<dyn Backend>,
    without: Arc<dyn Backend>,
    with: Arc<dyn Backend>,
}

impl Both {
    /// As two programs would see them that begin now.
    fn over(raw: Arc<dyn Backend>) -> Self {
        let layer = || WireLayer::new(raw.clone(), BTreeMap::new());
        let registry = Registry::new(RegistryOptions::new(address()).unwrap()).unwrap();
        let with = Arc::new(layer().with_registry(registry, Clock::system()));
        Self { without: Arc::new(layer()), with, raw }
    }

    async fn make(&self, topic: &str) {
        let fingerprint = <Order as Record>::SCHEMA.fingerprint;
        let schema = Some(TopicSchema { fingerprint, json: SCHEMA.into() });
        let spec = TopicSpec { format: Some(WireFormat::Confluent), schema, ..TopicSpec::new(topic, 1) };
        self.raw.create_topic(&spec).await.unwrap();
    }
}

/// A value as everything above the layer has it.
fn single() -> Vec<u8> {
    single_of(1)
}

fn single_of(quantity: i32) -> Vec<u8> {
    let mut single = SINGLE_OBJECT_MARKER.to_vec();
    single.extend_from_slice(&<Order as Record>::SCHEMA.fingerprint.to_le_bytes());
    single.extend_from_slice(&value(0, SCHEMA, &order("a", quantity))[5..]);
    single
}

fn schema_text() -> SchemaText {
    SchemaText::new(SCHEMA, Vec::new())
}

async fn append(backend: &Arc<dyn Backend>, topic: &str) -> Result<()> {
    let mut frame = FrameBuilder::new();
    frame.push(None, Some(&single()), 5);
    let mut producer = backend.producer(ProducerId::ANONYMOUS).await?;
    producer.append(&TopicPartition::new(topic, 0), &mut frame, None).await.map(drop)
}

fn read(backend: &Arc<dyn Backend>, topic: &str) -> Result<Vec<Vec<u8>>> {
    read_in(backend, topic, 0)
}

fn read_in(backend: &Arc<dyn Backend>, topic: &str, partition: u32) -> Result<Vec<Vec<u8>>> {
    let mut reader = backend.replay().unwrap().reader(&TopicPartition::new(topic, partition), 0)?;
    let (mut frames, mut values) = (Frames::default(), Vec::new());
    while reader.read(&mut frames)? {
        values.extend(frames.iter().flat_map(|frame| frame.records()).map(|record| record.value.unwrap().to_vec()));
    }
    Ok(values)
}

#[track_caller]
fn is_told(error: &Error, kind: ErrorKind, topic: &str, what: &str) {
    let said = error.to_string();
    assert_eq!(error.kind(), kind, "{said}");
    assert!(said.contains(&format!("topic {topic}")) && said.contains(what) && said.contains("registry"), "{said}");
}

/// `open` opens the same store again.
async fn numbers_stay_apart(open: impl Fn() -> Arc<dyn Backend>) {
    let both = Both::over(open());
    both.make("old").await;
    both.make("new").await;
    append(&both.without, "old").await.unwrap();
    append(&both.with, "new").await.unwrap();
    let subject = format!("{}-value", both.raw.native_name("new"));
    let number = registry().find(&subject, &schema_text()).unwrap().id;
    let datum = &single()[10..];
    let numbered = |number: u32| [&[0], &number.to_be_bytes()[..], datum].concat();
    assert_eq!(read(&both.raw, "old").unwrap(), [numbered(1)]);
    assert_eq!(read(&both.raw, "new").unwrap(), [numbered(number)]);

    // Everybody who begins later knows whose they are.
    drop(both);
    let both = Both::over(open());
    let kept = |topic| both.raw.replay().unwrap().topic(topic).unwrap().spec.numbers;
    assert_eq!([kept("old"), kept("new")], [Some(Numbering::Own), Some(Numbering::Registry)]);
    for reader in [&both.without, &both.with] {
        assert_eq!(read(reader, "old").unwrap(), [single()]);
    }
    assert_eq!(read(&both.with, "new").unwrap(), [single()]);
    is_told(&read(&both.without, "new").unwrap_err(), ErrorKind::Config, "new", "name that registry");
    is_told(&append(&both.without, "new").await.unwrap_err(), ErrorKind::Conflict, "new", "name that registry");
    is_told(&append(&both.with, "old").await.unwrap_err(), ErrorKind::Conflict, "old", "write to a new topic");
    assert_eq!((read(&both.raw, "old").unwrap().len(), read(&both.raw, "new").unwrap().len()), (1, 1));

    // A single object says what it is wherever it lies.
    append(&both.raw, "old").await.unwrap();
    append(&both.raw, "new").await.unwrap();
    for topic in ["old", "new"] {
        assert_eq!(read(&both.with, topic).unwrap(), [single(), single()]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_on_a_log_has_numbers_of_one_kind() {
    let folder = tempfile::tempdir().unwrap();
    numbers_stay_apart(|| Arc::new(LogBackend::open(LogOptions::new(folder.path()), Clock::system()).unwrap())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_on_kafka_has_numbers_of_one_kind() {
    let prefix = fresh_prefix();
    numbers_stay_apart(|| Arc::new(KafkaBackend::open(options(&prefix), Clock::system()).unwrap())).await;
}

/// Single objects and Confluent headers are formats, and a topic keeps the one that it was made with.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_of_single_objects_is_not_begun_to_be_written_with_numbers() {
    let prefix = fresh_prefix();
    let folder = tempfile::tempdir().unwrap();
    let log = LogBackend::open(LogOptions::new(folder.path()), Clock::system()).unwrap();
    let kafka = KafkaBackend::open(options(&prefix), Clock::system()).unwrap();
    let stores: [Arc<dyn Backend>; 2] = [Arc::new(log), Arc::new(kafka)];
    for raw in stores {
        raw.create_topic(&TopicSpec { format: Some(WireFormat::SingleObject), ..TopicSpec::new("passed", 1) })
            .await
            .unwrap();
        let registry = Registry::new(RegistryOptions::new(address()).unwrap()).unwrap();
        let layer = WireLayer::new(raw, app().formats().clone()).with_registry(registry, Clock::system());
        let Err(error) = Plan::make("numbered", &app().agents(), &layer, 1).await else { panic!("it is begun") };
        let said = error.to_string();
        assert!(said.contains("topic passed exists with format single-object") && said.contains("confluent"), "{said}");
    }
}

fn settings(dir: &Path, more: &str) -> Settings {
    let file = dir.join("gretchen.toml");
    let text = format!("data_dir = \"data\"\npartitions = 2\nregistry = {:?}\n{more}", address());
    std::fs::write(&file, text).unwrap();
    Settings::load(&BTreeMap::new(), &BTreeMap::new(), Some(&file)).unwrap()
}

fn made(quantity: i32) -> Order {
    Order::decode_value(&single_of(quantity)).unwrap()
}

/// What a program publishes and processes by itself has the registry's numbers, by the same settings as a worker's.
fn a_session_goes_by_the_registry(settings: &Settings, native: impl Fn(&str) -> String) {
    let session = Session::by_settings(app(), settings).unwrap();
    let orders = [1, 2].map(|quantity| (b"a".to_vec(), made(quantity)));
    assert_eq!(session.publish("orders", "till", orders).unwrap().added, 2);
    session.process().unwrap();
    assert_eq!(session.table(&PIECES).unwrap(), [("a".to_owned(), 3)]);
    drop(session);
    let raw = settings.text("backend").map(str::to_owned);
    let raw: Arc<dyn Backend> = match raw.filter(|url| url.starts_with("kafka:")) {
        Some(url) => Arc::new(KafkaBackend::open(KafkaOptions::parse(&url).unwrap(), Clock::system()).unwrap()),
        None => Arc::new(LogBackend::open(LogOptions::new(settings.data_dir()), Clock::system()).unwrap()),
    };
    for topic in ["orders", "passed"] {
        let number = registry().find(&format!("{}-value", native(topic)), &schema_text()).unwrap().id;
        let values = [0, 1].map(|partition| read_in(&raw, topic, partition).unwrap()).concat();
        assert_eq!(values.len(), 2, "{topic}");
        assert!(
            values.iter().all(|value| value[..5] == [&[0], &number.to_be_bytes()[..]].concat()),
            "{topic}: {values:?}"
        );
        assert_eq!(raw.replay().unwrap().topic(topic).unwrap().spec.numbers, Some(Numbering::Registry));
    }
}

#[test]
fn a_session_on_a_log_goes_by_the_registry_of_the_settings() {
    let dir = tempfile::tempdir().unwrap();
    a_session_goes_by_the_registry(&settings(dir.path(), ""), str::to_owned);
    // Who has no registry is told so before anything is written.
    let Err(error) = Session::open(app(), LogOptions::new(dir.path().join("data")), 2) else { panic!("it has none") };
    is_told(&error, ErrorKind::Conflict, "passed", "name that registry");
}

#[test]
fn a_session_on_kafka_goes_by_the_registry_of_the_settings() {
    let (dir, prefix) = (tempfile::tempdir().unwrap(), fresh_prefix());
    let backend = format!("backend = \"kafka://{}?gretchen.prefix={prefix}\"\n", broker());
    a_session_goes_by_the_registry(&settings(dir.path(), &backend), |topic| format!("{prefix}{topic}"));
}

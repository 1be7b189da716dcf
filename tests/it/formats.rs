//! Topics in other formats than single objects: what stands on the wire, and what agents make of it.

use std::collections::BTreeMap;
use std::sync::Arc;

use gretchen::app::App;
use gretchen::backend::log::{LogBackend, LogOptions};
use gretchen::backend::memory::MemoryBackend;
use gretchen::backend::{Backend, ProducerId, Replay, WireLayer};
use gretchen::clock::Clock;
use gretchen::error::{BoxError, ErrorKind};
use gretchen::record::{FrameBuilder, Frames, Record, RecordSchema, Value};
use gretchen::session::Session;
use gretchen::table::{Table, TableMut};
use gretchen::testing::TestApp;
use gretchen::topic::{TopicPartition, TopicSchema, TopicSpec, WireFormat};
use gretchen::{agent, aggregate, records};

records!("schemas/order.avsc", "schemas/order_total.avsc", namespaces = flat);

static SEEN: Table<String, i64> = Table::new("formats-seen");

#[agent(topic = "in", key = customer, table = SEEN, output = "out", on_error = dead_letter("failed"))]
async fn pass(order: Order, mut seen: TableMut<'_, String, i64>) -> Result<Order, BoxError> {
    if order.quantity < 0 {
        return Err("a negative quantity".into());
    }
    seen.update(&order.customer, |count| *count += 1)?;
    Ok(order)
}

aggregate! {
    /// Totals by customer.
    #[agent(topic = "in", key = customer, output = "totals")]
    static FORMAT_TOTALS: Table<String, OrderTotal> = from Order {
        orders: count(),
        revenue: sum(amount),
        smallest: min(amount),
        largest: max(amount),
        quantity: sum(quantity),
    };
}

fn order(customer: &str, quantity: i32) -> Order {
    Order { order_id: 7, customer: customer.into(), quantity, amount: "2.50".parse().unwrap(), ..Order::default() }
}

fn app(input: WireFormat) -> App {
    App::new("formats")
        .agent::<pass>()
        .agent::<format_totals>()
        .format("in", input)
        .format("out", WireFormat::Bare)
        .format("totals", WireFormat::Confluent)
}

fn datum(order: &Order) -> Vec<u8> {
    let mut datum = Vec::new();
    order.encode(&mut datum).unwrap();
    datum
}

#[test]
fn agents_read_and_write_every_format() {
    for input in [WireFormat::SingleObject, WireFormat::Bare, WireFormat::Confluent] {
        let mut app = TestApp::new(app(input)).unwrap();
        app.send("in", &order("a", 2)).unwrap();
        app.send("in", &order("b", -1)).unwrap();
        app.crash_and_restart().unwrap();
        app.send("in", &order("a", 3)).unwrap();
        assert_eq!(app.recv_all::<Order>("out").unwrap(), [order("a", 2), order("a", 3)], "{input}");
        assert_eq!(app.recv_all::<Order>("failed").unwrap(), [order("b", -1)], "{input}");
        let totals = app.recv_all::<OrderTotal>("totals").unwrap();
        assert_eq!(totals.last().map(|total| (total.orders, total.quantity)), Some((2, 5)), "{input}");
        assert_eq!(app.table(&SEEN).unwrap().get("a").unwrap(), Some(2), "{input}");
    }
}

#[test]
fn what_other_programs_write_is_read() {
    let mut bare = TestApp::new(app(WireFormat::Bare)).unwrap();
    bare.send_raw("in", Some(b"a"), Some(&datum(&order("a", 2)))).unwrap();
    assert_eq!(bare.recv_all::<Order>("out").unwrap(), [order("a", 2)]);

    let mut confluent = TestApp::new(app(WireFormat::Confluent)).unwrap();
    let mut value = vec![0, 0, 0, 0, 1];
    value.extend(datum(&order("a", 2)));
    confluent.send_raw("in", Some(b"a"), Some(&value)).unwrap();
    assert_eq!(confluent.recv_all::<Order>("out").unwrap(), [order("a", 2)]);
}

/// What the dead letter of such a value says.
fn complaint(format: WireFormat, value: &[u8]) -> String {
    let mut app = TestApp::new(App::new("formats").agent::<pass>().format("in", format)).unwrap();
    app.send_raw("in", Some(b"a"), Some(value)).unwrap();
    let dead = app.recv_event::<Vec<u8>>("failed").unwrap().unwrap();
    let said = dead.headers.iter().find(|(name, _)| name == "gretchen.error").unwrap();
    if format != WireFormat::Bare {
        assert_eq!(dead.value.as_deref(), Some(value), "what is of no known format stays as it is");
    }
    String::from_utf8_lossy(&said.1).into_owned()
}

#[test]
fn a_wrong_format_is_recognised_and_explained() {
    let mut single = Vec::new();
    order("a", 2).encode_value(&mut single).unwrap();
    for (format, value, wanted) in [
        (WireFormat::SingleObject, &b"{\"order_id\": 7}"[..], "looks like JSON text"),
        (WireFormat::SingleObject, b"\0\0\0\0\x07abc", "Confluent header"),
        (WireFormat::SingleObject, b"Obj\x01\x04", "an Avro container file"),
        (WireFormat::SingleObject, b"\x1f\x8b\x08\0", "gzip"),
        (WireFormat::Confluent, b"{\"order_id\": 7}", "looks like JSON text"),
        (WireFormat::Confluent, b"\0\0\0\0\x07abc", "Confluent header"),
        (WireFormat::Bare, b"{\"order_id\": 7, \"customer\": \"a\"}", "looks like JSON text"),
    ] {
        let said = complaint(format, value);
        assert!(said.contains(wanted), "{format}: {said}");
        let header = wanted.contains("Confluent");
        assert_eq!(said.contains("App::format"), header, "{said}");
    }
}

async fn create(backend: &dyn Backend, name: &str, schema: &RecordSchema) {
    let schema = TopicSchema { fingerprint: schema.fingerprint, json: schema.json.into() };
    backend.create_topic(&TopicSpec { schema: Some(schema), ..TopicSpec::new(name, 1) }).await.unwrap();
}

async fn values(backend: &dyn Backend, topic: &str) -> Vec<Option<Vec<u8>>> {
    let mut reader = backend.replay().unwrap().reader(&TopicPartition::new(topic, 0), 0).unwrap();
    let (mut frames, mut all) = (Frames::default(), Vec::new());
    while reader.read(&mut frames).unwrap() {
        all.extend(frames.iter().flat_map(|frame| frame.records()).map(|record| record.value.map(<[u8]>::to_vec)));
    }
    all
}

#[tokio::test]
async fn the_wire_holds_what_the_format_says() {
    let memory: Arc<dyn Backend> = Arc::new(MemoryBackend::new(Clock::system()));
    let formats = [("bare", WireFormat::Bare), ("confluent", WireFormat::Confluent)];
    let formats: BTreeMap<String, WireFormat> = formats.map(|(name, format)| (name.to_owned(), format)).into();
    let layer = WireLayer::new(memory.clone(), formats);
    let mut single = Vec::new();
    order("a", 2).encode_value(&mut single).unwrap();
    let mut total = Vec::new();
    OrderTotal::default().encode_value(&mut total).unwrap();
    for topic in ["bare", "confluent", "single"] {
        create(&layer, topic, <Order as Record>::SCHEMA).await;
        create(&layer, topic, <OrderTotal as Record>::SCHEMA).await;
        let mut frame = FrameBuilder::new();
        frame.push_with_headers(Some(b"k"), Some(&single), 5, &[("h", b"v")]);
        frame.push(Some(b"k"), None, 6);
        let mut producer = layer.producer(ProducerId::ANONYMOUS).await.unwrap();
        producer.append(&TopicPartition::new(topic, 0), &mut frame, None).await.unwrap();
        assert_eq!(values(&layer, topic).await, [Some(single.clone()), None], "{topic}");
    }
    let mut numbered = vec![0, 0, 0, 0, 1];
    numbered.extend(datum(&order("a", 2)));
    assert_eq!(values(&*memory, "bare").await, [Some(datum(&order("a", 2))), None]);
    assert_eq!(values(&*memory, "confluent").await, [Some(numbered), None]);
    assert_eq!(values(&*memory, "single").await, [Some(single), None]);

    // The second schema has number 2, and cannot stand among bare values of the first.
    let mut producer = layer.producer(ProducerId::ANONYMOUS).await.unwrap();
    let mut frame = FrameBuilder::new();
    frame.push(None, Some(&total), 7);
    producer.append(&TopicPartition::new("confluent", 0), &mut frame, None).await.unwrap();
    assert_eq!(values(&*memory, "confluent").await[2].as_ref().unwrap()[..5], [0, 0, 0, 0, 2]);
    let error = producer.append(&TopicPartition::new("bare", 0), &mut frame, None).await.unwrap_err();
    assert!(error.kind() == ErrorKind::Encode && error.to_string().contains("use a new topic"), "{error}");
}

#[tokio::test]
async fn a_topic_keeps_its_format() {
    let memory: Arc<dyn Backend> = Arc::new(MemoryBackend::new(Clock::system()));
    let bare = WireLayer::new(memory.clone(), BTreeMap::from([("t".to_owned(), WireFormat::Bare)]));
    bare.create_topic(&TopicSpec::new("t", 1)).await.unwrap();
    let silent = WireLayer::new(memory.clone(), BTreeMap::new());
    assert_eq!(silent.create_topic(&TopicSpec::new("t", 1)).await.unwrap().spec.format, Some(WireFormat::Bare));
    let other = WireLayer::new(memory, BTreeMap::from([("t".to_owned(), WireFormat::Confluent)]));
    let error = other.create_topic(&TopicSpec::new("t", 1)).await.unwrap_err();
    assert!(error.kind() == ErrorKind::Conflict && error.to_string().contains("format bare"), "{error}");
}

#[agent(topic = "in", output = "in-too")]
async fn other_schema(_order: Order) -> OrderTotal {
    OrderTotal::default()
}

#[agent(topic = "in-again", output = "in-too")]
async fn first_schema(order: Order) -> Order {
    order
}

#[test]
fn agents_that_write_two_schemas_into_bare_values_are_refused() {
    let app = App::new("two").agent::<first_schema>().agent::<other_schema>().format("in-too", WireFormat::Bare);
    let Err(error) = TestApp::new(app) else { panic!("two schemas in one topic of bare values") };
    assert!(error.kind() == ErrorKind::Plan && error.to_string().contains("topic in-too holds bare values"), "{error}");
}

#[test]
fn a_log_holds_what_the_format_says_after_a_session() {
    let folder = tempfile::tempdir().unwrap();
    let options = || LogOptions::new(folder.path().join("data"));
    let orders = || (1..=100).map(|id| (b"a".to_vec(), Order { order_id: id, ..order("a", 1) }));
    for _ in 0..2 {
        let session = Session::open(app(WireFormat::Confluent), options(), 2).unwrap();
        session.publish("in", "test", orders()).unwrap();
        session.process().unwrap();
    }
    let log = LogBackend::open(options(), Clock::system()).unwrap();
    let mut found = Vec::new();
    for partition in 0..2 {
        let mut reader = log.reader(&TopicPartition::new("out", partition), 0).unwrap();
        let mut frames = Frames::default();
        while reader.read(&mut frames).unwrap() {
            let records = frames.iter().flat_map(|frame| frame.records());
            found.extend(records.map(|record| record.value.map(<[u8]>::to_vec).unwrap()));
        }
    }
    let wanted: Vec<Vec<u8>> = orders().map(|(_, order)| datum(&order)).collect();
    assert_eq!(found, wanted, "bare datums, each once");
}

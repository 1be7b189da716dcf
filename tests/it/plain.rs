//! Plain values: one number, text or bytes without a schema, as Kafka's own serializers write them.

use std::fs;

use gretchen::agent;
use gretchen::agent::{Event, Output};
use gretchen::app::App;
use gretchen::backend::log::LogOptions;
use gretchen::error::{BoxError, ErrorKind};
use gretchen::session::Session;
use gretchen::table::{Table, TableMut};
use gretchen::testing::TestApp;
use gretchen::topic::WireFormat;
use serde_json::json;

use crate::cli::{bad, good, json_of};

gretchen::records!("schemas/order.avsc", namespaces = flat);

static SUMS: Table<String, i64> = Table::new("plain-sums").output("sums");

#[agent(topic = "ints", table = SUMS, outputs = ["longs", "halves", "words", "raw"])]
async fn spread(
    int: Event<i32>,
    mut sums: TableMut<'_, String, i64>,
    mut longs: Output<i64>,
    mut halves: Output<f64>,
    mut words: Output<String>,
    mut raw: Output<Vec<u8>>,
) -> Result<(), BoxError> {
    let key = std::str::from_utf8(int.key.as_deref().unwrap_or_default())?;
    if int.key.is_some() {
        sums.update(key, |sum| *sum += i64::from(int.value))?;
    }
    longs.send(&int.value.into())?;
    halves.send(&(f64::from(int.value) / 2.0))?;
    words.send(&format!("{key}: {}", int.value))?;
    raw.send(&vec![0xff; usize::try_from(int.value)?])?;
    Ok(())
}

/// The app, for the command line too.
pub(crate) fn app() -> App {
    App::new("plain")
        .agent::<spread>()
        .format("ints", WireFormat::Int)
        .format("longs", WireFormat::Long)
        .format("halves", WireFormat::Double)
        .format("words", WireFormat::Text)
        .format("raw", WireFormat::Bytes)
        .format("sums", WireFormat::Long)
}

#[test]
fn agents_read_and_write_what_kafkas_serializers_do() {
    let mut app = TestApp::new(app()).unwrap();
    app.send_raw("ints", Some(b"a"), Some(&[0, 0, 0, 3])).unwrap();
    app.crash_and_restart().unwrap();
    app.send_raw("ints", Some(b"a"), Some(&[0, 0, 0, 2])).unwrap();
    for (topic, wanted) in [
        ("longs", [&[0, 0, 0, 0, 0, 0, 0, 3][..], &[0, 0, 0, 0, 0, 0, 0, 2]]),
        ("halves", [&[0x3f, 0xf8, 0, 0, 0, 0, 0, 0], &[0x3f, 0xf0, 0, 0, 0, 0, 0, 0]]),
        ("words", [b"a: 3", b"a: 2"]),
        ("raw", [&[0xff; 3], &[0xff; 2]]),
        ("sums", [&[0, 0, 0, 0, 0, 0, 0, 3], &[0, 0, 0, 0, 0, 0, 0, 5]]),
    ] {
        assert_eq!(app.recv_all::<Vec<u8>>(topic).unwrap(), wanted, "{topic}");
    }
}

#[test]
fn a_value_of_a_wrong_length_names_where_it_stands() {
    let mut app = TestApp::new(app()).unwrap();
    app.send_raw("ints", Some(b"a"), Some(&[0, 0, 0, 3])).unwrap();
    app.settle().unwrap();
    // Other programs may write what they like.
    app.send_raw("ints", Some(b"a"), Some(&[1, 2, 3])).unwrap();
    let error = app.settle().unwrap_err();
    let said = chain(&error);
    for part in ["a plain int has 4 bytes, this value has 3", "ints", "partition 0", "offset 1"] {
        assert!(said.contains(part), "{part}: {said}");
    }
    assert_eq!(app.recv_all::<i64>("longs").unwrap(), [3], "what was before it counts");
}

#[test]
fn what_is_no_such_value_is_not_published() {
    let folder = tempfile::tempdir().unwrap();
    let session = Session::open(app(), LogOptions::new(folder.path().join("data")), 2).unwrap();
    let error = session.publish("ints", "test", [(b"a".to_vec(), 7_i64)]).unwrap_err();
    let said = chain(&error);
    assert_eq!(error.kind(), ErrorKind::Encode, "{said}");
    for part in ["topic ints has values in the format int", "a plain int has 4 bytes, this value has 8"] {
        assert!(said.contains(part), "{part}: {said}");
    }
    session.publish("ints", "again", [(b"a".to_vec(), 7_i32)]).unwrap();
    assert_eq!(session.process().unwrap().finished, 1);
    assert_eq!(session.table(&SUMS).unwrap(), [("a".to_owned(), 7)]);
}

/// An error with all its causes.
fn chain(error: &dyn std::error::Error) -> String {
    let mut said = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        said = format!("{said}: {error}");
        cause = error.source();
    }
    said
}

#[agent(topic = "plain-in", output = "plain-out")]
async fn pass_ints(int: i32) -> i32 {
    int
}

#[agent(topic = "plain-in", output = "plain-out")]
async fn pass_orders(order: Order) -> Order {
    order
}

#[agent(topic = "plain-other", output = "plain-else", on_error = dead_letter("plain-out"))]
async fn pass_bytes(bytes: Vec<u8>) -> Vec<u8> {
    bytes
}

#[test]
fn agents_that_take_or_give_something_else_are_refused() {
    let ints = || App::new("refused").agent::<pass_ints>();
    let orders = || App::new("refused").agent::<pass_orders>();
    let bytes = || App::new("refused").agent::<pass_bytes>();
    for (app, wanted) in [
        (
            ints().format("plain-in", WireFormat::Long),
            "reads plain int values from topic plain-in, whose values are plain long",
        ),
        (
            orders().format("plain-in", WireFormat::Int),
            "reads records shop.Order from topic plain-in, whose values are plain int",
        ),
        (
            ints().format("plain-out", WireFormat::Float),
            "writes plain int values to topic plain-out, whose values are float",
        ),
        (
            orders().format("plain-out", WireFormat::Bytes),
            "writes records shop.Order to topic plain-out, whose values are bytes",
        ),
        (
            ints().format("plain-out", WireFormat::Bare),
            "writes plain int values to topic plain-out, whose values are bare",
        ),
        (bytes().format("plain-out", WireFormat::Int), "writes dead letters to topic plain-out, whose values are int"),
    ] {
        let Err(error) = TestApp::new(app) else { panic!("{wanted}") };
        let said = error.to_string();
        assert!(error.kind() == ErrorKind::Plan && said.contains(wanted) && said.contains("plain.rs:"), "{said}");
    }
    // Bytes are read whatever they mean, and taken as dead letters.
    let app = bytes().format("plain-other", WireFormat::Double).format("plain-out", WireFormat::Bytes);
    TestApp::new(app).unwrap();
}

#[test]
fn the_command_line_sends_and_reads_plain_values() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    fs::write(dir.join("format.txt"), "plain").unwrap();
    good(dir, &["send", "ints", "3", "--key", "a"]);
    let error = bad(dir, &["send", "ints", "3.5", "--key", "a"], 1);
    assert!(error.contains("this is not a plain int for topic ints: \"3.5\" is no int"), "{error}");
    fs::write(dir.join("more.jsonl"), "4\n5\n").unwrap();
    good(dir, &["send", "ints", "--file", "more.jsonl"]);
    fs::write(dir.join("wrong.jsonl"), "6\n2147483648\n").unwrap();
    let error = bad(dir, &["send", "ints", "--file", "wrong.jsonl"], 1);
    assert!(error.contains("wrong.jsonl:2: \"2147483648\" is no int"), "{error}");

    good(dir, &["worker", "--until-caught-up"]);
    let sorted = |topic: &str| {
        let text = good(dir, &["read", topic]);
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        lines.sort();
        lines
    };
    assert_eq!(sorted("ints"), ["3", "4", "5"]);
    assert_eq!(sorted("longs"), ["3", "4", "5"]);
    assert_eq!(sorted("halves"), ["1.5", "2.0", "2.5"]);
    assert_eq!(sorted("words"), ["\": 4\"", "\": 5\"", "\"a: 3\""]);
    assert_eq!(sorted("raw"), ["\"0xffffff\"", "\"0xffffffff\"", "\"0xffffffffff\""]);
    let topics = json_of(dir, &["topics", "--json"]);
    let ints = topics.as_array().unwrap().iter().find(|topic| topic["name"] == "ints").unwrap();
    assert_eq!((&ints["format"], &ints["schema"]), (&json!("int"), &json!(null)));
    // The topic keeps its format, and whoever asks for another is told.
    fs::write(dir.join("format.txt"), "plain-long").unwrap();
    let error = bad(dir, &["worker", "--until-caught-up"], 1);
    assert!(error.contains("topic ints exists with format int, and format long is asked for"), "{error}");
}

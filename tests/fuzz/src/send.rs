//! Files that somebody sends: JSON lines, CSV, containers and Avro's JSON, through the command line itself. A file is sent as
//! a whole or not at all; what was sent can be shown; and sent again it adds nothing.

use std::cell::RefCell;
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use gretchen::backend::Replay;
use gretchen::backend::log::{Durability, LogBackend};
use gretchen::prelude::*;
use gretchen::record::{DynamicSchema, Frames, Record, avro_to_json, split_single_object};
use gretchen::topic::TopicPartition;

use crate::folder::{empty, fresh};
use crate::types;

#[agent(topic = "orders", key = customer)]
async fn orders(_record: types::shop::Order) {}

#[agent(topic = "hurts")]
async fn hurts(_record: types::Hurt) {}

#[agent(topic = "everything")]
async fn everything(_record: types::test::Everything) {}

#[agent(topic = "meanings")]
async fn meanings(_record: types::test::Meanings) {}

#[agent(topic = "unions")]
async fn unions(_record: types::test::unions::Unions) {}

#[agent(topic = "words")]
async fn words(_record: String) {}

fn app() -> App {
    App::new("fuzz")
        .agent::<orders>()
        .agent::<hurts>()
        .agent::<everything>()
        .agent::<meanings>()
        .agent::<unions>()
        .agent::<words>()
}

/// The topics, each with its schema.
const TOPICS: [(&str, Option<&str>); 6] = [
    ("orders", Some(<types::shop::Order as Record>::SCHEMA.json)),
    ("hurts", Some(<types::Hurt as Record>::SCHEMA.json)),
    ("everything", Some(<types::test::Everything as Record>::SCHEMA.json)),
    ("meanings", Some(<types::test::Meanings as Record>::SCHEMA.json)),
    ("unions", Some(<types::test::unions::Unions as Record>::SCHEMA.json)),
    ("words", None),
];

const FORMATS: [&str; 4] = ["jsonl", "csv", "avro", "avro-json"];

/// Files that a folder takes before it is emptied.
const FILES: u64 = 500;

/// Where files are sent from and to.
struct Place {
    folder: PathBuf,
    sent: u64,
}

thread_local! {
    static PLACE: RefCell<Place> = RefCell::new(Place { folder: fresh("send"), sent: 0 });
}

/// The first two bytes say where to the rest is sent, and as what.
pub fn run(bytes: &[u8]) {
    let [topic, format, file @ ..] = bytes else { return };
    let (topic, schema) = TOPICS[usize::from(*topic) % TOPICS.len()];
    let format = FORMATS[usize::from(*format) % FORMATS.len()];
    PLACE.with_borrow_mut(|place| {
        if place.sent.is_multiple_of(FILES) {
            empty(&place.folder);
        }
        place.sent += 1;
        std::fs::write(place.folder.join("file"), file).expect("a file");
        let before = place.ends(topic);
        let sent = place.send(topic, format);
        let after = place.ends(topic);
        if !sent {
            assert_eq!(before, after, "nothing was sent");
            return;
        }
        let rows: u64 = after.iter().zip(&before).map(|(after, before)| after - before).sum();
        if format == "jsonl" {
            let text = String::from_utf8_lossy(file);
            assert_eq!(rows, text.split('\n').filter(|line| !line.trim().is_empty()).count() as u64);
        }
        place.check(topic, schema, &before);
        assert!(place.send(topic, format), "it was sent before");
        assert_eq!(place.ends(topic), after, "it was there already");
    });
}

impl Place {
    /// Runs the command; whether it did what it was told.
    fn send(&self, topic: &str, format: &str) -> bool {
        let data = self.folder.join("data");
        let file = self.folder.join("file");
        let producer = self.sent.to_string();
        let mut args: Vec<OsString> =
            ["fuzz", "--quiet", "--durability", "os", "--partitions", "2", "--data-dir"].map(OsString::from).into();
        args.push(data.into());
        args.extend(["send", topic, "--format", format, "--producer", &producer, "--file"].map(OsString::from));
        args.push(file.into());
        format!("{:?}", app().run_with(args)) == format!("{:?}", ExitCode::SUCCESS)
    }

    fn log(&self) -> Option<LogBackend> {
        let data = self.folder.join("data");
        let options = LogOptions { durability: Durability::Os, ..LogOptions::new(&data) };
        data.join("FORMAT").is_file().then(|| LogBackend::open(options, Clock::system()).expect("a log"))
    }

    /// Where the topic's partitions end.
    fn ends(&self, topic: &str) -> [u64; 2] {
        let log = self.log();
        [0, 1].map(|partition| {
            let offsets = log.as_ref().map(|log| log.offsets(&TopicPartition::new(topic, partition)));
            offsets.and_then(Result::ok).map_or(0, |offsets| offsets.end)
        })
    }

    /// Every record since then can be shown.
    fn check(&self, topic: &str, schema: Option<&str>, since: &[u64; 2]) {
        let (Some(log), Some(json)) = (self.log(), schema) else { return };
        let schema = DynamicSchema::parse(json).expect("a schema");
        for (partition, from) in (0..).zip(since) {
            let place = TopicPartition::new(topic, partition);
            let mut reader = log.reader(&place, *from).expect("a reader");
            let mut frames = Frames::default();
            while reader.read(&mut frames).expect("a topic that is sound") {
                for record in frames.iter().flat_map(|frame| frame.records()).filter(|record| record.offset >= *from) {
                    let (fingerprint, datum) = split_single_object(record.value.unwrap_or_default()).expect("a header");
                    assert_eq!(fingerprint, schema.fingerprint());
                    avro_to_json(&schema, datum).expect("what was sent can be shown");
                }
            }
        }
    }
}

//! What a task begins with: the file that says what its checkpoint covers, and the end of its changelog. A worker that finds
//! them goes on from there or stops with an error; what it has put out before is not put out again.

use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use gretchen::backend::log::{Durability, LogBackend};
use gretchen::backend::{Backend, ProducerId, Replay};
use gretchen::error::{Error, ErrorKind};
use gretchen::prelude::*;
use gretchen::record::{FrameBuilder, Frames, RawRecord};
use gretchen::topic::TopicPartition;
use serde_json::{Value as Json, json};

use crate::folder::{empty, files, fresh, restore};

static SEEN: Table<String, i64> = Table::new("seen");

#[agent(topic = "words", table = SEEN, output = "counts")]
async fn counts(word: String, mut seen: TableMut<'_, String, i64>) -> Result<i64> {
    seen.update(&word, |count| *count += 1)?;
    Ok(seen.get(&word)?.unwrap_or(0))
}

#[agent(topic = "words", output = "echoes")]
async fn echoes(word: String) -> String {
    word
}

/// Each agent's changelog, and what it puts out.
const AGENTS: [(&str, &str); 2] = [("fuzz-counts-changelog", "counts"), ("fuzz-echoes-changelog", "echoes")];

/// Words that were processed before.
const WORDS: [&str; 4] = ["a", "b", "a", "c"];

/// A folder whose agents have processed everything.
struct Sound {
    files: Vec<(PathBuf, Vec<u8>)>,
    folder: PathBuf,
    /// The last mark of each changelog.
    marks: [Json; 2],
}

static SOUND: LazyLock<Sound> = LazyLock::new(make);

fn log(folder: &Path) -> LogOptions {
    LogOptions { durability: Durability::Os, ..LogOptions::new(folder) }
}

fn session(folder: &Path) -> Result<Session, Error> {
    let mut session = Session::open(App::new("fuzz").agent::<counts>().agent::<echoes>(), log(folder), 1)?;
    session.options().threads = 1;
    Ok(session)
}

fn place(topic: &str) -> TopicPartition {
    TopicPartition::new(topic, 0)
}

fn make() -> Sound {
    let folder = fresh("checkpoint");
    let session = session(&folder).expect("a session");
    let words = WORDS.map(|word| (b"key".to_vec(), word.to_owned()));
    session.publish("words", "fuzz", words).expect("words");
    session.process().expect("words that are processed");
    drop(session);
    let backend = LogBackend::open(log(&folder), Clock::system()).expect("a log");
    let marks = AGENTS.map(|(changelog, _)| {
        let mut mark = Json::Null;
        each(&backend, changelog, |record| {
            if record.key == Some(&[3][..]) {
                mark = serde_json::from_slice(record.value.unwrap_or_default()).expect("a mark");
            }
        });
        assert!(mark.is_object(), "{changelog}");
        mark
    });
    drop(backend);
    Sound { files: files(&folder), folder, marks }
}

fn each(backend: &LogBackend, topic: &str, mut each: impl FnMut(&RawRecord<'_>)) {
    let mut reader = backend.reader(&place(topic), 0).expect("a reader");
    let mut frames = Frames::default();
    while reader.read(&mut frames).expect("a topic that is sound") {
        frames.iter().flat_map(|frame| frame.records()).for_each(|record| each(&record));
    }
}

/// The first byte says what is made of the rest, the second of which agent.
pub fn run(bytes: &[u8]) {
    let sound = &*SOUND;
    let [how, which, rest @ ..] = bytes else { return };
    let agent = usize::from(*which) % AGENTS.len();
    let (changelog, output) = AGENTS[agent];
    empty(&sound.folder);
    restore(&sound.folder, &sound.files);
    let mut added = FrameBuilder::new();
    match how % 5 {
        0 => {
            let path = sound.folder.join("state/fuzz/echoes/0.position");
            assert!(path.is_file(), "the checkpoint of an agent without tables");
            std::fs::write(path, rest).expect("a position");
        }
        1 => added.push(Some(&[3]), Some(rest), 0),
        2 => added.push(Some(&[3]), Some(mark(&sound.marks[agent], rest).to_string().as_bytes()), 0),
        how => {
            records(rest, &mut added);
            if how == 3 {
                added.push(Some(&[3]), Some(sound.marks[agent].to_string().as_bytes()), 0);
            }
        }
    }
    if !added.is_empty() {
        append(&sound.folder, changelog, &mut added);
    }
    let done = session(&sound.folder).and_then(|session| session.process().map(drop));
    if let Err(error) = &done {
        clear(error);
    }
    if how % 5 == 0 {
        let backend = LogBackend::open(log(&sound.folder), Clock::system()).expect("a log");
        let mut count = 0;
        each(&backend, output, |_| count += 1);
        assert_eq!(count, WORDS.len(), "{done:?}");
    }
}

/// A mark with other numbers in it.
fn mark(sound: &Json, bytes: &[u8]) -> Json {
    let mut mark = sound.clone();
    for change in bytes.chunks_exact(10) {
        let number = u64::from_le_bytes(std::array::from_fn(|i| change[2 + i]));
        let small = u64::from(change[1]);
        let number = if small < 250 { small } else { number };
        match change[0] % 13 {
            0 => mark["commit"] = json!(number),
            1 => mark["begins"] = json!(number),
            2 => mark["stream_time"] = json!(number as i64),
            3 => mark["positions"]["words"] = json!(number),
            4 => mark["positions"]["others"] = json!(number),
            5 => mark["left"] = json!({"words": number}),
            6 => mark["tables"] = json!(["seen", "more"].get(..small as usize % 3)),
            7 => mark["layouts"] = json!(["", "other"].get(small as usize % 2..)),
            8 => mark["outputs"][0]["number"] = json!(number as u32),
            9 => mark["outputs"][0]["partition"] = json!(number as u32),
            10 => mark["outputs"][0]["sequence"] = json!(number),
            11 => mark["outputs"][0]["count"] = json!(number),
            _ => mark["outputs"][0]["topic"] = json!(["counts", "echoes", "words", "nowhere"][small as usize % 4]),
        }
    }
    mark
}

/// Records whose keys and values have the lengths that stand before them.
fn records(bytes: &[u8], into: &mut FrameBuilder) {
    let mut rest = bytes;
    while let [key, value, after @ ..] = rest {
        let (key, after) = after.split_at(after.len().min((*key).into()));
        let (value, after) = after.split_at(after.len().min((*value).into()));
        into.push(Some(key), (!value.is_empty()).then_some(value), 0);
        rest = after;
    }
}

fn append(folder: &Path, changelog: &str, frame: &mut FrameBuilder) {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let backend = LogBackend::open(log(folder), Clock::system()).expect("a log");
    runtime.block_on(async {
        let mut producer = backend.producer(ProducerId::ANONYMOUS).await.expect("a producer");
        producer.append(&place(changelog), frame, None).await.expect("an append");
    });
}

/// An error of the kind that a state has which contradicts itself, and no other.
fn clear(error: &Error) {
    use ErrorKind::{Conflict, Corrupt, Decode, NotFound, State, Unsupported};
    let is_clear = matches!(error.kind(), Corrupt | State | NotFound | Decode | Conflict | Unsupported);
    assert!(is_clear, "{:?}: {error}", error.kind());
}

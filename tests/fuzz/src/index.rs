//! The index of a segment is not trusted: whatever is in it, a reader finds every record from where it was asked to begin.

use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use gretchen::backend::log::{Durability, LogBackend, LogOptions};
use gretchen::backend::{Backend, ProducerId, Replay};
use gretchen::clock::Clock;
use gretchen::record::{FrameBuilder, Frames};
use gretchen::topic::{TopicPartition, TopicSpec};

use crate::folder::{files, fresh};

const RECORDS: u64 = 60;

/// A sound log, and its segments.
struct Sound {
    folder: PathBuf,
    segments: Vec<PathBuf>,
}

static SOUND: LazyLock<Sound> = LazyLock::new(make);

fn open(folder: &Path) -> LogBackend {
    let options = LogOptions {
        durability: Durability::Os,
        segment_bytes: 4096,
        read_bytes: 4096,
        index_bytes: 256,
        ..LogOptions::new(folder)
    };
    LogBackend::open(options, Clock::system()).expect("a log")
}

fn place() -> TopicPartition {
    TopicPartition::new("orders", 0)
}

fn make() -> Sound {
    let folder = fresh("index");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let backend = open(&folder);
        backend.create_topic(&TopicSpec::new("orders", 1)).await.expect("a topic");
        let mut producer = backend.producer(ProducerId::named("fuzz")).await.expect("a producer");
        let mut frame = FrameBuilder::new();
        for number in 0..RECORDS {
            frame.push(None, Some(number.to_string().repeat(40).as_bytes()), number as i64);
            // Frames of one record, of two and of three.
            if [1, 3, 0].contains(&(number % 6)) || number + 1 == RECORDS {
                producer.append(&place(), &mut frame, None).await.expect("an append");
                frame.clear();
            }
        }
    });
    drop(runtime);
    let segments: Vec<PathBuf> = files(&folder)
        .into_iter()
        .map(|(path, _)| folder.join(path))
        .filter(|path| path.extension().is_some_and(|end| end == "log"))
        .collect();
    assert!(segments.len() > 1, "{segments:?}");
    let sound = Sound { folder, segments };
    check(&sound);
    sound
}

/// The first byte says of which segment, the second how the rest becomes its index.
pub fn run(bytes: &[u8]) {
    let sound = &*SOUND;
    let [which, how, rest @ ..] = bytes else { return };
    let segment = &sound.segments[usize::from(*which) % sound.segments.len()];
    let index = match how % 2 {
        0 => rest.to_vec(),
        // Entries that may be near the truth.
        _ => rest.chunks_exact(4).flat_map(entry).collect(),
    };
    for segment in &sound.segments {
        let _ = std::fs::remove_file(segment.with_extension("index"));
    }
    std::fs::write(segment.with_extension("index"), index).expect("an index");
    check(sound);
}

fn entry(bytes: &[u8]) -> [u8; 16] {
    let word = |at: usize| u64::from(u16::from_le_bytes([bytes[at], bytes[at + 1]]));
    let mut entry = [0; 16];
    entry[..8].copy_from_slice(&word(0).to_le_bytes());
    entry[8..].copy_from_slice(&word(2).to_le_bytes());
    entry
}

/// From each offset on, everything is there.
fn check(sound: &Sound) {
    let backend = open(&sound.folder);
    let mut frames = Frames::default();
    for from in 0..RECORDS {
        let mut next = from;
        let mut reader = backend.reader(&place(), from).expect("a reader");
        while reader.read(&mut frames).expect("a log that is sound") {
            for record in frames.iter().flat_map(|frame| frame.records()).filter(|record| record.offset >= from) {
                assert_eq!(record.offset, next, "from {from}");
                assert_eq!(record.value, Some(next.to_string().repeat(40).as_bytes()), "from {from}");
                next += 1;
            }
        }
        assert_eq!(next, RECORDS, "from {from}");
    }
}

//! The folder of a log, one file of which is the fuzzer's: it opens and reads as the intact beginning or as an error, what
//! `verify` and `repair` say of it holds, and nothing takes more memory than a frame may have.

use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::LazyLock;
use std::task::{Context, Poll, Waker};

use gretchen::backend::log::{Durability, LogBackend, LogOptions, Only, Severity, repair, verify};
use gretchen::backend::{Backend, ProducerId, Replay};
use gretchen::clock::Clock;
use gretchen::error::{Error, ErrorKind, Result};
use gretchen::record::{FrameBuilder, Frames, HEADER_LEN};
use gretchen::topic::{TopicPartition, TopicSettings, TopicSpec};

use crate::folder::{empty, files, fresh, restore};
use crate::frames::seal;
use crate::memory::within;

/// Bytes of a segment's header.
const SEGMENT_HEADER: usize = 64;

/// The most that an input may take: the largest frame that is read, in a buffer and in a copy of it, and what is small.
const BOUND: usize = (2 * 64 + 16) << 20;

const GROUP: &str = "people";

/// A record: its offset and its value.
type Seen = (u64, Vec<u8>);

/// A sound folder: segments of one topic as they were appended, those of another compacted.
struct Sound {
    files: Vec<(PathBuf, Vec<u8>)>,
    folder: PathBuf,
    orders: Vec<Seen>,
}

static SOUND: LazyLock<Sound> = LazyLock::new(make);

fn options(folder: &Path) -> LogOptions {
    LogOptions { durability: Durability::Os, segment_bytes: 4096, read_bytes: 4096, ..LogOptions::new(folder) }
}

fn open(folder: &Path) -> Result<LogBackend> {
    LogBackend::open(options(folder), Clock::system())
}

fn place(topic: &str) -> TopicPartition {
    TopicPartition::new(topic, 0)
}

fn make() -> Sound {
    let folder = fresh("log");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let backend = open(&folder).expect("a log");
        for topic in ["orders", "kept"] {
            let settings = if topic == "kept" { &["cleanup=compact"][..] } else { &[] };
            let settings = TopicSettings::parse(settings.iter().copied()).expect("settings");
            backend.create_topic(&TopicSpec { settings, ..TopicSpec::new(topic, 1) }).await.expect("a topic");
            let mut producer = backend.producer(ProducerId::named("fuzz")).await.expect("a producer");
            let mut frame = FrameBuilder::new();
            for number in 0..60_u64 {
                frame.clear();
                let key = format!("key {}", number % 7);
                frame.push(Some(key.as_bytes()), Some(format!("{number} ").repeat(40).as_bytes()), number as i64);
                producer.append(&place(topic), &mut frame, Some(number)).await.expect("an append");
                if number == 45 {
                    backend.sync(&place(topic), number).await.expect("a sync");
                }
            }
        }
        assert!(backend.clean(&place("kept"), true).await.expect("a compaction").compacted_records > 20);
        let group = backend.consumer(GROUP, &[]).await.expect("a group");
        group.ack(&place("orders"), 17).expect("a position");
    });
    drop(runtime);
    let orders = read(&open(&folder).expect("a log"), "orders", 0).expect("what was appended");
    assert_eq!(orders.len(), 60);
    let files = files(&folder);
    Sound { files, folder, orders }
}

/// The first two bytes say which file is made of the rest, and how.
pub fn run(bytes: &[u8]) {
    let sound = &*SOUND;
    let [how, which, rest @ ..] = bytes else { return };
    let segments: Vec<usize> = places(sound, |path| path.ends_with("log"));
    let others: Vec<usize> = places(sound, |path| !path.ends_with("log"));
    let chosen = |list: &[usize]| list[usize::from(*which) % list.len()];
    let mut files = sound.files.clone();
    let mut changed = None;
    match how % 7 {
        0 => changed = Some((chosen(&segments), rest.to_vec())),
        1 => {
            let at = chosen(&segments);
            changed = Some((at, [beginning(&files[at].1), rest].concat()));
        }
        2 => {
            let at = chosen(&segments);
            changed = Some((at, [beginning(&files[at].1), &frames(rest)].concat()));
        }
        3 => {
            let at = chosen(&segments);
            let mut segment = files[at].1.clone();
            header(&mut segment, rest);
            changed = Some((at, segment));
        }
        4 => {
            let (path, _) = &files[chosen(&segments)];
            let index = (path.with_extension("index"), rest.to_vec());
            files.push(index);
        }
        5 => changed = Some((chosen(&others), rest.to_vec())),
        _ => {
            let at = usize::from(*which) % files.len();
            let mut file = files[at].1.clone();
            for patch in rest.chunks_exact(3) {
                let place = usize::from(u16::from_le_bytes([patch[0], patch[1]]));
                if let Some(byte) = file.get_mut(place) {
                    *byte ^= patch[2];
                }
            }
            changed = Some((at, file));
        }
    }
    // Of the partition that nothing was done to every record is there.
    let other = changed.as_ref().map(|(at, _)| files[*at].0.starts_with("topics/kept"));
    if let Some((at, file)) = changed {
        files[at].1 = file;
    }
    empty(&sound.folder);
    restore(&sound.folder, &files);
    within(BOUND, || check(sound, other == Some(true)));
}

fn places(sound: &Sound, is_meant: impl Fn(&str) -> bool) -> Vec<usize> {
    let name = |path: &Path| path.to_string_lossy().into_owned();
    (0..sound.files.len()).filter(|at| is_meant(&name(&sound.files[*at].0))).collect()
}

/// A segment's header and its list of producers.
fn beginning(segment: &[u8]) -> &[u8] {
    let length = u32::from_le_bytes(std::array::from_fn(|i| segment[SEGMENT_HEADER + i]));
    &segment[..SEGMENT_HEADER + 8 + length as usize]
}

/// Bytes as frames whose checksums are right: each begins with its length.
fn frames(bytes: &[u8]) -> Vec<u8> {
    let mut all = Vec::new();
    let mut rest = bytes;
    while let [len, after @ ..] = rest {
        let (frame, after) = after.split_at(after.len().min(HEADER_LEN + usize::from(*len)));
        all.extend_from_slice(&seal(frame.to_vec()));
        rest = after;
    }
    all
}

/// Puts the bytes into a segment's header and makes its checksum right.
fn header(segment: &mut [u8], bytes: &[u8]) {
    for (place, byte) in segment[16..SEGMENT_HEADER].iter_mut().zip(bytes) {
        *place ^= byte;
    }
    let crc = crc32c::crc32c_append(crc32c::crc32c(&segment[..12]), &segment[16..SEGMENT_HEADER]);
    segment[12..16].copy_from_slice(&crc.to_le_bytes());
}

fn check(sound: &Sound, orders_are_sound: bool) {
    let all = Only::default();
    let options = options(&sound.folder);
    let before = verify(&options, all);
    let found = look(sound);
    if orders_are_sound {
        assert_eq!(found.orders.as_ref().ok(), Some(&sound.orders), "{:?}", found.orders);
    }
    // What verify calls sound can be read.
    if before.as_ref().is_ok_and(|report| report.findings.is_empty()) {
        for read in [&found.orders, &found.kept] {
            assert!(read.is_ok(), "{read:?}");
        }
    }
    match repair(&options, all) {
        Ok(mended) if mended.iter().all(|one| one.done) => {
            let after = verify(&options, all).expect("what was repaired");
            // The positions of groups, and files of the folder itself, are not repaired.
            let partition = |file: &Path| file.extension().is_some_and(|extension| extension == "log");
            let damaged = after.findings.iter().find(|one| one.severity == Severity::Damage && partition(&one.file));
            assert!(damaged.is_none(), "{damaged:?} after {mended:?}");
        }
        Ok(_) => {}
        Err(error) => clear(&error),
    }
    look(sound);
}

/// What can be read.
struct Found {
    orders: Result<Vec<Seen>>,
    kept: Result<Vec<Seen>>,
}

fn look(sound: &Sound) -> Found {
    let backend = match open(&sound.folder) {
        Ok(backend) => backend,
        Err(error) => {
            clear(&error);
            let refused = || Err(Error::new(error.kind(), error.message().to_owned()));
            return Found { orders: refused(), kept: refused() };
        }
    };
    let [orders, kept] = ["orders", "kept"].map(|topic| {
        let records = read(&backend, topic, 0);
        match &records {
            Ok(records) => {
                assert!(records.is_sorted_by(|a, b| a.0 < b.0), "topic {topic}: offsets {:?}", offsets(records));
                rest(&backend, topic, records);
            }
            Err(error) => clear(error),
        }
        if let Err(error) = backend.position(GROUP, &place(topic)) {
            clear(&error);
        }
        records
    });
    Found { orders, kept }
}

fn offsets(records: &[Seen]) -> Vec<u64> {
    records.iter().map(|(offset, _)| *offset).collect()
}

/// What begins elsewhere reads the same, and what is appended follows.
fn rest(backend: &LogBackend, topic: &str, records: &[Seen]) {
    let Some((offset, _)) = records.get(records.len() / 2) else { return };
    match read(backend, topic, *offset) {
        Ok(from) => assert_eq!(from, records[records.len() / 2..], "topic {topic}"),
        Err(error) => panic!("topic {topic}, from {offset}: {error}"),
    }
    let mut frame = FrameBuilder::new();
    frame.push(Some(b"key"), Some(b"another"), 0);
    let appended = at_once(async {
        let mut producer = backend.producer(ProducerId::ANONYMOUS).await?;
        producer.append(&place(topic), &mut frame, None).await
    });
    match appended {
        Ok(appended) => {
            let again = read(backend, topic, 0).expect("what was read before");
            assert_eq!(again[..records.len()], *records, "topic {topic}");
            assert_eq!(again[records.len()..], [(appended.base_offset, b"another".to_vec())], "topic {topic}");
        }
        Err(error) => clear(&error),
    }
}

fn read(backend: &LogBackend, topic: &str, from: u64) -> Result<Vec<Seen>> {
    let mut reader = backend.reader(&place(topic), from)?;
    let (mut frames, mut seen) = (Frames::default(), Vec::new());
    while reader.read(&mut frames)? {
        for record in frames.iter().flat_map(|frame| frame.records()).filter(|record| record.offset >= from) {
            seen.push((record.offset, record.value.unwrap_or_default().to_vec()));
        }
    }
    Ok(seen)
}

/// What has nothing to wait for, because nobody else uses the folder.
fn at_once<T>(work: impl Future<Output = T>) -> T {
    match pin!(work).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(done) => done,
        Poll::Pending => panic!("there is nothing to wait for"),
    }
}

/// An error of the kind that damage has, which says where.
fn clear(error: &Error) {
    use ErrorKind::{Config, Conflict, Corrupt, Io, NotFound, Unsupported};
    assert!(matches!(error.kind(), Corrupt | Unsupported | NotFound | Config | Conflict | Io), "{error}");
    assert!(error.message().len() > 10, "{error}");
}

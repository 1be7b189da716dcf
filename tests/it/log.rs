//! The embedded log: crashes, damage, and many processes at once.
//!
//! A test that needs another process runs this binary again, at one of the `child_` tests; without their variable in
//! the environment those return at once.

mod append_lock;
mod cleaning;
mod compacted;
mod damage;
pub(crate) mod every_bit;
mod groups;
mod interrupted;
mod processes;
mod repair;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use gretchen::backend::log::{Durability, LogBackend, LogOptions};
use gretchen::backend::{Appended, Backend, ProducerId, Replay};
use gretchen::clock::Clock;
use gretchen::record::{FrameBuilder, Frames};
use gretchen::topic::{TopicPartition, TopicSpec};

/// Names the data folder to a child.
const FOLDER: &str = "GRETCHEN_TEST_LOG";
/// The child's number.
const NUMBER: &str = "GRETCHEN_TEST_NUMBER";

fn options(folder: &Path) -> LogOptions {
    LogOptions { durability: Durability::Os, ..LogOptions::new(folder) }
}

fn open(folder: &Path) -> LogBackend {
    LogBackend::open(options(folder), Clock::system()).unwrap()
}

async fn orders(backend: &LogBackend, partitions: u32) -> TopicPartition {
    backend.create_topic(&TopicSpec::new("orders", partitions)).await.unwrap();
    TopicPartition::new("orders", 0)
}

async fn append(backend: &LogBackend, to: &TopicPartition, values: &[&str]) -> Appended {
    let mut frame = FrameBuilder::new();
    values.iter().for_each(|value| frame.push(None, Some(value.as_bytes()), 0));
    backend.producer(ProducerId::ANONYMOUS).await.unwrap().append(to, &mut frame, None).await.unwrap()
}

fn read(backend: &LogBackend, place: &TopicPartition) -> gretchen::error::Result<Vec<String>> {
    let mut reader = backend.reader(place, 0)?;
    let (mut frames, mut values) = (Frames::default(), Vec::new());
    while reader.read(&mut frames)? {
        for record in frames.iter().flat_map(|frame| frame.records()) {
            assert_eq!(record.offset, values.len() as u64);
            values.push(String::from_utf8(record.value.unwrap().to_vec()).unwrap());
        }
    }
    Ok(values)
}

fn segment(folder: &Path, base: u64) -> PathBuf {
    folder.join(format!("topics/orders/0/{base:020}.log"))
}

/// This binary at one of its tests.
fn child(test: &str, folder: &Path, number: usize) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .env(FOLDER, folder)
        .env(NUMBER, number.to_string())
        .stdout(Stdio::null())
        .spawn()
        .unwrap()
}

/// What [`child`] said, in the child.
fn as_child() -> Option<(PathBuf, usize)> {
    let folder = std::env::var_os(FOLDER)?;
    Some((folder.into(), std::env::var(NUMBER).unwrap().parse().unwrap()))
}

#[tokio::test]
async fn a_newer_layout_is_refused_naming_both_versions() {
    let folder = tempfile::tempdir().unwrap();
    drop(open(folder.path()));
    std::fs::write(folder.path().join("FORMAT"), "7\n").unwrap();
    let error = LogBackend::open(options(folder.path()), Clock::system()).unwrap_err();
    assert!(error.message().contains('7') && error.message().contains("up to 1"), "{error}");
}

#[tokio::test]
async fn the_first_record_of_a_time_or_later_is_found() {
    const OF_FRAME: u64 = 7;
    let folder = tempfile::tempdir().unwrap();
    let small = LogOptions { segment_bytes: 4096, ..options(folder.path()) };
    let backend = LogBackend::open(small, Clock::system()).unwrap();
    let place = orders(&backend, 1).await;
    let time_of = |offset: u64| 1_000 + 10 * offset as i64;
    let mut producer = backend.producer(ProducerId::ANONYMOUS).await.unwrap();
    for frame in 0..40 {
        let mut builder = FrameBuilder::new();
        (0..OF_FRAME).for_each(|n| builder.push(None, Some(&[7; 40]), time_of(frame * OF_FRAME + n)));
        producer.append(&place, &mut builder, None).await.unwrap();
    }
    let check = |start: u64| {
        assert_eq!(backend.offsets(&place).unwrap().start, start);
        for offset in 0..40 * OF_FRAME {
            let found = Some(offset.max(start));
            assert_eq!(backend.offset_at(&place, time_of(offset)).unwrap(), found);
            assert_eq!(backend.offset_at(&place, time_of(offset) - 9).unwrap(), found, "a little earlier");
        }
        assert_eq!(backend.offset_at(&place, time_of(40 * OF_FRAME)).unwrap(), None);
    };
    check(0);
    backend.delete_before(&place, 20 * OF_FRAME).await.unwrap();
    let start = backend.offsets(&place).unwrap().start;
    assert!(start > 0, "nothing has gone");
    check(start);
}

#[tokio::test]
async fn the_folder_is_for_its_user_only() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let backend = open(&data);
    orders(&backend, 1).await;
    assert_eq!(data.metadata().unwrap().permissions().mode() & 0o777, 0o700);
}

#[tokio::test(flavor = "multi_thread")]
async fn five_thousand_durable_sends_share_syncs() {
    let folder = tempfile::tempdir().unwrap();
    let backend = LogBackend::open(LogOptions::new(folder.path()), Clock::system()).unwrap();
    let place = orders(&backend, 1).await;
    let clock = Clock::system();
    let began = clock.moment();
    let sends = (0..5_000).map(|i| {
        let (backend, place) = (backend.clone(), place.clone());
        tokio::spawn(async move {
            let mut producer = backend.producer(ProducerId::ANONYMOUS).await.unwrap();
            let mut frame = FrameBuilder::new();
            frame.push(None, Some(format!("{i}").as_bytes()), 0);
            let appended = producer.append(&place, &mut frame, None).await.unwrap();
            producer.flush().await.unwrap();
            assert!(backend.offsets(&place).unwrap().durable > appended.base_offset);
        })
    });
    for sent in sends.collect::<Vec<_>>() {
        sent.await.unwrap();
    }
    println!("5,000 durable sends: {:?}", clock.moment().since(began));
    assert_eq!(backend.offsets(&place).unwrap().durable, 5_000);
}

#[tokio::test]
async fn nothing_is_synced_where_the_system_may_decide() {
    let folder = tempfile::tempdir().unwrap();
    let backend = open(folder.path());
    let place = orders(&backend, 1).await;
    let mut producer = backend.producer(ProducerId::ANONYMOUS).await.unwrap();
    let mut frame = FrameBuilder::new();
    frame.push(None, None, 0);
    producer.append(&place, &mut frame, None).await.unwrap();
    producer.flush().await.unwrap();
    assert_eq!(backend.offsets(&place).unwrap().durable, 0);
    backend.sync(&place, 1).await.unwrap();
    assert_eq!(backend.offsets(&place).unwrap().durable, 1);
}

/// A topic that ten tasks create at once exists once.
#[tokio::test(flavor = "multi_thread")]
async fn a_topic_is_created_once() {
    let folder = tempfile::tempdir().unwrap();
    let backends: Vec<_> = (0..10).map(|_| Arc::new(open(folder.path()))).collect();
    let created = backends.iter().map(|backend| orders(backend, 3));
    futures::future::join_all(created).await;
    assert_eq!(backends[0].topics().await.unwrap().len(), 1);
    assert_eq!(std::fs::read_dir(folder.path().join("drafts")).unwrap().count(), 0);
}

/// Those of an earlier release, which have none in their folder, have one and the same.
#[tokio::test]
async fn a_topic_has_an_id_that_no_other_has() {
    let folder = tempfile::tempdir().unwrap();
    let backend = open(folder.path());
    let mut ids = BTreeSet::new();
    let path = folder.path().join("topics/orders/id");
    for how in ["new", "deleted", "damaged", "deleted", "without", "deleted"] {
        match how {
            "deleted" => backend.delete_topic("orders").await.unwrap(),
            "damaged" => {
                let mut bytes = std::fs::read(&path).unwrap();
                bytes[3] ^= 4;
                std::fs::write(&path, bytes).unwrap();
                // It may be that of the topic all the same, so nothing is put in its place.
                for _ in 0..2 {
                    assert_eq!(backend.topic_id("orders").unwrap(), None);
                    orders(&backend, 1).await;
                }
                continue;
            }
            "without" => std::fs::remove_file(&path).unwrap(),
            _ => {}
        }
        orders(&backend, 1).await;
        let id = backend.topic_id("orders").unwrap().unwrap();
        orders(&backend, 1).await;
        assert_eq!(backend.topic_id("orders").unwrap().unwrap(), id, "{how}");
        assert!(ids.insert(id), "{how}");
    }
}

/// Two handles in one process are as two processes: neither deletes what the other reads.
#[tokio::test]
async fn a_topic_in_use_elsewhere_is_not_deleted() {
    let folder = tempfile::tempdir().unwrap();
    let (one, two) = (open(folder.path()), open(folder.path()));
    let place = orders(&one, 1).await;
    append(&two, &place, &["a"]).await;
    let error = one.delete_topic("orders").await.unwrap_err();
    assert_eq!(error.kind(), gretchen::error::ErrorKind::Conflict, "{error}");
    drop(two);
    one.delete_topic("orders").await.unwrap();
}

/// A failed sync ends appends and syncs, by every handle, until the partition is opened again.
#[tokio::test]
async fn after_a_failed_sync_nothing_is_appended() {
    let folder = tempfile::tempdir().unwrap();
    let small = || {
        let options = LogOptions { segment_bytes: 4096, ..options(folder.path()) };
        LogBackend::open(options, Clock::system()).unwrap()
    };
    let (one, two) = (small(), small());
    let place = orders(&one, 1).await;
    one.offsets(&place).unwrap();
    for _ in 0..2 {
        append(&two, &place, &[&"x".repeat(2_500)]).await;
    }
    // What is synced behind a full segment is done then.
    two.sync(&place, 2).await.unwrap();
    append(&two, &place, &["y"]).await;
    // The segment that `one` has to open for its sync cannot be opened.
    let (there, away) = (segment(folder.path(), 1), folder.path().join("away"));
    std::fs::rename(&there, &away).unwrap();
    assert!(one.sync(&place, 3).await.is_err());
    std::fs::rename(&away, &there).unwrap();
    let poisoned = Some(gretchen::error::ErrorKind::Poisoned);
    for backend in [&one, &two] {
        let mut frame = FrameBuilder::new();
        frame.push(None, None, 0);
        let mut producer = backend.producer(ProducerId::ANONYMOUS).await.unwrap();
        assert_eq!(producer.append(&place, &mut frame, None).await.err().map(|error| error.kind()), poisoned);
        assert_eq!(backend.sync(&place, 3).await.err().map(|error| error.kind()), poisoned);
    }
    assert_eq!(read(&one, &place).unwrap().len(), 3);
    drop((one, two));
    // The thread that synced behind the full segment may hold the partition for a moment yet.
    let opened = async {
        loop {
            let again = small();
            match again.sync(&place, 3).await {
                Err(error) if Some(error.kind()) == poisoned => Clock::system().sleep(Duration::from_millis(5)).await,
                synced => break synced.map(|()| again),
            }
        }
    };
    let again = tokio::time::timeout(Duration::from_secs(10), opened).await.expect("it can be opened again").unwrap();
    append(&again, &place, &["z"]).await;
    again.sync(&place, 4).await.unwrap();
    assert_eq!(read(&again, &place).unwrap().len(), 4);
}

/// A batch beyond the largest frame is refused, and nothing of it is appended.
#[tokio::test]
async fn a_batch_that_is_too_large_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let backend = open(folder.path());
    let place = orders(&backend, 1).await;
    let mut frame = FrameBuilder::new();
    frame.push(None, Some(&vec![7; 65 << 20]), 0);
    let mut producer = backend.producer(ProducerId::ANONYMOUS).await.unwrap();
    assert!(producer.append(&place, &mut frame, None).await.is_err());
    append(&backend, &place, &["a"]).await;
    assert_eq!(read(&backend, &place).unwrap(), ["a"]);
}

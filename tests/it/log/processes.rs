//! Many processes, some of them killed.

use std::collections::HashMap;
use std::time::Duration;

use gretchen::backend::{Backend, ProducerId, Replay};
use gretchen::clock::Clock;
use gretchen::record::FrameBuilder;

use std::path::Path;

use gretchen::backend::log::{LogBackend, LogOptions};
use gretchen::record::Frames;

use super::{append, as_child, child, open, options, orders, read};

const BATCHES: u64 = 200;
const BATCH: u64 = 5;

/// Segments so small that there are many.
fn open_small(folder: &Path) -> LogBackend {
    LogBackend::open(LogOptions { segment_bytes: 4096, ..options(folder) }, Clock::system()).unwrap()
}

/// Appends its own records under its own name, in batches.
#[tokio::test]
async fn child_appender() {
    let Some((folder, number)) = as_child() else { return };
    let backend = open_small(&folder);
    let place = orders(&backend, 1).await;
    let mut producer = backend.producer(ProducerId::named(&format!("child {number}"))).await.unwrap();
    let mut frame = FrameBuilder::new();
    // A child that was killed goes on where the log says.
    let done = backend.next_sequence(&place, ProducerId::named(&format!("child {number}"))).unwrap();
    for first in (done / BATCH * BATCH..BATCHES * BATCH).step_by(BATCH as usize) {
        frame.clear();
        (first..first + BATCH).for_each(|i| frame.push(None, Some(format!("{number} {i}").as_bytes()), 0));
        producer.append(&place, &mut frame, Some(first)).await.unwrap();
    }
}

/// Every child's records are there once and in its order.
fn check_all(values: &[String], children: usize) {
    let mut next = HashMap::<usize, u64>::new();
    for value in values {
        let (child, i) = value.split_once(' ').unwrap();
        let expected = next.entry(child.parse().unwrap()).or_default();
        assert_eq!(i.parse::<u64>().unwrap(), *expected, "child {child}");
        *expected += 1;
    }
    assert_eq!(next.len(), children);
    assert!(next.values().all(|count| *count == BATCHES * BATCH), "{next:?}");
}

#[tokio::test]
async fn ten_processes_append_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let children: Vec<_> =
        (0..10).map(|number| child("log::processes::child_appender", folder.path(), number)).collect();
    // A reader follows them through all segments.
    let backend = open(folder.path());
    let place = orders(&backend, 1).await;
    let mut reader = backend.reader(&place, 0).unwrap();
    let (mut frames, mut followed) = (Frames::default(), Vec::new());
    let follow = async {
        while followed.len() as u64 != 10 * BATCHES * BATCH {
            reader.ready().await.unwrap();
            while reader.read(&mut frames).unwrap() {
                let records = frames.iter().flat_map(|frame| frame.records());
                followed.extend(records.map(|record| String::from_utf8(record.value.unwrap().to_vec()).unwrap()));
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(60), follow).await.expect("the reader gets every record");
    for mut child in children {
        assert!(child.wait().unwrap().success());
    }
    check_all(&followed, 10);
    assert!(read(&backend, &place).unwrap() == followed, "the reader got something else than the log holds");
}

/// Writers that are killed again and again, beside one that is not, add each record once in the end.
#[tokio::test]
async fn killed_writers_leave_nothing_behind() {
    let folder = tempfile::tempdir().unwrap();
    let clock = Clock::system();
    let mut steady = child("log::processes::child_appender", folder.path(), 0);
    for round in 0..30_u64 {
        let mut victim = child("log::processes::child_appender", folder.path(), 1);
        clock.sleep(Duration::from_millis(4 + round % 13)).await;
        victim.kill().unwrap();
        victim.wait().unwrap();
    }
    assert!(steady.wait().unwrap().success());
    assert!(child("log::processes::child_appender", folder.path(), 1).wait().unwrap().success());
    let backend = open(folder.path());
    let place = orders(&backend, 1).await;
    check_all(&read(&backend, &place).unwrap(), 2);
}

/// Readers of this process wake when another process appends, and others are left alone.
#[tokio::test]
async fn readers_are_woken_by_another_process() {
    let folder = tempfile::tempdir().unwrap();
    let backend = open(folder.path());
    let place = orders(&backend, 2).await;
    let mut readers: Vec<_> = (0..50).map(|_| backend.reader(&place, 0).unwrap()).collect();
    let mut idle = backend.reader(&gretchen::topic::TopicPartition::new("orders", 1), 0).unwrap();
    append(&backend, &place, &["here"]).await;
    for reader in &mut readers {
        let mut frames = gretchen::record::Frames::default();
        assert!(reader.read(&mut frames).unwrap());
    }
    let mut appender = child("log::processes::child_one_append", folder.path(), 0);
    let woken = futures::future::try_join_all(readers.iter_mut().map(|reader| reader.ready()));
    let clock = Clock::system();
    tokio::select! {
        woken = woken => drop(woken.unwrap()),
        idle = idle.ready() => panic!("{idle:?}: woke for another partition"),
        () = clock.sleep(Duration::from_secs(10)) => panic!("not woken"),
    }
    assert!(appender.wait().unwrap().success());
    assert_eq!(read(&backend, &place).unwrap(), ["here", "there"]);
}

#[tokio::test]
async fn child_one_append() {
    let Some((folder, _)) = as_child() else { return };
    let backend = open(&folder);
    let place = orders(&backend, 2).await;
    Clock::system().sleep(Duration::from_millis(100)).await;
    append(&backend, &place, &["there"]).await;
}

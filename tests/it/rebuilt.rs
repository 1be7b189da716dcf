//! Tables whose stores are gone come back from their changelog: within the memory that they may take, right, and with what a
//! worker that was told to stop meanwhile had by then.

use std::fs::File;
use std::path::Path;

use gretchen::agent;
use gretchen::app::App;
use gretchen::error::Result;
use gretchen::table::{Table, TableMut};

use crate::shop::{self, Evidence, Order};
use crate::support::{APP, PARTITIONS, Random, Stage, What, Worker};

const CUSTOMERS: u64 = 2_000_000;

/// What a partition of the table may take: a small part of its keys.
const MEMORY: usize = 1 << 20;

static TIMES: Table<String, i64> = Table::new("times");

#[agent(topic = "orders", key = customer, table = TIMES)]
async fn times(order: Order, mut times: TableMut<'_, String, i64>) -> Result<()> {
    times.update(&order.customer, |times| *times += 1)?;
    Ok(())
}

pub(crate) fn app() -> App {
    App::new(APP).agent::<times>()
}

/// Files underneath a folder whose names are such.
fn files(folder: &Path, such: &dyn Fn(&str) -> bool) -> usize {
    let Ok(entries) = std::fs::read_dir(folder) else { return 0 };
    entries
        .filter_map(|entry| {
            let entry = entry.ok()?;
            Some(match entry.path().is_dir() {
                true => files(&entry.path(), such),
                false => usize::from(such(entry.file_name().to_str()?)),
            })
        })
        .sum()
}

/// What the worker's partitions began with, as far as they have: covered by the stores and replayed.
fn started(worker: &Worker) -> Vec<(u64, u64)> {
    let such = |what| match what {
        What::Started { covered, replayed, .. } => Some((covered, replayed)),
        _ => None,
    };
    worker.said().into_iter().filter_map(|said| such(said.what)).collect()
}

/// Each of them is at least one commit of each partition: a commit that has not ended is held in memory.
const PARTS: u64 = 100;

/// One order of each customer is processed.
fn processed(checkpoint_ms: u64) -> (Stage, [Worker; 1]) {
    let mut stage = Stage::new("rebuilt", false);
    stage.spec.checkpoint_ms = checkpoint_ms;
    let one = shop::orders(&mut Random::numbered(1), 0, 1, false).remove(0);
    let of = |number: u64| Order { customer: format!("customer {number}"), ..one.clone() };
    let mut workers = [stage.worker()];
    let part = CUSTOMERS / PARTS;
    for first in (0..CUSTOMERS).step_by(part as usize) {
        stage.publish((first..first + part).map(of).collect());
        stage.catch_up(&mut workers);
    }
    (stage, workers)
}

/// Lets a worker begin to make the tables anew, and stops it; then another comes to the end. What this one began with.
fn rebuild(stage: &mut Stage) -> Vec<(u64, u64)> {
    let state = stage.data().join("state");
    std::fs::remove_dir_all(&state).unwrap();
    stage.spec.table_memory_bytes = MEMORY;
    let worker = stage.worker();
    while files(&state, &|name| name.ends_with(".sst")) < 6 {
        stage.sleep_ms(1);
    }
    let had = started(&worker).len();
    assert!(had < PARTITIONS as usize, "the worker was to be stopped before it had everything");
    stage.stop(vec![worker]);

    let (began, peak) = rest(stage);
    let times = stage.session().table(&TIMES).unwrap();
    assert_eq!(times.len() as u64, CUSTOMERS);
    assert!(times.iter().all(|(_, times)| *times == 1));

    // Where all keys may be in memory.
    std::fs::remove_dir_all(&state).unwrap();
    stage.spec.table_memory_bytes = 1 << 30;
    let (_, all) = rest(stage);
    println!(
        "{CUSTOMERS} keys of {PARTITIONS} partitions: {began:?}, at most {peak} KiB; with all in memory {all} KiB"
    );
    assert!(4 * peak < 3 * all, "{peak} KiB, and {all} KiB with all keys in memory");
    began
}

/// Lets a worker come to the end; what it began with, and what memory it took at most.
fn rest(stage: &mut Stage) -> (Vec<(u64, u64)>, u64) {
    let mut worker = stage.worker();
    while started(&worker).len() < PARTITIONS as usize {
        assert_eq!(worker.ended(), None, "{}", worker.stderr());
        stage.sleep_ms(5);
    }
    let (began, peak) = (started(&worker), worker.peak_memory_kib());
    stage.stop(vec![worker]);
    (began, peak)
}

/// Commit by commit: what the first had is kept.
#[test]
fn stores_that_are_gone_come_back_in_parts_that_are_kept() {
    // Without a checkpoint nothing is compacted. What is covered is told by the beginning of the last commit, so the stores
    // must have had more than one.
    let (mut stage, workers) = processed(600_000);
    workers.into_iter().for_each(Worker::kill);
    let began = rebuild(&mut stage);
    assert!(began.iter().any(|(covered, _)| *covered > 0), "what the first had is lost: {began:?}");
}

/// What a compaction is at meanwhile would be read in halves, and a store could cover commits that are gone then.
#[test]
fn stores_that_are_gone_wait_for_a_compaction_to_end() {
    let mut stage = Stage::new("rebuilt", false);
    stage.publish(shop::orders(&mut Random::numbered(1), 0, 100, false));
    let mut workers = [stage.worker()];
    stage.catch_up(&mut workers);
    workers.into_iter().for_each(Worker::kill);
    let held = |partition: u32| {
        let changelog = format!("topics/{APP}-times-changelog/{partition}/clean.lock");
        let lock =
            File::options().read(true).write(true).create(true).truncate(false).open(stage.data().join(changelog));
        let lock = lock.unwrap();
        lock.lock().unwrap();
        lock
    };
    let locks: Vec<File> = (1..PARTITIONS).map(held).collect();
    std::fs::remove_dir_all(stage.data().join("state")).unwrap();
    let worker = stage.worker();
    while started(&worker).is_empty() {
        stage.sleep_ms(5);
    }
    stage.sleep_ms(300);
    assert_eq!(started(&worker).len(), 1, "the others wait");
    drop(locks);
    while started(&worker).len() < PARTITIONS as usize {
        stage.sleep_ms(5);
    }
    stage.stop(vec![worker]);
    let times = stage.session().table(&TIMES).unwrap();
    assert_eq!(times.iter().map(|(_, times)| *times).sum::<i64>(), 100);
}

/// What compaction left has no commits: it is read again from its start.
#[test]
fn stores_that_are_gone_come_back_from_what_compaction_left() {
    let (mut stage, mut workers) = processed(100);
    let is_compacted = |name: &str| name.ends_with(".log") && name.contains('-');
    while files(&stage.data(), &is_compacted) < PARTITIONS as usize {
        assert_eq!(workers[0].ended(), None, "{}", workers[0].stderr());
        stage.sleep_ms(5);
    }
    stage.stop(workers.into());
    rebuild(&mut stage);
}

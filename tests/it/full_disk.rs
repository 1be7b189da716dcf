//! No room left: what is refused, what goes on, and that nothing is lost or counted twice when there is room again.

use std::fs::{self, OpenOptions};
use std::io::{BufRead, BufReader, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use gretchen::backend::log::{LogBackend, LogOptions};
use gretchen::backend::{Backend, Need, ProducerId, Replay};
use gretchen::clock::Clock;
use gretchen::record::{FrameBuilder, Frames};
use gretchen::topic::{TopicPartition, TopicSpec};

use crate::cli::{bad, command, good, json_of, order, run};

/// What a file of a tmpfs takes more with each page.
const BLOCK: u64 = 4096;

/// A file system of its own, of a few megabytes.
struct SmallDisk(PathBuf);

impl SmallDisk {
    /// Mounting needs root, as which the whole of the checks runs.
    fn mount(at: &Path, mebibytes: u32) -> Self {
        let size = format!("size={mebibytes}m");
        let done = Command::new("mount").args(["-t", "tmpfs", "-o", &size, "gretchen-test"]).arg(at).status();
        assert!(done.is_ok_and(|status| status.success()), "this test mounts a tmpfs, for which it must run as root");
        Self(at.to_owned())
    }

    /// Takes all the room that is left but so many bytes.
    fn fill_but(&self, left: u64) {
        self.fill();
        let ballast = OpenOptions::new().write(true).open(self.0.join("ballast")).unwrap();
        ballast.set_len(ballast.metadata().unwrap().len() - left).unwrap();
    }

    /// Takes all the room that is left.
    fn fill(&self) {
        let mut ballast = OpenOptions::new().create(true).append(true).open(self.0.join("ballast")).unwrap();
        for piece in [1 << 20, 4096, 512, 1] {
            loop {
                match ballast.write_all(&vec![1; piece]) {
                    Ok(()) => {}
                    Err(error) if error.kind() == ErrorKind::StorageFull => break,
                    Err(error) => panic!("{error}"),
                }
            }
        }
    }

    fn make_room(&self) {
        fs::remove_file(self.0.join("ballast")).unwrap();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

fn orders(numbers: std::ops::Range<u32>) -> String {
    numbers.map(|number| order(&format!("C{}", number % 7), 1) + "\n").collect()
}

#[test]
fn a_worker_waits_for_room_and_then_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let disk = SmallDisk::mount(folder.path(), 128);
    let dir = folder.path();
    fs::write(dir.join("gretchen.toml"), "partitions = 1\n").unwrap();
    fs::write(dir.join("first.jsonl"), orders(0..70)).unwrap();
    fs::write(dir.join("second.jsonl"), orders(70..100_070)).unwrap();
    fs::write(dir.join("third.jsonl"), orders(0..500_000)).unwrap();
    good(dir, &["send", "shop-orders", "--file", "first.jsonl"]);
    good(dir, &["worker", "--until-caught-up"]);
    good(dir, &["send", "shop-orders", "--file", "second.jsonl"]);
    disk.fill();

    // A send is refused and says why; reading goes on.
    let refused = bad(dir, &["send", "shop-orders", "--file", "third.jsonl"], 1);
    assert!(refused.contains("make room on that disk"), "{refused}");
    assert!(good(dir, &["read", "shop-orders", "--limit", "140"]).lines().count() == 140);

    let mut worker = command(dir, &["worker", "--until-caught-up", "--json"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut log = BufReader::new(worker.stderr.take().unwrap()).lines().map(Result::unwrap);
    let mut said = Vec::new();
    while !said.last().is_some_and(|line: &String| line.contains("waits for room")) {
        said.push(log.next().unwrap_or_else(|| panic!("the worker did not say that it waits: {said:#?}")));
    }
    disk.make_room();
    let rest: Vec<String> = log.collect();
    assert!(worker.wait().unwrap().success(), "{rest:#?}");

    // Of the send that was refused, what had been written before counts, once; sent again, the rest is added.
    let all = |table: &str| -> u64 {
        let rows = json_of(dir, &["tables", table, "--json"]);
        rows.as_array().unwrap().iter().map(|row| row["value"].as_u64().unwrap()).sum()
    };
    let end = || json_of(dir, &["topics", "shop-orders", "--json"])["partitions"][0]["end"].as_u64().unwrap();
    let there = end();
    assert!((100_070..600_070).contains(&there), "{there}");
    assert_eq!((all("by-id"), all("paid")), (there, 250 * there));
    good(dir, &["send", "shop-orders", "--file", "third.jsonl"]);
    assert_eq!(end(), 600_070);
}

/// Publishers are held up first: the last of the disk is for commits, without which nothing would ever be let go.
#[test]
fn a_worker_goes_on_where_publishers_are_held_up() {
    let folder = tempfile::tempdir().unwrap();
    let disk = SmallDisk::mount(folder.path(), 8);
    let dir = folder.path();
    fs::write(dir.join("gretchen.toml"), "partitions = 1\nsegment_bytes = 65536\n").unwrap();
    let rows = tempfile::NamedTempFile::new().unwrap();
    fs::write(rows.path(), orders(0..500)).unwrap();
    let send = ["send", "shop-orders", "--file", rows.path().to_str().unwrap(), "--format", "jsonl"];
    good(dir, &send);
    // An eighth of the disk is kept from publishers, half of that from commits.
    disk.fill_but(960 << 10);

    let refused = bad(dir, &[&send[..], &["--producer", "second"]].concat(), 1);
    assert!(refused.contains("1024 KiB are kept") && refused.contains("topic shop-orders"), "{refused}");
    let refused = bad(dir, &["send", "shop-orders", &order("C1", 1)], 1);
    assert!(refused.contains("make room on that disk"), "{refused}");
    good(dir, &["worker", "--until-caught-up"]);
    let rows = json_of(dir, &["tables", "by-id", "--json"]);
    assert_eq!(rows.as_array().unwrap().iter().map(|row| row["value"].as_u64().unwrap()).sum::<u64>(), 500);
}

/// The stores have a disk of their own, so that it is RocksDB that meets its end: at a checkpoint, and where it is opened.
#[test]
fn a_store_without_room_is_closed_and_opened_again() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path();
    let state = dir.join("gretchen-data/state");
    fs::create_dir_all(&state).unwrap();
    let disk = SmallDisk::mount(&state, 16);
    fs::write(dir.join("gretchen.toml"), "partitions = 1\n").unwrap();
    let send = |numbers: std::ops::Range<u32>| {
        let name = format!("{}.jsonl", numbers.start);
        fs::write(dir.join(&name), orders(numbers)).unwrap();
        good(dir, &["send", "shop-orders", "--file", &name]);
    };
    let all = |table: &str| -> u64 {
        let rows = json_of(dir, &["tables", table, "--json"]);
        rows.as_array().unwrap().iter().map(|row| row["value"].as_u64().unwrap()).sum()
    };
    send(0..500);
    let mut working = Working::start(dir);
    working.wait_for(" started ", PATIENCE);
    disk.fill();
    send(500..1_000);
    // Agents without a table have files of their own there. What is closed is opened every second.
    for _ in 0..2 {
        let line = working.line_with("the state of table", PATIENCE);
        for part in ["waits for room", "make room on that disk"] {
            assert!(line.contains(part), "{part}: {line}");
        }
        working.forget();
    }
    disk.make_room();
    let clock = Clock::system();
    let began = clock.moment();
    send(1_000..1_500);
    while all("by-id") < 1_500 || all("paid") < 250 * 1_500 {
        assert!(clock.moment().since(began) < PATIENCE, "{} of 1500: {:#?}", all("by-id"), working.last_words());
    }
    working.stop();
    assert_eq!((all("by-id"), all("paid")), (1_500, 250 * 1_500));
}

/// Of a disk of 64 MiB publishers leave 8, commits 4, and commits of what goes with its input 2: to the last block.
#[tokio::test]
async fn the_last_of_a_disk_is_kept_for_what_makes_room() {
    let folder = tempfile::tempdir().unwrap();
    let disk = SmallDisk::mount(folder.path(), 64);
    let log = LogBackend::open(LogOptions::new(folder.path()), Clock::system()).unwrap();
    // From less room to more, so that what takes it only gets shorter.
    for (kept, need) in [(2 << 20, Need::Drain), (4 << 20, Need::Commit), (8 << 20, Need::Publish)] {
        for (free, has_room) in [(kept - BLOCK, false), (kept, true), (kept + BLOCK, true)] {
            disk.fill_but(free);
            let checked = log.check_room(need);
            assert_eq!(checked.is_ok(), has_room, "{need:?} with {free} bytes: {checked:?}");
            let Err(error) = checked else { continue };
            assert_eq!(error.kind(), gretchen::error::ErrorKind::Full, "{error}");
            let said = format!("{} KiB are free where {} is", free >> 10, folder.path().display());
            assert!(error.to_string().contains(&said), "{error}");
            assert!(error.to_string().contains(&format!("the last {} KiB are kept", kept >> 10)), "{error}");
        }
    }
}

/// An agent that reads a repartition topic goes on where others wait: what it has read goes, and makes room.
#[test]
fn copies_are_processed_where_other_commits_have_no_room() {
    let folder = tempfile::tempdir().unwrap();
    let disk = SmallDisk::mount(folder.path(), 64);
    let dir = folder.path();
    fs::write(dir.join("gretchen.toml"), "partitions = 1\n").unwrap();
    let rows = tempfile::NamedTempFile::new().unwrap();
    fs::write(rows.path(), orders(0..100)).unwrap();
    let send = ["send", "shop-orders", "--file", rows.path().to_str().unwrap(), "--format", "jsonl", "--producer"];
    good(dir, &[&send[..], &["first"]].concat());
    good(dir, &["worker", "--until-caught-up"]);
    // Copies that were made and not processed: the same once more. And orders that nobody has copied.
    copy_again(&dir.join("gretchen-data"), "shop-by_id-repartition");
    good(dir, &[&send[..], &["second"]].concat());
    // Enough for what is done to copies, and not for more.
    disk.fill_but(3 << 20);

    let count = |table: &str| -> u64 {
        let rows = json_of(dir, &["tables", table, "--json"]);
        rows.as_array().unwrap().iter().map(|row| row["value"].as_u64().unwrap()).sum()
    };
    let clock = Clock::system();
    let began = clock.moment();
    let mut working = Working::start(dir);
    working.wait_for("waits for room", PATIENCE);
    while count("by-id") < 200 {
        assert!(clock.moment().since(began) < PATIENCE, "{} of 200: {:#?}", count("by-id"), working.last_words());
    }
    assert_eq!((count("by-id"), count("paid")), (200, 250 * 100));
    disk.make_room();
    while count("by-id") < 300 || count("paid") < 250 * 200 {
        assert!(clock.moment().since(began) < 2 * PATIENCE, "{:#?}", working.last_words());
    }
    working.stop();
    assert_eq!((count("by-id"), count("paid")), (300, 250 * 200));
}

/// Appends what a partition has once more.
fn copy_again(data: &Path, topic: &str) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let log = LogBackend::open(LogOptions::new(data), Clock::system()).unwrap();
        let place = TopicPartition::new(topic, 0);
        let (mut reader, mut frames, mut again) =
            (log.reader(&place, 0).unwrap(), Frames::default(), FrameBuilder::new());
        while reader.read(&mut frames).unwrap() {
            frames.iter().flat_map(|frame| frame.records()).for_each(|record| again.push_raw(&record));
        }
        let mut producer = log.producer(ProducerId::ANONYMOUS).await.unwrap();
        producer.append(&place, &mut again, None).await.unwrap();
        producer.flush().await.unwrap();
    });
}

/// Whoever writes to the last byte meets an append that does not fit: nothing of it is there, and what follows is in its place.
#[tokio::test]
async fn an_append_that_does_not_fit_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let disk = SmallDisk::mount(folder.path(), 8);
    let options = || LogOptions { segment_bytes: 65_536, ..LogOptions::new(folder.path().join("log")) };
    let log = LogBackend::open(options(), Clock::system()).unwrap();
    log.create_topic(&TopicSpec::new("letters", 1)).await.unwrap();
    let place = TopicPartition::new("letters", 0);
    let mut producer = log.producer(ProducerId::ANONYMOUS).await.unwrap();
    let mut frame = FrameBuilder::new();
    frame.push(None, Some(b"the first opens the partition"), 0);
    producer.append(&place, &mut frame, None).await.unwrap();
    let mut appended = 1;
    for round in 0..20_u64 {
        disk.fill();
        let error = loop {
            frame.clear();
            for _ in 0..40 {
                frame.push(None, Some(&[7; 500]), 0);
            }
            match producer.append(&place, &mut frame, None).await {
                Ok(_) => appended += 40,
                Err(error) => break error,
            }
        };
        assert_eq!(error.kind(), gretchen::error::ErrorKind::Full, "{error}");
        let text = error.to_string();
        assert!(text.contains("topic letters, partition 0") && text.contains("make room"), "{text}");
        assert_eq!(log.offsets(&place).unwrap().end, appended, "round {round}");
        disk.make_room();
        frame.clear();
        frame.push(None, Some(&round.to_le_bytes()), 0);
        assert_eq!(producer.append(&place, &mut frame, None).await.unwrap().base_offset, appended);
        appended += 1;
        producer.flush().await.unwrap();
    }
    drop((producer, log));
    let log = LogBackend::open(options(), Clock::system()).unwrap();
    assert_eq!(log.offsets(&place).unwrap().end, appended);
    let (mut reader, mut frames, mut read) = (log.reader(&place, 0).unwrap(), Frames::default(), 0);
    while reader.read(&mut frames).unwrap() {
        read += frames.iter().flat_map(|frame| frame.records()).count() as u64;
    }
    assert_eq!(read, appended);
}

/// Time in which work must go on when there is room again; the test says how long it took.
const PATIENCE: Duration = Duration::from_secs(60);

/// A worker, and the lines that it logs.
struct Working {
    worker: Child,
    log: Receiver<String>,
}

impl Working {
    fn start(dir: &Path) -> Self {
        let mut worker = command(dir, &["worker", "--json", "--checkpoint-interval-ms=50", "--commit-interval-ms=10"])
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(worker.stderr.take().unwrap()).lines();
        let (send, log) = channel();
        std::thread::spawn(move || lines.map_while(Result::ok).try_for_each(|line| send.send(line)));
        Self { worker, log }
    }

    /// Waits until it says so; what it said meanwhile must be nothing worse.
    fn wait_for(&self, what: &str, patience: Duration) {
        self.line_with(what, patience);
    }

    /// The same; what it says then.
    fn line_with(&self, what: &str, patience: Duration) -> String {
        let mut said = Vec::new();
        while !said.last().is_some_and(|line: &String| line.contains(what)) {
            let line =
                self.log.recv_timeout(patience).unwrap_or_else(|error| panic!("{error}: no {what:?} in {said:#?}"));
            assert!(!line.contains("the partition stopped"), "{line}");
            said.push(line);
        }
        said.pop().unwrap_or_default()
    }

    /// The last lines of its log.
    fn last_words(&self) -> Vec<String> {
        let all: Vec<String> = self.log.try_iter().collect();
        all[all.len().saturating_sub(20)..].to_vec()
    }

    /// What it has said so far counts no more.
    fn forget(&self) {
        self.log.try_iter().for_each(drop);
    }

    fn signal(&self, name: &str) {
        let sent = Command::new("kill").args(["-s", name, &self.worker.id().to_string()]).status();
        assert!(sent.is_ok_and(|status| status.success()), "{name}");
    }

    fn stop(&mut self) {
        self.signal("TERM");
        assert!(self.worker.wait().unwrap().success());
    }
}

impl Drop for Working {
    fn drop(&mut self) {
        // It has ended unless the test failed.
        let _ = self.worker.kill();
        let _ = self.worker.wait();
    }
}

/// `GRETCHEN_ROUNDS=50` fills and frees the disk so often.
#[test]
fn eight_mebibytes_are_filled_and_freed() {
    let rounds: u32 = std::env::var("GRETCHEN_ROUNDS").ok().map_or(3, |rounds| rounds.parse().unwrap());
    let folder = tempfile::tempdir().unwrap();
    let disk = SmallDisk::mount(folder.path(), 8);
    let dir = folder.path();
    fs::write(dir.join("gretchen.toml"), "partitions = 1\nsegment_bytes = 65536\n").unwrap();
    let clock = Clock::system();
    let mut working = Working::start(dir);
    working.wait_for(" started ", PATIENCE);
    let (mut acknowledged, mut slowest) = (0, Duration::ZERO);
    let count = || -> u64 {
        let rows = json_of(dir, &["tables", "by-id", "--json"]);
        rows.as_array().unwrap().iter().map(|row| row["value"].as_u64().unwrap()).sum()
    };
    // The files of rows themselves stand elsewhere.
    let send = |numbers: std::ops::Range<u32>, name: String| {
        let rows = tempfile::NamedTempFile::new().unwrap();
        fs::write(rows.path(), orders(numbers)).unwrap();
        let path = rows.path().to_str().unwrap();
        let (code, _, said) =
            run(dir, &["send", "shop-orders", "--file", path, "--format", "jsonl", "--producer", &name]);
        (code == 0, said)
    };
    for round in 0..rounds {
        // When the worker gets to these there is no room for what it makes of them.
        working.signal("STOP");
        let (sent, said) = send(0..300, format!("{round}-before"));
        assert!(sent, "round {round}: {said}");
        acknowledged += 300;
        disk.fill();
        working.forget();
        working.signal("CONT");
        working.wait_for("waits for room", PATIENCE);
        let (sent, said) = send(0..40, format!("{round}-full"));
        assert!(!sent && said.contains("make room on that disk"), "{said}");
        assert!(count() < acknowledged, "round {round}");
        assert!(good(dir, &["read", "shop-orders", "--limit", "1"]).len() > 1, "reading goes on");
        disk.make_room();
        let freed = clock.moment();
        // It is right when everything that was acknowledged is in the table; what was refused may be there in part.
        let (sent, said) = send(0..1, format!("{round}-free"));
        assert!(sent, "round {round}: {said}");
        acknowledged += 1;
        let end = || json_of(dir, &["topics", "shop-orders", "--json"])["partitions"][0]["end"].as_u64().unwrap();
        let there = end();
        assert!(there >= acknowledged, "round {round}: {there} orders of {acknowledged} that were acknowledged");
        while count() < there {
            let waits = clock.moment().since(freed);
            assert!(waits < PATIENCE, "round {round}: {} of {there}; {:#?}", count(), working.last_words());
        }
        slowest = slowest.max(clock.moment().since(freed));
        assert_eq!(count(), there, "round {round}");
    }
    working.stop();
    println!("{rounds} rounds, {acknowledged} orders acknowledged; all were processed within {slowest:.1?} of room");
}

/// Copies of records that were put in order by another key, and commits that a checkpoint covers, go once in a while. A disk
/// that is full of them does not wait for that.
#[test]
fn what_no_recovery_needs_goes_when_there_is_no_room() {
    let folder = tempfile::tempdir().unwrap();
    let _disk = SmallDisk::mount(folder.path(), 8);
    let dir = folder.path();
    let settings = "partitions = 1\nsegment_bytes = 65536\nclean_interval_ms = 3600000\n";
    fs::write(dir.join("gretchen.toml"), settings).unwrap();
    let clock = Clock::system();
    let mut working = Working::start(dir);
    working.wait_for(" started ", PATIENCE);
    // The orders alone have room, but not beside what is made of them.
    let (files, rows) = (45, tempfile::NamedTempFile::new().unwrap());
    fs::write(rows.path(), orders(0..2_000)).unwrap();
    let path = rows.path().to_str().unwrap();
    let mut refused = 0;
    for number in 0..files {
        let name = number.to_string();
        let began = clock.moment();
        let send = ["send", "shop-orders", "--file", path, "--format", "jsonl", "--producer", &name];
        loop {
            let (code, _, said) = run(dir, &send);
            if code == 0 {
                break;
            }
            assert!(said.contains("make room on that disk"), "{said}");
            assert!(clock.moment().since(began) < PATIENCE, "file {number}: {said}{:#?}", working.last_words());
            refused += 1;
        }
    }
    let began = clock.moment();
    let count = || -> u64 {
        let rows = json_of(dir, &["tables", "by-id", "--json"]);
        rows.as_array().unwrap().iter().map(|row| row["value"].as_u64().unwrap()).sum()
    };
    while count() < 2_000 * files {
        let waits = clock.moment().since(began);
        assert!(waits < PATIENCE, "{} of {}: {:#?}", count(), 2_000 * files, working.last_words());
    }
    assert_eq!(count(), 2_000 * files);
    working.stop();
    // An hour has not passed: it was for want of room.
    let copies = json_of(dir, &["topics", "shop-by_id-repartition", "--json"])["partitions"][0].clone();
    assert_eq!(copies["end"].as_u64(), Some(2_000 * files));
    assert!(copies["start"].as_u64() > Some(0), "nothing was let go: {copies}");
    println!("{} orders, {refused} times there was no room", 2_000 * files);
}

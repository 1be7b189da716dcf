//! The wall clock jumps by a day while workers run: nothing is deleted early, partitions keep their owners, and commits go
//! on.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use gretchen::clock::Clock;
use serde_json::Value;

use crate::cli::{command, json_of, order};

/// Time in which what is sent must be processed.
const PATIENCE: Duration = Duration::from_secs(60);

/// How long a clock stays wrong: cleaning and rebalancing have looked at it several times by then.
const WRONG: Duration = Duration::from_secs(1);

/// Orders that are sent after each jump.
const ORDERS: u64 = 200;

/// A wall clock of its own for the processes that are told of it; what time passes they see as it is.
struct WallClock {
    library: PathBuf,
    file: PathBuf,
}

impl WallClock {
    fn new(folder: &Path) -> Self {
        let folders = fs::read_dir("/usr/lib").unwrap().map(|entry| entry.unwrap().path());
        let mut libraries = folders.map(|folder| folder.join("faketime/libfaketimeMT.so.1"));
        let library = libraries.find(|library| library.is_file()).expect("this test needs the package faketime");
        let clock = Self { library, file: folder.join("wall-clock") };
        clock.set("+0");
        clock
    }

    /// Sets it to so much before or after the right time.
    fn set(&self, off: &str) {
        // As a whole: it is read all the time.
        let draft = self.file.with_extension("draft");
        fs::write(&draft, off).unwrap();
        fs::rename(draft, &self.file).unwrap();
    }

    fn of<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        command
            .env("LD_PRELOAD", &self.library)
            .env("FAKETIME_TIMESTAMP_FILE", &self.file)
            .env("FAKETIME_NO_CACHE", "1")
            .env("FAKETIME_DONT_FAKE_MONOTONIC", "1")
            .env("NO_FAKE_STAT", "1")
    }
}

struct Worker {
    child: Child,
    lines: Receiver<String>,
}

impl Worker {
    fn start(dir: &Path, clock: &WallClock) -> Self {
        let args = ["worker", "--clean-interval-ms=100", "--checkpoint-interval-ms=200", "--commit-interval-ms=20"];
        let mut command = command(dir, &args);
        let mut child = clock.of(&mut command).stderr(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        let log = BufReader::new(child.stderr.take().unwrap());
        let (sender, lines) = channel();
        std::thread::spawn(move || log.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
        Self { child, lines }
    }

    fn stop(mut self) -> Vec<String> {
        assert!(Command::new("kill").arg(self.child.id().to_string()).status().unwrap().success());
        assert!(self.child.wait().unwrap().success());
        self.lines.iter().collect()
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // It has ended unless the test failed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Each agent's partitions with their owners.
fn owners(dir: &Path) -> Vec<(String, String, u64, u64)> {
    let groups = json_of(dir, &["groups", "--json"]);
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let row = |row: &Value| {
        let (partition, owner) = (row["partition"].as_u64().unwrap(), row["owner"].as_u64().unwrap_or(0));
        (text(&row["agent"]), text(&row["topic"]), partition, owner)
    };
    groups.as_array().unwrap().iter().map(row).collect()
}

fn lag(dir: &Path) -> u64 {
    json_of(dir, &["groups", "--json"]).as_array().unwrap().iter().map(|row| row["lag"].as_u64().unwrap()).sum()
}

#[test]
fn a_day_forward_and_back_harms_no_worker() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path();
    fs::write(dir.join("gretchen.toml"), "partitions = 2\n").unwrap();
    let wall = WallClock::new(dir);
    let time = Clock::system();
    let send = |round: u64| {
        let rows: String = (0..ORDERS).map(|number| order(&format!("C{}", number % 7), 1) + "\n").collect();
        let name = format!("{round}.jsonl");
        fs::write(dir.join(&name), rows).unwrap();
        let mut command = command(dir, &["send", "shop-orders", "--file", &name]);
        assert!(wall.of(&mut command).stdout(Stdio::null()).status().unwrap().success());
    };
    send(0);
    let set = ["topics", "shop-orders", "--set", "retention_ms=2h", "--set", "segment_ms=1h"];
    json_of(dir, &[&set[..], &["--json"]].concat());
    let workers = [Worker::start(dir, &wall), Worker::start(dir, &wall)];
    let ids: Vec<u64> = workers.iter().map(|worker| worker.child.id().into()).collect();
    // Until each has its share.
    let began = time.moment();
    let settled = loop {
        let now = owners(dir);
        let shares = ids.iter().filter(|id| now.iter().filter(|(.., owner)| owner == *id).count() * 2 == now.len());
        if shares.count() == 2 {
            break now;
        }
        assert!(time.moment().since(began) < PATIENCE, "{now:?}");
    };
    for (round, off) in (1..).zip(["+1d", "+0", "-1d", "+0", "+400d", "-400d", "+1d", "-1d", "+0"]) {
        wall.set(off);
        send(round);
        let jumped = time.moment();
        while lag(dir) > 0 || time.moment().since(jumped) < WRONG {
            assert!(time.moment().since(jumped) < PATIENCE, "{off}: {} are not processed", lag(dir));
        }
        assert_eq!(owners(dir), settled, "{off}: partitions keep their owners");
        let topic = json_of(dir, &["topics", "shop-orders", "--json"]);
        for partition in topic["partitions"].as_array().unwrap() {
            assert_eq!(partition["start"], 0, "{off}: nothing is old enough to go: {topic:#}");
        }
        let paid = json_of(dir, &["tables", "paid", "--json"]);
        let paid: u64 = paid.as_array().unwrap().iter().map(|row| row["value"].as_u64().unwrap()).sum();
        assert_eq!(paid, 250 * ORDERS * (round + 1), "{off}");
    }
    // That the clocks of the processes did jump is seen in what they wrote.
    let stamps = crate::cli::good(dir, &["read", "shop-orders", "--keys"]);
    let days: std::collections::BTreeSet<&str> =
        stamps.lines().filter_map(|line| line.split_whitespace().nth(1)?.get(..10)).collect();
    assert!(days.len() >= 5, "{days:?}");
    for worker in workers {
        for line in worker.stop() {
            let bad = ["WARN", "ERROR", "deleted old records"].iter().find(|word| line.contains(**word));
            assert_eq!(bad, None, "{line}");
        }
    }
}

//! What a worker tells its operator of partitions that nobody gets on with: its own agents', and those of others.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use serde_json::{Value, json};

use crate::cli::{command, good, json_of};

/// Time in which a worker must have said something.
const PATIENCE: Duration = Duration::from_secs(60);

/// Agents and partitions that a worker starts, as [`crate::cli`] defines them, with two partitions a topic.
const TASKS: usize = 5 * 2;

/// A worker whose log is followed.
struct Worker {
    child: Child,
    lines: Receiver<String>,
}

impl Worker {
    fn start(dir: &Path) -> Self {
        let args = ["worker", "--stop-timeout-ms", "500", "--partitions", "2"];
        let mut child = command(dir, &args).stderr(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        let log = BufReader::new(child.stderr.take().unwrap());
        let (sender, lines) = channel();
        std::thread::spawn(move || log.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
        Self { child, lines }
    }

    /// The next line of its log that contains all of these.
    fn line(&self, parts: &[&str]) -> String {
        loop {
            let line = self.lines.recv_timeout(PATIENCE).unwrap_or_else(|_| panic!("it does not say {parts:?}"));
            if parts.iter().all(|part| line.contains(part)) {
                return line;
            }
        }
    }

    fn signal(&self, name: &str) {
        let id = self.child.id().to_string();
        assert!(Command::new("kill").args([&format!("-{name}"), &id]).status().unwrap().success());
    }

    /// Asks it to stop, and waits until it has.
    fn stop(self) {
        self.signal("TERM");
        self.ends();
    }

    fn ends(mut self) {
        assert!(self.child.wait().unwrap().success());
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn an_agent_that_does_not_come_back_is_named_while_others_go_on() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    good(dir, &["send", "endless", "x", "--partition", "1", "--partitions", "2"]);
    let worker = Worker::start(dir);
    let named = worker.line(&["the agent has not come back from this record", "never_ends"]);
    for part in ["WARN", "topic=endless", "partition=1", "offset=0", "seconds="] {
        assert!(named.contains(part), "{named}");
    }
    // Neither other agents nor its own other partition wait for it.
    for _ in 0..2 {
        good(dir, &["send", "plain", "said"]);
    }
    while good(dir, &["read", "echoed"]).lines().count() < 2 {}
    worker.signal("TERM");
    let left = worker.line(&["did not finish this record in time", "never_ends"]);
    assert!(left.contains("partition=1") && left.contains("offset=0"), "{left}");
    worker.ends();
    let groups = json_of(dir, &["groups", "--json"]);
    let endless = |row: &&Value| row["agent"] == "never_ends" && row["partition"] == 1;
    let row = groups.as_array().unwrap().iter().find(endless).unwrap();
    assert_eq!((&row["lag"], &row["owner"]), (&json!(1), &Value::Null), "the record is not passed over: {row}");
}

#[test]
fn a_worker_that_is_stopped_by_a_signal_is_named_by_the_one_that_wants_its_partitions() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    fs::write(dir.join("gretchen.toml"), "partitions = 2\n").unwrap();
    let first = Worker::start(dir);
    for _ in 0..TASKS {
        first.line(&["started"]);
    }
    let process = first.child.id();
    first.signal("STOP");
    // It holds its locks, so that no second owner can come beside it: the newcomer waits, and says for whom.
    let second = Worker::start(dir);
    let named = second.line(&["nobody works on the partition", "agent=\"echo\""]);
    for part in ["WARN", &format!("process={process}"), "seconds=", &format!("kill -CONT {process}")] {
        assert!(named.contains(part), "{named}");
    }
    let groups = json_of(dir, &["groups", "--json"]);
    for row in groups.as_array().unwrap() {
        assert_eq!((&row["owner"], &row["state"]), (&json!(process), &json!("stopped")), "{row}");
    }
    let people = good(dir, &["groups"]);
    assert!(people.contains("OWNER") && people.contains("stopped"), "{people}");

    first.signal("CONT");
    second.line(&["started", "agent=\"echo\""]);
    good(dir, &["send", "plain", "a", "--partition", "0"]);
    good(dir, &["send", "plain", "b", "--partition", "1"]);
    while good(dir, &["read", "echoed"]).lines().count() < 2 {}
    let groups = json_of(dir, &["groups", "--json"]);
    let echo = groups.as_array().unwrap().iter().filter(|row| row["agent"] == "echo");
    let mut owners: Vec<&Value> = echo.map(|row| &row["owner"]).collect();
    owners.sort_by_key(|owner| owner.as_u64());
    let mut both = [process, second.child.id()];
    both.sort_unstable();
    assert_eq!(owners, [&json!(both[0]), &json!(both[1])], "one partition each");
    first.stop();
    second.stop();
}

//! A process that a signal stops while it appends keeps the partition locked: whoever has to wait for it is told for which
//! process, and goes on when that does, or when it is killed.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use gretchen::topic::TopicPartition;

use super::{append, as_child, child, open, orders, read};
use crate::cli::{command, good};

/// Time in which a process must have come somewhere.
const PATIENCE: Duration = Duration::from_secs(60);

/// Appends a record, and stops itself in the midst of a second append.
#[tokio::test]
async fn child_stopped() {
    let Some((folder, _)) = as_child() else { return };
    let backend = open(&folder);
    let place = orders(&backend, 1).await;
    append(&backend, &place, &["first"]).await;
    gretchen::fault::arm_to_stop(gretchen::fault::APPEND, 1);
    append(&backend, &place, &["second"]).await;
}

/// A command that has to wait, and the lines that it logs.
struct Waiting {
    child: Child,
    lines: Receiver<String>,
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Waiting {
    fn start(dir: &Path, args: &[&str]) -> Self {
        let mut child = command(dir, args).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let log = BufReader::new(child.stderr.take().unwrap());
        let (sender, lines) = channel();
        std::thread::spawn(move || log.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
        Self { child, lines }
    }

    /// The next line that it logs.
    fn line(&self) -> String {
        self.lines.recv_timeout(PATIENCE).expect("who waits is told so")
    }
}

fn signal(process: u32, name: &str) {
    let name = format!("-{name}");
    assert!(Command::new("kill").args([&name, &process.to_string()]).status().unwrap().success());
}

/// Waits until a process is stopped.
fn is_stopped(process: u32) {
    let state = || std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap();
    while !state().rsplit_once(')').unwrap().1.trim_start().starts_with('T') {
        std::thread::yield_now();
    }
}

/// A process that is stopped in an append; a test that fails leaves none behind.
struct Holder(Child);

impl Holder {
    fn stopped(data: &Path) -> Self {
        let holder = Self(child("log::append_lock::child_stopped", data, 0));
        is_stopped(holder.id());
        holder
    }

    fn id(&self) -> u32 {
        self.0.id()
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn check_told(line: &str, process: u32) {
    for part in ["WARN", "topic=orders", "partition=0", &format!("process={process}"), &format!("kill -CONT {process}")]
    {
        assert!(line.contains(part), "{part:?} is not in: {line}");
    }
}

fn values(folder: &Path) -> Vec<String> {
    read(&open(&folder.join("gretchen-data")), &TopicPartition::new("orders", 0)).unwrap()
}

#[test]
fn who_waits_for_a_stopped_process_is_told_and_goes_on_when_it_does() {
    let folder = tempfile::tempdir().unwrap();
    let mut holder = Holder::stopped(&folder.path().join("gretchen-data"));
    // One that opens the partition, one that has it open, and one that looks at its files.
    let mut others = [&["send", "orders", "third"][..], &["read", "orders"], &["log", "verify"]]
        .map(|args| Waiting::start(folder.path(), args));
    for waiting in &others {
        check_told(&waiting.line(), holder.id());
        // And again.
        check_told(&waiting.line(), holder.id());
    }
    assert!(others.iter_mut().all(|waiting| waiting.child.try_wait().unwrap().is_none()), "they wait");
    signal(holder.id(), "CONT");
    assert!(holder.0.wait().unwrap().success());
    for mut waiting in others {
        assert!(waiting.child.wait().unwrap().success());
    }
    assert_eq!(values(folder.path()), ["first", "second", "third"]);
    assert!(good(folder.path(), &["log", "verify"]).contains("nothing is damaged"));
}

/// Not a test of its own: appends as soon as it is told to, to a partition that it has open.
#[tokio::test]
async fn child_waiting() {
    let Some((folder, _)) = as_child() else { return };
    tracing_subscriber::fmt().with_writer(std::io::stderr).with_ansi(false).init();
    let backend = open(&folder);
    let place = orders(&backend, 1).await;
    append(&backend, &place, &["before"]).await;
    println!("open");
    let _ = std::io::stdin().read_line(&mut String::new());
    append(&backend, &place, &["after"]).await;
}

#[test]
fn who_appends_behind_a_stopped_process_goes_on_when_that_is_killed() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("gretchen-data");
    let mut waiting = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "log::append_lock::child_waiting", "--nocapture"])
        .env(super::FOLDER, &data)
        .env(super::NUMBER, "0")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = BufReader::new(waiting.stdout.take().unwrap()).lines();
    assert!(said.any(|line| line.unwrap().ends_with("open")));
    let holder = Holder::stopped(&data);
    drop(waiting.stdin.take());
    let mut log = BufReader::new(waiting.stderr.take().unwrap()).lines();
    let line = log.find(|line| line.as_ref().unwrap().contains("nobody can append")).expect("who waits is told so");
    check_told(&line.unwrap(), holder.id());
    // A record that was not acknowledged goes with its process.
    drop(holder);
    assert!(waiting.wait().unwrap().success());
    assert_eq!(values(folder.path()), ["before", "first", "after"]);
}

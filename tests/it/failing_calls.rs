//! An I/O error from the n-th write, sync or open of a thread, on the real program: the example `orders` under strace.
//!
//! After an error the program says so and acknowledges nothing that may be lost; started again without errors, it has
//! everything that was acknowledged, once, and every total is right. Here a few calls are tried;
//! `cargo test --release --test it failing_calls -- --ignored --nocapture` tries the first 200 of each kind, or those
//! that `GRETCHEN_CALLS=sync:1-50` names.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;

use serde_json::{Value, json};

use crate::examples::binary;
use crate::log::every_bit::quick_folder;

/// Rows of the file that is sent.
const ROWS: u64 = 12_000;
const CUSTOMERS: u64 = 40;

/// What fails.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    /// What the log writes.
    Write,
    /// What RocksDB writes, and whatever else is added to the end of a file.
    Append,
    Sync,
    /// A sync of a changelog or of outputs, of which there are few among all.
    Changelog,
    Open,
}

impl Kind {
    const ALL: [Self; 5] = [Self::Write, Self::Append, Self::Sync, Self::Changelog, Self::Open];

    /// Which calls are tried in the gate.
    fn numbers(self) -> [u32; 4] {
        if self == Self::Changelog { [1, 2, 3, 4] } else { [1, 3, 9, 27] }
    }

    /// Whether a send makes such calls: it has no stores, and no changelogs.
    fn is_of_sends(self) -> bool {
        !matches!(self, Self::Append | Self::Changelog)
    }

    /// Whether only calls on a file of that path are meant, where it is not any.
    fn means(self, path: &str) -> bool {
        let lies_in = |topic: &str| path.starts_with(topic) && path.ends_with(".log");
        match self {
            Self::Changelog => {
                ["topics/orders-order_totals-changelog/", "topics/order-totals/"].into_iter().any(lies_in)
            }
            // What goes to the terminal or wakes a thread is no file of ours.
            _ => self == Self::Append,
        }
    }

    /// At least so many of them one thread makes.
    fn reaches(self) -> u32 {
        if self == Self::Changelog { 4 } else { 200 }
    }

    fn calls(self) -> &'static str {
        match self {
            Self::Write => "pwrite64,pwritev,ftruncate,fallocate",
            Self::Append => "write,writev",
            // Not sync_file_range, by which RocksDB only asks whether there is such a call.
            Self::Sync | Self::Changelog => "fsync,fdatasync,msync",
            Self::Open => "open,openat",
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Write => "write",
            Self::Append => "append",
            Self::Sync => "sync",
            Self::Changelog => "changelog",
            Self::Open => "open",
        }
    }
}

/// What a command came to.
struct Ran {
    code: i32,
    out: String,
    err: String,
    /// What strace saw.
    calls: Vec<String>,
}

impl Ran {
    fn injected(&self) -> impl Iterator<Item = (usize, &String)> {
        self.calls.iter().enumerate().filter(|(_, call)| call.contains("(INJECTED)"))
    }
}

/// The worker commits as often as it can, on one thread and in small segments, so that it makes many calls.
const EAGER: [&str; 9] = [
    "--commit-interval-ms=1",
    "--checkpoint-interval-ms=10",
    "--threads=1",
    "--segment-bytes=4096",
    "--batch-bytes=4096",
    "--partitions=24",
    "--read-bytes=4096",
    "--durability=fsync",
    "--stop-timeout-ms=2000",
];

fn orders(dir: &Path, args: &[&str], fault: Option<(Kind, u32)>) -> Ran {
    let trace = dir.join("trace");
    let data = dir.join("data");
    let mut command = Command::new("timeout");
    crate::cli::keep_settings_from(&mut command);
    command.args(["--signal=KILL", "60"]);
    if let Some((kind, n)) = fault {
        let calls = kind.calls();
        command.args(["strace", "-f", "-y", "-qq", "--signal=none", "--seccomp-bpf", "-o"]).arg(&trace);
        command.arg("-e").arg(format!("trace={calls},pwrite64"));
        command.arg("-e").arg(format!("inject={calls}:error=EIO:when={n}"));
        for path in fs::read_to_string(dir.join("paths")).unwrap().lines().filter(|path| kind.means(path)) {
            command.arg("-P").arg(data.join(path));
        }
    }
    command
        .arg(binary("orders"))
        .args(args)
        .args(EAGER)
        .arg("--data-dir")
        .arg(&data)
        .env("NO_COLOR", "1")
        .current_dir(dir);
    let output = command.output().unwrap_or_else(|error| panic!("cannot run {command:?}: {error}; it needs strace"));
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    let calls = match fault {
        Some(_) => fs::read_to_string(&trace).unwrap_or_default().lines().map(str::to_owned).collect(),
        None => Vec::new(),
    };
    Ran { code: output.status.code().unwrap_or(-1), out: text(output.stdout), err: text(output.stderr), calls }
}

fn good(dir: &Path, args: &[&str]) -> String {
    let ran = orders(dir, args, None);
    assert_eq!(ran.code, 0, "{args:?}: {}\n{}", ran.out, ran.err);
    ran.out
}

/// Every file and folder below one.
fn everything_in(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let Ok(entries) = fs::read_dir(folder) else { return found };
    for entry in entries {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(everything_in(&path));
        }
        found.push(path);
    }
    found
}

fn copy(from: &Path, to: &Path) {
    let done = Command::new("cp").arg("-a").arg(from).arg(to).status().unwrap();
    assert!(done.success());
}

/// The rows, and the total of each customer.
fn rows() -> (String, BTreeMap<String, (u64, u64)>) {
    let mut text = String::new();
    let mut totals = BTreeMap::<String, (u64, u64)>::new();
    for id in 0..ROWS {
        let (customer, cents) = (format!("C{:02}", id * 7 % CUSTOMERS), 100 + id * 31 % 9_000);
        let amount = format!("{}.{:02}", cents / 100, cents % 100);
        let row =
            json!({"order_id": id, "customer": customer, "ordered_on": "1997-01-01", "quantity": 1, "amount": amount});
        text.push_str(&format!("{row}\n"));
        let total = totals.entry(customer).or_default();
        *total = (total.0 + 1, total.1 + cents);
    }
    (text, totals)
}

fn total_of(row: &Value) -> (String, (u64, u64)) {
    let cents = row["revenue"].as_str().unwrap().replace('.', "").parse().unwrap();
    (row["customer"].as_str().unwrap().to_owned(), (row["orders"].as_u64().unwrap(), cents))
}

/// What all the runs of one kind came to.
#[derive(Debug, Default)]
struct Tally {
    runs: u32,
    /// Runs in which a call failed.
    hit: u32,
    /// The largest n of those.
    furthest: u32,
    failed_calls: usize,
    /// Those that were syncs of a changelog.
    of_changelogs: usize,
    /// Runs in which outputs were put out: without any, nothing would be learnt of those that are held back.
    put_out: u32,
    /// Runs that ended well although a call failed.
    went_on: u32,
}

impl Tally {
    fn add(&mut self, n: u32, ran: &Ran) {
        self.runs += 1;
        let failed = ran.injected().count();
        if failed > 0 {
            self.hit += 1;
            self.furthest = self.furthest.max(n);
        }
        self.failed_calls += failed;
        self.of_changelogs += ran.injected().filter(|(_, call)| changelog_of(call).is_some()).count();
        self.put_out += u32::from(ran.calls.iter().any(|call| is_output(call)));
        self.went_on += u32::from(failed > 0 && ran.code == 0);
    }
}

/// The partition whose changelog a call is on.
fn changelog_of(call: &str) -> Option<&str> {
    let (_, path) = call.split_once("/topics/orders-order_totals-changelog/")?;
    path.split_once('/').map(|(partition, _)| partition)
}

/// Whether a call writes outputs, and not the beginning of a file of theirs.
fn is_output(call: &str) -> bool {
    let parts = ["pwrite64", "/topics/order-totals/", ".log>"];
    parts.iter().all(|part| call.contains(part)) && !call.contains(", 0) = ")
}

fn check_ran(what: &str, ran: &Ran) {
    let said = format!("{what}: exit code {}\n{}\n{}", ran.code, ran.out, ran.err);
    assert!(matches!(ran.code, 0 | 1 | 2 | 127), "{said}");
    assert!(!ran.err.contains("panicked"), "{said}");
    assert!(ran.code == 0 || !ran.err.trim().is_empty(), "{said}");
}

/// A send with a call that fails, and what is there afterwards.
fn try_send(kind: Kind, n: u32, template: &Path, tally: &Mutex<Tally>) {
    let folder = quick_folder();
    let dir = folder.path();
    copy(&template.join("rows.jsonl"), dir);
    copy(&template.join("paths"), dir);
    let send = ["send", "orders", "--file", "rows.jsonl", "--json"];
    let ran = orders(dir, &send, Some((kind, n)));
    let what = format!("send, {} {n}", kind.name());
    check_ran(&what, &ran);
    if kind == Kind::Sync {
        assert!(
            ran.code != 0 || ran.injected().count() == 0,
            "{what}: acknowledged after a failed sync\n{:#?}",
            ran.calls
        );
    }
    tally.lock().unwrap().add(n, &ran);
    let again: Value = serde_json::from_str(&good(dir, &send)).unwrap();
    let number = |name: &str| again[name].as_u64().unwrap();
    assert_eq!(number("added") + number("dropped"), ROWS, "{what}");
    if ran.code == 0 {
        assert_eq!(number("added"), 0, "{what}: what was acknowledged is gone");
    }
    let read = good(dir, &["read", "orders"]);
    let mut ids: Vec<u64> =
        read.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["order_id"].as_u64().unwrap()).collect();
    ids.sort_unstable();
    assert!(ids.iter().copied().eq(0..ROWS), "{what}: {} orders are there", ids.len());
}

/// A worker with a call that fails, and what is there afterwards.
fn try_worker(kind: Kind, n: u32, template: &Path, tally: &Mutex<Tally>) {
    let folder = quick_folder();
    let dir = folder.path();
    copy(&template.join("data"), dir);
    copy(&template.join("paths"), dir);
    let work = ["worker", "--until-caught-up", "--quiet"];
    let ran = orders(dir, &work, Some((kind, n)));
    let what = format!("worker, {} {n}", kind.name());
    check_ran(&what, &ran);
    if [Kind::Sync, Kind::Changelog].contains(&kind) {
        check_syncs(&what, &ran);
    }
    tally.lock().unwrap().add(n, &ran);
    let outputs = |dir: &Path| -> BTreeSet<String> {
        good(dir, &["read", "order-totals", "--keys"]).lines().map(str::to_owned).collect()
    };
    let seen = if dir.join("data/topics/order-totals").is_dir() { outputs(dir) } else { BTreeSet::new() };
    good(dir, &work);
    let (_, expected) = rows();
    let rows: Value = serde_json::from_str(&good(dir, &["tables", "order-totals", "--limit", "0", "--json"])).unwrap();
    let table: BTreeMap<_, _> = rows.as_array().unwrap().iter().map(|row| total_of(&row["value"])).collect();
    assert_eq!(table, expected, "{what}");
    let after = outputs(dir);
    assert!(seen.is_subset(&after), "{what}: outputs are gone that were visible");
    // Each customer's last output is its total, and the number of its orders never falls: nothing came twice.
    let mut last = BTreeMap::<String, (u64, u64)>::new();
    let read = good(dir, &["read", "order-totals"]);
    for line in read.lines() {
        let (customer, total) = total_of(&serde_json::from_str(line).unwrap());
        let before = last.insert(customer, total).unwrap_or_default();
        assert!(before.0 < total.0, "{what}: {before:?} and then {total:?}");
    }
    assert_eq!(last, expected, "{what}");
}

/// After a sync that failed the program says so, and what waited for it is not put out.
fn check_syncs(what: &str, ran: &Ran) {
    for (at, call) in ran.injected() {
        let said = ran.err.contains("sync") || ran.err.contains("Input/output error") || ran.err.contains("os error 5");
        assert!(said && ran.code != 0, "{what}: went on after {call}, exit code {}\n{}", ran.code, ran.err);
        let Some(partition) = changelog_of(call) else { continue };
        let output = format!("/topics/order-totals/{partition}/");
        let put_out = ran.calls[at..].iter().find(|call| call.contains("pwrite64") && call.contains(&output));
        assert_eq!(put_out, None, "{what}: put out after {call}");
    }
}

/// The file of orders, a folder with them, and what files a worker makes of it.
fn template() -> tempfile::TempDir {
    let folder = quick_folder();
    let dir = folder.path();
    fs::write(dir.join("rows.jsonl"), rows().0).unwrap();
    good(dir, &["send", "orders", "--file", "rows.jsonl", "--json"]);
    copy(&dir.join("data"), &dir.join("sent"));
    good(dir, &["worker", "--until-caught-up", "--quiet"]);
    let data = dir.join("data");
    let paths: Vec<String> = everything_in(&data)
        .iter()
        .map(|path| path.strip_prefix(&data).unwrap().to_str().unwrap().to_owned())
        .filter(|path| !path.starts_with("drafts"))
        .collect();
    fs::write(dir.join("paths"), paths.join("\n")).unwrap();
    fs::remove_dir_all(&data).unwrap();
    fs::rename(dir.join("sent"), &data).unwrap();
    folder
}

/// What became of sends and of workers, by kind.
type Tallies = [(Kind, Tally, Tally); 5];

fn try_all(calls: &[(Kind, u32)]) -> Tallies {
    let template = template();
    let next = Mutex::new(calls.iter());
    let tallies = Kind::ALL.map(|kind| (kind, Mutex::new(Tally::default()), Mutex::new(Tally::default())));
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                loop {
                    let Some((kind, n)) = next.lock().unwrap().next().copied() else { return };
                    let (_, sends, workers) = tallies.iter().find(|(have, ..)| *have == kind).unwrap();
                    if kind.is_of_sends() {
                        try_send(kind, n, template.path(), sends);
                    }
                    try_worker(kind, n, template.path(), workers);
                }
            });
        }
    });
    let tallies =
        tallies.map(|(kind, sends, workers)| (kind, sends.into_inner().unwrap(), workers.into_inner().unwrap()));
    for (kind, sends, workers) in &tallies {
        for (who, tally) in [("sends", sends), ("workers", workers)].into_iter().filter(|(_, tally)| tally.runs > 0) {
            let furthest = tally.furthest;
            println!("{}: {who} were hit up to the {furthest}-th of a thread: {tally:?}", kind.name());
        }
    }
    tallies
}

/// Every kind of call was made to fail, in sends and in workers, and also the one that holds outputs back.
fn check_hits(tallies: &Tallies) {
    for (kind, sends, workers) in tallies.iter().filter(|(_, _, workers)| workers.runs > 0) {
        let all = format!("{kind:?}, sends: {sends:?}, workers: {workers:?}");
        assert!(workers.hit > 0, "no call was made to fail, can strace trace here? {all}");
        assert!(sends.hit > 0 || !kind.is_of_sends(), "no call was made to fail: {all}");
        if *kind == Kind::Changelog {
            assert!(workers.of_changelogs > 0, "no sync of a changelog failed: {all}");
            assert!(workers.put_out > 0, "nobody put anything out: {all}");
        }
    }
}

#[test]
fn a_failed_call_loses_nothing() {
    let calls: Vec<_> = Kind::ALL.into_iter().flat_map(|kind| kind.numbers().map(|n| (kind, n))).collect();
    check_hits(&try_all(&calls));
}

#[test]
#[ignore = "takes a quarter of an hour"]
fn any_failed_call_loses_nothing() {
    let asked = std::env::var("GRETCHEN_CALLS").ok();
    let mut calls: Vec<_> = Kind::ALL.into_iter().flat_map(|kind| (1..=200).map(move |n| (kind, n))).collect();
    if let Some(asked) = &asked {
        let (name, range) = asked.split_once(':').unwrap();
        let (from, to) = range.split_once('-').unwrap();
        let range = from.parse().unwrap()..=to.parse().unwrap();
        calls.retain(|(kind, n)| kind.name() == name && range.contains(n));
    }
    let tallies = try_all(&calls);
    for (kind, sends, workers) in tallies.iter().filter(|(_, _, workers)| workers.runs > 0) {
        let last = calls.iter().filter(|(asked, _)| asked == kind).map(|(_, n)| *n).max().unwrap_or(0);
        let reached = sends.furthest.max(workers.furthest);
        assert!(
            reached >= last.min(kind.reaches()),
            "{kind:?}: the {last}-th call was to fail, and the {reached}-th did"
        );
    }
    check_hits(&tallies);
}

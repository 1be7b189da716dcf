//! No room left: what is refused, what goes on, and that nothing is lost or counted twice when there is room again.

use std::fs::{self, OpenOptions};
use std::io::{BufRead, BufReader, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::cli::{bad, command, good, json_of, order};

/// A file system of its own, of a few megabytes.
struct SmallDisk(PathBuf);

impl SmallDisk {
    /// Mounting needs root, as which the whole of the checks runs.
    fn mount(at: &Path) -> Self {
        let done = Command::new("mount").args(["-t", "tmpfs", "-o", "size=128m", "gretchen-test"]).arg(at).status();
        assert!(done.is_ok_and(|status| status.success()), "this test mounts a tmpfs, for which it must run as root");
        Self(at.to_owned())
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
    let disk = SmallDisk::mount(folder.path());
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

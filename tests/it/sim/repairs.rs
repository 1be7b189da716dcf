//! A repair that is interrupted at each of its calls, by the end of the process or by a loss of power: whatever it had
//! changed is there as it was, too, and the next one comes to its end.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use gretchen::backend::log::{LogOptions, Mended, Only, repair, verify};
use gretchen::backend::{Backend, Consumer, ProducerId, Replay};
use gretchen::disk::{Disk, Open};
use gretchen::record::Frame;
use gretchen::testing::sim::{Crash, Machine, Process};
use gretchen::topic::TopicSpec;

use super::steps::{LOSSES, append, append_unsynced, numbers, open, options, place};

const ALL: Only<'_> = Only { topic: None, partition: None };
const FOLDER: &str = "/data/topics/t/0";
const POSITION: &str = "/data/groups/people/positions/t-0";

/// Records in four segments, of which so many are durable.
const RECORDS: u64 = 24;

/// What is damaged in a partition.
#[derive(Debug)]
struct Damage {
    /// Records that were synced.
    durable: u64,
    /// Records whose frames are damaged.
    frames: &'static [u64],
    /// Segments, by their first offset, whose headers are.
    headers: &'static [u64],
    /// Whether a group's position is.
    position: bool,
    /// Records that are there after the repair.
    left: fn(u64) -> bool,
}

fn prepare(machine: &Machine, damage: &Damage) {
    let process = machine.start().unwrap();
    let log = open(&process).unwrap();
    process.block_on(async {
        log.create_topic(&TopicSpec::new("t", 1)).await.unwrap();
        let consumer: Box<dyn Consumer> = log.consumer("people", &[]).await.unwrap();
        consumer.ack(&place(), 7).unwrap();
        for number in 0..damage.durable {
            append(&log, 0, number).await.unwrap();
        }
        // No turn for a sync in between.
        let mut producer = log.producer(ProducerId::named("steps")).await.unwrap();
        for number in damage.durable..RECORDS {
            append_unsynced(&mut *producer, number).await.unwrap();
        }
    });
    drop((log, process));
    let process = machine.start().unwrap();
    let disk = process.disk();
    let segments: Vec<PathBuf> = segments(&disk).into_keys().collect();
    assert_eq!(segments.len(), 4, "{segments:?}");
    for path in &segments {
        let bytes = disk.read(path).unwrap();
        let base: u64 = path.file_stem().unwrap().to_str().unwrap().parse().unwrap();
        let mut flips = Vec::new();
        if damage.headers.contains(&base) {
            flips.push(20);
        }
        let mut at = 64;
        while let Ok(frame) = Frame::parse(&bytes[at..]) {
            if frame.header.kind == 0 && damage.frames.contains(&frame.header.base_offset) {
                flips.push(at + frame.header.len - 1);
            }
            at += frame.header.len;
        }
        flip(&disk, path, &flips);
    }
    flip(&disk, &Path::new(FOLDER).join("end"), &[]);
    flip(&disk, Path::new(POSITION), if damage.position { &[1] } else { &[] });
    for folder in Path::new(POSITION).ancestors().chain(Path::new(FOLDER).ancestors()).skip(1) {
        if disk.is_folder(folder) {
            disk.sync_folder(folder).unwrap();
        }
    }
}

/// Changes these bytes, and sees to it that no loss of power changes others.
fn flip(disk: &Disk, path: &Path, flips: &[usize]) {
    let file = disk.open(path, Open::Existing).unwrap();
    for at in flips {
        let mut byte = [0];
        file.read_exact_at(&mut byte, *at as u64).unwrap();
        file.write_all_at(&[byte[0] ^ 0x10], *at as u64).unwrap();
    }
    file.sync_all().unwrap();
}

/// The partition's segments.
fn segments(disk: &Disk) -> BTreeMap<PathBuf, Vec<u8>> {
    let names = disk.names(Path::new(FOLDER)).unwrap().into_iter().filter(|name| name.ends_with(".log"));
    names.map(|name| Path::new(FOLDER).join(name)).map(|path| (path.clone(), disk.read(&path).unwrap())).collect()
}

/// What a repair may change.
fn files(disk: &Disk) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut files = segments(disk);
    files.insert(POSITION.into(), disk.read(Path::new(POSITION)).unwrap());
    files
}

/// Whatever is not as it was, or gone, is there as it was: in a folder of one of the repairs.
fn check_copies(disk: &Disk, before: &BTreeMap<PathBuf, Vec<u8>>, when: &str) {
    let damaged = Path::new("/data/damaged");
    let repairs = if disk.is_folder(damaged) { disk.names(damaged).unwrap() } else { Vec::new() };
    for (path, content) in before {
        let name = path.file_name().unwrap();
        let copies = repairs.iter().map(|number| damaged.join(number).join("t-0").join(name));
        let is_there =
            std::iter::once(path.clone()).chain(copies).any(|path| disk.read(&path).ok().as_ref() == Some(content));
        assert!(is_there, "{when}: {} is nowhere as it was", path.display());
    }
}

fn mended(options: &LogOptions, when: &str) -> Vec<Mended> {
    let mended = repair(options, ALL).unwrap_or_else(|error| panic!("{when}: {error}"));
    assert!(mended.iter().all(|one| one.done), "{when}: {mended:#?}");
    mended
}

fn check(process: &Process, damage: &Damage, before: &BTreeMap<PathBuf, Vec<u8>>, when: &str) {
    let (disk, options) = (process.disk(), options(process));
    check_copies(&disk, before, when);
    mended(&options, when);
    check_copies(&disk, before, when);
    assert_eq!(verify(&options, ALL).unwrap().findings, [], "{when}");
    assert_eq!(repair(&options, ALL).unwrap(), [], "{when}");
    let log = open(process).unwrap();
    let left: Vec<u64> = (0..RECORDS).filter(|number| (damage.left)(*number)).collect();
    assert_eq!(numbers(&log, 0).unwrap(), left, "{when}");
    let end = log.offsets(&place()).unwrap().end;
    assert_eq!(end, if damage.durable == RECORDS { RECORDS } else { left.len() as u64 }, "{when}");
    let position = log.position("people", &place()).unwrap();
    assert_eq!(position, (!damage.position).then_some(7), "{when}");
    process.block_on(append(&log, 0, end)).unwrap();
    assert_eq!(numbers(&log, 0).unwrap().last(), Some(&end), "{when}");
}

/// Returns how many calls there were.
fn interrupted(damage: &Damage) -> u64 {
    for call in 1.. {
        let mut reached = false;
        for seed in 0..=2 * LOSSES {
            let crash = if seed % 2 == 0 { Crash::Kill } else { Crash::PowerLoss };
            let when = format!("{crash:?} in call {call}, seed {seed}");
            let machine = Machine::new(call << 8 | seed);
            prepare(&machine, damage);
            let process = machine.start().unwrap();
            let (before, options) = (files(&process.disk()), options(&process));
            process.crash_at_call(call, crash);
            let done = repair(&options, ALL);
            reached |= process.has_ended();
            assert!(done.is_ok() || process.has_ended(), "{when}: {done:?}");
            drop(process);
            // A killed one may have left what no disk has yet.
            if seed > 0 {
                machine.lose_power();
            }
            check(&machine.start().unwrap(), damage, &before, &when);
            machine.lose_power();
            let process = machine.start().unwrap();
            check_copies(&process.disk(), &before, &when);
            let end = open(&process).and_then(|log| log.offsets(&place())).unwrap().end;
            assert_eq!(numbers(&open(&process).unwrap(), 0).unwrap().last(), Some(&(end - 1)), "{when}");
        }
        if !reached {
            return call - 1;
        }
    }
    0
}

#[test]
fn damaged_frames_are_taken_out() {
    let damage = Damage {
        durable: RECORDS,
        frames: &[3, 9, 10, 20],
        headers: &[],
        position: true,
        left: |number| ![3, 9, 10, 20].contains(&number),
    };
    let calls = interrupted(&damage);
    assert!(calls > 60, "{calls}");
}

/// One of them has a damaged frame, too: its copy is of the file before both.
#[test]
fn headers_are_written_anew() {
    let damage =
        Damage { durable: RECORDS, frames: &[20], headers: &[6, 18], position: false, left: |number| number != 20 };
    let calls = interrupted(&damage);
    assert!(calls > 40, "{calls}");
}

/// Two segments behind the torn one go.
#[test]
fn a_torn_tail_is_cut() {
    let damage = Damage { durable: 8, frames: &[9], headers: &[], position: false, left: |number| number < 9 };
    let calls = interrupted(&damage);
    assert!(calls > 40, "{calls}");
}

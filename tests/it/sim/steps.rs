//! What takes several steps, interrupted at each of its calls: by the end of the process, or by a loss of power.

use std::path::Path;
use std::time::Duration;

use gretchen::backend::log::{LogBackend, LogOptions};
use gretchen::backend::{Backend, Producer, ProducerId, Replay};
use gretchen::error::{ErrorKind, Result};
use gretchen::record::{FrameBuilder, Frames};
use gretchen::testing::sim::{Crash, Machine, Process};
use gretchen::topic::{TopicPartition, TopicSettings, TopicSpec};

const PARTITIONS: u32 = 2;

/// Losses of power that are tried at each call, since each leaves something else.
pub(super) const LOSSES: u64 = 12;

pub(super) fn place() -> TopicPartition {
    TopicPartition::new("t", 0)
}

pub(super) fn options(process: &Process) -> LogOptions {
    LogOptions { segment_bytes: 4096, disk: process.disk(), ..LogOptions::new("/data") }
}

pub(super) fn open(process: &Process) -> Result<LogBackend> {
    LogBackend::open(options(process), process.clock())
}

/// Appends a record that can be told from others, and returns once it is durable. Six of them fill a segment.
pub(super) async fn append(log: &LogBackend, partition: u32, number: u64) -> Result<()> {
    append_bytes(log, partition, number, 500).await
}

async fn append_bytes(log: &LogBackend, partition: u32, number: u64, bytes: usize) -> Result<()> {
    let mut frame = FrameBuilder::new();
    frame.push(Some(&number.to_le_bytes()), Some(&vec![number as u8; bytes]), 0);
    let mut producer = log.producer(ProducerId::named("steps")).await?;
    producer.append(&TopicPartition::new("t", partition), &mut frame, Some(number)).await?;
    producer.flush().await
}

/// Appends a record that [`numbers`] knows to the first partition, and does not sync it.
pub(super) async fn append_unsynced(producer: &mut dyn Producer, number: u64) -> Result<()> {
    let mut frame = FrameBuilder::new();
    frame.push(Some(&number.to_le_bytes()), Some(&[number as u8; 500]), 0);
    producer.append(&place(), &mut frame, Some(number)).await.map(drop)
}

/// The numbers of a partition's records.
pub(super) fn numbers(log: &LogBackend, partition: u32) -> Result<Vec<u64>> {
    let mut reader = log.reader(&TopicPartition::new("t", partition), 0)?;
    let (mut frames, mut numbers) = (Frames::default(), Vec::new());
    while reader.read(&mut frames)? {
        for frame in frames.iter() {
            for record in frame.records() {
                let number = u64::from_le_bytes(record.key.unwrap().try_into().unwrap());
                assert!(record.value.unwrap().iter().all(|byte| *byte == number as u8));
                numbers.push(number);
            }
        }
    }
    Ok(numbers)
}

/// Does `act` once for each of its calls and each kind of crash, and `check`s what is left: in a process of its own,
/// with whether `act` came to its end. Returns how many calls there were.
fn interrupted(
    prepare: impl AsyncFn(&LogBackend) -> Result<()>,
    act: impl AsyncFn(&LogBackend) -> Result<()>,
    check: impl AsyncFn(&LogBackend, bool) -> Result<()>,
) -> u64 {
    for call in 1.. {
        let mut reached = false;
        for seed in 0..=LOSSES {
            let crash = if seed == 0 { Crash::Kill } else { Crash::PowerLoss };
            let machine = Machine::new(call << 8 | seed);
            let process = machine.start().unwrap();
            let log = open(&process).unwrap();
            process.block_on(prepare(&log)).unwrap();
            process.crash_at_call(call, crash);
            let done = process.block_on(act(&log));
            reached |= process.has_ended();
            assert!(done.is_ok() || process.has_ended(), "call {call}: {done:?}");
            drop(log);
            // What was done must also survive a loss of power afterwards.
            machine.lose_power();
            drop(process);
            let process = machine.start().unwrap();
            let checked = open(&process).and_then(|log| process.block_on(check(&log, done.is_ok())));
            assert!(checked.is_ok(), "{crash:?} in call {call}, seed {seed}: {checked:?}");
        }
        if !reached {
            return call - 1;
        }
    }
    0
}

/// The topic works: it can be made if it is missing, and takes records.
async fn works(log: &LogBackend) -> Result<()> {
    log.create_topic(&TopicSpec::new("t", PARTITIONS)).await?;
    for partition in 0..PARTITIONS {
        let before = numbers(log, partition)?;
        append(log, partition, before.len() as u64).await?;
        assert_eq!(numbers(log, partition)?.len(), before.len() + 1);
    }
    Ok(())
}

#[test]
fn a_log_that_is_made_for_the_first_time() {
    for call in 1.. {
        let mut reached = false;
        for seed in 0..=LOSSES {
            let machine = Machine::new(call << 8 | seed);
            let process = machine.start().unwrap();
            process.crash_at_call(call, if seed == 0 { Crash::Kill } else { Crash::PowerLoss });
            let done = open(&process);
            reached |= process.has_ended();
            drop((done, process));
            let process = machine.start().unwrap();
            let log = open(&process).unwrap();
            process.block_on(works(&log)).unwrap();
            machine.lose_power();
            let process = machine.start().unwrap();
            assert_eq!(numbers(&open(&process).unwrap(), 1).unwrap(), [0], "call {call}, seed {seed}");
        }
        if !reached {
            assert!(call > 10, "{call}");
            return;
        }
    }
}

#[test]
fn a_topic_that_is_created() {
    let calls = interrupted(
        async |_| Ok(()),
        async |log| log.create_topic(&TopicSpec::new("t", PARTITIONS)).await.map(drop),
        async |log, done| {
            let there = log.topics().await?;
            assert!(!done || there.len() == 1, "the topic is gone");
            assert!(there.iter().all(|topic| topic.spec.partitions == PARTITIONS));
            works(log).await
        },
    );
    assert!(calls > 10, "{calls}");
}

#[test]
fn a_topic_that_is_deleted() {
    let calls = interrupted(
        async |log| {
            log.create_topic(&TopicSpec::new("t", PARTITIONS)).await?;
            append(log, 0, 0).await?;
            append(log, 1, 0).await
        },
        async |log| log.delete_topic("t").await,
        async |log, done| {
            let there = log.topics().await?;
            assert!(!done || there.is_empty(), "the topic is back");
            for partition in 0..PARTITIONS {
                match numbers(log, partition) {
                    Ok(numbers) => assert_eq!((numbers, there.len()), (vec![0], 1)),
                    Err(error) => assert_eq!((error.kind(), there.len()), (ErrorKind::NotFound, 0), "{error}"),
                }
            }
            works(log).await
        },
    );
    assert!(calls > 10, "{calls}");
}

#[test]
fn a_segment_that_is_full() {
    // Six records fill a segment, so that the seventh begins another.
    let calls = interrupted(
        async |log| {
            log.create_topic(&TopicSpec::new("t", PARTITIONS)).await?;
            for number in 0..6 {
                append(log, 0, number).await?;
            }
            Ok(())
        },
        async |log| {
            for number in 6..9 {
                append(log, 0, number).await?;
            }
            Ok(())
        },
        async |log, done| {
            let have = numbers(log, 0)?;
            assert!(have.len() >= if done { 9 } else { 6 }, "{have:?}");
            assert!(have.iter().copied().eq(0..have.len() as u64), "{have:?}");
            for number in have.len() as u64..20 {
                append(log, 0, number).await?;
            }
            assert!(numbers(log, 0)?.into_iter().eq(0..20));
            Ok(())
        },
    );
    assert!(calls > 15, "{calls}");
}

/// Kills a process at each call of `act`. The next one fills the first segment to more than it would hold of records of one
/// size, or appends one record where it is full, and begins no other, which would sync the folder. Then the power is
/// lost: whatever the killed one had changed and not synced, what came after it and was acknowledged is there.
fn killed(prepare: impl Fn(&Machine), act: impl AsyncFn(&LogBackend) -> Result<()>) -> u64 {
    for call in 1.. {
        let mut reached = false;
        for seed in 0..2 * LOSSES {
            let machine = Machine::new(call << 8 | seed);
            prepare(&machine);
            let process = machine.start().unwrap();
            process.crash_at_call(call, Crash::Kill);
            let done = open(&process).and_then(|log| process.block_on(act(&log)));
            reached |= process.has_ended();
            assert!(done.is_ok() || process.has_ended(), "call {call}: {done:?}");
            drop(process);
            let process = machine.start().unwrap();
            let log = open(&process).unwrap();
            let there = numbers(&log, 0).unwrap().len() as u64;
            let last = there.max(6);
            process.block_on(async {
                for number in there..last {
                    append(&log, 0, number).await.unwrap();
                }
                append_bytes(&log, 0, last, 200).await.unwrap();
            });
            machine.lose_power();
            let process = machine.start().unwrap();
            let have = open(&process).and_then(|log| numbers(&log, 0));
            let as_before = have.as_ref().is_ok_and(|have| have.iter().copied().eq(0..=last));
            assert!(as_before, "killed in call {call}, seed {seed}, with {there} records: {have:?}");
        }
        if !reached {
            return call - 1;
        }
    }
    0
}

/// A killed process has moved a topic away and not synced that, and the next one tidies up what is left of it: a loss of
/// power leaves the topic whole or not at all.
#[test]
fn a_topic_whose_deletion_is_killed() {
    for call in 1.. {
        let mut reached = false;
        for seed in 0..2 * LOSSES {
            let machine = Machine::new(call << 8 | seed);
            let process = machine.start().unwrap();
            let log = open(&process).unwrap();
            process.block_on(async {
                log.create_topic(&TopicSpec::new("t", PARTITIONS)).await.unwrap();
                append(&log, 0, 0).await.unwrap();
            });
            process.crash_at_call(call, Crash::Kill);
            let _ = process.block_on(log.delete_topic("t"));
            reached |= process.has_ended();
            drop((log, process));
            open(&machine.start().unwrap()).unwrap();
            machine.lose_power();
            let process = machine.start().unwrap();
            let log = open(&process).unwrap();
            let there = process.block_on(log.topics()).unwrap().len();
            match numbers(&log, 0) {
                Ok(numbers) => assert_eq!((numbers, there), (vec![0], 1), "call {call}, seed {seed}"),
                Err(error) => assert_eq!((error.kind(), there), (ErrorKind::NotFound, 0), "call {call}, seed {seed}"),
            }
            let again = process.block_on(works(&log));
            assert!(again.is_ok(), "call {call}, seed {seed}: {again:?}");
        }
        if !reached {
            assert!(call > 10, "{call}");
            return;
        }
    }
}

/// A killed writer leaves a segment whose name is not durable, and the first to come goes on in it.
#[test]
fn a_segment_that_a_killed_writer_made() {
    let calls = killed(
        |machine| {
            let process = machine.start().unwrap();
            let log = open(&process).unwrap();
            process.block_on(async {
                log.create_topic(&TopicSpec::new("t", PARTITIONS)).await.unwrap();
                for number in 0..6 {
                    append(&log, 0, number).await.unwrap();
                }
            });
        },
        async |log| {
            for number in 6..9 {
                append(log, 0, number).await?;
            }
            Ok(())
        },
    );
    assert!(calls > 15, "{calls}");
}

/// A killed recovery has removed a segment behind a torn tail and not synced the folder. The next one finds nothing to
/// remove, and the segment must not come back beside what is appended then.
#[test]
fn a_recovery_that_is_killed() {
    let calls = killed(
        |machine| {
            let process = machine.start().unwrap();
            let log = open(&process).unwrap();
            process.block_on(async {
                log.create_topic(&TopicSpec::new("t", PARTITIONS)).await.unwrap();
                append(&log, 0, 0).await.unwrap();
                let mut producer = log.producer(ProducerId::named("steps")).await.unwrap();
                for number in 1..9 {
                    append_unsynced(&mut *producer, number).await.unwrap();
                }
            });
            machine.lose_power();
        },
        async |log| log.offsets(&place()).map(drop),
    );
    assert!(calls > 15, "{calls}");
}

/// A topic that lets records go: as many keys, and so many records that there are several segments.
async fn keyed(log: &LogBackend, settings: &[&str]) -> Result<()> {
    let settings = TopicSettings::parse(settings.iter().copied())?;
    log.create_topic(&TopicSpec { settings, ..TopicSpec::new("t", 1) }).await?;
    let mut producer = log.producer(ProducerId::ANONYMOUS).await?;
    let mut frame = FrameBuilder::new();
    for number in 0..RECORDS {
        frame.clear();
        frame.push(Some(&[(number % KEYS) as u8]), Some(&[number as u8; 500]), 0);
        producer.append(&place(), &mut frame, None).await?;
    }
    producer.flush().await
}

const KEYS: u64 = 20;
const RECORDS: u64 = 30;
/// Those that stand in segments before the last.
const CLOSED: u64 = 24;

/// Offsets and numbers of what is left of [`keyed`] records.
fn left(log: &LogBackend) -> Result<Vec<(u64, u64)>> {
    let mut reader = log.reader(&place(), log.offsets(&place())?.start)?;
    let (mut frames, mut left) = (Frames::default(), Vec::new());
    while reader.read(&mut frames)? {
        for record in frames.iter().flat_map(|frame| frame.records()) {
            let number = record.value.unwrap()[0];
            assert_eq!(record.value, Some(&[number; 500][..]));
            assert_eq!(record.key, Some(&[number % KEYS as u8][..]));
            left.push((record.offset, number.into()));
        }
    }
    assert!(left.iter().all(|(offset, number)| offset == number) && left.is_sorted(), "{left:?}");
    Ok(left)
}

/// How records go.
#[derive(Clone, Copy)]
enum Letting {
    /// By the topic's settings.
    Settings(&'static [&'static str]),
    /// By their age.
    Older,
    /// Those before an offset, because nobody needs them.
    Before(u64),
}

impl Letting {
    fn settings(self) -> &'static [&'static str] {
        match self {
            Self::Settings(settings) => settings,
            Self::Older => &["retention_ms=1d"],
            Self::Before(_) => &[],
        }
    }

    async fn go(self, log: &LogBackend) -> Result<()> {
        match self {
            Self::Settings(_) | Self::Older => log.clean(&place(), true).await.map(drop),
            Self::Before(offset) => log.delete_before(&place(), offset).await.map(drop),
        }
    }
}

/// A machine on which a process was letting records go, and ended in that call unless it was through.
fn let_go_until(letting: Letting, call: u64, crash: Crash, seed: u64) -> (Machine, bool) {
    let machine = Machine::new(call << 24 | seed);
    let process = machine.start().unwrap();
    process.block_on(keyed(&open(&process).unwrap(), letting.settings())).unwrap();
    drop(process);
    machine.advance(Duration::from_secs(2 * 24 * 60 * 60));
    let reached = clean_until(&machine, letting, call, crash);
    (machine, reached)
}

/// Lets records go in another process, which ends in that call of it; whether it came so far.
fn clean_until(machine: &Machine, letting: Letting, call: u64, crash: Crash) -> bool {
    let process = machine.start().unwrap();
    let log = open(&process).unwrap();
    process.crash_at_call(call, crash);
    let done = process.block_on(letting.go(&log));
    assert!(done.is_ok() || process.has_ended(), "call {call}: {done:?}");
    process.has_ended()
}

/// The names in the partition's folder.
fn names(machine: &Machine) -> Vec<String> {
    machine.start().unwrap().disk().names(Path::new("/data/topics/t/0")).unwrap()
}

/// Loses the power of a machine, and looks at what is left.
fn check_left(machine: &Machine, letting: Letting, check: impl Fn(&[u64], u64), when: &str) {
    machine.lose_power();
    let process = machine.start().unwrap();
    let log = open(&process).unwrap();
    let found = left(&log).and_then(|left| Ok((left, log.offsets(&place())?)));
    let Ok((found, offsets)) = found else { panic!("{when}: {found:?}") };
    assert_eq!(offsets.end, RECORDS, "{when}");
    let numbers: Vec<u64> = found.into_iter().map(|(_, number)| number).collect();
    check(&numbers, offsets.start);
    // It goes on, and comes to its end.
    process.block_on(letting.go(&log)).unwrap();
    check(&left(&log).unwrap().into_iter().map(|(_, number)| number).collect::<Vec<_>>(), offsets.start);
}

/// Lets records go in a process that ends in each of its calls, by a kill that a loss of power follows, or by a loss of
/// power. Where a kill leaves a change of names that nobody has synced, another process takes it up, and the power is lost
/// in each call of that.
fn letting_go(letting: Letting, check: impl Fn(&[u64], u64)) -> u64 {
    let (mut before, mut taken_up) = (Vec::new(), 0);
    for call in 1.. {
        let mut reached = false;
        for seed in 0..2 * LOSSES {
            let crash = if seed % 2 == 0 { Crash::Kill } else { Crash::PowerLoss };
            let (machine, ended) = let_go_until(letting, call, crash, seed);
            reached |= ended;
            check_left(&machine, letting, &check, &format!("{crash:?} in call {call}, seed {seed}"));
        }
        if !reached {
            assert!(taken_up > 3, "{taken_up}");
            return call - 1;
        }
        let now = names(&let_go_until(letting, call, Crash::Kill, 0).0);
        if now != before {
            taken_up += 1;
            take_up(letting, call, &check);
        }
        before = now;
    }
    0
}

/// What a process has begun that was killed in that call is taken up by another, which loses its power in each call: more
/// often where it changes names, and in the call after that.
fn take_up(letting: Letting, killed: u64, check: impl Fn(&[u64], u64)) {
    let (mut before, mut losses) = (Vec::new(), LOSSES);
    for call in 1.. {
        let (machine, _) = let_go_until(letting, killed, Crash::Kill, 0);
        let reached = clean_until(&machine, letting, call, Crash::Kill);
        let now = names(&machine);
        let likely = if now == before { 1 } else { 5 * LOSSES };
        for seed in 0..likely.max(std::mem::replace(&mut losses, likely)) {
            let (machine, _) = let_go_until(letting, killed, Crash::Kill, call << 8 | seed);
            clean_until(&machine, letting, call, Crash::PowerLoss);
            let when = format!("killed in call {killed}, then a loss of power in call {call}, seed {seed}");
            check_left(&machine, letting, &check, &when);
        }
        if !reached {
            return;
        }
        before = now;
    }
}

#[test]
fn compaction_that_is_interrupted() {
    let calls = letting_go(Letting::Settings(&["cleanup=compact"]), |numbers, start| {
        assert_eq!(start, 0);
        // The last segment is not touched: of those before it the last record of each key stays.
        let stay = CLOSED - KEYS..RECORDS;
        assert!(stay.clone().all(|number| numbers.contains(&number)), "{numbers:?}");
    });
    assert!(calls > 60, "{calls}");
}

/// What is left is the newest, and at least so many.
fn newest(least: u64) -> impl Fn(&[u64], u64) {
    move |numbers, start| {
        let first = numbers[0];
        assert!(first >= start && numbers.iter().copied().eq(first..RECORDS), "{numbers:?}");
        assert!(RECORDS - first >= least, "{numbers:?}");
    }
}

#[test]
fn retention_that_is_interrupted() {
    let calls = letting_go(Letting::Settings(&["retention_bytes=4096"]), newest(9));
    assert!(calls > 40, "{calls}");
}

#[test]
fn retention_by_age_that_is_interrupted() {
    // The last segment is closed now, and what is in it is no older.
    let calls = letting_go(Letting::Older, newest(RECORDS - CLOSED));
    assert!(calls > 40, "{calls}");
}

#[test]
fn a_deletion_of_what_nobody_needs_that_is_interrupted() {
    let calls = letting_go(Letting::Before(15), newest(RECORDS - 15));
    assert!(calls > 40, "{calls}");
}

//! What takes several steps, interrupted at each of its calls: by the end of the process, or by a loss of power.

use gretchen::backend::log::{LogBackend, LogOptions};
use gretchen::backend::{Backend, ProducerId, Replay};
use gretchen::error::{ErrorKind, Result};
use gretchen::record::{FrameBuilder, Frames};
use gretchen::testing::sim::{Crash, Machine, Process};
use gretchen::topic::{TopicPartition, TopicSpec};

const PARTITIONS: u32 = 2;

/// Losses of power that are tried at each call, since each leaves something else.
const LOSSES: u64 = 12;

pub(super) fn open(process: &Process) -> Result<LogBackend> {
    let log = LogOptions { segment_bytes: 4096, disk: process.disk(), ..LogOptions::new("/data") };
    LogBackend::open(log, process.clock())
}

/// Appends a record that can be told from others, and returns once it is durable.
async fn append(log: &LogBackend, partition: u32, number: u64) -> Result<()> {
    let mut frame = FrameBuilder::new();
    frame.push(Some(&number.to_le_bytes()), Some(&[number as u8; 500]), 0);
    let mut producer = log.producer(ProducerId::named("steps")).await?;
    producer.append(&TopicPartition::new("t", partition), &mut frame, Some(number)).await?;
    producer.flush().await
}

/// The numbers of a partition's records.
pub(super) fn numbers(log: &LogBackend, partition: u32) -> Result<Vec<u64>> {
    let mut reader = log.reader(&TopicPartition::new("t", partition), 0)?;
    let (mut frames, mut numbers) = (Frames::default(), Vec::new());
    while reader.read(&mut frames)? {
        for frame in frames.iter() {
            for record in frame.records() {
                let number = u64::from_le_bytes(record.key.unwrap().try_into().unwrap());
                assert_eq!(record.value, Some(&[number as u8; 500][..]));
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
    // Seven records fill a segment, so that the eighth begins another.
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

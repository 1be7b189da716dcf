//! What the disk did with what was not synced yet, or could not be.

use gretchen::backend::{Backend, Producer, ProducerId, Replay};
use gretchen::error::Result;
use gretchen::record::FrameBuilder;
use gretchen::testing::sim::{Faults, Machine, Process};
use gretchen::topic::{TopicPartition, TopicSpec};

use super::steps::{numbers, open};

const SEEDS: u64 = 100;

fn place() -> TopicPartition {
    TopicPartition::new("t", 0)
}

async fn producer(process: &Process) -> Result<Box<dyn Producer>> {
    let log = open(process)?;
    log.create_topic(&TopicSpec::new("t", 1)).await?;
    log.producer(ProducerId::named("steps")).await
}

/// Appends a record that [`numbers`] knows, and does not sync it.
async fn append(producer: &mut dyn Producer, number: u64) -> Result<()> {
    let mut frame = FrameBuilder::new();
    frame.push(Some(&number.to_le_bytes()), Some(&[number as u8; 500]), 0);
    producer.append(&place(), &mut frame, Some(number)).await.map(drop)
}

/// The records after a loss of power: the first so many.
fn after_power_loss(machine: &Machine) -> u64 {
    machine.lose_power();
    let process = machine.start().unwrap();
    let have = numbers(&open(&process).unwrap(), 0).unwrap();
    assert!(have.iter().copied().eq(0..have.len() as u64), "{have:?}");
    have.len() as u64
}

#[test]
fn records_behind_a_beginning_that_never_reached_the_disk() {
    let mut counts = std::collections::BTreeSet::new();
    for seed in 0..SEEDS {
        let machine = Machine::new(seed);
        let process = machine.start().unwrap();
        process.block_on(async {
            let mut producer = producer(&process).await.unwrap();
            for number in 0..5 {
                append(&mut *producer, number).await.unwrap();
            }
        });
        counts.insert(after_power_loss(&machine));
    }
    assert!(counts.contains(&0) && counts.contains(&5) && counts.len() > 3, "{counts:?}");
}

#[test]
fn reads_that_stop_early_lose_nothing() {
    let machine = Machine::new(1);
    let process = machine.start().unwrap();
    process.block_on(async {
        let mut producer = producer(&process).await.unwrap();
        for number in 0..30 {
            append(&mut *producer, number).await.unwrap();
        }
        producer.flush().await.unwrap();
    });
    machine.set_faults(Faults { short: 2, ..Faults::default() });
    for _ in 0..20 {
        assert_eq!(after_power_loss(&machine), 30);
    }
}

/// A sync that fails where a segment ends counts like any other: nothing is acknowledged after it.
#[test]
fn a_sync_that_fails_where_a_segment_ends() {
    let mut refused = 0;
    for seed in 0..SEEDS {
        let machine = Machine::new(seed);
        let process = machine.start().unwrap();
        let acknowledged = process.block_on(async {
            let mut producer = producer(&process).await.unwrap();
            let mut number = 0;
            machine.set_faults(Faults { sync: 1, ..Faults::default() });
            while append(&mut *producer, number).await.is_ok() {
                number += 1;
            }
            assert!(number > 3);
            machine.set_faults(Faults::default());
            let again = append(&mut *producer, number).await;
            let flushed = producer.flush().await;
            refused += u64::from(flushed.is_err());
            match flushed {
                Ok(()) => number + u64::from(again.is_ok()),
                Err(_) => 0,
            }
        });
        let have = after_power_loss(&machine);
        assert!(have >= acknowledged, "seed {seed}: {have} of {acknowledged}");
    }
    assert_eq!(refused, SEEDS);
}

/// A sync that fails while a partition is opened leaves pages in doubt that are not durable yet.
#[test]
fn a_sync_that_fails_while_a_partition_is_opened() {
    for seed in 0..SEEDS {
        let machine = Machine::new(seed);
        let process = machine.start().unwrap();
        process.block_on(async {
            let mut producer = producer(&process).await.unwrap();
            for number in 0..5 {
                append(&mut *producer, number).await.unwrap();
            }
        });
        drop(process);
        machine.set_faults(Faults { sync: 1, ..Faults::default() });
        let process = machine.start().unwrap();
        assert!(open(&process).and_then(|log| log.offsets(&place())).is_err());
        drop(process);
        machine.set_faults(Faults::default());
        let process = machine.start().unwrap();
        let log = open(&process).unwrap();
        let end = log.offsets(&place()).unwrap().end;
        process.block_on(log.sync(&place(), end)).unwrap();
        let have = after_power_loss(&machine);
        assert_eq!(have, end, "seed {seed}");
    }
}

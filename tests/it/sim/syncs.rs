//! What the disk did with what was not synced yet, or could not be.

use std::collections::BTreeSet;
use std::path::Path;

use gretchen::backend::{Backend, Producer, ProducerId, Replay};
use gretchen::disk::Open;
use gretchen::error::{ErrorKind, Result};
use gretchen::testing::sim::{Faults, Machine, Process};
use gretchen::topic::{TopicSettings, TopicSpec};

use super::steps::{append_unsynced, numbers, open, place};

const SEEDS: u64 = 100;

async fn producer(process: &Process) -> Result<Box<dyn Producer>> {
    let log = open(process)?;
    log.create_topic(&TopicSpec::new("t", 1)).await?;
    log.producer(ProducerId::named("steps")).await
}

/// The records after a loss of power: the first so many.
fn after_power_loss(machine: &Machine) -> u64 {
    machine.lose_power();
    let process = machine.start().unwrap();
    let log = open(&process).unwrap();
    let start = log.offsets(&place()).unwrap().start;
    assert_eq!(start, 0, "records before it are gone");
    let have = numbers(&log, 0).unwrap();
    assert!(have.iter().copied().eq(0..have.len() as u64), "{have:?}");
    have.len() as u64
}

#[test]
fn one_sync_is_for_all_that_wait() {
    let machine = Machine::new(1);
    let process = machine.start().unwrap();
    process.block_on(async {
        let log = open(&process).unwrap();
        log.create_topic(&TopicSpec::new("t", 1)).await.unwrap();
        let replay = log.replay().unwrap();
        let send = |number| {
            let (log, replay) = (&log, &replay);
            async move {
                let mut producer = log.producer(ProducerId::ANONYMOUS).await.unwrap();
                append_unsynced(&mut *producer, number).await.unwrap();
                producer.flush().await.unwrap();
                replay.offsets(&place()).unwrap().durable
            }
        };
        let durable: BTreeSet<u64> = futures::future::join_all((0..1_000).map(send)).await.into_iter().collect();
        assert_eq!((durable.len() <= 2, durable.last()), (true, Some(&1_000)), "{durable:?}");
    });
}

/// Of all that wait for a sync that fails none is told that its record is durable, and nothing is tried again in silence.
#[test]
fn all_that_wait_for_a_sync_hear_of_its_failure() {
    let machine = Machine::new(1);
    let process = machine.start().unwrap();
    process.block_on(async {
        let log = open(&process).unwrap();
        log.create_topic(&TopicSpec::new("t", 1)).await.unwrap();
        let mut first = log.producer(ProducerId::ANONYMOUS).await.unwrap();
        append_unsynced(&mut *first, 0).await.unwrap();
        first.flush().await.unwrap();
        let mut producers = Vec::new();
        for number in 1..=1_000 {
            let mut producer = log.producer(ProducerId::ANONYMOUS).await.unwrap();
            append_unsynced(&mut *producer, number).await.unwrap();
            producers.push(producer);
        }
        machine.set_faults(Faults { sync: 1, ..Faults::default() });
        let flushed = futures::future::join_all(producers.iter_mut().map(|producer| producer.flush())).await;
        for flushed in flushed {
            let kind = flushed.unwrap_err().kind();
            assert!([ErrorKind::Io, ErrorKind::Poisoned].contains(&kind), "{kind:?}");
        }
        machine.set_faults(Faults::default());
        let kind = append_unsynced(&mut *first, 0).await.unwrap_err().kind();
        assert_eq!(kind, ErrorKind::Poisoned, "the disk is well again, and nobody knows what it has");
        assert_eq!(log.offsets(&place()).unwrap().durable, 1);
    });
}

#[test]
fn records_behind_a_beginning_that_never_reached_the_disk() {
    let mut counts = BTreeSet::new();
    for seed in 0..SEEDS {
        let machine = Machine::new(seed);
        let process = machine.start().unwrap();
        process.block_on(async {
            let mut producer = producer(&process).await.unwrap();
            for number in 0..5 {
                append_unsynced(&mut *producer, number).await.unwrap();
            }
        });
        counts.insert(after_power_loss(&machine));
    }
    assert!(counts.contains(&0) && counts.contains(&5) && counts.len() > 3, "{counts:?}");
}

/// Any part of the beginning that did not reach the disk is known, and what is behind it is there: as long as nothing of it
/// was durable.
#[test]
fn a_beginning_that_lacks_some_of_its_bytes() {
    let segment = Path::new("/data/topics/t/0/00000000000000000000.log");
    let beginning = 144;
    let mut refused = 0;
    for from in 0..beginning {
        for to in [from + 1, beginning] {
            for durable in [false, true] {
                let machine = Machine::new(1);
                let process = machine.start().unwrap();
                process.block_on(async {
                    let mut producer = producer(&process).await.unwrap();
                    append_unsynced(&mut *producer, 0).await.unwrap();
                    if durable {
                        producer.flush().await.unwrap();
                    }
                    append_unsynced(&mut *producer, 1).await.unwrap();
                });
                drop(process);
                let process = machine.start().unwrap();
                let file = process.disk().open(segment, Open::Existing).unwrap();
                let mut before = vec![0; to - from];
                file.read_exact_at(&mut before, from as u64).unwrap();
                file.write_all_at(&vec![0; to - from], from as u64).unwrap();
                if durable {
                    // The frames alone say so.
                    process.disk().remove(&segment.with_file_name("end")).unwrap();
                }
                let have = open(&process).and_then(|log| numbers(&log, 0));
                match have {
                    Ok(have) => {
                        assert_eq!(have, [0, 1], "bytes {from} to {to}");
                        assert!(!durable || before.iter().all(|byte| *byte == 0), "bytes {from} to {to}");
                    }
                    Err(error) => {
                        assert_eq!((error.kind(), durable), (ErrorKind::Corrupt, true), "{from} to {to}: {error}");
                        refused += 1;
                    }
                }
            }
        }
    }
    assert!(refused > beginning / 2, "{refused}");
}

#[test]
fn reads_that_stop_early_lose_nothing() {
    let machine = Machine::new(1);
    let process = machine.start().unwrap();
    process.block_on(async {
        let mut producer = producer(&process).await.unwrap();
        for number in 0..30 {
            append_unsynced(&mut *producer, number).await.unwrap();
        }
        producer.flush().await.unwrap();
    });
    machine.set_faults(Faults { short: 2, ..Faults::default() });
    for _ in 0..20 {
        assert_eq!(after_power_loss(&machine), 30);
    }
}

/// A sync that fails where a segment ends counts like any other: nothing is acknowledged after it. Of the file and the
/// folder it may be any, and the records before what a loss of power leaves are there, too.
#[test]
fn a_sync_that_fails_where_a_segment_ends() {
    let mut refused = 0;
    for seed in 0..4 * SEEDS {
        let machine = Machine::new(seed);
        let process = machine.start().unwrap();
        let acknowledged = process.block_on(async {
            let mut producer = producer(&process).await.unwrap();
            let mut number = 0;
            machine.set_faults(Faults { sync: 1 + seed % 4, ..Faults::default() });
            while append_unsynced(&mut *producer, number).await.is_ok() {
                number += 1;
            }
            assert!(number > 3);
            machine.set_faults(Faults::default());
            let again = append_unsynced(&mut *producer, number).await;
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
    // Else it was the file of the clock, beside which nothing of the partition is in doubt: that append failed, and no more.
    assert!(refused > 3 * SEEDS, "{refused}");
}

/// What goes only behind a sync of the folder stays where that fails, and nothing is acknowledged any more.
#[test]
fn a_sync_that_fails_while_old_records_go() {
    let mut refused = 0;
    for seed in 0..SEEDS {
        let machine = Machine::new(seed);
        let process = machine.start().unwrap();
        let count = 300;
        process.block_on(async {
            let log = open(&process).unwrap();
            let settings = TopicSettings::parse(["segment_bytes=4096", "retention_bytes=4096"]).unwrap();
            log.create_topic(&TopicSpec { settings, ..TopicSpec::new("t", 1) }).await.unwrap();
            let mut producer = log.producer(ProducerId::named("steps")).await.unwrap();
            for number in 0..count {
                append_unsynced(&mut *producer, number).await.unwrap();
            }
            producer.flush().await.unwrap();
            machine.set_faults(Faults { sync: 3, ..Faults::default() });
            let cleaned = log.clean(&place(), false).await;
            machine.set_faults(Faults::default());
            if append_unsynced(&mut *producer, count).await.is_err() {
                refused += 1;
                assert!(cleaned.is_err(), "seed {seed}");
                // Another try proves nothing.
                assert!(log.clean(&place(), false).await.is_err(), "seed {seed}");
            }
        });
        drop(process);
        machine.lose_power();
        let process = machine.start().unwrap();
        let log = open(&process).unwrap();
        let start = log.offsets(&place()).unwrap().start;
        let have = numbers(&log, 0).unwrap();
        assert!(have.iter().copied().eq(start..start + have.len() as u64), "seed {seed}: from {start} on {have:?}");
        assert!(start + have.len() as u64 >= count, "seed {seed}: from {start} on {have:?}");
    }
    assert!(refused > SEEDS / 10, "{refused} were closed");
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
                append_unsynced(&mut *producer, number).await.unwrap();
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

/// A `topic.json` whose folder could not be synced is put back as it was, and both hold after a loss of power.
#[test]
fn a_sync_that_fails_while_a_topic_is_changed() {
    let (mut failed, mut kept) = (0, 0);
    for seed in 0..4 * SEEDS {
        let machine = Machine::new(seed);
        let process = machine.start().unwrap();
        let settings = TopicSettings::parse(["retention_ms=7d"]).unwrap();
        process.block_on(async {
            let log = open(&process).unwrap();
            log.create_topic(&TopicSpec::new("t", 1)).await.unwrap();
            machine.set_faults(Faults { sync: 2, ..Faults::default() });
            let set = log.set_topic("t", &settings).await;
            machine.set_faults(Faults::default());
            let now = log.topic("t").unwrap().spec.settings;
            failed += u64::from(set.is_err());
            assert!(set.is_err() || now == settings, "seed {seed}");
        });
        machine.lose_power();
        let process = machine.start().unwrap();
        let topic = open(&process).and_then(|log| log.topic("t"));
        let Ok(topic) = topic else { panic!("seed {seed}: {topic:?}") };
        kept += u64::from(topic.spec.settings == settings);
        assert!([settings, TopicSettings::default()].contains(&topic.spec.settings), "seed {seed}");
    }
    assert!(failed > SEEDS && kept > SEEDS / 2, "{failed} failed, {kept} were kept");
}

/// A topic whose creation failed because its folder could not be synced is taken back: whatever a loss of power leaves of
/// that, it is there whole or not at all.
#[test]
fn a_sync_that_fails_while_a_topic_is_created() {
    let mut failed = 0;
    for seed in 0..4 * SEEDS {
        let machine = Machine::new(seed);
        let process = machine.start().unwrap();
        let log = open(&process).unwrap();
        machine.set_faults(Faults { sync: 3, ..Faults::default() });
        let made = process.block_on(log.create_topic(&TopicSpec::new("t", 1)));
        machine.set_faults(Faults::default());
        failed += u64::from(made.is_err());
        drop((log, process));
        if seed % 2 == 0 {
            // Somebody tidies up meanwhile.
            let process = machine.start().unwrap();
            open(&process).unwrap();
        }
        machine.lose_power();
        let process = machine.start().unwrap();
        let log = open(&process).unwrap();
        let there = process.block_on(log.topics()).unwrap().len();
        assert!(made.is_err() || there == 1, "seed {seed}");
        let again = process.block_on(producer(&process)).map(drop);
        assert!(again.is_ok(), "seed {seed}: {again:?}");
    }
    assert!(failed > SEEDS, "{failed}");
}

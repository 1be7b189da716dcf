//! The log beside plain writes and plain syncs of the same bytes.

use std::collections::BTreeSet;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use gretchen::backend::log::{Durability, LogBackend};
use gretchen::backend::{Backend, ProducerId, Replay};
use gretchen::prelude::*;
use gretchen::record::FrameBuilder;
use gretchen::topic::{TopicPartition, TopicSpec};

use crate::measure::spread;

const RECORD_BYTES: usize = 64;
const BATCH: u64 = 1_000;
/// Syncs by which a sync is measured.
const SYNCS: usize = 31;

/// How appends are measured.
#[derive(Debug, clap::Args)]
pub(crate) struct AppendArguments {
    /// Records in a round, in batches of 1,000.
    #[arg(long, default_value_t = 10_000_000)]
    records: u64,
    /// Rounds.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
}

/// How sends are measured.
#[derive(Debug, clap::Args)]
pub(crate) struct SendArguments {
    /// Messages that are on their way at once.
    #[arg(long, default_value_t = 5_000)]
    messages: usize,
    /// Rounds.
    #[arg(long, default_value_t = 7)]
    rounds: usize,
}

/// Appends to a log that waits for the operating system, and writes of the same bytes to a file.
pub(crate) fn append(arguments: &AppendArguments) -> Result<()> {
    crate::measure::pin(1)?;
    let clock = Clock::system();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let (mut appends, mut writes) = (Vec::new(), Vec::new());
    for round in 0..=arguments.rounds {
        let folder = tempfile::tempdir()?;
        let began = clock.moment();
        let bytes = runtime.block_on(append_all(folder.path(), arguments.records / BATCH))?;
        let appended = clock.moment().since(began).as_secs_f64();
        drop(folder);

        let folder = tempfile::tempdir()?;
        let began = clock.moment();
        write_all(folder.path(), arguments.records / BATCH, bytes)?;
        let written = clock.moment().since(began).as_secs_f64();
        if round > 0 {
            appends.push(appended);
            writes.push(written);
        }
    }
    let ratio = spread(writes.iter().zip(&appends).map(|(write, append)| write / append));
    let (append, write) = (spread(appends).1, spread(writes).1);
    println!(
        "{} records of {RECORD_BYTES} bytes in batches of {BATCH}, durability os, one core, medians of {} rounds\n\
         append  {:6.1} M records/s\npwrite  {:6.1} M records/s of the same bytes\nratio   {:.2} ({:.2} to {:.2})",
        arguments.records,
        arguments.rounds,
        1e-6 * arguments.records as f64 / append,
        1e-6 * arguments.records as f64 / write,
        ratio.1,
        ratio.0,
        ratio.2
    );
    Ok(())
}

/// Returns the size of a batch on the disk.
async fn append_all(folder: &Path, batches: u64) -> Result<usize> {
    let options = LogOptions { durability: Durability::Os, ..LogOptions::new(folder) };
    let log = LogBackend::open(options, Clock::system())?;
    log.create_topic(&TopicSpec::new("records", 1)).await?;
    let place = TopicPartition::new("records", 0);
    let mut producer = log.producer(ProducerId::ANONYMOUS).await?;
    let mut frame = FrameBuilder::new();
    let mut record = [0_u8; RECORD_BYTES];
    let mut bytes = 0;
    for batch in 0..batches {
        frame.clear();
        for number in batch * BATCH..(batch + 1) * BATCH {
            record[..8].copy_from_slice(&number.to_le_bytes());
            frame.push(None, Some(&record), 0);
        }
        bytes = frame.len();
        producer.append(&place, &mut frame, None).await?;
    }
    producer.flush().await?;
    let end = log.replay().ok_or("the log can be read again")?.offsets(&place)?.end;
    if end != batches * BATCH {
        return Err(format!("{end} of {} records were appended", batches * BATCH).into());
    }
    Ok(bytes)
}

fn write_all(folder: &Path, batches: u64, bytes: usize) -> Result<()> {
    let file = File::create(folder.join("plain"))?;
    let buffer = vec![7_u8; bytes];
    for batch in 0..batches {
        file.write_all_at(&buffer, batch * bytes as u64)?;
    }
    Ok(())
}

/// Messages that are sent at once by as many producers, each of which waits until its own is durable.
pub(crate) fn send(arguments: &SendArguments) -> Result<()> {
    let clock = Clock::system();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let folder = tempfile::tempdir()?;
    let log = runtime.block_on(async {
        let log = LogBackend::open(LogOptions::new(folder.path()), clock.clone())?;
        log.create_topic(&TopicSpec::new("messages", 1)).await?;
        Ok::<_, BoxError>(Arc::new(log))
    })?;
    let replay = log.replay().ok_or("the log can be read again")?;
    let (mut rounds, mut counts, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..=arguments.rounds {
        let sync = sync_time(folder.path(), &clock)?;
        let began = clock.moment();
        let syncs = runtime.block_on(send_all(&log, &replay, arguments.messages))?;
        let took = clock.moment().since(began).as_secs_f64();
        if round > 0 {
            rounds.push(took);
            counts.push(syncs as f64);
            ratios.push(took / sync);
        }
        println!(
            "{} messages: {:6.2} ms, {syncs} syncs; one sync of a small file {:.2} ms",
            arguments.messages,
            took * 1e3,
            sync * 1e3
        );
    }
    println!(
        "median {:.2} ms, {:.0} syncs, {:.2} times a sync ({:.2} to {:.2})",
        spread(rounds).1 * 1e3,
        spread(counts).1,
        spread(ratios.clone()).1,
        spread(ratios.clone()).0,
        spread(ratios).2
    );
    Ok(())
}

/// Returns after how many syncs all were durable: each one raises the offset up to which records are.
async fn send_all(log: &Arc<LogBackend>, replay: &Arc<dyn Replay>, messages: usize) -> Result<usize> {
    let mut senders = Vec::with_capacity(messages);
    for number in 0..messages {
        let (log, replay) = (log.clone(), replay.clone());
        senders.push(tokio::spawn(async move {
            let place = TopicPartition::new("messages", 0);
            let mut producer = log.producer(ProducerId::ANONYMOUS).await?;
            let mut frame = FrameBuilder::new();
            frame.push(None, Some(format!("message {number:06}").as_bytes()), 0);
            let appended = producer.append(&place, &mut frame, None).await?;
            producer.flush().await?;
            let durable = replay.offsets(&place)?.durable;
            if durable <= appended.base_offset {
                return Err("a message is not durable though its sender was told so".into());
            }
            Ok::<u64, BoxError>(durable)
        }));
    }
    let mut durable = BTreeSet::new();
    for sender in senders {
        durable.insert(sender.await??);
    }
    Ok(durable.len())
}

/// The median time of an `fdatasync` of a file that grew by a block.
pub(crate) fn sync_time(folder: &Path, clock: &Clock) -> Result<f64> {
    let file = File::create(folder.join("plain"))?;
    let mut times = Vec::new();
    for at in 0..SYNCS {
        file.write_all_at(&[7; 4_096], 4_096 * at as u64)?;
        let began = clock.moment();
        file.sync_data()?;
        times.push(clock.moment().since(began).as_secs_f64());
    }
    Ok(spread(times).1)
}

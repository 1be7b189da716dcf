//! What a compaction of many keys takes: time, and memory at its peak.

use std::path::Path;
use std::process::Command;

use gretchen::backend::log::{Durability, LogBackend};
use gretchen::backend::{Backend, ProducerId, Replay};
use gretchen::prelude::*;
use gretchen::record::FrameBuilder;
use gretchen::topic::{TopicPartition, TopicSpec};

/// Bytes of a frame, as publishers and commits make them.
const FRAME_BYTES: usize = 256 << 10;

/// What is compacted.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Keys, each of which comes twice.
    #[arg(long, default_value_t = 4_000_000)]
    keys: u64,
    /// Settings of `compaction_memory_mb` that are compared.
    #[arg(long, value_delimiter = ',', default_values_t = [32, 128, 512])]
    memory_mb: Vec<usize>,
}

fn log(folder: &Path, memory_mb: usize) -> LogOptions {
    LogOptions { durability: Durability::Os, compaction_memory_bytes: memory_mb << 20, ..LogOptions::new(folder) }
}

fn place() -> TopicPartition {
    TopicPartition::new("states", 0)
}

/// Fills a topic and lets a process of its own compact it, with each amount of memory.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    for memory_mb in &arguments.memory_mb {
        let folder = tempfile::tempdir()?;
        runtime.block_on(fill(&log(folder.path(), *memory_mb), arguments.keys))?;
        let status = Command::new(std::env::current_exe()?)
            .args(["compactor", &memory_mb.to_string()])
            .arg(folder.path())
            .status()?;
        if !status.success() {
            return Err(format!("the compaction ended with {status}").into());
        }
    }
    Ok(())
}

/// Every key twice, with a value of the size of a small state.
async fn fill(options: &LogOptions, keys: u64) -> Result<()> {
    let backend = LogBackend::open(options.clone(), Clock::system())?;
    let settings = TopicSettings::parse(["cleanup=compact"])?;
    backend.create_topic(&TopicSpec { settings, ..TopicSpec::new("states", 1) }).await?;
    let mut producer = backend.producer(ProducerId::ANONYMOUS).await?;
    let mut frame = FrameBuilder::new();
    for number in 0..2 * keys {
        let key = format!("C{:07}", number % keys);
        frame.push(Some(key.as_bytes()), Some(&[7; 40]), 0);
        if frame.len() >= FRAME_BYTES || number + 1 == 2 * keys {
            producer.append(&place(), &mut frame, None).await?;
            frame.clear();
        }
    }
    backend.sync(&place(), 2 * keys).await?;
    Ok(())
}

/// The process whose memory is measured: it compacts until nothing is left to do.
pub(crate) fn compactor(memory_mb: usize, folder: &Path) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let clock = Clock::system();
    let (began, before) = (clock.moment(), peak_kib()?);
    let (mut gone, mut passes) = (0, 0);
    let partition = folder.join("topics/states/0");
    runtime.block_on(async {
        let backend = LogBackend::open(log(folder, memory_mb), clock.clone())?;
        loop {
            let cleaned = backend.clean(&place(), true).await?;
            gone += cleaned.compacted_records;
            passes += 1;
            // The one that is written stays as it is.
            if appended(&partition)? <= 1 {
                return Ok::<(), gretchen::error::BoxError>(());
            }
        }
    })?;
    println!(
        "compaction_memory_mb = {memory_mb}: {gone} records went in {:.1} s and {passes} passes; peak {} MiB, {} before",
        clock.moment().since(began).as_secs_f64(),
        peak_kib()? >> 10,
        before >> 10
    );
    Ok(())
}

/// Segments that were not compacted yet.
fn appended(partition: &Path) -> std::io::Result<usize> {
    let names = std::fs::read_dir(partition)?.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()));
    let names = names.collect::<std::io::Result<Vec<String>>>()?;
    Ok(names.iter().filter(|name| name.ends_with(".log") && !name.contains('-')).count())
}

/// The most memory that this process has had.
fn peak_kib() -> Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).ok_or("the kernel tells no peak")?;
    Ok(line.trim().trim_end_matches(" kB").parse()?)
}

//! The aggregation in each of its forms beside the loop that one would write by hand, and the log beside plain writes.
//!
//! `cargo run --release --example benchmark -- aggregate` is the main contest; `--help` names the others. The
//! contestants take turns, so that a machine that changes its speed changes it for all, each in a process of its own.
//! Every contestant's totals are compared.

mod agents;
mod aggregate;
mod by_hand;
mod compact;
mod contestants;
mod cores;
mod idle;
mod instructions;
#[cfg(feature = "kafka")]
mod kafka;
#[cfg(feature = "kafka")]
mod kafka_loop;
mod latency;
mod log;
mod measure;
#[cfg(all(feature = "kafka", feature = "rocksdb"))]
mod peers;
mod probe;
mod restart;
mod worker;
mod workload;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use gretchen::prelude::Result;

gretchen::records!("schemas/sale.avsc", "schemas/sale_total.avsc");

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// How fast it is, beside what could be.
#[derive(Debug, Parser)]
struct Arguments {
    #[command(subcommand)]
    contest: Contest,
}

#[derive(Debug, Subcommand)]
enum Contest {
    /// The figures of each customer: limits, loops by hand, and each form of agent.
    Aggregate(aggregate::Arguments),
    /// Appends of 64-byte records beside plain writes of the same bytes.
    Append(log::AppendArguments),
    /// Small records sent concurrently, each awaited to be durable.
    Send(log::SendArguments),
    /// A restart after a kill with a large table, and the table's rebuilding from its changelog.
    Restart(restart::Arguments),
    /// From the moment at which a sale is due to that at which its total can be read, at parts of the most that is possible.
    Latency(latency::Arguments),
    /// Two cores against one, beside what plain busy loops gain.
    Cores(cores::Arguments),
    /// A worker with many partitions and nothing to do.
    Idle(idle::Arguments),
    /// Instructions of each form for a record, counted by valgrind, against their bounds.
    Instructions,
    /// A compaction of many keys: time, and memory at its peak.
    Compact(compact::Arguments),
    /// The forms of agent on the log beside Kafka Streams, Quix Streams and Faust on a real Kafka, and a get and a put of RocksDB.
    #[cfg(all(feature = "kafka", feature = "rocksdb"))]
    Peers(peers::Arguments),
    /// The declared aggregation on a real Kafka, beside Kafka Streams and loops by hand over the same client.
    #[cfg(feature = "kafka")]
    Kafka(kafka::Arguments),
    /// Publishes sales into a folder and keeps it, for runs under a profiler.
    Publish {
        folder: PathBuf,
        #[command(flatten)]
        workload: workload::Workload,
    },
    /// One contestant's run over such a folder, in this process.
    Contestant {
        contestant: contestants::Contestant,
        folder: PathBuf,
        partitions: u32,
        #[command(flatten)]
        options: contestants::Options,
    },
    /// The worker that `latency` and `idle` look at.
    #[command(hide = true)]
    Worker { folder: PathBuf, partitions: u32 },
    /// The worker that `restart` kills.
    #[command(hide = true)]
    Victim { folder: PathBuf, checkpoint_ms: u64 },
    /// A contestant of `kafka`.
    #[cfg(feature = "kafka")]
    #[command(hide = true)]
    OnKafka(kafka::Run),
    /// The process that `compact` measures.
    #[command(hide = true)]
    Compactor { memory_mb: usize, folder: PathBuf },
}

fn main() -> ExitCode {
    match run(Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: Arguments) -> Result<()> {
    match arguments.contest {
        Contest::Aggregate(arguments) => aggregate::run(&arguments),
        Contest::Append(arguments) => log::append(&arguments),
        Contest::Send(arguments) => log::send(&arguments),
        Contest::Restart(arguments) => restart::run(&arguments),
        Contest::Latency(arguments) => latency::run(&arguments),
        Contest::Cores(arguments) => cores::run(&arguments),
        Contest::Idle(arguments) => idle::run(&arguments),
        Contest::Worker { folder, partitions } => worker::run(&folder, partitions),
        Contest::Instructions => instructions::run(),
        Contest::Compact(arguments) => compact::run(&arguments),
        Contest::Compactor { memory_mb, folder } => compact::compactor(memory_mb, &folder),
        #[cfg(feature = "kafka")]
        Contest::Kafka(arguments) => kafka::run(&arguments),
        #[cfg(all(feature = "kafka", feature = "rocksdb"))]
        Contest::Peers(arguments) => peers::run(&arguments),
        #[cfg(feature = "kafka")]
        Contest::OnKafka(run) => run.here(),
        Contest::Publish { folder, workload } => workload.publish(&folder),
        Contest::Victim { folder, checkpoint_ms } => restart::victim(&folder, checkpoint_ms),
        Contest::Contestant { contestant, folder, partitions, options } => {
            measure::pin(options.cores)?;
            let outcome = contestant.run(&folder, partitions, &options)?;
            println!("{}", serde_json::to_string(&outcome)?);
            Ok(())
        }
    }
}

//! The contestants, each in a process of its own.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use gretchen::agent::Agent;
use gretchen::backend::log::LogBackend;
use gretchen::backend::{Backend, Replay};
use gretchen::plan::Plan;
use gretchen::prelude::*;
use gretchen::table::TableState;
use gretchen::topic::TopicPartition;
use gretchen::worker::{self, WorkerOptions};
use tokio::sync::{mpsc, watch};

use crate::agents::{
    BY_RECORD, BY_RETURN, BY_STREAM, BY_VIEW, DECLARED, by_record, by_return, by_stream, by_view, declared,
};
use crate::bench::SaleTotal;
use crate::by_hand;
use crate::measure::{Outcome, Totals, longest_gap, parts, peak_bytes, written_bytes};
use crate::probe::{Notes, Probe};

/// Who takes part.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Contestant {
    /// Reads and checks the log, and does nothing with it.
    Read,
    /// The same, and decodes.
    Decode,
    /// The loop by hand, with the library's own check of UTF-8.
    Hand,
    /// The loop by hand, with the cheapest check.
    HandQuick,
    /// The declared aggregation.
    Declared,
    /// A stream of borrowed views.
    View,
    /// A stream of owned records.
    Stream,
    /// A call a record.
    Record,
    /// A call a record that puts out a record each time.
    Returned,
    /// A get and a put of RocksDB for each record.
    #[cfg(feature = "rocksdb")]
    Rocks,
}

impl Contestant {
    /// For people.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Read => "read and checksum alone",
            Self::Decode => "read, checksum, decode",
            Self::Hand => "loop by hand",
            Self::HandQuick => "loop by hand, quick check",
            Self::Declared => "declared aggregation",
            Self::View => "stream of views",
            Self::Stream => "stream of records",
            Self::Record => "call a record",
            Self::Returned => "call and output a record",
            #[cfg(feature = "rocksdb")]
            Self::Rocks => "RocksDB get and put",
        }
    }

    /// Runs in this process.
    pub(crate) fn run(self, folder: &Path, partitions: u32, options: &Options) -> Result<Outcome> {
        let outcome = match self {
            Self::Read => by_hand::read(folder, partitions),
            Self::Decode => by_hand::decode(folder, partitions),
            Self::Hand => by_hand::fold(folder, partitions, by_hand::std_check),
            Self::HandQuick => by_hand::fold(folder, partitions, by_hand::quick_check),
            Self::Declared => run::<declared, _>(folder, partitions, options, "declared", &DECLARED),
            Self::View => run::<by_view, _>(folder, partitions, options, "by-view", &BY_VIEW),
            Self::Stream => run::<by_stream, _>(folder, partitions, options, "by-stream", &BY_STREAM),
            Self::Record => run::<by_record, _>(folder, partitions, options, "by-record", &BY_RECORD),
            Self::Returned => run::<by_return, _>(folder, partitions, options, "by-return", &BY_RETURN),
            #[cfg(feature = "rocksdb")]
            Self::Rocks => by_hand::rocks(folder, partitions),
        }?;
        Ok(Outcome { peak_bytes: outcome.peak_bytes.max(peak_bytes()?), ..outcome })
    }
}

/// How the worker is set.
#[derive(Clone, Copy, Debug, clap::Args)]
pub(crate) struct Options {
    /// Time from one commit to the next.
    #[arg(long, value_name = "MS", default_value_t = 100)]
    pub(crate) commit_interval_ms: u64,
    /// Time from one checkpoint to the next.
    #[arg(long, value_name = "MS", default_value_t = 10_000)]
    pub(crate) checkpoint_interval_ms: u64,
    /// Memory of one table partition.
    #[arg(long, value_name = "MIB", default_value_t = 512)]
    pub(crate) table_memory_mib: usize,
    /// Cores for agents, syncs and checkpoints together.
    #[arg(long, default_value_t = 1)]
    pub(crate) cores: usize,
    /// How often to ask whether everything is done.
    #[arg(long, value_name = "MS", default_value_t = 1)]
    pub(crate) ask_every_ms: u64,
    /// Commits wait for the operating system only, not for the disk.
    #[arg(long)]
    pub(crate) os: bool,
}

impl Options {
    /// Opens the log as they say.
    pub(crate) fn log(&self, folder: &Path) -> LogOptions {
        let mut log = LogOptions::new(folder);
        if self.os {
            log.durability = gretchen::backend::log::Durability::Os;
        }
        log
    }

    pub(crate) fn worker(&self, state: &Path) -> WorkerOptions {
        WorkerOptions {
            state_dir: Some(state.to_owned()),
            commit_interval: Duration::from_millis(self.commit_interval_ms),
            checkpoint_interval: Duration::from_millis(self.checkpoint_interval_ms),
            threads: self.cores,
            table_memory_bytes: self.table_memory_mib << 20,
            ..WorkerOptions::default()
        }
    }
}

/// Lets an agent process everything, from the first record until the last one's output is visible, and cleans up.
fn run<A: Agent, S: TableState<String, SaleTotal>>(
    folder: &Path,
    partitions: u32,
    options: &Options,
    name: &str,
    table: &'static Table<String, SaleTotal, S>,
) -> Result<Outcome> {
    let clock = Clock::system();
    let notes = Notes::new(&clock);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    // A name of its own, so that no run goes on where one before ended.
    let own = format!("{name}-{}", std::process::id());
    let (changelog, output) = (format!("{own}-{}-changelog", A::DEF.name), format!("{name}-totals"));
    let app = App::new(own).agent::<A>();
    // Where a session looks for it, too.
    let state = folder.join("state").join(app.name());
    let (written_before, mut outcome) = (written_bytes()?, Outcome::default());
    runtime.block_on(async {
        let log: Arc<dyn Backend> = Arc::new(LogBackend::open(options.log(folder), clock.clone())?);
        let backend: Arc<dyn Backend> = Arc::new(Probe::new("sales", notes.clone(), log.clone()));
        let plan = Plan::make(app.name(), &app.agents(), &*backend, partitions).await?;
        notes.note(0);
        let (stop, stopped) = watch::channel(false);
        let (events, mut failed) = mpsc::unbounded_channel();
        let work = worker::run(&plan, backend.clone(), options.worker(&state), clock.clone(), stopped, events);
        tokio::pin!(work);
        let mut ended = None;
        loop {
            tokio::select! {
                summary = &mut work => { summary?; break; }
                Some(event) = failed.recv() => if let worker::WorkerEvent::Failed { error, .. } = event { return Err(error.into()); },
                () = clock.sleep(Duration::from_millis(options.ask_every_ms)), if ended.is_none() => {
                    if worker::caught_up(&plan, &*log)? {
                        notes.note(0);
                        ended = Some(clock.moment());
                        let _ = stop.send(true);
                    }
                }
            }
        }
        outcome.closing_s = ended.map_or(0.0, |ended| clock.moment().since(ended).as_secs_f64());
        let replay = log.replay().ok_or("the log can be read again")?;
        outcome.put_out = records_in(&*replay, &output, partitions)?;
        Ok::<(), BoxError>(())
    })?;
    let samples = notes.samples();
    let (first, warm) = parts(&samples).ok_or("there are no records")?;
    // The first sample is the start, before the agent is opened; the last is the end, behind the last commit.
    let reads = &samples[1..samples.len() - 1];
    outcome = Outcome { first, warm, longest_gap_s: longest_gap(reads), ..outcome };
    (outcome.peak_bytes, outcome.written_bytes) = (peak_bytes()?, written_bytes()? - written_before);

    let session = Session::open(app, options.log(folder), partitions)?;
    let rows = session.table(table)?.into_iter();
    outcome.totals = Some(Totals::of(
        rows.map(|(customer, total)| (customer, total.sales, [total.revenue, total.smallest, total.largest])),
    ));
    drop(session);
    runtime.block_on(async {
        let log = LogBackend::open(options.log(folder), clock.clone())?;
        let replay = log.replay().ok_or("the log can be read again")?;
        replay.delete_topic(&changelog).await?;
        replay.delete_topic(&output).await?;
        Ok::<(), BoxError>(())
    })?;
    std::fs::remove_dir_all(&state)?;
    Ok(outcome)
}

/// How many records a topic has.
pub(crate) fn records_in(replay: &dyn Replay, topic: &str, partitions: u32) -> Result<u64> {
    let ends = (0..partitions).map(|partition| Ok(replay.offsets(&TopicPartition::new(topic, partition))?.end));
    ends.sum()
}

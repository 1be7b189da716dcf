//! A worker: the one place that sees backends, agents and tables together.
//!
//! [`partition`](self) holds the path of a record, `commit` the one commit, `recovery` what a start does,
//! `assignment` who owns which partition.

mod assignment;
mod beginning;
mod checkpoints;
mod cleaning;
mod commit;
mod commits;
mod failure;
mod following;
mod lookout;
mod mark;
mod outgoing;
mod pace;
mod partition;
mod pool;
mod position_file;
mod recovery;
mod setup;
mod standby;
mod standbys;
mod tail;
mod takeover;
mod transaction;
mod view;
mod wakes;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};

pub(crate) use beginning::begin_at;
pub(crate) use cleaning::clean_changelog;
pub(crate) use mark::Mark;
pub(crate) use partition::{Context, Signals, TaskRun};
pub(crate) use pool::Pool;
pub(crate) use position_file::PositionFile;
pub use recovery::Recovered;
pub(crate) use tail::{CommitVisitor, walk};
pub use view::table_view;

use crate::backend::{AssignmentSet, Backend, Offsets, Owner};
use crate::clock::Clock;
use crate::disk::Disk;
use crate::error::{Error, ErrorKind, Result};
use crate::plan::Plan;
use crate::table::{DEFAULT_STORE_BYTES, DEFAULT_STORE_FILES, MemoryStores};
use crate::topic::TopicPartition;

/// How a worker works.
#[derive(Clone, Debug)]
pub struct WorkerOptions {
    /// The file system that `state_dir` is on: the machine's own, unless a test simulates one.
    pub disk: Disk,
    /// Where tables are kept; `None` keeps them in memory.
    pub state_dir: Option<PathBuf>,
    /// Keeps tables of a worker without `state_dir` over a restart within the process.
    pub memory_stores: MemoryStores,
    /// Time from one commit to the next while records flow.
    pub commit_interval: Duration,
    /// Time from one checkpoint of the tables to the next.
    pub checkpoint_interval: Duration,
    /// Changelog records of a partition after which a checkpoint begins before its time: the next start replays few more.
    pub checkpoint_records: u64,
    /// Time from one look for records that may go to the next.
    pub clean_interval: Duration,
    /// Threads that agents run on; a partition belongs to one.
    pub threads: usize,
    /// Memory of one table partition, in bytes.
    pub table_memory_bytes: usize,
    /// Bytes that a partition may put out before it commits early. As many wait beside them until they are moved.
    pub output_memory_bytes: usize,
    /// Memory of what all stores on disk together have read. The first worker of the process decides.
    pub store_memory_bytes: usize,
    /// Files that each store of a table has open at once; at least 32.
    pub store_open_files: u32,
    /// Batches, each of as much as is read at once, whose records an agent with `concurrency` works on at once, at least one.
    pub concurrent_batches: usize,
    /// Time that agents get to finish their records when the worker stops.
    pub stop_timeout: Duration,
    /// Workers that keep a warm copy of each partition's tables beside the one at work on it, where the backend has that.
    pub standby: u32,
    /// Time for which a partition is opened anew, again and again, where brokers do not answer. Then it stops with an error.
    pub give_up_after: Duration,
}

impl Default for WorkerOptions {
    fn default() -> Self {
        Self {
            disk: Disk::system(),
            state_dir: None,
            memory_stores: MemoryStores::default(),
            commit_interval: Duration::from_millis(100),
            checkpoint_interval: Duration::from_secs(10),
            checkpoint_records: 8 << 20,
            clean_interval: Duration::from_secs(60),
            threads: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
            table_memory_bytes: 256 << 20,
            output_memory_bytes: 64 << 20,
            store_memory_bytes: DEFAULT_STORE_BYTES,
            store_open_files: DEFAULT_STORE_FILES,
            concurrent_batches: 8,
            stop_timeout: Duration::from_secs(5),
            standby: 0,
            give_up_after: Duration::from_secs(600),
        }
    }
}

/// What a worker tells whoever runs it.
#[derive(Debug)]
#[non_exhaustive]
pub enum WorkerEvent {
    /// A partition has recovered and is at work.
    Started {
        /// The agent.
        agent: &'static str,
        /// The partition.
        partition: u32,
        /// What the recovery did.
        recovered: Recovered,
    },
    /// A partition is at work no more.
    Stopped {
        /// The agent.
        agent: &'static str,
        /// The partition.
        partition: u32,
    },
    /// There is no room left for a partition's commits or its state. It begins again at its last commit as soon as there
    /// is.
    Paused {
        /// The agent.
        agent: &'static str,
        /// The partition.
        partition: u32,
        /// What could not be written.
        error: Error,
    },
    /// An agent has been at one record for long. Its other partitions go on, and shutdown will not wait for it.
    Stuck {
        /// The agent.
        agent: &'static str,
        /// The topic of the record.
        topic: Arc<str>,
        /// The partition.
        partition: u32,
        /// The record's offset; of several that are worked on at once the oldest.
        offset: u64,
        /// For how long.
        time: Duration,
        /// Whether it keeps its thread meanwhile, so that all partitions of that thread wait with it.
        holds_thread: bool,
    },
    /// An agent has been at one record for so long that its worker has left the group, so that others take its partitions
    /// over. It joins again when the agent has come back.
    Left {
        /// The agent.
        agent: &'static str,
        /// The topic of the record.
        topic: Arc<str>,
        /// The partition.
        partition: u32,
        /// The record's offset.
        offset: u64,
        /// For how long it has been there.
        time: Duration,
    },
    /// A partition is kept from those who would work on it.
    Withheld {
        /// The agent.
        agent: &'static str,
        /// The partition.
        partition: u32,
        /// The process that holds it; `None` when a worker that should take it does not.
        owner: Option<Owner>,
        /// For how long.
        time: Duration,
    },
    /// What has become of the warm copy that this worker keeps of a partition's tables.
    Standby {
        /// The agent.
        agent: &'static str,
        /// The partition.
        partition: u32,
        /// How it stands.
        standing: Standing,
    },
    /// A partition has stopped at an error. It stays this worker's, so that no other fails on it in turn.
    Failed {
        /// The agent.
        agent: &'static str,
        /// The partition.
        partition: u32,
        /// Why.
        error: Error,
    },
    /// Every partition of an agent has been opened, or has failed, here or where it is at work: from then on nothing that
    /// is stored can turn out to be of another kind.
    Opened {
        /// The agent.
        agent: &'static str,
    },
    /// All partitions of an agent are caught up: nothing is left to read.
    CaughtUp,
}

/// How a standby stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It has begun.
    Opened {
        /// Changelog records that its stores cover.
        covered: u64,
        /// Those that they do not.
        behind: u64,
    },
    /// It has come to the end of the changelog, and follows it.
    CaughtUp,
    /// Its stores are closed: the partition is this worker's own now, or others keep the copy.
    Closed,
}

/// What a worker did.
#[derive(Clone, Copy, Debug, Default)]
pub struct Summary {
    /// Records that were finished.
    pub finished: u64,
    /// Partitions that stopped at an error.
    pub failed: usize,
    /// Partitions whose agents did not finish in time. They stay locked until the process ends, which should be soon.
    pub stuck: usize,
}

/// The set that a group's members share out: the partitions of the agent's topics, which belong together.
pub(crate) fn partition_set(agent: &crate::plan::AgentPlan) -> AssignmentSet {
    let topics = agent.sources.iter().map(|(topic, _)| topic.clone()).collect();
    AssignmentSet { name: "partitions".into(), partitions: agent.partitions, topics }
}

/// Runs the plan until `stop` turns to `true`, or until every partition has failed.
///
/// Must be called within a multi-threaded tokio runtime; agents run on threads of their own.
pub async fn run(
    plan: &Plan,
    backend: Arc<dyn Backend>,
    options: WorkerOptions,
    clock: Clock,
    stop: watch::Receiver<bool>,
    events: mpsc::UnboundedSender<WorkerEvent>,
) -> Result<Summary> {
    let pool = Pool::new(options.threads.max(1))?;
    run_on(pool, plan, backend, options, clock, stop, events).await
}

/// [`run`] with everything on the calling thread, in the `LocalSet` that it is called in.
pub(crate) async fn run_here(
    plan: &Plan,
    backend: Arc<dyn Backend>,
    options: WorkerOptions,
    clock: Clock,
    stop: watch::Receiver<bool>,
    events: mpsc::UnboundedSender<WorkerEvent>,
) -> Result<Summary> {
    run_on(Pool::here(), plan, backend, options, clock, stop, events).await
}

async fn run_on(
    pool: Pool,
    plan: &Plan,
    backend: Arc<dyn Backend>,
    options: WorkerOptions,
    clock: Clock,
    mut stop: watch::Receiver<bool>,
    events: mpsc::UnboundedSender<WorkerEvent>,
) -> Result<Summary> {
    let cleaning = cleaning::clean_topics(backend.clone(), clock.clone(), options.clean_interval);
    let _cleaning = Beside(tokio::spawn(cleaning));
    check_standbys(&*backend, &options)?;
    let mut members = Vec::new();
    let standbys = standby::StandbyThread::default();
    for agent in &plan.agents {
        let (backend, options) = (backend.clone(), options.clone());
        members.push(
            assignment::Member::join(agent.clone(), backend, options, clock.clone(), pool.clone(), standbys.clone())
                .await?,
        );
    }
    let (done, mut ended) = mpsc::unbounded_channel();
    let mut left = members.len();
    // One for each: a channel with several receivers wakes them in a random order, which a simulation could not repeat.
    let mut stops = Vec::new();
    for member in members {
        let (events, done) = (events.clone(), done.clone());
        let (stop, stopped) = watch::channel(*stop.borrow());
        stops.push(stop);
        tokio::spawn(async move {
            let _ = done.send(member.run(stopped, events).await);
        });
    }
    drop(done);
    let mut summary = Summary::default();
    while left > 0 {
        tokio::select! {
            biased;
            one = ended.recv() => {
                let one = one.ok_or_else(|| Error::new(ErrorKind::Closed, "the worker was ended with its runtime"))??;
                summary.finished += one.finished;
                summary.failed += one.failed;
                summary.stuck += one.stuck;
                left -= 1;
            }
            changed = stop.changed(), if !stops.is_empty() => match changed {
                Ok(()) => {
                    let now = *stop.borrow_and_update();
                    // Who has ended does not listen.
                    for stop in &stops {
                        let _ = stop.send(now);
                    }
                }
                Err(_) => stops.clear(),
            },
        }
    }
    Ok(summary)
}

/// Refuses standbys where there are none.
fn check_standbys(backend: &dyn Backend, options: &WorkerOptions) -> Result<()> {
    let why = if options.standby == 0 {
        return Ok(());
    } else if !backend.capabilities().standbys {
        "workers on one folder need none: whoever takes a partition over opens the tables that the worker before has left. \
         Set standby = 0, or use kafka://"
    } else if options.state_dir.is_none() || !cfg!(feature = "rocksdb") {
        "tables in memory have no copies that a worker could keep. Set standby = 0, or keep them in a folder, with the feature rocksdb"
    } else {
        return Ok(());
    };
    Err(Error::new(ErrorKind::Config, format!("standby is {}, and {why}", options.standby)))
}

/// Work that ends with whoever wants it.
struct Beside(tokio::task::JoinHandle<()>);

impl Drop for Beside {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// How many looks in a row must find everything processed. Where commits are transactions, positions may be seen a moment
/// before what was committed with them.
pub(crate) fn looks_to_be_sure(backend: &dyn Backend) -> u32 {
    if backend.capabilities().transactions { 5 } else { 1 }
}

/// Whether everything in the agents' topics has been processed and committed, the outputs of one agent that are the
/// input of another included.
///
/// It says nothing of whether a partition can be opened: who wants to know waits for [`WorkerEvent::Opened`], too.
pub fn caught_up(plan: &Plan, backend: &dyn Backend) -> Result<bool> {
    let Some(replay) = backend.replay() else { return Ok(false) };
    let mut ends = Vec::new();
    for agent in &plan.agents {
        for (topic, _) in &agent.sources {
            for partition in 0..agent.partitions {
                let place = TopicPartition::new(topic.clone(), partition);
                let Offsets { start, end, .. } = replay.offsets(&place)?;
                // Records that are gone are not waited for.
                if end > replay.position(&agent.group, &place)?.unwrap_or(0).max(start) {
                    return Ok(false);
                }
                ends.push((place, end));
            }
        }
    }
    // An agent that was looked at late may have put something out for one that was looked at early. Positions are
    // published after outputs are moved, so if no end has moved since, there was a moment when nothing was left.
    for (place, end) in ends {
        if replay.offsets(&place)?.end != end {
            return Ok(false);
        }
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::memory::MemoryBackend;

    #[test]
    fn standbys_are_refused_where_nobody_could_keep_any() {
        let backend = MemoryBackend::new(Clock::system());
        let options = |standby| WorkerOptions { standby, ..WorkerOptions::default() };
        assert!(check_standbys(&backend, &options(0)).is_ok());
        let error = check_standbys(&backend, &options(2)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config);
        assert!(error.message().starts_with("standby is 2, and workers on one folder need none"), "{error}");
    }
}

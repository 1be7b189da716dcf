//! A simulated machine: processes, files and a clock, on one thread, all decided by one seed.
//!
//! The log and the worker run on it as they are: only the file system below them is another, behind
//! [`Disk`]. It keeps what the page cache holds apart from what the disk has, so that a loss of power
//! leaves any part of what was not synced, of files sector by sector, of names one by one. Calls may fail, and a process
//! may end in the middle of any call. The same seed and the same program make the same calls.
//!
//! ```
//! use gretchen::backend::log::{LogBackend, LogOptions};
//! use gretchen::backend::{Backend, ProducerId, Replay};
//! use gretchen::record::FrameBuilder;
//! use gretchen::testing::sim::Machine;
//! use gretchen::topic::{TopicPartition, TopicSpec};
//!
//! let machine = Machine::new(7);
//! let orders = TopicPartition::new("orders", 0);
//! let open = |process: &gretchen::testing::sim::Process| {
//!     LogBackend::open(LogOptions { disk: process.disk(), ..LogOptions::new("/data") }, process.clock())
//! };
//!
//! let process = machine.start()?;
//! let log = open(&process)?;
//! process.block_on(async {
//!     log.create_topic(&TopicSpec::new("orders", 1)).await?;
//!     let mut producer = log.producer(ProducerId::ANONYMOUS).await?;
//!     let mut frame = FrameBuilder::new();
//!     frame.push(None, Some(b"an order"), 0);
//!     producer.append(&orders, &mut frame, None).await?;
//!     producer.flush().await
//! })?;
//! machine.lose_power();
//! assert!(process.has_ended());
//!
//! let process = machine.start()?;
//! assert_eq!(open(&process)?.offsets(&orders)?.end, 1);
//! # Ok::<(), gretchen::error::Error>(())
//! ```

mod disk;
mod file;
mod names;
mod random;
mod world;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Runtime;
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinHandle, LocalSet};

pub use self::random::Random;
pub use self::world::{Crash, Faults};

use self::disk::SimulatedFiles;
use self::world::World;
use super::START_MS;
use crate::backend::Backend;
use crate::clock::Clock;
use crate::disk::Disk;
use crate::error::{Error, Result};
use crate::plan::Plan;
use crate::worker::{self, Summary, WorkerEvent, WorkerOptions};

/// A machine whose every accident is decided by a seed.
#[derive(Clone, Debug)]
pub struct Machine {
    world: Arc<World>,
    clock: Clock,
}

impl Machine {
    /// A machine with an empty disk.
    pub fn new(seed: u64) -> Self {
        Self { world: Arc::new(World::new(seed)), clock: Clock::manual(START_MS) }
    }

    /// Starts a process.
    pub fn start(&self) -> Result<Process> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .map_err(|error| Error::io("cannot start a runtime", error))?;
        let (number, life) = self.world.state().start();
        let files = SimulatedFiles { world: self.world.clone(), process: number, life };
        Ok(Process { files, clock: self.clock.clone(), tasks: LocalSet::new(), runtime })
    }

    /// Moves the clock on.
    pub fn advance(&self, time: Duration) {
        self.clock.advance(time);
    }

    /// The clock of the machine.
    pub fn clock(&self) -> Clock {
        self.clock.clone()
    }

    /// From now on calls fail that often.
    pub fn set_faults(&self, faults: Faults) {
        self.world.state().faults = faults;
    }

    /// Every process ends, and of what was not synced any part is gone.
    pub fn lose_power(&self) {
        self.world.lose_power();
    }

    /// How many calls processes have made.
    pub fn calls(&self) -> u64 {
        self.world.state().calls()
    }

    /// Whether something besides this handle still holds the machine: a process, or what was left of one.
    pub fn is_in_use(&self) -> bool {
        Arc::strong_count(&self.world) > 1
    }

    /// Sets the clock forward or back, as somebody may do with a machine's: no time passes.
    pub fn jump(&self, ms: i64) {
        self.clock.jump(ms);
    }

    /// Stands for everything that has happened: which process called what with which bytes, in which order.
    pub fn trace(&self) -> u64 {
        self.world.state().trace()
    }
}

/// A process of a [`Machine`]. Dropping it kills it.
#[derive(Debug)]
pub struct Process {
    files: SimulatedFiles,
    clock: Clock,
    // Before the runtime that its tasks may need.
    tasks: LocalSet,
    runtime: Runtime,
}

impl Process {
    /// The files as the process sees them.
    pub fn disk(&self) -> Disk {
        Disk::new(Arc::new(self.files.clone()))
    }

    /// The clock of the machine.
    pub fn clock(&self) -> Clock {
        self.clock.clone()
    }

    /// Begins a task; it goes on when the process has its turns.
    pub fn spawn<T: 'static>(&self, task: impl Future<Output = T> + 'static) -> JoinHandle<T> {
        let _inside = self.runtime.enter();
        self.tasks.spawn_local(task)
    }

    /// Lets the tasks go on for some turns.
    pub fn run(&self, turns: usize) {
        self.block_on(async {
            for _ in 0..turns {
                tokio::task::yield_now().await;
            }
        });
    }

    /// Runs until `task` has ended, and the other tasks beside it.
    pub fn block_on<T>(&self, task: impl Future<Output = T>) -> T {
        self.tasks.block_on(&self.runtime, task)
    }

    /// The process makes so many calls more, and in the last one it ends.
    pub fn crash_at_call(&self, calls: u64, crash: Crash) {
        self.files.world.state().set_fuse(self.files.process, calls, crash);
    }

    /// Whether it was killed or has lost its power: it has no effect on anything any more.
    pub fn has_ended(&self) -> bool {
        self.files.life.has_ended()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // What its tasks do while they are dropped, a killed process would not have done.
        self.files.world.kill(self.files.process);
    }
}

/// A worker as a task of a [`Process`]: [`worker::run`] with the agents on the only thread.
pub async fn work(
    plan: &Plan,
    backend: Arc<dyn Backend>,
    options: WorkerOptions,
    clock: Clock,
    stop: watch::Receiver<bool>,
    events: mpsc::UnboundedSender<WorkerEvent>,
) -> Result<Summary> {
    worker::run_here(plan, backend, options, clock, stop, events).await
}

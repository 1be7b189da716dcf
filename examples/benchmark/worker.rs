//! A worker in a process of its own, for contests that look at it from outside.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use gretchen::backend::Backend;
use gretchen::backend::log::LogBackend;
use gretchen::plan::Plan;
use gretchen::prelude::*;
use gretchen::worker::{self, WorkerEvent, WorkerOptions};
use tokio::sync::{mpsc, watch};

use crate::agents::declared;

const APP: &str = "bench";

/// The process; it is killed with whoever started it.
pub(crate) struct Worker(Child);

impl Worker {
    /// Starts one with the declared aggregation on the first core.
    pub(crate) fn start(folder: &Path, partitions: u32) -> Result<Self> {
        let program = std::env::current_exe()?;
        let mut command = Command::new(program);
        command.arg("worker").arg(folder).arg(partitions.to_string()).stdout(Stdio::piped());
        Ok(Self(command.spawn()?))
    }

    /// Returns once all its partitions are at work.
    pub(crate) fn wait_until_started(&mut self, partitions: u32) -> Result<()> {
        let output = self.0.stdout.as_mut().ok_or("the worker's output is not read")?;
        let started = BufReader::new(output).lines().take(partitions as usize).filter(|line| line.is_ok()).count();
        match started == partitions as usize {
            true => Ok(()),
            false => Err(format!("{started} of {partitions} partitions started").into()),
        }
    }

    /// An error once it has ended.
    pub(crate) fn check(&mut self) -> Result<()> {
        match self.0.try_wait()? {
            Some(status) => Err(format!("the worker ended with {status}").into()),
            None => Ok(()),
        }
    }

    /// Its process number.
    pub(crate) fn id(&self) -> u32 {
        self.0.id()
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // It has ended already, unless something failed on the way.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The process's own work.
pub(crate) fn run(folder: &Path, partitions: u32) -> Result<()> {
    crate::measure::pin(1)?;
    let clock = Clock::system();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    runtime.block_on(async {
        let log: Arc<dyn Backend> = Arc::new(LogBackend::open(LogOptions::new(folder), clock.clone())?);
        let app = App::new(APP).agent::<declared>();
        let plan = Plan::make(APP, &app.agents(), &*log, partitions).await?;
        let (_never, stopped) = watch::channel(false);
        let (events, mut received) = mpsc::unbounded_channel();
        let options =
            WorkerOptions { state_dir: Some(folder.join("state").join(APP)), threads: 1, ..WorkerOptions::default() };
        let work = worker::run(&plan, log.clone(), options, clock, stopped, events);
        tokio::pin!(work);
        loop {
            tokio::select! {
                summary = &mut work => { summary?; return Ok(()); }
                Some(event) = received.recv() => match event {
                    WorkerEvent::Failed { error, .. } => return Err(error.into()),
                    // Whoever started it counts them.
                    WorkerEvent::Started { partition, .. } => println!("started {partition}"),
                    _ => {}
                },
            }
        }
    })
}

//! A worker with many partitions and nothing to do: memory and processor time.

use std::time::Duration;

use gretchen::prelude::*;

use crate::agents::declared;
use crate::measure::use_of;
use crate::worker::Worker;

/// How it is measured.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Partitions of the topic.
    #[arg(long, default_value_t = 1_000)]
    partitions: u32,
    /// Seconds of looking on.
    #[arg(long, default_value_t = 20)]
    seconds: u64,
}

/// Starts a worker on an empty topic and looks on.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let Arguments { partitions, seconds } = *arguments;
    let folder = tempfile::tempdir()?;
    let clock = Clock::system();
    drop(Session::open(App::new("fill").agent::<declared>(), LogOptions::new(folder.path()), partitions)?);
    let began = clock.moment();
    let mut worker = Worker::start(folder.path(), partitions)?;
    worker.wait_until_started(partitions)?;
    let started = clock.moment().since(began);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    // What starting left to be done is not idleness.
    runtime.block_on(clock.sleep(Duration::from_secs(2)));
    let (before, from) = (use_of(worker.id())?, clock.moment());
    runtime.block_on(clock.sleep(Duration::from_secs(seconds)));
    worker.check()?;
    let (after, time) = (use_of(worker.id())?, clock.moment().since(from));
    println!(
        "{partitions} partitions at work after {:.1} s; idle for {seconds} s: {:.2} % of a core, {} MiB",
        started.as_secs_f64(),
        100.0 * (after.0 - before.0) / time.as_secs_f64(),
        after.1 >> 20
    );
    Ok(())
}

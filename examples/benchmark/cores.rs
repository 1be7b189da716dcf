//! Two cores against one: the declared aggregation beside plain busy loops, which gain what the machine gives.

use gretchen::prelude::*;

use crate::aggregate::in_process;
use crate::contestants::{Contestant, Options};
use crate::measure::{pin, spread};
use crate::workload::{Distribution, Workload};

/// Steps of a busy loop.
const STEPS: u64 = 1 << 30;

/// How it is measured.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Sales in the log.
    #[arg(long, default_value_t = 20_000_000)]
    records: u64,
    /// Customers.
    #[arg(long, default_value_t = 10_000)]
    keys: u64,
    /// Partitions of the topic.
    #[arg(long, default_value_t = 4)]
    partitions: u32,
    /// Rounds that count; one before them warms the page cache.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    #[command(flatten)]
    options: Options,
}

/// Lets one core and two take turns, for the aggregation and for the loops.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let Arguments { records, keys, partitions, rounds, options } = *arguments;
    let folder = tempfile::tempdir()?;
    let workload = Workload { records, keys, distribution: Distribution::Uniform, partitions };
    workload.publish(folder.path())?;
    pin(2)?;
    let (mut own, mut loops, mut parts) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..=rounds {
        let mut times = [0.0, 0.0];
        let mut totals = None;
        for (cores, time) in (1..).zip(&mut times) {
            let options = Options { cores, ..options };
            let outcome = in_process(Contestant::Declared, folder.path(), partitions, &options)?;
            if *totals.get_or_insert(outcome.totals.clone()) != outcome.totals {
                return Err("the totals of one core and of two differ".into());
            }
            *time = outcome.warm.wall_s;
        }
        let (one, two) = (busy(1)?, busy(2)?);
        if round > 0 {
            let (gained, given) = (times[0] / times[1], 2.0 * one / two);
            own.push(gained);
            loops.push(given);
            parts.push(gained / given);
        }
    }
    let show = |(low, middle, high): (f64, f64, f64)| format!("{middle:.2} ({low:.2} to {high:.2})");
    println!(
        "{records} sales of {keys} customers, {partitions} partitions; medians of {rounds} rounds and their range\n\
         declared aggregation  {} times as fast on two cores as on one\n\
         plain busy loops      {} times\n\
         of what they gain     {}",
        show(spread(own)),
        show(spread(loops)),
        show(spread(parts))
    );
    Ok(())
}

/// Seconds that so many threads take, each with a loop of its own that touches no memory.
fn busy(threads: u64) -> Result<f64> {
    let clock = Clock::system();
    let began = clock.moment();
    std::thread::scope(|scope| {
        for seed in 0..threads {
            scope.spawn(move || {
                let steps = (0..STEPS).fold(seed | 1, |state, step| state.rotate_left(7).wrapping_mul(step | 1));
                std::hint::black_box(steps)
            });
        }
    });
    Ok(clock.moment().since(began).as_secs_f64())
}

//! Simulated accidents: one seed decides what is published, who works, and what goes wrong when.
//!
//! The longer command is `GRETCHEN_SEEDS=10000 cargo test --release --test it sim::`; a seed that failed is replayed,
//! with what happened in it, by `GRETCHEN_SEED=… cargo test --release --test it sim::`.

mod run;
mod steps;
mod syncs;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use self::run::{Course, Run};

/// Seeds of the gate.
const SEEDS: u64 = 300;

/// After so many that failed no further seed is begun.
const FAILED: usize = 8;

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().unwrap())
}

/// Runs every seed, or the one that is asked for; ends with the first few that failed.
fn each_seed(test: &str, seeds: u64, run: impl Fn(u64) + Sync) {
    if let Some(seed) = number("GRETCHEN_SEED") {
        return run(seed);
    }
    let seeds = number("GRETCHEN_SEEDS").unwrap_or(seeds);
    let next = AtomicU64::new(0);
    let failed = Mutex::new(Vec::new());
    let work = || {
        loop {
            let seed = next.fetch_add(1, Ordering::SeqCst);
            if seed >= seeds || failed.lock().unwrap().len() >= FAILED {
                return;
            }
            if catch_unwind(AssertUnwindSafe(|| run(seed))).is_err() {
                eprintln!("replay with GRETCHEN_SEED={seed} cargo test --release --test it {test}");
                failed.lock().unwrap().push(seed);
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, std::num::NonZero::get) {
            scope.spawn(work);
        }
    });
    let failed = failed.into_inner().unwrap();
    assert!(failed.is_empty(), "seeds that failed: {failed:?}");
}

#[test]
fn nothing_is_lost_repeated_or_wrong_whatever_happens() {
    each_seed("sim::nothing_is_lost_repeated_or_wrong_whatever_happens", SEEDS, |seed| {
        Run::new(seed, Course::Fsync).complete();
    });
}

#[test]
fn without_syncs_a_loss_of_power_takes_what_the_documentation_says() {
    each_seed("sim::without_syncs_a_loss_of_power_takes_what_the_documentation_says", SEEDS / 3, |seed| {
        Run::new(seed, Course::Os).complete();
    });
}

#[test]
fn a_seed_always_takes_the_same_course() {
    for seed in [0, 1, 2, 3] {
        let trace = || Run::new(seed, Course::Fsync).complete();
        assert_eq!(trace(), trace(), "seed {seed}");
    }
}

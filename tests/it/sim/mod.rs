//! Simulated accidents: one seed decides what is published, who works, and what goes wrong when.
//!
//! The longer command is `GRETCHEN_SEEDS=10000 cargo test --release --test it sim::`, or a part of it with
//! `GRETCHEN_SEEDS=300-5000`; a seed that failed is replayed, with what happened in it, by
//! `GRETCHEN_SEED=… cargo test --release --test it sim::`.

mod commits;
mod operator;
mod processes;
mod repairs;
mod run;
mod steps;
mod syncs;

use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use self::run::{Kind, Run};

/// Seeds of the gate.
const SEEDS: u64 = 300;

/// After so many that failed no further seed is begun.
const FAILED: usize = 8;

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().unwrap())
}

/// From the first of `5-10` up to the last, or so many from 0 on.
fn range(variable: &str) -> Option<Range<u64>> {
    let text = std::env::var(variable).ok()?;
    let (first, end) = text.split_once('-').unwrap_or(("0", &text));
    Some(first.parse().unwrap()..end.parse().unwrap())
}

/// Runs every seed, or the one that is asked for; ends with the first few that failed.
/// Returns how many there were of whose courses something can be said: none of a single one.
fn each_seed(test: &str, seeds: u64, run: impl Fn(u64) + Sync) -> u64 {
    if let Some(seed) = number("GRETCHEN_SEED") {
        run(seed);
        return 0;
    }
    let Range { start, end } = range("GRETCHEN_SEEDS").unwrap_or(0..seeds);
    let next = AtomicU64::new(start);
    let failed = Mutex::new(Vec::new());
    let work = || {
        loop {
            let seed = next.fetch_add(1, Ordering::SeqCst);
            if seed >= end || failed.lock().unwrap().len() >= FAILED {
                return;
            }
            if seed % 500 == 499 {
                eprintln!("{} seeds were begun", seed + 1 - start);
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
    end - start
}

#[test]
fn nothing_is_lost_repeated_or_wrong_whatever_happens() {
    let [compacted, cleaned, indexed, losses, ends, faults, removals] = [const { AtomicU64::new(0) }; 7];
    let seeds = each_seed("sim::nothing_is_lost_repeated_or_wrong_whatever_happens", SEEDS, |seed| {
        let course = Run::new(seed, Kind::Fsync).complete();
        let count = |runs: &AtomicU64, times: usize| runs.fetch_add(u64::from(times > 0), Ordering::SeqCst);
        count(&compacted, course.compacted);
        count(&cleaned, course.cleaned);
        count(&indexed, course.indexed);
        count(&losses, course.accidents.losses);
        count(&ends, course.accidents.ends);
        count(&faults, course.accidents.faults);
        count(&removals, course.accidents.removals);
    });
    // Of what never happens nothing would be said.
    let enough = [
        (compacted, 30, "changelogs were compacted"),
        (cleaned, 30, "topics were compacted"),
        (indexed, 3, "segments had an index"),
        (losses, 2, "the power was lost between two calls"),
        (ends, 2, "a process was killed, or lost the power, in a call"),
        (faults, 3, "calls failed"),
        (removals, 10, "stores of tables were removed"),
    ];
    for (runs, least, what) in enough {
        let runs = runs.into_inner();
        println!("in {runs} of {seeds} runs {what}");
        assert!(runs >= seeds / least, "in {runs} of {seeds} runs {what}");
    }
}

#[test]
fn without_syncs_a_loss_of_power_takes_what_the_documentation_says() {
    each_seed("sim::without_syncs_a_loss_of_power_takes_what_the_documentation_says", SEEDS / 3, |seed| {
        Run::new(seed, Kind::Os).complete();
    });
}

#[test]
fn a_seed_always_takes_the_same_course() {
    for seed in [0, 1, 2, 3] {
        let trace = || Run::new(seed, Kind::Fsync).complete();
        assert_eq!(trace(), trace(), "seed {seed}");
    }
}

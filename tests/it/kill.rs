//! Workers are killed again and again while orders flow; in the end every figure is exact.
//!
//! `GRETCHEN_KILLS=3000 cargo test --release --test it kill:: -- --nocapture` kills that many, in rounds of a hundred,
//! each with a folder and a seed of its own.

use crate::shop;
use crate::support::{Random, Stage, Worker};

/// Kills of one round.
const KILLS: usize = 100;

/// Workers at once, at most.
const WORKERS: usize = 4;

fn kill_workers(test: &str, fsync: bool) {
    let all = std::env::var("GRETCHEN_KILLS").map_or(KILLS, |kills| kills.parse().unwrap());
    let (mut kills, mut from_checkpoint) = (0, 0);
    // On a machine so busy that workers are killed before they get that far, one round may not see a checkpoint.
    while kills < all || (from_checkpoint == 0 && kills < all + 3 * KILLS) {
        let (killed, started) = round(&mut Random::seeded(test), fsync);
        kills += killed;
        from_checkpoint += started;
        if all > KILLS {
            println!("{kills} of {all} kills");
        }
    }
    assert!(from_checkpoint > 0, "no start found a checkpoint");
}

/// At least [`KILLS`] kills; returns how many, and how many starts of tasks were from a checkpoint.
fn round(random: &mut Random, fsync: bool) -> (usize, usize) {
    let mut stage = Stage::new("shop", fsync);
    stage.spec.commit_ms = random.within(5..40);
    let mut workers: Vec<Worker> = Vec::new();
    // Kills by how many were at work.
    let mut at_work = [0; WORKERS];
    let mut kills = 0;
    let mut next_kill_ms = 300;
    let mut last_kill = stage.clock.moment();
    let began = stage.clock.moment();
    while kills < KILLS {
        while workers.is_empty() || (workers.len() < WORKERS && random.one_in(40)) {
            workers.push(stage.worker());
        }
        if random.one_in(30) {
            // The next worker may be the first to open a partition; and the producer starts from its first order.
            stage.close();
        }
        let count = random.within(1..30);
        let bulk = random.one_in(50);
        let more = shop::orders(random, stage.orders.len(), count, bulk);
        stage.publish(more);
        stage.sleep_ms(random.within(0..12));
        if stage.passed(last_kill).as_millis() as u64 >= next_kill_ms {
            let which = random.within(0..workers.len() as u64) as usize;
            if random.one_in(5) {
                // All at once: nobody takes over, and the log is closed without a word.
                stage.close();
                kills += workers.len();
                at_work[workers.len() - 1] += workers.len();
                workers.drain(..).for_each(Worker::kill);
            } else if random.one_in(8) {
                // In between one leaves as it should.
                let leaves = workers.swap_remove(which);
                stage.stop(vec![leaves]);
            } else {
                at_work[workers.len() - 1] += 1;
                workers.swap_remove(which).kill();
                kills += 1;
            }
            let wanted = random.within(0..WORKERS as u64 + 1) as usize;
            while workers.len() < wanted {
                workers.push(stage.worker());
            }
            next_kill_ms = random.within(20..300);
            last_kill = stage.clock.moment();
        }
    }
    let killing = stage.passed(began);
    workers.push(stage.worker());
    stage.catch_up(&mut workers);
    let caught_up = stage.passed(began);
    stage.stop(workers);
    shop::check(&mut stage);
    let (starts, from_checkpoint) = stage.check_recoveries();
    assert!(at_work.iter().all(|kills| *kills > 0), "kills with one to {WORKERS} workers: {at_work:?}");
    println!(
        "{kills} kills, with one to {WORKERS} workers {at_work:?}, and {} orders in {killing:.1?}, caught up after {:.1?}; {starts} starts of tasks, {from_checkpoint} of them from a checkpoint; all in {:.1?}",
        stage.orders.len(),
        caught_up - killing,
        stage.passed(began)
    );
    (kills, from_checkpoint)
}

#[test]
fn a_hundred_kills_change_nothing() {
    kill_workers("kill::a_hundred_kills_change_nothing", false);
}

#[test]
fn a_hundred_kills_change_nothing_with_fsync() {
    kill_workers("kill::a_hundred_kills_change_nothing_with_fsync", true);
}

//! Workers on Kafka are killed again and again while orders flow; in the end every figure is exact for a reader of what is
//! committed.
//!
//! `GRETCHEN_KILLS=50` asks for more kills, `GRETCHEN_ORDERS=1000000` for more orders.

use super::stage::Stage;
use super::worker::{Spec, Worker, check_starts, number_of};
use crate::shop;
use crate::support::Random;

#[test]
fn kills_change_nothing() {
    let random = &mut Random::seeded("kafka::kill::kills_change_nothing");
    let mut stage = Stage::new();
    let began = stage.clock.moment();
    let workers = stage.workers();
    let (killed, workers) = kill(&mut stage, random, workers, (12, 20_000));
    let (took, starts) = stage.end(workers, began);
    println!("{killed} kills and {} orders, caught up after {took:.1?}; {starts}", stage.orders.len());
    assert!(starts.from_store > 0, "no start found a store");
}

/// Without transactions a record may count more than once. None is lost.
#[test]
fn kills_lose_nothing_at_least_once() {
    let random = &mut Random::seeded("kafka::kill::kills_lose_nothing_at_least_once");
    let mut stage = Stage::new();
    let began = stage.clock.moment();
    let workers = stage.workers_with(&[("gretchen.guarantee", "at_least_once")]);
    let (killed, workers) = kill(&mut stage, random, workers, (4, 5_000));
    let mut repeated = 0;
    let (took, starts) = stage.end_with(workers, began, |stage| repeated = shop::check_nothing_is_lost(stage));
    println!(
        "{killed} kills and {} orders, {repeated} outputs more than once, caught up after {took:.1?}; {starts}",
        stage.orders.len()
    );
    assert!(starts.from_store > 0, "no start found a store");
}

/// Kills one worker after another while orders flow; how many, and those that are left.
fn kill(
    stage: &mut Stage,
    random: &mut Random,
    mut workers: Vec<Worker>,
    (kills, orders): (usize, usize),
) -> (usize, Vec<Worker>) {
    let (kills, orders) = (number_of("GRETCHEN_KILLS", kills), number_of("GRETCHEN_ORDERS", orders));
    let specs: Vec<Spec> = workers.iter().map(|worker| worker.spec.clone()).collect();
    let mut killed = 0;
    loop {
        // On a slow machine the first kills can all come before the first checkpoint.
        let kill = killed < kills || killed < 10 * kills && check_starts(&specs).from_store == 0;
        if !kill && stage.orders.len() >= orders {
            return (killed, workers);
        }
        let left = orders.saturating_sub(stage.orders.len()) as u64;
        if left > 0 || kill {
            let count = match (kills as u64).saturating_sub(killed as u64) {
                // Something flows also around the kills that are more than were asked for.
                0 => left.max(100),
                to_come => (left / to_come / 4).clamp(1, left.max(1)),
            };
            let bulk = random.one_in(50);
            let more = shop::orders(random, stage.orders.len(), count, bulk);
            stage.publish(more);
        }
        stage.sleep_ms(random.within(50..400));
        if kill && random.one_in(4) {
            let spec = workers.swap_remove(random.within(0..workers.len() as u64) as usize).kill();
            killed += 1;
            stage.sleep_ms(random.within(0..3_000));
            workers.push(Worker::start(spec));
        }
    }
}

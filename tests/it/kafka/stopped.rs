//! A worker that is stopped by a signal for longer than its session is missed, and others take its partitions over; when it
//! goes on, nothing that it had on its way counts.
//!
//! `GRETCHEN_STOPS=20` asks for more of them.

use rustix::process::Signal;

use super::stage::{PATIENCE, SESSION_MS, Stage};
use super::worker::{Worker, number_of, said};
use crate::shop;
use crate::support::Random;

const STOPS: usize = 2;

/// What a worker says of each partition that was taken from it.
const LOST: &str = "the partition was lost";

fn losses(worker: &Worker) -> usize {
    worker.stderr().matches(LOST).count()
}

/// How often its tasks have begun.
fn starts(worker: &Worker) -> usize {
    said(&worker.spec.folder).len()
}

/// Publishes orders, a few at a time, until something is so.
fn publish_until(stage: &mut Stage, random: &mut Random, is_so: impl Fn(&Stage) -> bool) {
    let began = stage.clock.moment();
    while !is_so(stage) {
        assert!(stage.clock.moment().since(began) < PATIENCE, "what is waited for does not come");
        let count = random.within(1..40);
        let more = shop::orders(random, stage.orders.len(), count, false);
        stage.publish(more);
        stage.sleep_ms(random.within(50..350));
    }
}

#[test]
fn a_worker_that_goes_on_after_its_session_writes_nothing_that_counts() {
    let random = &mut Random::seeded("kafka::stopped");
    let mut stage = Stage::new();
    let stops = number_of("GRETCHEN_STOPS", STOPS);
    let workers = stage.workers();
    let began = stage.clock.moment();
    publish_until(&mut stage, random, |_| workers.iter().all(|worker| starts(worker) > 0));
    let mut lost = 0;
    for _ in 0..stops {
        // It is stopped, and goes on, while there is work.
        let stopped = &workers[random.within(0..workers.len() as u64) as usize];
        let (losses_before, starts_before) = (losses(stopped), starts(stopped));
        stopped.signal(Signal::STOP);
        // Twice its session, so that it is missed however busy the machine is.
        let since = stage.clock.moment();
        publish_until(&mut stage, random, |stage| {
            stage.clock.moment().since(since).as_millis() > u128::from(2 * SESSION_MS)
        });
        stopped.signal(Signal::CONT);
        publish_until(&mut stage, random, |_| losses(stopped) > losses_before);
        lost += losses(stopped) - losses_before;
        // It takes its share anew.
        publish_until(&mut stage, random, |_| starts(stopped) > starts_before);
    }
    let (took, starts, _) = stage.end(workers, began);
    println!(
        "{stops} stops cost {lost} partitions, {} orders, caught up after {took:.1?}; {starts} starts of tasks",
        stage.orders.len()
    );
}

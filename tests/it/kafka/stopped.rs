//! A worker that is stopped by a signal for longer than its session is missed, and others take its partitions over; when it
//! goes on, nothing that it had on its way counts.
//!
//! `GRETCHEN_STOPS=20` asks for more of them.

use rustix::process::Signal;

use super::stage::{PATIENCE, SESSION_MS, Stage};
use super::worker::{Worker, number_of};
use crate::shop;
use crate::support::Random;

const STOPS: usize = 2;

/// What a worker says of each partition that was taken from it.
const LOST: &str = "the partition was lost";

fn losses(worker: &Worker) -> usize {
    worker.stderr().matches(LOST).count()
}

#[test]
fn a_worker_that_goes_on_after_its_session_writes_nothing_that_counts() {
    let random = &mut Random::seeded("kafka::stopped");
    let mut stage = Stage::new();
    let stops = number_of("GRETCHEN_STOPS", STOPS);
    let workers = stage.workers();
    let began = stage.clock.moment();
    let mut lost = 0;
    for _ in 0..stops {
        let stopped = &workers[random.within(0..workers.len() as u64) as usize];
        let before = losses(stopped);
        for at in 0.. {
            // It is stopped, and goes on, while there is work.
            let count = random.within(1..40);
            let more = shop::orders(random, stage.orders.len(), count, false);
            stage.publish(more);
            stage.sleep_ms(random.within(50..350));
            if at == 8 {
                stopped.signal(Signal::STOP);
                let stopped_at = stage.clock.moment();
                // Twice its session, so that it was missed however busy the machine is.
                while stage.clock.moment().since(stopped_at).as_millis() < u128::from(2 * SESSION_MS) {
                    let count = random.within(1..40);
                    let more = shop::orders(random, stage.orders.len(), count, false);
                    stage.publish(more);
                    stage.sleep_ms(random.within(50..350));
                }
                stopped.signal(Signal::CONT);
            }
            if at > 8 && losses(stopped) > before {
                break;
            }
            assert!(
                stage.clock.moment().since(began) < PATIENCE * stops as u32,
                "nothing is lost:\n{}",
                stopped.stderr()
            );
        }
        lost += losses(stopped) - before;
    }
    let (took, starts, _) = stage.end(workers, began);
    println!(
        "{stops} stops cost {lost} partitions, {} orders, caught up after {took:.1?}; {starts} starts of tasks",
        stage.orders.len()
    );
}

//! A worker that is stopped by a signal for longer than its session is missed, and others take its partitions over; when it
//! goes on, nothing that it had on its way counts.
//!
//! `GRETCHEN_STOPS=20` asks for more of them.

use std::time::Duration;

use rustix::process::Signal;

use super::stage::{SESSION_MS, Stage};
use super::worker::number_of;
use crate::support::Random;

const STOPS: usize = 2;

/// So long after it goes on a worker has heard that its partitions are gone.
const NOTICES_WITHIN: Duration = Duration::from_secs(40);

/// So many times a worker may have had nothing.
const IN_VAIN: usize = 4;

#[test]
fn a_worker_that_goes_on_after_its_session_writes_nothing_that_counts() {
    let random = &mut Random::seeded("kafka::stopped");
    let mut stage = Stage::new();
    let stops = number_of("GRETCHEN_STOPS", STOPS);
    let workers = stage.workers();
    let began = stage.clock.moment();
    stage.publish_until(random, |_| workers.iter().all(|worker| worker.starts() > 0));
    let (mut done, mut in_vain, mut lost) = (0, 0, 0);
    while done < stops {
        // It is stopped, and goes on, while there is work.
        let stopped = &workers[random.within(0..workers.len() as u64) as usize];
        let (losses_before, starts_before) = (stopped.losses(), stopped.starts());
        stopped.signal(Signal::STOP);
        // Twice its session, so that it is missed however busy the machine is.
        let since = stage.clock.moment();
        stage.publish_until(random, |stage| stage.clock.moment().since(since).as_millis() > u128::from(2 * SESSION_MS));
        stopped.signal(Signal::CONT);
        let since = stage.clock.moment();
        stage.publish_until(random, |stage| {
            stopped.losses() > losses_before || stage.clock.moment().since(since) > NOTICES_WITHIN
        });
        let losses = stopped.losses() - losses_before;
        // One that has just come back, and has no partition yet, has none to lose.
        if losses == 0 {
            in_vain += 1;
            assert!(in_vain < IN_VAIN, "nothing is lost:\n{}", stopped.stderr());
            continue;
        }
        done += 1;
        lost += losses;
        // It takes its share anew.
        stage.publish_until(random, |_| stopped.starts() > starts_before);
    }
    let (took, starts) = stage.end(workers, began);
    println!(
        "{stops} stops cost {lost} partitions, {} orders, caught up after {took:.1?}; {starts}",
        stage.orders.len()
    );
}

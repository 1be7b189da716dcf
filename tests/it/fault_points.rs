//! Workers end themselves between the steps of a commit, at every named point, again and again.

use std::os::unix::process::ExitStatusExt;

use crate::shop;
use crate::support::{Random, Stage};

/// Times that a process ends at each point.
const HITS: usize = 20;
const SIGKILL: i32 = 9;

#[test]
fn an_end_at_any_point_of_a_commit_changes_nothing() {
    let mut random = Random::seeded("fault_points::an_end_at_any_point_of_a_commit_changes_nothing");
    let mut stage = Stage::new("shop", random.one_in(2));
    for point in gretchen::fault::ALL {
        let began = stage.clock.moment();
        for _ in 0..HITS {
            end_at(&mut stage, &mut random, point);
        }
        stage.spec.fault = None;
        let worker = stage.worker();
        let mut workers = [worker];
        stage.catch_up(&mut workers);
        stage.stop(workers.into());
        shop::check(&mut stage);
        println!("{point}: {HITS} ends and a check in {:.1?}", stage.passed(began));
    }
    let (starts, from_checkpoint) = stage.check_recoveries();
    println!("{} orders, {starts} starts of tasks, {from_checkpoint} of them from a checkpoint", stage.orders.len());
}

/// Lets a worker run until it ends at the point, with orders flowing.
fn end_at(stage: &mut Stage, random: &mut Random, point: &str) {
    let pass = match point {
        // Once a start of a task.
        _ if point.starts_with("recovery") => random.within(1..20),
        // Only some commits are that large.
        "commit.partly-written" => random.within(1..3),
        _ => random.within(1..8),
    };
    stage.spec.fault = Some((point.to_owned(), pass));
    stage.spec.commit_ms = random.within(2..20);
    stage.spec.checkpoint_ms = if point.starts_with("checkpoint") { random.within(5..60) } else { 300 };
    if random.one_in(2) {
        stage.close();
    }
    let mut worker = stage.worker();
    let began = stage.clock.moment();
    let status = loop {
        // Bulky ones make commits of several frames and outputs that are moved in several.
        let bulk = point.contains("partly");
        let count = if bulk { 20 } else { random.within(1..10) };
        let more = shop::orders(random, stage.orders.len(), count, bulk);
        stage.publish(more);
        stage.sleep_ms(random.within(1..12));
        if let Some(status) = worker.ended() {
            break status;
        }
        assert!(stage.passed(began).as_secs() < 30, "worker {} does not pass {point}", worker.number);
    };
    let text = worker.stderr();
    assert!(
        status.signal() == Some(SIGKILL) && text.contains(&format!("fault point {point}")),
        "worker {} ended with {status}:\n{text}",
        worker.number
    );
}

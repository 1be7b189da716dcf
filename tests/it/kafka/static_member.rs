//! Workers with a `group.instance.id` of their own stay members of their groups while they are away: one that begins anew in
//! time has its partitions again, and the others never hear of it.

use std::collections::BTreeSet;
use std::time::Duration;

use super::stage::{Stage, WORKERS};
use super::worker::{Said, Spec, Worker, said};
use crate::support::{PARTITIONS, Random};

/// Longer than anything here is waited for.
const SESSION_MS: u64 = 900_000;

fn spec(stage: &Stage, number: usize, name: &str) -> Spec {
    let settings = [("group.instance.id", name.to_owned()), ("max.poll.interval.ms", SESSION_MS.to_string())];
    let settings = settings.map(|(name, value)| (name.to_owned(), value)).to_vec();
    Spec { session_ms: SESSION_MS, settings, ..stage.spec(number) }
}

const LOOK_EVERY: Duration = Duration::from_millis(300);

/// The tasks that a worker has by what it says.
fn tasks(of: &Worker) -> BTreeSet<(String, u32)> {
    let mut tasks = BTreeSet::new();
    for said in said(&of.spec.folder) {
        match said {
            Said::Started(agent, partition, ..) => tasks.insert((agent, partition)),
            Said::Stopped(agent, partition) => tasks.remove(&(agent, partition)),
            _ => false,
        };
    }
    tasks
}

#[test]
fn one_that_begins_anew_has_its_partitions_again() {
    let random = &mut Random::seeded("kafka::static_member");
    let mut stage = Stage::new();
    let name = |number: usize| format!("worker-{number}");
    let mut workers: Vec<Worker> =
        (0..WORKERS).map(|number| Worker::start(spec(&stage, number, &name(number)))).collect();
    let began = stage.clock.moment();
    // Each has its share of each agent, and it stays so for a while.
    let agents = stage.plan.agents.len();
    let (mut looks, mut before) = (0, Vec::new());
    let mut are_settled = |workers: &[Worker]| {
        let now: Vec<_> = workers.iter().map(tasks).collect();
        let shares =
            |tasks: &BTreeSet<(String, u32)>| tasks.iter().map(|(agent, _)| agent).collect::<BTreeSet<_>>().len();
        let whole = now.iter().map(BTreeSet::len).sum::<usize>() == agents * PARTITIONS as usize;
        let settled = whole && now.iter().all(|tasks| shares(tasks) == agents) && now == before;
        looks = if settled { looks + 1 } else { 0 };
        before = now;
        looks > 10
    };
    let mut settled = false;
    while !settled {
        let since = stage.clock.moment();
        stage.publish_until(random, |stage| stage.clock.moment().since(since) > LOOK_EVERY);
        assert!(since.since(began) < super::stage::PATIENCE, "partitions are shared out without an end");
        settled = are_settled(&workers);
    }

    let had = tasks(&workers[1]);
    let others = |workers: &[Worker]| [workers[0].starts(), workers[2].starts()];
    let before = others(&workers);
    let killed = workers.remove(1).kill();
    let starts = said(&killed.folder).len();
    workers.insert(1, Worker::start(killed));
    stage.publish_until(random, |_| workers[1].starts() >= starts + had.len());
    assert_eq!(tasks(&workers[1]), had);
    assert_eq!(others(&workers), before, "the others have heard of it");

    // Another one by that name takes its place, and it says why it ends.
    let imitator = Worker::start(spec(&stage, WORKERS, &name(1)));
    let began_there = stage.clock.moment();
    while !workers[1].is_gone() {
        assert!(stage.clock.moment().since(began_there) < super::stage::PATIENCE, "both go by one name");
        stage.sleep_ms(100);
    }
    let said = workers[1].stderr();
    assert!(said.contains("another worker goes by the same group.instance.id"), "{said}");
    workers[1] = imitator;
    let (took, starts) = stage.end(workers, began);
    println!("{} orders, caught up after {took:.1?}; {starts}", stage.orders.len());
}

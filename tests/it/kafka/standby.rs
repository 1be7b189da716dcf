//! Workers with folders of their own keep standbys: where one is killed, is stopped or comes anew, a partition moves to a worker
//! that holds its state already, and every figure is exact.

use std::collections::{BTreeMap, BTreeSet};

use gretchen::backend::AssignmentSet;
use gretchen::prelude::Decimal;

use super::stage::{PATIENCE, Stage};
use super::worker::{Said, Spec, Worker, check_starts, said};
use crate::shop::{self, Order};
use crate::support::Random;

/// How soon a worker is missed: none that lives may be, however busy the machine is.
const SESSION_MS: u64 = 10_000;

const CUSTOMERS: u64 = 3_000;

/// The agent whose table has a key for each customer.
const LARGEST: &str = "totals";

/// An agent and a partition.
type Place = (String, u32);

fn spec(stage: &Stage, number: usize) -> Spec {
    Spec { standby: 1, session_ms: SESSION_MS, ..stage.spec(number) }
}

fn publish(stage: &mut Stage, random: &mut Random, count: u64) {
    let first = stage.orders.len();
    let orders = (0..count).map(|i| Order {
        order_id: first as i64 + i as i64,
        customer: format!("C{}", random.within(0..CUSTOMERS)),
        ordered_on: gretchen::__private::jiff::civil::date(1997, 1, 1),
        quantity: random.within(1..10) as i32,
        amount: Decimal::new(random.within(1..10_000) as i64, 2),
    });
    let orders = orders.collect();
    stage.publish(orders);
}

/// What a worker has, by what it has said.
#[derive(Debug, Default)]
struct Has {
    owns: BTreeSet<Place>,
    warm: BTreeSet<Place>,
}

impl Has {
    fn of(spec: &Spec) -> Self {
        let mut has = Self::default();
        for said in said(&spec.folder) {
            match said {
                Said::Started(agent, partition, ..) => drop(has.owns.insert((agent, partition))),
                Said::Stopped(agent, partition) => drop(has.owns.remove(&(agent, partition))),
                Said::Warm(agent, partition) => drop(has.warm.insert((agent, partition))),
                Said::Closed(agent, partition) => drop(has.warm.remove(&(agent, partition))),
                Said::Failed(why) => panic!("{why}"),
            }
        }
        has
    }
}

/// The partitions that have state.
fn places(stage: &Stage) -> BTreeSet<Place> {
    let agents = stage.plan.agents.iter().filter(|agent| !agent.tables.is_empty());
    agents.flat_map(|agent| (0..agent.partitions).map(|partition| (agent.def.name.to_owned(), partition))).collect()
}

/// Waits until each partition has one owner and is warm at one other, and the owners have their shares.
fn settle(stage: &Stage, specs: &[Spec]) -> Vec<Has> {
    let (places, began) = (places(stage), stage.clock.moment());
    loop {
        let all: Vec<Has> = specs.iter().map(Has::of).collect();
        let owners = |place: &Place| all.iter().filter(|has| has.owns.contains(place)).count();
        let warm = |place: &Place| all.iter().filter(|has| has.warm.contains(place)).count();
        let mut shares: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
        for (number, has) in all.iter().enumerate() {
            for (agent, _) in &has.owns {
                shares.entry(agent).or_insert_with(|| vec![0; specs.len()])[number] += 1;
            }
        }
        let balanced = |agent: &str| {
            shares.get(agent).is_some_and(|shares| shares.iter().max().unwrap() - shares.iter().min().unwrap() <= 1)
        };
        if places.iter().all(|place| (owners(place), warm(place)) == (1, 1) && balanced(&place.0)) {
            return all;
        }
        if stage.clock.moment().since(began) > PATIENCE {
            panic!("the workers do not come to rest: {all:#?}");
        }
        stage.sleep_ms(100);
    }
}

/// How much each worker has said.
fn lengths(specs: &[Spec]) -> Vec<usize> {
    specs.iter().map(|spec| said(&spec.folder).len()).collect()
}

/// Whatever has started since on a partition with state did so from a store that lacked little. Returns where.
fn check_warm_starts(stage: &Stage, specs: &[Spec], since: &[usize]) -> BTreeSet<(Place, usize)> {
    let places = places(stage);
    let mut starts = BTreeSet::new();
    for (number, spec) in specs.iter().enumerate() {
        let all = said(&spec.folder);
        for (at, said) in all.iter().enumerate().skip(since.get(number).copied().unwrap_or(0)) {
            let Said::Started(agent, partition, covered, replayed) = said else { continue };
            let place = (agent.clone(), *partition);
            if !places.contains(&place) {
                continue;
            }
            println!("worker {number} began {place:?}: {covered} covered, {replayed} replayed");
            let was_warm =
                all[..at].iter().any(|said| matches!(said, Said::Warm(a, p) if (a, p) == (agent, partition)));
            let was_own =
                all[..at].iter().any(|said| matches!(said, Said::Started(a, p, ..) if (a, p) == (agent, partition)));
            assert!(was_warm || was_own, "worker {number} began {place:?} without having held it");
            // Few keys leave a partition without any.
            assert!(*covered > 0 || *replayed == 0, "worker {number} began {place:?} without a store");
            if agent == LARGEST {
                assert!(*covered > 0, "worker {number} began {place:?} without a store");
                assert!(
                    replayed * 10 <= *covered,
                    "worker {number} replayed {replayed} of {place:?}, {covered} covered"
                );
            }
            starts.insert((place, number));
        }
    }
    starts
}

/// Each of these partitions has gone to the worker that held it warm.
fn check_taken_over(taken: &BTreeSet<Place>, before: &[Has], starts: &BTreeSet<(Place, usize)>) {
    for place in taken {
        let holder = before.iter().position(|has| has.warm.contains(place)).unwrap();
        assert!(starts.contains(&(place.clone(), holder)), "{place:?} was warm at {holder}; what started: {starts:?}");
    }
}

/// What `groups` shows: each partition with state has an owner, and another process keeps it warm.
fn check_groups(stage: &Stage) {
    let replay = stage.backend.replay().unwrap();
    for agent in stage.plan.agents.iter().filter(|agent| !agent.tables.is_empty()) {
        let topics = agent.sources.iter().map(|(topic, _)| topic.clone()).collect();
        let set = AssignmentSet { name: "partitions".into(), partitions: agent.partitions, topics };
        let owners = replay.owners(&agent.group, &set).unwrap();
        for (owner, standbys) in owners.iter().zip(replay.standbys(&agent.group, &set).unwrap()) {
            assert!(standbys.len() == 1 && owner.unwrap().process != standbys[0], "{owner:?} {standbys:?}");
        }
    }
}

#[test]
fn partitions_go_to_workers_that_hold_them_warm() {
    let random = &mut Random::seeded("kafka::standby");
    let mut stage = Stage::new();
    let mut specs: Vec<Spec> = (0..3).map(|number| spec(&stage, number)).collect();
    let mut workers: Vec<Worker> = specs.iter().cloned().map(Worker::start).collect();
    let began = stage.clock.moment();
    for _ in 0..10 {
        publish(&mut stage, random, 600);
        stage.sleep_ms(200);
    }
    let before = settle(&stage, &specs);
    check_groups(&stage);
    publish(&mut stage, random, 200);

    // One is killed.
    let since = lengths(&specs);
    let victim = (0..3).max_by_key(|number| before[*number].owns.iter().filter(|(agent, _)| agent == LARGEST).count());
    let victim = victim.unwrap();
    let gone = workers.remove(victim).kill();
    let left: Vec<Spec> = specs.iter().filter(|spec| spec.folder != gone.folder).cloned().collect();
    publish(&mut stage, random, 200);
    settle(&stage, &left);
    let starts = check_warm_starts(&stage, &specs, &since);
    let had: BTreeSet<Place> = before[victim].owns.intersection(&places(&stage)).cloned().collect();
    assert!(had.iter().any(|(agent, _)| agent == LARGEST), "{had:?}");
    check_taken_over(&had, &before, &starts);

    // One comes anew: it holds what it gets before it gets it.
    let since = lengths(&specs);
    specs.push(spec(&stage, 3));
    workers.push(Worker::start(specs[3].clone()));
    publish(&mut stage, random, 200);
    let running: Vec<Spec> = specs.iter().filter(|spec| spec.folder != gone.folder).cloned().collect();
    let before = settle(&stage, &running);
    let starts = check_warm_starts(&stage, &specs, &since);
    assert!(
        starts.iter().any(|((agent, _), number)| agent == LARGEST && *number == 3),
        "it has got nothing: {starts:?}"
    );

    // One is stopped.
    let since = lengths(&running);
    let stopped = workers.remove(0);
    let number = running.iter().position(|spec| spec.folder == stopped.spec.folder).unwrap();
    let had: BTreeSet<Place> = before[number].owns.intersection(&places(&stage)).cloned().collect();
    stopped.stop();
    publish(&mut stage, random, 200);
    let left: Vec<Spec> =
        running.iter().enumerate().filter(|(other, _)| *other != number).map(|(_, spec)| spec.clone()).collect();
    settle(&stage, &left);
    check_taken_over(&had, &before, &check_warm_starts(&stage, &running, &since));

    let (took, starts) = stage.end(workers, began);
    check_starts(&specs[3..]);
    println!("{} orders in {took:.1?}; {starts}", stage.orders.len());
    shop::check_figures(&mut stage);
}

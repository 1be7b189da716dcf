//! Workers share partitions, take over from each other, stop, fail and refuse.

use std::collections::BTreeSet;
use std::fs;
use std::time::Duration;

use gretchen::topic::{TopicPartition, partition_of};

use crate::shop::{self, Evidence};
use crate::support::{APP, PARTITIONS, Random, Said, Stage, What, Worker, copy};

/// Time in which partitions must have a new owner.
const TAKEOVER: Duration = Duration::from_secs(10);

/// The partitions that a worker has at work, by what it says.
fn owned(said: &[Said]) -> BTreeSet<(String, u32)> {
    let mut owned = BTreeSet::new();
    for said in said {
        match &said.what {
            What::Started { agent, partition, .. } => owned.insert((agent.clone(), *partition)),
            What::Stopped { agent, partition } | What::Failed { agent, partition, .. } => {
                owned.remove(&(agent.clone(), *partition))
            }
            What::Ended { .. } => continue,
        };
    }
    owned
}

/// Waits, with orders flowing, until each of `workers` has partitions of every agent and each partition an owner.
fn settle(stage: &mut Stage, random: &mut Random, workers: &mut [Worker], agents: usize) -> Duration {
    let began = stage.clock.moment();
    loop {
        let owned: Vec<_> = workers.iter().map(|worker| owned(&worker.said())).collect();
        let all: BTreeSet<_> = owned.iter().flatten().collect();
        let whole =
            owned.iter().map(BTreeSet::len).sum::<usize>() == all.len() && all.len() == agents * PARTITIONS as usize;
        let share = agents * (PARTITIONS as usize / workers.len());
        if whole && owned.iter().all(|owned| owned.len() >= share) {
            return stage.passed(began);
        }
        assert!(stage.passed(began) < TAKEOVER, "the partitions are not shared out: {owned:#?}");
        flow(stage, random);
    }
}

fn flow(stage: &mut Stage, random: &mut Random) {
    let count = random.within(1..10);
    let more = shop::orders(random, stage.orders.len(), count, false);
    stage.publish(more);
    stage.sleep_ms(5);
}

/// Orders that the agent `large` has put out.
fn put_out(stage: &mut Stage) -> usize {
    stage.topic::<shop::Order>("large").iter().map(Vec::len).sum()
}

#[test]
fn workers_share_partitions_and_one_has_each() {
    let mut random = Random::seeded("workers::workers_share_partitions_and_one_has_each");
    let mut stage = Stage::new("owners", false);
    let agents = 3;
    let mut grown = Vec::new();
    let mut workers = vec![stage.worker()];
    println!("one worker has all partitions after {:.0?}", settle(&mut stage, &mut random, &mut workers, agents));
    grown.push(put_out(&mut stage));
    for number in ["second", "third"] {
        workers.push(stage.worker());
        println!("a {number} worker has its share after {:.0?}", settle(&mut stage, &mut random, &mut workers, agents));
        (0..20).for_each(|_| flow(&mut stage, &mut random));
        grown.push(put_out(&mut stage));
    }
    check_handed_over(&stage);

    workers.remove(random.within(0..3) as usize).kill();
    let took = settle(&mut stage, &mut random, &mut workers, agents);
    println!("a killed worker's partitions have new owners after {took:.0?}");
    (0..20).for_each(|_| flow(&mut stage, &mut random));
    grown.push(put_out(&mut stage));
    assert!(grown.is_sorted_by(|a, b| a < b), "orders did not keep flowing: {grown:?}");

    let leaves = workers.remove(0);
    stage.stop(vec![leaves]);
    println!(
        "a worker that left has its partitions taken after {:.0?}",
        settle(&mut stage, &mut random, &mut workers, agents)
    );
    stage.catch_up(&mut workers);
    stage.stop(workers);
    stage.check_owners();
    shop::check_orders(&mut stage, &["orders", "large"]);
    let (starts, _) = stage.check_recoveries();
    println!("{} orders, {starts} starts of tasks", stage.orders.len());
}

/// As long as no worker is killed, every record is seen once, in order, by whoever owns its partition.
fn check_handed_over(stage: &Stage) {
    stage.check_owners();
    for partition in 0..PARTITIONS {
        let notes = fs::read_to_string(stage.folder().join("owners").join(partition.to_string())).unwrap();
        for (offset, line) in notes.lines().enumerate() {
            let seen = line.split(' ').nth(1).unwrap();
            assert_eq!(seen, offset.to_string(), "partition {partition}: {line:?} is line {}", offset + 1);
        }
    }
}

#[test]
fn a_stop_commits_everything() {
    let mut random = Random::seeded("workers::a_stop_commits_everything");
    let mut stage = Stage::new("shop", true);
    // Nothing would be committed or checkpointed by time.
    (stage.spec.commit_ms, stage.spec.checkpoint_ms) = (60_000, 600_000);
    // However slow the disk is.
    stage.spec.stop_ms = 60_000;
    let mut before = 0;
    for _ in 0..5 {
        let more = shop::orders(&mut random, stage.orders.len(), 20_000, false);
        stage.publish(more);
        let worker = stage.worker();
        while owned(&worker.said()).is_empty() {
            stage.sleep_ms(1);
        }
        // Somewhere in the midst of them.
        stage.sleep_ms(random.within(0..100));
        let number = worker.number;
        stage.stop(vec![worker]);
        let after: u64 = stage.progress().values().map(|(position, _)| position).sum();
        let said: Vec<What> =
            stage.said().into_iter().filter(|(of, _)| *of == number).map(|(_, said)| said.what).collect();
        assert_eq!(
            said.last(),
            Some(&What::Ended { finished: after - before, stuck: 0 }),
            "what was finished is committed"
        );
        before = after;
    }
    let mut workers = [stage.worker()];
    stage.catch_up(&mut workers);
    stage.stop(workers.into());
    shop::check(&mut stage);

    // With nothing new, a start reads the last commit of each task, whose mark holds the positions, and changes nothing.
    let progress = stage.progress();
    let worker = stage.worker();
    while owned(&worker.said()).len() < progress.len() {
        stage.sleep_ms(5);
    }
    let mut replayed_all = 0;
    for said in worker.said() {
        if let What::Started { agent, partition, covered, replayed } = said.what {
            let end = progress[&(agent, partition)].1;
            assert_eq!(covered + replayed, end);
            replayed_all += replayed;
        }
    }
    let all: u64 = progress.values().map(|(_, end)| end).sum();
    println!("{} orders; a start read {replayed_all} of {all} changelog records", stage.orders.len());
    assert!(replayed_all < all);
    stage.stop(vec![worker]);
    assert_eq!(stage.progress(), progress, "a start and a stop without orders wrote to a changelog");
}

#[test]
fn a_failed_record_stops_its_partition_and_is_the_next_after_the_fix() {
    let mut random = Random::seeded("workers::a_failed_record_stops_its_partition_and_is_the_next_after_the_fix");
    let mut stage = Stage::new("failing", false);
    let before = shop::orders(&mut random, 0, 200, false);
    stage.publish(before);
    let mut bad = shop::orders(&mut random, 200, 1, false);
    bad[0].quantity = shop::FAILING;
    let partition = partition_of(bad[0].customer.as_bytes(), PARTITIONS);
    let offset = stage.topic::<shop::Order>("orders")[partition as usize].len() as u64;
    stage.publish(bad);

    let mut workers = [stage.worker()];
    let began = stage.clock.moment();
    let failed = loop {
        let failed: Vec<_> = workers[0]
            .said()
            .into_iter()
            .filter_map(|said| match said.what {
                What::Failed { agent, partition, kind, error } => Some((agent, partition, kind, error)),
                _ => None,
            })
            .collect();
        if failed.len() == 2 {
            break failed;
        }
        assert!(stage.passed(began) < TAKEOVER, "{failed:?}");
        stage.sleep_ms(5);
    };
    for (agent, at, kind, error) in failed {
        assert_eq!((at, kind.as_str()), (partition, "Agent"));
        let place = format!("topic orders, partition {partition}, offset {offset}");
        assert!(error.contains(&place) && error.contains("order 200 is not acceptable"), "{agent}: {error}");
    }

    // The other partitions go on.
    let after = shop::orders(&mut random, 201, 300, false);
    stage.publish(after);
    let replay = stage.replay();
    let group = |agent: &str| gretchen::plan::group_name(APP, agent);
    for other in (0..PARTITIONS).filter(|other| *other != partition) {
        let place = TopicPartition::new("orders", other);
        let end = replay.offsets(&place).unwrap().end;
        let began = stage.clock.moment();
        while ["accepted", "passed"].iter().any(|agent| replay.position(&group(agent), &place).unwrap() != Some(end)) {
            assert!(stage.passed(began) < TAKEOVER, "{place} does not go on");
            assert!(workers[0].ended().is_none());
            stage.sleep_ms(5);
        }
    }
    let place = TopicPartition::new("orders", partition);
    // What was finished before it is committed where nothing half done is in the way.
    assert_eq!(replay.position(&group("passed"), &place).unwrap(), Some(offset));
    assert!(replay.position(&group("accepted"), &place).unwrap().unwrap_or(0) <= offset);
    drop(replay);
    stage.stop(workers.into());

    // Without the fix the same record fails again.
    let again = stage.worker();
    let began = stage.clock.moment();
    while !again.said().iter().any(|said| matches!(said.what, What::Failed { partition: at, .. } if at == partition)) {
        assert!(stage.passed(began) < TAKEOVER);
        stage.sleep_ms(5);
    }
    again.kill();

    stage.spec.accepts = true;
    let mut workers = [stage.worker()];
    stage.catch_up(&mut workers);
    stage.stop(workers.into());
    shop::check_failing(&mut stage);
}

/// What a worker says that all its partitions refuse to start for.
fn refusals(stage: &mut Stage, wanted: usize) -> Vec<(String, u32, String, String)> {
    let mut worker = stage.worker();
    let began = stage.clock.moment();
    loop {
        let refused: Vec<_> = worker
            .said()
            .into_iter()
            .filter_map(|said| match said.what {
                What::Failed { agent, partition, kind, error } => Some((agent, partition, kind, error)),
                _ => None,
            })
            .collect();
        if refused.len() >= wanted {
            return refused;
        }
        assert!(
            worker.ended().is_none() && stage.passed(began) < TAKEOVER,
            "{wanted} refusals were expected: {:#?}\n{}",
            worker.said(),
            worker.stderr()
        );
        stage.sleep_ms(5);
    }
}

/// An app that has processed some orders and stopped.
fn processed(random: &mut Random) -> Stage {
    let mut stage = Stage::new("failing", false);
    let more = shop::orders(random, 0, 400, false);
    stage.publish(more);
    let mut workers = [stage.worker()];
    stage.catch_up(&mut workers);
    stage.stop(workers.into());
    shop::check_failing(&mut stage);
    stage
}

#[test]
fn state_ahead_of_its_changelog_is_reported_and_not_trusted() {
    let mut random = Random::seeded("workers::state_ahead_of_its_changelog_is_reported_and_not_trusted");
    let mut stage = processed(&mut random);
    let data = stage.data();
    let kept = stage.folder().join("kept");
    // With one commit the state covers offset 0 and no more, which an empty changelog has, too.
    for covers in ["one commit", "many"] {
        stage.close();
        let _ = fs::remove_dir_all(&kept);
        copy(&data, &kept);
        fs::remove_dir_all(&data).unwrap();
        copy(&kept.join("state"), &data.join("state"));
        for (agent, partition, kind, error) in refusals(&mut stage, 2 * PARTITIONS as usize) {
            assert_eq!(kind, "State", "{error}");
            let changelog = gretchen::plan::changelog_name(APP, &agent);
            assert!(error.contains(&format!("topic {changelog}, partition {partition}")), "{error}");
            let ahead = format!("the state of agent {agent} is ahead of its changelog");
            let foreign = format!("the state of agent {agent} does not belong to its changelog");
            assert!(error.contains(&ahead) || covers == "one commit" && error.contains(&foreign), "{error}");
        }
        fs::remove_dir_all(&data).unwrap();
        copy(&kept, &data);
        let more = shop::orders(&mut random, stage.orders.len(), 400, false);
        stage.publish(more);
        let mut workers = [stage.worker()];
        stage.catch_up(&mut workers);
        stage.stop(workers.into());
        shop::check_failing(&mut stage);
    }
    stage.close();

    // Nor is it trusted when the new changelog has grown beyond it and its commits begin elsewhere. (Those of `accepted`
    // may begin where they did: a commit has the same few keys each time.)
    fs::remove_dir_all(&data).unwrap();
    stage.orders = shop::orders(&mut random, 0, 20_000, false);
    stage.publish(Vec::new());
    let mut workers = [stage.worker()];
    stage.catch_up(&mut workers);
    stage.stop(workers.into());
    stage.close();
    fs::remove_dir_all(data.join("state")).unwrap();
    copy(&kept.join("state"), &data.join("state"));
    let refused = refusals(&mut stage, PARTITIONS as usize);
    for (agent, _, kind, error) in refused {
        assert_eq!(kind, "State", "{error}");
        let ahead = format!("the state of agent {agent} is ahead of its changelog");
        let foreign = format!("the state of agent {agent} does not belong to its changelog");
        assert!(error.contains(&ahead) || error.contains(&foreign), "{error}");
    }
}

#[test]
fn a_committed_position_beyond_the_end_of_its_topic_is_reported() {
    let mut random = Random::seeded("workers::a_committed_position_beyond_the_end_of_its_topic_is_reported");
    let mut stage = processed(&mut random);
    stage.close();
    let topic = stage.data().join("topics").join("orders");
    let id = fs::read(topic.join("id")).unwrap();
    fs::remove_dir_all(&topic).unwrap();
    stage.orders.truncate(20);
    stage.publish(Vec::new());
    stage.close();
    // The topic is the same; its records were lost.
    fs::write(topic.join("id"), id).unwrap();
    let refused = refusals(&mut stage, 2 * PARTITIONS as usize);
    for (agent, partition, kind, error) in refused {
        assert_eq!(kind, "State", "{error}");
        assert!(error.contains(&format!("agent {agent} has committed offset")), "{error}");
        assert!(error.contains(&format!("topic orders, partition {partition}")), "{error}");
    }
}

/// What a topic of the same name holds is not what follows on what was read, however much it is.
#[test]
fn a_topic_that_was_deleted_and_made_anew_is_reported() {
    let mut random = Random::seeded("workers::a_topic_that_was_deleted_and_made_anew_is_reported");
    let mut stage = processed(&mut random);
    stage.close();
    let topic = stage.data().join("topics").join("orders");
    let id = fs::read(topic.join("id")).unwrap();
    fs::remove_dir_all(&topic).unwrap();
    stage.orders = shop::orders(&mut random, 0, 2_000, false);
    stage.publish(Vec::new());
    stage.close();
    let refused = refusals(&mut stage, 2 * PARTITIONS as usize);
    for (agent, partition, kind, error) in refused {
        assert_eq!(kind, "State", "{error}");
        assert!(error.contains(&format!("agent {agent} has read the topic up to offset")), "{error}");
        assert!(error.contains("it was deleted and made anew since"), "{error}");
        assert!(error.contains(&format!("topic orders, partition {partition}")), "{error}");
    }

    // It is the id that tells them apart.
    fs::write(topic.join("id"), id).unwrap();
    let mut workers = [stage.worker()];
    stage.catch_up(&mut workers);
    stage.stop(workers.into());
}

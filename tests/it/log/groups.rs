//! A killed member's units.

use std::collections::BTreeSet;
use std::time::Duration;

use gretchen::backend::{Assignment, AssignmentSet, Backend, Consumer};
use gretchen::clock::Clock;

use super::{as_child, child, open};

const UNITS: u32 = 6;

fn sets() -> Vec<AssignmentSet> {
    vec![AssignmentSet { name: "orders".into(), partitions: UNITS, topics: Vec::new() }]
}

/// Follows the assignments for ever, and says by a file how many units it holds.
async fn follow(consumer: &mut dyn Consumer, held: &mut BTreeSet<u32>) {
    match consumer.assignment().await.unwrap() {
        Assignment::Gained(units) => held.extend(units.iter().map(|unit| unit.partition)),
        Assignment::Wanted(units) => {
            for unit in units {
                held.remove(&unit.partition);
                consumer.release(unit).await.unwrap();
            }
        }
        Assignment::Lost(units) => panic!("lost {units:?}"),
        Assignment::Standbys(units) => panic!("{units:?}"),
        Assignment::Withheld(units) => panic!("{units:?}"),
    }
}

#[tokio::test]
async fn child_member() {
    let Some((folder, _)) = as_child() else { return };
    let mut consumer = open(&folder).consumer("app", &sets()).await.unwrap();
    let mut held = BTreeSet::new();
    loop {
        follow(&mut *consumer, &mut held).await;
        std::fs::write(folder.join("held"), held.len().to_string()).unwrap();
    }
}

#[tokio::test]
async fn a_killed_members_units_are_taken_over() {
    let folder = tempfile::tempdir().unwrap();
    let clock = Clock::system();
    let mut consumer = open(folder.path()).consumer("app", &sets()).await.unwrap();
    let mut held = BTreeSet::new();
    follow(&mut *consumer, &mut held).await;
    assert_eq!(held.len(), 6);
    let mut other = child("log::groups::child_member", folder.path(), 0);
    let shared = async {
        while held.len() != 3 || std::fs::read_to_string(folder.path().join("held")).ok().as_deref() != Some("3") {
            tokio::select! {
                () = follow(&mut *consumer, &mut held) => {}
                () = clock.sleep(Duration::from_millis(50)) => {}
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(10), shared).await.expect("the units are shared");
    other.kill().unwrap();
    other.wait().unwrap();
    let killed = clock.moment();
    let taken = async {
        while held.len() != 6 {
            follow(&mut *consumer, &mut held).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), taken).await.expect("the units are taken over");
    println!("taken over after {:?}", clock.moment().since(killed));
}

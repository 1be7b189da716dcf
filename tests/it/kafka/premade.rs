//! Topics whose settings somebody else has a hand in.

use std::fs;

use serde_json::json;

use super::identity::Machine;
use super::{CONFIGS, TOPICS, fresh_prefix, tool};
use crate::cli::{bad, good, json_of, run};

const RECORDS: &str = "org.apache.kafka.tools.DeleteRecordsCommand";

/// The broker would delete the states of such a changelog after a while.
#[test]
fn a_changelog_that_is_not_compacted_is_refused() {
    let prefix = fresh_prefix();
    let machine = Machine::new(&prefix);
    let changelog = format!("{prefix}shop-add_up-changelog");
    let policy = ["--config", "cleanup.policy=delete", "--partitions", "1"];
    tool(TOPICS, &[&["--create", "--topic", &changelog], &policy[..]].concat());
    let (code, _, said) = run(machine.dir(), &["worker", "--until-caught-up"]);
    assert_ne!(code, 0, "{said}");
    for part in [&*changelog, "its cleanup.policy is delete", "--add-config cleanup.policy=compact"] {
        assert!(said.contains(part), "{part}: {said}");
    }

    tool(CONFIGS, &["--alter", "--topic", &changelog, "--add-config", "cleanup.policy=compact"]);
    machine.send("ada", 1);
    machine.work();
    assert_eq!(machine.paid()[0]["key"], "ada");
    let said = machine.work();
    assert!(!said.contains("cleanup.policy"), "{said}");
}

/// Somebody has deleted records of a changelog: a store that has them goes on, and no table is made of what is left.
#[test]
fn a_changelog_without_its_start_makes_no_table() {
    let prefix = fresh_prefix();
    let [machine, other] = [Machine::new(&prefix), Machine::new(&prefix)];
    for customer in ["ada", "bob", "ada"] {
        machine.send(customer, 1);
        machine.work();
    }
    let (table, changelog) = (machine.paid(), format!("{prefix}shop-add_up-changelog"));
    let policy = |policy: &str| {
        tool(CONFIGS, &["--alter", "--topic", &changelog, "--add-config", &format!("cleanup.policy={policy}")]);
    };
    let offsets = machine.dir().join("offsets.json");
    let cut = json!({"version": 1, "partitions": [{"topic": changelog, "partition": 0, "offset": 2}]});
    fs::write(&offsets, cut.to_string()).unwrap();
    // Of a topic that is compacted alone the broker lets nobody delete records.
    policy("delete");
    tool(RECORDS, &["--offset-json-file", offsets.to_str().unwrap()]);
    policy("compact");

    let (code, _, said) = run(other.dir(), &["worker", "--until-caught-up"]);
    assert_ne!(code, 0, "{said}");
    for part in ["agent add_up has no state here", "which holds 2 to ", "`reset`"] {
        assert!(said.contains(part), "{part}: {said}");
    }
    machine.work();
    assert_eq!(machine.paid(), table);
    good(other.dir(), &["reset", "--force"]);
    other.work();
    assert_eq!(other.paid(), table);
}

#[test]
fn what_an_operator_has_set_of_a_topic_stays() {
    let prefix = fresh_prefix();
    let machine = Machine::new(&prefix);
    machine.send("ada", 1);
    let topic = format!("{prefix}shop-orders");
    tool(CONFIGS, &["--alter", "--topic", &topic, "--add-config", "flush.ms=12345"]);
    good(machine.dir(), &["topics", "shop-orders", "--set", "retention_ms=7d"]);
    let described = tool(CONFIGS, &["--describe", "--topic", &topic]);
    for setting in ["flush.ms=12345", "retention.ms=604800000"] {
        assert!(described.contains(setting), "{setting}: {described}");
    }

    let said = bad(machine.dir(), &["topics", "shop-orders", "--set", "segment_bytes=5000"], 2);
    assert!(said.contains("cannot set topic shop-orders: ") && said.contains("segment.bytes"), "{said}");
    assert!(tool(CONFIGS, &["--describe", "--topic", &topic]).contains("retention.ms=604800000"));

    // What is not as it was asked for is told, and so is a topic that has fewer replicas.
    let settings = fs::read_to_string(machine.dir().join("gretchen.toml")).unwrap() + "\"gretchen.replicas\" = 3\n";
    let warnings =
        |said: &str| said.lines().filter(|line| line.contains("asked for") || line.contains("replicas")).count();
    assert_eq!(warnings(&machine.work()), 0);
    tool(CONFIGS, &["--alter", "--topic", &topic, "--add-config", "retention.ms=1000"]);
    fs::write(machine.dir().join("gretchen.toml"), settings).unwrap();
    let said = machine.work();
    let of = |parts: &[&str]| said.lines().any(|line| parts.iter().all(|part| line.contains(part)));
    assert!(of(&["WARN", "retention.ms", "value=\"1000\"", "wanted=\"604800000\"", "shop-orders"]), "{said}");
    assert!(of(&["WARN", "fewer replicas", "shop-orders", "replicas=1", "wanted=3"]), "{said}");
}

/// An app that may not make a topic says what it is to be, and somebody makes it who thinks otherwise: as long as it is empty
/// his number of partitions counts.
#[test]
fn a_topic_that_is_made_anew_before_it_has_a_record_may_have_other_partitions() {
    let prefix = fresh_prefix();
    let machine = Machine::new(&prefix);
    machine.work();
    let topic = format!("{prefix}shop-orders");
    // The tool takes a pattern.
    tool(TOPICS, &["--delete", "--topic", &format!("{prefix}shop-.*")]);
    tool(TOPICS, &["--create", "--topic", &topic, "--partitions", "2"]);
    let (code, _, said) = run(machine.dir(), &["worker", "--until-caught-up"]);
    assert_ne!(code, 0, "{said}");
    for part in ["topic shop-orders exists with partition count 2", "1 is asked for; ask for 2"] {
        assert!(said.contains(part), "{part}: {said}");
    }
    // The one that there is counts from now on, also for the changelogs that were made for the other.
    let topics = json_of(machine.dir(), &["topics", "--json"]);
    let orders = topics.as_array().unwrap().iter().find(|topic| topic["name"] == "shop-orders").unwrap();
    assert_eq!(orders["partitions"], 2);
}

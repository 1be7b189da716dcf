//! Topics whose settings somebody else has a hand in.

use std::fs;

use super::identity::Machine;
use super::{CONFIGS, TOPICS, fresh_prefix, tool};
use crate::cli::{bad, good, run};

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
    let warnings = |said: &str| said.lines().filter(|line| line.contains("WARN")).count();
    assert_eq!(warnings(&machine.work()), 0);
    tool(CONFIGS, &["--alter", "--topic", &topic, "--add-config", "retention.ms=1000"]);
    fs::write(machine.dir().join("gretchen.toml"), settings).unwrap();
    let said = machine.work();
    let of = |parts: &[&str]| said.lines().any(|line| parts.iter().all(|part| line.contains(part)));
    assert!(of(&["WARN", "retention.ms", "value=\"1000\"", "wanted=\"604800000\"", "shop-orders"]), "{said}");
    assert!(of(&["WARN", "fewer replicas", "shop-orders", "replicas=1", "wanted=3"]), "{said}");
}

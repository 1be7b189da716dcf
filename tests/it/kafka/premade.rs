//! Topics whose settings somebody else has a hand in.

use std::path::Path;
use std::process::Command;

use super::identity::Machine;
use super::{broker, fresh_prefix};
use crate::cli::{good, run};

const TOPICS: &str = "org.apache.kafka.tools.TopicCommand";
const CONFIGS: &str = "kafka.admin.ConfigCommand";

/// Runs one of Kafka's own tools on the broker.
fn tool(class: &str, args: &[&str]) -> String {
    let output = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/services/kafka"))
        .args(["tool", class, "--bootstrap-server", broker()])
        .args(args)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

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
}

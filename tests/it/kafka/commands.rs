//! The command line on a Kafka, beside Kafka's own tools.

use std::fs;

use serde_json::json;

use super::{broker, fresh_prefix, tool};
use crate::cli::{bad, csv, good, json_of};

const GROUPS: &str = "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand";

const ORDERS: u32 = 60;

/// What Kafka's tool says of a group in a topic: the position and the lag of each partition.
fn group(prefix: &str, name: &str) -> Vec<(u64, u64)> {
    let said = tool(GROUPS, &["--describe", "--group", &format!("{prefix}{name}")]);
    let rows = said.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let topic = format!("{prefix}shop-orders");
    let rows: Vec<_> = rows
        .filter(|row| row.get(1) == Some(&topic.as_str()))
        .map(|row| (row[3].parse().unwrap(), row[5].parse().unwrap()))
        .collect();
    assert!(!rows.is_empty(), "{said}");
    rows
}

/// A folder with settings that name the broker, and the prefix in them.
fn prepared(partitions: u32) -> (tempfile::TempDir, String) {
    let (folder, prefix) = (tempfile::tempdir().unwrap(), fresh_prefix());
    let broker = broker();
    let settings = format!(
        "backend = \"kafka://{broker}\"\npartitions = {partitions}\n[kafka]\n\"gretchen.prefix\" = \"{prefix}\"\n"
    );
    fs::write(folder.path().join("gretchen.toml"), settings).unwrap();
    (folder, prefix)
}

#[test]
fn positions_are_seen_by_kafkas_tool_and_reset() {
    let (folder, prefix) = prepared(2);
    let dir = folder.path();
    fs::write(dir.join("orders.csv"), csv(0..ORDERS)).unwrap();
    good(dir, &["send", "shop-orders", "--file", "orders.csv"]);
    let work = || json_of(dir, &["worker", "--until-caught-up", "--json"]);
    let paid = || json_of(dir, &["tables", "paid", "--json"]);
    work();
    let (all, seen) = (paid(), group(&prefix, "shop.add_up"));
    assert_eq!(all.as_array().unwrap().len(), 7);
    // They were sent in one transaction, whose mark stands behind them in each partition.
    assert_eq!(seen.iter().map(|(position, _)| position - 1).sum::<u64>(), u64::from(ORDERS));
    assert!(seen.iter().all(|(_, lag)| *lag == 0), "{seen:?}");

    // Looking changes nothing.
    let would = good(dir, &["reset", "--dry-run"]);
    for what in [
        "state     ",
        "topic     shop-add_up-changelog",
        "topic     shop-by_id-repartition",
        "position  shop.add_up in shop-orders",
    ] {
        assert!(would.contains(what), "{what}: {would}");
    }
    assert_eq!(work()["records"], json!(0));

    good(dir, &["reset", "--agent", "add_up", "--force"]);
    assert_eq!(paid(), json!([]));
    assert_eq!(work()["records"], json!(ORDERS));
    assert_eq!(paid(), all);

    // The last five offsets of each partition once more, four of them records.
    let starts =
        json_of(dir, &["reset", "--agent", "add_up", "--shift-by", "-5", "--dry-run", "--json"])["starts"].clone();
    let starts: Vec<(u64, u64)> = starts
        .as_array()
        .unwrap()
        .iter()
        .map(|start| (start["was"].as_u64().unwrap(), start["position"].as_u64().unwrap()))
        .collect();
    assert_eq!(starts.len(), 2);
    assert!(starts.iter().all(|(was, position)| position + 5 == *was), "{starts:?}");
    let done = good(dir, &["reset", "--agent", "add_up", "--shift-by", "-5", "--force"]);
    assert!(done.contains("from these positions on"), "{done}");
    assert!(group(&prefix, "shop.add_up").iter().all(|(_, lag)| *lag == 5));
    assert_eq!(work()["records"], json!(8));

    // Sent a moment ago, all of them.
    good(dir, &["reset", "--agent", "add_up", "--by-duration", "1h", "--force"]);
    assert_eq!(work()["records"], json!(ORDERS));
    good(dir, &["reset", "--agent", "add_up", "--to-latest", "--force"]);
    assert_eq!(work()["records"], json!(0));
    good(dir, &["reset", "--agent", "add_up", "--to-datetime", "1990-01-01T00:00:00Z", "--force"]);
    good(dir, &["reset", "--agent", "add_up", "--to-offset", "3", "--force"]);
    assert_eq!(work()["records"], json!(ORDERS - 6));

    let from_file = |text: &str| {
        fs::write(dir.join("starts.csv"), text).unwrap();
        ["reset", "--agent", "add_up", "--from-file", "starts.csv", "--force"]
    };
    for (text, why) in [
        ("shop-orders,0,3\n", "starts.csv does not say where shop-orders/1 begins"),
        ("shop-orders,0,3\nshop-orders,1,4\nshop-order,1,4\n", "starts.csv:3: none of the agents"),
        ("shop-orders,0,3\nshop-orders,1\n", "starts.csv:2: \"shop-orders,1\" is not topic,partition,offset"),
        ("shop-orders,0,3\nshop-orders,0,4\n", "starts.csv:2: line 1 says where shop-orders/0 begins already"),
    ] {
        let said = bad(dir, &from_file(text), 1);
        assert!(said.contains(why), "{why}: {said}");
    }
    assert_eq!(work()["records"], json!(0), "a file that is refused changes nothing");
    good(dir, &from_file("shop-orders,0,3\n\"shop-orders\", 1, 5\n"));
    assert_eq!(work()["records"], json!(ORDERS - 8));

    // In a topic that is not among those named it goes on where it is.
    good(dir, &["send", "plain", "one"]);
    assert_eq!(work()["records"], json!(1));
    good(dir, &["reset", "--input-topics", "shop-orders", "--to-latest", "--force"]);
    good(dir, &["send", "plain", "two"]);
    assert_eq!(work()["records"], json!(1));
    good(dir, &["reset", "--agent", "echo", "--force"]);
    assert_eq!(work()["records"], json!(2));
}

#[test]
fn what_one_agent_puts_out_to_another_counts_once() {
    let (folder, _) = prepared(1);
    let dir = folder.path();
    crate::reset::check_chain(dir, 7);
    // Who lags behind stays where he is, where nothing comes again.
    good(dir, &["reset", "--agent", "count", "--to-offset", "1", "--force"]);
    let would = json_of(dir, &["reset", "--shift-by", "0", "--dry-run", "--json"]);
    let start = would["starts"].as_array().unwrap().iter().find(|start| start["agent"] == "count").unwrap();
    assert_eq!((&start["was"], &start["position"]), (&json!(1), &json!(1)));
    assert!(bad(dir, &["reset", "--shift-by", "-1", "--dry-run"], 2).contains("agents hear and count are reset"));
    // What somebody else has put there, too, can be asked for.
    good(dir, &["reset", "--input-topics", "heard,words", "--force"]);
    assert_eq!(crate::reset::work_on(dir, 18), 4 + 10 + 4);
}

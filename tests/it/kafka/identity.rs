//! Two machines with folders of their own, and changelogs that are deleted and made anew: a store that is left of a changelog
//! before is not taken for one of the changelog that is there.

use std::fs;
use std::path::Path;

use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::{Offset, TopicPartitionList};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::{TOPICS, broker, fresh_prefix, tool};
use crate::cli::{good, json_of, order, run};

/// A machine with data of its own.
pub(super) struct Machine(TempDir, String);

impl Machine {
    pub(super) fn new(prefix: &str) -> Self {
        let dir = TempDir::with_prefix("gretchen-machine-").unwrap();
        let settings = format!(
            "backend = \"kafka://{}\"\npartitions = 1\n[kafka]\n\"gretchen.prefix\" = \"{prefix}\"\n",
            broker()
        );
        fs::write(dir.path().join("gretchen.toml"), settings).unwrap();
        Self(dir, prefix.to_owned())
    }

    pub(super) fn dir(&self) -> &Path {
        self.0.path()
    }

    pub(super) fn send(&self, customer: &str, quantity: i32) {
        good(self.dir(), &["send", "shop-orders", &order(customer, quantity)]);
    }

    /// Works until nothing is left, and returns what was said meanwhile.
    pub(super) fn work(&self) -> String {
        let (code, _, said) = run(self.dir(), &["worker", "--until-caught-up"]);
        assert_eq!(code, 0, "{said}");
        said
    }

    /// Cents by customer.
    pub(super) fn paid(&self) -> Value {
        json_of(self.dir(), &["tables", "paid", "--json"])
    }

    /// Sets the position of the agent that adds up, with a note beside it.
    fn set_position(&self, offset: i64, note: &str) {
        let client: BaseConsumer = ClientConfig::new()
            .set("bootstrap.servers", broker())
            .set("group.id", format!("{}shop.add_up", self.1))
            .create()
            .unwrap();
        let mut places = TopicPartitionList::new();
        places.add_partition_offset(&format!("{}shop-orders", self.1), 0, Offset::Offset(offset)).unwrap();
        places.elements().first_mut().unwrap().set_metadata(note);
        client.commit(&places, CommitMode::Sync).unwrap();
    }

    fn store(&self) -> std::path::PathBuf {
        self.dir().join("gretchen-data/state/shop/paid/0")
    }
}

fn rows(of: &[(&str, i64)]) -> Value {
    of.iter().map(|(customer, cents)| json!({"key": customer, "value": cents})).collect()
}

fn delete_topic(name: &str) {
    tool(TOPICS, &["--delete", "--topic", name]);
}

const DROPPED: &str = "the store is a copy of a changelog that was deleted";

#[test]
fn a_store_of_a_changelog_that_was_deleted_is_not_taken_for_the_new_one_s() {
    let prefix = fresh_prefix();
    let [one, other] = [Machine::new(&prefix), Machine::new(&prefix)];
    one.send("before", 1);
    one.work();
    // The other has a store of the same changelog.
    one.send("before", 1);
    other.work();
    assert_eq!(other.paid(), rows(&[("before", 500)]));

    // Nothing on the other machine is told of this, and the new changelog gets longer than the old one.
    let said = good(one.dir(), &["reset", "--agent", "add_up", "--to-latest", "--force"]);
    assert!(!said.contains("machine"), "{said}");
    for customer in ["a", "b", "c", "a"] {
        one.send(customer, 1);
        one.work();
    }
    let now = rows(&[("a", 500), ("b", 250), ("c", 250)]);
    assert_eq!(one.paid(), now);
    assert_eq!(other.paid(), now, "who only looks passes over the old store, too");
    let said = other.work();
    assert!(
        said.contains(DROPPED) && said.contains("shop/paid/0") && said.contains("shop-add_up-changelog/0"),
        "{said}"
    );
    assert_eq!(other.paid(), now);
    other.send("c", 1);
    assert!(!other.work().contains(DROPPED), "once is enough");
    assert_eq!(other.paid(), rows(&[("a", 500), ("b", 250), ("c", 500)]));

    // Before anything is in the new changelog: this is meant, and says so.
    good(other.dir(), &["reset", "--to-latest", "--agent", "add_up", "--force"]);
    let said = one.work();
    assert!(said.contains(DROPPED), "{said}");
    one.send("d", 1);
    one.work();
    assert_eq!(one.paid(), rows(&[("d", 250)]));
    assert_eq!(other.paid(), one.paid());

    // All of it once more, also what feeds the repartition topic, which keeps a position alone.
    good(other.dir(), &["reset", "--force"]);
    let said = one.work();
    assert!(
        said.contains(DROPPED) && said.contains("by_id-rekey") && said.contains("the position is one in a"),
        "{said}"
    );
    assert_eq!(one.paid(), rows(&[("a", 500), ("b", 250), ("before", 500), ("c", 500), ("d", 250)]));
    assert_eq!(json_of(one.dir(), &["tables", "by-id", "--json"]), json!([{"key": "1", "value": 8}]));
}

#[test]
fn a_store_is_kept_where_it_may_be_all_that_is_left() {
    let prefix = fresh_prefix();
    let machine = Machine::new(&prefix);
    machine.send("before", 1);
    machine.work();
    assert!(machine.store().join("CURRENT").exists());
    // By hand, and the group's position stays.
    delete_topic(&format!("{prefix}shop-add_up-changelog"));
    for _ in 0..2 {
        let (code, _, said) = run(machine.dir(), &["worker", "--until-caught-up"]);
        assert_eq!(code, 1, "{said}");
        assert!(
            said.contains("topic shop-add_up-changelog, partition 0") && said.contains("was deleted and is empty now"),
            "{said}"
        );
        assert!(
            said.contains("group shop.add_up") && said.contains("shop-orders/0") && said.contains("`reset`"),
            "{said}"
        );
        assert!(machine.store().join("CURRENT").exists());
    }
    good(machine.dir(), &["reset", "--agent", "add_up", "--force"]);
    machine.work();
    assert_eq!(machine.paid(), rows(&[("before", 250)]));
}

#[test]
fn a_topic_that_was_deleted_and_made_anew_is_not_taken_for_what_it_was() {
    let prefix = fresh_prefix();
    let machine = Machine::new(&prefix);
    machine.send("before", 1);
    machine.work();
    delete_topic(&format!("{prefix}shop-orders"));
    for customer in ["a", "b", "a"] {
        machine.send(customer, 1);
    }
    let wanted = "agent add_up has read the topic up to offset 1, and it was deleted and made anew since";
    let mut said = String::new();
    // The worker stops as soon as one of two agents has failed, and the other may not have been asked by then.
    for _ in 0..20 {
        let (code, _, now) = run(machine.dir(), &["worker", "--until-caught-up"]);
        assert_eq!(code, 1, "{now}");
        said = now;
        if said.contains(wanted) {
            break;
        }
    }
    assert!(said.contains(wanted) && said.contains("topic shop-orders, partition 0"), "{said}");
    // Who sets an agent's position means this topic, and its tables stay; others still refuse it.
    machine.set_position(0, "");
    let all = rows(&[("a", 500), ("b", 250), ("before", 250)]);
    for _ in 0..20 {
        let (code, _, said) = run(machine.dir(), &["worker", "--until-caught-up"]);
        assert!(code == 1 && said.contains("agent by_id-rekey has read the topic"), "{said}");
        assert!(!said.contains("agent add_up has read the topic"), "{said}");
        if machine.paid() == all {
            break;
        }
    }
    assert_eq!(machine.paid(), all);
    good(machine.dir(), &["reset", "--force"]);
    machine.work();
    assert_eq!(machine.paid(), rows(&[("a", 500), ("b", 250)]));
}

#[test]
fn a_changelog_that_has_lost_commits_is_not_gone_on_from() {
    let prefix = fresh_prefix();
    let machine = Machine::new(&prefix);
    for _ in 0..2 {
        machine.send("before", 1);
        machine.work();
    }
    // All at once: the brokers that had the changelog, and the folder with the stores.
    delete_topic(&format!("{prefix}shop-add_up-changelog"));
    fs::remove_dir_all(machine.dir().join("gretchen-data/state")).unwrap();
    machine.send("after", 1);
    let (code, _, said) = run(machine.dir(), &["worker", "--until-caught-up"]);
    assert_eq!(code, 1, "{said}");
    let wanted = "shop.add_up is at commit 2, and the last in the changelog of agent add_up is 0";
    assert!(said.contains(wanted) && said.contains("topic shop-orders, partition 0"), "{said}");
    good(machine.dir(), &["reset", "--agent", "add_up", "--force"]);
    machine.work();
    assert_eq!(machine.paid(), rows(&[("after", 250), ("before", 500)]));
}

/// What the changelog has counts where the group's position is that of an earlier commit.
#[test]
fn a_position_that_was_lost_is_that_of_the_changelog() {
    let prefix = fresh_prefix();
    let machine = Machine::new(&prefix);
    for _ in 0..3 {
        machine.send("before", 1);
        machine.work();
    }
    machine.set_position(1, "commit 1");
    let said = machine.work();
    assert!(said.contains("the group's position is that of an earlier commit"), "{said}");
    assert_eq!(machine.paid(), rows(&[("before", 750)]));
    assert!(!machine.work().contains("earlier commit"), "it was committed again");

    // Somebody who sets it means it.
    machine.set_position(1, "");
    machine.work();
    assert_eq!(machine.paid(), rows(&[("before", 1250)]));
}

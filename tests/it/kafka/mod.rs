//! On a real Kafka, which `tests/services/kafka` starts once for all of these tests.

mod cluster;
mod commands;
mod conformance;
mod cut_off;
mod ends;
mod eos;
mod gone;
mod guarantees;
mod here;
mod identity;
mod kill;
mod left_open;
mod lost_answers;
mod mixed;
mod named;
mod premade;
mod purging;
mod restored;
mod secured;
mod stage;
mod standby;
mod static_member;
mod stopped;
mod stuck;
mod unreachable;
mod worker;

use std::path::Path;
use std::process::Command;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use gretchen::backend::kafka::KafkaOptions;

/// The address of the broker, which ends with this process.
pub(crate) fn broker() -> &'static str {
    static ADDRESS: OnceLock<String> = OnceLock::new();
    ADDRESS.get_or_init(|| {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/services/kafka");
        let started = Command::new(&script).args(["start", "--while", &std::process::id().to_string()]).output().unwrap();
        let said = String::from_utf8_lossy(&started.stderr);
        assert!(
            started.status.success(),
            "tests on Kafka need a broker, and {} could not start one. It needs a JRE of 17 or later and Maven (Debian: \
             apt-get install default-jre-headless maven). It said:\n{said}",
            script.display()
        );
        String::from_utf8(started.stdout).unwrap().trim().to_owned()
    })
}

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

/// A name space of its own on the broker.
pub(crate) fn fresh_prefix() -> String {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    format!("t{}-{}.", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed))
}

/// The broker, under names that begin so; members that are gone are missed soon.
pub(crate) fn options(prefix: &str) -> KafkaOptions {
    options_at(broker(), prefix)
}

fn options_at(servers: &str, prefix: &str) -> KafkaOptions {
    let mut options = KafkaOptions::new(servers);
    options.set("gretchen.prefix", prefix).unwrap();
    options.set("session.timeout.ms", "2000").unwrap();
    options.set("heartbeat.interval.ms", "300").unwrap();
    options
}

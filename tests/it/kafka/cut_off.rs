//! Two machines, as network namespaces: a worker that is cut off from the broker and the others for longer than its session
//! loses and repeats nothing.
//!
//! `GRETCHEN_CUTS=10` asks for more of them.

use std::process::Command;
use std::time::Duration;

use super::cluster::Cluster;
use super::stage::{Stage, WORKERS};
use super::worker::{Worker, number_of};
use crate::support::Random;

/// For how long.
const CUT: Duration = Duration::from_secs(30);

/// A namespace with a cable to this one; both go with the test.
struct Machine {
    name: String,
    cable: String,
    /// Begins the addresses of both ends.
    network: String,
}

impl Machine {
    fn plug_in() -> Self {
        let number = std::process::id();
        let machine = Self {
            name: format!("gretchen-{number}"),
            cable: format!("gr{number}"),
            network: format!("10.213.{}", number % 250),
        };
        let Self { name, cable, network } = &machine;
        ip(&["netns", "add", name]);
        ip(&["link", "add", cable, "type", "veth", "peer", "name", "uplink", "netns", name]);
        ip(&["addr", "add", &format!("{network}.1/24"), "dev", cable]);
        ip(&["link", "set", cable, "up"]);
        ip(&["-n", name, "addr", "add", &format!("{network}.2/24"), "dev", "uplink"]);
        ip(&["-n", name, "link", "set", "lo", "up"]);
        machine.set("up");
        machine
    }

    /// Its end of the cable.
    fn set(&self, state: &str) {
        ip(&["-n", &self.name, "link", "set", "uplink", state]);
    }

    /// This machine, as that one sees it.
    fn host(&self) -> String {
        format!("{}.1", self.network)
    }

    /// Runs this test binary there.
    fn command(&self) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name]).arg(std::env::current_exe().unwrap());
        command
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["link", "del", &self.cable]).status();
        let _ = Command::new("ip").args(["netns", "del", &self.name]).status();
    }
}

fn ip(args: &[&str]) {
    let output = Command::new("ip").args(args).output();
    let output =
        output.unwrap_or_else(|error| panic!("this test needs ip (Debian: apt-get install iproute2): {error}"));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "ip {args:?} failed; this test makes a network namespace, as root: {said}");
}

#[test]
fn a_worker_that_is_cut_off_loses_and_repeats_nothing() {
    let random = &mut Random::seeded("kafka::cut_off");
    let machine = Machine::plug_in();
    let cluster = Cluster::start_at(&machine.host());
    let mut stage = Stage::on(&cluster.servers);
    let cuts = number_of("GRETCHEN_CUTS", 1);
    let began = stage.clock.moment();
    let mut workers = vec![Worker::start_by(machine.command(), stage.spec(0))];
    workers.extend((1..WORKERS).map(|number| Worker::start(stage.spec(number))));
    stage.publish_until(random, |_| workers.iter().all(|worker| worker.starts() > 0));
    let far = &workers[0];
    for _ in 0..cuts {
        let (losses, starts) = (far.losses(), far.starts());
        machine.set("down");
        let since = stage.clock.moment();
        stage.publish_until(random, |stage| stage.clock.moment().since(since) > CUT);
        // It has noticed by itself, and the others have gone on without it.
        assert!(far.losses() > losses, "{}", far.stderr());
        machine.set("up");
        stage.publish_until(random, |_| far.starts() > starts);
    }
    let lost = far.losses();
    let (took, starts) = stage.end(workers, began);
    println!(
        "cut off {cuts} times for {CUT:?}: {lost} partitions lost, {} orders, caught up after {took:.1?}; {starts}",
        stage.orders.len()
    );
}

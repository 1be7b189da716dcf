//! Kafka's own verifier of exactly-once processing, `StreamsEosTest`, judges workers that are killed again and again.
//!
//! Its generator writes random numbers to the topic `data`. Our workers stand in for its own: as group `EosTest` they put
//! out each number to `echo`, and for each the least and the sum of its key so far to `min` and `sum`, and are killed while
//! brokers may go, too. Its verifier then compares what is committed, record by record. By default it is a small run on one
//! broker;
//!
//! ```text
//! GRETCHEN_BROKERS=3 GRETCHEN_RESTARTS=3 GRETCHEN_KILLS=20 GRETCHEN_NUMBERS=100000 \
//!     cargo test --release --test it kafka::eos -- --nocapture
//! ```
//!
//! is the real one, which takes a quarter of an hour.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::Child;
use std::sync::Arc;
use std::time::Duration;

use gretchen::agent;
use gretchen::agent::{Event, Output};
use gretchen::app::App;
use gretchen::backend::{Backend, WireLayer};
use gretchen::clock::{Clock, Moment};
use gretchen::error::BoxError;
use gretchen::plan::Plan;
use gretchen::table::{Table, TableMut};
use gretchen::topic::{TopicPartition, WireFormat};
use gretchen::worker;
use rustix::process::{Pid, Signal};
use tokio::runtime::Runtime;

use super::cluster::Cluster;
use super::stage::{PATIENCE, records_of};
use super::worker::{Spec, Worker, check_starts, number_of};
use crate::support::Random;

/// As many as the verifier's own topics have.
const PARTITIONS: u32 = 5;

const WORKERS: usize = 3;

static LEAST: Table<String, i32> = Table::new("least");
static SUMS: Table<String, i64> = Table::new("sums");

/// What the verifier's own worker does.
#[agent(topic = "data", group = "EosTest", tables = [LEAST, SUMS], outputs = ["echo", "min", "sum"])]
async fn add_up(
    data: Event<i32>,
    mut least: TableMut<'_, String, i32>,
    mut sums: TableMut<'_, String, i64>,
    mut echo: Output<i32>,
    mut min: Output<i32>,
    mut sum: Output<i64>,
) -> Result<(), BoxError> {
    let key = std::str::from_utf8(data.key.as_deref().ok_or("a number without a key")?)?;
    let number = data.value;
    let smaller = |least: &mut i32| {
        *least = number.min(*least);
        *least
    };
    echo.send(&number)?;
    min.send(&least.update_or_insert_with(key, || number, smaller)?)?;
    let add = |sum: &mut i64| {
        *sum += i64::from(number);
        *sum
    };
    sum.send(&sums.update(key, add)?)?;
    Ok(())
}

pub(super) fn app() -> App {
    App::new("eos")
        .agent::<add_up>()
        .format("data", WireFormat::Int)
        .format("echo", WireFormat::Int)
        .format("min", WireFormat::Int)
        .format("sum", WireFormat::Long)
}

/// Begins a command of the verifier's; what it says goes to the file that is returned.
fn verifier(cluster: &Cluster, command: &str) -> (Child, PathBuf) {
    let settings = cluster.folder.path().join("eos.properties");
    fs::write(&settings, format!("bootstrap.servers={}\n", cluster.servers)).unwrap();
    let said = cluster.folder.path().join(format!("{command}.txt"));
    let file = File::create(&said).unwrap();
    let class = "org.apache.kafka.streams.tests.StreamsEosTest";
    let mut process = cluster.script(&["tool", class, settings.to_str().unwrap(), command]);
    (process.stdout(file.try_clone().unwrap()).stderr(file).spawn().unwrap(), said)
}

/// The verifier's generator, which writes for as long as it runs.
struct Generator {
    child: Child,
    said: PathBuf,
}

impl Generator {
    fn said(&self) -> String {
        fs::read_to_string(&self.said).unwrap()
    }

    /// Numbers so far, about.
    fn written(&self) -> usize {
        let said = self.said();
        let mut numbers = said.lines().filter_map(|line| line.strip_suffix(" records produced")?.rsplit(' ').next());
        numbers.next_back().map_or(0, |number| number.parse().unwrap())
    }

    /// Ends it, and returns how many numbers it has written.
    fn stop(&mut self) -> usize {
        rustix::process::kill_process(Pid::from_child(&self.child), Signal::TERM).unwrap();
        self.child.wait().unwrap();
        assert!(self.said().contains("Producer closed: "), "the generator has not ended well:\n{}", self.said());
        self.written()
    }
}

impl Drop for Generator {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

struct Run {
    /// Of its own: the verifier's topics and its group have fixed names.
    cluster: Cluster,
    clock: Clock,
    runtime: Runtime,
}

impl Run {
    fn spec(&self, number: usize) -> Spec {
        Spec {
            app: "eos".to_owned(),
            servers: self.cluster.servers.clone(),
            prefix: String::new(),
            partitions: PARTITIONS,
            session_ms: 3_000,
            settings: Vec::new(),
            standby: 0,
            folder: self.cluster.folder.path().join(format!("worker-{number}")),
        }
    }

    fn sleep_ms(&self, ms: u64) {
        self.runtime.block_on(self.clock.sleep(Duration::from_millis(ms)));
    }

    /// Whether a wait since then is over; too long a wait fails.
    fn wait(&self, since: Moment, workers: &mut [Worker], what: &str) {
        for worker in &mut *workers {
            assert!(!worker.is_gone(), "a worker has ended:\n{}", worker.stderr());
        }
        if self.clock.moment().since(since) > PATIENCE {
            let stderr: Vec<String> = workers.iter().map(Worker::stderr).collect();
            panic!("{what}:\n{}", stderr.join("\n----\n"));
        }
        self.sleep_ms(100);
    }

    /// A number of numbers is written while workers are killed, and brokers.
    fn disturb(&self, generator: &Generator, workers: &mut Vec<Worker>, brokers: usize, random: &mut Random) {
        let (kills, restarts) = (number_of("GRETCHEN_KILLS", 3), number_of("GRETCHEN_RESTARTS", 0));
        let numbers = number_of("GRETCHEN_NUMBERS", 3_000);
        let (mut killed, mut restarted) = (0, 0);
        let mut since = self.clock.moment();
        let mut seen = 0;
        let specs: Vec<Spec> = workers.iter().map(|worker| worker.spec.clone()).collect();
        loop {
            // On a slow machine the first kills can all come before the first checkpoint.
            let kill = killed < kills || killed < 10 * kills && check_starts(&specs).from_store == 0;
            if !kill && restarted >= restarts && generator.written() >= numbers {
                break;
            }
            self.wait(since, workers, "no number is written");
            let written = generator.written();
            if written > seen {
                (seen, since) = (written, self.clock.moment());
            }
            // Evenly over what is written.
            if kill && written >= numbers * (killed + 1) / (kills + 1) {
                let spec = workers.swap_remove(random.within(0..workers.len() as u64) as usize).kill();
                killed += 1;
                self.sleep_ms(random.within(0..4_000));
                workers.push(Worker::start(spec));
            }
            if restarted < restarts && written >= numbers * (restarted + 1) / (restarts + 1) {
                let broker = (restarted % brokers + 1).to_string();
                self.cluster.call(&["kill", &broker]);
                restarted += 1;
                self.sleep_ms(random.within(2_000..10_000));
                self.cluster.call(&["revive", &broker]);
            }
        }
        println!("{killed} kills of workers, {restarted} restarts of brokers");
    }

    /// How many records a topic holds that are committed.
    fn count(&self, backend: &dyn Backend, topic: &str) -> usize {
        let replay = backend.replay().unwrap();
        let count = |partition| records_of::<Vec<u8>>(&*replay, &TopicPartition::new(topic, partition)).len();
        (0..PARTITIONS).map(count).sum()
    }
}

#[test]
fn kafkas_own_verifier_finds_every_number_once() {
    let random = &mut Random::seeded("kafka::eos");
    let brokers = number_of("GRETCHEN_BROKERS", 1);
    let cluster = Cluster::start(brokers);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let run = Run { cluster, clock: Clock::system(), runtime };
    let (servers, partitions) = (run.cluster.servers.clone(), PARTITIONS.to_string());
    let made = ["--create", "--topic", "data", "--partitions", &partitions, "--bootstrap-server", &servers];
    run.cluster.call(&[&["tool", "org.apache.kafka.tools.TopicCommand"], &made[..]].concat());
    let spec = run.spec(WORKERS);
    let kafka = spec.open(&run.clock).unwrap();
    let backend: Arc<dyn Backend> = Arc::new(WireLayer::new(kafka, app().formats().clone()));
    let plan = run.runtime.block_on(Plan::make("eos", &app().agents(), &*backend, PARTITIONS)).unwrap();

    let (child, said) = verifier(&run.cluster, "run");
    let mut generator = Generator { child, said };
    let mut workers: Vec<Worker> = (0..WORKERS).map(|number| Worker::start(run.spec(number))).collect();
    run.disturb(&generator, &mut workers, brokers, random);
    let written = generator.stop();
    let since = run.clock.moment();
    while !worker::caught_up(&plan, &*backend).unwrap() {
        run.wait(since, &mut workers, "the workers do not catch up");
    }
    workers.into_iter().for_each(Worker::stop);

    let (mut child, said) = verifier(&run.cluster, "verify");
    child.wait().unwrap();
    let verdict = fs::read_to_string(said).unwrap();
    assert!(verdict.lines().any(|line| line == "ALL-RECORDS-DELIVERED"), "the verifier says:\n{verdict}");
    // It looks no further than the group has come.
    let counts = ["data", "echo", "min", "sum"].map(|topic| run.count(&*backend, topic));
    assert!(
        counts.iter().all(|count| *count == counts[0]) && counts[0] >= written,
        "{written} were written, {counts:?}"
    );
    let specs: Vec<Spec> = (0..WORKERS).map(|number| run.spec(number)).collect();
    let starts = check_starts(&specs);
    println!("ALL-RECORDS-DELIVERED: {} numbers on {brokers} brokers; {starts}", counts[0]);
    assert!(starts.from_store > 0, "no start found a store");
}

//! The declared aggregation on a real Kafka, beside Kafka Streams and loops by hand over the same client.
//!
//! All of them get the same topic and use both cores, on which the broker runs, too; all but one loop, which only reads, put out
//! the same figures every 100 ms.
//! One after another they process all of it; what counts is the later half, in which code is warm and most keys are known.

use std::io::{BufRead, BufReader, Lines};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use comfy_table::{CellAlignment, Table as Shown, presets};
use gretchen::backend::Backend;
use gretchen::backend::kafka::{KafkaBackend, KafkaOptions};
use gretchen::plan::Plan;
use gretchen::prelude::*;
use gretchen::publish::Publisher;
use gretchen::topic::TopicSpec;
use gretchen::worker::{self, WorkerEvent, WorkerOptions};
use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, watch};

use crate::agents::{DECLARED, declared};
use crate::kafka_loop::Source;
use crate::measure::{Part, Sample, parts, peak_bytes, spread};
use crate::probe::{Notes, Probe};
use crate::workload::{Distribution, Workload};

/// What a contestant says with its first record.
const AT_WORK: &str = "at work";

/// What is put out beside the topic of sales; the declared aggregation has a topic of its own.
const STREAMS_TOTALS: &str = "streams-totals";
const LOOP_TOTALS: &str = "loop-totals";

/// How long a worker is at work before it is killed. Nobody is done by then with as many records as are usual.
const BEFORE_KILL: Duration = Duration::from_secs(1);

/// What is run.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Sales in the topic.
    #[arg(long, default_value_t = 8_000_000)]
    records: u64,
    /// Customers; several numbers make several contests.
    #[arg(long, value_delimiter = ',', default_value = "10000,1000000")]
    keys: Vec<u64>,
    /// Partitions of the topic.
    #[arg(long, default_value_t = 4)]
    partitions: u32,
    /// How often each contestant runs.
    #[arg(long, default_value_t = 1)]
    rounds: usize,
    /// Contestants; all of them if nobody is named.
    #[arg(long, value_enum, value_delimiter = ',')]
    contestants: Vec<Who>,
    /// Each is also killed while it works, and started again.
    #[arg(long)]
    kill: bool,
    /// A Kafka that runs, as host:port; otherwise tests/services/kafka starts one.
    #[arg(long)]
    brokers: Option<String>,
    /// Prints JSON instead of a table.
    #[arg(long)]
    json: bool,
}

/// Who takes part.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Who {
    /// Polls, decodes and folds into a hash map, and nothing else.
    Loop,
    /// The same, and puts out what has changed, in transactions.
    LoopExactlyOnce,
    /// The same, and puts out what has changed, without transactions.
    LoopAtLeastOnce,
    /// The declared aggregation, exactly once.
    ExactlyOnce,
    /// The declared aggregation, at least once.
    AtLeastOnce,
    /// Kafka Streams, exactly once.
    StreamsExactlyOnce,
    /// Kafka Streams, at least once.
    StreamsAtLeastOnce,
    /// Faust with RocksDB, which knows no transactions.
    Faust,
    /// Quix Streams with RocksDB, exactly once.
    Quix,
}

const EVERYBODY: [Who; 7] = [
    Who::Loop,
    Who::LoopAtLeastOnce,
    Who::StreamsAtLeastOnce,
    Who::AtLeastOnce,
    Who::LoopExactlyOnce,
    Who::StreamsExactlyOnce,
    Who::ExactlyOnce,
];

impl Who {
    /// For people.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Loop => "loop over librdkafka that only reads",
            Self::LoopExactlyOnce => "loop over librdkafka, exactly once",
            Self::LoopAtLeastOnce => "loop over librdkafka, at least once",
            Self::ExactlyOnce => "declared, exactly once",
            Self::AtLeastOnce => "declared, at least once",
            Self::StreamsExactlyOnce => "Kafka Streams, exactly once",
            Self::StreamsAtLeastOnce => "Kafka Streams, at least once",
            Self::Faust => "Faust with RocksDB",
            Self::Quix => "Quix Streams, exactly once",
        }
    }

    /// Kafka Streams with the same guarantee.
    fn peer(self) -> Option<Self> {
        match self {
            Self::ExactlyOnce => Some(Self::StreamsExactlyOnce),
            Self::AtLeastOnce => Some(Self::StreamsAtLeastOnce),
            _ => None,
        }
    }

    /// The loop by hand that puts out the same with the same guarantee.
    fn by_hand(self) -> Option<Self> {
        match self {
            Self::ExactlyOnce | Self::StreamsExactlyOnce => Some(Self::LoopExactlyOnce),
            Self::AtLeastOnce | Self::StreamsAtLeastOnce => Some(Self::LoopAtLeastOnce),
            _ => None,
        }
    }

    /// Whether it could go on after a crash.
    fn can_recover(self) -> bool {
        !matches!(self, Self::Loop | Self::LoopExactlyOnce | Self::LoopAtLeastOnce)
    }
}

/// What a contestant's process says at its end.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Outcome {
    first: Part,
    pub(crate) warm: Part,
    pub(crate) peak_bytes: u64,
    customers: u64,
    pub(crate) sales: i64,
    revenue: f64,
    /// Seconds from its start after a kill to its first record.
    #[serde(default)]
    back_s: Option<f64>,
}

impl Outcome {
    fn rate(&self) -> f64 {
        self.warm.records as f64 / self.warm.wall_s
    }

    /// Of a million records of the later half.
    fn cpu_s(&self) -> f64 {
        1e6 * self.warm.cpu_s / self.warm.records as f64
    }

    /// Of everybody else on the machine, the broker above all, meanwhile.
    fn others_s(&self) -> f64 {
        1e6 * (self.warm.machine_s - self.warm.cpu_s) / self.warm.records as f64
    }
}

/// All runs of a contestant.
#[derive(Serialize)]
struct Row {
    contestant: &'static str,
    outcomes: Vec<Outcome>,
}

/// One contest, for JSON.
#[derive(Serialize)]
struct Contest {
    records: u64,
    keys: u64,
    partitions: u32,
    rows: Vec<Row>,
}

/// A contest's topics on its brokers.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    brokers: String,
    prefix: String,
    workload: Workload,
}

/// Runs every contest that the arguments name.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let brokers = match &arguments.brokers {
        Some(brokers) => brokers.clone(),
        None => start_broker()?,
    };
    let whose = if arguments.contestants.is_empty() { &EVERYBODY[..] } else { &arguments.contestants };
    let mut contests = Vec::new();
    for &keys in &arguments.keys {
        let workload = Workload {
            records: arguments.records,
            keys,
            distribution: Distribution::Uniform,
            partitions: arguments.partitions,
        };
        let contest = Place::new(&brokers, workload).contest(whose, arguments)?;
        if !arguments.json {
            contest.show(whose);
        }
        contests.push(contest);
    }
    if arguments.json {
        println!("{}", serde_json::to_string_pretty(&contests)?);
    }
    Ok(())
}

/// Starts a broker that ends with this process.
pub(crate) fn start_broker() -> Result<String> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/services/kafka");
    let output = Command::new(script)
        .args(["start", "--while", &std::process::id().to_string()])
        .stderr(Stdio::inherit())
        .output()?;
    match output.status.success() {
        true => Ok(String::from_utf8(output.stdout)?.trim().to_owned()),
        false => Err("tests/services/kafka could not start a broker".into()),
    }
}

impl Place {
    pub(crate) fn new(brokers: &str, workload: Workload) -> Self {
        let prefix = format!("bench-{}-{}-{}.", workload.keys, workload.records, std::process::id());
        Self { brokers: brokers.to_owned(), prefix, workload }
    }

    fn backend(&self, who: Who) -> gretchen::error::Result<Arc<dyn Backend>> {
        let mut options = KafkaOptions::new(&self.brokers);
        options.prefix.clone_from(&self.prefix);
        if who == Who::AtLeastOnce {
            options.set("gretchen.guarantee", "at_least_once")?;
        }
        Ok(Arc::new(KafkaBackend::open(options, Clock::system())?))
    }

    /// Makes the topics and publishes the sales.
    pub(crate) fn fill(&self) -> Result<()> {
        runtime()?.block_on(async {
            let (backend, partitions) = (self.backend(Who::ExactlyOnce)?, self.workload.partitions);
            Plan::make("fill", &App::new("fill").agent::<declared>().agents(), &*backend, partitions).await?;
            for totals in [STREAMS_TOTALS, LOOP_TOTALS] {
                backend.create_topic(&TopicSpec::new(totals, partitions)).await?;
            }
            // Sales of now: those of long ago would be deleted at once.
            let from_ms = Clock::system().now_ms() - self.workload.records as i64;
            self.workload.publish_to(Publisher::open(&backend, "sales", None).await?, from_ms).await
        })
    }

    fn contest(&self, whose: &[Who], arguments: &Arguments) -> Result<Contest> {
        self.fill()?;
        let mut rows: Vec<Row> = whose.iter().map(|who| Row { contestant: who.name(), outcomes: Vec::new() }).collect();
        let mut reference: Option<(&str, Outcome)> = None;
        for round in 0..arguments.rounds {
            for (who, row) in whose.iter().zip(&mut rows) {
                let mut outcome = self.in_process(*who, &round.to_string())?;
                let reference = reference.get_or_insert_with(|| (row.contestant, outcome.clone()));
                self.check(row.contestant, &outcome, reference)?;
                if arguments.kill && who.can_recover() {
                    outcome.back_s = Some(self.killed(*who, &format!("{round}-killed"), reference)?);
                }
                row.outcomes.push(outcome);
            }
        }
        let Workload { records, keys, partitions, .. } = self.workload;
        Ok(Contest { records, keys, partitions, rows })
    }

    fn check(&self, name: &str, outcome: &Outcome, (other, reference): &(&str, Outcome)) -> Result<()> {
        let of = |outcome: &Outcome| (outcome.customers, outcome.sales, outcome.revenue);
        if of(outcome) != of(reference) || outcome.sales as u64 != self.workload.records {
            return Err(format!("{name} comes to {:?}, {other} to {:?}", of(outcome), of(reference)).into());
        }
        Ok(())
    }

    /// Runs a contestant in a process of its own.
    pub(crate) fn in_process(&self, who: Who, run: &str) -> Result<Outcome> {
        let state = tempfile::tempdir()?;
        let mut process = Contestant::start(self.command(who, run, state.path())?)?;
        process.wait_until_at_work(who)?;
        process.outcome(who)
    }

    /// The same, killed on the way and started again: seconds from then to its first record.
    fn killed(&self, who: Who, run: &str, reference: &(&str, Outcome)) -> Result<f64> {
        let clock = Clock::system();
        let state = tempfile::tempdir()?;
        let mut process = Contestant::start(self.command(who, run, state.path())?)?;
        process.wait_until_at_work(who)?;
        runtime()?.block_on(clock.sleep(BEFORE_KILL));
        drop(process);
        let began = clock.moment();
        let mut process = Contestant::start(self.command(who, run, state.path())?)?;
        process.wait_until_at_work(who)?;
        let back_s = clock.moment().since(began).as_secs_f64();
        // Kafka Streams counts what it sees from its start on, and would wait for what it had seen before.
        if who == Who::ExactlyOnce {
            self.check(who.name(), &process.outcome(who)?, reference)?;
        }
        Ok(back_s)
    }

    fn command(&self, who: Who, run: &str, state: &Path) -> Result<Command> {
        let Workload { records, partitions, .. } = self.workload;
        let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
        let named = |name: &str| format!("{}{name}", self.prefix);
        let guarantee = match who {
            Who::Faust | Who::Quix => {
                let name = if who == Who::Faust { "faust" } else { "quix" };
                let mut command = Command::new(folder.join("tests/peers").join(name).join("run"));
                let app = named(&format!("{name}-{run}"));
                command
                    .current_dir(folder)
                    .args([&self.brokers, &named("sales"), &app, &records.to_string()])
                    .arg(state);
                return Ok(command);
            }
            Who::StreamsExactlyOnce => "exactly_once_v2",
            Who::StreamsAtLeastOnce => "at_least_once",
            Who::Loop | Who::LoopExactlyOnce | Who::LoopAtLeastOnce | Who::ExactlyOnce | Who::AtLeastOnce => {
                let mut command = Command::new(std::env::current_exe()?);
                let name = clap::ValueEnum::to_possible_value(&who).ok_or("a contestant without a name")?;
                command.args(["on-kafka", name.get_name(), &self.brokers, &self.prefix, run]);
                command.arg(state).args([records.to_string(), partitions.to_string()]);
                return Ok(command);
            }
        };
        let mut command = Command::new(folder.join("tests/peers/kafka-streams/run"));
        let app = named(&format!("{guarantee}-{run}"));
        command.current_dir(folder).args([&self.brokers, &named("sales"), &named(STREAMS_TOTALS), &app, guarantee]);
        command.arg(records.to_string()).arg(state).arg("2");
        Ok(command)
    }
}

/// A contestant's process; it is killed when it is dropped.
struct Contestant {
    process: Child,
    output: Lines<BufReader<ChildStdout>>,
}

impl Contestant {
    fn start(mut command: Command) -> Result<Self> {
        let mut process = command.stdout(Stdio::piped()).spawn()?;
        let output = process.stdout.take().ok_or("the contestant's output is not read")?;
        Ok(Self { process, output: BufReader::new(output).lines() })
    }

    fn line(&mut self, who: Who) -> Result<String> {
        match self.output.next() {
            Some(line) => Ok(line?),
            None => Err(format!("{} ended with {}", who.name(), self.process.wait()?).into()),
        }
    }

    fn wait_until_at_work(&mut self, who: Who) -> Result<()> {
        // Faust shows a banner first.
        while self.line(who)? != AT_WORK {}
        Ok(())
    }

    fn outcome(mut self, who: Who) -> Result<Outcome> {
        let outcome = serde_json::from_str(&self.line(who)?)?;
        self.process.wait()?;
        Ok(outcome)
    }
}

impl Drop for Contestant {
    fn drop(&mut self) {
        // It has ended already, unless it is to be killed.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Contest {
    fn show(&self, whose: &[Who]) {
        let mut table = Shown::new();
        table.load_style(presets::NOTHING).set_header([
            "",
            "k records/s",
            "times Kafka Streams",
            "of the loop by hand",
            "of the one that reads",
            "CPU s/M",
            "broker's CPU s/M",
            "of Kafka Streams'",
            "peak MiB",
            "back at work s",
        ]);
        let median = |row: &Row, value: fn(&Outcome) -> f64| spread(row.outcomes.iter().map(value)).1;
        let of = |who: Who| whose.iter().zip(&self.rows).find(|(other, _)| **other == who).map(|(_, row)| row);
        let ratio = |row: &Row, other: Option<&Row>, value: fn(&Outcome) -> f64| {
            other.map_or(String::new(), |other| format!("{:.2}", median(row, value) / median(other, value)))
        };
        for (who, row) in whose.iter().zip(&self.rows) {
            let (low, middle, high) = spread(row.outcomes.iter().map(|outcome| outcome.rate() / 1e3));
            let peer = who.peer().and_then(of);
            let back = row.outcomes.iter().filter_map(|outcome| outcome.back_s);
            let back = spread(back).1;
            table.add_row([
                row.contestant.to_owned(),
                if row.outcomes.len() > 1 {
                    format!("{middle:.0} ({low:.0} to {high:.0})")
                } else {
                    format!("{middle:.0}")
                },
                ratio(row, peer, Outcome::rate),
                ratio(row, who.by_hand().and_then(of), Outcome::rate),
                if *who == Who::Loop { String::new() } else { ratio(row, of(Who::Loop), Outcome::rate) },
                format!("{:.2}", median(row, Outcome::cpu_s)),
                if row.outcomes.iter().all(|outcome| outcome.warm.machine_s > 0.0) {
                    format!("{:.2}", median(row, Outcome::others_s))
                } else {
                    String::new()
                },
                ratio(row, peer, Outcome::cpu_s),
                format!("{:.0}", median(row, |outcome| outcome.peak_bytes as f64) / f64::from(1 << 20)),
                if back.is_nan() { String::new() } else { format!("{back:.1}") },
            ]);
        }
        for column in table.column_iter_mut().skip(1) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        println!(
            "\n{} sales of {} customers, {} partitions, commits every 100 ms; the later half of the records\n{table}",
            self.records, self.keys, self.partitions
        );
    }
}

/// A contestant that runs in this process.
#[derive(Debug, clap::Args)]
pub(crate) struct Run {
    #[arg(value_enum)]
    who: Who,
    brokers: String,
    prefix: String,
    /// What tells runs apart.
    run: String,
    folder: std::path::PathBuf,
    records: u64,
    partitions: u32,
}

impl Run {
    /// Runs it and prints what came of it.
    pub(crate) fn here(&self) -> Result<()> {
        let outcome = match self.who {
            Who::Loop | Who::LoopExactlyOnce | Who::LoopAtLeastOnce => self.by_hand()?,
            _ => self.worker()?,
        };
        println!("{}", serde_json::to_string(&outcome)?);
        Ok(())
    }

    fn by_hand(&self) -> Result<Outcome> {
        let named = |name: &str| format!("{}{name}", self.prefix);
        let source = Source {
            brokers: &self.brokers,
            topic: &named("sales"),
            run: &self.run,
            partitions: self.partitions,
            records: self.records,
        };
        let at_work = || println!("{AT_WORK}");
        let folded = match self.who {
            Who::Loop => source.fold(at_work)?,
            who => source.put_out(&named(LOOP_TOTALS), who == Who::LoopExactlyOnce, at_work)?,
        };
        outcome(&folded.samples, folded.rows.into_iter())
    }

    /// A worker with the declared aggregation, until everything is committed.
    fn worker(&self) -> Result<Outcome> {
        let clock = Clock::system();
        let notes = Notes::new(&clock);
        let place = Place {
            brokers: self.brokers.clone(),
            prefix: self.prefix.clone(),
            workload: Workload {
                records: self.records,
                keys: 0,
                distribution: Distribution::Uniform,
                partitions: self.partitions,
            },
        };
        let name = clap::ValueEnum::to_possible_value(&self.who).ok_or("a contestant without a name")?;
        let app = App::new(format!("{}-{}", name.get_name(), self.run)).agent::<declared>();
        let state = self.folder.join("state").join(app.name());
        runtime()?.block_on(async {
            let kafka = place.backend(self.who)?;
            let backend: Arc<dyn Backend> = Arc::new(Probe::new("sales", notes.clone(), kafka.clone()));
            let plan = Plan::make(app.name(), &app.agents(), &*backend, self.partitions).await?;
            notes.note(0);
            let (stop, stopped) = watch::channel(false);
            let (events, mut failed) = mpsc::unbounded_channel();
            let options = WorkerOptions { state_dir: Some(state), ..WorkerOptions::default() };
            let work = worker::run(&plan, backend, options, clock.clone(), stopped, events);
            tokio::pin!(work);
            let mut at_work = false;
            loop {
                let wait = Duration::from_millis(if at_work { 20 } else { 1 });
                tokio::select! {
                    summary = &mut work => return summary.map(drop).map_err(BoxError::from),
                    Some(event) = failed.recv() => if let WorkerEvent::Failed { error, .. } = event { return Err(error.into()); },
                    () = clock.sleep(wait) => match at_work {
                        false if notes.records() > 0 => {
                            println!("{AT_WORK}");
                            at_work = true;
                        }
                        true if worker::caught_up(&plan, &*kafka)? => {
                            notes.note(0);
                            let _ = stop.send(true);
                        }
                        _ => {}
                    },
                }
            }
        })?;
        // What comes after the end is the worker's last checkpoint.
        let samples = notes.samples();
        let session = Session::on(app, &self.folder, self.partitions, |_| place.backend(self.who))?;
        let rows = session.table(&DECLARED)?.into_iter().map(|(_, total)| (total.sales, total.revenue));
        outcome(&samples, rows)
    }
}

fn outcome(samples: &[Sample], rows: impl Iterator<Item = (i64, f64)>) -> Result<Outcome> {
    let (first, warm) = parts(samples).ok_or("there are no records")?;
    let rows = rows.fold((0, 0, 0.0), |(customers, sales, revenue), (more, turned_over)| {
        // Prices are quarters, so nothing is rounded.
        (customers + 1, sales + more, revenue + turned_over)
    });
    let (customers, sales, revenue) = rows;
    Ok(Outcome { first, warm, peak_bytes: peak_bytes()?, customers, sales, revenue, back_s: None })
}

fn runtime() -> Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?)
}

//! One run: the accidents of a seed, then everything is brought to its end and checked.

mod accidents;

use std::collections::BTreeSet;
use std::fmt::Write;
use std::path::Path;
use std::time::Duration;

use gretchen::backend::Replay;
use gretchen::backend::log::{Durability, LogOptions};
use gretchen::error::{Error, ErrorKind, Result};
use gretchen::plan::Plan;
use gretchen::record::{Frames, Value};
use gretchen::session::Session;
use gretchen::testing::sim::{Faults, Machine, Process, Random};
use gretchen::topic::{TopicPartition, partition_of};
use gretchen::worker::{self, WorkerEvent};

use super::operator::{self, UPDATES};
use super::processes::{Producer, Warnings, Worker, open};
use crate::shop::{self, Evidence, Order};
use crate::support::{PARTITIONS, records_of};

const DATA: &str = "/data";

/// Rounds in which accidents happen.
const ROUNDS: std::ops::Range<u64> = 60..160;

/// Rounds that the end may take.
const PATIENCE: usize = 4000;

/// What is done with the records' durability.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Everything may happen, and everything must be there afterwards.
    Fsync,
    /// Processes may be killed and everything must be there; at last the power is lost, and some may be gone.
    Os,
}

/// What a run came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Course {
    /// Stands for all that happened.
    trace: u64,
    /// Segments of changelogs that compaction has written.
    pub(super) compacted: usize,
    /// Segments of other topics that it has written.
    pub(super) cleaned: usize,
    /// Indexes of segments.
    pub(super) indexed: usize,
    pub(super) accidents: Accidents,
}

/// How often what happened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Accidents {
    /// The power was lost between two calls.
    pub(super) losses: usize,
    /// A process was killed, or lost the power, in one of its calls.
    pub(super) ends: usize,
    /// Calls began to fail.
    pub(super) faults: usize,
    /// Stores of tables were removed.
    pub(super) removals: usize,
}

/// A run of one seed.
pub(super) struct Run {
    seed: u64,
    kind: Kind,
    random: Random,
    machine: Machine,
    log: LogOptions,
    commit: Duration,
    checkpoint: Duration,
    /// From one checkpoint that is followed by a compaction to the next.
    clean: Duration,
    /// What each table may take of each partition.
    table_memory_bytes: usize,
    most_workers: u64,
    workers: Vec<Worker>,
    producer: Option<Producer>,
    orders: Vec<Order>,
    /// So many of the orders were reported as durable.
    acknowledged: usize,
    /// What calls may do while `faulty`.
    faults: Faults,
    faulty: bool,
    /// By how much the clock is wrong; `None` as long as the log has no time of its own.
    wrong_ms: Option<i64>,
    /// Topics whose records went where there were later ones of the key.
    thinned: BTreeSet<&'static str>,
    accidents: Accidents,
    /// Calls may have failed since all processes were started.
    excused: bool,
    diary: String,
    warnings: Warnings,
    /// The process of the last session; lives longer than that.
    session_process: Option<Process>,
}

impl Drop for Run {
    /// Whoever finds something wrong: what happened before it is told.
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.diary += &self.warnings.take();
            eprintln!("what happened in seed {} ({:?}):\n{}", self.seed, self.kind, self.diary);
        }
    }
}

impl Run {
    pub(super) fn new(seed: u64, kind: Kind) -> Self {
        let mut random = Random::new(seed ^ 0x5EED);
        let machine = Machine::new(random.number());
        let one_of = |random: &mut Random, some: &[u64]| some[random.within(0..some.len() as u64) as usize];
        let durability = if kind == Kind::Fsync { Durability::Fsync } else { Durability::Os };
        let cleans = !seed.is_multiple_of(2);
        // Only whole segments are compacted, and changelogs do not get long here.
        let segment_sizes =
            if cleans { [4 << 10, 4 << 10, 4 << 10, 8 << 10] } else { [4 << 10, 8 << 10, 32 << 10, 256 << 10] };
        let segment_bytes = one_of(&mut random, &segment_sizes);
        let read_bytes = one_of(&mut random, &[4 << 10, 64 << 10]) as usize;
        let index_bytes = one_of(&mut random, &[256, 1 << 10, 256 << 10]);
        let faults = match random.within(0..4) {
            0 => Faults { read: 200, write: 100, full: 100, sync: 40, short: 4 },
            1 => Faults { sync: 20, ..Faults::default() },
            2 => Faults { full: 30, short: 3, ..Faults::default() },
            _ => Faults { short: 2, ..Faults::default() },
        };
        Self {
            seed,
            kind,
            log: LogOptions { durability, segment_bytes, read_bytes, index_bytes, ..LogOptions::new(DATA) },
            commit: Duration::from_millis(one_of(&mut random, &[10, 50, 200])),
            checkpoint: Duration::from_millis(one_of(&mut random, &[100, 500, 3000])),
            // At every checkpoint, or never: the runs do not take a minute.
            clean: Duration::from_millis(if cleans { 1 } else { 60_000 }),
            table_memory_bytes: one_of(&mut random, &[500, 2 << 10, 256 << 20, 256 << 20]) as usize,
            most_workers: random.within(1..5),
            random,
            machine,
            workers: Vec::new(),
            producer: None,
            orders: Vec::new(),
            acknowledged: 0,
            faults,
            faulty: false,
            wrong_ms: None,
            thinned: BTreeSet::new(),
            accidents: Accidents::default(),
            excused: false,
            diary: String::new(),
            warnings: Warnings::default(),
            session_process: None,
        }
    }

    fn note(&mut self, what: impl std::fmt::Display) {
        self.diary += &self.warnings.take();
        let _ = writeln!(self.diary, "call {}: {what}", self.machine.calls());
    }

    #[track_caller]
    fn fail(&self, what: impl std::fmt::Display) -> ! {
        panic!("seed {} ({:?}): {what}", self.seed, self.kind);
    }

    /// Has accidents, then brings everything to its end and checks it.
    pub(super) fn complete(self) -> Course {
        let warnings = self.warnings.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_max_level(tracing::Level::WARN)
            .with_ansi(false)
            .without_time()
            .with_target(false)
            .with_writer(move || warnings.clone());
        let (seed, kind, machine) = (self.seed, self.kind, self.machine.clone());
        let course = tracing::subscriber::with_default(subscriber.finish(), || self.run());
        assert!(!machine.is_in_use(), "seed {seed} ({kind:?}): something has outlived its process");
        course
    }

    fn run(mut self) -> Course {
        for _ in 0..self.random.within(ROUNDS) {
            self.round();
            self.look_after();
        }
        self.finish();
        let took = self.course();
        shop::check_figures(&mut self);
        shop::check_forms(&mut self);
        if self.kind == Kind::Os {
            self.lose_power_without_syncs();
        }
        took
    }

    /// What the run came to, by the files that there are.
    fn course(&self) -> Course {
        let mut course =
            Course { trace: self.machine.trace(), compacted: 0, cleaned: 0, indexed: 0, accidents: self.accidents };
        let process = self.machine.start().unwrap();
        let (disk, topics) = (process.disk(), Path::new(DATA).join("topics"));
        for topic in disk.names(&topics).unwrap() {
            for partition in 0..PARTITIONS {
                let names = disk.names(&topics.join(&topic).join(partition.to_string())).unwrap();
                let compacted = names.iter().filter(|name| name.contains('-') && name.ends_with(".log")).count();
                let of = if UPDATES.contains(&&*topic) { &mut course.cleaned } else { &mut course.compacted };
                *of += compacted;
                course.indexed += names.iter().filter(|name| name.ends_with(".index")).count();
            }
        }
        course
    }

    /// Hears what processes say, and buries those that have ended.
    fn look_after(&mut self) {
        self.hear_warnings();
        self.hear_producer();
        let mut at = 0;
        while at < self.workers.len() {
            if self.hear_worker(at) { at += 1 } else { drop(self.workers.remove(at)) }
        }
        if self.producer.is_none() && self.workers.is_empty() {
            // What failed is over: the next to open a partition makes it whole again.
            self.excused = self.faulty;
        }
    }

    /// Cleaning only says that it failed. Without a fault it must not, unless its process has ended under it.
    fn hear_warnings(&mut self) {
        let warnings = self.warnings.take();
        self.diary += &warnings;
        let ended = "simulated process has ended";
        // A sync that a process was killed in has failed for all that comes after it.
        let of_the_end =
            |line: &str| line.contains(ended) || line.contains("a sync has failed") && warnings.contains(ended);
        let of_cleaning = |line: &&str| line.contains("tried again") || line.contains("topics cannot be cleaned");
        let failed = warnings.lines().filter(of_cleaning).find(|line| !of_the_end(line));
        if let Some(line) = failed.filter(|_| !self.excused) {
            self.fail(format_args!("cleaning failed: {line}"));
        }
    }

    fn hear_producer(&mut self) {
        let Some(producer) = &mut self.producer else { return };
        let mut said = Vec::new();
        while let Ok(one) = producer.said.try_recv() {
            said.push(one);
        }
        let ended = producer.process.has_ended();
        let mut failed = false;
        for one in said {
            match one {
                Ok(count) => {
                    self.note(format_args!("{count} orders are acknowledged"));
                    self.acknowledged = self.acknowledged.max(count);
                }
                Err(_) if ended => {}
                Err(error) => {
                    self.excuse("the producer", &error);
                    failed = true;
                }
            }
        }
        if ended {
            self.note("the producer has ended");
            self.accidents.ends += 1;
        }
        if ended || failed {
            self.producer = None;
        }
        if ended {
            self.check_acknowledged();
        }
    }

    /// Whether the worker of that place goes on.
    fn hear_worker(&mut self, at: usize) -> bool {
        let worker = &mut self.workers[at];
        let number = worker.number;
        let mut said = Vec::new();
        while let Ok(event) = worker.events.try_recv() {
            said.push(event);
        }
        let result = worker.ended.borrow_mut().take();
        if worker.process.has_ended() {
            self.note(format_args!("worker {number} has ended"));
            self.accidents.ends += 1;
            self.check_acknowledged();
            return false;
        }
        let mut goes_on = true;
        for event in said {
            match event {
                WorkerEvent::Failed { agent, partition, error } => {
                    self.excuse(format_args!("worker {number}, {agent} {partition}"), &error);
                    goes_on = false;
                }
                WorkerEvent::Paused { agent, partition, error } => {
                    self.excuse(format_args!("worker {number}, {agent} {partition}"), &error);
                }
                WorkerEvent::Started { agent, partition, recovered } => {
                    self.note(format_args!("worker {number} works on {agent} {partition}: {recovered:?}"));
                }
                WorkerEvent::Stopped { agent, partition } => {
                    self.note(format_args!("worker {number} works no more on {agent} {partition}"));
                }
                _ => {}
            }
        }
        match result {
            Some(Err(error)) => {
                self.excuse(format_args!("worker {number}"), &error);
                false
            }
            Some(Ok(_)) => {
                self.note(format_args!("worker {number} is done"));
                false
            }
            None => goes_on,
        }
    }

    /// Without a fault nothing may fail.
    fn excuse(&mut self, who: impl std::fmt::Display, error: &Error) {
        self.note(format_args!("{who}: {error:?}"));
        // What a failed sync left in doubt may be found to be gone when it is read.
        let known = match innermost(error) {
            ErrorKind::Io | ErrorKind::Full | ErrorKind::Poisoned => true,
            ErrorKind::Corrupt => self.faults.sync > 0,
            _ => false,
        };
        if !self.excused || !known {
            self.fail(format_args!("{who}: {error:?}"));
        }
    }

    /// What was acknowledged is there, in its order, and nothing that was not published.
    fn check_acknowledged(&mut self) {
        if self.kind == Kind::Os && self.workers.is_empty() {
            return;
        }
        if self.workers.iter().any(|worker| !worker.process.has_ended())
            || self.producer.as_ref().is_some_and(|producer| !producer.process.has_ended())
        {
            return;
        }
        self.machine.set_faults(Faults::default());
        if let Err(error) = self.compare_acknowledged() {
            self.fail(format_args!("what was acknowledged cannot be read: {error:?}"));
        }
        self.machine.set_faults(if self.faulty { self.faults } else { Faults::default() });
    }

    fn compare_acknowledged(&mut self) -> Result<()> {
        let process = self.machine.start()?;
        let app = shop::app("simulated");
        let backend = open(&self.log, &process, &app)?;
        let topics = process.block_on(backend.topics())?;
        if self.acknowledged == 0 && topics.iter().all(|topic| &*topic.spec.name != "orders") {
            return Ok(());
        }
        let Some(replay) = backend.replay() else { return Ok(()) };
        for partition in 0..PARTITIONS {
            let of = |order: &&Order| partition_of(order.customer.as_bytes(), PARTITIONS) == partition;
            let want: Vec<&Order> = self.orders.iter().filter(of).collect();
            let acknowledged = self.orders[..self.acknowledged].iter().filter(of).count();
            let have = published(&*replay, partition)?;
            if have.len() < acknowledged
                || have.len() > want.len()
                || have.iter().ne(want[..have.len()].iter().copied())
            {
                let ids =
                    |orders: &mut dyn Iterator<Item = &Order>| orders.map(|order| order.order_id).collect::<Vec<_>>();
                let (have, want) = (ids(&mut have.iter()), ids(&mut want.into_iter()));
                self.fail(format_args!(
                    "partition {partition} holds {have:?}; published were {want:?}, of which {acknowledged} are acknowledged"
                ));
            }
        }
        Ok(())
    }

    /// No more accidents: everything is published and processed, and checked.
    fn finish(&mut self) {
        self.faulty = false;
        self.machine.set_faults(Faults::default());
        self.note("no more accidents");
        if self.excused {
            // As the error of a poisoned partition says: every process is stopped.
            self.workers.clear();
            self.producer = None;
            self.look_after();
        }
        self.publish();
        for round in 0.. {
            if round == PATIENCE {
                self.fail("the workers do not catch up");
            }
            if self.workers.is_empty() {
                self.start_worker();
            }
            self.ask_producer();
            self.all_run();
            if round % 8 == 7 && self.acknowledged == self.orders.len() && self.has_caught_up() {
                break;
            }
        }
        self.note("everything is processed");
        for worker in &self.workers {
            let _ = worker.stop.send(true);
        }
        for round in 0.. {
            if round == PATIENCE {
                self.fail("the workers do not stop");
            }
            if self.workers.is_empty() {
                break;
            }
            self.all_run();
        }
        self.producer = None;
        let process = self.machine.start().unwrap();
        if let Err(error) = operator::clean_all(&process, &self.log) {
            self.fail(format_args!("topics cannot be cleaned: {error:?}"));
        }
    }

    fn all_run(&mut self) {
        for worker in &self.workers {
            worker.process.run(20);
        }
        if let Some(producer) = &self.producer {
            producer.process.run(20);
        }
        self.machine.advance(Duration::from_millis(20));
        self.look_after();
    }

    fn has_caught_up(&mut self) -> bool {
        let look = || {
            let process = self.machine.start()?;
            let app = shop::app("simulated");
            let backend = open(&self.log, &process, &app)?;
            let plan = process.block_on(Plan::make(app.name(), &app.agents(), &*backend, PARTITIONS))?;
            worker::caught_up(&plan, &*backend)
        };
        match look() {
            Ok(caught_up) => caught_up,
            Err(error) => self.fail(format_args!("it is not known whether everything is processed: {error:?}")),
        }
    }

    /// Records and commits may be gone, each partition up to some record, and what then does not fit together is refused.
    fn lose_power_without_syncs(&mut self) {
        self.acknowledged = 0;
        self.machine.lose_power();
        if let Err(error) = self.compare_acknowledged() {
            self.fail(format_args!("what is left cannot be read: {error:?}"));
        }
        self.start_worker();
        for _ in 0..40 {
            let worker = &mut self.workers[0];
            worker.process.run(20);
            self.machine.advance(Duration::from_millis(20));
            let mut said = Vec::new();
            while let Ok(event) = worker.events.try_recv() {
                said.push(event);
            }
            let result = worker.ended.borrow_mut().take();
            for event in said {
                if let WorkerEvent::Failed { agent, partition, error } = event
                    && innermost(&error) != ErrorKind::State
                {
                    self.fail(format_args!("{agent} {partition}: {error:?}"));
                }
            }
            match result {
                Some(Err(error)) => self.fail(error),
                Some(Ok(_)) => return,
                None => {}
            }
        }
    }
}

/// The kind of the error that is the cause of all others.
fn innermost(error: &Error) -> ErrorKind {
    let mut kind = error.kind();
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = cause {
        kind = error.downcast_ref::<Error>().map_or(kind, Error::kind);
        cause = error.source();
    }
    kind
}

fn published(replay: &dyn Replay, partition: u32) -> Result<Vec<Order>> {
    let mut reader = replay.reader(&TopicPartition::new("orders", partition), 0)?;
    let (mut frames, mut orders) = (Frames::default(), Vec::new());
    while reader.read(&mut frames)? {
        for frame in frames.iter() {
            orders.extend(frame.records().map(|record| Order::decode_value(record.value.unwrap()).unwrap()));
        }
    }
    Ok(orders)
}

impl Evidence for Run {
    fn orders(&self) -> Vec<Order> {
        self.orders.clone()
    }

    fn topic<V: Value>(&mut self, topic: &str) -> Vec<Vec<(Vec<u8>, V)>> {
        let process = self.machine.start().unwrap();
        let backend = open(&self.log, &process, &shop::app("simulated")).unwrap();
        records_of(&*backend.replay().unwrap(), topic, !self.thinned.contains(topic))
    }

    fn session(&mut self) -> Session {
        let process = self.machine.start().unwrap();
        let log = LogOptions { disk: process.disk(), ..self.log.clone() };
        let session = Session::open(shop::app("simulated"), log, PARTITIONS).unwrap();
        // A session knows nothing of it.
        self.session_process = Some(process);
        session
    }
}

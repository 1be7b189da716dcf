//! The order of a commit's steps against a loss of power in each call of a worker.

use std::sync::Arc;
use std::time::Duration;

use gretchen::agent;
use gretchen::app::App;
use gretchen::backend::log::LogOptions;
use gretchen::backend::{Backend, Producer, ProducerId};
use gretchen::error::{BoxError, Result};
use gretchen::plan::Plan;
use gretchen::record::{FrameBuilder, Value};
use gretchen::session::Session;
use gretchen::table::{Table, TableMut};
use gretchen::testing::sim::{Crash, Machine, Process};
use gretchen::topic::{TopicPartition, partition_of};
use gretchen::worker::{WorkerEvent, WorkerOptions};

use super::processes::{Worker, open};
use crate::support::{PARTITIONS, records_of};

/// Of every record, so that all are in one partition.
const KEY: &str = "key";

const RECORDS: i64 = 12;

/// Losses of power that are tried at each call.
const LOSSES: u64 = 8;

static SUM: Table<String, i64> = Table::new("sum");

/// Sums up and passes on.
#[agent(topic = "numbers", table = SUM, output = "passed")]
async fn sum_up(number: i64, mut sum: TableMut<'_, String, i64>) -> Result<i64, BoxError> {
    sum.update(KEY, |sum| *sum += number)?;
    Ok(number)
}

fn app() -> App {
    App::new("steps").agent::<sum_up>()
}

fn log() -> LogOptions {
    LogOptions { segment_bytes: 4096, ..LogOptions::new("/data") }
}

fn options() -> WorkerOptions {
    WorkerOptions {
        state_dir: Some("/data/state/steps".into()),
        commit_interval: Duration::from_millis(10),
        checkpoint_interval: Duration::from_millis(30),
        ..WorkerOptions::default()
    }
}

/// Whoever appends, and does not sync.
struct Appender {
    process: Process,
    producer: Box<dyn Producer>,
    appended: i64,
}

impl Appender {
    fn start(machine: &Machine) -> Self {
        let process = machine.start().unwrap();
        let backend = open(&log(), &process, &app()).unwrap();
        let producer = process.block_on(async {
            Plan::make("steps", &app().agents(), &*backend, PARTITIONS).await.unwrap();
            backend.producer(ProducerId::ANONYMOUS).await.unwrap()
        });
        Self { process, producer, appended: 0 }
    }

    fn append(&mut self) {
        let (mut frame, mut value) = (FrameBuilder::new(), Vec::new());
        self.appended += 1;
        self.appended.encode_value(&mut value).unwrap();
        frame.push(Some(KEY.as_bytes()), Some(&value), 0);
        let place = TopicPartition::new("numbers", partition_of(KEY.as_bytes(), PARTITIONS));
        // The power may be lost meanwhile.
        let _ = self.process.block_on(self.producer.append(&place, &mut frame, None));
    }
}

/// Lets a worker work for some time; fails if it does.
fn work(machine: &Machine, worker: &mut Worker, rounds: usize, mut beside: impl FnMut(usize)) -> Result<()> {
    for round in 0..rounds {
        beside(round);
        worker.process.run(20);
        machine.advance(Duration::from_millis(5));
        if worker.process.has_ended() {
            return Ok(());
        }
        while let Ok(event) = worker.events.try_recv() {
            if let WorkerEvent::Failed { error, .. } = event {
                return Err(error);
            }
        }
        if let Some(ended) = worker.ended.borrow_mut().take() {
            return ended.map(drop);
        }
    }
    Ok(())
}

/// Records that nobody has synced are processed, and the power is lost in each call of the worker that does so. Had a
/// commit been written before its sources were durable, it could be left alone, and the partition would be refused.
#[test]
fn a_commit_never_outlives_its_sources() {
    let mut gone = 0;
    for call in 1.. {
        let mut reached = false;
        for seed in 0..LOSSES {
            let machine = Machine::new(call << 8 | seed);
            let mut appender = Appender::start(&machine);
            let mut worker = Worker::start(0, &machine, &log(), &app(), options());
            worker.process.crash_at_call(call, Crash::PowerLoss);
            work(&machine, &mut worker, 40, |round| {
                if (round as i64) < RECORDS {
                    appender.append();
                }
            })
            .unwrap();
            reached |= worker.process.has_ended();
            let appended = appender.appended;
            machine.lose_power();
            drop((worker, appender));

            let mut worker = Worker::start(1, &machine, &log(), &app(), options());
            let worked = work(&machine, &mut worker, 40, |_| {});
            assert!(worked.is_ok(), "call {call}, seed {seed}: {worked:?}");
            drop(worker);
            let process = machine.start().unwrap();
            let backend: Arc<dyn Backend> = open(&log(), &process, &app()).unwrap();
            let replay = backend.replay().unwrap();
            let values = |topic: &str| -> Vec<i64> {
                records_of(&*replay, topic, true).into_iter().flatten().map(|(_, value)| value).collect()
            };
            let (left, passed) = (values("numbers"), values("passed"));
            assert!(left.iter().copied().eq(1..=left.len() as i64), "call {call}, seed {seed}: {left:?}");
            assert_eq!(passed, left, "call {call}, seed {seed}");
            let session = Session::open(app(), LogOptions { disk: process.disk(), ..log() }, PARTITIONS).unwrap();
            let sum = session.table(&SUM).unwrap().pop().map_or(0, |(_, sum)| sum);
            assert_eq!(sum, left.iter().sum::<i64>(), "call {call}, seed {seed}");
            gone += appended - left.len() as i64;
        }
        if !reached {
            assert!(call > 100 && gone > 100, "{call} calls, {gone} records gone");
            return;
        }
    }
}

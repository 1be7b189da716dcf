//! What happens in a round: processes begin, go on and end, calls fail, somebody changes settings or sets the clock.

use std::path::Path;
use std::time::Duration;

use gretchen::testing::sim::{Crash, Faults};
use gretchen::worker::WorkerOptions;

use super::{DATA, Kind, Run};
use crate::shop;
use crate::sim::operator::{self, Operation};
use crate::sim::processes::{Producer, Worker};
use crate::support::APP;

/// What somebody sets the clock by, in either direction, or a multiple of it: never so little that it is believed at once.
const CLOCK_STEP_MS: i64 = 2 * 60 * 60 * 1000;

impl Run {
    pub(super) fn round(&mut self) {
        match self.random.within(0..100) {
            0..40 => self.let_some_run(),
            40..52 => self.machine.advance(Duration::from_millis(self.random.within(1..250))),
            52..64 => self.publish(),
            64..74 => self.start_worker(),
            74..78 => self.stop_worker(),
            78..86 => self.kill(),
            86..92 if self.kind == Kind::Fsync => self.lose_power(),
            92..95 => self.turn_faults(),
            95..98 => self.operate(),
            98 => self.set_clock(),
            99 => self.lose_stores(),
            _ => {}
        }
    }

    fn let_some_run(&mut self) {
        // A worker takes some hundreds until all its agents are at work.
        let turns = self.random.within(1..300) as usize;
        let processes = self.workers.len() as u64 + 1;
        let chosen = self.random.within(0..processes) as usize;
        match self.workers.get(chosen) {
            Some(worker) => worker.process.run(turns),
            None => {
                if let Some(producer) = &self.producer {
                    producer.process.run(turns);
                }
            }
        }
    }

    pub(super) fn publish(&mut self) {
        // Where changelogs are cleaned they must get long enough for it.
        let bulk = self.random.one_in(if self.clean < self.checkpoint { 8 } else { 40 });
        let more = if bulk { 30 } else { self.random.within(1..12) };
        let first = self.orders.len();
        let random = &mut self.random;
        let mut within = |range| random.within(range);
        self.orders.extend(shop::some_orders(&mut within, first, more, bulk));
        self.note(format_args!("{} orders are to be published", self.orders.len()));
        self.ask_producer();
    }

    pub(super) fn ask_producer(&mut self) {
        let orders = self.orders.clone();
        if self.producer.is_none() {
            self.note("a producer starts");
            self.producer = Some(Producer::start(&self.machine, &self.log));
        }
        if let Some(producer) = &mut self.producer
            && producer.asked < orders.len()
        {
            producer.asked = orders.len();
            let _ = producer.upto.send(orders);
        }
    }

    pub(super) fn start_worker(&mut self) {
        if (self.workers.len() as u64) < self.most_workers {
            let number = self.machine.calls();
            self.note(format_args!("worker {number} starts"));
            let options = WorkerOptions {
                state_dir: Some(format!("{DATA}/state/{APP}").into()),
                commit_interval: self.commit,
                checkpoint_interval: self.checkpoint,
                clean_interval: self.clean,
                table_memory_bytes: self.table_memory_bytes,
                ..WorkerOptions::default()
            };
            let app = shop::app("simulated");
            self.workers.push(Worker::start(number, &self.machine, &self.log, &app, options));
        }
    }

    fn stop_worker(&mut self) {
        if self.workers.is_empty() {
            return;
        }
        let chosen = self.random.within(0..self.workers.len() as u64) as usize;
        let number = self.workers[chosen].number;
        self.note(format_args!("worker {number} is told to stop"));
        let _ = self.workers[chosen].stop.send(true);
    }

    /// A worker or the producer is killed, now or in one of its next calls.
    fn kill(&mut self) {
        let processes = self.workers.len() as u64 + 1;
        let chosen = self.random.within(0..processes) as usize;
        let calls = self.random.within(1..400);
        self.note(format_args!("a process is to be killed in its call {calls}"));
        let process = match self.workers.get(chosen) {
            Some(worker) => Some(&worker.process),
            None => self.producer.as_ref().map(|producer| &producer.process),
        };
        if let Some(process) = process {
            process.crash_at_call(calls, Crash::Kill);
        }
    }

    fn lose_power(&mut self) {
        let processes = self.workers.len() as u64 + 1;
        let chosen = self.random.within(0..processes) as usize;
        let calls = self.random.within(1..400);
        let process = match self.workers.get(chosen) {
            Some(worker) => Some(&worker.process),
            None => self.producer.as_ref().map(|producer| &producer.process),
        };
        match process {
            Some(process) if self.random.one_in(2) => {
                process.crash_at_call(calls, Crash::PowerLoss);
                self.note(format_args!("the power is to be lost in call {calls}"));
            }
            _ => {
                self.note("the power is lost");
                self.accidents.losses += 1;
                self.machine.lose_power();
            }
        }
    }

    /// Somebody changes the settings of a topic, and may be killed in it.
    fn operate(&mut self) {
        let operation = Operation::new(&mut self.random);
        self.note(format_args!("{operation:?}"));
        if operation.settings.cleanup.compacts() {
            self.thinned.insert(operation.topic);
        }
        let process = self.machine.start().unwrap();
        if self.random.one_in(4) {
            process.crash_at_call(self.random.within(1..300), Crash::Kill);
        }
        let done = operator::open(&process, &self.log).and_then(|log| process.block_on(operation.carry_out(&log)));
        if process.has_ended() {
            self.note("the operator has ended");
            return;
        }
        match done {
            Ok(true) if self.wrong_ms.is_none() => self.wrong_ms = Some(0),
            Ok(_) => {}
            Err(error) => self.excuse("the operator", &error),
        }
    }

    /// Somebody sets the clock, by hours: no record is older for it. Before the log has a time of its own it would be.
    fn set_clock(&mut self) {
        let Some(wrong_ms) = &mut self.wrong_ms else { return };
        let now = (self.random.within(0..25) as i64 - 12) * CLOCK_STEP_MS;
        self.machine.jump(now - *wrong_ms);
        *wrong_ms = now;
        self.note(format_args!("the clock is {now} ms ahead from now on"));
    }

    /// Somebody kills the workers and removes the stores, or those of one table: the changelogs have all that is in them.
    fn lose_stores(&mut self) {
        if self.faulty {
            return;
        }
        self.workers.clear();
        let process = self.machine.start().unwrap();
        let disk = process.disk();
        let state = Path::new(DATA).join("state").join(APP);
        let names = if disk.is_folder(&state) { disk.names(&state).unwrap() } else { Vec::new() };
        let chosen = self.random.within(0..2 * names.len() as u64 + 1) as usize;
        for (_, name) in names.iter().enumerate().filter(|(i, _)| chosen == *i || chosen >= names.len()) {
            let folder = state.join(name);
            if disk.is_folder(&folder) {
                self.note(format_args!("{} is removed", folder.display()));
                self.accidents.removals += 1;
                disk.remove_folder(&folder).unwrap();
            }
        }
        if !names.is_empty() {
            disk.sync_folder(&state).unwrap();
        }
    }

    fn turn_faults(&mut self) {
        self.faulty = !self.faulty && self.kind == Kind::Fsync;
        self.excused |= self.faulty;
        self.accidents.faults += usize::from(self.faulty);
        let faults = if self.faulty { self.faults } else { Faults::default() };
        self.note(format_args!("calls fail as {faults:?} says"));
        self.machine.set_faults(faults);
    }
}

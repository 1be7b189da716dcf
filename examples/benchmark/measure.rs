//! What a run costs: time, processor time, memory, bytes written.

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use gretchen::clock::Moment;
use gretchen::prelude::*;
use serde::{Deserialize, Serialize};

/// One contestant's run, as its process reports it.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Outcome {
    /// Records in the first half, in which most keys are new, and what they took.
    pub(crate) first: Part,
    /// The second half.
    pub(crate) warm: Part,
    /// From the end of the records to the end of the worker: the last checkpoint.
    pub(crate) closing_s: f64,
    /// The most memory that the process had.
    pub(crate) peak_bytes: u64,
    /// Bytes that went to the disk.
    pub(crate) written_bytes: u64,
    /// Records that were put out.
    pub(crate) put_out: u64,
    /// The longest time from one read of the log to the next.
    pub(crate) longest_gap_s: f64,
    /// Stands for all totals; none where there are no totals.
    pub(crate) totals: Option<Totals>,
}

/// Some records and what they took.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Part {
    pub(crate) records: u64,
    pub(crate) wall_s: f64,
    pub(crate) cpu_s: f64,
    /// The same of the whole machine; not of contestants in other languages.
    #[serde(default)]
    pub(crate) machine_s: f64,
}

/// What the totals came to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Totals {
    pub(crate) customers: u64,
    pub(crate) sales: i64,
    /// A hash of every customer's figures, in order.
    pub(crate) digest: u64,
}

impl Totals {
    /// Of customers with their number of sales, revenue, smallest and largest sale.
    pub(crate) fn of(rows: impl IntoIterator<Item = (String, i64, [f64; 3])>) -> Self {
        // Prices are quarters, so nothing is rounded.
        let mut rows: Vec<_> = rows
            .into_iter()
            .map(|(customer, sales, figures)| (customer, sales, figures.map(|figure| (figure * 4.0) as i64)))
            .collect();
        rows.sort_unstable();
        let mut digest = DefaultHasher::new();
        rows.hash(&mut digest);
        Self {
            customers: rows.len() as u64,
            sales: rows.iter().map(|(_, sales, _)| sales).sum(),
            digest: digest.finish(),
        }
    }
}

/// A moment of a run: wall time, the processor time of the whole process, and how many records are done.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sample {
    at: Moment,
    cpu: Duration,
    machine: Duration,
    pub(crate) records: u64,
}

impl Sample {
    pub(crate) fn take(clock: &Clock, records: u64) -> Self {
        let at = clock.moment();
        Self { at, cpu: processor_time(), machine: machine_time(at), records }
    }

    /// What lies between an earlier sample and this one.
    pub(crate) fn since(&self, earlier: &Self) -> Part {
        Part {
            records: self.records - earlier.records,
            wall_s: self.at.since(earlier.at).as_secs_f64(),
            cpu_s: self.cpu.saturating_sub(earlier.cpu).as_secs_f64(),
            machine_s: self.machine.saturating_sub(earlier.machine).as_secs_f64(),
        }
    }
}

/// The parts of a run that was sampled from before its first record to after its last.
pub(crate) fn parts(samples: &[Sample]) -> Option<(Part, Part)> {
    let (first, last) = (samples.first()?, samples.last()?);
    let middle = samples.iter().find(|sample| sample.records * 2 >= last.records)?;
    Some((middle.since(first), last.since(middle)))
}

/// The longest time between two samples.
pub(crate) fn longest_gap(samples: &[Sample]) -> f64 {
    samples.windows(2).map(|pair| pair[1].since(&pair[0]).wall_s).fold(0.0, f64::max)
}

fn processor_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// Processor time that all processes of the machine have used, as of a moment ago: to ask each time would take some itself.
fn machine_time(now: Moment) -> Duration {
    static LAST: Mutex<Option<(Moment, Duration)>> = Mutex::new(None);
    let mut last = LAST.lock().unwrap_or_else(PoisonError::into_inner);
    match *last {
        Some((at, time)) if now.since(at) < ASK_MACHINE => time,
        _ => last.insert((now, busy_time().unwrap_or_default())).1,
    }
}

/// How old what is known of the machine may be.
const ASK_MACHINE: Duration = Duration::from_millis(50);

fn busy_time() -> Option<Duration> {
    let stat = std::fs::read_to_string("/proc/stat").ok()?;
    // user, nice, system, idle, waiting for disks, interrupts twice; of other machines and of guests what follows.
    let ticks: Vec<u64> =
        stat.lines().next()?.split_whitespace().skip(1).map_while(|field| field.parse().ok()).collect();
    let [user, nice, system, _, _, hard, soft, ..] = ticks[..] else { return None };
    Some(Duration::from_millis(10 * (user + nice + system + hard + soft)))
}

/// The most memory that this process had so far.
pub(crate) fn peak_bytes() -> Result<u64> {
    Ok(field("/proc/self/status", "VmHWM:")? * 1024)
}

/// Bytes that this process caused to be written to disks.
pub(crate) fn written_bytes() -> Result<u64> {
    field("/proc/self/io", "write_bytes:")
}

/// Seconds of processor time that a process has used so far, and the bytes of memory that it has now.
pub(crate) fn use_of(process: u32) -> Result<(f64, u64)> {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat"))?;
    // Behind the name, which may hold spaces: utime and stime are the fields 14 and 15 of the whole line.
    let rest = stat.rsplit_once(')').ok_or("a process without a name")?.1;
    let ticks: u64 = rest.split_whitespace().skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum();
    let resident = field(&format!("/proc/{process}/status"), "VmRSS:")? * 1024;
    // Linux tells programs of a hundred ticks a second, whatever it counts by itself.
    Ok((ticks as f64 / 100.0, resident))
}

fn field(path: &str, name: &str) -> Result<u64> {
    let text = std::fs::read_to_string(path)?;
    let value = text.lines().find_map(|line| line.strip_prefix(name)).and_then(|rest| rest.split_whitespace().next());
    Ok(value.ok_or_else(|| format!("{path} has no {name}"))?.parse()?)
}

/// This process runs on the first `cores` cores only: the agents, their syncs and their checkpoints.
pub(crate) fn pin(cores: usize) -> Result<()> {
    let mut set = rustix::thread::CpuSet::new();
    (0..cores).for_each(|core| set.set(core));
    Ok(rustix::thread::sched_setaffinity(None, &set)?)
}

/// This process runs on that core only, if there is one.
pub(crate) fn pin_to(core: usize) -> Result<()> {
    if std::thread::available_parallelism()?.get() <= core {
        return Ok(());
    }
    let mut set = rustix::thread::CpuSet::new();
    set.set(core);
    Ok(rustix::thread::sched_setaffinity(None, &set)?)
}

/// Lowest, median and highest.
pub(crate) fn spread(values: impl IntoIterator<Item = f64>) -> (f64, f64, f64) {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    match values.as_slice() {
        [] => (f64::NAN, f64::NAN, f64::NAN),
        [low, .., high] => (*low, values[values.len() / 2], *high),
        [one] => (*one, *one, *one),
    }
}

//! The aggregation beside the loop that one would write by hand, on the same log, in one run, on one core.
//!
//! `cargo run --release --example benchmark -- [RECORDS] [KEYS] [ROUNDS]`, 10,000,000 records, 10,000 keys and 5 rounds
//! if nothing else is said. The contestants take turns, so that a machine that changes its speed changes it for all.
//! Every contestant's totals are compared with those of the first.

use std::collections::HashMap;
use std::process::ExitCode;
use std::time::Duration;

use gretchen::backend::Backend;
use gretchen::backend::Replay;
use gretchen::backend::log::LogBackend;
use gretchen::prelude::*;
use gretchen::record::Frames;
use gretchen::topic::TopicPartition;

gretchen::records!("schemas/sale.avsc", "schemas/sale_total.avsc");

use bench::{Sale, SaleTotal};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

aggregate! {
    /// The figures of each customer, declared.
    #[agent(topic = "sales", key = customer, output = "declared-totals")]
    static DECLARED: Table<String, SaleTotal> = from Sale {
        sales: count(),
        revenue: sum(price),
        smallest: min(price),
        largest: max(price),
    };
}

static BY_RECORD: Table<String, SaleTotal> = Table::new("by-record").output("by-record-totals");

/// The figures of each customer, a call a record.
#[agent(topic = "sales", key = customer, table = BY_RECORD)]
async fn by_record(sale: Sale, mut totals: TableMut<'_, String, SaleTotal>) -> Result<()> {
    totals.update(&sale.customer, |total| add(total, &sale.customer, sale.price))?;
    Ok(())
}

static BY_STREAM: Table<String, SaleTotal> = Table::new("by-stream").output("by-stream-totals");

/// The figures of each customer, one call that asks for owned records.
#[agent(topic = "sales", key = customer, table = BY_STREAM)]
async fn by_stream(mut sales: Stream<Sale>, mut totals: TableMut<'_, String, SaleTotal>) -> Result<()> {
    while let Some(sale) = sales.next().await {
        totals.update(&sale.customer, |total| add(total, &sale.customer, sale.price))?;
    }
    Ok(())
}

static BY_VIEW: Table<String, SaleTotal> = Table::new("by-view").output("by-view-totals");

/// The figures of each customer, one call that borrows each record.
#[agent(topic = "sales", key = customer, table = BY_VIEW)]
async fn by_view(mut sales: Stream<Sale>, mut totals: TableMut<'_, String, SaleTotal>) -> Result<()> {
    while let Some(sale) = sales.next_view().await {
        totals.update(sale.customer, |total| add(total, sale.customer, sale.price))?;
    }
    Ok(())
}

#[inline]
fn add(total: &mut SaleTotal, customer: &str, price: f64) {
    if total.sales == 0 {
        total.customer = customer.to_owned();
        total.smallest = price;
        total.largest = price;
    }
    total.sales += 1;
    total.revenue += price;
    total.smallest = total.smallest.min(price);
    total.largest = total.largest.max(price);
}

/// What a loop by hand keeps for each key.
struct Figures {
    sales: i64,
    revenue: f64,
    smallest: f64,
    largest: f64,
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    let mut arguments = std::env::args().skip(1).map(|text| text.replace(['_', ','], "").parse::<u64>());
    let mut next = |default: u64| arguments.next().unwrap_or(Ok(default));
    let (records, keys, rounds) = (next(10_000_000)?, next(10_000)?, next(5)?);
    // One core for everything: the worker, its fsyncs and its checkpoints.
    let mut core = rustix::thread::CpuSet::new();
    core.set(0);
    rustix::thread::sched_setaffinity(None, &core)?;

    let folder = tempfile::tempdir()?;
    let clock = Clock::system();
    let began = clock.moment();
    fill(folder.path(), records, keys)?;
    let filling = clock.moment().since(began);
    println!(
        "{records} sales of {keys} customers, one partition, one core; published in {:.1} s",
        filling.as_secs_f64()
    );

    type Contestant<'a> = (&'a str, Box<dyn Fn(u64) -> Result<Run> + 'a>);
    let path = folder.path();
    let contestants: Vec<Contestant<'_>> = vec![
        ("read and checksum alone", Box::new(|_| read_alone(path))),
        ("loop by hand", Box::new(|_| by_hand(path))),
        (
            "declared aggregation",
            Box::new(|round| agent(path, round, App::new(format!("declared-{round}")).agent::<declared>(), &DECLARED)),
        ),
        (
            "stream of views",
            Box::new(|round| agent(path, round, App::new(format!("view-{round}")).agent::<by_view>(), &BY_VIEW)),
        ),
        (
            "stream of records",
            Box::new(|round| agent(path, round, App::new(format!("stream-{round}")).agent::<by_stream>(), &BY_STREAM)),
        ),
        (
            "a call a record",
            Box::new(|round| agent(path, round, App::new(format!("record-{round}")).agent::<by_record>(), &BY_RECORD)),
        ),
    ];
    let mut times: Vec<Vec<f64>> = vec![Vec::new(); contestants.len()];
    let mut cpus = times.clone();
    let mut reference: Vec<(String, i64, i64)> = Vec::new();
    // The first round warms the page cache and is not counted.
    for round in 0..=rounds {
        for (place, (name, contestant)) in contestants.iter().enumerate() {
            let Run { wall, cpu, totals } = contestant(round)?;
            if place == 1 && round == 0 {
                reference.clone_from(&totals);
            }
            if place > 0 && totals != reference {
                let sum = |rows: &[(String, i64, i64)]| rows.iter().map(|(_, sales, _)| sales).sum::<i64>();
                return Err(format!(
                    "{name} has {} sales of {} customers, the loop by hand {} of {}; first rows {:?} and {:?}",
                    sum(&totals),
                    totals.len(),
                    sum(&reference),
                    reference.len(),
                    totals.first(),
                    reference.first()
                )
                .into());
            }
            if round > 0 {
                times[place].push(wall.as_secs_f64());
                cpus[place].push(cpu.as_secs_f64());
            }
        }
    }
    println!(
        "\n{:24} {:>11} {:>10} {:>24} {:>14} {:>24}",
        "", "records/s", "ns/record", "to the loop by hand", "CPU ns/record", "to the loop by hand"
    );
    for (place, (name, _)) in contestants.iter().enumerate() {
        let wall = spread(times[place].clone()).1 / records as f64;
        let cpu = spread(cpus[place].clone()).1 / records as f64;
        println!(
            "{name:24} {:>10.2}M {:>10.1} {:>24} {:>14.1} {:>24}",
            1e-6 / wall,
            wall * 1e9,
            ratio(&times[1], &times[place]),
            cpu * 1e9,
            ratio(&cpus[1], &cpus[place])
        );
    }
    println!(
        "\nmedians of {rounds} rounds; ratios are taken within a round. Agents commit exactly once every 100 ms with fsync, \
         put the totals of changed\ncustomers out at each commit, and their time includes opening, the last commit and a checkpoint."
    );
    Ok(())
}

/// The median of the rounds' ratios, and their range.
fn ratio(by_hand: &[f64], other: &[f64]) -> String {
    let (low, middle, high) = spread(by_hand.iter().zip(other).map(|(hand, time)| hand / time).collect());
    format!("{middle:.2} ({low:.2} to {high:.2})")
}

fn spread(mut values: Vec<f64>) -> (f64, f64, f64) {
    values.sort_by(f64::total_cmp);
    (values[0], values[values.len() / 2], values[values.len() - 1])
}

/// What a contestant took, and the totals that it came to.
struct Run {
    wall: Duration,
    cpu: Duration,
    totals: Vec<(String, i64, i64)>,
}

/// Wall time, and the processor time of the whole process.
struct Watch {
    clock: Clock,
    wall: gretchen::clock::Moment,
    cpu: Duration,
}

impl Watch {
    fn start() -> Self {
        let clock = Clock::system();
        Self { wall: clock.moment(), cpu: processor_time(), clock }
    }

    fn stop(self, totals: Vec<(String, i64, i64)>) -> Run {
        Run { wall: self.clock.moment().since(self.wall), cpu: processor_time().saturating_sub(self.cpu), totals }
    }
}

fn processor_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// Publishes the sales; the same for every run.
fn fill(folder: &std::path::Path, records: u64, keys: u64) -> Result<()> {
    let session = Session::open(App::new("fill").agent::<declared>(), LogOptions::new(folder), 1)?;
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let sales = (0..records).map(|sale_id| {
        let customer = format!("C{:06}", random() % keys);
        // Quarters of a dollar, so that sums are exact in any order.
        let price = (random() % 40_000) as f64 / 4.0;
        let sale = Sale { sale_id: sale_id as i64, customer, price, quantity: (random() % 5) as i32 };
        (sale.customer.clone().into_bytes(), sale)
    });
    session.publish("sales", "benchmark", sales)?;
    Ok(())
}

fn read_alone(folder: &std::path::Path) -> Result<Run> {
    let log = open(folder)?;
    let watch = Watch::start();
    let mut frames = Frames::default();
    let mut reader = log.reader(&TopicPartition::new("sales", 0), 0)?;
    let mut bytes = 0;
    while reader.read(&mut frames)? {
        bytes += frames.bytes.len();
    }
    std::hint::black_box(bytes);
    Ok(watch.stop(Vec::new()))
}

/// Read, checksum, decode, fold into a hash map, and nothing else.
fn by_hand(folder: &std::path::Path) -> Result<Run> {
    let log = open(folder)?;
    let watch = Watch::start();
    let mut totals: HashMap<Box<[u8]>, Figures, foldhash::fast::RandomState> = HashMap::default();
    let mut frames = Frames::default();
    let mut reader = log.reader(&TopicPartition::new("sales", 0), 0)?;
    while reader.read(&mut frames)? {
        for frame in frames.iter() {
            for record in frame.records() {
                let value = record.value.unwrap_or_default();
                let mut datum = value.get(10..).unwrap_or_default();
                let _sale_id = zigzag(&mut datum);
                let (customer, rest) = {
                    let len = zigzag(&mut datum) as usize;
                    datum.split_at(len)
                };
                let customer = std::str::from_utf8(customer)?;
                let price = f64::from_le_bytes(rest[..8].try_into()?);
                match totals.get_mut(customer.as_bytes()) {
                    Some(figures) => {
                        figures.sales += 1;
                        figures.revenue += price;
                        figures.smallest = figures.smallest.min(price);
                        figures.largest = figures.largest.max(price);
                    }
                    None => {
                        totals.insert(
                            customer.as_bytes().into(),
                            Figures { sales: 1, revenue: price, smallest: price, largest: price },
                        );
                    }
                }
            }
        }
    }
    let run = watch.stop(Vec::new());
    let rows = totals.into_iter().map(|(customer, figures)| {
        (
            String::from_utf8_lossy(&customer).into_owned(),
            figures.sales,
            check(figures.revenue, figures.smallest, figures.largest),
        )
    });
    Ok(Run { totals: sorted(rows.collect()), ..run })
}

#[inline]
fn zigzag(bytes: &mut &[u8]) -> i64 {
    let (mut value, mut shift) = (0_u64, 0);
    loop {
        let byte = bytes[0];
        *bytes = &bytes[1..];
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return (value >> 1) as i64 ^ -((value & 1) as i64);
        }
        shift += 7;
    }
}

/// The app processes the whole topic, with commits and outputs.
fn agent<S: gretchen::table::TableState<String, SaleTotal>>(
    folder: &std::path::Path,
    _round: u64,
    app: App,
    table: &'static Table<String, SaleTotal, S>,
) -> Result<Run> {
    let mut session = Session::open(app, LogOptions::new(folder), 1)?;
    session.options().threads = 1;
    let watch = Watch::start();
    session.process()?;
    let run = watch.stop(Vec::new());
    let rows = session
        .table(table)?
        .into_iter()
        .map(|(customer, total)| (customer, total.sales, check(total.revenue, total.smallest, total.largest)));
    Ok(Run { totals: sorted(rows.collect()), ..run })
}

/// The figures in one number; prices are quarters, so nothing is rounded.
fn check(revenue: f64, smallest: f64, largest: f64) -> i64 {
    (revenue * 4.0) as i64 * 31 + (smallest * 4.0) as i64 * 7 + (largest * 4.0) as i64
}

fn sorted(mut rows: Vec<(String, i64, i64)>) -> Vec<(String, i64, i64)> {
    rows.sort_unstable();
    rows
}

fn open(folder: &std::path::Path) -> Result<std::sync::Arc<dyn Replay>> {
    let log = LogBackend::open(LogOptions::new(folder), Clock::system())?;
    Ok(log.replay().ok_or("the log can be read again")?)
}

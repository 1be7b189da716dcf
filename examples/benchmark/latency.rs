//! From the moment at which a sale was due to be published to the moment at which a total that counts it can be read.
//!
//! Open loop: sales are due at fixed times, whether or not those before have been seen. A publisher that was held up
//! sends the more at once, and the time that they had waited counts.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use comfy_table::{CellAlignment, Table, presets};
use gretchen::backend::log::LogBackend;
use gretchen::backend::{Backend, Producer, ProducerId, Reader};
use gretchen::clock::Moment;
use gretchen::prelude::*;
use gretchen::record::{Decoder, FrameBuilder, Frames, SchemaLookup, Value};
use gretchen::topic::TopicPartition;

use crate::agents::declared;
use crate::bench::{Sale, SaleTotal};
use crate::log::sync_time;
use crate::measure::{pin_to, spread};
use crate::worker::Worker;

/// One customer in so many is watched.
const WATCH_EVERY: u64 = 100;
/// Sales that are made before, and published again and again.
const POOL: u64 = 1 << 20;
/// Time from one look at what is due to the next.
const TICK: Duration = Duration::from_millis(1);
/// Most sales in a frame.
const FRAME: u64 = 8_192;
/// Time in which everything that was published must have been seen.
const PATIENCE: Duration = Duration::from_secs(60);
/// Single sales are sent this long after the total of the one before was seen.
const PAUSE: Duration = Duration::from_millis(30);

/// How latency is measured.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Customers.
    #[arg(long, default_value_t = 10_000)]
    keys: u64,
    /// Loads, per cent of the most that the machine takes.
    #[arg(long, value_delimiter = ',', default_value = "25,50,80")]
    loads: Vec<u32>,
    /// Seconds at each load.
    #[arg(long, default_value_t = 10)]
    seconds: u64,
    /// Sales that find the worker idle.
    #[arg(long, default_value_t = 50)]
    singles: usize,
    /// Sales by which the most is found.
    #[arg(long, default_value_t = 20_000_000)]
    records: u64,
}

/// Finds the most that worker and publisher take together, and measures at parts of it.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let folder = tempfile::tempdir()?;
    drop(Session::open(App::new("fill").agent::<declared>(), LogOptions::new(folder.path()), 1)?);
    // The worker has the first core to itself, if there is another.
    let worker = Worker::start(folder.path(), 1)?;
    pin_to(1)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    runtime.block_on(measure(arguments, folder.path(), worker))
}

async fn measure(arguments: &Arguments, folder: &Path, mut worker: Worker) -> Result<()> {
    let clock = Clock::system();
    let log = LogBackend::open(LogOptions::new(folder), clock.clone())?;
    let place = TopicPartition::new("sales", 0);
    let mut source = Source {
        clock: clock.clone(),
        producer: log.producer(ProducerId::ANONYMOUS).await?,
        place,
        pool: pool(arguments.keys)?,
        watched: Arc::default(),
        frame: FrameBuilder::new(),
        sent: 0,
    };
    while !log.topics().await?.iter().any(|topic| &*topic.spec.name == "declared-totals") {
        worker.check()?;
        clock.sleep(TICK).await;
    }
    let replay = log.replay().ok_or("the log can be read again")?;
    let reader = replay.reader(&TopicPartition::new("declared-totals", 0), 0)?;
    let observer = Observer { clock: clock.clone(), reader, watched: source.watched.clone() };
    let observer = Running(tokio::spawn(observer.run()));

    source.send_one().await?;
    source.wait(&mut worker, &observer).await?;
    source.take();
    let began = clock.moment();
    source.send(arguments.records, |_| began).await?;
    source.wait(&mut worker, &observer).await?;
    let most = arguments.records as f64 / clock.moment().since(began).as_secs_f64();
    source.take();

    let sync_ms = sync_time(folder, &clock)? * 1e3;
    println!(
        "{} customers, commits every 100 ms with fsync, the worker on one core, publisher and reader on another\n\
         most: {:.2} M sales a second from publishing to output; one sync of a small file {sync_ms:.2} ms",
        arguments.keys,
        1e-6 * most
    );
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header([
        "load",
        "M records/s",
        "median ms",
        "99 %",
        "99.9 %",
        "longest",
        "samples",
        "behind ms",
    ]);
    for load in &arguments.loads {
        let rate = most * f64::from(*load) / 100.0;
        let behind = source.open_loop(rate, Duration::from_secs(arguments.seconds)).await?;
        source.wait(&mut worker, &observer).await?;
        let mut times = source.take();
        times.sort_by(f64::total_cmp);
        let at = |part: f64| times.get(((times.len() - 1) as f64 * part) as usize).copied().unwrap_or(f64::NAN) * 1e3;
        table.add_row([
            format!("{load} %"),
            format!("{:.2}", 1e-6 * rate),
            format!("{:.1}", at(0.5)),
            format!("{:.1}", at(0.99)),
            format!("{:.1}", at(0.999)),
            format!("{:.1}", at(1.0)),
            times.len().to_string(),
            format!("{:.1}", behind.as_secs_f64() * 1e3),
        ]);
    }
    for _ in 0..arguments.singles {
        clock.sleep(PAUSE).await;
        source.send_one().await?;
        source.wait(&mut worker, &observer).await?;
    }
    let (low, middle, high) = spread(source.take().into_iter().map(|time| time * 1e3));
    for column in table.column_iter_mut() {
        column.set_cell_alignment(CellAlignment::Right);
    }
    println!(
        "{table}\none sale to an idle worker: {middle:.2} ms ({low:.2} to {high:.2}), that is {:.1} syncs",
        middle / sync_ms
    );
    Ok(())
}

/// Sales as they are published: the customer's number, its key and the encoded sale.
fn pool(keys: u64) -> Result<Vec<(u64, String, Vec<u8>)>> {
    let sale = |number: u64| {
        // Neighbours in the log are not neighbours among the customers.
        let customer = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) % keys;
        let sale = Sale { sale_id: number as i64, customer: format!("C{customer:06}"), price: 1.0, quantity: 1 };
        let mut wire = Vec::new();
        sale.encode_value(&mut wire)?;
        Ok((customer, sale.customer, wire))
    };
    (0..POOL).map(sale).collect()
}

/// Sales of a watched customer whose total has not been seen yet.
#[derive(Debug, Default)]
struct Customer {
    /// When each of the customer's sales since the last look was due.
    due: Vec<Moment>,
    /// How many the total that was seen last counts.
    seen: usize,
}

#[derive(Debug, Default)]
struct Watched {
    customers: BTreeMap<String, Customer>,
    /// Seconds from due to seen.
    times: Vec<f64>,
    waiting: u64,
}

type Shared = Arc<Mutex<Watched>>;

struct Source {
    clock: Clock,
    producer: Box<dyn Producer>,
    place: TopicPartition,
    pool: Vec<(u64, String, Vec<u8>)>,
    watched: Shared,
    frame: FrameBuilder,
    sent: u64,
}

impl Source {
    /// Publishes the next `count` sales; `due` says when the n-th of them should have been.
    async fn send(&mut self, count: u64, due: impl Fn(u64) -> Moment) -> Result<()> {
        let mut number = 0;
        while number < count {
            let end = count.min(number + FRAME);
            self.frame.clear();
            {
                let mut watched = self.watched.lock().unwrap_or_else(PoisonError::into_inner);
                for number in number..end {
                    let (customer, key, wire) = &self.pool[((self.sent + number) % POOL) as usize];
                    self.frame.push(Some(key.as_bytes()), Some(wire), 1_700_000_000_000);
                    if customer.is_multiple_of(WATCH_EVERY) {
                        watched.waiting += 1;
                        watched.customers.entry(key.clone()).or_default().due.push(due(number));
                    }
                }
            }
            self.producer.append(&self.place, &mut self.frame, None).await?;
            number = end;
        }
        self.sent += count;
        Ok(())
    }

    /// Publishes the next sale of a watched customer alone.
    async fn send_one(&mut self) -> Result<()> {
        while !self.pool[(self.sent % POOL) as usize].0.is_multiple_of(WATCH_EVERY) {
            self.sent += 1;
        }
        let now = self.clock.moment();
        self.send(1, |_| now).await
    }

    /// Publishes so many a second; returns how late the latest was sent.
    async fn open_loop(&mut self, rate: f64, time: Duration) -> Result<Duration> {
        let (began, mut done, mut behind) = (self.clock.moment(), 0, Duration::ZERO);
        let total = (rate * time.as_secs_f64()) as u64;
        while done < total {
            let now = self.clock.moment().since(began).as_secs_f64();
            let due = total.min((now * rate) as u64);
            let first = done;
            let due_at = |number: u64| began.after(Duration::from_secs_f64((first + number) as f64 / rate));
            self.send(due - done, due_at).await?;
            behind = behind.max(self.clock.moment().since(due_at(0)));
            done = due;
            self.clock.sleep(TICK).await;
        }
        Ok(behind)
    }

    /// Waits until the totals of everything that was published have been seen.
    async fn wait(&self, worker: &mut Worker, observer: &Running) -> Result<()> {
        let began = self.clock.moment();
        while self.watched.lock().unwrap_or_else(PoisonError::into_inner).waiting > 0 {
            worker.check()?;
            if observer.0.is_finished() {
                return Err("the output cannot be read any more".into());
            }
            if self.clock.moment().since(began) > PATIENCE {
                return Err(format!("not every total was seen within {PATIENCE:?}").into());
            }
            self.clock.sleep(TICK).await;
        }
        Ok(())
    }

    /// The times since the last call.
    fn take(&self) -> Vec<f64> {
        std::mem::take(&mut self.watched.lock().unwrap_or_else(PoisonError::into_inner).times)
    }
}

/// Reads the totals.
struct Observer {
    clock: Clock,
    reader: Box<dyn Reader>,
    watched: Shared,
}

impl Observer {
    async fn run(mut self) -> Result<()> {
        struct NoOther;
        impl SchemaLookup for NoOther {
            fn schema(&self, _: u64) -> gretchen::error::Result<Option<Arc<str>>> {
                Ok(None)
            }
        }
        let mut decoder = Decoder::<SaleTotal>::new(Arc::new(NoOther));
        let mut frames = Frames::default();
        loop {
            if !self.reader.read(&mut frames)? {
                self.reader.ready().await?;
                continue;
            }
            let now = self.clock.moment();
            let Watched { customers, times, waiting } =
                &mut *self.watched.lock().unwrap_or_else(PoisonError::into_inner);
            for record in frames.iter().flat_map(|frame| frame.records()) {
                let total = decoder.view(record.value.unwrap_or_default())?;
                let Some(customer) = customers.get_mut(total.customer) else { continue };
                let newly = (total.sales as usize).saturating_sub(customer.seen);
                customer.seen += newly;
                *waiting -= newly as u64;
                times.extend(customer.due.drain(..newly).map(|due| now.since(due).as_secs_f64()));
            }
        }
    }
}

/// The observer, ended with whoever waits for it.
struct Running(tokio::task::JoinHandle<Result<()>>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.abort();
    }
}

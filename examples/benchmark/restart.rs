//! A worker that is killed with a large table: how soon it is at work again, and how fast a lost table is rebuilt.

use std::path::Path;
use std::process::{Child, Command};
use std::sync::Arc;
use std::time::Duration;

use gretchen::backend::Backend;
use gretchen::backend::log::LogBackend;
use gretchen::plan::Plan;
use gretchen::prelude::*;
use gretchen::publish::Publisher;
use gretchen::record::Value;
use gretchen::worker::{self, Recovered, WorkerEvent, WorkerOptions};
use tokio::sync::{mpsc, watch};

use crate::agents::{DECLARED, declared};
use crate::bench::Sale;

const APP: &str = "restart";
/// Sales that are published while the worker runs, in pieces.
const PIECE: u64 = 100_000;

/// How the restart is measured.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Customers, each with a sale before the kill.
    #[arg(long, default_value_t = 5_000_000)]
    keys: u64,
    /// Time between two checkpoints; the kill comes when half of it has passed since one, with records flowing.
    #[arg(long, default_value_t = 10_000)]
    checkpoint_ms: u64,
    /// Sales a second that flow at the kill; without it as many as there can be.
    #[arg(long)]
    rate: Option<u64>,
}

/// Fills a table, rebuilds it from its changelog alone, kills its worker while records flow, and restarts it.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let Arguments { keys, checkpoint_ms, rate } = *arguments;
    let clock = Clock::system();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(async {
        let app = App::new(APP).agent::<declared>();
        let (log, plan) = open(folder.path(), &app, &clock).await?;
        let mut publisher = Publisher::open(&log, "sales", Some("restart")).await?;
        publish(&mut publisher, 0..keys, keys).await?;
        // Nobody but the one who is measured has the log open, so that it has to see where it ends, too.
        drop((publisher, plan, log));
        start(&app, folder.path(), checkpoint_ms, &clock, keys).await?;
        let (state, whole) = (bytes_in(&folder.path().join("state"))?, bytes_in(folder.path())?);
        println!(
            "{keys} customers: {} MB of state in the store, {} MB of log",
            state / 1_000_000,
            (whole - state) / 1_000_000
        );
        std::fs::remove_dir_all(folder.path().join("state"))?;
        let rebuilt = start(&app, folder.path(), checkpoint_ms, &clock, keys).await?;
        println!("table lost, rebuilt from the changelog: {rebuilt}");
        println!("{:.2} M keys a second", 1e-6 * keys as f64 / rebuilt.at_work);

        let mut victim = Command::new(std::env::current_exe()?);
        let mut worker = Victim(victim.arg("victim").arg(folder.path()).arg(checkpoint_ms.to_string()).spawn()?);
        let published = flow(folder.path(), &clock, arguments).await?;
        worker.kill()?;
        let killed = start(&app, folder.path(), checkpoint_ms, &clock, published).await?;
        let flowed = match rate {
            Some(rate) => format!("{rate} records a second"),
            None => "as many records as could".to_owned(),
        };
        println!("killed while {flowed} flowed, restarted: {killed}");
        check(&app, folder.path(), published, keys)?;
        Ok(())
    })
}

/// Lets sales flow until half of the time to another checkpoint has passed since one; returns how many were published.
async fn flow(folder: &Path, clock: &Clock, arguments: &Arguments) -> Result<u64> {
    let Arguments { keys, checkpoint_ms, rate } = *arguments;
    let (log, _) = open(folder, &App::new(APP).agent::<declared>(), clock).await?;
    let mut publisher = Publisher::open(&log, "sales", Some("flow")).await?;
    let mut published = keys;
    let began = clock.moment();
    let time = Duration::from_millis(checkpoint_ms * 3 / 2);
    while clock.moment().since(began) < time {
        let now = clock.moment().since(began).as_secs_f64();
        let due = rate.map_or(PIECE, |rate| PIECE.min((now * rate as f64) as u64 + keys - published));
        publish(&mut publisher, published..published + due, keys).await?;
        published += due;
        if rate.is_some() {
            clock.sleep(Duration::from_millis(5)).await;
        }
    }
    Ok(published)
}

async fn open(folder: &Path, app: &App, clock: &Clock) -> Result<(Arc<dyn Backend>, Plan)> {
    let log: Arc<dyn Backend> = Arc::new(LogBackend::open(LogOptions::new(folder), clock.clone())?);
    let plan = Plan::make(APP, &app.agents(), &*log, 1).await?;
    Ok((log, plan))
}

/// Bytes that the files below a folder take on the disk.
fn bytes_in(folder: &Path) -> std::io::Result<u64> {
    let mut bytes = 0;
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        bytes += match entry.file_type()?.is_dir() {
            true => bytes_in(&entry.path())?,
            false => entry.metadata()?.len(),
        };
    }
    Ok(bytes)
}

/// The worker that is killed.
pub(crate) fn victim(folder: &Path, checkpoint_ms: u64) -> Result<()> {
    let clock = Clock::system();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(async {
        let (log, plan) = open(folder, &App::new(APP).agent::<declared>(), &clock).await?;
        let (_never, stopped) = watch::channel(false);
        let (events, _) = mpsc::unbounded_channel();
        worker::run(&plan, log.clone(), options(folder, checkpoint_ms), clock, stopped, events).await?;
        Ok(())
    })
}

struct Victim(Child);

impl Victim {
    fn kill(&mut self) -> Result<()> {
        if let Some(status) = self.0.try_wait()? {
            return Err(format!("the worker ended with {status}").into());
        }
        self.0.kill()?;
        self.0.wait()?;
        Ok(())
    }
}

impl Drop for Victim {
    fn drop(&mut self) {
        // It has ended already, unless something failed on the way.
        let _ = self.0.kill();
    }
}

fn options(folder: &Path, checkpoint_ms: u64) -> WorkerOptions {
    WorkerOptions {
        state_dir: Some(folder.join("state").join(APP)),
        checkpoint_interval: Duration::from_millis(checkpoint_ms),
        threads: 1,
        table_memory_bytes: 4 << 30,
        // A last checkpoint of a large table is not cut off, as a worker's own may be.
        stop_timeout: Duration::from_secs(300),
        ..WorkerOptions::default()
    }
}

async fn publish(publisher: &mut Publisher, sales: std::ops::Range<u64>, keys: u64) -> Result<()> {
    let mut wire = Vec::new();
    for number in sales {
        let customer = number % keys;
        let sale = Sale { sale_id: number as i64, customer: format!("C{customer:07}"), price: 1.0, quantity: 1 };
        wire.clear();
        sale.encode_value(&mut wire)?;
        publisher.push(Some(sale.customer.as_bytes()), Some(&wire), 0).await?;
    }
    publisher.flush().await?;
    Ok(())
}

/// How a start went.
struct Started {
    /// Seconds from the opening of the log until the worker took records.
    at_work: f64,
    /// Until everything was processed.
    done: f64,
    recovered: Recovered,
}

impl std::fmt::Display for Started {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Recovered { replayed, covered, commits, .. } = self.recovered;
        write!(
            f,
            "at work after {:.2} s, {replayed} changelog records of {commits} commits replayed and {covered} passed over; \
             everything processed after {:.2} s",
            self.at_work, self.done
        )
    }
}

async fn start(app: &App, folder: &Path, checkpoint_ms: u64, clock: &Clock, records: u64) -> Result<Started> {
    let (stop, stopped) = watch::channel(false);
    let (events, mut received) = mpsc::unbounded_channel();
    let began = clock.moment();
    let (log, plan) = open(folder, app, clock).await?;
    let work = worker::run(&plan, log.clone(), options(folder, checkpoint_ms), clock.clone(), stopped, events);
    tokio::pin!(work);
    let (mut started, mut done) = (None, 0.0);
    loop {
        tokio::select! {
            summary = &mut work => match summary?.stuck {
                0 => break,
                _ => return Err("the worker did not end in time".into()),
            },
            Some(event) = received.recv() => match event {
                WorkerEvent::Started { recovered, .. } => {
                    started = Some((clock.moment().since(began).as_secs_f64(), recovered));
                }
                WorkerEvent::Failed { error, .. } => return Err(error.into()),
                _ => {}
            },
            () = clock.sleep(Duration::from_millis(5)), if done == 0.0 => {
                if started.is_some() && worker::caught_up(&plan, &*log)? {
                    done = clock.moment().since(began).as_secs_f64();
                    let _ = stop.send(true);
                }
            }
        }
    }
    let (at_work, recovered) =
        started.ok_or_else(|| format!("the worker did not start, {records} records are there"))?;
    Ok(Started { at_work, done, recovered })
}

/// Every sale counts once. Looked at on a thread of its own, because a session drives a runtime of its own.
fn check(app: &App, folder: &Path, published: u64, keys: u64) -> Result<()> {
    std::thread::scope(|scope| scope.spawn(|| compare(app, folder, published, keys)).join())
        .map_err(|_| "the comparison of the totals panicked")?
}

fn compare(app: &App, folder: &Path, published: u64, keys: u64) -> Result<()> {
    let session = Session::open(app.clone(), LogOptions::new(folder), 1)?;
    let rows = session.table(&DECLARED)?;
    let wrong = rows.iter().find(|(customer, total)| {
        let number = customer.trim_start_matches('C').parse::<u64>().unwrap_or(u64::MAX);
        let sales = published / keys + u64::from(number < published % keys);
        total.sales as u64 != sales || total.revenue != sales as f64
    });
    match wrong {
        None if rows.len() as u64 == keys.min(published) => Ok(()),
        None => Err(format!("{} of {keys} customers are there", rows.len()).into()),
        Some((customer, total)) => Err(format!("{customer} has {total:?}, {published} sales were published").into()),
    }
}

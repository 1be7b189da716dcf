//! The processes of a run: workers and a producer, and what they say.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::{Arc, Mutex};

use gretchen::app::App;
use gretchen::backend::log::{LogBackend, LogOptions};
use gretchen::backend::{Backend, WireLayer};
use gretchen::error::Result;
use gretchen::plan::Plan;
use gretchen::publish::Publisher;
use gretchen::record::Value;
use gretchen::testing::sim::{Machine, Process, work};
use gretchen::worker::{Summary, WorkerEvent, WorkerOptions};
use tokio::sync::{mpsc, watch};

use crate::shop::{self, Order};
use crate::support::PARTITIONS;

/// A worker as a process of a machine.
pub(super) struct Worker {
    pub(super) number: u64,
    // Before the signals: a killed process is not told to stop.
    pub(super) process: Process,
    pub(super) stop: watch::Sender<bool>,
    pub(super) events: mpsc::UnboundedReceiver<WorkerEvent>,
    pub(super) ended: Rc<RefCell<Option<Result<Summary>>>>,
}

/// Whoever publishes orders, as a process of a machine.
pub(super) struct Producer {
    pub(super) process: Process,
    /// How many of the orders are to be published.
    pub(super) upto: mpsc::UnboundedSender<Vec<Order>>,
    /// How many were published durably, or why not.
    pub(super) said: mpsc::UnboundedReceiver<Result<usize>>,
    pub(super) asked: usize,
}

/// Opens a log of the machine as an app sees it.
pub(super) fn open(log: &LogOptions, process: &Process, app: &App) -> Result<Arc<dyn Backend>> {
    let log = LogOptions { disk: process.disk(), ..log.clone() };
    let backend = Arc::new(LogBackend::open(log, process.clock())?);
    Ok(Arc::new(WireLayer::new(backend, app.formats().clone())))
}

impl Worker {
    pub(super) fn start(number: u64, machine: &Machine, log: &LogOptions, app: &App, options: WorkerOptions) -> Self {
        let process = machine.start().unwrap();
        let options = WorkerOptions { disk: process.disk(), ..options };
        let (stop, stopped) = watch::channel(false);
        let (sender, events) = mpsc::unbounded_channel();
        let ended = Rc::new(RefCell::new(None));
        let result = ended.clone();
        let (name, agents) = (app.name().to_owned(), app.agents());
        let clock = process.clock();
        let opened = open(log, &process, app);
        process.spawn(async move {
            let run = async {
                let backend = opened?;
                let plan = Plan::make(&name, &agents, &*backend, PARTITIONS).await?;
                work(&plan, backend, options, clock, stopped, sender).await
            };
            let run = run.await;
            *result.borrow_mut() = Some(run);
        });
        Self { number, process, stop, events, ended }
    }
}

impl Producer {
    pub(super) fn start(machine: &Machine, log: &LogOptions) -> Self {
        let process = machine.start().unwrap();
        let (upto, mut asked) = mpsc::unbounded_channel::<Vec<Order>>();
        let (say, said) = mpsc::unbounded_channel();
        let app = shop::app("simulated");
        let opened = open(log, &process, &app);
        process.spawn(async move {
            let run = async {
                let backend = opened?;
                Plan::make(app.name(), &app.agents(), &*backend, PARTITIONS).await?;
                let mut publisher = Publisher::open(&backend, "orders", Some("producer")).await?;
                let mut pushed = 0;
                let mut wire = Vec::new();
                while let Some(orders) = asked.recv().await {
                    for order in &orders[pushed..] {
                        wire.clear();
                        order.encode_value(&mut wire).unwrap();
                        publisher.push(Some(order.customer.as_bytes()), Some(&wire), order.order_id).await?;
                    }
                    pushed = orders.len();
                    publisher.flush().await?;
                    let _ = say.send(Ok(pushed));
                }
                Ok(())
            };
            if let Err(error) = run.await {
                let _ = say.send(Err(error));
            }
        });
        Self { process, upto, said, asked: 0 }
    }
}

/// What the library has warned of.
#[derive(Clone, Debug, Default)]
pub(super) struct Warnings(Arc<Mutex<Vec<u8>>>);

impl Warnings {
    pub(super) fn take(&self) -> String {
        let bytes = std::mem::take(&mut *self.0.lock().unwrap());
        String::from_utf8(bytes).unwrap()
    }
}

impl std::io::Write for Warnings {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

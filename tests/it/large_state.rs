//! State that is larger than the memory it may take: evicted, read back in batches, right all the same.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use gretchen::backend::Backend;
use gretchen::backend::log::{Durability, LogBackend, LogOptions};
use gretchen::plan::Plan;
use gretchen::prelude::*;
use gretchen::publish::Publisher;
use gretchen::record::Value;
use gretchen::worker::{self, WorkerOptions};
use tokio::sync::{mpsc, watch};

records!("schemas/sale.avsc", "schemas/sale_total.avsc");

use bench::{Sale, SaleTotal};

aggregate! {
    /// Figures of each customer.
    #[agent(topic = "sales", key = customer)]
    static FIGURES: Table<String, SaleTotal> = from Sale {
        sales: count(),
        revenue: sum(price),
        smallest: min(price),
        largest: max(price),
    };
}

static COUNTS: Table<String, i64> = Table::new("counts");

#[agent(topic = "sales", key = customer, table = COUNTS)]
async fn count_sales(sale: Sale, mut counts: TableMut<'_, String, i64>) -> Result<()> {
    counts.update(&sale.customer, |count| *count += 1)?;
    Ok(())
}

/// 40,000 customers in 64 KiB a table: more than nine of ten lookups go to RocksDB.
#[test]
fn state_larger_than_its_memory_is_right_over_restarts() {
    let folder = tempfile::tempdir().unwrap();
    let mut expected: BTreeMap<String, i64> = BTreeMap::new();
    let mut sent = Vec::new();
    let mut state = 88_172_645_463_325_252_u64;
    for round in 0..3 {
        for _ in 0..60_000 {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            let customer = format!("C{}", state % 40_000);
            *expected.entry(customer.clone()).or_default() += 1;
            sent.push(Sale { sale_id: sent.len() as i64, customer, price: 1.5, quantity: 1 });
        }
        let app = App::new("large").agent::<figures>().agent::<count_sales>();
        let log = LogOptions { durability: Durability::Os, ..LogOptions::new(folder.path()) };
        let mut session = Session::open(app, log, 2).unwrap();
        session.options().table_memory_bytes = 64 << 10;
        let keyed = sent.iter().map(|sale| (sale.customer.clone().into_bytes(), sale.clone()));
        assert_eq!(session.publish("sales", "sales", keyed).unwrap().added, 60_000, "round {round}");
        session.process().unwrap();
        let figures = session.table(&FIGURES).unwrap();
        let by_figures: BTreeMap<String, i64> = figures.iter().map(|(key, total)| (key.clone(), total.sales)).collect();
        assert_eq!(by_figures, expected);
        assert!(figures.iter().all(|(_, total)| (total.revenue - 1.5 * total.sales as f64).abs() < 1e-9));
        let by_hand: BTreeMap<String, i64> = session.table(&COUNTS).unwrap().into_iter().collect();
        assert_eq!(by_hand, expected);
    }
}

/// However seldom checkpoints are to be: a changelog that has grown by so many records gets one, and a start after a kill
/// replays the rest.
#[tokio::test(flavor = "multi_thread")]
async fn a_long_tail_of_the_changelog_gets_a_checkpoint_before_its_time() {
    let folder = tempfile::tempdir().unwrap();
    let log = LogOptions { durability: Durability::Os, ..LogOptions::new(folder.path().join("log")) };
    let backend: Arc<dyn Backend> = Arc::new(LogBackend::open(log, Clock::system()).unwrap());
    let app = App::new("large").agent::<count_sales>();
    let plan = Plan::make(app.name(), &app.agents(), &*backend, 1).await.unwrap();
    let mut publisher = Publisher::open(&backend, "sales", None).await.unwrap();
    let options = WorkerOptions {
        state_dir: Some(folder.path().join("state")),
        checkpoint_interval: Duration::from_secs(3_600),
        checkpoint_records: 1_000,
        commit_interval: Duration::from_millis(1),
        ..WorkerOptions::default()
    };
    let checkpoint = folder.path().join("state/count_sales/0.position");
    let (stop, stopped) = watch::channel(false);
    let (events, _received) = mpsc::unbounded_channel();
    let work = worker::run(&plan, backend.clone(), options, Clock::system(), stopped, events);
    let flow = async {
        let mut wire = Vec::new();
        let mut published = 0;
        while !checkpoint.exists() {
            assert!(published < 5_000_000, "no checkpoint");
            for _ in 0..500 {
                let customer = format!("C{published}");
                let sale = Sale { sale_id: published, customer, price: 1.5, quantity: 1 };
                wire.clear();
                sale.encode_value(&mut wire).unwrap();
                publisher.push(Some(sale.customer.as_bytes()), Some(&wire), 0).await.unwrap();
                published += 1;
            }
            publisher.flush().await.unwrap();
            Clock::system().sleep(Duration::from_millis(1)).await;
        }
        let text = std::fs::read_to_string(&checkpoint).unwrap();
        let _ = stop.send(true);
        text.split_once(' ').unwrap().0.parse::<u64>().unwrap()
    };
    let (summary, position) = tokio::join!(work, flow);
    assert_eq!(summary.unwrap().failed, 0);
    assert!(position >= 1_000, "the checkpoint covers {position}");
}

//! State that is larger than the memory it may take: evicted, read back in batches, right all the same.

use std::collections::BTreeMap;

use gretchen::backend::log::{Durability, LogOptions};
use gretchen::prelude::*;

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

//! The same figures of each customer in every form that an agent can have.

use gretchen::prelude::*;

use crate::bench::{Sale, SaleTotal};

aggregate! {
    /// The figures of each customer, declared.
    #[agent(topic = "sales", key = customer, output = "declared-totals")]
    pub(crate) static DECLARED: Table<String, SaleTotal> = from Sale {
        sales: count(),
        revenue: sum(price),
        smallest: min(price),
        largest: max(price),
    };
}

/// What [`by_record`] keeps.
pub(crate) static BY_RECORD: Table<String, SaleTotal> = Table::new("by-record").output("by-record-totals");

/// The figures of each customer, a call a record.
#[agent(topic = "sales", key = customer, table = BY_RECORD)]
pub(crate) async fn by_record(sale: Sale, mut totals: TableMut<'_, String, SaleTotal>) -> Result<()> {
    totals.update(&sale.customer, |total| add(total, &sale.customer, sale.price))?;
    Ok(())
}

/// What [`by_stream`] keeps.
pub(crate) static BY_STREAM: Table<String, SaleTotal> = Table::new("by-stream").output("by-stream-totals");

/// The figures of each customer, one call that asks for owned records.
#[agent(topic = "sales", key = customer, table = BY_STREAM)]
pub(crate) async fn by_stream(mut sales: Stream<Sale>, mut totals: TableMut<'_, String, SaleTotal>) -> Result<()> {
    while let Some(sale) = sales.next().await {
        totals.update(&sale.customer, |total| add(total, &sale.customer, sale.price))?;
    }
    Ok(())
}

/// What [`by_view`] keeps.
pub(crate) static BY_VIEW: Table<String, SaleTotal> = Table::new("by-view").output("by-view-totals");

/// The figures of each customer, one call that borrows each record.
#[agent(topic = "sales", key = customer, table = BY_VIEW)]
pub(crate) async fn by_view(mut sales: Stream<Sale>, mut totals: TableMut<'_, String, SaleTotal>) -> Result<()> {
    while let Some(sale) = sales.next_view().await {
        totals.update(sale.customer, |total| add(total, sale.customer, sale.price))?;
    }
    Ok(())
}

/// What [`by_return`] keeps.
pub(crate) static BY_RETURN: Table<String, SaleTotal> = Table::new("by-return");

/// The figures of each customer, a call a record that puts out the new ones each time.
#[agent(topic = "sales", key = customer, table = BY_RETURN, output = "by-return-totals")]
pub(crate) async fn by_return(sale: Sale, mut totals: TableMut<'_, String, SaleTotal>) -> Result<SaleTotal> {
    let total = totals.update(&sale.customer, |total| {
        add(total, &sale.customer, sale.price);
        total.clone()
    })?;
    Ok(total)
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

#![allow(unused)]

use gretchen::agent;
use gretchen::agent::{Batch, Event, Keyed, Output, Stream};
use gretchen::error::Result;
use gretchen::record::Record;
use gretchen::table::{Table, TableMut};

gretchen::records!("schemas/order.avsc", "schemas/order_total.avsc", namespaces = flat);

static TOTALS: Table<String, OrderTotal> = Table::new("order-totals");

#[agent(topic = "orders", output = "alerts")]
async fn nothing(order: Order) -> Result<()> {
    Ok(())
}

#[agent(topic = "orders", table = TOTALS, output = "order-totals")]
async fn table(order: Order, totals: TableMut<'_, String, OrderTotal>) {}

fn main() {}

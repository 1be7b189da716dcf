#![allow(unused)]

use gretchen::agent;
use gretchen::agent::{Batch, Event, Keyed, Output, Stream};
use gretchen::error::Result;
use gretchen::record::Record;
use gretchen::table::{Table, TableMut};

gretchen::records!("schemas/order.avsc", "schemas/order_total.avsc", namespaces = flat);

static TOTALS: Table<String, OrderTotal> = Table::new("order-totals");

#[agent(topik = "orders", concurrency = 0, table = TOTALS, on_error = retry(0))]
fn watch(order: &Order, limit: u32) -> Order {
    order.clone()
}

fn still_callable(order: &Order) -> Order {
    watch(order, 3)
}

fn main() {}

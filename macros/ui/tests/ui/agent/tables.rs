#![allow(unused)]

use gretchen::agent;
use gretchen::agent::{Batch, Event, Keyed, Output, Stream};
use gretchen::error::Result;
use gretchen::record::Record;
use gretchen::table::{Table, TableMut};

gretchen::records!("schemas/order.avsc", "schemas/order_total.avsc", namespaces = flat);

static TOTALS: Table<String, OrderTotal> = Table::new("order-totals");

static LIMITS: Table<String, i64> = Table::new("limits");

#[agent(topic = "orders")]
async fn which(order: Order, totals: TableMut<'_, String, OrderTotal>) {}

#[agent(topic = "orders", table = TOTALS)]
async fn unused(order: Order) {}

#[agent(topic = "orders", tables = [TOTALS, LIMITS])]
async fn fewer(order: Order, totals: TableMut<'_, String, OrderTotal>) {}

#[agent(topic = "orders", table = TOTALS)]
async fn more(order: Order, totals: TableMut<'_, String, OrderTotal>, limits: TableMut<'_, String, i64>) {}

fn main() {}

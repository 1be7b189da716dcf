#![allow(unused)]

use gretchen::agent;
use gretchen::agent::{Batch, Event, Keyed, Output, Stream};
use gretchen::error::Result;
use gretchen::record::Record;
use gretchen::table::{Table, TableMut};

gretchen::records!("schemas/order.avsc", "schemas/order_total.avsc", namespaces = flat);

static TOTALS: Table<String, OrderTotal> = Table::new("order-totals");

#[agent(topic = "orders", concurrency = 0)]
async fn zero(order: Order) {}

#[agent(topic = "orders", concurrency = 4, table = TOTALS)]
async fn table(order: Order, totals: TableMut<'_, String, OrderTotal>) {}

#[agent(topic = "orders", concurrency = 4)]
async fn stream(orders: Stream<Order>) {}

#[agent(topic = "orders", concurrency = 4)]
async fn batch(orders: Batch<Order>) {}

#[agent(topic = "orders", concurrency = 4, output = "alerts")]
async fn output(order: Order, alerts: Output<Order>) {}

fn main() {}

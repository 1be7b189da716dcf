#![allow(unused)]

use gretchen::agent;
use gretchen::agent::{Batch, Event, Keyed, Output, Stream};
use gretchen::error::Result;
use gretchen::record::Record;
use gretchen::table::{Table, TableMut};

gretchen::records!("schemas/order.avsc", "schemas/order_total.avsc", namespaces = flat);

static TOTALS: Table<String, OrderTotal> = Table::new("order-totals");

#[agent(topic = "orders", table = TOTALS)]
async fn watch(order: &Order, totals: &mut TableMut<'_, String, OrderTotal>) {}

#[agent(topic = "orders")]
async fn watch_all(orders: &mut Stream<Order>) {}

fn main() {}

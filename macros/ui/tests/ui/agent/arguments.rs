#![allow(unused)]

use gretchen::agent;
use gretchen::agent::{Batch, Event, Keyed, Output, Stream};
use gretchen::error::Result;
use gretchen::record::Record;
use gretchen::table::{Table, TableMut};

gretchen::records!("schemas/order.avsc", "schemas/order_total.avsc", namespaces = flat);

static TOTALS: Table<String, OrderTotal> = Table::new("order-totals");

#[agent(topic = "orders", topic = "returns", concurency = 2, window = 5)]
async fn unknown(order: Order) {}

#[agent(topic = 3, key = "customer", table = &TOTALS, output = orders, name = watch, concurrency = "2")]
async fn wrong_kinds(order: Order) {}

#[agent("orders")]
async fn no_name(order: Order) {}

#[agent(topic "orders")]
async fn no_equals(order: Order) {}

fn main() {}

#![allow(unused)]

use gretchen::agent;
use gretchen::agent::{Batch, Event, Keyed, Output, Stream};
use gretchen::error::Result;
use gretchen::record::Record;
use gretchen::table::{Table, TableMut};

gretchen::records!("schemas/order.avsc", "schemas/order_total.avsc", namespaces = flat);

static TOTALS: Table<String, OrderTotal> = Table::new("order-totals");

#[agent(topic = "orders")]
async fn unknown(order: Order, limit: u32) {}

#[agent(topic = "orders", table = TOTALS)]
async fn order(totals: TableMut<'_, String, OrderTotal>, order: Order) {}

#[agent(topic = "orders")]
async fn of_what(orders: Stream) {}

#[agent(topic = "orders")]
async fn opaque(order: impl Record) {}

#[agent(topic = "orders", table = TOTALS)]
async fn table_itself(order: Order, totals: Table<String, OrderTotal>) {}

#[agent(topic = "orders", output = "alerts")]
async fn two_outputs(order: Order, a: Output<Order>, b: Output<Order>) {}

#[agent(topic = "orders", outputs = ["alerts", "alerts", "orders"])]
async fn three_topics(order: Order, a: Output<Order>, b: Output<Order>) {}

#[agent(topic = "orders", outputs = ["alerts", "large"])]
async fn returned(order: Order) -> Order {
    order
}

fn main() {}

#![allow(unused)]

use gretchen::agent;
use gretchen::agent::{Batch, Event, Keyed, Output, Stream};
use gretchen::error::Result;
use gretchen::record::Record;
use gretchen::table::{Table, TableMut};

gretchen::records!("schemas/order.avsc", "schemas/order_total.avsc", namespaces = flat);

#[agent(topic = "")]
async fn empty(order: Order) {}

#[agent(topics = ["shop/orders", "..", "ok"], output = "order totals")]
async fn invalid(order: Order) -> Order {
    order
}

#[agent(topics = [])]
async fn none(order: Order) {}

#[agent(topics = ["orders", "orders"])]
async fn twice(order: Order) {}

#[agent(topic = "orders", topics = ["returns"])]
async fn both(order: Order) {}

fn main() {}

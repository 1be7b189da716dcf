#![allow(unused)]

use gretchen::agent;
use gretchen::agent::{Batch, Event, Keyed, Output, Stream};
use gretchen::error::Result;
use gretchen::record::Record;
use gretchen::table::{Table, TableMut};

gretchen::records!("schemas/order.avsc", "schemas/order_total.avsc", namespaces = flat);

#[agent(topic = "orders", key = costumer)]
async fn watch(order: Order) {
    let _ = order;
}

fn main() {}

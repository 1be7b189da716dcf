#![allow(unused)]

use gretchen::agent;
use gretchen::agent::{Batch, Event, Keyed, Output, Stream};
use gretchen::error::Result;
use gretchen::record::Record;
use gretchen::table::{Table, TableMut};

gretchen::records!("schemas/order.avsc", "schemas/order_total.avsc", namespaces = flat);

#[agent(topic = "orders", on_error = retri(3))]
async fn unknown(order: Order) {}

#[agent(topic = "orders", on_error = retry(0))]
async fn zero(order: Order) {}

#[agent(topic = "orders", on_error = retry(3, "5 parsecs"))]
async fn duration(order: Order) {}

#[agent(topic = "orders", on_error = retry)]
async fn how_often(order: Order) {}

#[agent(topic = "orders", on_error = skip(2))]
async fn skip(order: Order) {}

#[agent(topic = "orders", on_error = "skip")]
async fn quoted(order: Order) {}

#[agent(topic = "orders", on_error = dead_letter("orders"))]
async fn again(order: Order) {}

#[agent(topic = "orders", on_error = dead_letter("a b"))]
async fn invalid(order: Order) {}

#[agent(topic = "orders", on_error = dead_letter)]
async fn where_to(order: Order) {}

fn main() {}

use gretchen::prelude::*;

gretchen::records!("schemas/order.avsc", "schemas/order_total.avsc");

#[agent]
async fn watch(order: Order) {}

#[agent(name = "second")]
async fn watch_too(order: Order) {}

fn main() {}

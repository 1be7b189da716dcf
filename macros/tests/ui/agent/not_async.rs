use gretchen::prelude::*;

gretchen::records!("schemas/order.avsc", "schemas/order_total.avsc");

#[agent(topic = "orders")]
fn watch(order: Order) {}

fn main() {}

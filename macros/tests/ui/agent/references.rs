use gretchen::prelude::*;

gretchen::records!("schemas/order.avsc", "schemas/order_total.avsc");

static TOTALS: Table<String, OrderTotal> = Table::new("order-totals");

#[agent(topic = "orders", table = TOTALS)]
async fn watch(order: &Order, totals: &mut TableMut<'_, String, OrderTotal>) {}

#[agent(topic = "orders")]
async fn watch_all(orders: &mut Stream<Order>) {}

fn main() {}

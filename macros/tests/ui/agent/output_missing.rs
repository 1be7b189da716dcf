use gretchen::prelude::*;

gretchen::records!("schemas/order.avsc", "schemas/order_total.avsc");

#[agent(topic = "orders")]
async fn returned(order: Order) -> Result<Option<Order>> {
    Ok(Some(order))
}

#[agent(topic = "orders")]
async fn parameter(orders: Stream<Order>, alerts: Output<Order>) {}

fn main() {}

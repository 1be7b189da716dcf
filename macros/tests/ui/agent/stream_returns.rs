use gretchen::prelude::*;

gretchen::records!("schemas/order.avsc", "schemas/order_total.avsc");

#[agent(topic = "orders", output = "alerts")]
async fn watch(orders: Stream<Order>) -> Result<Order> {
    todo!()
}

#[agent(topic = "orders", output = "alerts")]
async fn both(order: Order, alerts: Output<Order>) -> Order {
    order
}

fn main() {}

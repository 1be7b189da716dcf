use gretchen::prelude::*;

gretchen::records!("schemas/order.avsc", "schemas/order_total.avsc");

#[agent(topic = "orders", key = costumer)]
async fn watch(order: Order) {
    let _ = order;
}

fn main() {}

use gretchen::prelude::*;

gretchen::records!("schemas/order.avsc", "schemas/order_total.avsc");

#[agent(topics = ["returns", "orders"], output = "orders")]
async fn watch(order: Order) -> Order {
    order
}

fn main() {}

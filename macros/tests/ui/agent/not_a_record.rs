use gretchen::prelude::*;

gretchen::records!("schemas/order.avsc", "schemas/order_total.avsc");

struct Purchase;

#[agent(topic = "orders")]
async fn watch(order: Purchase) {
    let _ = order;
}

fn main() {}

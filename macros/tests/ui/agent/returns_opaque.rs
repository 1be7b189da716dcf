use gretchen::prelude::*;

gretchen::records!("schemas/order.avsc", "schemas/order_total.avsc");

#[agent(topic = "orders", output = "totals")]
async fn watch(order: Order) -> impl Record {
    order
}

fn main() {}

use gretchen::prelude::*;

gretchen::records!("schemas/order.avsc", "schemas/order_total.avsc");

struct Mine;

#[agent(topic = "orders")]
async fn watch(order: Order) -> std::result::Result<(), Mine> {
    let _ = order;
    Ok(())
}

fn main() {}

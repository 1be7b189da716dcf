use gretchen::prelude::*;

gretchen::records!("schemas/order.avsc", "schemas/order_total.avsc");

struct Watcher;

impl Watcher {
    #[agent(topic = "orders")]
    async fn watch(&self, order: Order) {}
}

fn main() {}

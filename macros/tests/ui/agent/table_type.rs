use gretchen::prelude::*;

gretchen::records!("schemas/order.avsc", "schemas/order_total.avsc");

static TOTALS: Table<String, OrderTotal> = Table::new("order-totals");

#[agent(topic = "orders", table = TOTALS)]
async fn watch(order: Order, totals: TableMut<'_, String, i64>) {
    let _ = (order, totals);
}

fn main() {}

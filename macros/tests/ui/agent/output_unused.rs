use gretchen::prelude::*;

gretchen::records!("schemas/order.avsc", "schemas/order_total.avsc");

static TOTALS: Table<String, OrderTotal> = Table::new("order-totals");

#[agent(topic = "orders", output = "alerts")]
async fn nothing(order: Order) -> Result<()> {
    Ok(())
}

#[agent(topic = "orders", table = TOTALS, output = "order-totals")]
async fn table(order: Order, totals: TableMut<'_, String, OrderTotal>) {}

fn main() {}

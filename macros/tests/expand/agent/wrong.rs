#[agent(topik = "orders", concurrency = 0, table = TOTALS)]
fn watch(order: &Order, other: u32) -> Order {
    order.clone()
}

/// Running totals of each customer.
///
/// Not part of the help.
#[agent(topic = "orders", key = customer, table = TOTALS, output = "order-totals", on_error = retry(3, "2s"))]
pub async fn total_orders(
    order: Order,
    mut totals: TableMut<'_, String, OrderTotal>,
) -> gretchen::Result<Option<Keyed<OrderTotal>>> {
    Ok(None)
}

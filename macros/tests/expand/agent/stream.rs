#[agent(topic = "orders", tables = [TOTALS, LIMITS], output = "alerts")]
pub(crate) async fn watch(
    mut orders: Stream<Order>,
    mut totals: TableMut<'_, String, OrderTotal>,
    alerts: Output<Alert>,
    mut limits: TableMut<'_, String, i64>,
) {
}

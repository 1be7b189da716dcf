/// Running totals of each customer.
#[agent(topic = "orders", key = customer, output = "order-totals", on_error = skip)]
pub static ORDER_TOTALS: Table<String, OrderTotal> = from Order {
    orders: count(),
    noted: count(note),
    revenue: sum(amount),
    smallest: min(amount),
    late: fold(|state: &mut i64, order: &OrderView<'_>| {
        *state += i64::from(order.late);
        Ok(())
    }),
};

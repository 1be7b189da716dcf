#[agent(topic = "orders", key = customer)]
pub(crate) static TOTALS: Table<String, OrderTotal> = from Order {
    revenue: summ(amount),
};

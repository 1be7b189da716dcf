#[agent(topic = "a b", concurrency = 4)]
static TOTALS: HashMap<String, OrderTotal> = from Order {
    customer: last(customer),
    revenue: summ(amount),
    mean: mean(amount + 1),
    mean: fold(|state, order| Ok(())),
};

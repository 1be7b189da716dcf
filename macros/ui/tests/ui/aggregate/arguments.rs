#![allow(unused)]

use gretchen::table::Table;

gretchen::records!("schemas/order.avsc", "schemas/order_total.avsc", namespaces = flat);

gretchen::aggregate! {
    #[agent(topic = "orders", key = customer, output = "order-totals")]
    static TOTALS: Table<String, OrderTotal> = from Order {
        orders: count(1),
        revenue: sum(amount, quantity),
        smallest: min(amount + 1),
        largest: amount,
        customer: last(customer),
        quantity: fold(|state, order| Ok(())),
        quantity: sum(),
    };
}

fn main() {}

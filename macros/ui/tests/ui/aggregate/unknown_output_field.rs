#![allow(unused)]

use gretchen::table::Table;

gretchen::records!("schemas/order.avsc", "schemas/order_total.avsc", namespaces = flat);

gretchen::aggregate! {
    #[agent(topic = "orders", key = customer, output = "order-totals")]
    static TOTALS: Table<String, OrderTotal> = from Order {
        orders: count(),
        revenues: sum(amount),
        smallest: min(amount),
        largest: max(amount),
        quantity: sum(quantity),
    };
}

fn main() {}

#![allow(unused)]

use gretchen::table::Table;

gretchen::records!("schemas/order.avsc", "schemas/order_total.avsc", namespaces = flat);

gretchen::aggregate! {
    #[agent(topic = "orders", key = customer, output = "order-totals")]
    static TOTALS: Table<String, OrderTotal> = Order {
        orders: count(),
        revenue: sum(amount),
        smallest: min(amount),
        largest: max(amount),
        quantity: sum(quantity),
    };
}

fn main() {}

//! What a policy leaves behind, form of agent by form of agent.

use gretchen::prelude::*;
use gretchen::testing::TestApp;

gretchen::records!("schemas/order.avsc", "schemas/order_total.avsc");

aggregate! {
    #[agent(topic = "orders", key = customer, on_error = skip)]
    static SKIPPING: Table<String, OrderTotal> = from Order {
        orders: count(),
        revenue: sum(amount),
        smallest: min(amount),
        largest: max(amount),
        quantity: sum(quantity),
    };
}

fn order(number: i64, customer: &str) -> Order {
    Order { order_id: number, customer: customer.to_owned(), amount: number.into(), quantity: 1, ..Order::default() }
}

#[test]
fn an_aggregation_that_skips_a_record_keeps_what_it_folded_before() {
    let mut app = TestApp::new(App::new("shop").agent::<skipping>()).unwrap();
    app.send_keyed("orders", "C1", &order(1, "C1")).unwrap();
    app.send_keyed("orders", "C2", &order(2, "C2")).unwrap();
    app.send_raw("orders", Some(b"C1"), Some(b"not an order")).unwrap();
    app.send_keyed("orders", "C1", &order(4, "C1")).unwrap();
    let totals = app.table(&SKIPPING).unwrap();
    assert_eq!(totals.get("C1").unwrap().unwrap().orders, 2);
    assert_eq!(totals.get("C2").unwrap().unwrap().orders, 1);
}

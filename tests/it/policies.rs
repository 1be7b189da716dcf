//! What a policy leaves behind, form of agent by form of agent.

use gretchen::prelude::*;
use gretchen::testing::TestApp;

gretchen::records!("schemas/order.avsc", "schemas/order_total.avsc");

use shop::{Order, OrderTotal};

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

aggregate! {
    #[agent(topic = "orders", key = customer, output = "numbers", on_error = dead_letter("overflown"))]
    static NUMBERS: Table<String, OrderTotal> = from Order {
        orders: count(),
        revenue: sum(amount),
        smallest: min(amount),
        largest: max(amount),
        quantity: sum(order_id),
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

#[test]
fn an_aggregation_that_cannot_fold_a_record_leaves_no_trace_of_it() {
    let mut app = TestApp::new(App::new("shop").agent::<numbers>()).unwrap();
    let numbered = |number, amount: i64| Order { amount: amount.into(), ..order(number, "C1") };
    for order in [numbered(i64::MAX, 1), numbered(1, 2), numbered(0, 3)] {
        app.send_keyed("orders", "C1", &order).unwrap();
    }
    let total = app.table(&NUMBERS).unwrap().get("C1").unwrap().unwrap();
    assert_eq!((total.orders, total.quantity, total.revenue), (2, i64::MAX, 4.into()), "the second would overflow");
    let dead = app.recv_event::<Order>("overflown").unwrap().unwrap();
    assert_eq!(dead.value.unwrap().amount, 2.into());
    assert_eq!(app.recv_event::<OrderTotal>("numbers").unwrap().unwrap().value, Some(total));
    assert_eq!(app.recv_event::<OrderTotal>("numbers").unwrap(), None);
}

//! What becomes of a record that its agent fails on: its bytes go to a topic of their own, with the reason in headers.
//!
//! ```text
//! $ cargo run --release --example dead_letters
//! shipped: order 1, order 3
//! dead letter of bob: order 2, 0 CDs
//!   gretchen.agent = ship
//!   gretchen.error = nothing to ship
//!   gretchen.topic = orders
//!   gretchen.partition = 0
//!   gretchen.offset = 1
//! ```

use gretchen::prelude::*;
use gretchen::testing::TestApp;

gretchen::records!("schemas/order.avsc");

use shop::Order;

/// Refuses orders of nothing. What a failed record did to tables and outputs is undone; those around it are not touched.
#[agent(topic = "orders", output = "shipped", on_error = dead_letter("orders-failed"))]
async fn ship(order: Order) -> Result<Order> {
    if order.quantity == 0 {
        return Err("nothing to ship".into());
    }
    Ok(order)
}

fn main() -> Result<()> {
    // The testing kit runs the app in memory; each call returns when the agents have nothing left to do.
    let mut app = TestApp::new(App::new("shop"))?;
    for (order_id, customer, quantity) in [(1, "ada", 2), (2, "bob", 0), (3, "cleo", 1)] {
        let order = Order { order_id, customer: customer.to_owned(), quantity, ..Order::default() };
        app.send_keyed("orders", customer, &order)?;
    }

    let shipped: Vec<String> =
        app.recv_all::<Order>("shipped")?.iter().map(|order| format!("order {}", order.order_id)).collect();
    println!("shipped: {}", shipped.join(", "));
    while let Some(letter) = app.recv_event::<Order>("orders-failed")? {
        if let Some(order) = letter.value {
            println!("dead letter of {}: order {}, {} CDs", order.customer, order.order_id, order.quantity);
        }
        for (name, value) in &letter.headers {
            println!("  {name} = {}", String::from_utf8_lossy(value));
        }
    }
    Ok(())
}

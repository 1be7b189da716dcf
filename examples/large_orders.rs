//! A stream agent: it loops over its topic and puts some of the records into another one.
//!
//! ```text
//! $ cargo run --release --example large_orders
//! order 2 of ada: 250.00 dollars
//! order 4 of bob: 100.00 dollars
//! order 6 of ada: 512.00 dollars
//! 3 of 6 orders are large
//! ```

use gretchen::prelude::*;

gretchen::records!("schemas/order.avsc");

use shop::Order;

/// Passes on the orders of 100 dollars and more. An output keeps the key of its record and is visible after the commit.
#[agent(topic = "orders", output = "large-orders")]
async fn large_orders(mut orders: Stream<Order>, mut large: Output<Order>) -> Result<()> {
    // Asking for the next order finishes the one before: it will not be seen again.
    while let Some(order) = orders.next().await {
        if order.amount >= Decimal::ONE_HUNDRED {
            large.send(&order)?;
        }
    }
    Ok(())
}

/// Shows what comes out at the other end: a second agent on the topic that the first one feeds.
#[agent(topic = "large-orders")]
async fn show(order: Order) {
    println!("order {} of {}: {} dollars", order.order_id, order.customer, order.amount);
}

fn main() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let session = Session::open(App::new("shop"), LogOptions::new(folder.path()), 1)?;
    let orders = [("ada", 20), ("ada", 250), ("bob", 99), ("bob", 100), ("cleo", 5), ("ada", 512)];
    let records = orders.into_iter().zip(1..).map(|((customer, dollars), order_id)| {
        let order =
            Order { order_id, customer: customer.to_owned(), quantity: 1, amount: dollars.into(), ..Order::default() };
        (order.customer.clone().into_bytes(), order)
    });
    let published = session.publish("orders", "six-orders", records)?;

    // Both agents are finished: what the first put out was processed, too.
    let finished = session.process()?.finished;
    println!("{} of {} orders are large", finished - published.added, published.added);
    Ok(())
}

//! The same totals twice: declared with `aggregate!`, and written by hand. Both survive a crash in the middle.
//!
//! ```text
//! $ cargo run --release --example two_ways
//! customer  orders  revenue  smallest  largest  CDs
//! C0            34 11220.00      0.00   660.00   85
//! C1            33 10660.00      0.00   660.00   82
//! C2            33 10600.00      0.00   660.00   83
//! the table that is declared and the one written by hand are equal
//! ```

use gretchen::prelude::*;
use gretchen::testing::TestApp;

gretchen::records!("schemas/order.avsc", "schemas/order_total.avsc");

use shop::{Order, OrderTotal};

aggregate! {
    /// Declared: which figure of which field. The fold is generated, and runs over the bytes as they were read.
    #[agent(topic = "orders", key = customer)]
    static DECLARED: Table<String, OrderTotal> = from Order {
        orders: count(),
        revenue: sum(amount),
        smallest: min(amount),
        largest: max(amount),
        quantity: sum(quantity),
    };
}

static BY_HAND: Table<String, OrderTotal> = Table::new("by-hand");

/// Written by hand: any Rust will do.
#[agent(topic = "orders", key = customer, table = BY_HAND)]
async fn by_hand(order: Order, mut totals: TableMut<'_, String, OrderTotal>) -> Result<()> {
    totals.update(&order.customer, |total| {
        total.customer.clone_from(&order.customer);
        total.orders += 1;
        total.revenue += order.amount;
        total.smallest = if total.orders == 1 { order.amount } else { total.smallest.min(order.amount) };
        total.largest = total.largest.max(order.amount);
        total.quantity += i64::from(order.quantity);
    })?;
    Ok(())
}

fn main() -> Result<()> {
    let mut app = TestApp::with_partitions(App::new("shop"), 3)?;
    for order_id in 0..100 {
        let customer = format!("C{}", order_id % 3);
        let amount = Decimal::from(order_id * 37 % 34 * 20);
        let quantity = 1 + (order_id % 4) as i32;
        app.send_keyed(
            "orders",
            &customer,
            &Order { order_id, customer: customer.clone(), quantity, amount, ..Order::default() },
        )?;
        if order_id == 50 {
            app.crash_and_restart()?;
        }
    }

    let declared = app.table(&DECLARED)?.all()?;
    println!("{:8} {:>7} {:>8} {:>9} {:>8} {:>4}", "customer", "orders", "revenue", "smallest", "largest", "CDs");
    for (customer, total) in &declared {
        let OrderTotal { orders, revenue, smallest, largest, quantity, .. } = total;
        println!("{customer:8} {orders:>7} {revenue:>8} {smallest:>9} {largest:>8} {quantity:>4}");
    }
    if declared != app.table(&BY_HAND)?.all()? {
        return Err("the two tables differ".into());
    }
    println!("the table that is declared and the one written by hand are equal");
    Ok(())
}

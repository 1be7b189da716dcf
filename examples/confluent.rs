//! Orders that clients with Confluent's serializers write, and totals that they read: values have the numbers of a schema
//! registry.
//!
//! ```text
//! $ tests/services/kafka start && tests/services/registry start
//! 127.0.0.1:21707
//! http://127.0.0.1:18118/apis/ccompat/v7
//! $ cargo run --release --example confluent -- worker --backend kafka://127.0.0.1:21707 \
//!     --registry http://127.0.0.1:18118/apis/ccompat/v7
//! ```

use std::process::ExitCode;

use gretchen::prelude::*;
use gretchen::topic::WireFormat;

gretchen::records!("schemas/order.avsc", "schemas/order_total.avsc");

use shop::{Order, OrderTotal};

aggregate! {
    /// Running totals of each customer.
    #[agent(topic = "orders", key = customer, output = "order-totals")]
    static ORDER_TOTALS: Table<String, OrderTotal> = from Order {
        orders: count(),
        revenue: sum(amount),
        smallest: min(amount),
        largest: max(amount),
        quantity: sum(quantity),
    };
}

fn main() -> ExitCode {
    App::new("confluent")
        .about("Totals of a CD shop, with the numbers of a schema registry")
        .format("orders", WireFormat::Confluent)
        .format("order-totals", WireFormat::Confluent)
        .main()
}

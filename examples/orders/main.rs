//! The real orders of a CD shop: published once, totalled by customer, exact after any crash.
//!
//! Without arguments it publishes the orders, processes what is new and prints the totals; `--backend kafka://host:9092`
//! does the same on a Kafka. With a command (`worker`, `tables order-totals C07592`, `--help`, …) it is an ordinary worker
//! binary.

use std::io::Read;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use gretchen::backend::kafka::{KafkaBackend, KafkaOptions};
use gretchen::prelude::*;

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
    let app = App::new("orders").about("Totals of the orders of a CD shop, by customer");
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let backend = match &arguments[..] {
        [] => std::env::var("GRETCHEN_BACKEND").ok(),
        [flag, backend] if flag == "--backend" => Some(backend.clone()),
        _ => return app.main(),
    };
    match demonstrate(app, backend.as_deref()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Publishes, processes, and shows what came of it.
fn demonstrate(app: App, backend: Option<&str>) -> Result<()> {
    let folder = std::env::var_os("GRETCHEN_DATA_DIR").unwrap_or_else(|| "gretchen-data".into());
    let session = match backend {
        None | Some("log:") => Session::open(app, LogOptions::new(&folder), 4)?,
        Some(url) => Session::on(app, Path::new(&folder), 4, |clock| {
            Ok(Arc::new(KafkaBackend::open(KafkaOptions::parse(url)?, clock)?))
        })?,
    };
    let orders = read_orders()?;

    let clock = Clock::system();
    let began = clock.moment();
    let published = session.publish(
        "orders",
        "cdnow-orders.csv",
        orders.into_iter().map(|order| (order.customer.clone().into_bytes(), order)),
    )?;
    let publishing = clock.moment().since(began);
    println!(
        "published {} orders in {:.1} ms, durably; {} were there already",
        grouped(published.added as i64),
        publishing.as_secs_f64() * 1e3,
        grouped(published.dropped as i64)
    );

    let began = clock.moment();
    let summary = session.process()?;
    let processing = clock.moment().since(began);
    println!(
        "processed {} records in {:.1} ms, {} a second, start and last commit included\n",
        grouped(summary.finished as i64),
        processing.as_secs_f64() * 1e3,
        grouped((summary.finished as f64 / processing.as_secs_f64()) as i64)
    );

    let mut totals: Vec<OrderTotal> = session.table(&ORDER_TOTALS)?.into_iter().map(|(_, total)| total).collect();
    totals.sort_by(|a, b| b.revenue.cmp(&a.revenue).then_with(|| a.customer.cmp(&b.customer)));
    println!("{:8} {:>7} {:>11} {:>9} {:>9} {:>6}", "customer", "orders", "revenue", "smallest", "largest", "CDs");
    for total in totals.iter().take(10) {
        println!(
            "{:8} {:>7} {:>11} {:>9} {:>9} {:>6}",
            total.customer,
            total.orders,
            total.revenue.to_string(),
            total.smallest.to_string(),
            total.largest.to_string(),
            total.quantity
        );
    }
    println!(
        "\n{} orders of {} customers, revenue {}, {} CDs",
        grouped(totals.iter().map(|total| total.orders).sum()),
        grouped(totals.len() as i64),
        totals.iter().map(|total| total.revenue).sum::<Decimal>(),
        grouped(totals.iter().map(|total| total.quantity).sum())
    );
    println!("\nwhat is kept is in {}; look at it: orders tables order-totals C07592", folder.display());
    Ok(())
}

/// The purchases of one cohort of customers of CDNOW, 1997-01-01 to 1998-06-30 (Fader and Hardie).
fn read_orders() -> Result<Vec<Order>> {
    let mut text = String::new();
    flate2::read::GzDecoder::new(&include_bytes!("data/cdnow-orders.csv.gz")[..]).read_to_string(&mut text)?;
    let mut orders = Vec::new();
    for (line, row) in text.lines().enumerate().skip(1) {
        let bad =
            || format!("cdnow-orders.csv:{}: {row:?} is not order_id,customer,ordered_on,quantity,amount", line + 1);
        let [order_id, customer, ordered_on, quantity, amount] = row.split(',').collect::<Vec<_>>()[..] else {
            return Err(bad().into());
        };
        orders.push(Order {
            order_id: order_id.parse().map_err(|_| bad())?,
            customer: customer.to_owned(),
            ordered_on: ordered_on.parse().map_err(|_| bad())?,
            quantity: quantity.parse().map_err(|_| bad())?,
            amount: amount.parse().map_err(|_| bad())?,
        });
    }
    Ok(orders)
}

/// 1234567 as 1,234,567.
fn grouped(number: i64) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

//! Every form of agent under the testing kit.

use std::time::Duration;

use gretchen::agent::{Batch, Event, Keyed, Output, Stream};
use gretchen::app::App;
use gretchen::error::BoxError;
use gretchen::table::{Table, TableMut};
use gretchen::testing::TestApp;
use gretchen::{agent, aggregate, records};

records!("schemas/order.avsc", "schemas/order_total.avsc");

use shop::{Order, OrderTotal};

fn order(id: i64, customer: &str, cents: i64) -> Order {
    Order {
        order_id: id,
        customer: customer.into(),
        ordered_on: gretchen::__private::jiff::civil::date(1997, 1, 1),
        quantity: 2,
        amount: gretchen::__private::rust_decimal::Decimal::new(cents, 2),
    }
}

aggregate! {
    /// Running totals of each customer.
    #[agent(topic = "orders", key = customer, output = "order-totals")]
    static TOTALS: Table<String, OrderTotal> = from Order {
        orders: count(),
        revenue: sum(amount),
        smallest: min(amount),
        largest: max(amount),
        quantity: sum(quantity),
    };
}

static BY_HAND: Table<String, OrderTotal> = Table::new("by-hand").output("by-hand");

#[agent(topic = "orders", key = customer, table = BY_HAND, on_error = skip)]
async fn by_hand(order: Order, mut totals: TableMut<'_, String, OrderTotal>) -> Result<(), BoxError> {
    totals.update(&order.customer, |total| {
        total.customer.clone_from(&order.customer);
        total.orders += 1;
        total.revenue += order.amount;
        total.smallest = if total.orders == 1 { order.amount } else { total.smallest.min(order.amount) };
        total.largest = total.largest.max(order.amount);
        total.quantity += i64::from(order.quantity);
    })?;
    if order.order_id < 0 {
        return Err("an order has no negative number".into());
    }
    Ok(())
}

#[agent(topic = "orders", output = "large")]
async fn large(mut orders: Stream<Order>, mut out: Output<Order>) -> Result<(), BoxError> {
    while let Some(order) = orders.next().await {
        if order.amount >= 100.into() {
            out.send(&order)?;
        }
    }
    Ok(())
}

#[agent(topic = "orders", output = "by-number", on_error = dead_letter("broken"))]
async fn by_number(order: Event<Order>) -> Result<Keyed<Order>, BoxError> {
    if order.order_id < 0 {
        return Err("an order has no negative number".into());
    }
    Ok(Keyed::new(order.order_id, order.value))
}

#[agent(topic = "orders", output = "counts")]
async fn counts(orders: Batch<Order>) -> i64 {
    orders.len() as i64
}

#[agent(topic = "orders", concurrency = 3, output = "slow", on_error = skip)]
async fn slow(order: Order) -> Result<Option<Order>, BoxError> {
    for _ in 0..order.order_id.rem_euclid(5) {
        tokio::task::yield_now().await;
    }
    if order.order_id < 0 { Err("negative".into()) } else { Ok(Some(order)) }
}

fn app() -> App {
    App::new("shop")
        .agent::<totals>()
        .agent::<by_hand>()
        .agent::<large>()
        .agent::<by_number>()
        .agent::<counts>()
        .agent::<slow>()
}

#[test]
fn every_form_of_agent_sees_every_order_once_and_a_crash_changes_nothing() {
    for partitions in [1, 3] {
        let mut app = TestApp::with_partitions(app(), partitions).unwrap();
        for i in 0..300 {
            let customer = format!("C{}", i % 7);
            app.send("orders", &order(i, &customer, i * 100)).unwrap();
            if i % 50 == 49 {
                app.crash_and_restart().unwrap();
            }
            if i == 120 {
                app.advance(Duration::from_secs(11)).unwrap();
            }
        }
        let declared = app.table(&TOTALS).unwrap().all().unwrap();
        let by_hand = app.table(&BY_HAND).unwrap().all().unwrap();
        assert_eq!(declared, by_hand);
        assert_eq!(declared.len(), 7);
        let first = &declared[0].1;
        assert_eq!((first.customer.as_str(), first.orders, first.quantity), ("C0", 43, 86));
        assert_eq!(first.largest, 294.into());
        assert_eq!(first.revenue, (0..300).step_by(7).sum::<i64>().into());

        let mut large: Vec<i64> = app.recv_all::<Order>("large").unwrap().iter().map(|o| o.order_id).collect();
        large.sort_unstable();
        assert_eq!(large, (100..300).collect::<Vec<_>>());
        let mut by_number: Vec<i64> = app.recv_all::<Order>("by-number").unwrap().iter().map(|o| o.order_id).collect();
        by_number.sort_unstable();
        assert_eq!(by_number, (0..300).collect::<Vec<_>>());
        assert_eq!(app.recv_all::<i64>("counts").unwrap().iter().sum::<i64>(), 300);
        let mut slow: Vec<i64> = app.recv_all::<Order>("slow").unwrap().iter().map(|o| o.order_id).collect();
        slow.sort_unstable();
        assert_eq!(slow, (0..300).collect::<Vec<_>>());
        let last =
            app.recv_all::<OrderTotal>("order-totals").unwrap().into_iter().rfind(|t| t.customer == "C0").unwrap();
        assert_eq!(&last, first);
    }
}

#[test]
fn a_failed_record_is_undone_and_goes_where_the_policy_says() {
    let mut app = TestApp::new(app()).unwrap();
    for (id, cents) in [(1, 100), (-2, 5000), (3, 300)] {
        app.send("orders", &order(id, "C1", cents)).unwrap();
    }
    let by_hand = app.table(&BY_HAND).unwrap().get("C1").unwrap().unwrap();
    assert_eq!((by_hand.orders, by_hand.largest), (2, 3.into()), "what the failed record did to the table is undone");
    let dead = app.recv_event::<Order>("broken").unwrap().unwrap();
    assert_eq!(dead.value.unwrap().order_id, -2);
    let header = |name: &str| {
        let value = dead.headers.iter().find(|(have, _)| have == name).map(|(_, value)| value.clone());
        String::from_utf8(value.unwrap()).unwrap()
    };
    assert_eq!(header("gretchen.error"), "an order has no negative number");
    assert_eq!((header("gretchen.topic"), header("gretchen.offset")), ("orders".into(), "1".into()));
    assert_eq!(app.recv_event::<Order>("broken").unwrap(), None);
    assert_eq!(app.recv_all::<Order>("slow").unwrap().len(), 2);
}

static BEFORE: Table<String, i64> = Table::new("before");
static AFTER: Table<String, i64> = Table::new("after");

/// Two versions of one agent, apart only in the order of their tables.
mod versions {
    use super::*;

    pub(crate) mod first {
        use super::*;

        #[agent(topic = "words", tables = [BEFORE, AFTER], name = "two")]
        pub(crate) async fn two(
            word: String,
            mut before: TableMut<'_, String, i64>,
            mut after: TableMut<'_, String, i64>,
        ) -> Result<(), BoxError> {
            before.update(&word, |count| *count += 1)?;
            after.update(&word, |count| *count -= 1)?;
            Ok(())
        }
    }

    pub(crate) mod second {
        use super::*;

        #[agent(topic = "words", tables = [AFTER, BEFORE], name = "two")]
        pub(crate) async fn two(
            word: String,
            mut after: TableMut<'_, String, i64>,
            mut before: TableMut<'_, String, i64>,
        ) -> Result<(), BoxError> {
            before.update(&word, |count| *count += 1)?;
            after.update(&word, |count| *count -= 1)?;
            Ok(())
        }
    }
}

#[test]
fn reordered_tables_are_refused() {
    let mut app = TestApp::new(App::new("tables").agent::<versions::first::two>()).unwrap();
    app.send_keyed("words", "a", &"a".to_owned()).unwrap();
    assert_eq!(app.table(&BEFORE).unwrap().get("a").unwrap(), Some(1));
    assert_eq!(app.table(&AFTER).unwrap().get("a").unwrap(), Some(-1));
    let error = app.restart_as(App::new("tables").agent::<versions::second::two>()).unwrap_err();
    assert!(error.message().contains("holds the tables before, after, the agent has after, before"), "{error}");
}

#[test]
fn a_wall_clock_that_jumps_a_day_harms_nothing() {
    const DAY_MS: i64 = 86_400_000;
    for jump in [DAY_MS, -DAY_MS] {
        let mut app = TestApp::new(app()).unwrap();
        let start = app.now_ms();
        app.send("orders", &order(1, "C1", 10_000)).unwrap();
        app.jump_ms(jump).unwrap();
        assert_eq!(app.now_ms(), start + jump);
        // Commits and checkpoints go on: by time that passes, which a jump is not.
        app.send("orders", &order(2, "C1", 20_000)).unwrap();
        app.advance(Duration::from_secs(11)).unwrap();
        app.jump_ms(-jump).unwrap();
        app.send("orders", &order(3, "C1", 30_000)).unwrap();
        app.crash_and_restart().unwrap();
        let totals = app.table(&TOTALS).unwrap().get("C1").unwrap().unwrap();
        assert_eq!((totals.orders, totals.revenue), (3, 600.into()));
        let mut stamps = Vec::new();
        while let Some(order) = app.recv_event::<Order>("large").unwrap() {
            stamps.push(order.timestamp - start);
        }
        assert_eq!(stamps, [0, jump, 11_000], "records have the time of the wall");
    }
}

//! The forms of agent that the rest of the app does not have, and what each must come to.

use std::collections::BTreeMap;

use gretchen::agent;
use gretchen::agent::{Batch, Event, Keyed, Output, Stream};
use gretchen::app::App;
use gretchen::error::BoxError;
use gretchen::session::Session;
use gretchen::table::{Table, TableMut};

use super::{Evidence, Order, OrderTotal, add_order, assert_same, check_updates, partition_of_customer};

/// Orders of so many pieces fail at [`sorted`] and [`noted`].
const UNLUCKY: i32 = 7;
/// Orders of as many pieces and more are big.
const BIG: i32 = 5;

static VIEWED: Table<String, OrderTotal> = Table::new("viewed").output("viewed");
static BATCHES: Table<String, i64> = Table::new("pieces-of-batches");
static SEEN: Table<String, i64> = Table::new("seen");
static PIECES: Table<String, i64> = Table::new("pieces");

/// Borrowed views.
#[agent(topic = "orders", key = customer, table = VIEWED)]
async fn viewed(mut orders: Stream<Order>, mut totals: TableMut<'_, String, OrderTotal>) -> Result<(), BoxError> {
    while let Some(order) = orders.next_view().await {
        totals.update(order.customer, |total| add_order(total, order.customer, order.amount, order.quantity))?;
    }
    Ok(())
}

/// Batches of a stream.
#[agent(topic = "orders", output = "streamed")]
async fn streamed(mut orders: Stream<Order>, mut out: Output<Order>) -> Result<(), BoxError> {
    while let Some(orders) = orders.next_batch().await {
        // What is sent for a batch has no key of its own.
        for order in orders {
            out.send_keyed(order.customer.clone(), &order.value)?;
        }
    }
    Ok(())
}

/// A call a batch, with a table.
#[agent(topic = "orders", key = customer, table = BATCHES)]
async fn by_batch(orders: Batch<Order>, mut pieces: TableMut<'_, String, i64>) -> Result<(), BoxError> {
    for order in orders {
        pieces.update(&order.customer, |pieces| *pieces += i64::from(order.quantity))?;
    }
    Ok(())
}

/// Two topics, which both have each order, two tables and two outputs; some records go to a topic of their own, and nothing of
/// what was done for them stays.
#[agent(
    topics = ["orders", "batched"],
    tables = [SEEN, PIECES],
    outputs = ["small", "big"],
    on_error = dead_letter("unlucky"),
)]
async fn sorted(
    order: Order,
    mut seen: TableMut<'_, String, i64>,
    mut pieces: TableMut<'_, String, i64>,
    mut small: Output<Order>,
    mut big: Output<Order>,
) -> Result<(), BoxError> {
    seen.update(&order.customer, |seen| *seen += 1)?;
    pieces.update(&order.customer, |pieces| *pieces += i64::from(order.quantity))?;
    if order.quantity >= BIG {
        big.send(&order)?
    } else {
        small.send(&order)?
    }
    refuse(&order)
}

/// Events side by side, some of which are passed over.
#[agent(topic = "orders", output = "noted", concurrency = 3, on_error = skip)]
async fn noted(order: Event<Order>) -> Result<Keyed<Order>, BoxError> {
    for _ in 0..order.value.order_id % 5 {
        tokio::task::yield_now().await;
    }
    refuse(&order.value)?;
    Ok(Keyed::new(&order.value.customer, order.value.clone()))
}

fn refuse(order: &Order) -> Result<(), BoxError> {
    if order.quantity == UNLUCKY {
        Err(format!("order {} is of {UNLUCKY} pieces", order.order_id).into())
    } else {
        Ok(())
    }
}

pub(super) fn with(app: App) -> App {
    app.agent::<viewed>().agent::<streamed>().agent::<by_batch>().agent::<sorted>().agent::<noted>()
}

/// `totals` are those of each customer after each of its orders.
pub(super) fn check(stage: &mut impl Evidence, totals: &BTreeMap<String, Vec<OrderTotal>>) {
    let (session, orders) = (stage.session(), stage.orders());
    check_tables(&session, &orders, totals);
    drop(session);
    check_topics(stage, totals);
}

fn check_tables(session: &Session, orders: &[Order], totals: &BTreeMap<String, Vec<OrderTotal>>) {
    let viewed: BTreeMap<String, OrderTotal> = session.table(&VIEWED).unwrap().into_iter().collect();
    let last = totals.iter().map(|(customer, totals)| (customer.clone(), totals.last().unwrap().clone()));
    assert_eq!(viewed, last.collect(), "table viewed");
    let sum_of = |of: fn(&Order) -> i64| {
        let mut sums = BTreeMap::<String, i64>::new();
        orders.iter().for_each(|order| *sums.entry(order.customer.clone()).or_default() += of(order));
        sums.retain(|_, sum| *sum > 0);
        sums
    };
    // Once from each of two topics.
    fn lucky(order: &Order) -> i64 {
        if order.quantity == UNLUCKY { 0 } else { 2 }
    }
    let table = |table| -> BTreeMap<String, i64> { session.table(table).unwrap().into_iter().collect() };
    assert_eq!(table(&BATCHES), sum_of(|order| order.quantity.into()), "table pieces-of-batches");
    assert_eq!(table(&SEEN), sum_of(lucky), "table seen");
    assert_eq!(table(&PIECES), sum_of(|order| lucky(order) * i64::from(order.quantity)), "table pieces");
}

type Such = fn(&Order) -> bool;

fn check_topics(stage: &mut impl Evidence, totals: &BTreeMap<String, Vec<OrderTotal>>) {
    check_updates(stage, "viewed", totals, true);
    let orders = stage.orders();
    // In the order of their partition, each once.
    let such: [(&str, Such); 2] = [("streamed", |_| true), ("noted", |order| order.quantity != UNLUCKY)];
    for (topic, such) in such {
        for (partition, have) in stage.topic::<Order>(topic).into_iter().enumerate() {
            let of = |order: &&Order| partition_of_customer(order) == partition as u32 && such(order);
            let want: Vec<i64> = orders.iter().filter(of).map(|order| order.order_id).collect();
            let have: Vec<i64> = have.iter().map(|(_, order)| order.order_id).collect();
            assert_same(&have, &want, &format!("topic {topic}, partition {partition}"));
        }
    }
    // Once from each of two topics.
    let such: [(&str, Such); 3] = [
        ("small", |order| order.quantity < BIG),
        ("big", |order| order.quantity >= BIG && order.quantity != UNLUCKY),
        ("unlucky", |order| order.quantity == UNLUCKY),
    ];
    for (topic, such) in such {
        let have = stage.topic::<Order>(topic).into_iter().flatten();
        let mut have: Vec<i64> = have.map(|(_, order)| order.order_id).collect();
        have.sort_unstable();
        let want = orders.iter().filter(|order| such(order)).flat_map(|order| [order.order_id; 2]);
        assert_same(&have, &want.collect::<Vec<_>>(), &format!("topic {topic}"));
    }
}

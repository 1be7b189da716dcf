//! What a policy leaves behind, form of agent by form of agent.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::SeqCst;
use std::task::Poll;
use std::time::Duration;

use futures::FutureExt;
use futures::future::{Either, select};
use gretchen::error::{Error, ErrorKind};
use gretchen::prelude::*;
use gretchen::testing::TestApp;

gretchen::records!("schemas/order.avsc", "schemas/order_total.avsc");

use shop::{Order, OrderTotal, OrderView};

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

/// Returns in the middle of a record for whose word it has put something out already.
#[agent(topic = "words", output = "echoes", name = "quitter")]
async fn quits(mut words: Stream<String>, mut out: Output<String>) -> Result<(), BoxError> {
    while let Some(word) = words.next().await {
        out.send(&word)?;
        if word == "quit" {
            return Ok(());
        }
    }
    Ok(())
}

/// The next version of it, mended.
#[agent(topic = "words", output = "echoes", name = "quitter")]
async fn goes_on(mut words: Stream<String>, mut out: Output<String>) -> Result<(), BoxError> {
    while let Some(word) = words.next().await {
        out.send(&word)?;
    }
    Ok(())
}

/// Sends words of one partition; the error is that of an agent that they made fail for good.
fn send_words(app: &mut TestApp, words: &[&str]) -> gretchen::error::Result<()> {
    for word in words {
        app.send_keyed("words", "k", &(*word).to_owned())?;
    }
    app.settle()
}

#[test]
fn an_agent_that_returns_in_the_middle_of_a_record_leaves_no_trace_of_it() {
    let mut app = TestApp::new(App::new("words").agent::<quits>()).unwrap();
    let error = send_words(&mut app, &["a", "quit", "b"]).unwrap_err();
    assert!(error.message().contains("returned although its topic goes on"), "{error}");
    assert_eq!(app.recv_all::<String>("echoes").unwrap(), ["a"]);
    app.restart_as(App::new("words").agent::<goes_on>()).unwrap();
    assert_eq!(app.recv_all::<String>("echoes").unwrap(), ["quit", "b"]);
}

static SEEN: Table<String, i64> = Table::new("seen");

/// After the word `b`, [`impatient`] fails as soon as it has to wait.
static OUT_OF_PATIENCE: AtomicBool = AtomicBool::new(false);

#[agent(topic = "words", table = SEEN, output = "echoes", on_error = retry(3, "1s"))]
async fn impatient(
    mut words: Stream<String>,
    mut seen: TableMut<'_, String, i64>,
    mut out: Output<String>,
) -> Result<(), BoxError> {
    loop {
        // Records that are at hand come first.
        let next = pin!(words.next());
        let patience = poll_fn(|_| if OUT_OF_PATIENCE.load(SeqCst) { Poll::Ready(()) } else { Poll::Pending });
        match select(next, patience).await {
            Either::Left((Some(word), _)) => {
                seen.update(&word, |count| *count += 1)?;
                out.send(&word)?;
                OUT_OF_PATIENCE.store(word == "b", SeqCst);
            }
            Either::Left((None, _)) => return Ok(()),
            Either::Right(_) => {
                OUT_OF_PATIENCE.store(false, SeqCst);
                return Err("nothing came".into());
            }
        }
    }
}

#[test]
fn an_agent_that_fails_between_two_records_keeps_those_that_are_finished() {
    let mut app = TestApp::new(App::new("words").agent::<impatient>()).unwrap();
    send_words(&mut app, &["a", "b"]).unwrap();
    assert!(!OUT_OF_PATIENCE.load(SeqCst), "it has failed");
    app.advance(Duration::from_secs(2)).unwrap();
    send_words(&mut app, &["c"]).unwrap();
    assert_eq!(app.recv_all::<String>("echoes").unwrap(), ["a", "b", "c"]);
    let seen = app.table(&SEEN).unwrap().all().unwrap();
    assert_eq!(seen, [("a".to_owned(), 1), ("b".to_owned(), 1), ("c".to_owned(), 1)]);
}

/// Asks again in the same poll when the first answer is to wait.
#[agent(topic = "orders", output = "numbers", on_error = dead_letter("unreadable"))]
async fn asks_twice(mut orders: Stream<Order>, mut out: Output<i64>) -> Result<(), BoxError> {
    loop {
        let order = match orders.next().now_or_never() {
            Some(order) => order,
            None => orders.next().await,
        };
        let Some(order) = order else { return Ok(()) };
        out.send(&order.order_id)?;
    }
}

#[test]
fn a_record_that_cannot_be_read_is_not_passed_over_by_asking_again() {
    let mut app = TestApp::new(App::new("shop").agent::<asks_twice>()).unwrap();
    app.send_keyed("orders", "C1", &order(1, "C1")).unwrap();
    app.send_raw("orders", Some(b"C1"), Some(b"not an order")).unwrap();
    app.send_keyed("orders", "C1", &order(2, "C1")).unwrap();
    assert_eq!(app.recv_all::<i64>("numbers").unwrap(), [1, 2]);
    assert_eq!(app.recv_all::<Vec<u8>>("unreadable").unwrap(), [b"not an order"]);
}

/// Puts out two orders for each, of which the second does not fit its schema where the quantity is negative.
#[agent(topic = "orders", concurrency = 2, output = "pairs", on_error = skip)]
async fn pairs(order: Order) -> Vec<Order> {
    let too_large = Order { amount: Decimal::new(1, 0) * Decimal::from(10_000_000_i64), ..order.clone() };
    if order.quantity < 0 { vec![order, too_large] } else { vec![order.clone(), order] }
}

#[test]
fn concurrent_records_whose_outputs_do_not_all_fit_put_out_none() {
    let mut app = TestApp::new(App::new("shop").agent::<pairs>()).unwrap();
    app.send_keyed("orders", "C1", &order(1, "C1")).unwrap();
    app.send_keyed("orders", "C1", &Order { quantity: -1, ..order(2, "C1") }).unwrap();
    app.send_keyed("orders", "C1", &order(3, "C1")).unwrap();
    let numbers: Vec<i64> = app.recv_all::<Order>("pairs").unwrap().iter().map(|order| order.order_id).collect();
    assert_eq!(numbers, [1, 1, 3, 3]);
}

/// Meets storage that fails, which no policy may pass over.
#[agent(topic = "words", concurrency = 2, output = "echoes", on_error = skip, name = "unlucky")]
async fn unlucky(word: String) -> Result<String, Error> {
    if word == "disk" { Err(Error::new(ErrorKind::Io, "the disk does not answer")) } else { Ok(word) }
}

#[test]
fn storage_that_fails_stops_concurrent_records_whatever_the_policy() {
    let mut app = TestApp::new(App::new("words").agent::<unlucky>()).unwrap();
    let error = send_words(&mut app, &["a", "disk"]).unwrap_err();
    assert!(error.to_string().contains("the disk does not answer"), "{error}");
    assert_eq!(app.recv_all::<String>("echoes").unwrap(), ["a"]);
}

aggregate! {
    #[agent(topic = "orders", key = customer, on_error = skip)]
    static PANICKY: Table<String, OrderTotal> = from Order {
        orders: count(),
        revenue: sum(amount),
        smallest: min(amount),
        largest: max(amount),
        quantity: fold(|sum: &mut i64, order: &OrderView<'_>| {
            assert!(order.quantity >= 0, "a negative quantity");
            *sum += i64::from(order.quantity);
            Ok(())
        }),
    };
}

#[test]
fn a_fold_that_panics_is_the_fault_of_its_record_alone() {
    let mut app = TestApp::new(App::new("shop").agent::<panicky>()).unwrap();
    // They are put in order by their key on the way, so that they arrive together, in one group.
    let good = order(1, "C1");
    let bad = Order { quantity: -1, ..order(2, "C1") };
    for order in [&good, &good, &bad, &good] {
        app.send("orders", order).unwrap();
    }
    let total = app.table(&PANICKY).unwrap().get("C1").unwrap().unwrap();
    assert_eq!((total.orders, total.quantity, total.revenue), (3, 3, 3.into()));
}

//! What a policy leaves behind, form of agent by form of agent.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::SeqCst;
use std::task::Poll;
use std::time::Duration;

use futures::FutureExt;
use futures::future::{Either, select};
use gretchen::backend::Backend;
use gretchen::backend::memory::MemoryBackend;
use gretchen::error::{Error, ErrorKind};
use gretchen::plan::Plan;
use gretchen::prelude::*;
use gretchen::testing::TestApp;
use gretchen::topic::{TopicSpec, WireFormat};

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

static HELD: Table<String, i64> = Table::new("held");

/// Versions of one agent that read other topics, or by another key.
mod sources {
    use super::*;

    macro_rules! version {
        ($module:ident, $($arguments:tt)*) => {
            pub(super) mod $module {
                use super::*;

                #[agent($($arguments)*, table = HELD, name = "holder")]
                pub(crate) async fn holder(order: Order, mut held: TableMut<'_, String, i64>) -> Result<(), BoxError> {
                    held.update(&order.customer, |count| *count += 1)?;
                    Ok(())
                }
            }
        };
    }

    version!(by_any_key, topic = "orders");
    version!(by_customer, topic = "orders", key = customer);
    version!(both, topics = ["orders", "returns"]);
    version!(the_other, topic = "returns");
}

#[test]
fn a_source_that_takes_the_place_of_another_is_refused() {
    let mut app = TestApp::new(App::new("shop").agent::<sources::by_any_key::holder>()).unwrap();
    for number in 0..2 {
        app.send_keyed("orders", "C1", &order(number, "C1")).unwrap();
    }
    assert_eq!(app.table(&HELD).unwrap().get("C1").unwrap(), Some(2));
    for other in [
        App::new("shop").agent::<sources::by_customer::holder>(),
        App::new("shop").agent::<sources::the_other::holder>(),
    ] {
        let error = app.restart_as(other).unwrap_err();
        assert!(error.message().contains("has read topic orders so far"), "{error}");
    }
}

#[test]
fn a_topic_that_comes_back_goes_on_where_it_was() {
    let mut app = TestApp::new(App::new("shop").agent::<sources::both::holder>()).unwrap();
    let send = |app: &mut TestApp, topic| app.send_keyed(topic, "C1", &order(1, "C1")).unwrap();
    send(&mut app, "orders");
    send(&mut app, "returns");
    assert_eq!(app.table(&HELD).unwrap().get("C1").unwrap(), Some(2));
    app.restart_as(App::new("shop").agent::<sources::the_other::holder>()).unwrap();
    send(&mut app, "returns");
    send(&mut app, "orders");
    assert_eq!(app.table(&HELD).unwrap().get("C1").unwrap(), Some(3));
    app.restart_as(App::new("shop").agent::<sources::both::holder>()).unwrap();
    assert_eq!(app.table(&HELD).unwrap().get("C1").unwrap(), Some(4), "each order once");
}

/// What becomes of an agent on two topics, of which orders has four partitions and returns as many as said; a topic
/// that is missing is made with two. Also how many topics there are then.
async fn plan_of_both(returns: Option<u32>) -> (Result<Plan, Error>, usize) {
    let backend = MemoryBackend::new(Clock::system());
    for (topic, partitions) in [("orders", Some(4)), ("returns", returns)] {
        if let Some(partitions) = partitions {
            backend.create_topic(&TopicSpec::new(topic, partitions)).await.unwrap();
        }
    }
    let app = App::new("shop").agent::<sources::both::holder>();
    let plan = Plan::make(app.name(), &app.agents(), &backend, 2).await;
    (plan, Backend::topics(&backend).await.unwrap().len())
}

#[tokio::test]
async fn topics_of_an_agent_must_have_the_same_number_of_partitions() {
    for (returns, wanted, topics) in [(Some(3), "returns has 3", 2), (None, "returns has 2", 1)] {
        let (plan, left) = plan_of_both(returns).await;
        let Err(error) = plan else { panic!("{wanted}") };
        let wanted =
            format!("agent holder: its topics must have the same number of partitions: orders has 4, {wanted}");
        assert_eq!(error.kind(), ErrorKind::Plan);
        assert!(error.message().contains(&wanted) && error.message().contains("policies.rs:"), "{error}");
        assert_eq!(left, topics, "no topic is made for a plan that cannot be");
    }
    assert_eq!(plan_of_both(Some(4)).await.0.unwrap().agents[0].partitions, 4);
}

/// Two versions of a declared aggregation whose states are as long, and mean something else.
mod figures {
    use super::*;

    pub(super) mod first {
        use super::*;

        aggregate! {
            #[agent(topic = "orders", key = customer, name = "figures")]
            pub(crate) static FIGURES: Table<String, OrderTotal> = from Order {
                orders: count(), revenue: sum(amount), smallest: min(amount), largest: max(amount), quantity: sum(quantity),
            };
        }
    }

    pub(super) mod second {
        use super::*;

        aggregate! {
            #[agent(topic = "orders", key = customer, name = "figures")]
            pub(crate) static FIGURES: Table<String, OrderTotal> = from Order {
                orders: count(), revenue: sum(amount), smallest: max(amount), largest: min(amount), quantity: sum(quantity),
            };
        }
    }
}

#[test]
fn figures_that_mean_something_else_are_not_read_from_the_changelog() {
    let mut app = TestApp::new(App::new("shop").agent::<figures::first::figures>()).unwrap();
    app.send("orders", &order(1, "C1")).unwrap();
    app.settle().unwrap();
    let error = app.restart_as(App::new("shop").agent::<figures::second::figures>()).unwrap_err();
    assert!(error.message().contains("other states of table figures"), "{error}");
}

/// What names no schema, into a topic whose values all have one.
#[agent(topic = "words", output = "told", on_error = dead_letter("untold"))]
async fn tells(word: String) -> String {
    word
}

#[test]
fn outputs_that_cannot_be_in_a_topics_format_are_refused_at_the_start() {
    for topic in ["told", "untold"] {
        let app = App::new("words").agent::<tells>().format(topic, WireFormat::Confluent);
        let error = TestApp::new(app).err().unwrap();
        assert!(error.message().contains(topic) && error.message().contains("confluent"), "{error}");
    }
}

/// Batches have no key of their own, whatever their size.
#[agent(topic = "words", output = "sizes")]
async fn sizes(words: Batch<String>) -> i64 {
    words.len() as i64
}

/// Passes each word on.
#[agent(topic = "words", output = "passed")]
async fn passes(word: String) -> String {
    word
}

#[test]
fn an_output_has_the_key_of_its_record_and_that_of_a_batch_has_none() {
    let mut app = TestApp::new(App::new("words").agent::<sizes>().agent::<passes>()).unwrap();
    app.send_tombstone("words", "gone").unwrap();
    app.send_keyed("words", "k", &"a".to_owned()).unwrap();
    app.settle().unwrap();
    assert_eq!(app.recv_event::<i64>("sizes").unwrap().unwrap().key, None);
    assert_eq!(app.recv_event::<String>("passed").unwrap().unwrap().key, Some(b"k".to_vec()));
}

//! Errors, panics and records that cannot be read, in every form of agent and under every policy.
//!
//! The words of one partition are `a`, one that goes wrong, `b`; each form passes on what it can.

use std::cell::Cell;
use std::time::Duration;

use gretchen::error::ErrorKind;
use gretchen::prelude::*;
use gretchen::table::aggregate::AggregateError;
use gretchen::testing::TestApp;

gretchen::records!("schemas/order.avsc", "schemas/order_total.avsc");

use shop::{Order, OrderTotal, OrderView};

thread_local! {
    /// Calls for the word `flaky`; a test's app works on the test's thread.
    static CALLS: Cell<usize> = const { Cell::new(0) };
}

/// What a word does to its agent.
async fn say(word: &str) -> Result<String> {
    tokio::task::yield_now().await;
    match word {
        "error" => Err("an error".into()),
        "panic" => panic!("a panic"),
        // Goes wrong twice, then right.
        "flaky" if CALLS.replace(CALLS.get() + 1) % 3 < 2 => Err("not yet".into()),
        word => Ok(word.to_owned()),
    }
}

/// Every form of agent under one policy.
macro_rules! forms {
    ($module:ident, $($policy:tt)*) => {
        mod $module {
            use super::*;

            #[agent(topic = "words", output = "said", on_error = $($policy)*)]
            pub(super) async fn record(word: String) -> Result<String> {
                say(&word).await
            }

            #[agent(topic = "words", output = "said", on_error = $($policy)*)]
            pub(super) async fn event(word: Event<String>) -> Result<String> {
                say(&word).await
            }

            #[agent(topic = "words", output = "said", on_error = $($policy)*)]
            pub(super) async fn batch(words: Batch<String>) -> Result<Vec<String>> {
                let mut said = Vec::new();
                for word in words {
                    said.push(say(&word).await?);
                }
                Ok(said)
            }

            #[agent(topic = "words", output = "said", on_error = $($policy)*)]
            pub(super) async fn stream(mut words: Stream<String>, mut out: Output<String>) -> Result<()> {
                while let Some(word) = words.next().await {
                    // What a record has put out before it went wrong is taken back.
                    out.send(&word)?;
                    say(&word).await?;
                }
                Ok(())
            }

            #[agent(topic = "words", output = "said", on_error = $($policy)*, concurrency = 3)]
            pub(super) async fn concurrent(word: String) -> Result<String> {
                say(&word).await
            }

            pub(super) fn apps() -> [(&'static str, App); 5] {
                [
                    ("record", App::new("words").agent::<record>()),
                    ("event", App::new("words").agent::<event>()),
                    ("batch", App::new("words").agent::<batch>()),
                    ("stream", App::new("words").agent::<stream>()),
                    ("concurrent", App::new("words").agent::<concurrent>()),
                ]
            }
        }
    };
}

forms!(failing, fail);
forms!(retrying, retry(2, "1s"));
forms!(skipping, skip);
forms!(burying, dead_letter("dead"));

const POISON: &[u8] = b"\xff\xfe";

/// Sends `a`, something that goes wrong, and `b`, each when the one before is done with; the error is that of the agent.
fn three(app: &mut TestApp, wrong: &str) -> gretchen::error::Result<()> {
    for word in ["a", wrong, "b"] {
        let value = if word == "poison" { POISON } else { word.as_bytes() };
        app.send_raw("words", Some(b"k"), Some(value))?;
        app.settle()?;
    }
    Ok(())
}

#[test]
fn what_goes_wrong_is_skipped_alone() {
    for wrong in ["error", "panic", "poison"] {
        for (form, app) in skipping::apps() {
            let mut app = TestApp::new(app).unwrap();
            three(&mut app, wrong).unwrap();
            // Nothing of it comes after a restart, either.
            app.crash_and_restart().unwrap();
            assert_eq!(app.recv_all::<String>("said").unwrap(), ["a", "b"], "{form}, {wrong}");
        }
    }
}

#[test]
fn what_goes_wrong_is_buried_alone_with_its_bytes_and_its_error() {
    for (wrong, why) in [("error", "an error"), ("panic", "the agent panicked: a panic"), ("poison", "not UTF-8")] {
        for (form, app) in burying::apps() {
            let mut app = TestApp::new(app).unwrap();
            three(&mut app, wrong).unwrap();
            app.crash_and_restart().unwrap();
            assert_eq!(app.recv_all::<String>("said").unwrap(), ["a", "b"], "{form}, {wrong}");
            let dead = app.recv_event::<Vec<u8>>("dead").unwrap().unwrap();
            let bytes = if wrong == "poison" { POISON } else { wrong.as_bytes() };
            assert_eq!((dead.value.as_deref(), dead.key.as_deref()), (Some(bytes), Some(&b"k"[..])), "{form}");
            let header = |name: &str| {
                let (_, value) = dead.headers.iter().find(|(have, _)| have == name).unwrap();
                String::from_utf8(value.clone()).unwrap()
            };
            assert!(header("gretchen.error").contains(why), "{form}: {}", header("gretchen.error"));
            assert_eq!(header("gretchen.agent"), form);
            let place = ["topic", "partition", "offset"].map(|name| header(&format!("gretchen.{name}")));
            assert_eq!(place, ["words", "0", "1"], "{form}, {wrong}");
            assert_eq!(app.recv_event::<Vec<u8>>("dead").unwrap(), None, "{form}, {wrong}");
        }
    }
}

#[test]
fn what_goes_wrong_stops_its_partition_and_is_the_next_after_the_mend() {
    for wrong in ["error", "panic", "poison"] {
        for ((form, app), (_, mended)) in failing::apps().into_iter().zip(skipping::apps()) {
            let mut app = TestApp::new(app).unwrap();
            let error = three(&mut app, wrong).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Agent, "{form}, {wrong}");
            let text = error.to_string();
            assert!(text.contains("topic words, partition 0, offset 1"), "{form}, {wrong}: {text}");
            // Together with what goes wrong it would be one batch.
            let together = form != "batch";
            if together {
                app.send_raw("words", Some(b"k"), Some(b"b")).unwrap();
            }
            assert_eq!(app.recv_all::<String>("said").unwrap(), ["a"], "{form}, {wrong}: nothing passes it");
            app.restart_as(mended).unwrap();
            if !together {
                app.send_raw("words", Some(b"k"), Some(b"b")).unwrap();
            }
            assert_eq!(app.recv_all::<String>("said").unwrap(), ["b"], "{form}, {wrong}");
        }
    }
}

#[test]
fn what_goes_wrong_for_a_while_is_tried_again_and_put_out_once() {
    for (form, app) in retrying::apps() {
        let mut app = TestApp::new(app).unwrap();
        three(&mut app, "flaky").unwrap();
        assert_eq!(app.recv_all::<String>("said").unwrap(), ["a"], "{form}: it waits");
        // The waits are of one second and two.
        app.advance(Duration::from_millis(1001)).unwrap();
        assert_eq!(app.recv_all::<String>("said").unwrap().len(), 0, "{form}: it waits again");
        app.advance(Duration::from_millis(2001)).unwrap();
        assert_eq!(app.recv_all::<String>("said").unwrap(), ["flaky", "b"], "{form}");
    }
}

#[test]
fn what_stays_wrong_stops_its_partition_after_the_last_attempt() {
    for wrong in ["error", "panic", "poison"] {
        for (form, app) in retrying::apps() {
            let mut app = TestApp::new(app).unwrap();
            three(&mut app, wrong).unwrap();
            app.advance(Duration::from_millis(1001)).unwrap();
            let error = app.advance(Duration::from_millis(2001)).unwrap_err();
            assert!(error.to_string().contains("topic words, partition 0, offset 1"), "{form}, {wrong}: {error}");
            assert_eq!(app.recv_all::<String>("said").unwrap(), ["a"], "{form}, {wrong}");
        }
    }
}

/// A batch that goes wrong goes wrong as a whole; a record in it that cannot be read is alone with that.
#[test]
fn records_of_a_batch_are_buried_together_and_poison_apart() {
    let mut app = TestApp::new(App::new("words").agent::<burying::batch>()).unwrap();
    // Sent together, so that they are one batch as far as they can be read.
    for word in [&b"a"[..], b"b", POISON, b"c", b"error", b"d"] {
        app.send_raw("words", Some(b"k"), Some(word)).unwrap();
    }
    assert_eq!(app.recv_all::<String>("said").unwrap(), ["a", "b"]);
    let dead = app.recv_all::<Vec<u8>>("dead").unwrap();
    assert_eq!(dead, [POISON, b"c", b"error", b"d"]);
}

/// Declared aggregations under each policy; a negative quantity is an error, one above a thousand a panic.
macro_rules! aggregations {
    ($($table:ident, [$($policy:tt)*];)*) => {$(
        aggregate! {
            #[agent(topic = "orders", key = customer, on_error = $($policy)*)]
            static $table: Table<String, OrderTotal> = from Order {
                orders: count(),
                revenue: sum(amount),
                smallest: min(amount),
                largest: max(amount),
                quantity: fold(|sum: &mut i64, order: &OrderView<'_>| {
                    assert!(order.quantity <= 1000, "too many");
                    if order.quantity < 0 {
                        return Err(AggregateError::Overflow { function: "fold", accumulator: "long" });
                    }
                    *sum += i64::from(order.quantity);
                    Ok(())
                }),
            };
        }
    )*};
}

aggregations! {
    FAILS, [fail];
    RETRIES, [retry(2, "1s")];
    SKIPS, [skip];
    BURIES, [dead_letter("dead")];
}

fn order(quantity: i32) -> Order {
    Order { customer: "C1".into(), amount: 2.into(), quantity, ..Order::default() }
}

/// What an aggregation has after two good orders and one that goes wrong between them, and what came of the latter.
fn aggregated<A: gretchen::agent::Agent>(
    table: &'static Table<String, OrderTotal, impl gretchen::table::TableState<String, OrderTotal>>,
    wrong: &str,
) -> ((i64, i64), gretchen::error::Result<()>, Vec<Vec<u8>>) {
    let mut app = TestApp::new(App::new("shop").agent::<A>()).unwrap();
    let mut outcome = Ok(());
    for word in ["good", wrong, "good"] {
        let quantity = match word {
            "error" => -1,
            "panic" => 1001,
            _ => 1,
        };
        if word == "poison" {
            app.send_raw("orders", Some(b"C1"), Some(POISON)).unwrap();
        } else {
            app.send_keyed("orders", "C1", &order(quantity)).unwrap();
        }
        outcome = outcome.and(app.settle());
    }
    for ms in [1001, 2001] {
        outcome = outcome.and(app.advance(Duration::from_millis(ms)));
    }
    let total = app.table(table).unwrap().get("C1").unwrap().unwrap();
    let dead = if A::DEF.name == "buries" { app.recv_all::<Vec<u8>>("dead").unwrap() } else { Vec::new() };
    ((total.orders, total.quantity), outcome, dead)
}

#[test]
fn an_aggregation_leaves_no_trace_of_what_goes_wrong() {
    for wrong in ["error", "panic", "poison"] {
        let (total, outcome, _) = aggregated::<skips>(&SKIPS, wrong);
        assert_eq!((total, outcome.is_ok()), ((2, 2), true), "skip, {wrong}");
        let (total, outcome, dead) = aggregated::<buries>(&BURIES, wrong);
        assert_eq!((total, outcome.is_ok(), dead.len()), ((2, 2), true, 1), "dead_letter, {wrong}");
        for (policy, (total, outcome, _)) in
            [("fail", aggregated::<fails>(&FAILS, wrong)), ("retry", aggregated::<retries>(&RETRIES, wrong))]
        {
            let error = outcome.unwrap_err().to_string();
            assert!(error.contains("topic orders, partition 0, offset 1"), "{policy}, {wrong}: {error}");
            assert_eq!(total, (1, 1), "{policy}, {wrong}: what came before it is committed, nothing passes it");
        }
    }
}

#[test]
fn a_wait_before_another_attempt_is_as_long_when_the_wall_clock_jumps() {
    for day_ms in [86_400_000, -86_400_000] {
        for (form, app) in retrying::apps() {
            let mut app = TestApp::new(app).unwrap();
            three(&mut app, "flaky").unwrap();
            app.jump_ms(day_ms).unwrap();
            app.advance(Duration::from_millis(999)).unwrap();
            app.jump_ms(-day_ms).unwrap();
            assert_eq!(app.recv_all::<String>("said").unwrap(), ["a"], "{form}: it waits");
            app.advance(Duration::from_millis(2)).unwrap();
            app.advance(Duration::from_millis(2001)).unwrap();
            assert_eq!(app.recv_all::<String>("said").unwrap(), ["flaky", "b"], "{form}");
        }
    }
}

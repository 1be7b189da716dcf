//! Workers whose topics have numbers of the registry's.

use std::time::Duration;

use gretchen::backend::registry::{RegistryOptions, SchemaText};
use gretchen::clock::Clock;
use gretchen::error::ErrorKind;
use gretchen::record::{DynamicSchema, Record, avro_to_json, split_single_object};

use super::gate::{Gate, Way};
use super::stage::{ORDER, Order, Stage, order, value};
use super::{address, registered, registry};

/// The orders of a program that is ahead: one field more, before the others.
fn ahead() -> String {
    ORDER.replace(r#"{"name": "order_id""#, r#"{"name": "channel", "type": "string"}, {"name": "order_id""#)
}

/// The orders of a program whose orders cannot be read as ours.
fn apart() -> String {
    ORDER.replace(r#"{"name": "quantity", "type": "int""#, r#"{"name": "pieces", "type": "int""#)
}

fn fingerprint(schema: &str) -> u64 {
    DynamicSchema::parse(schema).unwrap().fingerprint()
}

/// Sums that were passed on, by the number of the registry's for what is written there.
fn passed(stage: &Stage) -> Vec<i64> {
    let schema = DynamicSchema::parse(<Order as Record>::SCHEMA.json).unwrap();
    let text = SchemaText::new(<Order as Record>::SCHEMA.json, Vec::new());
    let number = registry().find(&stage.subject("passed"), &text).unwrap().id;
    let sum = |value: &[u8]| {
        assert_eq!(value[..5], [&[0], &number.to_be_bytes()[..]].concat(), "the number that the registry gave");
        avro_to_json(&schema, &value[5..]).unwrap()["quantity"].as_i64().unwrap()
    };
    let mut sums: Vec<i64> = stage.bytes("passed").iter().map(|(value, _)| sum(value)).collect();
    sums.sort_unstable();
    sums
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_others_write_is_read_and_what_is_written_has_a_number() {
    let stage = Stage::new().await;
    let ours = registered(&stage.subject("orders"), ORDER);
    let theirs = registered(&stage.subject("orders"), &ahead());
    let mut more = order("a", 2);
    more["channel"] = "shop".into();
    stage.append("orders", &[value(ours, ORDER, &order("a", 1)), value(theirs, &ahead(), &more)]).await;
    let mut worker = stage.start(address()).await;
    worker.catch_up().await;
    assert_eq!(passed(&stage), [1, 3]);
    let kept = stage.raw.replay().unwrap().topic("orders").unwrap();
    assert!(kept.schemas.iter().any(|schema| schema.fingerprint == fingerprint(&ahead())), "kept with the topic");

    // While it is at work somebody is upgraded.
    let latest = ahead().replace(r#""name": "channel", "type": "string""#, r#""name": "channel", "type": "bytes""#);
    let newest = registered(&stage.subject("orders"), &latest);
    stage.append("orders", &[value(newest, &latest, &more), value(ours, ORDER, &order("a", 4))]).await;
    worker.catch_up().await;
    assert_eq!(passed(&stage), [1, 3, 5, 9]);
    worker.end().await;

    // And one that begins anew.
    stage.append("orders", &[value(newest, &latest, &more)]).await;
    let mut worker = stage.start(address()).await;
    worker.catch_up().await;
    assert_eq!(passed(&stage), [1, 3, 5, 9, 11]);
    worker.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn values_that_cannot_be_read_go_to_the_policy_with_both_schemas() {
    let stage = Stage::new().await;
    let ours = registered(&stage.subject("orders"), ORDER);
    let theirs = registered(&stage.subject("else"), &apart());
    // The same fingerprint, and another amount.
    let scaled = ORDER.replace(r#""scale": 2"#, r#""scale": 3"#);
    let scaled_number = registered(&stage.subject("scaled"), &scaled);
    let mut others = order("a", 2);
    others["pieces"] = 2.into();
    others.as_object_mut().unwrap().remove("quantity");
    let mut scaled_order = order("a", 2);
    scaled_order["amount"] = "2.500".into();
    let values = [
        value(999_999, ORDER, &order("a", 2)),
        value(theirs, &apart(), &others),
        value(scaled_number, &scaled, &scaled_order),
        value(ours, ORDER, &order("a", 1)),
    ];
    stage.append("orders", &values).await;
    let mut worker = stage.start(address()).await;
    worker.catch_up().await;
    worker.end().await;

    assert_eq!(passed(&stage), [1], "the order behind them is not held up");
    let own = format!("shop.Order ({:016x})", <Order as Record>::SCHEMA.fingerprint);
    let dead = stage.bytes("failed");
    let said = |dead: &[(String, String)], name: &str| dead.iter().find(|(have, _)| have == name).unwrap().1.clone();
    let place = |dead: &[(String, String)]| {
        ["gretchen.topic", "gretchen.partition", "gretchen.offset"].map(|name| said(dead, name)).join("/")
    };
    assert_eq!(dead.len(), 3);
    let (bytes, headers) = &dead[0];
    let error = said(headers, "gretchen.error");
    assert_eq!((bytes, &*place(headers)), (&values[0], "orders/0/0"), "it can be sent again as it is");
    assert!(error.contains("of schema 999999") && error.contains(&own) && error.contains(address()), "{error}");

    let (bytes, headers) = &dead[1];
    let error = said(headers, "gretchen.error");
    let (found, datum) = split_single_object(bytes).unwrap();
    assert_eq!((found, datum, &*place(headers)), (fingerprint(&apart()), &values[1][5..], "orders/0/1"));
    assert!(error.contains(&format!("shop.Order ({found:016x}), which cannot be read as {own}")), "{error}");
    assert!(error.contains("missing default") && error.contains(&format!("schema {theirs} of the")), "{error}");

    let (bytes, headers) = &dead[2];
    let error = said(headers, "gretchen.error");
    assert_eq!(bytes, &values[2]);
    assert!(error.contains("another meaning") && error.contains("decimal scale"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_wait_for_a_registry_that_is_away() {
    let stage = Stage::new().await;
    let ours = registered(&stage.subject("orders"), ORDER);
    let gate = Gate::new(Way::Shut);
    stage.append("orders", &[value(ours, ORDER, &order("a", 1)), value(ours, ORDER, &order("a", 2))]).await;
    let mut worker = stage.start(gate.address()).await;
    let clock = Clock::system();
    let began = clock.moment();
    worker
        .until("being away for a while", |worker| {
            assert!(!worker.caught_up() && worker.failed.is_empty(), "{:?}", worker.failed);
            clock.moment().since(began) > Duration::from_secs(3)
        })
        .await;
    let took = worker.end().await;
    assert!(took < Duration::from_secs(4), "a stop waited {took:?} for the registry");
    assert_eq!(stage.bytes("failed"), [], "no record is to blame");

    let mut worker = stage.start(gate.address()).await;
    clock.sleep(Duration::from_secs(1)).await;
    assert!(!worker.caught_up());
    gate.set(Way::Open);
    worker.catch_up().await;
    worker.end().await;
    assert_eq!(passed(&stage), [1, 3]);
    assert_eq!(stage.bytes("failed"), []);
}

/// Longer than a commit waits in place, so that the partition is opened anew meanwhile.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn outputs_wait_for_a_registry_that_gives_no_numbers() {
    let stage = Stage::new().await;
    let ours = registered(&stage.subject("orders"), ORDER);
    let gate = Gate::new(Way::ReadOnly);
    stage.append("orders", &[value(ours, ORDER, &order("a", 1)), value(ours, ORDER, &order("a", 2))]).await;
    let mut worker = stage.start(gate.address()).await;
    Clock::system().sleep(Duration::from_secs(13)).await;
    assert!(!worker.caught_up() && worker.failed.is_empty(), "{:?}", worker.failed);
    gate.set(Way::Open);
    worker.catch_up().await;
    worker.end().await;
    assert_eq!(passed(&stage), [1, 3], "each once");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_schema_that_may_not_be_written_is_told_before_a_record_flows() {
    let stage = Stage::new().await;
    let mut options = RegistryOptions::new(address()).unwrap();
    options.register = false;
    let Err(error) = stage.plan(&stage.backend(options.clone())).await else { panic!("it is not registered") };
    let (said, subject) = (error.to_string(), stage.subject("passed"));
    assert_eq!(error.kind(), ErrorKind::Schema);
    assert!(said.contains("registry_register is false") && said.contains(&subject), "{said}");
    assert!(said.contains("shop.Order") && said.contains("schema register"), "{said}");
    assert!(registry().versions(&subject).is_err(), "looking up registers nothing");

    // As it stands in the file, with another text than what is generated of it.
    registered(&subject, ORDER);
    stage.plan(&stage.backend(options)).await.unwrap();
    assert_eq!(registry().versions(&subject).unwrap(), [1]);

    // Nor is one begun that the registry does not let in.
    let gate = Gate::new(Way::Open);
    gate.ask_for("Bearer hush");
    let options = RegistryOptions::new(gate.address()).unwrap();
    let Err(error) = stage.plan(&stage.backend(options)).await else { panic!("it has not said who it is") };
    assert!(error.kind() == ErrorKind::Config && error.to_string().contains("registry_token"), "{error}");

    let other = Stage::new().await;
    let (subject, apart) = (other.subject("passed"), apart());
    let number = registered(&subject, &apart);
    registry().set_compatibility(Some(&subject), "BACKWARD").unwrap();
    let options = RegistryOptions::new(address()).unwrap();
    let Err(error) = other.plan(&other.backend(options)).await else { panic!("it does not fit") };
    let said = error.to_string();
    let (own, found) = (<Order as Record>::SCHEMA.fingerprint, fingerprint(&apart));
    assert!(
        said.contains(&format!("({own:016x})")) && said.contains(&format!("({found:016x}, schema {number})")),
        "{said}"
    );
    assert!(said.contains(&subject) && said.contains("missing default") && said.contains("409"), "{said}");
}

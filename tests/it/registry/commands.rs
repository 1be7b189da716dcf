//! `schema register`, `list`, `get` and `compatibility`, and commands on topics with numbers of the registry's.

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};

use gretchen::backend::registry::SchemaText;
use gretchen::record::DynamicSchema;
use serde_json::json;

use super::gate::{Gate, Way};
use super::stage::ORDER;
use super::{address, registry};
use crate::cli::{bad, command, good, json_of, order, run};

const BASKET: &str = r#"{"type": "record", "name": "Basket", "namespace": "shop", "fields": [
    {"name": "orders", "type": {"type": "array", "items": "Order"}}]}"#;

/// A folder whose settings name the registry, with some schemas.
fn folder() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("gretchen.toml"), format!("registry = {:?}\n", address())).unwrap();
    fs::write(dir.path().join("order.avsc"), ORDER).unwrap();
    fs::write(dir.path().join("basket.avsc"), BASKET).unwrap();
    let noted = |default: &str| {
        ORDER.replace(
            r#"{"name": "customer""#,
            &format!(r#"{{"name": "note", "type": "string"{default}}}, {{"name": "customer""#),
        )
    };
    fs::write(dir.path().join("noted.avsc"), noted("")).unwrap();
    fs::write(dir.path().join("defaulted.avsc"), noted(r#", "default": """#)).unwrap();
    dir
}

fn fresh_subject(name: &str) -> String {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    format!("{name}-{}-{}/value", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed))
}

fn register(dir: &Path, args: &[&str]) -> serde_json::Value {
    json_of(dir, &[&["schema", "register", "--json"], args].concat())
}

#[test]
fn schemas_are_registered_listed_and_shown() {
    let dir = folder();
    let dir = dir.path();
    let subject = &*fresh_subject("orders");
    let first = register(dir, &["order.avsc", "--subject", subject]);
    let fingerprint = format!("{:016x}", DynamicSchema::parse(ORDER).unwrap().fingerprint());
    let id = first["id"].as_u64().unwrap().to_string();
    assert_eq!(first, json!({"subject": subject, "version": 1, "id": first["id"], "fingerprint": fingerprint}));
    assert_eq!(register(dir, &["order.avsc", "--subject", subject]), first, "it is one already");

    assert_eq!(good(dir, &["schema", "compatibility", subject, "--set", "backward"]).trim(), "BACKWARD");
    let level = json_of(dir, &["schema", "compatibility", subject, "--json"]);
    assert_eq!(level, json!({"subject": subject, "compatibility": "BACKWARD"}));
    let refused = bad(dir, &["schema", "register", "noted.avsc", "--subject", subject], 1);
    assert!(refused.contains(&format!("beside version 1, shop.Order ({fingerprint}, schema {id})")), "{refused}");
    assert!(refused.contains("missing default") && refused.contains("409"), "{refused}");
    let said = good(dir, &["schema", "register", "defaulted.avsc", "--subject", subject]);
    assert!(
        said.starts_with("shop.Order: schema ") && said.contains(&format!("version 2 of subject {subject}")),
        "{said}"
    );

    let versions = json_of(dir, &["schema", "list", subject, "--json"]);
    assert_eq!(
        versions[0],
        json!({"subject": subject, "version": 1, "id": first["id"], "schema": "shop.Order", "fingerprint": fingerprint})
    );
    assert_eq!((versions.as_array().unwrap().len(), &versions[1]["version"]), (2, &json!(2)));
    let all = good(dir, &["schema", "list"]);
    let line = all.lines().find(|line| line.starts_with(subject)).unwrap();
    assert_eq!(line.split_whitespace().nth(1), Some("2"), "the latest: {line}");

    // What is in the registry can stand for a file.
    let versions = format!("registry:{subject}");
    assert!(good(dir, &["schema", "compat", &versions, "order.avsc"]).contains(": yes"));
    let unfit = run(dir, &["schema", "compat", &versions, "noted.avsc"]);
    assert!(unfit.0 == 0 && unfit.1.contains(&format!("{versions} version 2 wrote: yes")), "{unfit:?}");
    let unfit = run(dir, &["schema", "compat", "--mode", "backward-transitive", &versions, "noted.avsc"]);
    assert!(unfit.0 == 1 && unfit.1.contains(&format!("{versions} version 1 wrote: no")), "{unfit:?}");
    assert!(good(dir, &["schema", "diff", "order.avsc", &versions]).contains("note"));

    let parsed = |text: &str| DynamicSchema::parse(text).unwrap();
    assert_eq!(parsed(&good(dir, &["schema", "get", &id])), parsed(ORDER));
    assert_eq!(parsed(&good(dir, &["schema", "get", subject, "--version", "1"])), parsed(ORDER));
    let latest = json_of(dir, &["schema", "get", subject, "--json"]);
    assert_eq!((&latest["version"], &latest["references"]), (&json!(2), &json!([])));
    let defaulted = fs::read_to_string(dir.join("defaulted.avsc")).unwrap();
    assert_eq!(parsed(latest["schema"].as_str().unwrap()), parsed(&defaulted));

    assert!(bad(dir, &["schema", "get", "999999"], 1).contains("(registry) says: "));
    assert!(bad(dir, &["schema", "get", subject, "--version", "7"], 1).contains("(registry) says: "));
    assert!(bad(dir, &["schema", "get", "7", "--version", "7"], 2).contains("has no versions"));
    assert!(bad(dir, &["schema", "register", "order.avsc"], 2).contains("--subject"));
}

#[test]
fn a_schema_refers_to_those_of_other_subjects() {
    let dir = folder();
    let dir = dir.path();
    let (orders, baskets) = (&*fresh_subject("orders"), &*fresh_subject("baskets"));
    register(dir, &["order.avsc", "--subject", orders]);
    let reference = format!("shop.Order={orders}");
    let basket = register(dir, &["basket.avsc", "--subject", baskets, "--reference", &reference]);
    let shown = json_of(dir, &["schema", "get", baskets, "--json"]);
    assert_eq!(shown["references"], json!([{"name": "shop.Order", "subject": orders, "version": 1}]));
    let registry = registry();
    let id = u32::try_from(basket["id"].as_u64().unwrap()).unwrap();
    let whole = registry.whole("basket", &registry.schema(id).unwrap()).unwrap();
    assert_eq!(
        (whole.name(), &*format!("{:016x}", whole.fingerprint())),
        ("shop.Basket".into(), basket["fingerprint"].as_str().unwrap())
    );
    assert!(whole.json().contains("One purchase."), "what it refers to is in it: {}", whole.json());

    // Without the registry's help the files must say it all.
    let together = register(dir, &["basket.avsc", "order.avsc", "--subject", &fresh_subject("baskets")]);
    assert_eq!(together["fingerprint"], basket["fingerprint"]);
    let error = bad(dir, &["schema", "register", "basket.avsc", "--subject", baskets], 1);
    assert!(error.contains("unknown type \"shop.Order\""), "{error}");
    let error = bad(
        dir,
        &["schema", "register", "basket.avsc", "--subject", baskets, "--reference", "shop.Order=nowhere:1"],
        1,
    );
    assert!(error.contains("version 1 of subject nowhere, which is not there"), "{error}");
}

#[test]
fn commands_agree_on_the_numbers_of_a_log_s_topic() {
    let dir = folder();
    let dir = dir.path();
    fs::write(dir.join("format.txt"), "confluent").unwrap();
    good(dir, &["send", "shop-orders", &order("a", 2)]);
    good(dir, &["send", "shop-orders", &order("a", 3)]);
    good(dir, &["worker", "--until-caught-up", "--quiet"]);
    assert_eq!(good(dir, &["tables", "paid", "a"]).trim(), "500");
    let text = SchemaText::new(&*DynamicSchema::parse(ORDER).unwrap().json(), Vec::new());
    registry().find("shop-orders-value", &text).unwrap();
    let read = good(dir, &["read", "shop-orders"]);
    assert!(read.contains(r#""quantity":2"#) && read.lines().count() == 2, "{read}");
    // Without the registry nobody knows what the numbers stand for.
    fs::remove_file(dir.join("gretchen.toml")).unwrap();
    let without = bad(dir, &["read", "shop-orders"], 2);
    assert!(without.contains("topic shop-orders") && without.contains("the setting registry"), "{without}");
}

#[test]
fn a_registry_asks_who_comes() {
    let dir = folder();
    let dir = dir.path();
    let gate = Gate::new(Way::Open);
    let list = |settings: &[(&str, &str)]| {
        let mut command = command(dir, &["schema", "list", "--registry", gate.address()]);
        let output = command.envs(settings.iter().copied()).output().unwrap();
        (output.status.code().unwrap(), String::from_utf8(output.stderr).unwrap())
    };
    // "me:hush"
    gate.ask_for("Basic bWU6aHVzaA==");
    let (user, password) = (("GRETCHEN_REGISTRY_USER", "me"), ("GRETCHEN_REGISTRY_PASSWORD", "hush"));
    assert_eq!(list(&[user, password]).0, 0);
    let wrong = ("GRETCHEN_REGISTRY_PASSWORD", "h\u{f6}rt");
    for settings in [&[][..], &[user], &[user, wrong], &[("GRETCHEN_REGISTRY_TOKEN", "hush")]] {
        let (code, said) = list(settings);
        assert!(
            code == 2 && said.contains("401: who are you?") && said.contains("registry_user"),
            "{settings:?}: {said}"
        );
        assert!(!said.contains("hush") && !said.contains("h\u{f6}rt"), "{said}");
    }
    gate.ask_for("Bearer hush");
    assert_eq!(list(&[("GRETCHEN_REGISTRY_TOKEN", "hush")]).0, 0);
    assert_eq!(list(&[user, password]).0, 2);
    let (code, said) = list(&[user, password, ("GRETCHEN_REGISTRY_TOKEN", "x")]);
    assert!(code == 2 && said.contains("only one of them"), "{said}");

    let mut config = command(dir, &["config"]);
    let shown = config.envs([user, password, ("GRETCHEN_REGISTRY_TOKEN", "whisper")]).output().unwrap();
    let shown = String::from_utf8(shown.stdout).unwrap();
    assert!(shown.contains("registry_password") && shown.contains("(secret)"), "{shown}");
    assert!(!shown.contains("hush") && !shown.contains("whisper"), "{shown}");
}

#[test]
fn what_is_no_registry_is_told_from_one_that_is_away() {
    let dir = folder();
    let dir = dir.path();
    let list = |url: &str, code| bad(dir, &["schema", "list", "--registry", url], code);
    let gate = Gate::new(Way::Shut);
    let said = list(gate.address(), 1);
    assert!(said.contains(gate.address()) && said.contains("(registry) does not answer"), "{said}");
    let said = list("http://127.0.0.1:9", 1);
    assert!(said.contains("Connection refused") && said.contains("see whether it runs"), "{said}");
    let said = list(address().strip_suffix("/apis/ccompat/v7").unwrap(), 2);
    assert!(said.contains("has no /subjects") && said.contains("ccompat"), "{said}");
    let said = list("http://me:hush@127.0.0.1:9", 2);
    assert!(said.contains("--registry: ") && said.contains("registry_user") && !said.contains("hush"), "{said}");
    fs::write(dir.join("gretchen.toml"), "registry_register = false\n").unwrap();
    assert!(bad(dir, &["schema", "list"], 2).contains("no schema registry is named"));
    assert!(good(dir, &["config"]).contains("registry_register"));
}

//! Values of another schema, read straight into generated types.

use std::fmt::Debug;

use gretchen::record::{
    Decoder, DynamicSchema, Record, Translation, Value, avro_to_json, container_to_datums, incompatibilities,
};
use proptest::prelude::*;
use serde_json::json;

use super::evolution::written;

gretchen::records!("tests/schemas/resolution.avsc");

use resolution::{
    AsBoolean, AsBytes, AsDouble, AsFloat, AsInt, AsLong, AsString, Chain, Choice, Held, Many, Project, Spot,
};

/// Decodes and views a value that another schema wrote, and checks that both are the same.
fn read<R: Record + Value>(schema: &str, value: &serde_json::Value) -> Result<R, String> {
    let (wire, known) = written(schema, value);
    let mut decoder = Decoder::<R>::new(known);
    let decoded = decoder.decode(&wire).map_err(|error| error.to_string());
    let viewed = decoder.view(&wire).map(|view| <R as Value>::own(&view)).map_err(|error| error.to_string());
    assert_eq!(decoded, viewed);
    decoded
}

/// The specification's table, all of it: what is not in it is refused.
#[test]
fn promotions_are_those_of_the_specification() {
    fn check<R: Record + Value>(reader: &str, readable: &[&str], show: impl Fn(&R) -> String) {
        for (ty, value, number) in [
            ("boolean", json!(true), "true"),
            ("int", json!(-3), "-3"),
            ("long", json!(-3), "-3"),
            ("float", json!(-3.0), "-3"),
            ("double", json!(-3.0), "-3"),
            ("bytes", json!("-3"), "-3"),
            ("string", json!("-3"), "-3"),
        ] {
            let name = <R as Record>::SCHEMA.name.rsplit('.').next().expect("a name");
            let schema =
                format!(r#"{{"type": "record", "name": "{name}", "fields": [{{"name": "f", "type": "{ty}"}}]}}"#);
            let (from, to) = (DynamicSchema::parse(&schema), DynamicSchema::parse(<R as Record>::SCHEMA.json));
            let problems = incompatibilities(&from.expect("a schema"), &to.expect("a schema"));
            match read::<R>(&schema, &json!({"f": value})) {
                Ok(record) => {
                    assert!(readable.contains(&ty), "{ty} was read as {reader}");
                    assert_eq!((show(&record).as_str(), problems.len()), (number, 0), "{ty} as {reader}");
                }
                Err(error) => {
                    assert!(!readable.contains(&ty), "{ty} as {reader}: {error}");
                    let why = format!("field f: {ty} was written where {reader} is read (rule: type mismatch)");
                    assert!(error.contains(&why), "{error}");
                    assert_eq!((problems[0].path.as_str(), problems[0].rule), ("f", "type mismatch"));
                }
            }
        }
    }
    check::<AsBoolean>("boolean", &["boolean"], |record| record.f.to_string());
    check::<AsInt>("int", &["int"], |record| record.f.to_string());
    check::<AsLong>("long", &["int", "long"], |record| record.f.to_string());
    check::<AsFloat>("float", &["int", "long", "float"], |record| record.f.to_string());
    check::<AsDouble>("double", &["int", "long", "float", "double"], |record| record.f.to_string());
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("text");
    check::<AsBytes>("bytes", &["bytes", "string"], |record| text(&record.f));
    check::<AsString>("string", &["bytes", "string"], |record| record.f.clone());
}

#[test]
fn an_int_stays_one() {
    let schema = r#"{"type": "record", "name": "AsLong", "fields": [{"name": "f", "type": "int"}]}"#;
    let (mut wire, known) = written(schema, &json!({"f": 0}));
    wire.truncate(10);
    wire.extend_from_slice(&[0x80, 0x80, 0x80, 0x80, 0x10]);
    let error = Decoder::<AsLong>::new(known).decode(&wire).expect_err("too large for an int").to_string();
    assert_eq!(error, "field f at byte 10: 2147483648 is out of the range of an int");
    // The value itself has no path.
    let [bytes, string] = [r#""bytes""#, r#""string""#].map(|schema| DynamicSchema::parse(schema).expect("a schema"));
    let translation = Translation::compile(&bytes, &string).expect("bytes may be text");
    let error = translation.run(&[2, 0xe4], &mut Vec::new()).expect_err("bytes that are no text").to_string();
    assert_eq!(error, "field - at byte 1: a string that is not UTF-8");
    let schema = r#"{"type": "record", "name": "AsString", "fields": [{"name": "f", "type": "bytes"}]}"#;
    let error = read::<AsString>(schema, &json!({"f": "\u{e4}"})).expect_err("bytes that are no text");
    assert_eq!(error, "field f at byte 11: a string that is not UTF-8");
}

/// A type with two of the writer's fields reads over all others, whatever they are, and checks them.
#[test]
fn a_projection_skips_the_rest() {
    let schema = r#"{"type": "record", "name": "Project", "namespace": "elsewhere", "fields": [
        {"name": "before", "type": ["null", {"type": "fixed", "name": "F", "size": 3}]},
        {"name": "count", "type": "long"},
        {"name": "tree", "type": {"type": "map", "values": {"type": "array", "items": ["string", "double"]}}},
        {"name": "kind", "type": {"type": "enum", "name": "E", "symbols": ["A", "B"]}},
        {"name": "name", "type": "string"},
        {"name": "after", "type": "string"}]}"#;
    let value = json!({"before": "abc", "count": 7, "tree": {"k": ["v", 1.5]}, "kind": "B", "name": "n", "after": "z"});
    assert_eq!(read::<Project>(schema, &value), Ok(Project { name: "n".into(), count: 7 }));

    let (mut wire, known) = written(schema, &value);
    let mut decoder = Decoder::<Project>::new(known);
    for len in 10..wire.len() {
        let error = decoder.decode(&wire[..len]).expect_err("cut off");
        assert!(error.position <= len && error.field != "-", "{error}");
    }
    *wire.last_mut().expect("a byte") = 0xff;
    let error = decoder.decode(&wire).expect_err("skipped, and no text").to_string();
    assert!(error.starts_with("field after at byte"), "{error}");
    assert!(error.ends_with("a string that is not UTF-8"), "{error}");
    wire.push(0);
    *wire.last_mut().expect("a byte") = b'z';
    let at = wire.len() - 2;
    wire[at] = b'z';
    assert!(decoder.view(&wire).expect_err("a byte too many").to_string().contains("1 bytes are left over"));
}

#[test]
fn views_walk_what_another_schema_wrote() {
    let schema = r#"{"type": "record", "name": "Held", "fields": [
        {"name": "by_name", "type": {"type": "map", "values": {"type": "record", "name": "Spot", "fields": [
            {"name": "x", "type": "int"}, {"name": "gone", "type": "string"}, {"name": "y", "type": "float"}]}}},
        {"name": "lists", "type": {"type": "array", "items": {"type": "array", "items": "int"}}}]}"#;
    let value = json!({"by_name": {"k": {"x": 1, "gone": "g", "y": 2.5}}, "lists": [[1, -2], [], [3]]});
    let (wire, known) = written(schema, &value);
    let mut decoder = Decoder::<Held>::new(known);
    let view = decoder.view(&wire).expect("an older form");
    let lists = view.lists.iter().map(|list| list.iter().collect::<Vec<_>>()).collect::<Vec<_>>();
    assert_eq!(lists, [vec![1, -2], vec![], vec![3]]);
    let spot = view.by_name.get("k").expect("an entry");
    assert_eq!((spot.x, spot.y, spot.label), (1, 2.5, "none"));
    let owned = read::<Held>(schema, &value).expect("an older form");
    assert_eq!(owned.by_name["k"], Spot { y: 2.5, x: 1, label: "none".into() });
}

#[test]
fn records_that_contain_themselves_are_resolved() {
    let schema = r#"{"type": "record", "name": "Chain", "fields": [
        {"name": "n", "type": "int"}, {"name": "next", "type": ["Chain", "null"]}]}"#;
    let value = json!({"n": 1, "next": {"n": 2, "next": null}});
    let last = Chain { note: "-".into(), n: 2, next: None };
    assert_eq!(read::<Chain>(schema, &value), Ok(Chain { note: "-".into(), n: 1, next: Some(Box::new(last)) }));
    // The number of the branch and the number, over and over.
    let (mut wire, known) = written(schema, &value);
    wire.truncate(10);
    wire.extend_from_slice(&[2, 0].repeat(100_000));
    let error = Decoder::<Chain>::new(known).decode(&wire).expect_err("too deep").to_string();
    assert!(error.contains("records nested more than 128 deep"), "{error}");
    assert!(error.starts_with("field next.next.next."), "{error}");
}

/// Items of nothing become items of something: a few bytes must not become a large array.
#[test]
fn items_that_take_no_bytes_stay_few() {
    let schema = r#"{"type": "record", "name": "Many", "fields": [
        {"name": "items", "type": {"type": "array", "items": {"type": "record", "name": "Grown", "fields": []}}}]}"#;
    assert_eq!(read::<Many>(schema, &json!({"items": [{}, {}]})).expect("two items").items.len(), 2);
    let (mut wire, known) = written(schema, &json!({"items": []}));
    wire.truncate(10);
    // 65,536 items, as many as may take no bytes.
    wire.extend_from_slice(&[0x80, 0x80, 0x08, 0]);
    let mut decoder = Decoder::<Many>::new(known);
    let error = decoder.decode(&wire).expect_err("too many").to_string();
    assert!(error.contains("items that take no bytes, and more than 1048576 of memory"), "{error}");
    let view = decoder.view(&wire).expect("a view takes no memory");
    assert_eq!(view.items.iter().filter(|item| item.b == 1).count(), 65_536);
}

#[test]
fn unions_are_resolved_both_ways() {
    let schema = r#"{"type": "record", "name": "Choice", "fields": [
        {"name": "narrow", "type": ["int", "string", "null"]},
        {"name": "wide", "type": ["float", {"type": "record", "name": "Spot", "fields": [
            {"name": "x", "type": "int"}, {"name": "y", "type": "int"}]}, "bytes"]},
        {"name": "maybe", "type": "int"}]}"#;
    let choice = |wide: serde_json::Value, narrow: serde_json::Value| {
        read::<Choice>(schema, &json!({"wide": wide, "narrow": narrow, "maybe": 5}))
    };
    let read = choice(json!(1.5), json!("text")).expect("branches that are known");
    assert_eq!(read, Choice { wide: 1.5.into(), narrow: "text".into(), maybe: Some(5) });
    let read = choice(json!({"x": 1, "y": 2}), json!("text")).expect("branches that are known");
    assert_eq!(read.wide, Spot { y: 2.0, x: 1, label: "none".into() }.into());
    // A branch that cannot be read is an error where it is met, and only there.
    let error = choice(json!(1.5), json!(3)).expect_err("an int");
    let why = "field narrow at byte 10: int was written where string is read (rule: type mismatch)";
    assert_eq!(error, why);
    let (from, to) = (DynamicSchema::parse(schema), DynamicSchema::parse(<Choice as Record>::SCHEMA.json));
    let problems = incompatibilities(&from.expect("a schema"), &to.expect("a schema"));
    assert_eq!(problems.iter().map(|problem| &*problem.path).collect::<Vec<_>>(), ["narrow", "narrow"]);
    assert!(problems.iter().all(|problem| problem.only_when_met));
}

#[test]
fn every_incompatibility_is_named() {
    let writer = r#"{"type": "record", "name": "R", "fields": [
        {"name": "lines", "type": {"type": "array", "items": {"type": "record", "name": "L", "fields": [
            {"name": "price", "type": {"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": 2}},
            {"name": "key", "type": {"type": "fixed", "name": "K", "size": 4}}]}}},
        {"name": "kind", "type": {"type": "enum", "name": "E", "symbols": ["A", "B"]}},
        {"name": "other", "type": {"type": "record", "name": "Other", "fields": []}},
        {"name": "maybe", "type": ["null", "int"]},
        {"name": "at", "type": {"type": "long", "logicalType": "timestamp-millis"}},
        {"name": "amout", "type": "int"}]}"#;
    let reader = r#"{"type": "record", "name": "R", "fields": [
        {"name": "lines", "type": {"type": "array", "items": {"type": "record", "name": "L", "fields": [
            {"name": "price", "type": {"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": 3}},
            {"name": "key", "type": {"type": "fixed", "name": "K", "size": 8}}]}}},
        {"name": "kind", "type": {"type": "enum", "name": "E", "symbols": ["A"]}},
        {"name": "other", "type": {"type": "record", "name": "Another", "fields": []}},
        {"name": "maybe", "type": ["null", "string"]},
        {"name": "at", "type": {"type": "long", "logicalType": "timestamp-micros"}},
        {"name": "amount", "type": "int"}]}"#;
    let schemas = (DynamicSchema::parse(writer).expect("a schema"), DynamicSchema::parse(reader).expect("a schema"));
    let problems = incompatibilities(&schemas.0, &schemas.1);
    let found =
        problems.iter().map(|problem| (&*problem.path, problem.rule, problem.only_when_met)).collect::<Vec<_>>();
    assert_eq!(
        found,
        [
            ("lines[].price", "decimal scale", false),
            ("lines[].key", "fixed size", false),
            ("kind", "enum symbol", true),
            ("other", "name mismatch", false),
            ("maybe", "union branch", true),
            ("at", "logical type", false),
            ("amount", "missing default", false),
        ]
    );
    assert_eq!(
        problems[0].to_string(),
        "field lines[].price: decimal(9,2) was written where decimal(9,3) is read (rule: decimal scale)"
    );
    assert!(problems[6].message.ends_with("did you mean \"amout\"?"), "{}", problems[6]);
    assert_eq!(incompatibilities(&schemas.0, &schemas.0), []);
}

/// The dynamic side and the generated types follow the same steps.
#[test]
fn containers_are_resolved_as_types_are() {
    let schema = r#"{"type": "record", "name": "Held", "fields": [
        {"name": "by_name", "type": {"type": "map", "values": {"type": "record", "name": "Spot", "fields": [
            {"name": "x", "type": "int"}, {"name": "y", "type": "float"}]}}},
        {"name": "lists", "type": {"type": "array", "items": {"type": "array", "items": "int"}}}]}"#;
    let old = apache_avro::Schema::parse_str(schema).expect("a schema");
    let value = json!({"by_name": {"k": {"x": 1, "y": 2.5}}, "lists": [[1, -2], [3]]});
    let (wire, _) = written(schema, &value);
    let mut file = apache_avro::Writer::new(&old, Vec::new()).expect("a writer");
    file.append_value(super::theirs(&old, &wire[10..], None)).expect("appended");
    let file = file.into_inner().expect("a file");
    let target = DynamicSchema::parse(<Held as Record>::SCHEMA.json).expect("a schema");
    let datums = container_to_datums(file.as_slice(), &target).expect("a header").collect::<Result<Vec<_>, _>>();
    let shown = avro_to_json(&target, &datums.expect("records")[0]).expect("its own bytes");
    let expected = json!({"by_name": {"k": {"y": 2.5, "x": 1, "label": "none"}}, "lists": [[1, -2], [3]]});
    assert_eq!(shown, expected);
}

fn same<T: Debug>(decoded: Result<T, impl Debug>, viewed: Result<T, impl Debug>) -> Result<(), TestCaseError> {
    prop_assert_eq!(format!("{decoded:?}"), format!("{viewed:?}"));
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_bytes_panic(bytes in proptest::collection::vec(prop_oneof![0_u8..8, any::<u8>()], 0..100)) {
        let schemas = [
            r#"{"type": "record", "name": "Held", "fields": [
                {"name": "gone", "type": {"type": "array", "items": ["null", "string"]}},
                {"name": "by_name", "type": {"type": "map", "values": {"type": "record", "name": "Spot", "fields": [
                    {"name": "x", "type": "int"}, {"name": "gone", "type": "string"}, {"name": "y", "type": "float"}]}}},
                {"name": "lists", "type": {"type": "array", "items": {"type": "array", "items": "int"}}}]}"#,
            r#"{"type": "record", "name": "Chain", "fields": [
                {"name": "n", "type": "int"}, {"name": "next", "type": ["Chain", "null"]}]}"#,
        ];
        for (schema, value) in schemas.iter().zip([
            json!({"gone": [], "by_name": {}, "lists": []}),
            json!({"n": 1, "next": null}),
        ]) {
            let (mut wire, known) = written(schema, &value);
            wire.truncate(10);
            wire.extend_from_slice(&bytes);
            let mut held = Decoder::<Held>::new(known.clone());
            let decoded = held.decode(&wire);
            same(decoded, held.view(&wire).map(|view| <Held as Value>::own(&view)))?;
            let mut chain = Decoder::<Chain>::new(known);
            let decoded = chain.decode(&wire);
            same(decoded, chain.view(&wire).map(|view| <Chain as Value>::own(&view)))?;
        }
    }
}

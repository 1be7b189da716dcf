//! Names over several files, fingerprints by the specification's vectors, and what errors say.

use gretchen_schema::{Schemas, Source, fingerprint};

fn parse(texts: &[&str]) -> Result<Schemas, String> {
    let names = ["a.avsc", "b.avsc", "c.avsc"];
    let sources = texts.iter().zip(names).map(|(text, name)| Source { name, text }).collect::<Vec<_>>();
    Schemas::parse(&sources).map_err(|error| error.to_string())
}

/// From `share/test/data/schema-tests.txt` of apache/avro.
#[test]
fn fingerprints_equal_the_published_ones() {
    for (json, expected) in [
        (r#""null""#, 7_195_948_357_588_979_594_i64),
        (r#""int""#, 8_247_732_601_305_521_295),
        (r#"{"type": "string"}"#, -8_142_146_995_180_207_161),
        (r#"{"name":"foo","type":"fixed","size":15}"#, 1_756_455_273_707_447_556),
        (r#"{"type":"record", "fields":[], "name":"foo"}"#, -4_824_392_279_771_201_922),
        (r#"{"type":"record", "fields":[{"type":"boolean", "name":"f1"}], "name":"foo"}"#, 7_843_277_075_252_814_651),
    ] {
        let schemas = parse(&[json]).expect("a schema");
        assert_eq!(schemas.fingerprint(&schemas.roots()[0]) as i64, expected, "{json}");
    }
}

#[test]
fn a_logical_type_is_not_part_of_the_fingerprint() {
    let decimal = r#"{"type":"bytes","logicalType":"decimal","precision":9,"scale":2}"#;
    let schemas = parse(&[decimal]).expect("a schema");
    let found = schemas.fingerprint(&schemas.roots()[0]);
    assert_eq!(found, fingerprint(r#""bytes""#));
    assert_eq!(found as i64, 5_746_618_253_357_095_269, "the published fingerprint of bytes");
    assert_eq!(schemas.type_name(&schemas.roots()[0]), "decimal(9,2)");
    assert_eq!(
        schemas.full_json(&schemas.roots()[0]),
        r#"{"type":"bytes","logicalType":"decimal","precision":9,"scale":2}"#
    );
}

#[test]
fn files_name_each_others_types_in_any_order() {
    let order = r#"{"type": "record", "name": "shop.Order", "fields": [
        {"name": "lines", "type": {"type": "array", "items": "Line"}},
        {"name": "last", "type": ["null", "shop.Line"], "default": null, "doc": "If any.", "aliases": ["latest"]}]}"#;
    let line = r#"{"type": "record", "name": "Line", "namespace": "shop", "fields": [{"name": "n", "type": "int"}]}"#;
    let schemas = parse(&[order, line]).expect("schemas");
    let json = schemas.full_json(&schemas.roots()[0]);
    assert_eq!(
        json,
        concat!(
            r#"{"name":"shop.Order","type":"record","fields":[{"name":"lines","type":{"type":"array","items":"#,
            r#"{"name":"shop.Line","type":"record","fields":[{"name":"n","type":"int"}]}}},"#,
            r#"{"name":"last","type":["null","shop.Line"],"doc":"If any.","aliases":["latest"],"default":null}]}"#
        )
    );
    let again = parse(&[&json]).expect("its own text");
    assert_eq!(again.full_json(&again.roots()[0]), json);
    assert_eq!(again.fingerprint(&again.roots()[0]), schemas.fingerprint(&schemas.roots()[0]));
}

#[test]
fn errors_say_where_and_what_to_do() {
    let field =
        |ty: &str| format!("{{\"type\": \"record\", \"name\": \"R\", \"fields\": [\n  {{\"name\": \"f\", {ty}}}]}}");
    let cases = [
        ("{\n  \"type\" 3}".to_owned(), "a.avsc:2:"),
        (String::new(), "a.avsc:1:1: the file is empty"),
        ("[".repeat(100), "a.avsc:1:65: nested deeper than 64 levels"),
        (field("\"type\": \"strin\""), "a.avsc:2:25: unknown type \"strin\"; did you mean \"string\"?"),
        (field("\"type\": \"int\", \"default\": \"x\""), "default \"x\" does not fit int: write a whole number"),
        (field("\"type\": \"int\", \"default\": 3000000000"), "a.avsc:2:43: default 3000000000 does not fit int"),
        (field("\"type\": \"int\", \"logicalType\": \"date\""), "\"logicalType\" belongs into the type"),
        (field("\"type\": []"), "the union is empty"),
        (field("\"type\": [\"int\", \"int\"]"), "the union has this type already"),
        (field("\"type\": \"R\""), "a.avsc:1:28: record \"R\" contains itself without end"),
        (
            field("\"type\": {\"type\": \"bytes\", \"logicalType\": \"decimal\", \"precision\": 2, \"scale\": 3}"),
            "scale 3 is more than precision 2",
        ),
        (field("\"type\": {\"type\": \"bytes\", \"logicalType\": \"decimal\"}"), "the decimal has no precision"),
        (r#"{"type": "enum", "name": "E", "symbols": []}"#.into(), "the enum has no symbols"),
        (r#"{"type": "enum", "name": "E", "symbols": ["A", "A"]}"#.into(), "symbol \"A\" stands twice"),
        (r#"{"type": "enum", "name": "E", "symbols": ["A-B"]}"#.into(), "\"A-B\" cannot be a name"),
        (r#"{"type": "enum", "name": "E", "symbols": ["AB", "C"], "default": "CC"}"#.into(), "did you mean \"C\"?"),
        (r#"{"type": "fixed", "name": "9", "size": 1}"#.into(), "\"9\" cannot be a name"),
        (r#"{"type": "fixed", "name": "F"}"#.into(), "the fixed has no size"),
        (
            r#"{"type": "fixed", "name": "F", "size": 2, "logicalType": "decimal", "precision": 5}"#.into(),
            "this one holds 4 digits",
        ),
        (
            r#"{"type": "record", "name": "R", "fields": [{"name": "a", "type": "int"}, {"name": "a", "type": "int"}]}"#
                .into(),
            "field \"a\" stands already at a.avsc:1:53",
        ),
        (r#"{"type": "record", "type": "enum"}"#.into(), "key \"type\" stands twice"),
    ];
    for (text, expected) in cases {
        let error = parse(&[&text]).expect_err(&text);
        assert!(error.contains(expected), "{text}\n  gave     {error}\n  expected {expected}");
    }
    let twice = r#"{"type": "fixed", "name": "F", "size": 1}"#;
    assert_eq!(
        parse(&[twice, twice]).expect_err("a name twice"),
        "b.avsc:1:27: \"F\" is defined already at a.avsc:1:27; rename one of the two"
    );
}

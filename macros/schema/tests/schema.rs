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
        ("{\"protocol\": \"Mail\", \"types\": []}".to_owned(), "a.avsc:1:1: a protocol, which is no schema"),
        ("[".repeat(10_000), "a.avsc:1:101: nested deeper than 100 levels"),
        (field("\"type\": \"strin\""), "a.avsc:2:25: unknown type \"strin\"; did you mean \"string\"?"),
        (field("\"type\": \"int\", \"default\": \"x\""), "default \"x\" does not fit int: write a whole number"),
        (field("\"type\": \"int\", \"default\": 3000000000"), "a.avsc:2:43: default 3000000000 does not fit int"),
        (field("\"type\": [\"int\", \"int\"]"), "the union has this type already"),
        (field("\"type\": \"R\""), "a.avsc:1:28: record \"R\" contains itself without end"),
        (field("\"type\": [\"R\"]"), "a.avsc:1:28: record \"R\" contains itself without end"),
        (field("\"type\": [\"int\", [\"null\", \"long\"]]"), "a.avsc:2:33: a union directly in a union"),
        (
            field("\"type\": [\"string\", {\"type\": \"string\", \"logicalType\": \"uuid\"}]"),
            "a.avsc:2:36: the union has this type already at a.avsc:2:26",
        ),
        (field("\"type\": \"double\", \"default\": \"NaN\""), "default \"NaN\" does not fit double: write a number"),
        (field("\"type\": [\"int\", \"string\"], \"default\": null"), "write a value of one of the union's types"),
        (field("\"type\": \"record\""), "\"record\" needs an object"),
        (r#"{"type": "enum", "name": "E", "symbols": []}"#.into(), "the enum has no symbols"),
        (r#"{"type": "enum", "name": "E", "symbols": ["A", "A"]}"#.into(), "symbol \"A\" stands twice"),
        (r#"{"type": "enum", "name": "E", "symbols": ["A-B"]}"#.into(), "\"A-B\" cannot be a name"),
        (r#"{"type": "enum", "name": "E", "symbols": ["AB", "C"], "default": "CC"}"#.into(), "did you mean \"C\"?"),
        (r#"{"type": "enum", "name": "E", "symbols": ["A"], "default": null}"#.into(), "the default is no text"),
        (r#"{"type": "recrd", "name": "R", "fields": []}"#.into(), "did you mean \"record\"?"),
        (field("\"type\": \"x\""), "unknown type \"x\"; define it here or add its file"),
        (r#"{"type": "fixed", "name": "9", "size": 1}"#.into(), "\"9\" cannot be a name"),
        (r#"{"type": "fixed", "name": "F"}"#.into(), "the fixed has no size"),
        (r#"{"type": "fixed", "name": "a..F", "size": 1}"#.into(), "\"\" cannot be a name"),
        (r#"{"type": "fixed", "name": "F", "namespace": "1a", "size": 1}"#.into(), "\"1a\" cannot be a name"),
        (r#"{"type": "fixed", "name": "bytes", "size": 1}"#.into(), "\"bytes\" is the name of a primitive type"),
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

fn ignored(text: &str) -> Vec<String> {
    parse(&[text]).expect("a schema").ignored().iter().map(ToString::to_string).collect()
}

#[test]
fn a_logical_type_never_makes_a_schema_unreadable() {
    for (text, base, expected) in [
        (r#"{"type": "bytes", "logicalType": "decimal"}"#, "bytes", "a.avsc:1:34: the decimal has no precision"),
        (r#"{"type": "bytes", "logicalType": "decimal", "precision": 2, "scale": 3}"#, "bytes", "scale 3 is more than"),
        (r#"{"type": "bytes", "logicalType": "decimal", "precision": "x"}"#, "bytes", "write a whole number"),
        (r#"{"type": "bytes", "logicalType": "decimal", "precision": 0}"#, "bytes", "precision 0 holds nothing"),
        (
            r#"{"type": "bytes", "logicalType": "decimal", "precision": 4000000000, "scale": 4000000000}"#,
            "bytes",
            "precision 4000000000 is more than 65536 digits",
        ),
        (
            r#"{"type": "string", "logicalType": "date"}"#,
            "string",
            "date does not stand on string; write \"type\": \"int\"",
        ),
        (r#"{"type": "long", "logicalType": "timestamp-milis"}"#, "long", "did you mean \"timestamp-millis\"?"),
        (r#"{"type": "fixed", "name": "F", "size": 11, "logicalType": "duration"}"#, "F", "a fixed of 12 bytes"),
        (
            r#"{"type": "fixed", "name": "F", "size": 2, "logicalType": "decimal", "precision": 5}"#,
            "F",
            "holds 4 digits",
        ),
    ] {
        let schemas = parse(&[text]).expect(text);
        assert_eq!(schemas.type_name(&schemas.roots()[0]), base, "{text}");
        let ignored = ignored(text);
        assert!(ignored.len() == 1 && ignored[0].contains(expected), "{text}\n  gave     {ignored:?}");
    }
    for unknown in [
        r#"{"type": "long", "logicalType": "time-nanos"}"#,
        r#"{"type": "string", "logicalType": "my-own"}"#,
        r#"{"type": "string", "logicalType": 7}"#,
        r#"{"type": "string", "avro.java.string": "String", "order": "ignore"}"#,
    ] {
        assert_eq!(ignored(unknown), [""; 0], "{unknown}");
    }
    let empty =
        r#"{"type": "record", "name": "R", "fields": [{"name": "f", "type": ["null"]}, {"name": "e", "type": []}]}"#;
    assert_eq!(ignored(empty), ["a.avsc:1:99: the union is empty; name at least one type"]);
    let misplaced =
        r#"{"type": "record", "name": "R", "fields": [{"name": "d", "type": "int", "logicalType": "date"}]}"#;
    assert!(ignored(misplaced)[0].contains("\"logicalType\" belongs into the type"));
}

/// To whoever has no use for the logical type they are defaults as any others.
#[test]
fn a_default_that_means_nothing_is_noted() {
    let default = |ty: &str, default: &str| {
        let ty = if ty.starts_with('{') { ty.to_owned() } else { format!("{{{ty}}}") };
        let field = format!(r#"{{"name": "f", "type": {ty}, "default": {default}}}"#);
        ignored(&format!(r#"{{"type": "record", "name": "R", "fields": [{field}]}}"#))
    };
    let decimal = r#""type": "bytes", "logicalType": "decimal", "precision": 3"#;
    let wide = r#""type": "bytes", "logicalType": "decimal", "precision": 60"#;
    let fixed = r#""type": "fixed", "name": "F", "size": 4, "logicalType": "decimal", "precision": 3"#;
    let big = r#""type": "bytes", "logicalType": "big-decimal""#;
    let uuid = r#""type": "string", "logicalType": "uuid""#;
    let logical = |base: &str, name: &str| format!(r#""type": "{base}", "logicalType": "{name}""#);
    let (date, time) = (logical("int", "date"), logical("int", "time-millis"));
    let (micros, at) = (logical("long", "time-micros"), logical("long", "timestamp-millis"));
    let far = "\\u0001".to_owned() + &"\\u0000".repeat(25);
    for (ty, right, wrong) in [
        (
            decimal,
            vec![r#""\u0003\u00e7""#, r#""\u00fc\u0019""#, r#""""#],
            vec![r#""\u0003\u00e8""#, r#""\u00fc\u0018""#],
        ),
        (fixed, vec![r#""\u00ff\u00ff\u00fc\u0019""#], vec![r#""\u0000\u0001\u0000\u0000""#]),
        (wide, vec![r#""\u007f\u0000\u0000""#], vec![far.as_str()]),
        (big, vec![r#""\u0002\u0007\u0002""#], vec![r#""\u0002\u0007""#, r#""\u0002\u0007\u0002\u0000""#, r#""""#]),
        (uuid, vec![r#""00000000-0000-0000-0000-00000000000A""#], vec![r#""""#, r#""0123456789abcdef""#]),
        (date.as_str(), vec!["-4371587", "2932896"], vec!["2932897", "-2147483648"]),
        (time.as_str(), vec!["0", "86399999"], vec!["-1", "86400000"]),
        (micros.as_str(), vec!["86399999999"], vec!["86400000000"]),
        (at.as_str(), vec!["-1", "253402207200999"], vec!["253402207201000", "-377705023202000"]),
    ] {
        for right in right {
            assert_eq!(default(ty, right), [""; 0], "{ty} {right}");
        }
        for wrong in wrong {
            let wrong = if wrong.starts_with(['"', '-']) || wrong.as_bytes()[0].is_ascii_digit() {
                wrong.to_owned()
            } else {
                format!("\"{wrong}\"")
            };
            let noted = default(ty, &wrong);
            assert!(noted.len() == 1 && noted[0].contains(" is no "), "{ty} {wrong}: {noted:?}");
            assert!(noted[0].starts_with("a.avsc:1:"), "{noted:?}");
        }
    }
    // Inside of other values, too.
    let list = format!(r#"{{"type": "array", "items": ["null", {{{date}}}]}}"#);
    assert_eq!(default(&list, "[]"), [""; 0]);
    let map = format!(r#"{{"type": "map", "values": {{{date}}}}}"#);
    assert!(default(&map, r#"{"a": 1, "b": 2147483647}"#)[0].contains("default 2147483647 is no date"));
}

#[test]
fn names_are_resolved_by_the_specification() {
    let text = r#"{"type": "record", "name": "a.b.R", "namespace": "ignored", "aliases": ["Old", "x.Old"], "fields": [
        {"name": "same", "type": {"type": "fixed", "name": "F", "size": 1}},
        {"name": "none", "type": {"type": "fixed", "name": "F", "namespace": "", "size": 2}},
        {"name": "other", "type": {"type": "error", "name": "E", "namespace": "c", "fields": [
            {"name": "r", "type": ["null", "a.b.R"]}, {"name": "e", "type": ["null", "E"]}]}},
        {"name": "again", "type": "F"},
        {"name": "nested", "type": {"type": {"type": {"type": "string"}}}},
        {"name": "only", "type": {"type": "enum", "name": "Only", "namespace": null, "symbols": ["A"]}},
        {"name": "only_again", "type": "Only"}]}"#;
    let schemas = parse(&[text]).expect("a schema");
    let named = schemas.named().map(|(_, named)| (named.name.as_str(), named.aliases.join(" "))).collect::<Vec<_>>();
    let none = String::new;
    assert_eq!(
        named,
        [("a.b.R", "a.b.Old x.Old".to_owned()), ("a.b.F", none()), ("F", none()), ("c.E", none()), ("Only", none())]
    );
    let json = schemas.full_json(&schemas.roots()[0]);
    assert!(json.contains(r#"{"name":"Only","type":"enum","namespace":"","symbols":["A"]}"#), "{json}");
    let again = parse(&[&json]).expect("its own text");
    assert_eq!(again.full_json(&again.roots()[0]), json);
    assert_eq!(again.canonical(&again.roots()[0]), schemas.canonical(&schemas.roots()[0]));
}

/// What the specification gives no meaning is metadata, to be kept and of no effect.
#[test]
fn attributes_without_a_meaning_are_kept() {
    let text = concat!(
        r#"{"name":"a.R","type":"record","fields":["#,
        r#"{"name":"sorted","type":"int","default":1,"order":"descending","pii":{"class":[1,2.5,null]}},"#,
        r#"{"name":"mine","type":{"type":"long","logicalType":"ticks","unit":"s","precision":3}},"#,
        r#"{"name":"amount","type":{"type":"bytes","logicalType":"decimal","precision":9,"scale":2,"currency":"EUR"}},"#,
        r#"{"name":"list","type":{"type":"array","items":{"type":"string","avro.java.string":"String"},"max":10}},"#,
        r#"{"name":"map","type":{"type":"map","values":["null",{"type":"bytes","logicalType":"mine"}],"java-key-class":"K"}},"#,
        r#"{"name":"either","type":["null",{"type":"array","items":{"type":"int","unit":"m"}},"string"],"default":null},"#,
        r#"{"name":"e","type":{"name":"a.E","type":"enum","symbols":["A"],"default":"A","since":"2.0"}},"#,
        r#"{"name":"f","type":{"name":"a.F","type":"fixed","size":12,"logicalType":"duration","note":""}},"#,
        r#"{"name":"g","type":{"name":"a.G","type":"fixed","size":3,"logicalType":"rgb"}},"#,
        r#"{"name":"again","type":{"type":"a.F","why":"a second one"}}],"owner":"shop","logicalType":"row","default":7}"#,
    );
    let schemas = parse(&[text]).expect("a schema");
    let root = &schemas.roots()[0];
    assert_eq!(schemas.root_json(0), text);
    assert_eq!(schemas.full_json(root), text);
    for word in
        ["order", "pii", "ticks", "currency", "avro.java", "max", "unit", "since", "note", "rgb", "why", "owner"]
    {
        assert!(!schemas.canonical(root).contains(word), "{word} in the canonical form");
    }
    assert_eq!(ignored(text), [""; 0]);
    // Those of a schema that is no definition, and of objects around a type.
    for (text, kept) in [
        (r#"{"type":"string","a":1}"#, r#"{"type":"string","a":1}"#),
        (r#"{"type":["null",{"type":"int","a":1}],"b":2}"#, r#"{"type":["null",{"type":"int","a":1}],"b":2}"#),
        (r#"{"type":{"type":{"type":"int","a":1},"a":2,"b":3},"c":4}"#, r#"{"type":"int","a":1,"b":3,"c":4}"#),
        (
            r#"{"type":{"name":"F","type":"fixed","size":1,"a":1},"a":2}"#,
            r#"{"type":{"name":"F","type":"fixed","size":1,"a":1},"a":2}"#,
        ),
        (r#"{"type":{"type":"array","items":"int"},"items":"x","n":1}"#, r#"{"type":"array","items":"int","n":1}"#),
    ] {
        let schemas = parse(&[text]).expect(text);
        assert_eq!(schemas.root_json(0), kept);
        assert_eq!(parse(&[kept]).expect(kept).root_json(0), kept);
    }
    // A logical type that means nothing where it stands must not come to mean something where it is written.
    for (text, kept) in [
        (r#"{"type":{"type":"int"},"logicalType":"date"}"#, r#""int""#),
        (
            r#"{"type":{"type":"bytes","logicalType":"decimal"},"precision":4}"#,
            r#"{"type":"bytes","logicalType":"decimal"}"#,
        ),
    ] {
        let schemas = parse(&[text]).expect(text);
        assert_eq!((schemas.root_json(0).as_str(), ignored(text).len()), (kept, 1));
    }
    let order = |order: &str| {
        format!(r#"{{"type": "record", "name": "R", "fields": [{{"name": "f", "type": "int", "order": {order}}}]}}"#)
    };
    assert_eq!(ignored(&order("\"Ignore\"")), [""; 0]);
    assert_eq!(
        ignored(&order("\"up\"")),
        ["a.avsc:1:82: \"up\" is no order; write \"ascending\" or \"descending\" or \"ignore\""]
    );
}

/// Written out, attributes may stand deeper than in any of the texts.
#[test]
fn attributes_are_no_deeper_than_what_is_read() {
    let deep = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
    for (levels, fits) in [(60, true), (62, true), (63, false), (90, false)] {
        let inner = format!(r#"{{"type": "fixed", "name": "F", "size": 1, "deep": {}}}"#, deep(levels));
        // 12 records of 3 levels each.
        let chain = (0..12).map(|n| record(n, &if n < 11 { format!("\"R{}\"", n + 1) } else { "\"F\"".to_owned() }));
        let chain = format!("[{}]", chain.collect::<Vec<_>>().join(","));
        match parse(&[&chain, &inner]) {
            Ok(schemas) => assert!(fits && parse(&[&schemas.root_json(0)]).is_ok(), "{levels}"),
            Err(error) => assert!(!fits && error.contains("nested deeper than 100 levels here"), "{levels}: {error}"),
        }
    }
}

fn record(name: usize, field: &str) -> String {
    format!(r#"{{"type": "record", "name": "R{name}", "fields": [{{"name": "f", "type": {field}}}]}}"#)
}

/// Records that name each other, 10,000 of them, whichever way they are connected and listed.
#[test]
fn a_chain_of_types_is_as_deep_as_one_that_is_nested() {
    type Connection = fn(usize) -> String;
    let connections: [Connection; 4] = [
        |next| format!("\"R{next}\""),
        |next| format!("[\"null\", \"R{next}\"]"),
        |next| format!("{{\"type\": \"array\", \"items\": \"R{next}\"}}"),
        |next| format!("[\"R{next}\"]"),
    ];
    for connection in connections {
        for backwards in [false, true] {
            let mut records = (0..9_999).map(|n| record(n, &connection(n + 1))).collect::<Vec<_>>();
            records.push(record(9_999, "\"int\""));
            if backwards {
                records.reverse();
            }
            let error = parse(&[&format!("[{}]", records.join(","))]).expect_err("a long chain");
            assert!(error.contains("is nested deeper than 100 types; flatten them"), "{error}");
        }
    }
    let mut cycle = (0..9_999).map(|n| record(n, &format!("\"R{}\"", n + 1))).collect::<Vec<_>>();
    cycle.push(record(9_999, "[\"null\", \"R0\"]"));
    let error = parse(&[&format!("[{}]", cycle.join(","))]).expect_err("a long cycle");
    assert!(error.contains("is more than 100 records deep"), "{error}");
}

#[test]
fn what_is_written_out_can_be_read_again() {
    // 30 records in records are 90 levels, and what is in the last may be no deeper than is read.
    let text = |extra: usize| {
        let mut records = (0..29).map(|n| record(n, &format!("\"R{}\"", n + 1))).collect::<Vec<_>>();
        let arrays = "{\"type\": \"array\", \"items\": ".repeat(extra);
        records.push(record(29, &format!("{arrays}\"int\"{}", "}".repeat(extra))));
        format!("[{}]", records.join(","))
    };
    let (mut read, mut refused) = (0, 0);
    for extra in 0..20 {
        match parse(&[&text(extra)]) {
            Ok(schemas) => {
                parse(&[&schemas.full_json(&schemas.roots()[0])]).expect("its own text");
                read += 1;
            }
            Err(error) => {
                assert!(error.contains("written out, the schema is nested deeper than 100 levels here"), "{error}");
                refused += 1;
            }
        }
    }
    assert!(read > 3 && refused > 3, "{read} read, {refused} refused");
}

/// Lists that are long and not deep: nothing here takes the square of their length.
#[test]
fn long_lists_are_read() {
    let symbols = (0..50_000).map(|n| format!("\"S{n}\"")).collect::<Vec<_>>().join(",");
    let text = format!(r#"{{"type": "enum", "name": "E", "symbols": [{symbols}]}}"#);
    assert!(parse(&[&text]).is_ok());
    let fields = (0..20_000).map(|n| format!(r#"{{"name": "f{n}", "type": "int"}}"#)).collect::<Vec<_>>().join(",");
    assert!(parse(&[&format!(r#"{{"type": "record", "name": "R", "fields": [{fields}]}}"#)]).is_ok());
    let branches =
        (0..20_000).map(|n| format!(r#"{{"type": "fixed", "name": "F{n}", "size": 1}}"#)).collect::<Vec<_>>();
    assert!(parse(&[&format!("[{}]", branches.join(","))]).is_ok());
}

/// Of each union every branch is tried, and in each of those every branch again.
#[test]
fn a_default_that_fits_nothing_is_not_tried_without_end() {
    let branch = |name: &str, last: &str| {
        format!(
            r#"{{"type": "record", "name": "{name}", "fields": [
                {{"name": "next", "type": ["null", "A", "B", "C"]}}, {{"name": "{last}", "type": "int", "default": 0}}]}}"#
        )
    };
    let default = format!("{}null{}", r#"{"next": "#.repeat(60), r#", "x": 1}"#.repeat(60));
    let text = format!(
        r#"[{}, {}, {}, {{"type": "record", "name": "R", "fields": [{{"name": "f", "type": ["null", "A", "B", "C"], "default": {default}}}]}}]"#,
        branch("A", "a"),
        branch("B", "b"),
        branch("C", "c"),
    );
    assert!(parse(&[&text]).is_err());
}

#[test]
fn types_that_contain_themselves_are_known() {
    let text = r#"[
        {"type": "record", "name": "A", "fields": [{"name": "b", "type": ["null", "B"]}, {"name": "l", "type": "L"}]},
        {"type": "record", "name": "B", "fields": [{"name": "a", "type": "A"}]},
        {"type": "record", "name": "L", "fields": [{"name": "l", "type": {"type": "array", "items": "L"}}]},
        {"type": "record", "name": "P", "fields": [{"name": "l", "type": "L"}]}]"#;
    let schemas = parse(&[text]).expect("schemas");
    let ids = schemas.named().map(|(id, _)| id).collect::<Vec<_>>();
    assert_eq!(ids.iter().map(|id| schemas.is_recursive(*id)).collect::<Vec<_>>(), [true, true, true, false]);
    assert!(schemas.needs_box(ids[0], ids[1]) && schemas.needs_box(ids[1], ids[0]));
    assert!(!schemas.needs_box(ids[2], ids[2]) && !schemas.needs_box(ids[0], ids[2]), "an array is a box already");
}

//! Values that another schema wrote, and container files.

use std::collections::HashMap;
use std::sync::Arc;

use gretchen::record::{
    Compression, ContainerWriter, Decoder, DynamicSchema, Record, SINGLE_OBJECT_MARKER, SchemaLookup, Value,
    container_to_datums, json_encoding_to_avro, json_to_avro,
};
use serde_json::json;

use super::{Order, order, their_bytes, theirs};

gretchen::records!("tests/schemas/reading.avsc");

use new::{Kind, Reading};

#[derive(Default)]
pub(super) struct Known(HashMap<u64, Arc<str>>);

impl SchemaLookup for Known {
    fn schema(&self, fingerprint: u64) -> gretchen::error::Result<Option<Arc<str>>> {
        Ok(self.0.get(&fingerprint).cloned())
    }
}

/// A value as a writer with that schema puts it on the wire, and a lookup that knows the schema.
pub(super) fn written(schema: &str, value: &serde_json::Value) -> (Vec<u8>, Arc<Known>) {
    let schema = DynamicSchema::parse(schema).expect("a schema");
    let mut wire = SINGLE_OBJECT_MARKER.to_vec();
    wire.extend_from_slice(&schema.fingerprint().to_le_bytes());
    json_to_avro(&schema, value, &mut wire).expect("a value that fits");
    (wire, Arc::new(Known(HashMap::from([(schema.fingerprint(), schema.json())]))))
}

/// An older form: an int that became a long, other order, a field less, a field more, another name, a new symbol.
const OLD: &str = r#"{"type": "record", "name": "Reading", "namespace": "old", "fields": [
    {"name": "kind", "type": {"type": "enum", "name": "Kind", "symbols": ["NEW", "HOT", "COLD"]}},
    {"name": "gone", "type": {"type": "array", "items": {"type": "map", "values": "string"}}},
    {"name": "sensor", "type": "string"},
    {"name": "number", "type": "int"},
    {"name": "level", "type": "float"},
    {"name": "path", "type": {"type": "array", "items": "int"}},
    {"name": "note", "type": "string"}]}"#;

#[test]
fn an_older_schema_is_resolved() {
    let value = json!({"kind": "COLD", "gone": [{"a": "b"}], "sensor": "s", "number": -3, "level": 1.5,
        "path": [1, 2, 3], "note": "n"});
    let (wire, known) = written(OLD, &value);
    let mut decoder = Decoder::<Reading>::new(known);
    let expected = Reading {
        id: -3,
        sensor: bytes::Bytes::from_static(b"s"),
        level: 1.5,
        path: vec![1, 2, 3],
        note: Some("n".into()),
        kind: Kind::Cold,
        added: "default".into(),
    };
    assert_eq!(decoder.decode(&wire).expect("an older reading"), expected);
    let view = decoder.view(&wire).expect("an older reading");
    assert_eq!((view.sensor, view.note, view.added), (&b"s"[..], Some("n"), "default"));

    let (wire, known) = written(OLD, &{
        let mut value = value;
        value["kind"] = json!("NEW");
        value
    });
    let mut decoder = Decoder::<Reading>::new(known);
    assert_eq!(decoder.decode(&wire).expect("a symbol that is not known").kind, Kind::Unknown);
}

/// apache-avro resolves the same datum to the same bytes.
#[test]
fn resolution_equals_apache_avro() {
    let writer = r#"{"type": "record", "name": "R", "fields": [{"name": "a", "type": "int"}, {"name": "x", "type": "string"},
        {"name": "b", "type": ["null", "long"]}]}"#;
    let reader = r#"{"type": "record", "name": "R", "fields": [{"name": "b", "type": ["null", "double"]},
        {"name": "a", "type": "long"}, {"name": "c", "type": "string", "default": "d"}]}"#;
    let (wire, _) = written(writer, &json!({"a": 300, "x": "x", "b": 7}));
    let (old, new) = (apache_avro::Schema::parse_str(writer), apache_avro::Schema::parse_str(reader));
    let (old, new) = (old.expect("a schema"), new.expect("a schema"));
    let expected = their_bytes(&new, theirs(&old, &wire[10..], Some(&new)));
    let mut file = apache_avro::Writer::new(&old, Vec::new()).expect("a writer");
    file.append_value(theirs(&old, &wire[10..], None)).expect("appended");
    let file = file.into_inner().expect("a file");
    let target = DynamicSchema::parse(reader).expect("a schema");
    let ours = container_to_datums(file.as_slice(), &target).expect("a header").collect::<Result<Vec<_>, _>>();
    assert_eq!(ours.expect("records"), [expected]);
}

#[test]
fn what_does_not_fit_names_both_schemas() {
    let mut wire = Vec::new();
    order().encode_value(&mut wire).expect("an order that fits");
    let mut decoder = Decoder::<Order>::new(Arc::new(Known::default()));
    assert_eq!(decoder.decode(&wire).expect("its own schema needs no lookup"), order());
    wire[3] ^= 1;
    let error = decoder.decode(&wire).expect_err("an unknown schema").to_string();
    assert!(error.contains("which the topic does not know"), "{error}");
    assert!(error.contains(&format!("shop.Order ({:016x})", <Order as Record>::SCHEMA.fingerprint)), "{error}");

    let (wire, known) = written(r#"{"type": "record", "name": "Order", "fields": []}"#, &json!({}));
    let error = Decoder::<Order>::new(known).decode(&wire).expect_err("an incompatible schema").to_string();
    assert!(error.contains("written with Order ("), "{error}");
    assert!(error.contains("cannot be read as shop.Order ("), "{error}");
    assert!(error.contains("field order_id: was not written and has no default"), "{error}");

    let cut = r#"{"type": "record", "name": "Order", "fields": [{"name": "order_id", "type": "int"}]}"#;
    let (wire, known) = written(cut, &json!({"order_id": 1}));
    assert!(Decoder::<Order>::new(known).decode(&wire[..10]).is_err());
}

#[test]
fn another_unit_is_refused() {
    let schema = |logical: &str| {
        let ty = format!(r#"{{"type": "long", "logicalType": "{logical}"}}"#);
        format!(
            r#"{{"type": "record", "name": "R", "fields": [{{"name": "at", "type": {ty}}}, {{"name": "z", "type": "int"}}]}}"#
        )
    };
    let old = apache_avro::Schema::parse_str(&schema("timestamp-millis")).expect("a schema");
    let file = apache_avro::Writer::new(&old, Vec::new()).expect("a writer").into_inner().expect("a file");
    let target = DynamicSchema::parse(&schema("timestamp-micros")).expect("a schema");
    let error = container_to_datums(file.as_slice(), &target).expect_err("another unit").to_string();
    assert!(error.contains("timestamp-millis was written where timestamp-micros is read"), "{error}");
}

#[test]
fn a_container_gives_its_records() {
    let schema = apache_avro::Schema::parse_str(<Order as Record>::SCHEMA.json).expect("a schema");
    let target = DynamicSchema::parse(<Order as Record>::SCHEMA.json).expect("a schema");
    let mut datum = Vec::new();
    order().encode(&mut datum).expect("an order that fits");
    let deflate = apache_avro::Codec::Deflate(apache_avro::DeflateSettings::default());
    for codec in [apache_avro::Codec::Null, deflate] {
        let mut writer = apache_avro::Writer::with_codec(&schema, Vec::new(), codec).expect("a writer");
        for _ in 0..3 {
            writer.append_value(theirs(&schema, &datum, None)).expect("appended");
            writer.flush().expect("a block of its own");
        }
        let file = writer.into_inner().expect("a file");
        let datums = container_to_datums(file.as_slice(), &target).expect("a header").collect::<Result<Vec<_>, _>>();
        assert_eq!(datums.expect("records"), vec![datum.clone(); 3]);
        let cut = &file[..file.len() - 20];
        let results = container_to_datums(cut, &target).expect("a header").collect::<Vec<_>>();
        assert_eq!((results.len(), results[1].is_ok()), (3, true));
        let error = results[2].as_ref().expect_err("cut off").to_string();
        assert!(error.contains("the container is broken: it ends in the middle"), "{error}");
    }
    assert!(container_to_datums(&b"order_id,customer"[..], &target).is_err());
}

/// What the generated type would refuse does not come into a topic from a file or a text either.
#[test]
fn what_means_nothing_is_refused_where_it_comes_in() {
    let target = DynamicSchema::parse(<Order as Record>::SCHEMA.json).expect("a schema");
    let contained = |writer: &str, datum: &[u8]| {
        let writer = DynamicSchema::parse(writer).expect("a schema");
        let mut file = Vec::new();
        let mut container = ContainerWriter::new(&mut file, &writer, Compression::Null).expect("a header");
        container.push(datum).and_then(|()| container.flush()).expect("a block");
        let datums = container_to_datums(file.as_slice(), &target).expect("a header").collect::<Result<Vec<_>, _>>();
        datums.map_err(|error| std::error::Error::source(&error).map(ToString::to_string).expect("a reason"))
    };
    let own = target.json();
    let good = [2, 2, b'C', 0, 2, 2, 5];
    assert_eq!(contained(&own, &good), Ok(vec![good.to_vec()]));
    let far = [2, 2, b'C', 0xfe, 0xff, 0xff, 0xff, 0x0f, 2, 2, 5];
    let long = [&good[..5], &[40], &[0x7f; 20]].concat();
    for (datum, expected) in [
        (&far[..], "field ordered_on at byte 8: 2147483647 is out of the range of a date"),
        (&long, "field amount at byte 26: a decimal of more than"),
    ] {
        let error = contained(&own, datum).expect_err("no value");
        assert!(error.contains(expected), "{error}");
        // Nor where only a part of it is as it was written.
        let other = own.replace("\"quantity\",\"type\":\"int\"", "\"quantity\",\"aliases\":[\"q\"],\"type\":\"int\"");
        let error = contained(&other.replace("\"order_id\",\"type\":\"long\"", "\"order_id\",\"type\":\"int\""), datum);
        assert!(error.expect_err("no value").contains(expected));
    }

    let text = json!({"order_id": 1, "customer": "C", "ordered_on": i32::MAX, "quantity": 1, "amount": "\u{5}"});
    let mut out = vec![7];
    let error = json_encoding_to_avro(&target, &text, &mut out).expect_err("no date").to_string();
    assert!(error.contains("field ordered_on: 2147483647 is out of the range of a date"), "{error}");
    let error = json_to_avro(&target, &text, &mut out).expect_err("no date").to_string();
    assert!(error.contains("field ordered_on: 2147483647 is out of the range of a date"), "{error}");
    assert_eq!(out, [7]);

    let times = r#"{"type": "long", "logicalType": "time-micros"}"#;
    let times = DynamicSchema::parse(times).expect("a schema");
    let promoted = |number: i64| {
        let writer = DynamicSchema::parse("\"int\"").expect("a schema");
        let (mut file, mut datum) = (Vec::new(), Vec::new());
        json_to_avro(&writer, &json!(number), &mut datum).expect("an int");
        let mut container = ContainerWriter::new(&mut file, &writer, Compression::Null).expect("a header");
        container.push(&datum).and_then(|()| container.flush()).expect("a block");
        container_to_datums(file.as_slice(), &times).expect("a header").all(|datum| datum.is_ok())
    };
    assert!(promoted(5) && !promoted(-5), "no time is before midnight");
    let float = DynamicSchema::parse("\"float\"").expect("a schema");
    assert!(json_to_avro(&float, &json!(1e39), &mut out).is_err());
    assert!(json_to_avro(&float, &json!("Infinity"), &mut out).is_ok());
}

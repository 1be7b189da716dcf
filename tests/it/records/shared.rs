//! apache/avro's own test data, from `tests/data/avro`: everything is as its other implementations have it.

use std::path::{Path, PathBuf};

use gretchen::error::ErrorKind;
use gretchen::record::{
    Compression, ContainerWriter, DynamicSchema, Input, Record, Value as _, avro_to_json, avro_to_json_encoding,
    container_to_datums, json_encoding_to_avro, split_single_object,
};
use serde_json::{Value, json};

use super::theirs;

/// Types of their schemas; what defines the same name stands in a module of its own.
mod types {
    pub(super) mod request {
        gretchen::records!("tests/data/avro/schemas/HandshakeRequest.avsc");
    }
    pub(super) mod response {
        gretchen::records!("tests/data/avro/schemas/HandshakeResponse.avsc");
    }
    gretchen::records!(
        "tests/data/avro/data/messageV1/test_schema.avsc",
        "tests/data/avro/data/schemas/simple/schema.json",
        "tests/data/avro/data/schemas/withUnion/schema.json",
        "tests/data/avro/schemas/FooBarSpecificRecord.avsc",
        "tests/data/avro/schemas/Json.avsc",
        "tests/data/avro/schemas/RecordWithRequiredFields.avsc",
        "tests/data/avro/schemas/fooBar.avsc",
        "tests/data/avro/schemas/interop.avsc",
        "tests/data/avro/schemas/reserved.avsc",
        "tests/data/avro/schemas/weather.avsc"
    );
}

use types::org::apache::avro;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/avro")
}

fn bytes(path: &str) -> Vec<u8> {
    std::fs::read(folder().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn text(path: &str) -> String {
    String::from_utf8(bytes(path)).expect("text")
}

fn schema(path: &str) -> DynamicSchema {
    DynamicSchema::parse_named(path, &text(path)).expect("a schema")
}

fn schema_of<R: Record>() -> DynamicSchema {
    DynamicSchema::parse(R::SCHEMA.json).expect("a schema")
}

/// The datums of a container.
fn datums(file: &[u8], schema: &DynamicSchema) -> Vec<Vec<u8>> {
    container_to_datums(file, schema).and_then(Iterator::collect).expect("a container")
}

fn shown(path: &str, schema: &DynamicSchema) -> Vec<Value> {
    let show = |datum: &Vec<u8>| avro_to_json_encoding(schema, datum).expect("a datum");
    datums(&bytes(path), schema).iter().map(show).collect()
}

/// `schema-tests.txt`: a schema, its canonical form, and the fingerprint of that.
#[test]
fn canonical_forms_and_fingerprints_are_those_of_the_schema_tests() {
    let text = text("data/schema-tests.txt");
    let (mut input, mut canonical, mut here) = (String::new(), String::new(), false);
    let (mut forms, mut fingerprints) = (0, 0);
    for line in text.lines().filter(|line| !line.starts_with(['#', '/'])) {
        if line == "INPUT" {
            here = false;
        } else if here {
            input.push_str(line);
        } else if line == "<<INPUT" {
            (here, input) = (true, String::new());
        } else if let Some(one) = line.strip_prefix("<<INPUT ") {
            input = one.to_owned();
        } else if let Some(form) = line.strip_prefix("<<canonical ") {
            canonical = form.to_owned();
            let schema = DynamicSchema::parse(&input).unwrap_or_else(|error| panic!("{error}: {input}"));
            assert_eq!(schema.canonical(), canonical, "{input}");
            assert_eq!(DynamicSchema::parse(form).expect("a schema").canonical(), canonical);
            forms += 1;
        } else if let Some(number) = line.strip_prefix("<<fingerprint ") {
            let schema = DynamicSchema::parse(&canonical).expect("a schema");
            assert_eq!(schema.fingerprint() as i64, number.parse::<i64>().expect("a number"), "{canonical}");
            fingerprints += 1;
        } else {
            assert!(line.trim().is_empty(), "{line}");
        }
    }
    assert_eq!((forms, fingerprints), (34, 26));
}

/// As fastavro 1.13.1 prints them. apache-avro has others for the schemas with a logical type or an order.
const FINGERPRINTS: [(&str, u64); 9] = [
    ("FooBarSpecificRecord", 0x0e52_2a59_984c_949b),
    ("HandshakeRequest", 0x5757_7c5a_9ed7_6ab9),
    ("HandshakeResponse", 0x0ea5_4ede_01ee_fe00),
    ("Json", 0xd38d_79f4_7ff9_b3d7),
    ("RecordWithRequiredFields", 0xbfda_4950_3ffd_040b),
    ("fooBar", 0x17df_db6a_8660_5e11),
    ("interop", 0xa4b5_a0a6_930a_2ce8),
    ("reserved", 0x5041_253c_9704_3b86),
    ("weather", 0x9d56_4df7_7eac_7dcb),
];

#[test]
fn every_schema_is_read_and_no_protocol_is() {
    let (mut read, mut refused) = (0, 0);
    for file in folder().join("schemas").read_dir().expect("the schemas") {
        let path = file.expect("a file").path();
        let text = std::fs::read_to_string(&path).expect("text");
        let parsed = DynamicSchema::parse(&text);
        if path.extension().is_some_and(|extension| extension == "avpr") {
            let error = parsed.expect_err("a protocol").to_string();
            assert!(error.contains(":1: a protocol, which is no schema"), "{error}");
            // The types that it lists are schemas, which name each other.
            let protocol: Value = serde_json::from_str(&text).expect("JSON");
            let types = protocol["types"].as_array().expect("a list").iter().enumerate();
            let fields = types.map(|(number, ty)| json!({"name": format!("f{number}"), "type": ty}));
            let all = json!({"type": "record", "name": "All", "namespace": protocol["namespace"],
                "fields": fields.collect::<Vec<_>>()});
            DynamicSchema::parse(&all.to_string()).expect("its types");
            refused += 1;
        } else {
            let schema = parsed.expect("a schema");
            let name = path.file_stem().and_then(|name| name.to_str()).expect("a name");
            let expected = FINGERPRINTS.iter().find(|(known, _)| *known == name).map(|(_, fingerprint)| *fingerprint);
            assert_eq!(Some(schema.fingerprint()), expected, "{name}");
            assert_eq!(DynamicSchema::parse(&schema.json()).expect("its own text"), schema);
            read += 1;
        }
    }
    assert_eq!((read, refused), (9, 4));
}

/// The types that are generated of the schemas have what the schemas say.
#[test]
fn generated_types_are_of_their_schemas() {
    fn check<R: Record>(name: &str, file: &str) {
        assert_eq!(R::SCHEMA.name, name);
        assert_eq!(R::SCHEMA.fingerprint, schema(file).fingerprint(), "{file}");
    }
    check::<avro::Interop>("org.apache.avro.Interop", "schemas/interop.avsc");
    check::<avro::FooBarSpecificRecord>("org.apache.avro.FooBarSpecificRecord", "schemas/FooBarSpecificRecord.avsc");
    check::<avro::RecordWithRequiredFields>(
        "org.apache.avro.RecordWithRequiredFields",
        "schemas/RecordWithRequiredFields.avsc",
    );
    check::<avro::data::Json>("org.apache.avro.data.Json", "schemas/Json.avsc");
    check::<types::example::avro::Bar>("example.avro.Bar", "schemas/fooBar.avsc");
    check::<types::request::org::apache::avro::ipc::HandshakeRequest>(
        "org.apache.avro.ipc.HandshakeRequest",
        "schemas/HandshakeRequest.avsc",
    );
    check::<types::response::org::apache::avro::ipc::HandshakeResponse>(
        "org.apache.avro.ipc.HandshakeResponse",
        "schemas/HandshakeResponse.avsc",
    );
    assert_eq!(avro::test::Reserved::Class as usize, 1);
}

/// One reading a line in `weather.json`; the sorted file has them in the order of the schema, which ignores stations.
#[test]
fn weather_is_read_from_every_codec() {
    let schema = schema("schemas/weather.avsc");
    let expected = text("data/weather.json")
        .lines()
        .map(|line| serde_json::from_str(line).expect("a reading"))
        .collect::<Vec<Value>>();
    assert_eq!(expected.len(), 5);
    for codec in ["", "-deflate", "-snappy", "-zstd"] {
        assert_eq!(shown(&format!("data/weather{codec}.avro"), &schema), expected, "{codec}");
    }
    let mut sorted = expected.clone();
    sorted.sort_by_key(|reading| (reading["time"].as_i64(), reading["temp"].as_i64()));
    assert_eq!(shown("data/weather-sorted.avro", &schema), sorted);

    // The generated type reads the same, and a projection of it skips the rest.
    let file = bytes("data/weather-snappy.avro");
    for (datum, expected) in datums(&file, &schema_of::<types::test::Weather>()).iter().zip(&expected) {
        let weather = types::test::Weather::decode(&mut Input::new(datum)).expect("a reading");
        assert_eq!(json!({"station": weather.station, "time": weather.time, "temp": weather.temp}), *expected);
    }
    let temp = r#"{"type": "record", "name": "test.Weather", "fields": [{"name": "temp", "type": "int"}]}"#;
    let temps = shown("data/weather-deflate.avro", &DynamicSchema::parse(temp).expect("a schema"));
    assert_eq!(temps, [0, 22, -11, 111, 78].map(|temp| json!({"temp": temp})));
}

#[test]
fn codecs_that_are_not_here_are_named() {
    let weather = schema("schemas/interop.avsc");
    let error = container_to_datums(&bytes("interop/py_bzip2.avro")[..], &weather).expect_err("bzip2");
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.to_string().contains("packed with \"bzip2\"; write it anew with null, deflate"), "{error}");
    let mut file = b"Obj\x01\x02\x14avro.codec\x04xz\0".to_vec();
    file.extend_from_slice(&[0; 16]);
    let error = container_to_datums(&file[..], &weather).expect_err("xz").to_string();
    assert!(error.contains("packed with \"xz\""), "{error}");
    let error = container_to_datums(&bytes("data/test.avro12")[..], &weather).expect_err("an old file").to_string();
    assert!(error.contains("it looks like a container file of an older Avro"), "{error}");
}

/// What Python's Avro wrote of `interop.avsc`, and the same written here and read by apache-avro.
#[test]
fn interop_data_is_exchanged() {
    let expected = json!({
        "intField": 12, "longField": 15_234_324, "stringField": "hey", "boolField": true, "floatField": 1234.0,
        "doubleField": -1234.0, "bytesField": "12312adf", "nullField": null, "arrayField": [5.0, 0.0, 12.0],
        "mapField": {"a": {"label": "a"}, "bee": {"label": "cee"}}, "unionField": {"double": 12.0},
        "enumField": "C", "fixedField": "1019181716151413",
        "recordField": {"label": "blah", "children": [{"label": "inner", "children": []}]},
    });
    let schema = schema_of::<avro::Interop>();
    let apache = apache_avro::Schema::parse_str(&text("schemas/interop.avsc")).expect("a schema");
    for (codec, compression) in [
        ("null", Compression::Null),
        ("deflate", Compression::Deflate),
        ("snappy", Compression::Snappy),
        ("zstandard", Compression::Zstandard),
    ] {
        let path = format!("interop/py_{codec}.avro");
        assert_eq!(shown(&path, &schema), std::slice::from_ref(&expected), "{codec}");
        let datum = &datums(&bytes(&path), &schema)[0];
        let interop = avro::Interop::decode(&mut Input::new(datum)).expect("the record");
        assert_eq!((interop.int_field, interop.enum_field), (12, avro::Kind::C));
        assert_eq!(interop.union_field, avro::InteropUnionField::Double(12.0));
        assert_eq!(interop.record_field.children[0].label, "inner");
        // Python writes a list in blocks with their size, so the bytes may be others, and the value is the same.
        let mut own = Vec::new();
        interop.encode(&mut own).expect("what was read");
        assert_eq!(theirs(&apache, &own, None), theirs(&apache, datum, None));

        let mut file = Vec::new();
        let mut container = ContainerWriter::new(&mut file, &schema, compression).expect("a header");
        container.push(&own).and_then(|()| container.flush()).expect("a block");
        assert_eq!(datums(&file, &schema), [own], "{codec}");
    }
}

/// Requests and responses of a protocol, each in a container of its own.
#[test]
fn files_of_other_writers_are_read() {
    let kinds = r#"{"type": "record", "name": "TestRecord", "namespace": "org.apache.avro.test", "fields": [
        {"name": "name", "type": "string"},
        {"name": "kind", "type": {"type": "enum", "name": "Kind", "symbols": ["FOO", "BAR", "BAZ"]}},
        {"name": "hash", "type": {"type": "fixed", "name": "MD5", "size": 16}}]}"#;
    let record = |name: &str, fields: &str| format!(r#"{{"type": "record", "name": "{name}", "fields": [{fields}]}}"#);
    for (file, schema, expected) in [
        (
            "rpc/add/onePlusOne/request",
            record("add", r#"{"name": "arg1", "type": "int"}, {"name": "arg2", "type": "int"}"#),
            json!({"arg1": 1, "arg2": 1}),
        ),
        ("rpc/add/onePlusOne/response", "\"int\"".to_owned(), json!(2)),
        (
            "rpc/hello/world/request",
            record("hello", r#"{"name": "greeting", "type": "string"}"#),
            json!({"greeting": "Hello World!"}),
        ),
        ("rpc/hello/world/response", "\"string\"".to_owned(), json!("Hello World")),
        (
            "rpc/echo/foo/request",
            record("echo", &format!(r#"{{"name": "record", "type": {kinds}}}"#)),
            json!({"record": {"name": "Foo", "kind": "FOO", "hash": "0123456789012345"}}),
        ),
        ("rpc/echo/foo/response", kinds.to_owned(), json!({"name": "Foo", "kind": "FOO", "hash": "0123456789012345"})),
    ] {
        let schema = DynamicSchema::parse(&schema).expect("a schema");
        assert_eq!(shown(&format!("{file}.avro"), &schema), [expected], "{file}");
    }

    let simple = shown("data/schemas/simple/data.avro", &schema("data/schemas/simple/schema.json"));
    assert_eq!(simple, ["hello", "bonjour", "guten tag"].map(|text| json!({"text": text})));
    let unions = shown("data/schemas/withUnion/data.avro", &schema("data/schemas/withUnion/schema.json"));
    let expected = [
        json!({"data1": {"string": "textValue"}, "data2": null}),
        json!({"data1": {"int": 123}, "data2": {"inner": {"d1": {"boolean": false}}}}),
        json!({"data1": {"int": 3}, "data2": {"inner": {"d1": {"string": "text value"}}}}),
    ];
    assert_eq!(unions, expected);
    // "avro.sync" among the entries of the header is none of those that mean something.
    let person = r#"{"type": "record", "name": "Person", "fields": [
        {"name": "ID", "type": "long"}, {"name": "First", "type": "string"}, {"name": "Age", "type": "int"}]}"#;
    let people = shown("data/syncInMeta.avro", &DynamicSchema::parse(person).expect("a schema"));
    assert_eq!((people.len(), &people[0]), (6_001, &json!({"ID": 1, "First": "Dante", "Age": 32})));
}

/// A type decodes the message of Java and encodes it again to the byte.
#[test]
fn the_single_object_message_is_the_same_to_the_byte() {
    let message = bytes("data/messageV1/test_message.bin");
    let decoded = avro::TestMessage::decode_value(&message).expect("the message");
    let tags = vec!["dog_lover".to_owned(), "cat_hater".to_owned()];
    assert_eq!(decoded, avro::TestMessage { id: 42, name: "Bill".into(), tags });
    let mut again = Vec::new();
    decoded.encode_value(&mut again).expect("what was read");
    assert_eq!(again, message);

    let schema = schema("data/messageV1/test_schema.avsc");
    let (fingerprint, datum) = split_single_object(&message).expect("a header");
    assert_eq!(fingerprint, schema.fingerprint());
    let shown = avro_to_json(&schema, datum).expect("the message");
    assert_eq!(shown, json!({"id": 42, "name": "Bill", "tags": ["dog_lover", "cat_hater"]}));
    let mut written = Vec::new();
    json_encoding_to_avro(&schema, &shown, &mut written).expect("the message");
    assert_eq!(written, datum);
}

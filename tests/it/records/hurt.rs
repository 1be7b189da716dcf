//! Bytes that bring other readers down: an error each, on the stack of a worker thread and within a mebibyte.
//!
//! They are read by a process of its own, this test binary once more, so that its memory is that of the reading alone:
//! [`child`] is a test that returns at once unless it finds its variable in the environment.

use std::collections::HashMap;
use std::process::Command;
use std::sync::Arc;

use gretchen::record::{
    Decoder, DynamicSchema, Input, Record, SINGLE_OBJECT_MARKER, SchemaLookup, Translation, Value, avro_to_json,
    avro_to_json_encoding,
};

gretchen::records!("tests/schemas/hurt.avsc");

const VARIABLE: &str = "GRETCHEN_TEST_HURT";

/// The stack of a thread of tokio's.
const STACK_BYTES: usize = 2 << 20;

/// The fields of [`Hurt`] in their order, each as its shortest bytes.
const SHORTEST: [&[u8]; 12] = [&[0], &[0], &[0], &[0], &[0], &[0], &[0], &[0], &[0], &[0], &[0], &[6, 2, 0, 0]];

/// A value of which one field is these bytes, and of which nothing follows them.
fn ending(field: usize, bytes: &[u8]) -> Vec<u8> {
    [&SHORTEST[..field].concat(), bytes].concat()
}

fn whole(field: usize, bytes: &[u8]) -> Vec<u8> {
    [&ending(field, bytes), &SHORTEST[field + 1..].concat()[..]].concat()
}

/// Two thousand million, and what fits into five bytes.
const MANY: [u8; 5] = [0xfe, 0xff, 0xff, 0xff, 0x0f];

fn vectors() -> Vec<(String, Vec<u8>)> {
    let mut vectors = Vec::new();
    let mut add = |what: &str, bytes: Vec<u8>| vectors.push((what.to_owned(), bytes));
    // A value in a value in a value: by a union, an array, a map, a wide union.
    for count in [129, 344, 100_000] {
        add("next in next", vec![2; count]);
        add("children of children", [0, 0, 2].repeat(count));
        add("maps of maps", [0, 0, 0, 2, 0].repeat(count));
        add("any of any", [0, 0, 0, 0, 6].repeat(count));
    }
    // Counts, sizes and lengths that the bytes do not hold.
    for field in [1, 2, 3, 5, 6, 7] {
        add("a count", ending(field, &MANY));
        add("a count, and more bytes", whole(field, &[&MANY[..], &[0]].concat()));
        add("the largest count", ending(field, &[0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1]));
        add(
            "a negative count and a size",
            ending(field, &[0xfd, 0xff, 0xff, 0xff, 0x0f, 0xfe, 0xff, 0xff, 0xff, 0x0f]),
        );
        add("the least count", ending(field, &[&[0xff; 9][..], &[1, 0]].concat()));
        add("a negative size", ending(field, &[1, 1, 0]));
    }
    for field in [8, 9, 10, 11] {
        add("a length", ending(field, &MANY));
        add("the largest length", ending(field, &[0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1]));
        add("a negative length", whole(field, &[1]));
    }
    // Lists of nothing, each within bounds, all of them not.
    let nothings = [&[0x80, 0x80, 0x04][..], &[0]].concat();
    add("many lists of nothing", whole(7, &[&[0x40][..], &nothings.repeat(32), &[0]].concat()));
    // Numbers of a few bytes that are large when they are written down.
    add("a scale of two thousand million", ending(11, &[14, 2, 1, 0xfe, 0xff, 0xff, 0xff, 0x0f]));
    add("a number of too many bytes", ending(5, &[&[2][..], &[0xff; 11]].concat()));
    add("a branch that is not there", ending(4, &[8]));
    add("not UTF-8", whole(8, &[4, 0xc3, 0x28]));
    let valid = whole(8, &[8, b't', b'e', b'x', b't']);
    add("a byte left over", [&valid[..], &[0]].concat());
    for len in 0..valid.len() {
        add("cut off", valid[..len].to_vec());
    }
    vectors
}

struct Known(HashMap<u64, Arc<str>>);

impl SchemaLookup for Known {
    fn schema(&self, fingerprint: u64) -> gretchen::error::Result<Option<Arc<str>>> {
        Ok(self.0.get(&fingerprint).cloned())
    }
}

/// Every way to read a value, each with what became of it.
struct Ways {
    schema: DynamicSchema,
    translation: Translation,
    decoder: Decoder<Hurt>,
    other: u64,
}

impl Ways {
    fn new() -> Self {
        let schema = DynamicSchema::parse(<Hurt as Record>::SCHEMA.json).unwrap();
        // The same bytes under another fingerprint: the plan of every record has something to do.
        let mut other: serde_json::Value = serde_json::from_str(<Hurt as Record>::SCHEMA.json).unwrap();
        other["fields"][5]["type"]["items"] = "int".into();
        let other = DynamicSchema::parse(&other.to_string()).unwrap();
        let translation = Translation::compile(&other, &schema).unwrap();
        let known = Known(HashMap::from([(other.fingerprint(), other.json())]));
        Self { translation, decoder: Decoder::new(Arc::new(known)), other: other.fingerprint(), schema }
    }

    /// The bytes as they are, under the fingerprint of the type's own schema, and under the other.
    fn wires(&self, datum: &[u8]) -> [Vec<u8>; 3] {
        let wire = |fingerprint: u64| [&SINGLE_OBJECT_MARKER[..], &fingerprint.to_le_bytes(), datum].concat();
        [datum.to_vec(), wire(<Hurt as Record>::SCHEMA.fingerprint), wire(self.other)]
    }

    fn read(&mut self, [datum, own, other]: &[Vec<u8>; 3]) -> [(&'static str, Result<(), String>); 8] {
        fn told<T>(result: Result<T, gretchen::record::DecodeError>) -> Result<(), String> {
            result.map(drop).map_err(|error| error.to_string())
        }
        // A bare datum may be followed by others: whoever reads it looks at what is left.
        let bare = Hurt::decode(&mut Input::new(datum)).and_then(|hurt| {
            // It was read, so it has an end within the bytes.
            Hurt::decode_value(own).map(|_| hurt)
        });
        [
            ("bare", told(bare)),
            ("decode", told(Hurt::decode_value(own))),
            ("view", told(Hurt::view_value(own).map(|view| <Hurt as Record>::from_view(&view)))),
            ("decode, planned", told(self.decoder.decode(other))),
            ("view, planned", told(self.decoder.view(other).map(|view| <Hurt as Record>::from_view(&view)))),
            ("translation", told(self.translation.run(datum, &mut Vec::new()))),
            ("JSON", told(avro_to_json(&self.schema, datum))),
            ("JSON encoding", told(avro_to_json_encoding(&self.schema, datum))),
        ]
    }
}

/// A number of kibibytes from `/proc/self/status`.
fn status_kib(key: &str) -> i64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(key)).unwrap();
    line.trim_start_matches(':').trim().trim_end_matches(" kB").parse().unwrap()
}

#[test]
fn child() {
    if std::env::var_os(VARIABLE).is_none() {
        return;
    }
    let reading = || {
        let mut ways = Ways::new();
        let shortest = ways.wires(&SHORTEST.concat());
        for (way, result) in ways.read(&shortest) {
            assert_eq!(result, Ok(()), "{way}");
        }
        let vectors = vectors().into_iter().map(|(what, bytes)| (what, ways.wires(&bytes))).collect::<Vec<_>>();
        let (mut read, mut most, mut wrong) = (0, 0, Vec::new());
        for (what, wires) in &vectors {
            // From here on the peak is that of this reading.
            std::fs::write("/proc/self/clear_refs", "5").unwrap();
            // Pages of this program's file come and go as the system likes; the others are those that a reading takes.
            let own = |all: &str| status_kib(all) - status_kib("RssFile");
            let before = own("VmRSS");
            let results = ways.read(wires);
            let grew = own("VmHWM") - before;
            // The JSON of a list of nothing, whose items take no bytes, has as many nulls as one datum may have items.
            if what == "many lists of nothing" {
                assert!(grew < 8 << 10, "{what} takes {grew} KiB");
            } else if grew > most {
                println!("{what} ({} bytes) takes {grew} KiB", wires[0].len());
                most = grew;
            }
            for (way, result) in results {
                read += 1;
                match result {
                    Err(error) if error.contains("field ") && error.contains(" at byte ") => {}
                    // Neither looks into a big-decimal: the bytes around it are well.
                    Ok(()) if what.starts_with("a scale") && matches!(way, "translation" | "JSON encoding") => {}
                    other => wrong.push(format!("{what} ({} bytes), {way}: {other:?}", wires[0].len())),
                }
            }
        }
        println!("read {read}\ngrew {most}");
        wrong.iter().take(40).for_each(|wrong| println!("wrong {wrong}"));
    };
    std::thread::Builder::new().stack_size(STACK_BYTES).spawn(reading).unwrap().join().unwrap();
}

#[test]
fn every_vector_is_an_error_within_a_mebibyte() {
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "records::hurt::child", "--nocapture", "--test-threads=1"])
        .env(VARIABLE, "1")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{}\n{said}{}", output.status, String::from_utf8_lossy(&output.stderr));
    let number = |key: &str| said.lines().find_map(|line| line.strip_prefix(key)?.parse::<i64>().ok()).unwrap();
    assert!(!said.contains("wrong "), "{said}");
    assert!(number("read ") > 500, "{said}");
    assert!(number("grew ") < 1_024, "{said}");
}

#[test]
fn schemas_that_are_too_deep_are_refused() {
    let array =
        |levels: usize| format!("{}\"long\"{}", r#"{"type":"array","items":"#.repeat(levels), "}".repeat(levels));
    let union = |levels: usize| format!("{}\"null\"{}", "[".repeat(levels), "]".repeat(levels));
    let records = |levels: usize| {
        let open = (0..levels).map(|n| format!(r#"{{"type":"record","name":"R{n}","fields":[{{"name":"f","type":"#));
        format!("{}\"long\"{}", open.collect::<String>(), "}]}".repeat(levels))
    };
    for schema in [array(10_000), union(10_000), records(10_000), "[".repeat(10_000), "{\"type\":".repeat(10_000)] {
        let error = DynamicSchema::parse(&schema).expect_err("too deep").to_string();
        assert!(error.contains("nested deeper than"), "{error}");
    }
}

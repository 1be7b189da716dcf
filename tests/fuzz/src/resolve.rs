//! Bytes of one schema as values of another: plans of generated types agree with translations, and both with the
//! schema that they are for.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

use gretchen::record::{
    Decoder, DynamicSchema, Record, SINGLE_OBJECT_MARKER, SchemaLookup, Translation, Value, avro_to_json,
    avro_to_json_encoding, incompatibilities,
};
use serde_json::{Value as Json, json};

use crate::arbitrary::{Choices, Limits, Style, encode, evolve, random_datum, random_schema};
use crate::decode::{encoded, wire};
use crate::memory::within;
use crate::types;

/// A type's schema, and the check of a datum that another schema wrote.
type Kind = (DynamicSchema, fn(&DynamicSchema, &DynamicSchema, &[u8]));

static KINDS: LazyLock<Vec<Kind>> = LazyLock::new(|| {
    vec![
        kind::<types::Hurt>(),
        kind::<types::test::Everything>(),
        kind::<types::test::Meanings>(),
        kind::<types::test::unions::Unions>(),
        kind::<types::tree::Node>(),
        kind::<types::Top>(),
        kind::<types::shop::Order>(),
    ]
});

fn kind<R: Record + Value>() -> Kind {
    (DynamicSchema::parse(<R as Record>::SCHEMA.json).expect("the schema of a type"), check::<R>)
}

/// The first byte chooses between a type, whose schema the next ones change, and a schema made of the bytes.
pub fn run(bytes: &[u8]) {
    let Some((first, rest)) = bytes.split_first() else { return };
    let kinds = &*KINDS;
    match kinds.get(usize::from(*first) % (kinds.len() + 3)) {
        Some((reader, check)) => {
            let (changes, datum) = rest.split_at(rest.len().min(8));
            let Some(writer) = changed(reader, changes) else { return };
            check(&writer, reader, datum);
        }
        None => random(rest),
    }
}

/// The schema with a few changes to its fields, as an older program may have had it.
fn changed(schema: &DynamicSchema, changes: &[u8]) -> Option<DynamicSchema> {
    let mut json: Json = serde_json::from_str(&schema.json()).expect("JSON");
    for change in changes.chunks_exact(2) {
        change_at(&mut json, &mut usize::from(change[0]), change[1]);
    }
    DynamicSchema::parse(&json.to_string()).ok()
}

/// Walks to the field whose number it is, and changes it there.
fn change_at(json: &mut Json, number: &mut usize, change: u8) {
    match json {
        Json::Array(items) => items.iter_mut().for_each(|item| change_at(item, number, change)),
        Json::Object(object) => {
            if let Some(Json::Array(fields)) = object.get_mut("fields") {
                if *number < fields.len() {
                    change_field(fields, *number, change);
                }
                *number = number.wrapping_sub(fields.len());
                fields.iter_mut().for_each(|field| change_at(&mut field["type"], number, change));
            }
            for key in ["type", "items", "values"] {
                if let Some(inner @ (Json::Object(_) | Json::Array(_))) = object.get_mut(key) {
                    change_at(inner, number, change);
                }
            }
        }
        _ => {}
    }
}

fn change_field(fields: &mut Vec<Json>, at: usize, change: u8) {
    let ty = fields[at]["type"].clone();
    let narrower = |ty: &Json| match ty.as_str() {
        Some("long") => json!("int"),
        Some("double") => json!("float"),
        Some("float") => json!("long"),
        Some("string") => json!("bytes"),
        Some("bytes") => json!("string"),
        _ => ty.clone(),
    };
    match change % 8 {
        0 => drop(fields.remove(at)),
        1 => fields.rotate_left(at),
        2 => fields[at]["type"] = narrower(&ty),
        3 => fields[at]["type"] = json!(["null", ty]),
        4 => fields[at]["type"] = json!([ty, "boolean"]),
        5 => fields.insert(at, json!({"name": "added", "type": {"type": "map", "values": ["null", "string"]}})),
        6 => fields.swap(0, at),
        _ => match ty {
            Json::Array(mut branches) => {
                branches.rotate_left(1);
                fields[at]["type"] = Json::Array(branches);
            }
            mut other => {
                for key in ["items", "values"] {
                    if let Some(inner) = other.get_mut(key) {
                        *inner = narrower(inner);
                    }
                }
                fields[at]["type"] = other;
            }
        },
    }
    // What was a default of the type that it had may be none of this one.
    fields.iter_mut().filter_map(Json::as_object_mut).for_each(|field| drop(field.remove("default")));
}

struct Known(HashMap<u64, Arc<str>>);

impl SchemaLookup for Known {
    fn schema(&self, fingerprint: u64) -> gretchen::error::Result<Option<Arc<str>>> {
        Ok(self.0.get(&fingerprint).cloned())
    }
}

/// Planned decode against translation and plain decode.
fn check<R: Record + Value>(writer: &DynamicSchema, reader: &DynamicSchema, datum: &[u8]) {
    let bound = (4 << 20) + 256 * datum.len();
    let mut decoder = Decoder::<R>::new(Arc::new(Known(HashMap::from([(writer.fingerprint(), writer.json())]))));
    let other = [&SINGLE_OBJECT_MARKER[..], &writer.fingerprint().to_le_bytes(), datum].concat();
    let translated = match Translation::compile(writer, reader) {
        Ok(translation) => {
            let mut out = Vec::new();
            within(16 * bound, || translation.run(datum, &mut out)).map(|()| out)
        }
        Err(why) => {
            let planned = decoder.decode(&other).expect_err(&why.to_string());
            assert!(!incompatibilities(writer, reader).is_empty(), "{planned}");
            return;
        }
    };
    let planned = within(16 * bound, || decoder.decode(&other));
    let viewed = within(16 * bound, || decoder.view(&other).map(|view| <R as Value>::own(&view)));
    let translated = translated.and_then(|out| R::decode_value(&wire::<R>(&out)));
    match (planned, viewed, translated) {
        (Ok(planned), Ok(viewed), Ok(translated)) => {
            assert_eq!(encoded(&planned), encoded(&viewed));
            assert_eq!(encoded(&planned), encoded(&translated));
        }
        (Err(planned), Err(viewed), Err(_)) => assert_eq!(planned, viewed),
        (planned, viewed, translated) => {
            panic!("planned: {planned:?}\nviewed: {viewed:?}\ntranslated: {translated:?}\nwriter {}", writer.json())
        }
    }
}

/// A schema, a value and a later schema, made of the bytes; the value as it is and with one byte changed.
fn random(bytes: &[u8]) {
    let choices = &mut Choices::new(bytes);
    let (at, flip) = (usize::from(choices.byte()), choices.byte());
    let schema = random_schema(choices, &Style::ALL);
    let Some(datum) = random_datum(choices, &schema, &schema.root, &Limits::EXCHANGED) else { return };
    let mut bytes = Vec::new();
    encode(&schema, &schema.root, &datum, &mut bytes);
    let later = evolve(choices, &schema);
    let writer = schema.json().to_string();
    let writer = DynamicSchema::parse(&writer).unwrap_or_else(|error| panic!("{error}: {writer}"));
    // Among the changes are some that nobody may make, such as a record in itself.
    let Ok(reader) = DynamicSchema::parse(&later.json().to_string()) else { return };
    avro_to_json(&writer, &bytes).expect("a value of the schema");
    let same = Translation::compile(&writer, &writer).expect("a schema can be read as itself");
    let mut out = Vec::new();
    same.run(&bytes, &mut out).expect("a value of the schema");
    assert_eq!(out, bytes);
    let problems = incompatibilities(&writer, &reader);
    let translation = match Translation::compile(&writer, &reader) {
        Ok(translation) => translation,
        Err(why) => {
            assert!(!problems.is_empty(), "{why}");
            return;
        }
    };
    let mut run = |bytes: &[u8]| {
        out.clear();
        let ran = translation.run(bytes, &mut out);
        if ran.is_ok() {
            // What a decimal or a date means is not looked at.
            avro_to_json_encoding(&reader, &out).expect("a value of the reader's schema");
        }
        ran
    };
    match run(&bytes) {
        Ok(()) => {}
        // An empty list of problems says that every value can be read, of bytes those that are text.
        Err(why) => assert!(!problems.is_empty() || why.reason.ends_with("not UTF-8"), "{why}"),
    }
    if let Some(byte) = bytes.get_mut(at) {
        *byte ^= flip;
        let _ = run(&bytes);
    }
}

//! Bytes as values of generated types, and of the same schemas without a type: all ways agree.

use std::sync::LazyLock;

use gretchen::record::{
    DynamicSchema, Record, SINGLE_OBJECT_MARKER, Value, avro_to_json, avro_to_json_encoding, json_encoding_to_avro,
    json_to_avro,
};

use crate::memory::within;
use crate::types;

/// A schema and the check of one datum.
type Kind = (DynamicSchema, fn(&DynamicSchema, &[u8]));

static KINDS: LazyLock<Vec<Kind>> = LazyLock::new(|| {
    vec![
        kind::<types::Hurt>(),
        kind::<types::test::Everything>(),
        kind::<types::test::Meanings>(),
        kind::<types::test::unions::Unions>(),
        kind::<types::tree::Node>(),
        kind::<types::tree::Pair>(),
        kind::<types::tree::Heavy>(),
        kind::<types::Top>(),
        kind::<types::shop::Order>(),
    ]
});

fn kind<R: Record + Value>() -> Kind {
    (DynamicSchema::parse(<R as Record>::SCHEMA.json).expect("the schema of a type"), check::<R>)
}

/// The first byte chooses the type.
pub fn run(bytes: &[u8]) {
    if let Some((first, datum)) = bytes.split_first() {
        let kinds = &*KINDS;
        let (schema, check) = &kinds[usize::from(*first) % kinds.len()];
        check(schema, datum);
    }
}

/// What a value may take: a record of twelve bytes may be one of a few hundred in memory, in a list that grows by half
/// while the half before is still there.
fn bound(datum: &[u8]) -> usize {
    (1 << 20) + 128 * datum.len()
}

/// JSON is for people: a null is a byte less than none and still a value.
fn json_bound(datum: &[u8]) -> usize {
    (32 << 20) + 1_024 * datum.len()
}

/// A value with the header of its type's own schema.
pub(crate) fn wire<R: Record>(datum: &[u8]) -> Vec<u8> {
    [&SINGLE_OBJECT_MARKER[..], &R::SCHEMA.fingerprint.to_le_bytes(), datum].concat()
}

/// Encodings are compared, because NaN is not equal to itself.
pub(crate) fn encoded<R: Value>(value: &R) -> Vec<u8> {
    let mut out = Vec::new();
    value.encode_value(&mut out).expect("what was read can be written");
    out
}

fn check<R: Record + Value>(schema: &DynamicSchema, datum: &[u8]) {
    let wire = wire::<R>(datum);
    let decoded = within(bound(datum), || R::decode_value(&wire));
    let viewed = within(bound(datum), || R::view_value(&wire).map(|view| <R as Value>::own(&view)));
    let shown = within(json_bound(datum), || avro_to_json(schema, datum));
    let tagged = within(json_bound(datum), || avro_to_json_encoding(schema, datum));
    match (decoded, viewed) {
        (Ok(decoded), Ok(viewed)) => {
            let again = encoded(&decoded);
            assert_eq!(again, encoded(&viewed));
            let back = R::decode_value(&again).expect("what was written can be read");
            assert_eq!(again, encoded(&back));
            let shown = shown.expect("what a type reads can be shown");
            assert_eq!(shown, avro_to_json(schema, &again[10..]).expect("its own bytes"));
            let tagged = tagged.expect("what a type reads can be shown");
            let mut untagged = Vec::new();
            json_encoding_to_avro(schema, &tagged, &mut untagged).expect("its own JSON");
            assert_eq!(tagged, avro_to_json_encoding(schema, &untagged).expect("its own bytes"));
            // People's JSON does not say the branch of a wide union, so what comes back may be of another.
            let mut plain = Vec::new();
            if json_to_avro(schema, &shown, &mut plain).is_ok() {
                avro_to_json(schema, &plain).expect("its own bytes");
            }
        }
        (Err(decoded), Err(viewed)) => {
            assert_eq!(decoded, viewed);
            assert!(decoded.position <= wire.len() && !decoded.field.is_empty(), "{decoded}");
            // Large records may be nested less deeply where they are made on the stack.
            if let (Ok(shown), false) = (shown, decoded.reason.starts_with("records nested more than")) {
                panic!("{decoded}, but JSON of it is {shown}");
            }
        }
        (decoded, viewed) => panic!("decoded: {decoded:?}\nviewed: {viewed:?}"),
    }
}

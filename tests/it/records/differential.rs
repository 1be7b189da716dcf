//! Random schemas and values: the side that needs no generated type, held against apache-avro.

use gretchen::record::{DynamicSchema, avro_to_json, avro_to_json_encoding, json_encoding_to_avro, json_to_avro};
use proptest::prelude::*;

use super::arbitrary::{Choices, Datum, Limits, Schema, Style, encode, evolve, random_datum, random_schema};
use super::{their_bytes, theirs};

/// A schema and a value of it.
#[derive(Clone)]
struct Case {
    schema: Schema,
    datum: Datum,
    bytes: Vec<u8>,
    later: Schema,
}

impl std::fmt::Debug for Case {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let hex = self.bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        write!(f, "schema {}\ndatum {hex}: {:?}\nlater {}", self.schema.json(), self.datum, self.later.json())
    }
}

fn case(limits: Limits) -> impl Strategy<Value = Case> {
    proptest::collection::vec(any::<u8>(), 0..500).prop_filter_map("a value without end", move |bytes| {
        let choices = &mut Choices::new(&bytes);
        let schema = random_schema(choices, &Style::ALL);
        let datum = random_datum(choices, &schema, &schema.root, &limits)?;
        let mut bytes = Vec::new();
        encode(&schema, &schema.root, &datum, &mut bytes);
        let later = evolve(choices, &schema);
        Some(Case { schema, datum, bytes, later })
    })
}

fn ours(schema: &serde_json::Value) -> DynamicSchema {
    DynamicSchema::parse(&schema.to_string()).unwrap_or_else(|error| panic!("{error}: {schema}"))
}

fn apache(schema: &serde_json::Value) -> apache_avro::Schema {
    apache_avro::Schema::parse_str(&schema.to_string()).unwrap_or_else(|error| panic!("{error}: {schema}"))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3_000, failure_persistence: None, ..ProptestConfig::default() })]

    /// What the test's own code encodes, both read, both write again, and both fingerprint alike.
    #[test]
    fn random_values_equal_apache_avros(case in case(Limits::EXCHANGED)) {
        let Case { schema, datum, bytes, .. } = &case;
        let (full, bare) = (ours(&schema.json()), ours(&schema.bare()));

        let apache = apache(&schema.bare());
        let rabin = apache.fingerprint::<apache_avro::rabin::Rabin>().bytes;
        prop_assert_eq!(full.fingerprint().to_le_bytes().to_vec(), rabin);
        prop_assert_eq!(ours(&serde_json::from_str(&full.json()).expect("JSON")).json(), full.json());

        let read = theirs(&apache, bytes, None);
        prop_assert_eq!(&their_bytes(&apache, read), bytes);

        prop_assert_eq!(avro_to_json(&bare, bytes).expect("bytes of the schema"), datum.shown(schema, &schema.root));
        for ours in [&full, &bare] {
            let shown = avro_to_json(ours, bytes).expect("bytes of the schema");
            let mut written = Vec::new();
            let result = json_to_avro(ours, &shown, &mut written);
            prop_assert!(result.is_ok(), "{:?} of {}", result, shown);
            // People's JSON does not say the branch of a wide union.
            if !schema.has_wide_union() {
                prop_assert_eq!(&written, bytes, "{}", shown);
            }
            // The specification's JSON does.
            let tagged = avro_to_json_encoding(ours, bytes).expect("bytes of the schema");
            written.clear();
            json_encoding_to_avro(ours, &tagged, &mut written).expect("its own JSON");
            prop_assert_eq!(&written, bytes, "{}", tagged);
        }
    }

    /// Bytes that were cut off or changed are an error or a value, never a panic, and never a value of fewer bytes.
    #[test]
    fn broken_values_are_errors(case in case(Limits::EXCHANGED), at in any::<prop::sample::Index>(), bit in 0..8_u32) {
        let schema = ours(&case.schema.json());
        if !case.bytes.is_empty() {
            let at = at.index(case.bytes.len());
            prop_assert!(avro_to_json(&schema, &case.bytes[..at]).is_err(), "cut off at {}", at);
            let mut changed = case.bytes.clone();
            changed[at] ^= 1_u8 << bit;
            let _ = avro_to_json(&schema, &changed);
        }
        let longer = [&case.bytes[..], &[0]].concat();
        let error = avro_to_json(&schema, &longer).expect_err("a byte left over").to_string();
        prop_assert!(error.contains("1 bytes are left over"), "{}", error);
    }
}

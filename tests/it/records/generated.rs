//! Random schemas as generated types: codec, view and resolution held against the side that needs no generated type.
//!
//! The schemas are those of a fixed seed, in `tests/schemas/random`; `GRETCHEN_WRITE_SCHEMAS=1` writes them anew.

use std::collections::HashMap;
use std::sync::Arc;

use gretchen::record::{Decoder, DynamicSchema, Input, Record, SINGLE_OBJECT_MARKER, SchemaLookup};

use super::arbitrary::{Choices, Datum, Limits, Schema, Style, encode, evolve, random_datum, random_schema};
use super::matrix::resolved;
use super::oracles::hex;
use crate::support::Random;

const COUNT: usize = 30;

/// One of the schemas: a record `rNN.Root`, its other types in namespaces below `rNN`.
fn schema(number: usize) -> Schema {
    let style = Style { mistakes: false, fields: 9, depth: 3, ..Style::ALL };
    let mut choices = Choices::seeded(4_000 + number as u64);
    loop {
        let mut schema = random_schema(&mut choices, &style);
        if !schema.is_record_of(4) || random_datum(&mut choices, &schema, &schema.root, &LIMITS).is_none() {
            continue;
        }
        schema.rename(|id, name| if id == 0 { format!("r{number:02}.Root") } else { format!("r{number:02}.{name}") });
        return schema;
    }
}

fn path(number: usize) -> String {
    format!("tests/schemas/random/r{number:02}.avsc")
}

const LIMITS: Limits = Limits { entries: 3, ..Limits::EXCHANGED };

#[test]
fn the_schemas_are_those_of_the_seed() {
    for number in 0..COUNT {
        let text = format!("{:#}\n", schema(number).json());
        if std::env::var_os("GRETCHEN_WRITE_SCHEMAS").is_some() {
            std::fs::write(path(number), &text).unwrap();
        }
        assert_eq!(std::fs::read_to_string(path(number)).unwrap(), text, "{}", path(number));
    }
}

struct Known(HashMap<u64, Arc<str>>);

impl SchemaLookup for Known {
    fn schema(&self, fingerprint: u64) -> gretchen::error::Result<Option<Arc<str>>> {
        Ok(self.0.get(&fingerprint).cloned())
    }
}

/// Where the values come from, and how many of those of other schemas were read.
struct State {
    random: Random,
    read: usize,
    refused: usize,
}

impl State {
    fn new(test: &str) -> Self {
        Self { random: Random::seeded(test), read: 0, refused: 0 }
    }
}

fn bytes_of(schema: &Schema, datum: &Datum) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode(schema, &schema.root, datum, &mut bytes);
    bytes
}

fn encoded<R: Record>(value: &R) -> Vec<u8> {
    let mut bytes = Vec::new();
    value.encode(&mut bytes).expect("a value that was read");
    bytes
}

/// Bytes to the type and back, owned and borrowed; and bytes that were cut off or changed, which both refuse alike.
fn exact<R: Record>(number: usize, state: &mut State) {
    let choices = &mut Choices::seeded(state.random.next());
    let schema = schema(number);
    assert_eq!(R::SCHEMA.fingerprint, DynamicSchema::parse(&schema.json().to_string()).unwrap().fingerprint());
    for _ in 0..40 {
        let Some(datum) = random_datum(choices, &schema, &schema.root, &LIMITS) else { continue };
        let bytes = bytes_of(&schema, &datum);
        let of = || format!("r{number:02} {}: {datum:?}", hex(&bytes));
        let mut input = Input::new(&bytes);
        let owned = R::decode(&mut input).unwrap_or_else(|error| panic!("{error}: {}", of()));
        assert!(input.rest().is_empty(), "{}", of());
        assert_eq!(hex(&encoded(&owned)), hex(&bytes), "{}", of());
        let view = R::view(&mut Input::new(&bytes)).unwrap_or_else(|error| panic!("{error}: {}", of()));
        assert_eq!(hex(&encoded(&R::from_view(&view))), hex(&bytes), "the view: {}", of());
        if bytes.is_empty() {
            continue;
        }
        let cut = choices.below(bytes.len().min(65_536));
        let mut changed = bytes.clone();
        changed[cut] ^= 1 << choices.below(8);
        assert!(R::decode(&mut Input::new(&bytes[..cut])).is_err(), "cut off at {cut}: {}", of());
        for broken in [&bytes[..cut], &changed] {
            // As text: a decimal may be read that is too large to be written.
            let owned = R::decode(&mut Input::new(broken)).map(|value| format!("{value:?}"));
            let viewed = R::view(&mut Input::new(broken)).map(|view| format!("{:?}", R::from_view(&view)));
            assert_eq!(owned, viewed, "{}", hex(broken));
        }
    }
}

/// What a writer with a changed schema wrote, as the type and as the other side resolve it.
fn planned<R: Record>(number: usize, state: &mut State) {
    let choices = &mut Choices::seeded(state.random.next());
    let schema = schema(number);
    for _ in 0..12 {
        let writer = evolve(choices, &schema);
        // A change may take away the end of a record that contains itself.
        let Ok(known) = DynamicSchema::parse(&writer.json().to_string()) else { continue };
        let fingerprint = known.fingerprint();
        let mut decoder = Decoder::<R>::new(Arc::new(Known(HashMap::from([(fingerprint, known.json())]))));
        for _ in 0..4 {
            let Some(datum) = random_datum(choices, &writer, &writer.root, &LIMITS) else { continue };
            let datum = bytes_of(&writer, &datum);
            let wire = [&SINGLE_OBJECT_MARKER[..], &fingerprint.to_le_bytes(), &datum].concat();
            let expected = resolved(&writer.json(), &schema.json(), &datum);
            // In blocks of any size there, in one here; and bytes that are no longer of a logical type are of none.
            let expected = expected.and_then(|bytes| match R::decode(&mut Input::new(&bytes)) {
                Ok(value) => Ok(format!("{value:?}")),
                Err(error) => Err(error.to_string()),
            });
            let owned = decoder.decode(&wire).map(|value| format!("{value:?}"));
            let viewed = decoder.view(&wire).map(|view| format!("{:?}", <R as Record>::from_view(&view)));
            let of = || format!("r{number:02} {} of {}", hex(&datum), writer.json());
            *if owned.is_ok() { &mut state.read } else { &mut state.refused } += 1;
            match (&owned, &expected) {
                (Ok(owned), Ok(expected)) => assert_eq!(owned, expected, "{}", of()),
                (Err(_), Err(_)) => {}
                _ => panic!("{owned:?} and {expected:?}: {}", of()),
            }
            match (&owned, &viewed) {
                (Ok(owned), Ok(viewed)) => assert_eq!(owned, viewed, "the view: {}", of()),
                (Err(owned), Err(viewed)) => assert_eq!(owned, viewed, "{}", of()),
                _ => panic!("{owned:?} and the view {viewed:?}: {}", of()),
            }
        }
    }
}

gretchen::records!(
    "tests/schemas/random/r00.avsc",
    "tests/schemas/random/r01.avsc",
    "tests/schemas/random/r02.avsc",
    "tests/schemas/random/r03.avsc",
    "tests/schemas/random/r04.avsc",
    "tests/schemas/random/r05.avsc",
    "tests/schemas/random/r06.avsc",
    "tests/schemas/random/r07.avsc",
    "tests/schemas/random/r08.avsc",
    "tests/schemas/random/r09.avsc",
    "tests/schemas/random/r10.avsc",
    "tests/schemas/random/r11.avsc",
    "tests/schemas/random/r12.avsc",
    "tests/schemas/random/r13.avsc",
    "tests/schemas/random/r14.avsc",
    "tests/schemas/random/r15.avsc",
    "tests/schemas/random/r16.avsc",
    "tests/schemas/random/r17.avsc",
    "tests/schemas/random/r18.avsc",
    "tests/schemas/random/r19.avsc",
    "tests/schemas/random/r20.avsc",
    "tests/schemas/random/r21.avsc",
    "tests/schemas/random/r22.avsc",
    "tests/schemas/random/r23.avsc",
    "tests/schemas/random/r24.avsc",
    "tests/schemas/random/r25.avsc",
    "tests/schemas/random/r26.avsc",
    "tests/schemas/random/r27.avsc",
    "tests/schemas/random/r28.avsc",
    "tests/schemas/random/r29.avsc"
);

/// The check for each type, with its number.
macro_rules! each {
    ($check:ident, $state:ident) => {
        each!($check, $state: 0 r00, 1 r01, 2 r02, 3 r03, 4 r04, 5 r05, 6 r06, 7 r07, 8 r08, 9 r09, 10 r10, 11 r11, 12 r12, 13 r13, 14 r14, 15 r15, 16 r16, 17 r17, 18 r18, 19 r19, 20 r20, 21 r21, 22 r22, 23 r23, 24 r24, 25 r25, 26 r26, 27 r27, 28 r28, 29 r29,)
    };
    ($check:ident, $state:ident: $($number:literal $module:ident,)*) => {
        $($check::<$module::Root>($number, $state);)*
    };
}

#[test]
fn random_records_keep_their_values() {
    let state = &mut State::new("random_records_keep_their_values");
    each!(exact, state);
}

#[test]
fn random_records_resolve_like_the_other_side() {
    let state = &mut State::new("random_records_resolve_like_the_other_side");
    each!(planned, state);
    assert!(state.refused > 50 && state.read > 200, "{} refused, {} read", state.refused, state.read);
}

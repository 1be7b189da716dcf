//! What another schema wrote, held against Java's answers.

use gretchen::record::{DynamicSchema, Translation, incompatibilities};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::arbitrary::{Choices, Limits, Style, encode, evolve, random_datum, random_schema};
use super::oracles::{hex, unhex};
use super::{their_bytes, theirs as theirs_of};

/// A writer's schema, a reader's, and a value of the writer's.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Pair {
    pub(super) writer: Value,
    pub(super) reader: Value,
    pub(super) datum: String,
}

/// Pairs with what Java 1.12.1 makes of them: `{"step": "sample"}` of [`super::oracles`] writes them.
pub(super) const SAMPLE: &str = "tests/data/resolution.jsonl";

/// A [`Pair`] with Java's answer.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Answered {
    pub(super) writer: Value,
    pub(super) reader: Value,
    pub(super) datum: String,
    /// The reader's bytes; none where Java refuses.
    pub(super) java: Option<String>,
    /// Whether Java's `SchemaCompatibility` holds every value of the writer's for readable.
    pub(super) compatible: bool,
}

/// Every primitive type read as every other.
pub(super) fn promotions() -> impl Iterator<Item = Pair> {
    let written = [
        ("null", ""),
        ("boolean", "01"),
        ("int", "9188bb01"),
        ("long", "8380808080808020"),
        ("float", "cdcccc3d"),
        ("double", "9a9999999999b93f"),
        ("bytes", "06e282ac"),
        ("string", "06e282ac"),
    ];
    written.into_iter().flat_map(move |(writer, datum)| {
        written.map(|(reader, _)| Pair { writer: writer.into(), reader: reader.into(), datum: datum.into() })
    })
}

/// A random pair: what a later version of a schema reads of an earlier one, or now and then the reverse.
pub(super) fn pair(choices: &mut Choices<'_>, style: &Style) -> Pair {
    loop {
        let (mut writer, mut reader) = (random_schema(choices, style), None);
        for _ in 0..3 {
            let later = evolve(choices, &writer);
            match DynamicSchema::parse(&later.json().to_string()) {
                Ok(_) => reader = Some(later),
                // A change may take away the end of a record that contains itself.
                Err(error) => assert!(error.to_string().contains("contains itself"), "{error}: {}", later.json()),
            }
        }
        let Some(mut reader) = reader else { continue };
        if choices.one_in(4) {
            std::mem::swap(&mut writer, &mut reader);
        }
        if let Some(datum) = random_datum(choices, &writer, &writer.root, &Limits::EXCHANGED) {
            let mut bytes = Vec::new();
            encode(&writer, &writer.root, &datum, &mut bytes);
            // What a writer would have taken for a field means nothing to its readers.
            writer.drop_defaults();
            return Pair { writer: writer.json(), reader: reader.json(), datum: hex(&bytes) };
        }
    }
}

/// The table of the specification.
#[test]
fn every_promotion_is_that_of_the_specification() {
    let promoted = [
        "int long",
        "int float",
        "int double",
        "long float",
        "long double",
        "float double",
        "string bytes",
        "bytes string",
    ];
    for Pair { writer, reader, datum } in promotions() {
        let names = format!("{} {}", writer.as_str().unwrap(), reader.as_str().unwrap());
        let result = resolved(&writer, &reader, &unhex(&datum));
        assert_eq!(result.is_ok(), writer == reader || promoted.contains(&names.as_str()), "{names}: {result:?}");
    }
    // Not every byte is a text, and a long is more than a double.
    assert!(resolved(&"bytes".into(), &"string".into(), &[2, 0xff]).is_err());
    let double = resolved(&"long".into(), &"double".into(), &[0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1]);
    assert_eq!(double, Ok((i64::MAX as f64).to_le_bytes().to_vec()));
}

#[test]
fn java_resolves_to_the_same_bytes() {
    let (mut same, mut refused) = (0, 0);
    for line in std::fs::read_to_string(SAMPLE).unwrap().lines() {
        let Answered { writer, reader, datum, java, compatible } = serde_json::from_str(line).unwrap();
        let [old, new] = [&writer, &reader].map(|schema| DynamicSchema::parse(&schema.to_string()));
        let (Ok(old), Ok(new)) = (old, new) else {
            // Java reads schemas of records that have no end, of which there can be no value.
            refused += 1;
            continue;
        };
        let wrong = incompatibilities(&old, &new);
        assert_eq!(wrong.is_empty(), compatible, "{wrong:?}: {line}");
        match (resolved(&writer, &reader, &unhex(&datum)), java.map(|java| unhex(&java))) {
            (Ok(ours), Some(theirs)) => {
                // In how many blocks a list comes is free.
                let reader = apache_avro::Schema::parse_str(&reader.to_string()).unwrap();
                let blocks = |bytes: &[u8]| their_bytes(&reader, theirs_of(&reader, bytes, None));
                assert_eq!(hex(&blocks(&ours)), hex(&blocks(&theirs)), "{line}");
                same += 1;
            }
            (Err(_), None) => refused += 1,
            // Java tells that schemas do not fit only when a value shows it.
            (Err(_), Some(_)) if !compatible => refused += 1,
            // Java passes bytes on as a string although they are not UTF-8.
            (Err(ours), Some(_)) if ours.contains("not UTF-8") => refused += 1,
            (ours, _) => panic!("ours {ours:?}: {line}"),
        }
    }
    assert!(same > 600 && refused > 100, "{same} the same, {refused} refused");
}

/// The reader's bytes for the writer's.
pub(super) fn resolved(writer: &Value, reader: &Value, datum: &[u8]) -> Result<Vec<u8>, String> {
    let [writer, reader] = [writer, reader].map(|schema| DynamicSchema::parse(&schema.to_string()));
    let (writer, reader) = (writer.map_err(|error| error.to_string())?, reader.map_err(|error| error.to_string())?);
    let translation = Translation::compile(&writer, &reader).map_err(|error| error.to_string())?;
    let mut out = Vec::new();
    translation.run(datum, &mut out).map_err(|error| error.to_string())?;
    Ok(out)
}

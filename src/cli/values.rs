//! Values and keys of a topic as people read and write them.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::Arc;

use serde_json::Value;

use super::plain;
use crate::backend::{Replay, Topic, plain_of};
use crate::error::Result;
use crate::record::{
    DynamicSchema, Plain, SINGLE_OBJECT_HEADER_LEN, SINGLE_OBJECT_MARKER, avro_to_json, avro_to_json_encoding,
    json_encoding_to_avro, json_to_avro, key_of, split_single_object,
};
use crate::topic::WireFormat;

/// What a key's bytes mean, by the type of the key's field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum KeyKind {
    Text,
    Int,
    Long,
}

/// How JSON stands for values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Json {
    /// As people write it.
    People,
    /// The encoding of the Avro specification.
    Avro,
}

/// Reads and writes the values of one topic.
pub(super) struct Values {
    pub(super) topic: Arc<str>,
    replay: Arc<dyn Replay>,
    /// What new values are written with; a topic without it holds plain values.
    pub(super) schema: Option<DynamicSchema>,
    /// Which ones, where the topic's format says so.
    plain: Option<Plain>,
    pub(super) key_field: Option<Arc<str>>,
    key_kind: KeyKind,
    /// Topics that may know a schema which this one does not: a dead-letter topic holds what others held.
    others: Vec<Arc<str>>,
    known: HashMap<u64, DynamicSchema>,
}

impl Values {
    pub(super) fn of(topic: &Topic, replay: Arc<dyn Replay>) -> Result<Self> {
        let plain = plain_of(topic.spec.format.unwrap_or_default());
        // Values without a header are of the topic's first schema, whatever came later.
        let newest = match topic.spec.format {
            Some(WireFormat::Bare) => topic.schemas.first(),
            _ if plain.is_some() => None,
            _ => topic.spec.schema.as_ref().or(topic.schemas.last()),
        };
        let schema = newest.map(|schema| DynamicSchema::parse_named(&topic.spec.name, &schema.json)).transpose()?;
        let key_field = topic.spec.key_field.clone();
        let key_kind = match (&schema, &key_field) {
            (Some(schema), Some(field)) => kind_of(schema, field),
            _ => KeyKind::Text,
        };
        Ok(Self {
            topic: topic.spec.name.clone(),
            replay,
            schema,
            plain,
            key_field,
            key_kind,
            others: Vec::new(),
            known: HashMap::new(),
        })
    }

    /// Asks these topics, too, for the schemas of values.
    pub(super) fn also_ask(&mut self, topics: impl Iterator<Item = Arc<str>>) {
        self.others = topics.collect();
    }

    /// What the topic holds, for people.
    pub(super) fn describe(&self) -> String {
        match (&self.schema, self.plain) {
            (Some(schema), _) => schema.name(),
            (None, Some(plain)) => format!("plain {plain}"),
            (None, None) => "plain value".to_owned(),
        }
    }

    /// The wire value of what somebody typed: JSON by the schema, or the text itself where there is none.
    pub(super) fn encode_text(&self, text: &str, json: Json) -> Result<Vec<u8>, String> {
        if let Some(plain) = self.plain {
            return plain::encode(plain, text);
        }
        let Some(schema) = &self.schema else { return Ok(text.as_bytes().to_vec()) };
        let value: Value = serde_json::from_str(text).map_err(|error| format!("this is not JSON: {error}"))?;
        let mut wire = begin(schema);
        let encode = match json {
            Json::People => json_to_avro,
            Json::Avro => json_encoding_to_avro,
        };
        encode(schema, &value, &mut wire).map_err(|error| error.to_string())?;
        if json == Json::Avro {
            check_meaning(schema, &wire)?;
        }
        Ok(wire)
    }

    /// The key in a wire value, where the topic is keyed by a field.
    pub(super) fn key_in(&self, wire: &[u8]) -> Result<Option<Vec<u8>>, String> {
        let (Some(schema), Some(field), Some((_, datum))) = (&self.schema, &self.key_field, split_single_object(wire))
        else {
            return Ok(None);
        };
        key_of(schema, datum, field).map_err(|error| error.to_string())
    }

    /// The bytes of a key that somebody typed.
    pub(super) fn parse_key(&self, text: &str) -> Result<Vec<u8>, String> {
        match self.key_kind {
            KeyKind::Text => Ok(text.as_bytes().to_vec()),
            KeyKind::Int => text.parse().map(|key: i32| key.to_be_bytes().to_vec()).map_err(|why| why.to_string()),
            KeyKind::Long => text.parse().map(|key: i64| key.to_be_bytes().to_vec()).map_err(|why| why.to_string()),
        }
    }

    /// A key for people and programs.
    pub(super) fn key_json(&self, key: &[u8]) -> Value {
        let number = match self.key_kind {
            KeyKind::Text => None,
            KeyKind::Int => key.try_into().ok().map(|bytes| Value::from(i32::from_be_bytes(bytes))),
            KeyKind::Long => key.try_into().ok().map(|bytes| Value::from(i64::from_be_bytes(bytes))),
        };
        number.unwrap_or_else(|| text_or_hex(key))
    }

    fn look_up(&self, fingerprint: u64) -> Result<Option<DynamicSchema>> {
        for topic in std::iter::once(&self.topic).chain(&self.others) {
            if let Some(json) = self.replay.schema(topic, fingerprint)? {
                return DynamicSchema::parse_named(topic, &json).map(Some);
            }
        }
        Ok(None)
    }

    /// A wire value for people and programs, by the schema that it names.
    pub(super) fn decode(&mut self, wire: &[u8], json: Json) -> Result<Value, String> {
        if let Some(plain) = self.plain {
            return plain::decode(plain, wire);
        }
        let Some((schema, datum)) = self.split(wire)? else { return Ok(text_or_hex(wire)) };
        let decode = match json {
            Json::People => avro_to_json,
            Json::Avro => avro_to_json_encoding,
        };
        decode(schema, datum).map_err(|error| error.to_string())
    }

    /// The schema that a wire value names, and the datum behind its header; `None` for a plain value.
    pub(super) fn split<'a, 'w>(&'a mut self, wire: &'w [u8]) -> Result<Option<(&'a DynamicSchema, &'w [u8])>, String> {
        // A number may look like a header.
        let single = self.plain.is_none().then(|| split_single_object(wire)).flatten();
        let Some((fingerprint, datum)) = single else { return Ok(None) };
        if !self.known.contains_key(&fingerprint) {
            let found = self.look_up(fingerprint).map_err(|error| error.to_string())?;
            // A schema that is not known yet may be known later, when somebody follows the topic.
            if let Some(schema) = found {
                self.known.insert(fingerprint, schema);
            }
        }
        match self.known.get(&fingerprint) {
            Some(schema) => Ok(Some((schema, datum))),
            None => Err(format!("written with schema {fingerprint:016x}, which topic {} does not keep", self.topic)),
        }
    }
}

/// Whether agents can read a value that came as its bytes: a decimal may have more digits than its schema says, and a day
/// be in no calendar.
fn check_meaning(schema: &DynamicSchema, wire: &[u8]) -> Result<(), String> {
    let datum = wire.get(SINGLE_OBJECT_HEADER_LEN..).unwrap_or_default();
    avro_to_json(schema, datum).map(drop).map_err(|error| error.to_string())
}

/// The header that a wire value begins with.
pub(super) fn begin(schema: &DynamicSchema) -> Vec<u8> {
    let mut wire = SINGLE_OBJECT_MARKER.to_vec();
    wire.extend_from_slice(&schema.fingerprint().to_le_bytes());
    wire
}

fn kind_of(schema: &DynamicSchema, field: &str) -> KeyKind {
    let fields = schema.fields();
    let type_name = fields.iter().find(|(name, _)| name == field).map_or("", |(_, type_name)| type_name.as_str());
    match type_name.trim_start_matches("null | ").trim_end_matches(" | null") {
        "int" => KeyKind::Int,
        "long" => KeyKind::Long,
        _ => KeyKind::Text,
    }
}

/// Plain bytes: text where they are text, `0x…` where not.
pub(super) fn text_or_hex(bytes: &[u8]) -> Value {
    match std::str::from_utf8(bytes) {
        Ok(text) => text.into(),
        Err(_) => hex(bytes).into(),
    }
}

/// Bytes as `0x` and hexadecimal digits.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold("0x".to_owned(), |mut text, byte| {
        // Writing to a `String` cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

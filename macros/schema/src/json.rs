//! JSON with positions.

use jsonc_parser::ast::{Object, Value};
use jsonc_parser::common::Ranged;
use jsonc_parser::{CollectOptions, ParseOptions, parse_to_ast};

use crate::error::Text;
use crate::{MAX_DEPTH, SchemaError};

const STRICT: ParseOptions = ParseOptions {
    allow_comments: false,
    allow_loose_object_property_names: false,
    allow_trailing_commas: false,
    allow_missing_commas: false,
    allow_single_quoted_strings: false,
    allow_hexadecimal_numbers: false,
    allow_unary_plus_numbers: false,
    allow_bare_decimal_point_numbers: false,
    allow_non_finite_numbers: false,
    allow_extended_string_escapes: false,
};

pub(crate) fn parse<'a>(text: &Text<'a>) -> Result<Value<'a>, SchemaError> {
    check_depth(text)?;
    let parsed = parse_to_ast(text.source.text, &CollectOptions::default(), &STRICT).map_err(|error| SchemaError {
        place: text.place(error.range().start),
        message: format!("not JSON: {}", lower_first(&error.kind().to_string())),
    })?;
    let value = parsed.value.ok_or_else(|| SchemaError {
        place: text.place(0),
        message: "the file is empty; write a schema, e.g. {\"type\": \"record\", \"name\": …, \"fields\": […]}".into(),
    })?;
    check_keys(text, &value)?;
    Ok(value)
}

/// Refuses deep nesting before a parser recurses into it.
fn check_depth(text: &Text<'_>) -> Result<(), SchemaError> {
    let (mut depth, mut in_string, mut escaped) = (0_usize, false, false);
    for (at, byte) in text.source.text.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b'{' | b'[' if !in_string => depth += 1,
            b'}' | b']' if !in_string => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > MAX_DEPTH {
            return Err(SchemaError {
                place: text.place(at),
                message: format!("nested deeper than {MAX_DEPTH} levels; give inner types names and use those"),
            });
        }
    }
    Ok(())
}

/// Two equal keys in one object: every parser would pick another of them.
fn check_keys(text: &Text<'_>, value: &Value<'_>) -> Result<(), SchemaError> {
    match value {
        Value::Object(object) => {
            let mut seen = std::collections::BTreeSet::new();
            for property in &object.properties {
                if !seen.insert(property.name.as_str()) {
                    return Err(SchemaError {
                        place: text.place(property.range.start),
                        message: format!("key {:?} stands twice in one object; remove one", property.name.as_str()),
                    });
                }
                check_keys(text, &property.value)?;
            }
            Ok(())
        }
        Value::Array(array) => array.elements.iter().try_for_each(|element| check_keys(text, element)),
        _ => Ok(()),
    }
}

pub(crate) fn start(value: &Value<'_>) -> usize {
    value.range().start
}

/// The plain values of an object, but for those of some keys.
pub(crate) fn without(object: &Object<'_>, keys: &[&str]) -> serde_json::Map<String, serde_json::Value> {
    let rest = object.properties.iter().filter(|property| !keys.contains(&property.name.as_str()));
    rest.map(|property| (property.name.as_str().to_owned(), plain(&property.value))).collect()
}

/// The plain value; numbers that JSON cannot hold are refused by the parser before.
pub(crate) fn plain(value: &Value<'_>) -> serde_json::Value {
    match value {
        Value::StringLit(text) => serde_json::Value::String(text.value.clone().into_owned()),
        Value::NumberLit(number) => {
            serde_json::from_str(number.value).unwrap_or_else(|_| serde_json::Value::String(number.value.to_owned()))
        }
        Value::BooleanLit(boolean) => serde_json::Value::Bool(boolean.value),
        Value::Object(object) => serde_json::Value::Object(without(object, &[])),
        Value::Array(array) => serde_json::Value::Array(array.elements.iter().map(plain).collect()),
        Value::NullKeyword(_) => serde_json::Value::Null,
    }
}

fn lower_first(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| first.to_lowercase().chain(chars).collect())
}

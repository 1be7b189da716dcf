//! Keys as people read and type them.

use std::any::{Any, TypeId};
use std::fmt::Write as _;

use crate::record::Key;

/// A raw key for people: text and numbers as they are, bytes that are no text as `0x…`.
pub(super) fn show<K: Key>(raw: &[u8]) -> String {
    if TypeId::of::<K>() == TypeId::of::<Vec<u8>>() {
        return show_bytes(raw);
    }
    let Ok(key) = K::decode_key(raw) else { return show_bytes(raw) };
    match (&key as &dyn Any).downcast_ref::<String>() {
        Some(text) => text.clone(),
        None => match (&key as &dyn Any).downcast_ref::<uuid::Uuid>() {
            Some(uuid) => uuid.to_string(),
            None => format!("{key:?}"),
        },
    }
}

/// The raw key that somebody typed, or why it is none.
pub(super) fn parse<K: Key>(text: &str) -> Result<Vec<u8>, String> {
    let key = TypeId::of::<K>();
    if key == TypeId::of::<String>() {
        Ok(text.as_bytes().to_vec())
    } else if key == TypeId::of::<Vec<u8>>() {
        parse_bytes(text)
    } else if key == TypeId::of::<i32>() {
        text.parse().map(|key: i32| key.to_be_bytes().to_vec()).map_err(|why| why.to_string())
    } else if key == TypeId::of::<i64>() {
        text.parse().map(|key: i64| key.to_be_bytes().to_vec()).map_err(|why| why.to_string())
    } else if key == TypeId::of::<uuid::Uuid>() {
        let uuid = uuid::Uuid::try_parse(text).map_err(|why| why.to_string())?;
        Ok(uuid.hyphenated().to_string().into_bytes())
    } else {
        parse_bytes(text)
            .ok()
            .filter(|raw| text.starts_with("0x") && K::decode_key(raw).is_ok())
            .ok_or_else(|| "its keys are records; give the encoded key as 0x and hexadecimal digits".to_owned())
    }
}

fn show_bytes(raw: &[u8]) -> String {
    match std::str::from_utf8(raw) {
        Ok(text) if !text.starts_with("0x") && !text.chars().any(char::is_control) => text.to_owned(),
        _ => raw.iter().fold("0x".to_owned(), |mut text, byte| {
            // Writing to a `String` cannot fail.
            let _ = write!(text, "{byte:02x}");
            text
        }),
    }
}

fn parse_bytes(text: &str) -> Result<Vec<u8>, String> {
    let Some(hex) = text.strip_prefix("0x") else { return Ok(text.as_bytes().to_vec()) };
    if !hex.is_ascii() || hex.len() % 2 != 0 {
        return Err("after 0x come pairs of hexadecimal digits".to_owned());
    }
    (0..hex.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&hex[at..at + 2], 16))
        .collect::<Result<_, _>>()
        .map_err(|_| "after 0x come pairs of hexadecimal digits".to_owned())
}

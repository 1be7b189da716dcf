//! How large a record may be.

use super::{SINGLE_OBJECT_HEADER_LEN, SINGLE_OBJECT_MARKER};

/// The most bytes of a record's value, and of its key, where nothing else is set: as many as Kafka takes.
pub const MAX_RECORD_BYTES: usize = 1 << 20;

/// What is too large about a record, if anything is.
///
/// Key and value count each for themselves, and of a value only what the schema describes: so a record that one topic
/// takes has room in every other, under another key or in another format on the wire.
#[inline]
pub(crate) fn oversize(key: Option<&[u8]>, value: Option<&[u8]>, most: usize) -> Option<String> {
    let longest = key.map_or(0, <[u8]>::len).max(value.map_or(0, <[u8]>::len));
    if longest <= most { None } else { oversize_part(key, value, most) }
}

#[cold]
fn oversize_part(key: Option<&[u8]>, value: Option<&[u8]>, most: usize) -> Option<String> {
    let body = |value: &[u8]| {
        let header = if value.starts_with(&SINGLE_OBJECT_MARKER) { SINGLE_OBJECT_HEADER_LEN } else { 0 };
        value.len() - header.min(value.len())
    };
    let parts = [("key", key.map_or(0, <[u8]>::len)), ("value", value.map_or(0, body))];
    let (part, len) = parts.into_iter().find(|(_, len)| *len > most)?;
    Some(format!("its {part} has {len} bytes, and max_record_bytes allows {most}; raise that, or send smaller records"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn key_and_value_may_each_be_as_large_as_the_limit() {
        let of = |len: usize| vec![b'x'; len];
        for (key, value, fits) in [(99, 99, true), (100, 100, true), (101, 0, false), (0, 101, false)] {
            assert_eq!(oversize(Some(&of(key)), Some(&of(value)), 100).is_none(), fits, "{key} {value}");
        }
        assert_eq!(oversize(None, None, 100), None);
        let why = oversize(Some(b"k"), Some(&of(101)), 100).unwrap();
        assert!(why.starts_with("its value has 101 bytes, and max_record_bytes allows 100"), "{why}");
    }

    #[test]
    fn the_name_of_the_schema_does_not_count() {
        for (body, fits) in [(99, true), (100, true), (101, false)] {
            let mut value = SINGLE_OBJECT_MARKER.to_vec();
            value.resize(SINGLE_OBJECT_HEADER_LEN + body, 7);
            assert_eq!(oversize(None, Some(&value), 100).is_none(), fits, "{body}");
        }
    }
}

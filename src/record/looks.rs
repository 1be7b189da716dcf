//! What bytes look like, by how they begin: for whoever got others than were expected.

use super::{SINGLE_OBJECT_HEADER_LEN, SINGLE_OBJECT_MARKER};

/// Length of the Confluent header: a zero and the number of the schema.
const CONFLUENT_HEADER_LEN: usize = 5;

/// The largest number of a schema that a registry is believed to give; zeroes follow the first byte then.
const LIKELY_ID: u32 = 1 << 24;

/// What the bytes look like, for people; `None` where nothing can be said.
pub fn looks_like(bytes: &[u8]) -> Option<&'static str> {
    let magic: [(&[u8], &str); 10] = [
        (b"Obj\x01", "an Avro container file"),
        (b"Obj", "a container file of an older Avro"),
        (b"PAR1", "a Parquet file"),
        (b"ORC", "an ORC file"),
        (b"\x1f\x8b", "gzip"),
        (b"\x28\xb5\x2f\xfd", "zstandard"),
        (b"BZh", "bzip2"),
        (b"\xfd7zXZ\0", "xz"),
        (b"PK\x03\x04", "a zip file"),
        (b"\xff\x06\0\0sNaPpY", "framed snappy"),
    ];
    if let Some((_, what)) = magic.into_iter().find(|(magic, _)| bytes.starts_with(magic)) {
        return Some(what);
    }
    if bytes.len() >= SINGLE_OBJECT_HEADER_LEN && bytes.starts_with(&SINGLE_OBJECT_MARKER) {
        return Some("a single object with the fingerprint of its schema (C3 01)");
    }
    if let Some((&[0, a, b, c, d], _)) = bytes.split_first_chunk::<CONFLUENT_HEADER_LEN>()
        && (1..LIKELY_ID).contains(&u32::from_be_bytes([a, b, c, d]))
    {
        return Some("a value with a Confluent header (0 and the number of its schema)");
    }
    let text = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes).trim_ascii_start();
    let json = match text.split_first() {
        Some((b'{', rest)) => matches!(rest.trim_ascii_start().first(), Some(b'"' | b'}')),
        Some((b'[', rest)) => matches!(rest.trim_ascii_start().first(), Some(b'{' | b'[' | b'"' | b']')),
        _ => false,
    };
    json.then_some("JSON text")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_send_is_recognised() {
        for (bytes, what) in [
            (&b"Obj\x01\x04"[..], Some("an Avro container file")),
            (b"\xc3\x01\0\0\0\0\0\0\0\0", Some("a single object")),
            (b"\0\0\0\0\x07\x02", Some("a Confluent header")),
            (b" {\"a\": 1}", Some("JSON text")),
            (b"[{}]", Some("JSON text")),
            (b"\x1f\x8b\x08\0", Some("gzip")),
            (b"\x0a{plain", None),
            (b"{plain", None),
            (b"", None),
        ] {
            match (looks_like(bytes), what) {
                (Some(found), Some(what)) => assert!(found.contains(what), "{found}"),
                (found, what) => assert_eq!(found, what, "{bytes:?}"),
            }
        }
    }
}

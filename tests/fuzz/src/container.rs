//! Container files: any bytes, blocks of any bytes in a file that is well otherwise, and files that were written here.

use std::sync::LazyLock;

use gretchen::record::{Compression, ContainerWriter, DynamicSchema, avro_to_json_encoding, container_to_datums};

use crate::memory::within;

static SCHEMAS: LazyLock<[DynamicSchema; 3]> = LazyLock::new(|| {
    [
        include_str!("../../schemas/hurt.avsc"),
        r#"{"type": "record", "name": "test.Weather", "fields": [
            {"name": "station", "type": "string"}, {"name": "time", "type": "long"}, {"name": "temp", "type": "int"}]}"#,
        r#""null""#,
    ]
    .map(|json| DynamicSchema::parse(json).expect("a schema"))
});

const CODECS: [Compression; 4] = [Compression::Null, Compression::Deflate, Compression::Snappy, Compression::Zstandard];

/// What begins as a container is read as one; else the first byte says what is made of the rest.
pub fn run(bytes: &[u8]) {
    if bytes.starts_with(b"Obj\x01") {
        SCHEMAS.iter().for_each(|schema| read(bytes, schema));
        return;
    }
    let Some((first, rest)) = bytes.split_first() else { return };
    let schema = &SCHEMAS[usize::from(*first >> 2) % SCHEMAS.len()];
    let codec = CODECS[usize::from(*first) % CODECS.len()];
    match first >> 7 {
        0 => block(rest, schema, codec),
        _ => written(rest, codec),
    }
}

fn read(file: &[u8], schema: &DynamicSchema) {
    // A block may be unpacked to as many bytes as a block may have; the vector grows by doubling, beside the packed one.
    within((256 << 20) + 64 * file.len(), || {
        if let Ok(datums) = container_to_datums(file, schema) {
            // Records may be smaller than a byte each, so that there are very many of them. What a decimal or a date
            // means is not looked at.
            for datum in datums.take(200_000).map_while(Result::ok) {
                assert!(datum.len() > 1_000 || avro_to_json_encoding(schema, &datum).is_ok(), "{datum:?}");
            }
        }
    });
}

/// The first bytes are the number of records, the others the block as it is packed.
fn block(bytes: &[u8], schema: &DynamicSchema, codec: Compression) {
    let (count, packed) = bytes.split_at(bytes.len().min(2));
    let mut file = Vec::new();
    ContainerWriter::new(&mut file, schema, codec).and_then(|mut container| container.flush()).expect("a header");
    let sync = file[file.len() - 16..].to_vec();
    for number in [usize::from(count.first().copied().unwrap_or(1)), packed.len()] {
        long(number, &mut file);
    }
    file.extend_from_slice(packed);
    file.extend_from_slice(&sync);
    read(&file, schema);
}

fn long(number: usize, out: &mut Vec<u8>) {
    let mut zigzag = number << 1;
    while zigzag > 0x7f {
        out.push(zigzag as u8 | 0x80);
        zigzag >>= 7;
    }
    out.push(zigzag as u8);
}

/// Texts, packed and unpacked.
fn written(bytes: &[u8], codec: Compression) {
    let schema = DynamicSchema::parse(r#""bytes""#).expect("a schema");
    let (mut file, mut texts) = (Vec::new(), Vec::new());
    let mut container = ContainerWriter::new(&mut file, &schema, codec).expect("a header");
    for (index, text) in bytes.split(|byte| *byte == 0).enumerate() {
        // Some blocks are longer than the size at which one ends.
        let text = if text.first() == Some(&1) { text.repeat(500) } else { text.to_vec() };
        let mut datum = Vec::new();
        long(text.len(), &mut datum);
        datum.extend_from_slice(&text);
        container.push(&datum).expect("a block");
        if index % 3 == 0 {
            container.flush().expect("a block");
        }
        texts.push(datum);
    }
    container.flush().expect("a block");
    let read = container_to_datums(&file[..], &schema).expect("a header");
    assert_eq!(read.collect::<Result<Vec<_>, _>>().expect("what was written"), texts);
    file.pop();
    let cut = container_to_datums(&file[..], &schema).expect("a header");
    assert!(cut.collect::<Result<Vec<_>, _>>().is_err(), "the last block is cut off");
}

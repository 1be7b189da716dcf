//! The header of a container, and how its parts are read.

use std::io::Read;

use super::{Compression, MAGIC, MAX_LEN, SYNC_LEN, broken};
use crate::error::{Error, Result};
use crate::record::{Input, looks_like};

/// Entries that the header may have.
const MAX_ENTRIES: usize = 1_000;

pub(super) struct Header {
    pub(super) schema: String,
    pub(super) compression: Compression,
    pub(super) sync: Vec<u8>,
}

impl Header {
    pub(super) fn read(reader: &mut impl Read) -> Result<Self> {
        check_magic(reader)?;
        let (mut schema, mut codec, mut entries) = (None, b"null".to_vec(), 0_usize);
        loop {
            let count = read_long(reader)?;
            if count < 0 {
                read_long(reader)?;
            }
            if count == 0 {
                break;
            }
            for _ in 0..count.unsigned_abs() {
                entries += 1;
                if entries > MAX_ENTRIES {
                    return Err(broken(format!("its header has more than {MAX_ENTRIES} entries")));
                }
                let (key, value) = (read_bytes(reader)?, read_bytes(reader)?);
                match key.as_slice() {
                    b"avro.schema" => schema = Some(value),
                    b"avro.codec" => codec = value,
                    _ => {}
                }
            }
        }
        let compression = Compression::of_name(&codec)?;
        let schema = schema.and_then(|schema| String::from_utf8(schema).ok());
        let schema = schema.ok_or_else(|| broken("its header has no schema"))?;
        Ok(Self { schema, compression, sync: read_exact(reader, SYNC_LEN)? })
    }
}

fn check_magic(reader: &mut impl Read) -> Result<()> {
    let mut first = Vec::new();
    reader.take(MAGIC.len() as u64).read_to_end(&mut first).map_err(unreadable)?;
    if first == MAGIC {
        return Ok(());
    }
    if first.is_empty() {
        return Err(broken("it is empty"));
    }
    // What it may be instead shows itself in more bytes than the magic has.
    reader.take(32).read_to_end(&mut first).map_err(unreadable)?;
    let instead = looks_like(&first)
        .map_or_else(|| "is it an Avro container?".to_owned(), |what| format!("it looks like {what}"));
    Err(broken(format!("it does not begin with Obj and 1; {instead}")))
}

fn unreadable(error: std::io::Error) -> Error {
    Error::io("cannot read the container", error)
}

pub(super) fn read_exact(reader: &mut impl Read, len: usize) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    // Grows with what is there, not with what is claimed.
    reader.take(len as u64).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() == len { Ok(bytes) } else { Err(broken("it ends in the middle; copy it again")) }
}

pub(super) fn read_long(reader: &mut impl Read) -> Result<i64> {
    let mut bytes = Vec::with_capacity(10);
    loop {
        bytes.extend_from_slice(&read_exact(reader, 1)?);
        if bytes.last().is_some_and(|last| *last < 0x80) || bytes.len() == 10 {
            return Input::new(&bytes).read_long().map_err(broken);
        }
    }
}

pub(super) fn read_bytes(reader: &mut impl Read) -> Result<Vec<u8>> {
    let len = read_long(reader)?;
    match usize::try_from(len) {
        Ok(len) if len <= MAX_LEN => read_exact(reader, len),
        _ => Err(broken(format!("a part of {len} bytes where {MAX_LEN} are allowed"))),
    }
}

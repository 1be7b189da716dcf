//! Avro object container files: a header with the schema, then blocks of datums.

use std::fmt;
use std::io::{BufRead, BufReader, Read};

use super::plan::Plan;
use super::{DynamicSchema, Input};
use crate::error::{Error, ErrorKind, Result};

const MAGIC: &[u8; 4] = b"Obj\x01";
/// Bytes that a block, a schema or another entry of the header may have, also after decompression.
const MAX_LEN: usize = 64 << 20;
/// Records of one block that may take no bytes.
const MAX_EMPTY_RECORDS: u64 = 65_536;
/// Entries that the header may have.
const MAX_ENTRIES: usize = 1_000;

/// Reads a container file; its records come out as bare datums of `target`, resolved by the specification's rules.
///
/// An error names the index of the record, from 0; nothing follows it.
pub fn container_to_datums<R: Read>(reader: R, target: &DynamicSchema) -> Result<ContainerDatums<R>> {
    let mut reader = BufReader::new(reader);
    let header = Header::read(&mut reader)?;
    let writer = DynamicSchema::parse_named("the container's schema", &header.schema)?;
    let plan = Plan::compile(&writer, target).map_err(|why| {
        let message = format!("records of {} cannot be read as {}: {why}", writer.name(), target.name());
        Error::new(ErrorKind::Schema, message)
    })?;
    Ok(ContainerDatums { reader, header, plan, block: Vec::new(), at: 0, left: 0, index: 0, ended: false })
}

/// The records of a container file, see [`container_to_datums`].
pub struct ContainerDatums<R> {
    reader: BufReader<R>,
    header: Header,
    plan: Plan,
    block: Vec<u8>,
    /// Byte of the block at which the next record begins.
    at: usize,
    /// Records of the block that are left.
    left: u64,
    /// Index of the next record.
    index: u64,
    ended: bool,
}

impl<R> fmt::Debug for ContainerDatums<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ContainerDatums").field("index", &self.index).finish_non_exhaustive()
    }
}

impl<R: Read> Iterator for ContainerDatums<R> {
    type Item = Result<Vec<u8>>;

    fn next(&mut self) -> Option<Result<Vec<u8>>> {
        if self.ended {
            return None;
        }
        let datum = self.read().transpose();
        self.ended = !matches!(datum, Some(Ok(_)));
        datum
    }
}

impl<R: Read> ContainerDatums<R> {
    fn read(&mut self) -> Result<Option<Vec<u8>>> {
        while self.left == 0 {
            if !self.next_block()? {
                return Ok(None);
            }
        }
        let mut input = Input::new(&self.block[self.at..]);
        let mut datum = Vec::new();
        self.plan.run_prefix(&mut input, &mut datum).map_err(|error| {
            Error::new(ErrorKind::Decode, format!("cannot read record {} of the container", self.index))
                .with_source(error)
        })?;
        self.at += input.position();
        self.left -= 1;
        self.index += 1;
        if self.left == 0 && self.at != self.block.len() {
            let message = format!("{} bytes are left over after record {}", self.block.len() - self.at, self.index - 1);
            return Err(broken(message));
        }
        Ok(Some(datum))
    }

    fn next_block(&mut self) -> Result<bool> {
        if self.reader.fill_buf().map_err(|error| Error::io("cannot read the container", error))?.is_empty() {
            return Ok(false);
        }
        let count = read_long(&mut self.reader)?;
        let packed = read_bytes(&mut self.reader)?;
        let sync = read_exact(&mut self.reader, 16)?;
        if sync != self.header.sync {
            return Err(broken(format!("the block at record {} does not end with the file's marker", self.index)));
        }
        self.block = match self.header.deflate {
            false => packed,
            true => miniz_oxide::inflate::decompress_to_vec_with_limit(&packed, MAX_LEN)
                .map_err(|error| broken(format!("the block at record {} cannot be inflated: {error}", self.index)))?,
        };
        self.left = u64::try_from(count).map_err(|_| broken(format!("a block of {count} records")))?;
        self.at = 0;
        // Records without a byte could be claimed without end.
        if self.left > MAX_EMPTY_RECORDS && self.left > self.block.len() as u64 {
            return Err(broken(format!("a block of {count} records in {} bytes", self.block.len())));
        }
        Ok(true)
    }
}

struct Header {
    schema: String,
    deflate: bool,
    sync: Vec<u8>,
}

impl Header {
    fn read(reader: &mut impl Read) -> Result<Self> {
        if read_exact(reader, 4)? != MAGIC {
            return Err(broken("it does not begin with Obj and 1; is it an Avro container?"));
        }
        let (mut schema, mut codec, mut entries) = (None, Vec::new(), 0_usize);
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
        let deflate = match codec.as_slice() {
            b"" | b"null" => false,
            b"deflate" => true,
            other => {
                let other = String::from_utf8_lossy(other).into_owned();
                let message = format!("the container is compressed with {other:?}; write it with null or deflate");
                return Err(Error::new(ErrorKind::Unsupported, message));
            }
        };
        let schema = schema.and_then(|schema| String::from_utf8(schema).ok());
        let schema = schema.ok_or_else(|| broken("its header has no schema"))?;
        Ok(Self { schema, deflate, sync: read_exact(reader, 16)? })
    }
}

fn broken(what: impl fmt::Display) -> Error {
    Error::new(ErrorKind::Decode, format!("the container is broken: {what}"))
}

fn read_exact(reader: &mut impl Read, len: usize) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    // Grows with what is there, not with what is claimed.
    reader.take(len as u64).read_to_end(&mut bytes).map_err(|error| Error::io("cannot read the container", error))?;
    if bytes.len() == len { Ok(bytes) } else { Err(broken("it ends in the middle; copy it again")) }
}

fn read_long(reader: &mut impl Read) -> Result<i64> {
    let mut bytes = Vec::with_capacity(10);
    loop {
        bytes.extend_from_slice(&read_exact(reader, 1)?);
        if bytes.last().is_some_and(|last| *last < 0x80) || bytes.len() == 10 {
            return Input::new(&bytes).read_long().map_err(broken);
        }
    }
}

fn read_bytes(reader: &mut impl Read) -> Result<Vec<u8>> {
    let len = read_long(reader)?;
    match usize::try_from(len) {
        Ok(len) if len <= MAX_LEN => read_exact(reader, len),
        _ => Err(broken(format!("a part of {len} bytes where {MAX_LEN} are allowed"))),
    }
}

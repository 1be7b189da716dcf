//! Writing a container.

use std::fmt;
use std::io::Write;

use uuid::Uuid;

use super::{Compression, MAGIC, SYNC_LEN};
use crate::error::{Error, Result};
use crate::record::DynamicSchema;
use crate::record::codec::{write_bytes, write_long};

/// A block ends at the first datum with which it has so many bytes; Java's default.
const BLOCK_BYTES: usize = 64_000;

/// Writes datums of one schema as a container file.
///
/// Blocks go out when they are full; [`ContainerWriter::flush`] sends what is left, and without it the last datums are
/// lost.
pub struct ContainerWriter<W> {
    writer: W,
    compression: Compression,
    sync: [u8; SYNC_LEN],
    block: Vec<u8>,
    count: i64,
}

impl<W> fmt::Debug for ContainerWriter<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ContainerWriter").field("compression", &self.compression).finish_non_exhaustive()
    }
}

impl<W: Write> ContainerWriter<W> {
    /// Begins a container of datums of `schema`.
    pub fn new(writer: W, schema: &DynamicSchema, compression: Compression) -> Result<Self> {
        let sync = Uuid::new_v4().into_bytes();
        let mut container = Self { writer, compression, sync, block: Vec::new(), count: 0 };
        let mut header = MAGIC.to_vec();
        write_long(2, &mut header);
        for (key, value) in [("avro.schema", &*schema.json()), ("avro.codec", compression.name())] {
            write_bytes(key.as_bytes(), &mut header);
            write_bytes(value.as_bytes(), &mut header);
        }
        header.push(0);
        header.extend_from_slice(&sync);
        container.write(&header)?;
        Ok(container)
    }

    /// Adds a bare datum of the schema, which is not checked.
    pub fn push(&mut self, datum: &[u8]) -> Result<()> {
        self.block.extend_from_slice(datum);
        self.count += 1;
        if self.block.len() >= BLOCK_BYTES { self.end_block() } else { Ok(()) }
    }

    /// Ends the block, so that everything that was added is written.
    pub fn flush(&mut self) -> Result<()> {
        if self.count > 0 {
            self.end_block()?;
        }
        self.writer.flush().map_err(failed)
    }

    /// What it writes to.
    pub fn get_mut(&mut self) -> &mut W {
        &mut self.writer
    }

    fn end_block(&mut self) -> Result<()> {
        let packed = self.compression.pack(&self.block)?;
        let mut block = Vec::with_capacity(packed.len() + SYNC_LEN + 20);
        write_long(self.count, &mut block);
        write_bytes(&packed, &mut block);
        block.extend_from_slice(&self.sync);
        self.block.clear();
        self.count = 0;
        self.write(&block)
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.writer.write_all(bytes).map_err(failed)
    }
}

fn failed(error: std::io::Error) -> Error {
    Error::io("cannot write the container", error)
}

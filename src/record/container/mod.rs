//! Avro object container files: a header with the schema, then blocks of datums, each packed on its own.

mod compression;
mod header;
mod reader;
mod writer;

use std::fmt;

pub use compression::Compression;
pub use reader::{ContainerDatums, container_to_datums};
pub use writer::ContainerWriter;

use crate::error::{Error, ErrorKind};

const MAGIC: &[u8; 4] = b"Obj\x01";

/// Bytes that a block, a schema or another entry of the header may have, also after decompression.
const MAX_LEN: usize = 64 << 20;

/// Length of the marker behind the header and behind every block.
const SYNC_LEN: usize = 16;

fn broken(what: impl fmt::Display) -> Error {
    Error::new(ErrorKind::Decode, format!("the container is broken: {what}"))
}

//! Reading a container.

use std::fmt;
use std::io::{BufRead, BufReader, Read};

use super::header::{Header, read_bytes, read_exact, read_long};
use super::{SYNC_LEN, broken};
use crate::error::{Error, ErrorKind, Result};
use crate::record::plan::Plan;
use crate::record::{DynamicSchema, Input};

/// Records of one block that may take no bytes.
const MAX_EMPTY_RECORDS: u64 = 65_536;
/// Reads a container file; its records come out as bare datums of `target`, resolved by the specification's rules. What
/// is no value of its logical type, a decimal of too many digits, a date after the year 9999, is an error.
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
        self.plan.run_prefix(&mut input, &mut datum, true).map_err(|error| {
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
        let sync = read_exact(&mut self.reader, SYNC_LEN)?;
        if sync != self.header.sync {
            return Err(broken(format!("the block at record {} does not end with the file's marker", self.index)));
        }
        self.block = self
            .header
            .compression
            .unpack(packed)
            .map_err(|why| broken(format!("the block at record {} cannot be unpacked: {why}", self.index)))?;
        self.left = u64::try_from(count).map_err(|_| broken(format!("a block of {count} records")))?;
        self.at = 0;
        // Records without a byte could be claimed without end.
        if self.left > MAX_EMPTY_RECORDS && self.left > self.block.len() as u64 {
            return Err(broken(format!("a block of {count} records in {} bytes", self.block.len())));
        }
        Ok(true)
    }
}

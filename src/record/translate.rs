//! Datums of one schema as those of another.

use super::plan::Plan;
use super::to_json::check_end;
use super::{DecodeError, DynamicSchema, Input};
use crate::error::{Error, ErrorKind, Result};

/// Turns bare datums that one schema wrote into those that another would have written, by the specification's rules of
/// resolution.
#[derive(Debug)]
pub struct Translation(Plan);

impl Translation {
    /// Compiles it, or says why the schemas do not fit.
    pub fn compile(writer: &DynamicSchema, reader: &DynamicSchema) -> Result<Self> {
        Plan::compile(writer, reader).map(Self).map_err(|why| {
            let message = format!("records of {} cannot be read as {}: {why}", writer.name(), reader.name());
            Error::new(ErrorKind::Schema, message)
        })
    }

    /// Appends the reader's datum for a datum of the writer, all of which must be consumed.
    pub fn run(&self, datum: &[u8], out: &mut Vec<u8>) -> Result<(), DecodeError> {
        let mut input = Input::new(datum);
        self.0.run_prefix(&mut input, out, false)?;
        check_end(&input)
    }
}

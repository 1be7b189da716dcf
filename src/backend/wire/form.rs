//! What is done with the values of one topic.

use std::collections::HashMap;
use std::sync::Arc;

use super::numbers::{Meaning, Numbers};
use crate::backend::{Replay, Topic};
use crate::error::{Error, ErrorKind, Result};
use crate::record::{Plain, SINGLE_OBJECT_MARKER, split_single_object};
use crate::topic::WireFormat;

/// Byte that begins a value with a Confluent header; the number of its schema follows, big-endian.
const CONFLUENT_MAGIC: u8 = 0;

/// Length of that header.
const CONFLUENT_HEADER_LEN: usize = 5;

/// The plain values that a topic of this format holds; `None` for records.
pub fn plain_of(format: WireFormat) -> Option<Plain> {
    match format {
        WireFormat::SingleObject | WireFormat::Bare | WireFormat::Confluent => None,
        WireFormat::Text => Some(Plain::Text),
        WireFormat::Bytes => Some(Plain::Bytes),
        WireFormat::Int => Some(Plain::Int),
        WireFormat::Long => Some(Plain::Long),
        WireFormat::Float => Some(Plain::Float),
        WireFormat::Double => Some(Plain::Double),
    }
}

/// The number in a Confluent header, and the datum behind it.
pub(super) fn split_confluent(value: &[u8]) -> Option<(u32, &[u8])> {
    let (header, datum) = value.split_first_chunk::<CONFLUENT_HEADER_LEN>()?;
    let [CONFLUENT_MAGIC, number @ ..] = *header else { return None };
    Some((u32::from_be_bytes(number), datum))
}

/// What is done with the values of one topic.
pub(super) enum Form {
    /// They are single objects already.
    Single,
    /// They go as they are; those that are appended must be such.
    Plain(Plain),
    /// They are turned into single objects and back.
    Wire(Box<Wire>),
}

impl Form {
    /// The form of values that go as they are.
    pub(super) fn of_untouched(format: WireFormat) -> Option<Self> {
        match plain_of(format) {
            Some(plain) => Some(Self::Plain(plain)),
            None => (format == WireFormat::SingleObject).then_some(Self::Single),
        }
    }
}

/// Turns values of one topic into single objects and back.
pub(super) struct Wire {
    replay: Arc<dyn Replay>,
    pub(super) topic: Arc<str>,
    format: WireFormat,
    /// Fingerprints of the schemas that the topic keeps: the first is that of bare values, and number n of a Confluent
    /// header stands for the n-th where no registry gives numbers.
    schemas: Vec<u64>,
    /// Who gives the numbers in Confluent headers.
    pub(super) numbers: Option<Arc<Numbers>>,
    /// Fingerprints by their numbers, as far as they have been read.
    read: HashMap<u32, u64>,
    /// Numbers by their fingerprints, as far as they have been written.
    written: HashMap<u64, u32>,
    /// Numbers that were met and are not known yet.
    pub(super) missing: Vec<u32>,
}

impl Wire {
    pub(super) fn new(
        replay: Arc<dyn Replay>,
        format: WireFormat,
        topic: &Topic,
        numbers: Option<&Arc<Numbers>>,
    ) -> Self {
        Self {
            replay,
            topic: topic.spec.name.clone(),
            format,
            schemas: topic.schemas.iter().map(|schema| schema.fingerprint).collect(),
            numbers: numbers.filter(|_| format == WireFormat::Confluent).cloned(),
            read: HashMap::new(),
            written: HashMap::new(),
            missing: Vec::new(),
        }
    }

    /// Schemas may have come since.
    pub(super) fn refresh(&mut self) -> Result<()> {
        // A registry is asked when a number is met.
        if self.numbers.is_none() {
            self.schemas = self.replay.topic(&self.topic)?.schemas.iter().map(|schema| schema.fingerprint).collect();
        }
        Ok(())
    }

    /// Appends the value as a single object. What is not of the topic's format stays as it is, so that whoever decodes
    /// it says what it looks like.
    pub(super) fn wrap(&mut self, value: &[u8], out: &mut Vec<u8>) {
        let (fingerprint, datum) = match self.format {
            WireFormat::Confluent => match self.split(value) {
                Some((fingerprint, datum)) => (Some(fingerprint), datum),
                None => (None, value),
            },
            // Ten bytes that are the header of one of the topic's schemas are no coincidence.
            WireFormat::Bare if split_single_object(value).is_some_and(|(found, _)| self.schemas.contains(&found)) => {
                (None, value)
            }
            WireFormat::Bare => (self.schemas.first().copied(), value),
            _ => (None, value),
        };
        if let Some(fingerprint) = fingerprint {
            out.extend_from_slice(&SINGLE_OBJECT_MARKER);
            out.extend_from_slice(&fingerprint.to_le_bytes());
        }
        out.extend_from_slice(datum);
    }

    /// The fingerprint that a Confluent header's number stands for, and what follows.
    fn split<'a>(&mut self, value: &'a [u8]) -> Option<(u64, &'a [u8])> {
        let (number, datum) = split_confluent(value)?;
        let fingerprint = match self.numbers {
            Some(_) => match self.read.get(&number) {
                Some(fingerprint) => *fingerprint,
                None => self.ask(number)?,
            },
            None => *self.schemas.get((number as usize).checked_sub(1)?)?,
        };
        Some((fingerprint, datum))
    }

    #[cold]
    fn ask(&mut self, number: u32) -> Option<u64> {
        match self.numbers.as_ref()?.meaning(&self.topic, number) {
            Meaning::Schema(fingerprint) => {
                self.read.insert(number, fingerprint);
                Some(fingerprint)
            }
            Meaning::Nothing => None,
            Meaning::Unknown => {
                if !self.missing.contains(&number) {
                    self.missing.push(number);
                }
                None
            }
        }
    }

    /// Gets the numbers of what is to be written, where a registry gives them.
    pub(super) async fn number(&mut self, fingerprints: Vec<u64>) -> Result<()> {
        let Some(numbers) = &self.numbers else { return Ok(()) };
        for fingerprint in fingerprints {
            let number = numbers.number(&self.topic, fingerprint).await?;
            self.written.insert(fingerprint, number);
        }
        Ok(())
    }

    /// The fingerprints among these single objects that a registry must give numbers for first.
    pub(super) fn unnumbered<'a>(&self, values: impl Iterator<Item = &'a [u8]>) -> Vec<u64> {
        let mut found = Vec::new();
        if self.numbers.is_some() {
            for (fingerprint, _) in values.filter_map(split_single_object) {
                if !self.written.contains_key(&fingerprint) && !found.contains(&fingerprint) {
                    found.push(fingerprint);
                }
            }
        }
        found
    }

    /// Appends a single object as the topic has its values.
    pub(super) fn unwrap(&mut self, value: &[u8], out: &mut Vec<u8>) -> Result<()> {
        let refused = |what: String| {
            let message = format!("topic {} has values in the format {}: {what}", self.topic, self.format);
            Err(Error::new(ErrorKind::Encode, message))
        };
        let Some((fingerprint, datum)) = split_single_object(value) else {
            return refused("this one names no schema; put records there, or use another topic".to_owned());
        };
        let number = match &self.numbers {
            Some(_) => self.written.get(&fingerprint).copied(),
            None => {
                if !self.schemas.contains(&fingerprint) {
                    let schemas = self.replay.topic(&self.topic)?.schemas;
                    self.schemas = schemas.iter().map(|schema| schema.fingerprint).collect();
                }
                let place = self.schemas.iter().position(|known| *known == fingerprint);
                place.map(|place| place as u32 + 1)
            }
        };
        match (self.format, number) {
            (WireFormat::Bare, Some(1)) => {}
            (WireFormat::Bare, _) => {
                let first = self.schemas.first().copied().unwrap_or_default();
                return refused(format!(
                    "they are all of schema {first:016x}, and this one is of {fingerprint:016x}; use a new topic for it"
                ));
            }
            (WireFormat::Confluent, Some(number)) => {
                out.push(CONFLUENT_MAGIC);
                out.extend_from_slice(&number.to_be_bytes());
            }
            (WireFormat::Confluent, None) => {
                return refused(format!("it does not keep schema {fingerprint:016x} of this one; add it"));
            }
            // Of these no `Wire` is made.
            _ => {
                out.extend_from_slice(value);
                return Ok(());
            }
        }
        out.extend_from_slice(datum);
        Ok(())
    }
}

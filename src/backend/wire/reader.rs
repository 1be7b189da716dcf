//! The layer's side that reads.

use async_trait::async_trait;

use super::form::Wire;
use crate::backend::Reader;
use crate::error::{Error, ErrorKind, Result};
use crate::record::{FrameBuilder, FrameHeader, Frames, HEADER_LEN};

/// Reads a partition and makes single objects of what is in it.
pub(super) struct WireReader {
    inner: Box<dyn Reader>,
    wire: Wire,
    raw: Frames,
    frame: FrameBuilder,
    /// Where the frames begin that were read and wait until it is known what their numbers stand for.
    held: Option<u64>,
}

#[async_trait]
impl Reader for WireReader {
    fn read(&mut self, into: &mut Frames) -> Result<bool> {
        into.clear();
        let before = self.inner.position();
        let found = self.held.is_some() || self.inner.read(&mut self.raw)?;
        if found {
            self.held.get_or_insert(before);
            // What it does not know it asks for here, so that the second time nothing is missing.
            while !self.convert(into)? {
                for number in std::mem::take(&mut self.wire.missing) {
                    if let Some(numbers) = &self.wire.numbers {
                        numbers.learn_here(&self.wire.topic, number)?;
                    }
                }
            }
            self.held = None;
        }
        Ok(found)
    }

    fn read_now(&mut self, into: &mut Frames) -> Result<Option<bool>> {
        into.clear();
        if self.held.is_none() {
            let before = self.inner.position();
            let found = self.inner.read_now(&mut self.raw)?;
            if found != Some(true) {
                return Ok(found);
            }
            self.held = Some(before);
        }
        if !self.convert(into)? {
            return Ok(None);
        }
        self.held = None;
        Ok(Some(true))
    }

    async fn ready(&mut self) -> Result<()> {
        match (&self.wire.numbers, self.held) {
            (Some(numbers), Some(_)) => numbers.learnt(&self.wire.topic, &self.wire.missing).await,
            _ => self.inner.ready().await,
        }
    }

    fn position(&self) -> u64 {
        self.held.unwrap_or_else(|| self.inner.position())
    }
}

impl WireReader {
    pub(super) fn new(inner: Box<dyn Reader>, wire: Wire) -> Self {
        Self { inner, wire, raw: Frames::default(), frame: FrameBuilder::new(), held: None }
    }

    /// Makes single objects of the frames that were read; `false` where it must be learnt first what numbers stand for.
    fn convert(&mut self, into: &mut Frames) -> Result<bool> {
        into.clear();
        self.wire.missing.clear();
        // Whoever wrote these may have added schemas first.
        self.wire.refresh()?;
        let mut value = Vec::new();
        for frame in self.raw.iter() {
            if frame.header.count == 0 {
                into.push(&frame);
                continue;
            }
            self.frame.clear();
            let mut next = frame.header.base_offset;
            for mut record in frame.records() {
                if let Some(had) = record.value {
                    value.clear();
                    self.wire.wrap(had, &mut value);
                    record.value = Some(&value);
                }
                self.frame.push_after_hole(&mut next, &record);
            }
            let sealed = self.frame.seal_as(&frame.header);
            let header = FrameHeader::parse(sealed).map_err(|error| {
                Error::new(ErrorKind::Corrupt, format!("topic {}: a frame is too large", self.wire.topic))
                    .with_source(error)
            })?;
            into.frames.push((header, into.bytes.len()));
            into.bytes.extend_from_slice(&sealed[sealed.len() - (header.len - HEADER_LEN)..]);
        }
        if !self.wire.missing.is_empty() {
            into.clear();
            return Ok(false);
        }
        Ok(true)
    }
}

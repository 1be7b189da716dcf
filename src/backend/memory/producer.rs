//! Appends to partitions in memory.

use async_trait::async_trait;

use super::MemoryBackend;
use crate::backend::repeat::{check_end, check_keys, repeated, without_first};
use crate::backend::{Appended, Producer, ProducerId};
use crate::error::{Error, ErrorKind, Result};
use crate::record::{FrameBuilder, FrameHeader, HEADER_LEN};
use crate::topic::TopicPartition;

/// A producer of a [`MemoryBackend`].
#[derive(Debug)]
pub(super) struct MemoryProducer {
    backend: MemoryBackend,
    id: ProducerId,
}

impl MemoryProducer {
    pub(super) fn new(backend: MemoryBackend, id: ProducerId) -> Self {
        Self { backend, id }
    }
}

#[async_trait]
impl Producer for MemoryProducer {
    async fn append(
        &mut self,
        to: &TopicPartition,
        frame: &mut FrameBuilder,
        sequence: Option<u64>,
    ) -> Result<Appended> {
        self.write(to, frame, sequence, None)
    }

    async fn append_at(&mut self, to: &TopicPartition, frame: &mut FrameBuilder, offset: u64) -> Result<Appended> {
        self.write(to, frame, None, Some(offset))
    }

    async fn flush(&mut self) -> Result<()> {
        Ok(())
    }
}

impl MemoryProducer {
    fn write(
        &mut self,
        to: &TopicPartition,
        frame: &mut FrameBuilder,
        sequence: Option<u64>,
        expected: Option<u64>,
    ) -> Result<Appended> {
        let partition = self.backend.partition(to)?;
        let sequence = sequence.filter(|_| self.id != ProducerId::ANONYMOUS);
        let mut log = partition.log();
        let base_offset = log.end;
        check_end(to, base_offset, expected)?;
        check_keys(to, partition.compacts(), frame)?;
        let known = log.sequences.get(&self.id.0).copied().unwrap_or(0);
        let dropped = sequence.map_or(0, |sequence| repeated(known, sequence, frame.count()));
        let added = frame.count() - dropped;
        if added == 0 {
            return Ok(Appended { base_offset, added, dropped });
        }
        let mut rest = (dropped > 0).then(|| without_first(frame, dropped));
        let first = sequence.map(|sequence| sequence + u64::from(dropped));
        let producer = first.map_or(0, |_| self.id.0);
        let bytes = rest.as_mut().unwrap_or(frame).seal(0, base_offset, producer, first.unwrap_or(0), 0);
        let header = FrameHeader::parse(bytes).map_err(|error| {
            Error::new(ErrorKind::Encode, "the batch cannot be stored; append fewer records at once")
                .at(to)
                .with_source(error)
        })?;
        log.frames.push((header, bytes[HEADER_LEN..].into()));
        log.end = header.next_offset();
        if let Some(first) = first {
            log.sequences.insert(self.id.0, first + u64::from(added));
        }
        drop(log);
        partition.appended.notify_waiters();
        Ok(Appended { base_offset, added, dropped })
    }
}

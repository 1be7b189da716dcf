//! Reads a partition in memory.

use std::sync::Arc;

use async_trait::async_trait;

use super::topic::Partition;
use crate::backend::Reader;
use crate::error::{Error, ErrorKind, Result};
use crate::record::{Frame, Frames};
use crate::topic::TopicPartition;

/// Bytes after which a batch ends.
const BATCH_BYTES: usize = 256 << 10;

/// A reader of one partition.
#[derive(Debug)]
pub(super) struct MemoryReader {
    partition: Arc<Partition>,
    /// Index of the frame that is read next.
    frame: usize,
    position: u64,
}

impl MemoryReader {
    pub(super) fn new(partition: Arc<Partition>, place: &TopicPartition, from: u64) -> Result<Self> {
        let log = partition.log();
        if from > log.end {
            return Err(Error::new(ErrorKind::NotFound, format!("the partition ends at offset {}", log.end))
                .at(place)
                .at_offset(from));
        }
        let frame = log.frames.partition_point(|(header, _)| header.next_offset() <= from);
        drop(log);
        Ok(Self { partition, frame, position: from })
    }
}

#[async_trait]
impl Reader for MemoryReader {
    fn read(&mut self, into: &mut Frames) -> Result<bool> {
        into.clear();
        let log = self.partition.log();
        for (header, payload) in log.frames.iter().skip(self.frame) {
            if !into.is_empty() && into.bytes.len() + payload.len() > BATCH_BYTES {
                break;
            }
            into.push(&Frame { header: *header, payload });
            self.frame += 1;
            self.position = header.next_offset();
        }
        Ok(!into.is_empty())
    }

    async fn ready(&mut self) -> Result<()> {
        loop {
            let appended = self.partition.appended.notified();
            tokio::pin!(appended);
            appended.as_mut().enable();
            if self.partition.log().end > self.position {
                return Ok(());
            }
            appended.await;
        }
    }

    fn position(&self) -> u64 {
        self.position
    }
}

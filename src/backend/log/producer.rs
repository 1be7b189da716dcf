//! A producer: remembers which partitions it opened and what it has to flush.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::Arc;

use async_trait::async_trait;
use futures::future::try_join_all;

use super::LogBackend;
use super::partition::Partition;
use crate::backend::{Appended, Producer, ProducerId};
use crate::error::Result;
use crate::record::FrameBuilder;
use crate::topic::TopicPartition;

/// A producer of a [`LogBackend`].
#[derive(Debug)]
pub(super) struct LogProducer {
    backend: LogBackend,
    id: ProducerId,
    /// Ordered, so that a simulation syncs them in the same order every time.
    partitions: BTreeMap<TopicPartition, Touched>,
}

#[derive(Debug)]
struct Touched {
    partition: Arc<Partition>,
    /// Byte position after the last append that was not flushed, or 0.
    unflushed: u64,
}

impl LogProducer {
    pub(super) fn new(backend: LogBackend, id: ProducerId) -> Self {
        Self { backend, id, partitions: BTreeMap::new() }
    }
}

#[async_trait]
impl Producer for LogProducer {
    async fn append(
        &mut self,
        to: &TopicPartition,
        frame: &mut FrameBuilder,
        sequence: Option<u64>,
    ) -> Result<Appended> {
        self.write(to, frame, sequence, None).await
    }

    async fn append_at(&mut self, to: &TopicPartition, frame: &mut FrameBuilder, offset: u64) -> Result<Appended> {
        self.write(to, frame, None, Some(offset)).await
    }

    async fn flush(&mut self) -> Result<()> {
        let syncs = self.partitions.values().filter(|touched| touched.unflushed > 0 && touched.partition.syncs());
        try_join_all(syncs.map(|touched| touched.partition.sync_together(touched.unflushed))).await?;
        self.partitions.values_mut().for_each(|touched| touched.unflushed = 0);
        Ok(())
    }
}

impl LogProducer {
    async fn write(
        &mut self,
        to: &TopicPartition,
        frame: &mut FrameBuilder,
        sequence: Option<u64>,
        expected: Option<u64>,
    ) -> Result<Appended> {
        let touched = match self.partitions.entry(to.clone()) {
            Entry::Occupied(touched) => touched.into_mut(),
            Entry::Vacant(first) => {
                let partition = self.backend.open_partition(to).await?;
                first.insert(Touched { partition, unflushed: 0 })
            }
        };
        let (appended, end) = touched.partition.append(frame, self.id, sequence, expected).await?;
        touched.unflushed = touched.unflushed.max(end);
        Ok(appended)
    }
}

//! Publishing many records at once, durably, and only once under a producer's name.

use std::sync::Arc;

use crate::backend::{Backend, Capabilities, Need, Producer, ProducerId};
use crate::error::{Error, ErrorKind, Result};
use crate::record::{FrameBuilder, oversize};
use crate::topic::{TopicPartition, partition_of};

/// Appends records to a topic.
///
/// Under a name, the producer counts its records by partition, and the topic drops those that it has already: the same
/// records published again under the same name add nothing. More records at the end of the same list are added.
pub struct Publisher {
    backend: Arc<dyn Backend>,
    producer: Box<dyn Producer>,
    named: bool,
    max_record_bytes: usize,
    batch_bytes: usize,
    partitions: Vec<Partition>,
    /// Records without a key go round.
    next: usize,
    published: Published,
}

struct Partition {
    place: TopicPartition,
    frame: FrameBuilder,
    sequence: u64,
}

/// What became of published records.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Published {
    /// Records that the topic had not.
    pub added: u64,
    /// Records that the topic had already from the producer of that name.
    pub dropped: u64,
}

impl Publisher {
    /// A publisher to a topic that exists.
    pub async fn open(backend: &Arc<dyn Backend>, topic: &str, name: Option<&str>) -> Result<Self> {
        let topics = backend.topics().await?;
        let Some(found) = topics.iter().find(|have| *have.spec.name == *topic) else {
            return Err(Error::new(ErrorKind::NotFound, format!("topic {topic} does not exist")));
        };
        let partition = |partition| Partition {
            place: TopicPartition::new(topic, partition),
            frame: FrameBuilder::new(),
            sequence: 0,
        };
        let Capabilities { max_record_bytes, batch_bytes, .. } = backend.capabilities();
        Ok(Self {
            backend: backend.clone(),
            producer: backend.producer(name.map_or(ProducerId::ANONYMOUS, ProducerId::named)).await?,
            named: name.is_some(),
            max_record_bytes,
            batch_bytes,
            partitions: (0..found.spec.partitions).map(partition).collect(),
            next: 0,
            published: Published::default(),
        })
    }

    /// Adds a record; `timestamp` is in milliseconds since 1970. It may not be appended before [`Publisher::flush`].
    ///
    /// A record that is larger than the backend allows is refused, and those before it stay.
    pub async fn push(&mut self, key: Option<&[u8]>, value: Option<&[u8]>, timestamp: i64) -> Result<()> {
        if let Some(why) = oversize(key, value, self.max_record_bytes) {
            let topic = self.partitions.first().map_or("", |partition| &partition.place.topic);
            return Err(Error::new(ErrorKind::Limit, format!("a record for topic {topic} is too large: {why}")));
        }
        let place = match key {
            Some(key) => partition_of(key, self.partitions.len() as u32) as usize,
            None => {
                self.next = (self.next + 1) % self.partitions.len();
                self.next
            }
        };
        self.partitions[place].frame.push(key, value, timestamp);
        if self.partitions[place].frame.len() >= self.batch_bytes {
            self.append(place).await?;
        }
        Ok(())
    }

    /// Appends what is left, and returns once everything is durable.
    pub async fn flush(&mut self) -> Result<Published> {
        for place in 0..self.partitions.len() {
            self.append(place).await?;
        }
        self.producer.flush().await?;
        Ok(self.published)
    }

    async fn append(&mut self, place: usize) -> Result<()> {
        let Partition { place, frame, sequence } = &mut self.partitions[place];
        if frame.is_empty() {
            return Ok(());
        }
        self.backend.check_room(Need::Publish).map_err(|error| error.at(place))?;
        let appended = self.producer.append(place, frame, self.named.then_some(*sequence)).await?;
        *sequence += u64::from(frame.count());
        self.published.added += u64::from(appended.added);
        self.published.dropped += u64::from(appended.dropped);
        frame.clear();
        Ok(())
    }
}

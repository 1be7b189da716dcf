//! What a task has put out since its last commit.

use std::sync::Arc;

use crate::record::{EncodeError, FrameBuilder, FrameMark, Headers, Value, oversize};
use crate::topic::partition_of;

/// A frame of outputs is closed when it has grown to this many bytes.
const CHUNK_BYTES: usize = 256 << 10;

/// Frames whose memory is kept in any case.
const FEW_FRAMES: usize = 2;

/// A topic that a task writes to.
#[derive(Clone, Debug)]
pub struct Destination {
    /// The topic.
    pub topic: Arc<str>,
    /// Its number of partitions.
    pub partitions: u32,
    /// The number of its partition 0 in the task's own count of output partitions.
    pub first: u32,
}

/// Outputs between two commits, in the order in which they were made, as records of the changelog.
///
/// The key of such a record is [`OUTPUT_TAG`], the number of the output partition (4 bytes), whether there is a key
/// (1 byte) and the key; value, timestamp and headers are the output's own.
#[derive(Debug)]
pub(crate) struct Outbox {
    destinations: Vec<Destination>,
    chunks: Vec<FrameBuilder>,
    open: FrameBuilder,
    spare: Vec<FrameBuilder>,
    partition: u32,
    /// Outputs so far, by number of the output partition.
    counts: Vec<u64>,
    limits: OutboxLimits,
    /// Bytes in the frames that are closed.
    closed_bytes: usize,
    /// Frames that were closed since the last drain.
    closed: usize,
    /// The same of the interval before: as many are worth keeping.
    kept: usize,
}

/// How much a task may put out.
#[derive(Clone, Copy, Debug)]
pub(crate) struct OutboxLimits {
    /// Bytes of a record's value, and of its key.
    pub(crate) record_bytes: usize,
    /// Bytes that wait for a commit; with more than that one is due.
    pub(crate) bytes: usize,
}

/// First byte of the key of an output in a changelog.
pub(crate) const OUTPUT_TAG: u8 = 2;

/// Bytes of such a key before the output's own.
pub(crate) const OUTPUT_HEAD: usize = 6;

/// What the outbox held at some moment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct OutboxMark {
    chunks: usize,
    open: FrameMark,
}

impl Outbox {
    /// An empty outbox of a task on `partition`.
    pub(crate) fn new(destinations: Vec<Destination>, partition: u32, limits: OutboxLimits) -> Self {
        let counts = vec![0; destinations.iter().map(|to| to.partitions as usize).sum()];
        Self {
            destinations,
            chunks: Vec::new(),
            open: FrameBuilder::new(),
            spare: Vec::new(),
            partition,
            counts,
            limits,
            closed_bytes: 0,
            closed: 0,
            kept: 0,
        }
    }

    /// Whether so much waits that a commit is due.
    #[inline]
    pub(crate) fn is_full(&self) -> bool {
        self.closed_bytes + self.open.len() > self.limits.bytes
    }

    /// Whether nothing has been put out.
    pub(crate) fn is_empty(&self) -> bool {
        self.open.is_empty() && self.chunks.is_empty()
    }

    /// Remembers what it holds.
    pub(crate) fn mark(&self) -> OutboxMark {
        OutboxMark { chunks: self.chunks.len(), open: self.open.mark() }
    }

    /// Drops what was put out since the mark.
    pub(crate) fn rollback(&mut self, mark: OutboxMark) {
        if self.chunks.len() > mark.chunks {
            // The frame that was open then is the first that was closed since.
            let open = self.chunks.swap_remove(mark.chunks);
            self.chunks.truncate(mark.chunks);
            self.open = open;
            self.closed_bytes = self.chunks.iter().map(FrameBuilder::len).sum();
        }
        self.open.rollback(mark.open);
        self.recount();
    }

    /// Counts again what is left after a rollback, which is rare.
    fn recount(&mut self) {
        self.counts.fill(0);
        for record in self.chunks.iter().chain([&self.open]).flat_map(FrameBuilder::records) {
            if let Some([OUTPUT_TAG, a, b, c, d, ..]) = record.key
                && let Some(count) = self.counts.get_mut(u32::from_le_bytes([*a, *b, *c, *d]) as usize)
            {
                *count += 1;
            }
        }
    }

    /// Puts out bytes as they are.
    #[inline]
    pub(crate) fn push(
        &mut self,
        destination: usize,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        timestamp: i64,
        headers: &[(&str, &[u8])],
    ) {
        let (number, head) = self.place(destination, key);
        self.open.push_parts(Some([&head, key.unwrap_or_default()]), value, timestamp, headers);
        self.counts[number] += 1;
        self.close_full();
    }

    /// Adds a changelog record of another kind: `tag` and `key` make its key.
    #[inline]
    pub(crate) fn push_entry(&mut self, tag: &[u8], key: &[u8], value: Option<&[u8]>, timestamp: i64) {
        self.open.push_parts(Some([tag, key]), value, timestamp, &[]);
        self.close_full();
    }

    /// The same with a value that `encode` appends.
    #[inline]
    pub(crate) fn push_encoded_entry(
        &mut self,
        tag: &[u8],
        key: &[u8],
        encode: impl FnOnce(&mut Vec<u8>) -> Result<(), EncodeError>,
    ) -> Result<(), EncodeError> {
        self.open.push_encoded(Some([tag, key]), 0, encode)?;
        self.close_full();
        Ok(())
    }

    /// A topic that the task writes to.
    pub(crate) fn destination(&self, destination: usize) -> Option<&Destination> {
        self.destinations.get(destination)
    }

    /// Counts an output that is kept elsewhere, and returns the number of its partition.
    #[inline]
    pub(crate) fn count_derived(&mut self, destination: usize, key: &[u8]) -> u32 {
        let to = &self.destinations[destination];
        let number = to.first + partition_of(key, to.partitions);
        self.counts[number as usize] += 1;
        number
    }

    #[inline]
    fn close_full(&mut self) {
        if self.open.len() >= CHUNK_BYTES {
            // Where one was filled another will be: it is not to grow step by step.
            let next = self.spare.pop().unwrap_or_else(|| FrameBuilder::with_capacity(CHUNK_BYTES));
            self.closed_bytes += self.open.len();
            self.closed += 1;
            self.chunks.push(std::mem::replace(&mut self.open, next));
        }
    }

    /// Puts out a value, or says why it is too large.
    #[inline]
    pub(crate) fn push_value<V: Value>(
        &mut self,
        destination: usize,
        key: Option<&[u8]>,
        value: &V,
        timestamp: i64,
    ) -> Result<(), EncodeError> {
        let (number, head) = self.place(destination, key);
        let most = self.limits.record_bytes;
        self.open.push_encoded(Some([&head, key.unwrap_or_default()]), timestamp, |out| {
            let before = out.len();
            value.encode_value(out)?;
            match oversize(key, out.get(before..), most) {
                None => Ok(()),
                Some(why) => Err(EncodeError::new(why)),
            }
        })?;
        self.counts[number] += 1;
        self.close_full();
        Ok(())
    }

    /// Puts out that there is nothing under a key any more, or says why that is too large.
    fn push_tombstone(&mut self, destination: usize, key: &[u8], timestamp: i64) -> Result<(), EncodeError> {
        match oversize(Some(key), None, self.limits.record_bytes) {
            None => self.push(destination, Some(key), None, timestamp, &[]),
            Some(why) => return Err(EncodeError::new(why)),
        }
        Ok(())
    }

    /// The number of the output partition that a key belongs to, and what the changelog's key begins with.
    #[inline]
    fn place(&self, destination: usize, key: Option<&[u8]>) -> (usize, [u8; OUTPUT_HEAD]) {
        let to = &self.destinations[destination];
        // A record without a key stays with the number of the partition that it came from.
        let partition = match key {
            Some(key) => partition_of(key, to.partitions),
            None => self.partition % to.partitions.max(1),
        };
        let number = to.first + partition;
        let [a, b, c, d] = number.to_le_bytes();
        (number as usize, [OUTPUT_TAG, a, b, c, d, u8::from(key.is_some())])
    }

    /// The output partitions that something was put out to since the last drain: number, topic, partition, count.
    pub(crate) fn counts(&self) -> impl Iterator<Item = (u32, &Arc<str>, u32, u64)> {
        self.destinations.iter().flat_map(|to| {
            (0..to.partitions).filter_map(|partition| {
                let number = to.first + partition;
                let count = self.counts[number as usize];
                (count > 0).then_some((number, &to.topic, partition, count))
            })
        })
    }

    /// Whether a frame has grown to its full size.
    #[inline]
    pub(crate) fn has_full(&self) -> bool {
        !self.chunks.is_empty()
    }

    /// Takes the frames out that have grown to their full size; their records are a changelog's. What was put out
    /// before cannot be gone back behind any more.
    pub(crate) fn take_full(&mut self) -> Vec<FrameBuilder> {
        self.closed_bytes = 0;
        std::mem::take(&mut self.chunks)
    }

    /// Takes everything out, and begins to count anew.
    pub(crate) fn drain(&mut self) -> Vec<FrameBuilder> {
        self.counts.fill(0);
        self.kept = std::mem::take(&mut self.closed);
        self.spare.truncate(self.kept.max(FEW_FRAMES));
        self.take_all()
    }

    /// Takes everything out. What was put out before cannot be gone back behind any more.
    pub(crate) fn take_all(&mut self) -> Vec<FrameBuilder> {
        let mut frames = self.take_full();
        if !self.open.is_empty() {
            let next = self.spare.pop().unwrap_or_default();
            frames.push(std::mem::replace(&mut self.open, next));
        }
        frames
    }

    /// Takes frames back whose memory can be used again.
    pub(crate) fn recycle(&mut self, mut frame: FrameBuilder) {
        // Memory that the next interval will hardly need is given back.
        if self.spare.len() < self.kept.max(self.closed).max(FEW_FRAMES) {
            frame.clear();
            self.spare.push(frame);
        }
    }
}

/// Puts out what an agent returned for one record.
#[derive(Debug)]
pub struct Emit<'a> {
    /// The task's outbox.
    pub(super) outbox: &'a mut Outbox,
    /// Where to, as the agent's `output` says.
    pub(super) destination: usize,
    /// The key of the record that the outputs come from.
    pub(super) key: Option<&'a [u8]>,
    /// Its timestamp.
    pub(super) timestamp: i64,
}

impl Emit<'_> {
    /// A value under the key of the record that it comes from.
    #[inline]
    pub fn value<V: Value>(&mut self, value: &V) -> Result<(), EncodeError> {
        self.outbox.push_value(self.destination, self.key, value, self.timestamp)
    }

    /// A value, or a tombstone, under a key of its own.
    pub fn keyed<V: Value>(&mut self, key: &[u8], value: Option<&V>) -> Result<(), EncodeError> {
        match value {
            Some(value) => self.outbox.push_value(self.destination, Some(key), value, self.timestamp),
            None => self.outbox.push_tombstone(self.destination, key, self.timestamp),
        }
    }
}

/// A record's headers, copied.
pub(crate) fn owned_headers(headers: Headers<'_>) -> Vec<(String, bytes::Bytes)> {
    headers.iter().map(|(name, value)| (name.to_owned(), bytes::Bytes::copy_from_slice(value))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outbox(bytes: usize) -> Outbox {
        let to = Destination { topic: "out".into(), partitions: 3, first: 0 };
        Outbox::new(vec![to], 1, OutboxLimits { record_bytes: 1_000, bytes })
    }

    #[test]
    fn an_output_may_be_as_large_as_the_limit() {
        let mut outbox = outbox(usize::MAX);
        for (len, fits) in [(999, true), (1_000, true), (1_001, false)] {
            let put = outbox.push_value(0, None, &"x".repeat(len), 0);
            assert_eq!(put.is_ok(), fits, "{len}: {put:?}");
            let key = vec![b'k'; len];
            for value in [Some(&1_i64), None] {
                let put = Emit { outbox: &mut outbox, destination: 0, key: None, timestamp: 0 }.keyed(&key, value);
                assert_eq!(put.is_ok(), fits, "a key of {len} with {value:?}: {put:?}");
            }
        }
        assert_eq!(outbox.drain().iter().map(FrameBuilder::count).sum::<u32>(), 6);
    }

    #[test]
    fn a_commit_is_due_beyond_the_bytes_that_may_wait() {
        // A frame of its header, and a record of flags, key and value with their lengths.
        let one = 80 + 1 + 1 + 6 + 2 + 200;
        for (bytes, full) in [(one - 1, true), (one, false), (one + 1, false)] {
            let mut outbox = outbox(bytes);
            outbox.push(0, None, Some(&[7; 200]), 0, &[]);
            assert_eq!(outbox.is_full(), full, "{bytes}");
            outbox.drain();
            assert!(!outbox.is_full());
        }
        let mut outbox = outbox(1 << 20);
        let mark = outbox.mark();
        let mut count = 0;
        while !outbox.is_full() {
            outbox.push(0, None, Some(&[7; 900]), 0, &[]);
            count += 1;
        }
        assert!((1_140..1_165).contains(&count), "{count}");
        outbox.rollback(mark);
        assert!(!outbox.is_full(), "what is undone does not count");
    }

    #[test]
    fn a_rollback_over_closed_frames_drops_what_came_after_the_mark() {
        let mut outbox = outbox(usize::MAX);
        let value = vec![1_u8; 100_000];
        outbox.push(0, Some(b"before"), Some(&value), 5, &[]);
        let mark = outbox.mark();
        for _ in 0..7 {
            outbox.push(0, Some(b"after"), Some(&value), 6, &[]);
        }
        outbox.rollback(mark);
        outbox.push(0, None, None, 7, &[]);
        assert_eq!(outbox.counts().map(|(number, _, _, count)| u64::from(number > 9) + count).sum::<u64>(), 2);
        let frames = outbox.drain();
        let keys: Vec<Vec<u8>> =
            frames.iter().flat_map(|f| f.records().map(|r| r.key.unwrap().to_vec()).collect::<Vec<_>>()).collect();
        assert_eq!(keys.len(), 2);
        assert_eq!(&keys[0][6..], b"before");
        assert_eq!(keys[1], [OUTPUT_TAG, 1, 0, 0, 0, 0], "without a key it keeps the number of its partition");
        assert_eq!(outbox.counts().count(), 0);
        assert!(outbox.is_empty());
    }
}

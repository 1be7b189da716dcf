//! Appends to a partition: one lock, one write, one publication.

use std::collections::BTreeMap;
use std::io::ErrorKind as IoKind;
use std::sync::{Arc, MutexGuard, PoisonError};

use super::append_lock::lock_to_append;
use super::files::{io_error, open_or_create, try_lock};
use super::index::{ENTRY_LEN, entry, index_path};
use super::partition::Partition;
use super::recovery::{Recovered, note_sequences};
use super::segment::{NotMade, SEGMENT_HEADER_LEN, Segment, SegmentHeader};
use super::segment_name::SegmentName;
use super::shared::End;
use crate::backend::repeat::{check_end, check_keys, repeated, without_first};
use crate::backend::{Appended, ProducerId};
use crate::disk::{DiskFile, Unlock};
use crate::error::{Error, ErrorKind, Result};
use crate::fault;
use crate::record::FrameBuilder;

/// Space is reserved ahead in steps that double within these bounds, so that a sync seldom changes the file's size
/// and an idle partition takes little.
const RESERVE_BYTES: std::ops::RangeInclusive<u64> = 64 << 10..=16 << 20;

/// When the first segment has as many bytes, it is synced for the first time: the end of that segment waits until its
/// beginning is durable, which a sync of all of it is a long way to.
const FIRST_SYNC_BYTES: u64 = 1 << 20;

/// What an appender knows of the partition.
#[derive(Debug)]
pub(super) struct Writer {
    pub(super) segment: Arc<Segment>,
    /// Up to where the frames were seen.
    seen: End,
    sequences: BTreeMap<u64, u64>,
    /// Bytes of the segment's file that are reserved.
    reserved: u64,
    index: Option<DiskFile>,
}

impl Writer {
    /// For the partition's first user.
    pub(super) fn recovered(found: Recovered) -> Self {
        Self { segment: Arc::new(found.segment), seen: found.end, sequences: found.sequences, reserved: 0, index: None }
    }

    /// For a partition that others use: nothing of the segment was seen yet.
    pub(super) fn behind(segment: Segment) -> Self {
        let seen = End {
            pos: segment.start + SEGMENT_HEADER_LEN,
            offset: segment.base,
            segment_base: segment.base,
            segment_start: segment.start,
        };
        Self { segment: Arc::new(segment), seen, sequences: BTreeMap::new(), reserved: 0, index: None }
    }

    /// Learns what was appended since, by whomever.
    fn catch_up(&mut self, partition: &Partition) -> Result<()> {
        let end = partition.end();
        if end == self.seen {
            return Ok(());
        }
        if end.segment_base != self.segment.base {
            let name = SegmentName::appended(end.segment_base);
            let segment = Segment::open(partition.disk(), &partition.folder, name)?.ok_or_else(|| {
                Error::new(ErrorKind::Corrupt, "the segment that is written is gone").at(&partition.place)
            })?;
            // Its control frame lists every producer, so what lies between needs no look.
            *self = Self::behind(segment);
        }
        let Self { segment, seen, sequences, .. } = self;
        let (from, limit) = (seen.pos - segment.start, end.pos - segment.start);
        let walked = segment.walk(from, limit, seen.offset, |frame, _| note_sequences(sequences, frame))?;
        if let Some(why) = walked.stopped {
            return Err(segment.corrupt(walked.at, &why).at(&partition.place).at_offset(walked.offset));
        }
        *seen = end;
        Ok(())
    }

    /// Goes on in a new segment.
    ///
    /// Killed in here, a writer leaves a segment that nobody published. The next one must not append to the old
    /// segment then, for two would hold the same offsets: it sees the note and makes the new segment again.
    fn roll(&mut self, partition: &Arc<Partition>) -> Result<()> {
        partition.page.set_rolling(true);
        self.reserved = 0;
        let old = &self.segment;
        old.file.set_len(self.seen.pos - old.start).map_err(|error| io_error("shorten", &old.path, error))?;
        let durable = partition.page.durable().0;
        if durable == 0 {
            // The new segment is durable at once, and must outlive neither what is in the first one nor its name.
            old.file.sync_all().map_err(|error| partition.poisoned_by(io_error("sync", &old.path, error)))?;
            partition.sync_names()?;
        }
        let header = SegmentHeader {
            base: self.seen.offset,
            start: self.seen.pos,
            durable,
            created_ms: partition.common.time.note()?.max(old.created_ms),
            ends: None,
        };
        let made = Segment::create(partition.disk(), &partition.folder, header, &self.sequences);
        let (segment, len) = made.map_err(|failed| match failed {
            NotMade::Sync(error) => partition.poisoned_by(error),
            // It is made again by whoever appends next.
            NotMade::Before(error) => error,
        })?;
        self.seen = End {
            pos: segment.start + len,
            segment_base: segment.base,
            segment_start: segment.start,
            offset: self.seen.offset,
        };
        self.segment = Arc::new(segment);
        self.index = None;
        partition.page.publish(self.seen);
        partition.page.set_rolling(false);
        partition.sync_behind();
        Ok(())
    }

    /// Makes sure that the segment has room for `len` bytes in all.
    fn reserve(&mut self, len: u64) -> Result<()> {
        if len <= self.reserved {
            return Ok(());
        }
        let have = self.segment.len()?;
        let want = len.max(have + have.clamp(*RESERVE_BYTES.start(), *RESERVE_BYTES.end()));
        match self.segment.file.allocate(have, want - have) {
            Ok(()) => self.reserved = want,
            // The file system cannot; the file grows with each write then.
            Err(error) if error.kind() == IoKind::Unsupported => self.reserved = u64::MAX,
            // There may be room for the frame itself; the write tells.
            Err(error) if error.kind() == IoKind::StorageFull => {}
            Err(error) => return Err(io_error("reserve space in", &self.segment.path, error)),
        }
        Ok(())
    }

    /// Notes in the index where the frame after this one begins, once a block.
    fn note_in_index(&mut self, from: u64, to: u64, offset: u64, block: u64) {
        if from / block == to / block {
            return;
        }
        let path = index_path(&self.segment.path);
        if self.index.is_none() {
            self.index = open_or_create(&self.segment.disk, &path).ok();
        }
        // An index that lacks entries costs a longer search, no more.
        let written = self.index.as_ref().map(|file| {
            let end = file.length()?;
            file.write_all_at(&entry(offset, to), end - end % ENTRY_LEN)
        });
        if !matches!(written, Some(Ok(()))) {
            tracing::debug!(file = %path.display(), "the index was not extended");
        }
    }
}

impl Partition {
    pub(super) fn writer(&self) -> MutexGuard<'_, Writer> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Appends a frame; also returns the byte position after it. Not cancel-safe: it may be appended or not.
    pub(super) async fn append(
        self: &Arc<Self>,
        frame: &mut FrameBuilder,
        producer: ProducerId,
        sequence: Option<u64>,
        expected: Option<u64>,
    ) -> Result<(Appended, u64)> {
        if let Some(done) = self.append_if_free(frame, producer, sequence, expected)? {
            return Ok(done);
        }
        // Another process writes. The lock is taken through a descriptor of its own, so that an append that is
        // cancelled meanwhile gives it back.
        let path = self.append_lock_path.clone();
        let (disk, place) = (self.disk().clone(), self.place.clone());
        let open = move || {
            let file = open_or_create(&disk, &path)?;
            lock_to_append(&disk, &place, &file, &path)?;
            Ok(Unlock(file))
        };
        let held = self.disk().blocking(open).await?;
        let done = self.write(&mut self.writer(), frame, producer, (sequence, expected));
        drop(held);
        self.wake_all();
        done
    }

    fn append_if_free(
        self: &Arc<Self>,
        frame: &mut FrameBuilder,
        producer: ProducerId,
        sequence: Option<u64>,
        expected: Option<u64>,
    ) -> Result<Option<(Appended, u64)>> {
        let mut writer = self.writer();
        if !try_lock(&self.append_lock, &self.append_lock_path)? {
            return Ok(None);
        }
        let unlock = Unlock(&self.append_lock);
        let done = self.write(&mut writer, frame, producer, (sequence, expected));
        drop(unlock);
        drop(writer);
        self.wake_all();
        done.map(Some)
    }

    /// Appends under the append lock.
    fn write(
        self: &Arc<Self>,
        writer: &mut Writer,
        frame: &mut FrameBuilder,
        producer: ProducerId,
        (sequence, expected): (Option<u64>, Option<u64>),
    ) -> Result<(Appended, u64)> {
        self.check_usable()?;
        writer.catch_up(self)?;
        check_end(&self.place, writer.seen.offset, expected)?;
        check_keys(&self.place, self.limits.compacts(), frame)?;
        let sequence = sequence.filter(|_| producer != ProducerId::ANONYMOUS);
        let known = writer.sequences.get(&producer.0).copied().unwrap_or(0);
        let dropped = sequence.map_or(0, |sequence| repeated(known, sequence, frame.count()));
        let added = frame.count() - dropped;
        if added == 0 {
            return Ok((Appended { base_offset: writer.seen.offset, added, dropped }, writer.seen.pos));
        }
        let mut rest = (dropped > 0).then(|| without_first(frame, dropped));
        let frame = rest.as_mut().unwrap_or(frame);
        let most = self.common.options.max_batch_bytes;
        if frame.len() > most {
            let message = format!(
                "a batch of {} bytes cannot be appended: max_batch_bytes allows {most}; append fewer or smaller records \
                 at once, or raise it",
                frame.len()
            );
            return Err(Error::new(ErrorKind::Limit, message).at(&self.place));
        }
        let len = frame.len() as u64;
        let used = writer.seen.pos - writer.seen.segment_start;
        let offsets = writer.seen.offset - writer.segment.base + u64::from(added);
        let full = self.limits.end_a_segment(used + len, offsets) || self.page.is_rolling();
        if full && writer.seen.offset > writer.segment.base {
            writer.roll(self).map_err(|error| error.at(&self.place))?;
        }
        let base_offset = writer.seen.offset;
        let first = sequence.map(|sequence| sequence + u64::from(dropped));
        let as_producer = first.map_or(0, |_| producer.0);
        let bytes = frame.seal(0, base_offset, as_producer, first.unwrap_or(0), self.page.durable().0);
        let at = writer.seen.pos - writer.seen.segment_start;
        writer.reserve(at + len).map_err(|error| error.at(&self.place))?;
        fault::point(fault::APPEND);
        writer.segment.file.write_all_at(bytes, at).map_err(|error| {
            io_error("append to", &writer.segment.path, error).at(&self.place).at_offset(base_offset)
        })?;
        writer.seen.pos += len;
        writer.seen.offset += u64::from(added);
        self.page.publish(writer.seen);
        if let Some(first) = first {
            writer.sequences.insert(producer.0, first + u64::from(added));
        }
        writer.note_in_index(at, at + len, writer.seen.offset, self.common.options.index_bytes);
        if (at..at + len).contains(&FIRST_SYNC_BYTES) && self.page.durable().0 == 0 {
            self.sync_behind();
        }
        Ok((Appended { base_offset, added, dropped }, writer.seen.pos))
    }

    /// Ends the segment that is written if it holds a record and was begun so long ago that it is due, so that it can
    /// go. While somebody else appends, it is left for the next time.
    pub(super) fn roll_if_older(self: &Arc<Self>, roll_ms: u64, now_ms: i64) -> Result<bool> {
        let mut writer = self.writer();
        if !try_lock(&self.append_lock, &self.append_lock_path)? {
            return Ok(false);
        }
        let _unlock = Unlock(&self.append_lock);
        self.check_usable()?;
        writer.catch_up(self)?;
        let due = now_ms.saturating_sub(writer.segment.created_ms) >= i64::try_from(roll_ms).unwrap_or(i64::MAX);
        if !due || writer.seen.offset == writer.segment.base {
            return Ok(false);
        }
        writer.roll(self).map_err(|error| error.at(&self.place))?;
        Ok(true)
    }

    /// The sequence after the last of a producer.
    pub(super) fn next_sequence(&self, producer: ProducerId) -> Result<u64> {
        let mut writer = self.writer();
        writer.catch_up(self)?;
        Ok(writer.sequences.get(&producer.0).copied().unwrap_or(0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::log::{LogBackend, LogOptions};
    use crate::backend::{Backend, Replay};
    use crate::clock::Clock;
    use crate::record::Frames;
    use crate::topic::{TopicPartition, TopicSpec};

    /// Killed between making a segment and publishing it.
    #[tokio::test]
    async fn a_segment_that_was_not_published_is_made_again() {
        let folder = tempfile::tempdir().unwrap();
        let options = LogOptions { segment_bytes: 1 << 20, ..LogOptions::new(folder.path()) };
        let backend = LogBackend::open(options.clone(), Clock::system()).unwrap();
        backend.create_topic(&TopicSpec::new("t", 1)).await.unwrap();
        let place = TopicPartition::new("t", 0);
        let mut frame = FrameBuilder::new();
        frame.push(None, Some(b"v"), 0);
        let mut producer = backend.producer(ProducerId::ANONYMOUS).await.unwrap();
        producer.append(&place, &mut frame, None).await.unwrap();
        let partition = backend.partition(&place).unwrap();
        let end = partition.end();
        partition.page.set_rolling(true);
        let header = SegmentHeader { base: end.offset, start: end.pos, durable: 0, created_ms: 0, ends: None };
        Segment::create(partition.disk(), &partition.folder, header, &BTreeMap::new()).unwrap();
        for _ in 0..3 {
            producer.append(&place, &mut frame, None).await.unwrap();
        }
        assert_eq!(partition.end().segment_base, 1);
        drop((producer, partition, backend));
        let backend = LogBackend::open(options, Clock::system()).unwrap();
        for from in 0..4 {
            let mut reader = backend.reader(&place, from).unwrap();
            let mut frames = Frames::default();
            while reader.read(&mut frames).unwrap() {}
            assert_eq!(reader.position(), 4);
        }
    }
}

//! Reads a partition: whole verified frames into a buffer that is used again.

use std::sync::Arc;

use async_trait::async_trait;

use super::descriptors::Permit;
use super::index;
use super::partition::Partition;
use super::segment::{SEGMENT_HEADER_LEN, Segment, newer_frame, offset_after};
use super::segment_name::{SegmentName, SegmentNames};
use crate::backend::Reader;
use crate::error::{Error, ErrorKind, Result};
use crate::record::{Frame, FrameError, Frames, HEADER_LEN};

/// A reader of one partition.
#[derive(Debug)]
pub(super) struct LogReader {
    partition: Arc<Partition>,
    /// Opened when there is something to read in it, so that an idle partition costs no descriptor.
    segment: Option<Segment>,
    /// Base offset of the segment that is read.
    base: u64,
    /// Byte of its file that is read next.
    at: u64,
    /// The offset that is read next.
    next: u64,
    /// Where the reader was asked to begin.
    from: u64,
    _files: Permit,
    /// Bytes that are read at once: more where a frame was larger, because the next is probably as large.
    want: usize,
}

/// How often a place is looked for again whose segment is deleted or compacted meanwhile.
const LOOKS: usize = 100;

/// What a buffer began with.
enum Taken {
    /// Whole frames, or frames without records.
    Some,
    /// A frame of that many bytes, of which the buffer holds fewer.
    Part(usize),
    /// No frame.
    Nothing(FrameError),
}

impl LogReader {
    pub(super) fn new(partition: Arc<Partition>, from: u64, files: Permit) -> Result<Self> {
        let end = partition.end();
        if from > end.offset {
            let message = format!("the partition ends at offset {}; read from there or before", end.offset);
            return Err(Error::new(ErrorKind::NotFound, message).at(&partition.place).at_offset(from));
        }
        let want = partition.common.options.read_bytes;
        let at = end.pos - end.segment_start;
        let (base, next) = (end.segment_base, end.offset);
        let mut reader = Self { partition, segment: None, base, at, next, from, _files: files, want };
        if from < end.offset {
            reader.find(from)?;
        }
        Ok(reader)
    }

    /// Goes to the frame that holds an offset, or to the first behind it.
    fn find(&mut self, offset: u64) -> Result<()> {
        let (disk, folder) = (self.partition.disk(), &self.partition.folder);
        let block = self.partition.common.options.index_bytes;
        for _ in 0..LOOKS {
            let end = self.partition.end();
            let Some(name) = SegmentNames::list(disk, folder)?.holding(offset) else { break };
            // Somebody may delete or compact it between the two looks.
            let Some(segment) = Segment::open(disk, folder, name)? else { continue };
            let complete = name.base != end.segment_base;
            let limit = if complete { segment.len()? } else { end.pos - segment.start };
            let (at, next) = index::find(&segment, offset, limit, complete, block)?;
            (self.base, self.at, self.next) = (name.base, at, next);
            self.segment = Some(segment);
            return Ok(());
        }
        let message = format!("no segment that holds the offset is in {}; restore the files", folder.display());
        Err(Error::new(ErrorKind::Corrupt, message).at(&self.partition.place).at_offset(offset))
    }

    /// Opens the segment that the reader was put before, when there is something in it.
    fn open_segment(&mut self) -> Result<()> {
        let name = SegmentName::appended(self.base);
        match Segment::open(self.partition.disk(), &self.partition.folder, name)? {
            Some(segment) => self.segment = Some(segment),
            None => self.enter_another(&FrameError::Short { have: 0, need: HEADER_LEN })?,
        }
        Ok(())
    }

    /// Reads `want` bytes at the position, or as many as the file has.
    fn fill(&mut self, into: &mut Frames, want: usize) -> Result<()> {
        // What the buffer still holds is left in it: bytes that are overwritten need no zeroes first.
        into.frames.clear();
        if into.bytes.len() < want {
            into.bytes.reserve_exact(want - into.bytes.len());
            into.bytes.resize(want, 0);
        }
        into.bytes.truncate(want);
        // One large frame must not keep its memory.
        if into.bytes.capacity() > 4 * want.max(self.partition.common.options.read_bytes) {
            into.bytes.shrink_to(want);
        }
        let Some(segment) = &self.segment else { return Ok(()) };
        let count = segment.read(&mut into.bytes, self.at)?;
        into.bytes.truncate(count);
        Ok(())
    }

    /// Bytes of the segment's file that were not read yet: no frame is longer, whatever it says.
    fn left_in_file(&self) -> Result<u64> {
        self.segment.as_ref().map_or(Ok(0), |segment| Ok(segment.len()?.saturating_sub(self.at)))
    }

    /// Names the whole frames in the buffer and moves behind them.
    fn take(&mut self, into: &mut Frames) -> Taken {
        let Frames { bytes, frames } = into;
        let mut at = 0;
        loop {
            let failed = match Frame::parse(&bytes[at..]) {
                Ok(frame) if frame.header.base_offset == self.next => {
                    if frame.header.kind == 0 {
                        frames.push((frame.header, at + HEADER_LEN));
                    }
                    at += frame.header.len;
                    self.at += frame.header.len as u64;
                    self.next = offset_after(&frame.header);
                    if at < bytes.len() {
                        continue;
                    }
                    return Taken::Some;
                }
                Ok(_) => FrameError::Header("its offset does not follow"),
                Err(FrameError::Newer(format)) => newer_frame(&bytes[at..], format),
                Err(error) => error,
            };
            return match failed {
                // What is wrong behind whole frames shows when it is read first.
                _ if at > 0 => Taken::Some,
                FrameError::Short { need, .. } => Taken::Part(need),
                other => Taken::Nothing(other),
            };
        }
    }

    /// Goes on in the segment that begins at the next offset; `why` there is nothing more in this one.
    fn enter_next_segment(&mut self, why: &FrameError) -> Result<()> {
        let (Some(segment), true) = (&self.segment, self.next > self.base) else { return Err(self.damaged(why)) };
        let ends_at = match segment.ends {
            Some(ends) if ends.offset == self.next => ends.pos,
            Some(_) => return Err(self.damaged(why)),
            None => segment.start + self.at,
        };
        let name = SegmentName::appended(self.next);
        match Segment::open(self.partition.disk(), &self.partition.folder, name)? {
            Some(next) if next.start == ends_at => {
                (self.base, self.at) = (next.base, SEGMENT_HEADER_LEN);
                self.segment = Some(next);
                Ok(())
            }
            Some(_) => Err(self.damaged(why)),
            None => self.enter_another(why),
        }
    }

    /// Goes on where the segment of the next offset is not there by its own name: it is deleted, or compaction has put
    /// another into its place.
    fn enter_another(&mut self, why: &FrameError) -> Result<()> {
        let start = self.partition.offsets().start;
        if self.next < start {
            tracing::warn!(topic = %self.partition.place.topic, partition = self.partition.place.partition,
                from = self.next, to = start, "records were deleted before they were read; reading goes on behind them");
            return self.find(start);
        }
        let names = SegmentNames::list(self.partition.disk(), &self.partition.folder)?;
        let takes_its_place = |name: SegmentName| {
            name.base == self.next || name.base < self.next && name.end.is_some_and(|end| end > self.next)
        };
        match names.holding(self.next).is_some_and(takes_its_place) {
            true => self.find(self.next),
            false => Err(self.damaged(why)),
        }
    }

    fn damaged(&self, why: &FrameError) -> Error {
        let error = match &self.segment {
            Some(segment) if matches!(why, FrameError::Newer(_)) => {
                let message = format!("cannot read {}: {why}", segment.path.display());
                Error::new(ErrorKind::Unsupported, message)
            }
            Some(segment) => segment.corrupt(self.at, why),
            None => Error::new(ErrorKind::Corrupt, why.to_string()),
        };
        error.at(&self.partition.place).at_offset(self.next)
    }
}

#[async_trait]
impl Reader for LogReader {
    fn read(&mut self, into: &mut Frames) -> Result<bool> {
        into.frames.clear();
        let mut want = self.want;
        loop {
            let end = self.partition.end();
            // Of the segment that is written what was published, of any other the whole file.
            let limit = (self.base == end.segment_base).then(|| end.pos - end.segment_start);
            let left = limit.map_or(u64::MAX, |limit| limit.saturating_sub(self.at));
            if left == 0 {
                return Ok(false);
            }
            if self.segment.is_none() {
                self.open_segment()?;
                continue;
            }
            want = want.min(usize::try_from(left).unwrap_or(usize::MAX));
            self.fill(into, want)?;
            if into.bytes.is_empty() {
                self.enter_next_segment(&FrameError::Short { have: 0, need: HEADER_LEN })?;
                continue;
            }
            match self.take(into) {
                Taken::Some if into.is_empty() => {}
                Taken::Some => return Ok(true),
                Taken::Part(need) if need > want && need as u64 <= self.left_in_file()?.min(left) => {
                    // A little more than the frame, so that the next one may be a little larger.
                    let usual = 2 * self.partition.common.options.read_bytes;
                    self.want = (need + need / 64).min(usual).max(self.want);
                    want = need.max(self.want);
                    continue;
                }
                Taken::Part(need) => return Err(self.damaged(&FrameError::Short { have: into.bytes.len(), need })),
                Taken::Nothing(FrameError::Empty) => self.enter_next_segment(&FrameError::Empty)?,
                Taken::Nothing(why) => return Err(self.damaged(&why)),
            }
            want = self.want;
        }
    }

    async fn ready(&mut self) -> Result<()> {
        let end = self.partition.end();
        match self.base == end.segment_base {
            true => self.partition.moved_beyond(end.segment_start + self.at).await,
            // There is another segment.
            false => Ok(()),
        }
    }

    fn position(&self) -> u64 {
        self.next.max(self.from)
    }
}

//! Reads a partition: whole verified frames into a buffer that is used again.

use std::sync::Arc;

use async_trait::async_trait;

use super::descriptors::Permit;
use super::index;
use super::partition::Partition;
use super::segment::{SEGMENT_HEADER_LEN, Segment, offset_after, segments_in};
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
    /// Byte position that is read next.
    pos: u64,
    /// The offset that is read next.
    next: u64,
    /// Where the reader was asked to begin.
    from: u64,
    _files: Permit,
    /// Bytes that are read at once: more where a frame was larger, because the next is probably as large.
    want: usize,
}

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
        let mut reader = Self {
            partition,
            segment: None,
            base: end.segment_base,
            pos: end.pos,
            next: end.offset,
            from,
            _files: files,
            want,
        };
        if from < end.offset {
            let bases = segments_in(reader.partition.disk(), &reader.partition.folder)?;
            reader.base = bases.iter().rev().find(|base| **base <= from).or(bases.first()).copied().unwrap_or(0);
            let segment = reader.open_segment()?;
            let complete = reader.base != end.segment_base;
            let limit = if complete { segment.len()? } else { end.pos - segment.start };
            let (at, offset) = index::find(&segment, from, limit, complete)?;
            reader.pos = segment.start + at;
            reader.next = offset;
            reader.segment = Some(segment);
        }
        Ok(reader)
    }

    fn open_segment(&self) -> Result<Segment> {
        Segment::open(self.partition.disk(), &self.partition.folder, self.base)?.ok_or_else(|| {
            let message = format!("segment {} is gone from {}", self.base, self.partition.folder.display());
            Error::new(ErrorKind::NotFound, message).at(&self.partition.place).at_offset(self.next)
        })
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
        let segment = match &self.segment {
            Some(segment) => segment,
            None => {
                let opened = self.open_segment()?;
                self.segment.insert(opened)
            }
        };
        let count = segment.read(&mut into.bytes, self.pos - segment.start)?;
        into.bytes.truncate(count);
        Ok(())
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
                    self.pos += frame.header.len as u64;
                    self.next = offset_after(&frame.header);
                    if at < bytes.len() {
                        continue;
                    }
                    return Taken::Some;
                }
                Ok(_) => FrameError::Header("its offset does not follow"),
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
        let next = if self.next > self.base {
            Segment::open(self.partition.disk(), &self.partition.folder, self.next)?
        } else {
            None
        };
        match next {
            Some(next) if next.start == self.pos => {
                self.base = next.base;
                self.pos += SEGMENT_HEADER_LEN;
                self.segment = Some(next);
                Ok(())
            }
            _ => Err(self.damaged(why)),
        }
    }

    fn damaged(&self, why: &FrameError) -> Error {
        let error = match &self.segment {
            Some(segment) => segment.corrupt(self.pos - segment.start, why),
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
            if end.pos <= self.pos {
                return Ok(false);
            }
            want = want.min(usize::try_from(end.pos - self.pos).unwrap_or(usize::MAX));
            self.fill(into, want)?;
            if into.bytes.is_empty() {
                self.enter_next_segment(&FrameError::Short { have: 0, need: HEADER_LEN })?;
                continue;
            }
            match self.take(into) {
                Taken::Some if into.is_empty() => {}
                Taken::Some => return Ok(true),
                Taken::Part(need) if need > want && need as u64 <= end.pos - self.pos => {
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
        self.partition.moved_beyond(self.pos).await
    }

    fn position(&self) -> u64 {
        self.next.max(self.from)
    }
}

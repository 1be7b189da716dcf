//! A buffer of frames as a reader fills it, and a place in it.

use super::frame::{Frame, FrameHeader, HEADER_LEN, RawRecord, RawRecords};

/// A buffer of whole verified frames, which a reader fills and a task walks over; its memory is used again.
#[derive(Debug, Default)]
pub struct Frames {
    /// The bytes; readers fill it.
    pub bytes: Vec<u8>,
    /// Each frame's header with the position of its payload in `bytes`, in order of offsets.
    pub frames: Vec<(FrameHeader, usize)>,
}

impl Frames {
    /// Empties it and keeps its memory.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.frames.clear();
    }

    /// Adds a verified frame, copying it. Readers that fill `bytes` themselves push to `frames` instead.
    pub fn push(&mut self, frame: &Frame<'_>) {
        self.frames.push((frame.header, self.bytes.len()));
        self.bytes.extend_from_slice(frame.payload);
    }

    /// The frame at `index`.
    #[inline]
    pub fn get(&self, index: usize) -> Option<Frame<'_>> {
        let (header, at) = self.frames.get(index)?;
        Some(Frame { header: *header, payload: &self.bytes[*at..*at + header.len - HEADER_LEN] })
    }

    /// All frames.
    pub fn iter(&self) -> impl Iterator<Item = Frame<'_>> {
        (0..self.frames.len()).filter_map(|index| self.get(index))
    }

    /// Whether it holds no frame.
    pub fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }
}

/// A place between two records of a [`Frames`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cursor {
    frame: usize,
    at: usize,
    end: usize,
    offset: u64,
    left: u32,
    base_timestamp: i64,
    /// The offset after the frame's records and holes.
    frame_ends: u64,
}

/// Where a walk within a frame stands: what a [`Cursor`] in the frame does not know already, in few bytes.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Spot {
    /// The offset of the record behind it.
    offset: u64,
    /// Bytes of the frame that are left; a frame has at most [`MAX_FRAME_LEN`](super::MAX_FRAME_LEN).
    bytes: u32,
    /// Records that are left.
    records: u32,
}

impl Spot {
    /// Where a walk has come to.
    #[inline(always)]
    pub(crate) fn of(walk: &RawRecords<'_>) -> Self {
        Self { offset: walk.offset, bytes: walk.rest.len() as u32, records: walk.left }
    }
}

impl Cursor {
    /// The place before the first record at or after `offset`.
    pub fn at_offset(frames: &Frames, offset: u64) -> Self {
        let mut cursor = Self::default();
        while cursor.left > 0 || cursor.enter(frames) {
            if cursor.offset >= offset {
                return cursor;
            }
            // Whole frames below the offset need no walk.
            if frames.frames[cursor.frame - 1].0.next_offset() <= offset {
                cursor.left = 0;
                continue;
            }
            // Behind a hole the next record may be the one.
            let mut ahead = cursor;
            match ahead.next(frames) {
                Some(record) if record.offset < offset => cursor = ahead,
                _ => return cursor,
            }
        }
        // None is left: nothing is to be read again, holes at the end of the last frame neither.
        let end = frames.frames.last().map_or(0, |(header, _)| header.next_offset());
        cursor.offset = offset.max(end);
        cursor
    }

    /// Enters the next frame that has records.
    fn enter(&mut self, frames: &Frames) -> bool {
        while let Some((header, at)) = frames.frames.get(self.frame) {
            self.frame += 1;
            if header.count > 0 {
                self.at = *at;
                self.end = *at + header.len - HEADER_LEN;
                self.offset = header.base_offset;
                self.left = header.count;
                self.base_timestamp = header.base_timestamp;
                self.frame_ends = header.next_offset();
                return true;
            }
        }
        false
    }

    /// Steps over the next record and returns it.
    #[inline(always)]
    pub fn next<'a>(&mut self, frames: &'a Frames) -> Option<RawRecord<'a>> {
        if self.left == 0 && !self.enter(frames) {
            return None;
        }
        let mut records = self.rest_of_frame(frames)?;
        let record = records.next()?;
        self.advance_to(&records);
        Some(record)
    }

    /// The records of the frame that it stands in, from here on; enters the next frame at the end of one.
    #[inline]
    pub fn rest_of_frame_or_next<'a>(&mut self, frames: &'a Frames) -> Option<RawRecords<'a>> {
        if self.left == 0 && !self.enter(frames) {
            return None;
        }
        self.rest_of_frame(frames)
    }

    #[inline]
    fn rest_of_frame<'a>(&self, frames: &'a Frames) -> Option<RawRecords<'a>> {
        Some(RawRecords {
            rest: frames.bytes.get(self.at..self.end)?,
            offset: self.offset,
            left: self.left,
            base_timestamp: self.base_timestamp,
            end: self.frame_ends,
        })
    }

    /// Moves to where a walk over [`Cursor::rest_of_frame_or_next`] has come.
    #[inline]
    pub fn advance_to(&mut self, walk: &RawRecords<'_>) {
        self.at = self.end - walk.rest.len();
        self.offset = walk.offset;
        self.left = walk.left;
    }

    /// That spot in the frame that it stands in.
    #[must_use]
    pub(crate) fn at_spot(mut self, spot: Spot) -> Self {
        (self.at, self.offset, self.left) = (self.end - spot.bytes as usize, spot.offset, spot.records);
        self
    }

    /// How many records lie between an earlier place and this one.
    pub(crate) fn records_since(&self, earlier: &Self, frames: &Frames) -> u64 {
        if self.frame == earlier.frame {
            return u64::from(earlier.left.saturating_sub(self.left));
        }
        let entered = frames.frames.get(earlier.frame..self.frame).unwrap_or_default();
        let records: u64 = entered.iter().map(|(header, _)| u64::from(header.count)).sum();
        (u64::from(earlier.left) + records).saturating_sub(u64::from(self.left))
    }

    /// The offset of the next record, or the one after the last that was stepped over.
    #[inline]
    pub fn offset(&self) -> u64 {
        self.offset
    }
}

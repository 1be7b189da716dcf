//! What holds in a segment and what does not: frames are walked over, and behind damage the next one is looked for.

use super::index::{INDEX_BLOCK, entry};
use super::segment::{SEGMENT_HEADER_LEN, Segment, offset_after};
use crate::error::Result;
use crate::record::{Frame, FrameError, FrameHeader, HEADER_LEN};

/// Bytes that are no frame where one was expected.
#[derive(Debug)]
pub(super) struct Hole {
    /// Byte of the file at which a frame should begin.
    pub(super) from: u64,
    /// Byte at which the next whole frame begins; the end of what was looked at where none does.
    pub(super) to: u64,
    /// What is wrong at `from`.
    pub(super) why: FrameError,
    /// The offset that the first missing record had.
    pub(super) offset: u64,
    /// The offset that the next whole frame begins at.
    pub(super) next: Option<u64>,
}

/// What a segment holds.
#[derive(Debug)]
pub(super) struct Scanned {
    pub(super) holes: Vec<Hole>,
    /// Byte after the last whole frame.
    pub(super) at: u64,
    /// The offset after the last record.
    pub(super) offset: u64,
    pub(super) frames: u64,
    pub(super) records: u64,
    /// The furthest byte position that a frame says was durable.
    pub(super) durable: u64,
    /// What the segment's index should hold.
    pub(super) index: Vec<u8>,
}

/// Goes over everything between a segment's header and byte `limit`.
pub(super) fn scan(segment: &Segment, limit: u64, mut each: impl FnMut(&Frame<'_>)) -> Result<Scanned> {
    let mut scanned = Scanned {
        holes: Vec::new(),
        at: SEGMENT_HEADER_LEN,
        offset: segment.base,
        frames: 0,
        records: 0,
        durable: segment.durable,
        index: Vec::new(),
    };
    loop {
        let Scanned { at: from, offset, frames, records, durable, index, .. } = &mut scanned;
        let walked = segment.walk(*from, limit, *offset, |frame, at| {
            let header = &frame.header;
            *frames += 1;
            *records += if header.kind == 0 { u64::from(header.count) } else { 0 };
            *durable = header.durable.max(*durable);
            let after = at + header.len as u64;
            if at / INDEX_BLOCK != after / INDEX_BLOCK {
                index.extend_from_slice(&entry(offset_after(header), after));
            }
            each(frame);
        })?;
        (scanned.at, scanned.offset) = (walked.at, walked.offset);
        let Some(why) = walked.stopped else { return Ok(scanned) };
        let next = find_frame(segment, walked.at, |header, at| {
            header.base_offset >= walked.offset
                && header.durable <= segment.start + at
                && at + header.len as u64 <= limit
        })?;
        scanned.holes.push(Hole {
            from: walked.at,
            to: next.map_or(limit, |(at, _)| at),
            why,
            offset: walked.offset,
            next: next.map(|(_, header)| header.base_offset),
        });
        let Some((at, header)) = next else { return Ok(scanned) };
        (scanned.at, scanned.offset) = (at, header.base_offset);
    }
}

/// The byte and the header of the first whole frame at or after `from` that `accepts`.
///
/// Behind damage it is unknown where frames begin, so every byte is tried; few look like a header.
pub(super) fn find_frame(
    segment: &Segment,
    from: u64,
    accepts: impl Fn(&FrameHeader, u64) -> bool,
) -> Result<Option<(u64, FrameHeader)>> {
    let mut bytes = Vec::new();
    bytes.reserve_exact(segment.len()?.saturating_sub(from) as usize);
    while bytes.len() < bytes.capacity() {
        let at = from + bytes.len() as u64;
        if segment.read_spare(&mut bytes, at)? == 0 {
            break;
        }
    }
    for at in 0..bytes.len().saturating_sub(HEADER_LEN - 1) {
        let head = &bytes[at..];
        // Only what compaction wrote says something in the last eight bytes.
        let plain = head[8] == 1 && head[72..HEADER_LEN].iter().all(|b| *b == 0);
        let plausible = head[10] == 0 && head[11] == 0 && (plain || head[8] == 2);
        if plausible
            && let Ok(frame) = Frame::parse(head)
            && accepts(&frame.header, from + at as u64)
        {
            return Ok(Some((from + at as u64, frame.header)));
        }
    }
    Ok(None)
}

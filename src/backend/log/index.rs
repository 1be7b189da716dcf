//! The sparse index of a segment: where to begin the search for an offset.
//!
//! Entries of 16 bytes, ascending: `u64` offset and `u64` byte of the file at which a frame with that first offset
//! begins, little-endian, about one for every 256 KiB. It is not trusted: an entry counts if a whole frame of that
//! offset is there, and a file that is missing or wrong is made anew once its segment is complete.

use std::path::{Path, PathBuf};

use super::files::{read_if_there, replace};
use super::segment::{SEGMENT_HEADER_LEN, Segment, offset_after};
use crate::error::Result;
use crate::record::{Frame, FrameHeader, HEADER_LEN};

/// Bytes of a segment between two entries, unless a log is opened with another number.
pub(super) const INDEX_BLOCK: u64 = 256 << 10;

/// Bytes of an entry.
pub(super) const ENTRY_LEN: u64 = 16;

/// The index of a segment's file.
pub(super) fn index_path(segment: &Path) -> PathBuf {
    segment.with_extension("index")
}

/// One entry.
pub(super) fn entry(offset: u64, at: u64) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&offset.to_le_bytes());
    bytes[8..].copy_from_slice(&at.to_le_bytes());
    bytes
}

/// The byte and the first offset of the frame that holds `offset`, or of the end if none does, within the first
/// `limit` bytes of a segment. `complete`: nobody writes to it any more, and its index may be made anew, with an entry for
/// every `block` bytes.
pub(super) fn find(segment: &Segment, offset: u64, limit: u64, complete: bool, block: u64) -> Result<(u64, u64)> {
    let from = match nearest(segment, offset, limit)? {
        Some(from) => from,
        None => {
            if complete && limit > 2 * block {
                // Without it the search takes longer, no more: a full disk must not end reading.
                if let Err(error) = rebuild(segment, limit, block) {
                    tracing::debug!(file = %segment.path.display(), %error, "the index was not made anew");
                }
            }
            (SEGMENT_HEADER_LEN, segment.base)
        }
    };
    let mut found = from;
    headers(segment, from.0, limit, |header, at| {
        found = (at, header.base_offset);
        let beyond = offset_after(header) > offset;
        if !beyond {
            found = (at + header.len as u64, offset_after(header));
        }
        !beyond
    })?;
    Ok(found)
}

/// The last entry at or below `offset` that is true.
fn nearest(segment: &Segment, offset: u64, limit: u64) -> Result<Option<(u64, u64)>> {
    // One that cannot be read is as good as none.
    let Ok(Some(index)) = read_if_there(&segment.disk, &index_path(&segment.path)) else { return Ok(None) };
    let word = |bytes: &[u8]| bytes.iter().rev().fold(0_u64, |word, byte| word << 8 | u64::from(*byte));
    let entries = index.chunks_exact(16).map(|entry| (word(&entry[..8]), word(&entry[8..])));
    let best = entries.filter(|(of, at)| *of <= offset && *at < limit).max();
    let Some((of, at)) = best else { return Ok(None) };
    let mut bytes = Vec::with_capacity(HEADER_LEN);
    segment.read_spare(&mut bytes, at)?;
    let Ok(header) = FrameHeader::parse(&bytes) else { return Ok(None) };
    if header.base_offset != of || at + header.len as u64 > limit {
        return Ok(None);
    }
    bytes.clear();
    bytes.reserve_exact(header.len);
    segment.read_spare(&mut bytes, at)?;
    Ok(Frame::parse(&bytes).is_ok().then_some((at, of)))
}

/// Goes over the headers of the frames in `from..limit` while `each` says so.
fn headers(segment: &Segment, from: u64, limit: u64, mut each: impl FnMut(&FrameHeader, u64) -> bool) -> Result<()> {
    let mut at = from;
    let mut bytes = Vec::with_capacity(HEADER_LEN);
    while at + HEADER_LEN as u64 <= limit {
        bytes.clear();
        segment.read_spare(&mut bytes, at)?;
        // Damage is for the reader to report: it knows whether the frame is asked for.
        let Ok(header) = FrameHeader::parse(&bytes) else { return Ok(()) };
        if !each(&header, at) {
            return Ok(());
        }
        at += header.len as u64;
    }
    Ok(())
}

fn rebuild(segment: &Segment, limit: u64, block: u64) -> Result<()> {
    let mut index = Vec::new();
    headers(segment, SEGMENT_HEADER_LEN, limit, |header, at| {
        let after = at + header.len as u64;
        if at / block != after / block {
            index.extend_from_slice(&entry(offset_after(header), after));
        }
        true
    })?;
    replace(&segment.disk, &index_path(&segment.path), &index)
}

//! Segments: the files that hold a partition's frames.
//!
//! ```text
//! header, 64 bytes, little-endian
//!  0 "gretlog\0"     8 u32 format (1, 2)   12 u32 crc32c of all else in the header
//! 16 u64 offset of the first record     24 u64 byte position at which the segment begins
//! 32 u64 byte position up to which the partition was durable when the segment was made
//! 40 i64 time when it was made, ms since 1970 by the log's own clock; 0 where it is not known
//! 48 zeroes
//! ```
//!
//! Format 2 is what compaction leaves of one or more segments. It stands for their offsets and byte positions, up to
//! the segment after them, and is durable before it gets its name:
//!
//! ```text
//! 48 u64 offset after its last          56 u64 byte position at which the next segment begins
//! ```
//!
//! A control frame follows (kind 1): one record for each producer, its number as the key and the sequence after its
//! last as the value, both `u64` little-endian. It takes no offsets. The frames of records follow; where a repair took
//! some out, a frame of kind 2 without records fills their room, and its sequence is the offset after the last that was
//! lost. What lies beyond the published end is not data: space reserved ahead, or what a killed writer left.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::files::{io_error, open_if_there, sync_folder};
use super::segment_name::SegmentName;
use crate::disk::{Disk, DiskFile, Open};
use crate::error::{Error, ErrorKind, Result};
use crate::record::{COMPACTED_FRAME, Frame, FrameBuilder, FrameError, FrameHeader, HEADER_LEN, PLAIN_FRAME};

/// Bytes before the first frame.
pub(super) const SEGMENT_HEADER_LEN: u64 = 64;

/// The kind of the frame that lists producers.
pub(super) const KIND_PRODUCERS: u8 = 1;

/// The kind of the frame that a repair puts in the place of damaged ones.
pub(super) const KIND_LOST: u8 = 2;

const MAGIC: &[u8; 8] = b"gretlog\0";

/// The format of segments that are appended to.
const FORMAT: u32 = 1;

/// The format of segments that compaction writes.
const COMPACTED_FORMAT: u32 = 2;

/// Bytes that no partition has: where a segment says that it begins behind them, nothing can be computed with that.
const MOST_BYTES: u64 = 1 << 60;

/// Bytes that are read at once when frames are walked over.
const WALK_BYTES: u64 = 1 << 20;

/// An open segment.
#[derive(Debug)]
pub(super) struct Segment {
    pub(super) disk: Disk,
    pub(super) file: DiskFile,
    pub(super) path: PathBuf,
    /// Offset of its first record.
    pub(super) base: u64,
    /// Byte position at which it begins.
    pub(super) start: u64,
    /// What was durable when it was made.
    pub(super) durable: u64,
    /// When it was made; 0 where it is not known.
    pub(super) created_ms: i64,
    /// Of a compacted one, where the next segment begins.
    pub(super) ends: Option<Ends>,
}

/// Where the segment after a compacted one begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ends {
    /// Its first offset.
    pub(super) offset: u64,
    /// Its byte position.
    pub(super) pos: u64,
}

/// What a segment's header says.
#[derive(Clone, Copy, Debug)]
pub(super) struct SegmentHeader {
    /// Offset of its first record.
    pub(super) base: u64,
    /// Byte position at which it begins.
    pub(super) start: u64,
    /// What was durable when it was made.
    pub(super) durable: u64,
    /// When it was made; 0 where it is not known.
    pub(super) created_ms: i64,
    /// Of a compacted one, where the next segment begins.
    pub(super) ends: Option<Ends>,
}

/// Where a walk over frames ended.
#[derive(Debug)]
pub(super) struct Walked {
    /// Byte of the file after the last whole frame.
    pub(super) at: u64,
    /// The offset after the last record.
    pub(super) offset: u64,
    /// Why it ended before the limit.
    pub(super) stopped: Option<FrameError>,
}

/// Why a segment was not made.
#[derive(Debug)]
pub(super) enum NotMade {
    /// It can be made again.
    Before(Error),
    /// A sync failed, after which nothing counts for durable any more.
    Sync(Error),
}

impl NotMade {
    fn into_error(self) -> Error {
        match self {
            Self::Before(error) | Self::Sync(error) => error,
        }
    }
}

/// The offset after a frame; lists of producers take none.
pub(super) fn offset_after(header: &FrameHeader) -> u64 {
    match header.kind {
        0 => header.next_offset(),
        KIND_LOST => header.sequence.max(header.base_offset),
        _ => header.base_offset,
    }
}

impl Segment {
    /// Opens the segment of that name; `None` where there is none.
    pub(super) fn open(disk: &Disk, folder: &Path, name: SegmentName) -> Result<Option<Self>> {
        let path = name.path(folder);
        let Some(file) = open_if_there(disk, &path)? else { return Ok(None) };
        let mut header = [0; SEGMENT_HEADER_LEN as usize];
        file.read_exact_at(&mut header, 0).map_err(|error| match error.kind() {
            std::io::ErrorKind::UnexpectedEof => Error::new(
                ErrorKind::Corrupt,
                format!("{}: byte 0: the file ends within the segment's header", path.display()),
            ),
            _ => io_error("read the header of", &path, error),
        })?;
        let word = |at: usize| u64::from_le_bytes(std::array::from_fn(|i| header[at + i]));
        let (format, crc) = (word(8) as u32, (word(8) >> 32) as u32);
        let corrupt = |what: String| Error::new(ErrorKind::Corrupt, format!("{}: {what}", path.display()));
        if header[..8] != *MAGIC {
            return Err(corrupt("byte 0: this is not a segment of a log".into()));
        }
        if format > COMPACTED_FORMAT && header_crc(&header) == crc {
            return Err(Error::newer_format(&path.display(), format, COMPACTED_FORMAT));
        }
        let ends = (format == COMPACTED_FORMAT).then(|| Ends { offset: word(48), pos: word(56) });
        let known = (FORMAT..=COMPACTED_FORMAT).contains(&format);
        let possible = word(24) <= MOST_BYTES && ends.is_none_or(|to| to.offset >= name.base && to.pos >= word(24));
        let as_named = word(16) == name.base && ends.map(|ends| ends.offset) == name.end;
        if header_crc(&header) != crc || !known || !as_named || !possible {
            return Err(corrupt("byte 0: the segment's header is damaged".into()));
        }
        let header =
            SegmentHeader { base: name.base, start: word(24), durable: word(32), created_ms: word(40) as i64, ends };
        Ok(Some(Self::of(header, disk, file, path)))
    }

    fn of(header: SegmentHeader, disk: &Disk, file: DiskFile, path: PathBuf) -> Self {
        let SegmentHeader { base, start, durable, created_ms, ends } = header;
        Self { disk: disk.clone(), file, path, base, start, durable, created_ms, ends }
    }

    /// Makes a segment with its control frame: it is there whole or not at all, also after a loss of power.
    pub(super) fn create(
        disk: &Disk,
        folder: &Path,
        header: SegmentHeader,
        sequences: &BTreeMap<u64, u64>,
    ) -> Result<(Self, u64), NotMade> {
        let mut bytes = header.bytes();
        bytes.extend_from_slice(&producers_frame(sequences, header.base, header.durable));
        let (file, path) = write_segment(disk, folder, header.base, &bytes, true)?;
        sync_folder(disk, folder).map_err(NotMade::Sync)?;
        Ok((Self::of(header, disk, file, path), bytes.len() as u64))
    }

    /// Makes a partition's first segment. A loss of power may undo it until the first sync, which syncs the folder
    /// too: a topic of a thousand partitions is not to take thousands of syncs before its first record.
    pub(super) fn create_first(disk: &Disk, folder: &Path) -> Result<Self> {
        let (file, path) = write_segment(disk, folder, 0, &first_bytes(), false).map_err(NotMade::into_error)?;
        Ok(Self::of(FIRST_HEADER, disk, file, path))
    }

    /// The first segment where a loss of power left its beginning out, in part or as a whole: it is known, and can be
    /// written again. Records behind it may have reached the disk before it, since the system writes in whatever order it
    /// likes; they stay. `names` are the partition's segments, `durable` the position up to which it was synced.
    pub(super) fn unwritten_first(
        disk: &Disk,
        folder: &Path,
        names: &[SegmentName],
        durable: u64,
    ) -> Result<Option<(DiskFile, PathBuf)>> {
        if names != [SegmentName::appended(0)] || durable > 0 {
            return Ok(None);
        }
        let path = SegmentName::appended(0).path(folder);
        let Some(file) = open_if_there(disk, &path)? else { return Ok(None) };
        let bytes = disk.read(&path).map_err(|error| io_error("read", &path, error))?;
        let whole = first_bytes();
        let (head, rest) = bytes.split_at(bytes.len().min(whole.len()));
        let is_part = head.iter().zip(&whole).all(|(have, want)| have == want || *have == 0);
        // What is neither there nor missing is damage, and so is what is missing below what was durable.
        let never_durable = || frames_anywhere(rest).all(|(_, frame)| frame.header.durable == 0);
        let is_unwritten = head != whole && (is_part || rest.iter().all(|byte| *byte == 0)) && never_durable();
        Ok(is_unwritten.then_some((file, path)))
    }

    /// Writes the beginning of a first segment again where it was never durable.
    pub(super) fn mend_first(disk: &Disk, folder: &Path, names: &[SegmentName], durable: u64) -> Result<()> {
        let Some((file, path)) = Self::unwritten_first(disk, folder, names, durable)? else { return Ok(()) };
        file.write_all_at(&first_bytes(), 0).map_err(|error| io_error("write the beginning of", &path, error))
    }

    /// What its header says.
    pub(super) fn header(&self) -> SegmentHeader {
        let Self { base, start, durable, created_ms, ends, .. } = *self;
        SegmentHeader { base, start, durable, created_ms, ends }
    }

    /// Length of the file.
    pub(super) fn len(&self) -> Result<u64> {
        self.file.length().map_err(|error| io_error("look at", &self.path, error))
    }

    /// An error about bytes of this file.
    pub(super) fn corrupt(&self, at: u64, why: &dyn std::fmt::Display) -> Error {
        Error::new(ErrorKind::Corrupt, format!("{} is damaged at byte {at}: {why}", self.path.display()))
    }

    /// Walks over the whole, verified frames in `from..limit`, which follow each other from `offset` on.
    pub(super) fn walk(
        &self,
        from: u64,
        limit: u64,
        offset: u64,
        mut each: impl FnMut(&Frame<'_>, u64),
    ) -> Result<Walked> {
        let mut walked = Walked { at: from, offset, stopped: None };
        let mut bytes = Vec::new();
        let mut want = WALK_BYTES;
        while walked.at < limit {
            bytes.clear();
            let most = want.min(limit - walked.at) as usize;
            bytes.reserve_exact(most);
            self.read_spare(&mut bytes, walked.at)?;
            bytes.truncate(most);
            let before = walked.at;
            let stopped = walk_over(&bytes, &mut walked, &mut each);
            match stopped {
                None if walked.at > before => want = WALK_BYTES,
                None => {
                    walked.stopped = Some(FrameError::Empty);
                    return Ok(walked);
                }
                Some(FrameError::Newer(_)) => {
                    return Err(Error::new(ErrorKind::Unsupported, format!("cannot read {}", self.path.display()))
                        .with_source(stopped.unwrap_or(FrameError::Empty)));
                }
                // The rest of the frame was not asked for yet.
                Some(FrameError::Short { need, .. }) if walked.at > before || bytes.len() as u64 >= want => {
                    want = (need as u64).max(WALK_BYTES);
                }
                stopped => {
                    walked.stopped = stopped;
                    return Ok(walked);
                }
            }
        }
        Ok(walked)
    }

    /// Reads from that byte of the file on; fewer bytes than asked for at its end only.
    pub(super) fn read(&self, bytes: &mut [u8], at: u64) -> Result<usize> {
        self.file.read_full_at(bytes, at).map_err(|error| io_error("read", &self.path, error))
    }

    /// Fills the spare capacity of `bytes` from that byte of the file on, or as far as the file goes.
    pub(super) fn read_spare(&self, bytes: &mut Vec<u8>, at: u64) -> Result<usize> {
        self.file.read_spare_full_at(bytes, at).map_err(|error| io_error("read", &self.path, error))
    }
}

/// Writes a segment under another name and gives it its own.
fn write_segment(
    disk: &Disk,
    folder: &Path,
    base: u64,
    bytes: &[u8],
    synced: bool,
) -> Result<(DiskFile, PathBuf), NotMade> {
    let path = SegmentName::appended(base).path(folder);
    let draft = path.with_extension("draft");
    let failed = |error| NotMade::Before(io_error("create", &path, error));
    let file = disk.open(&draft, Open::Emptied).map_err(failed)?;
    file.write_all_at(bytes, 0).map_err(failed)?;
    if synced {
        file.sync_all().map_err(|error| NotMade::Sync(io_error("sync", &draft, error)))?;
    }
    disk.rename(&draft, &path).map_err(failed)?;
    Ok((file, path))
}

/// Walks over the whole frames in `bytes`; returns why it ended before their end.
fn walk_over(bytes: &[u8], walked: &mut Walked, each: &mut impl FnMut(&Frame<'_>, u64)) -> Option<FrameError> {
    let mut rest = bytes;
    while !rest.is_empty() {
        match Frame::parse(rest) {
            Ok(frame) if frame.header.base_offset != walked.offset => {
                return Some(FrameError::Header("its offset does not follow"));
            }
            Ok(frame) => {
                each(&frame, walked.at);
                walked.offset = offset_after(&frame.header);
                walked.at += frame.header.len as u64;
                rest = &rest[frame.header.len..];
            }
            Err(FrameError::Newer(format)) => return Some(newer_frame(rest, format)),
            // Too few bytes to tell, zeroes so far.
            Err(FrameError::Empty) if rest.len() < HEADER_LEN => {
                return Some(FrameError::Short { have: rest.len(), need: HEADER_LEN });
            }
            Err(error) => return Some(error),
        }
    }
    None
}

/// The whole frames in bytes of which nobody knows where frames begin: wherever a byte could name a format, of which
/// there are none in the zeroes behind what was written.
pub(super) fn frames_anywhere(bytes: &[u8]) -> impl Iterator<Item = (usize, Frame<'_>)> {
    let formats = bytes.get(FORMAT_AT..).unwrap_or_default();
    memchr::memchr2_iter(PLAIN_FRAME, COMPACTED_FRAME, formats).filter_map(|i| {
        let head = bytes.get(i..).filter(|head| head.len() >= HEADER_LEN)?;
        // Only what compaction wrote says something in the last eight bytes.
        let plain = head[FORMAT_AT] == PLAIN_FRAME && head[72..HEADER_LEN].iter().all(|b| *b == 0);
        let plausible = head[10] == 0 && head[11] == 0 && (plain || head[FORMAT_AT] == COMPACTED_FRAME);
        let frame = if plausible { Frame::parse(head).ok() } else { None };
        frame.map(|frame| (i, frame))
    })
}

/// Where a frame names its format.
const FORMAT_AT: usize = 8;

/// What bytes are that begin like a frame of a newer format: one if its checksum holds, damage if not, and neither before
/// all of it is there.
pub(super) fn newer_frame(bytes: &[u8], format: u8) -> FrameError {
    let word = |at: usize| u32::from_le_bytes(std::array::from_fn(|i| bytes[at + i]));
    if bytes.len() < HEADER_LEN {
        return FrameError::Short { have: bytes.len(), need: HEADER_LEN };
    }
    let need = 8 + word(0) as usize;
    match bytes.get(8..need) {
        None => FrameError::Short { have: bytes.len(), need },
        Some(rest) if crc32c::crc32c(rest) == word(4) => FrameError::Newer(format),
        // The byte that names the format is damage like the others.
        Some(_) => FrameError::Header("unknown format"),
    }
}

/// What a control frame says of producers.
pub(super) fn producers_in(frame: &Frame<'_>) -> impl Iterator<Item = (u64, u64)> {
    frame.records().filter_map(|record| {
        let number = |bytes: Option<&[u8]>| Some(u64::from_le_bytes(bytes?.try_into().ok()?));
        Some((number(record.key)?, number(record.value)?))
    })
}

/// The frame that lists producers.
pub(super) fn producers_frame(sequences: &BTreeMap<u64, u64>, base: u64, durable: u64) -> Vec<u8> {
    let mut control = FrameBuilder::new();
    for (producer, next) in sequences {
        control.push(Some(&producer.to_le_bytes()), Some(&next.to_le_bytes()), 0);
    }
    control.seal(KIND_PRODUCERS, base, 0, 0, durable).to_vec()
}

/// The header of a partition's first segment: always the same, so that what a loss of power left of it is known for that.
const FIRST_HEADER: SegmentHeader = SegmentHeader { base: 0, start: 0, durable: 0, created_ms: 0, ends: None };

/// How every partition begins.
fn first_bytes() -> Vec<u8> {
    let mut bytes = FIRST_HEADER.bytes();
    bytes.extend_from_slice(&producers_frame(&BTreeMap::new(), 0, 0));
    bytes
}

impl SegmentHeader {
    /// The header as it is written.
    pub(super) fn bytes(&self) -> Vec<u8> {
        let format = if self.ends.is_some() { COMPACTED_FORMAT } else { FORMAT };
        let (end, end_pos) = self.ends.map_or((0, 0), |ends| (ends.offset, ends.pos));
        let mut header = Vec::with_capacity(SEGMENT_HEADER_LEN as usize);
        header.extend_from_slice(MAGIC);
        header.extend_from_slice(&format.to_le_bytes());
        header.extend_from_slice(&[0; 4]);
        for word in [self.base, self.start, self.durable, self.created_ms as u64, end, end_pos] {
            header.extend_from_slice(&word.to_le_bytes());
        }
        let crc = header_crc(&header);
        header[12..16].copy_from_slice(&crc.to_le_bytes());
        header
    }
}

fn header_crc(header: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&header[..12]), &header[16..])
}

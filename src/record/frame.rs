//! The frame: many records under one header and one checksum, the unit that a log stores and a reader gets.
//!
//! ```text
//! header, 80 bytes, little-endian                    record, after the header
//!  0 u32 length of all that follows byte 8            u8     flags: 1 key, 2 value, 4 timestamp, 8 headers, 16 hole
//!  4 u32 crc32c of all that follows byte 8            varint key length, key           (with flag 1)
//!  8 u8  format (1, 2) 9 u8 kind  10 u16 zero         varint value length, value       (with flag 2)
//! 12 u32 number of records                            zigzag varint, milliseconds after
//! 16 u64 offset of the first record                          the frame's timestamp     (with flag 4)
//! 24 u64 producer, 0 for none                         varint count, then for each name and value a
//! 32 u64 sequence of the first record                        varint length and bytes   (with flag 8)
//! 40 i64 timestamp of the first record, ms           varint number of offsets before it
//! 48 i64 largest timestamp, ms                               whose records are gone    (with flag 16)
//! 56 u64 fingerprint that every value carries, or 0
//! 64 u64 byte position up to which the partition was durable
//! 72 u64 zero
//! ```
//!
//! Format 2 is what compaction leaves of one or more frames: the offsets of the frame are as many as before, and those
//! whose records are gone count as holes. It differs in this:
//!
//! ```text
//! 24 u64 zero        32 u64 zero
//! 64 i64 time from which its tombstones may go, ms; 0 if it has none
//! 72 u64 number of holes; those behind the last record count, too
//! ```

/// Bytes before a frame's first record.
pub const HEADER_LEN: usize = 80;

/// The format of frames as they are appended.
pub(crate) const FORMAT: u8 = 1;

/// The format of frames that compaction writes.
pub(crate) const COMPACTED_FORMAT: u8 = 2;

/// The largest frame that is read: what a length field may claim before it is called damage.
pub(crate) const MAX_FRAME_LEN: usize = 64 << 20;

pub(super) const HAS_KEY: u8 = 1;
pub(super) const HAS_VALUE: u8 = 2;
pub(super) const HAS_TIMESTAMP: u8 = 4;
pub(super) const HAS_HEADERS: u8 = 8;
pub(super) const HAS_HOLE: u8 = 16;

/// Why bytes are not a frame.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// The bytes end before the frame does.
    #[error("the frame is cut off: {have} of {need} bytes")]
    Short {
        /// Bytes that are there.
        have: usize,
        /// Bytes that the frame claims.
        need: usize,
    },
    /// Zeroes: space that was reserved and never written.
    #[error("nothing was written here")]
    Empty,
    /// The length or another field cannot be true.
    #[error("the header is damaged: {0}")]
    Header(&'static str),
    /// The checksum differs.
    #[error("the checksum differs: stored {stored:08x}, computed {computed:08x}")]
    Checksum {
        /// In the header.
        stored: u32,
        /// Of the bytes.
        computed: u32,
    },
    /// Written by a newer release.
    #[error("the frame has format {0}, this build reads up to {COMPACTED_FORMAT}; use the release that wrote it")]
    Newer(u8),
}

/// What a frame says of its records.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FrameHeader {
    /// Bytes of the whole frame, header included.
    pub len: usize,
    /// 0 for records; others are the backend's own.
    pub kind: u8,
    /// Number of records.
    pub count: u32,
    /// Offset of the first record.
    pub base_offset: u64,
    /// Who wrote it, or 0.
    pub producer: u64,
    /// The producer's number of the first record.
    pub sequence: u64,
    /// Timestamp of the first record, milliseconds since 1970.
    pub base_timestamp: i64,
    /// Largest timestamp, milliseconds since 1970.
    pub max_timestamp: i64,
    /// The fingerprint that every value carries in its single-object header, or 0.
    pub schema: u64,
    /// Byte position up to which the partition was durable when the frame was written.
    pub durable: u64,
    /// Whether compaction wrote it.
    pub compacted: bool,
    /// Offsets of the frame whose records compaction took away.
    pub holes: u64,
    /// Of a compacted frame: the time from which its tombstones may go, milliseconds since 1970; 0 if it has none.
    pub tombstones_until: i64,
}

impl FrameHeader {
    /// Offset after the last record, and after the holes that follow it.
    pub fn next_offset(&self) -> u64 {
        self.base_offset + u64::from(self.count) + self.holes
    }

    /// Reads the header alone, without the checksum.
    pub fn parse(bytes: &[u8]) -> Result<Self, FrameError> {
        let Some(header) = bytes.first_chunk::<HEADER_LEN>() else {
            return Err(if bytes.iter().all(|b| *b == 0) {
                FrameError::Empty
            } else {
                FrameError::Short { have: bytes.len(), need: HEADER_LEN }
            });
        };
        let u32_at = |at: usize| u32::from_le_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
        let u64_at = |at: usize| u64::from(u32_at(at)) | u64::from(u32_at(at + 4)) << 32;
        let length = u32_at(0) as usize;
        if length == 0 && header.iter().all(|b| *b == 0) {
            return Err(FrameError::Empty);
        }
        if length + 8 < HEADER_LEN || length + 8 > MAX_FRAME_LEN {
            return Err(FrameError::Header("impossible length"));
        }
        if header[8] > COMPACTED_FORMAT && header[8] < 32 {
            return Err(FrameError::Newer(header[8]));
        }
        let compacted = header[8] == COMPACTED_FORMAT;
        if header[8] != FORMAT && !compacted {
            return Err(FrameError::Header("unknown format"));
        }
        let (base_offset, count) = (u64_at(16), u32_at(12));
        let holes = if compacted { u64_at(72) } else { 0 };
        if base_offset.checked_add(u64::from(count)).is_none_or(|end| end.checked_add(holes).is_none()) {
            return Err(FrameError::Header("impossible offsets"));
        }
        Ok(Self {
            len: length + 8,
            kind: header[9],
            count,
            base_offset,
            producer: u64_at(24),
            sequence: u64_at(32),
            base_timestamp: u64_at(40) as i64,
            max_timestamp: u64_at(48) as i64,
            schema: u64_at(56),
            durable: if compacted { 0 } else { u64_at(64) },
            compacted,
            holes,
            tombstones_until: if compacted { u64_at(64) as i64 } else { 0 },
        })
    }
}

/// A frame whose checksum has been verified.
#[derive(Clone, Copy, Debug)]
pub struct Frame<'a> {
    /// What it says of its records.
    pub header: FrameHeader,
    /// The records, encoded.
    pub payload: &'a [u8],
}

impl<'a> Frame<'a> {
    /// Reads and verifies the frame that `bytes` begins with.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, FrameError> {
        let header = FrameHeader::parse(bytes)?;
        let Some(frame) = bytes.get(..header.len) else {
            return Err(FrameError::Short { have: bytes.len(), need: header.len });
        };
        let stored = u32::from_le_bytes([frame[4], frame[5], frame[6], frame[7]]);
        let computed = crc32c::crc32c(&frame[8..]);
        if stored != computed {
            return Err(FrameError::Checksum { stored, computed });
        }
        Ok(Self { header, payload: &frame[HEADER_LEN..] })
    }

    /// Its records, in order.
    #[inline]
    pub fn records(&self) -> RawRecords<'a> {
        RawRecords::new(&self.header, self.payload)
    }
}

/// A record as it is stored: slices of the frame, nothing copied.
#[derive(Clone, Copy, Debug)]
pub struct RawRecord<'a> {
    /// Position in the partition.
    pub offset: u64,
    /// Event time, milliseconds since 1970.
    pub timestamp: i64,
    /// The key's bytes, if it has one.
    pub key: Option<&'a [u8]>,
    /// The value's bytes; `None` is a tombstone.
    pub value: Option<&'a [u8]>,
    /// The headers.
    pub headers: Headers<'a>,
}

/// A record's headers: names with values, in order, names may repeat.
#[derive(Clone, Copy, Debug, Default)]
pub struct Headers<'a> {
    count: u32,
    bytes: &'a [u8],
}

impl<'a> Headers<'a> {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.count as usize
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Each name with its value.
    pub fn iter(&self) -> impl Iterator<Item = (&'a str, &'a [u8])> + use<'a> {
        let mut rest = self.bytes;
        (0..self.count).map_while(move |_| {
            let name = take_bytes(&mut rest)?;
            let value = take_bytes(&mut rest)?;
            Some((std::str::from_utf8(name).unwrap_or("\u{fffd}"), value))
        })
    }

    /// The value of the first header of that name.
    pub fn get(&self, name: &str) -> Option<&'a [u8]> {
        self.iter().find(|(have, _)| *have == name).map(|(_, value)| value)
    }
}

/// Walks over the records of a frame.
///
/// The checksum has been verified, so a record that does not parse ends the walk: it was written so.
#[derive(Clone, Debug)]
pub struct RawRecords<'a> {
    pub(super) rest: &'a [u8],
    pub(super) offset: u64,
    pub(super) left: u32,
    pub(super) base_timestamp: i64,
    /// No record has this offset or one behind it.
    pub(super) end: u64,
}

impl<'a> RawRecords<'a> {
    #[inline]
    fn new(header: &FrameHeader, payload: &'a [u8]) -> Self {
        Self {
            rest: payload,
            offset: header.base_offset,
            left: header.count,
            base_timestamp: header.base_timestamp,
            end: header.next_offset(),
        }
    }

    /// The encoded bytes that have not been walked over.
    #[inline]
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// The next record if it has a key and a value, and neither headers nor a hole before it: so are most, and whoever asks
    /// for it first has less to look at. `None` leaves the record to [`Iterator::next`].
    #[inline(always)]
    pub(crate) fn next_plain(&mut self) -> Option<PlainRecord<'a>> {
        if self.left == 0 {
            return None;
        }
        let (&flags, mut rest) = self.rest.split_first()?;
        if flags & !HAS_TIMESTAMP != HAS_KEY | HAS_VALUE {
            return None;
        }
        let key = take_bytes(&mut rest)?;
        let value = take_bytes(&mut rest)?;
        let timestamp = if flags & HAS_TIMESTAMP == 0 { 0 } else { zigzag(take_varint(&mut rest)?) };
        let offset = self.offset;
        self.offset = offset.wrapping_add(1);
        self.left -= 1;
        self.rest = rest;
        Some(PlainRecord { offset, timestamp: self.base_timestamp.wrapping_add(timestamp), key, value })
    }
}

/// What [`RawRecords::next_plain`] finds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PlainRecord<'a> {
    pub(crate) offset: u64,
    pub(crate) timestamp: i64,
    pub(crate) key: &'a [u8],
    pub(crate) value: &'a [u8],
}

#[inline(always)]
fn zigzag(raw: u64) -> i64 {
    (raw >> 1) as i64 ^ -((raw & 1) as i64)
}

impl<'a> Iterator for RawRecords<'a> {
    type Item = RawRecord<'a>;

    // What a loop does not use of a record is then not made.
    #[inline(always)]
    fn next(&mut self) -> Option<RawRecord<'a>> {
        if self.left == 0 {
            return None;
        }
        let mut rest = self.rest;
        let (&flags, after) = rest.split_first()?;
        rest = after;
        let key = if flags & HAS_KEY != 0 { Some(take_bytes(&mut rest)?) } else { None };
        let value = if flags & HAS_VALUE != 0 { Some(take_bytes(&mut rest)?) } else { None };
        let mut timestamp = self.base_timestamp;
        if flags & HAS_TIMESTAMP != 0 {
            timestamp = timestamp.wrapping_add(zigzag(take_varint(&mut rest)?));
        }
        let (mut headers, mut hole) = (Headers::default(), 0);
        if flags >= HAS_HEADERS {
            (headers, hole, rest) = take_rare(flags, rest)?;
            // Those that are left must have offsets, too.
            self.offset.checked_add(hole)?.checked_add(self.left.into()).filter(|end| *end <= self.end)?;
        }
        let offset = self.offset.wrapping_add(hole);
        self.offset = offset.wrapping_add(1);
        self.left -= 1;
        self.rest = rest;
        Some(RawRecord { offset, timestamp, key, value, headers })
    }
}

/// What few records have.
#[cold]
fn take_rare(flags: u8, mut rest: &[u8]) -> Option<(Headers<'_>, u64, &[u8])> {
    let (mut headers, mut hole) = (Headers::default(), 0);
    if flags & HAS_HEADERS != 0 {
        (headers, rest) = take_headers(rest)?;
    }
    if flags & HAS_HOLE != 0 {
        hole = take_varint(&mut rest)?;
    }
    Some((headers, hole, rest))
}

fn take_headers(mut rest: &[u8]) -> Option<(Headers<'_>, &[u8])> {
    let count = u32::try_from(take_varint(&mut rest)?).ok()?;
    let start = rest;
    for _ in 0..count {
        take_bytes(&mut rest)?;
        take_bytes(&mut rest)?;
    }
    Some((Headers { count, bytes: &start[..start.len() - rest.len()] }, rest))
}

#[inline(always)]
fn take_bytes<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let len = take_varint(rest)? as usize;
    let (bytes, after) = rest.split_at_checked(len)?;
    *rest = after;
    Some(bytes)
}

#[inline(always)]
fn take_varint(rest: &mut &[u8]) -> Option<u64> {
    match *rest {
        [a, after @ ..] if *a < 0x80 => {
            *rest = after;
            Some(u64::from(*a))
        }
        [a, b, after @ ..] if *b < 0x80 => {
            *rest = after;
            Some(u64::from(*a & 0x7f) | u64::from(*b) << 7)
        }
        _ => {
            // It takes the slice and not its place, which can be kept in registers then.
            let (value, after) = long_varint(rest)?;
            *rest = after;
            Some(value)
        }
    }
}

#[inline(never)]
fn long_varint(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let mut value = 0_u64;
    for (i, byte) in bytes.iter().take(10).enumerate() {
        value |= u64::from(byte & 0x7f) << (7 * i);
        if byte & 0x80 == 0 {
            return Some((value, &bytes[i + 1..]));
        }
    }
    None
}

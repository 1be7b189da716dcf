//! The frame: many records under one header and one checksum, the unit that a log stores and a reader gets.
//!
//! ```text
//! header, 80 bytes, little-endian                    record, after the header
//!  0 u32 length of all that follows byte 8            u8     flags: 1 key, 2 value, 4 timestamp, 8 headers
//!  4 u32 crc32c of all that follows byte 8            varint key length, key           (with flag 1)
//!  8 u8  format (1)   9 u8 kind   10 u16 zero         varint value length, value       (with flag 2)
//! 12 u32 number of records                            zigzag varint, milliseconds after
//! 16 u64 offset of the first record                          the frame's timestamp     (with flag 4)
//! 24 u64 producer, 0 for none                         varint count, then for each name and value a
//! 32 u64 sequence of the first record                        varint length and bytes   (with flag 8)
//! 40 i64 timestamp of the first record, ms
//! 48 i64 largest timestamp, ms
//! 56 u64 fingerprint that every value carries, or 0
//! 64 u64 byte position up to which the partition was durable
//! 72 u64 zero
//! ```

use super::{SINGLE_OBJECT_HEADER_LEN, SINGLE_OBJECT_MARKER};

/// Bytes before a frame's first record.
pub const HEADER_LEN: usize = 80;

/// The format that this build writes.
const FORMAT: u8 = 1;

/// The largest frame that is read: what a length field may claim before it is called damage.
pub(crate) const MAX_FRAME_LEN: usize = 64 << 20;

const HAS_KEY: u8 = 1;
const HAS_VALUE: u8 = 2;
const HAS_TIMESTAMP: u8 = 4;
const HAS_HEADERS: u8 = 8;

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
    #[error("the frame has format {0}, this build reads up to {FORMAT}; use the release that wrote it")]
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
}

impl FrameHeader {
    /// Offset after the last record.
    pub fn next_offset(&self) -> u64 {
        self.base_offset + u64::from(self.count)
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
        if header[8] > FORMAT && header[8] < 32 {
            return Err(FrameError::Newer(header[8]));
        }
        if header[8] != FORMAT {
            return Err(FrameError::Header("unknown format"));
        }
        Ok(Self {
            len: length + 8,
            kind: header[9],
            count: u32_at(12),
            base_offset: u64_at(16),
            producer: u64_at(24),
            sequence: u64_at(32),
            base_timestamp: u64_at(40) as i64,
            max_timestamp: u64_at(48) as i64,
            schema: u64_at(56),
            durable: u64_at(64),
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
    rest: &'a [u8],
    offset: u64,
    left: u32,
    base_timestamp: i64,
}

impl<'a> RawRecords<'a> {
    #[inline]
    fn new(header: &FrameHeader, payload: &'a [u8]) -> Self {
        Self { rest: payload, offset: header.base_offset, left: header.count, base_timestamp: header.base_timestamp }
    }

    /// The encoded bytes that have not been walked over.
    #[inline]
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }
}

impl<'a> Iterator for RawRecords<'a> {
    type Item = RawRecord<'a>;

    #[inline]
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
            let raw = take_varint(&mut rest)?;
            timestamp = timestamp.wrapping_add((raw >> 1) as i64 ^ -((raw & 1) as i64));
        }
        let headers = if flags & HAS_HEADERS != 0 { take_headers(&mut rest)? } else { Headers::default() };
        let offset = self.offset;
        self.offset += 1;
        self.left -= 1;
        self.rest = rest;
        Some(RawRecord { offset, timestamp, key, value, headers })
    }
}

#[cold]
fn take_headers<'a>(rest: &mut &'a [u8]) -> Option<Headers<'a>> {
    let count = u32::try_from(take_varint(rest)?).ok()?;
    let start = *rest;
    for _ in 0..count {
        take_bytes(rest)?;
        take_bytes(rest)?;
    }
    Some(Headers { count, bytes: &start[..start.len() - rest.len()] })
}

#[inline]
fn take_bytes<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let len = take_varint(rest)? as usize;
    let (bytes, after) = rest.split_at_checked(len)?;
    *rest = after;
    Some(bytes)
}

#[inline]
fn take_varint(rest: &mut &[u8]) -> Option<u64> {
    let (&first, after) = rest.split_first()?;
    if first < 0x80 {
        *rest = after;
        return Some(u64::from(first));
    }
    take_long_varint(rest)
}

fn take_long_varint(rest: &mut &[u8]) -> Option<u64> {
    let mut value = 0_u64;
    for (i, byte) in rest.iter().take(10).enumerate() {
        value |= u64::from(byte & 0x7f) << (7 * i);
        if byte & 0x80 == 0 {
            *rest = &rest[i + 1..];
            return Some(value);
        }
    }
    None
}

#[inline]
fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// Collects records into a frame.
#[derive(Clone, Debug)]
pub struct FrameBuilder {
    bytes: Vec<u8>,
    count: u32,
    base_timestamp: i64,
    max_timestamp: i64,
    /// The single-object header that all values so far begin with; `None` before the first or once they differ.
    schema: SchemaSoFar,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum SchemaSoFar {
    None,
    All([u8; SINGLE_OBJECT_HEADER_LEN]),
    Mixed,
}

impl Default for FrameBuilder {
    fn default() -> Self {
        Self::new()
    }
}

impl FrameBuilder {
    /// An empty frame.
    pub fn new() -> Self {
        Self {
            bytes: vec![0; HEADER_LEN],
            count: 0,
            base_timestamp: 0,
            max_timestamp: i64::MIN,
            schema: SchemaSoFar::None,
        }
    }

    /// Number of records so far.
    pub fn count(&self) -> u32 {
        self.count
    }

    /// Whether it holds no record.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Bytes so far, header included.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Adds a record. `timestamp` is in milliseconds since 1970.
    #[inline]
    pub fn push(&mut self, key: Option<&[u8]>, value: Option<&[u8]>, timestamp: i64) {
        self.push_with_headers(key, value, timestamp, &[]);
    }

    /// Adds a record with headers.
    pub fn push_with_headers(
        &mut self,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        timestamp: i64,
        headers: &[(&str, &[u8])],
    ) {
        if self.count == 0 {
            self.base_timestamp = timestamp;
        }
        self.max_timestamp = self.max_timestamp.max(timestamp);
        let delta = timestamp.wrapping_sub(self.base_timestamp);
        let flags = u8::from(key.is_some()) * HAS_KEY
            + u8::from(value.is_some()) * HAS_VALUE
            + u8::from(delta != 0) * HAS_TIMESTAMP
            + u8::from(!headers.is_empty()) * HAS_HEADERS;
        self.bytes.push(flags);
        if let Some(key) = key {
            put_bytes(&mut self.bytes, key);
        }
        if let Some(value) = value {
            self.note_schema(value);
            put_bytes(&mut self.bytes, value);
        }
        if delta != 0 {
            put_varint(&mut self.bytes, ((delta << 1) ^ (delta >> 63)) as u64);
        }
        if !headers.is_empty() {
            put_varint(&mut self.bytes, headers.len() as u64);
            for (name, value) in headers {
                put_bytes(&mut self.bytes, name.as_bytes());
                put_bytes(&mut self.bytes, value);
            }
        }
        self.count += 1;
    }

    /// Adds a record as it was read elsewhere.
    pub fn push_raw(&mut self, record: &RawRecord<'_>) {
        if record.headers.is_empty() {
            self.push(record.key, record.value, record.timestamp);
        } else {
            let headers: Vec<_> = record.headers.iter().collect();
            self.push_with_headers(record.key, record.value, record.timestamp, &headers);
        }
    }

    #[inline]
    fn note_schema(&mut self, value: &[u8]) {
        let header =
            value.first_chunk::<SINGLE_OBJECT_HEADER_LEN>().filter(|header| header[..2] == SINGLE_OBJECT_MARKER);
        self.schema = match (self.schema, header) {
            (SchemaSoFar::None, Some(header)) => SchemaSoFar::All(*header),
            (SchemaSoFar::All(all), Some(header)) if all == *header => return,
            _ => SchemaSoFar::Mixed,
        };
    }

    /// Fills in the header and the checksum; the bytes are what a log stores.
    ///
    /// May be called again with other numbers: the records stay.
    pub fn seal(&mut self, kind: u8, base_offset: u64, producer: u64, sequence: u64, durable: u64) -> &[u8] {
        let schema = match self.schema {
            SchemaSoFar::All(header) => u64::from_le_bytes([
                header[2], header[3], header[4], header[5], header[6], header[7], header[8], header[9],
            ]),
            _ => 0,
        };
        let length = (self.bytes.len() - 8) as u32;
        let bytes = &mut self.bytes;
        bytes[0..4].copy_from_slice(&length.to_le_bytes());
        bytes[8] = FORMAT;
        bytes[9] = kind;
        bytes[12..16].copy_from_slice(&self.count.to_le_bytes());
        bytes[16..24].copy_from_slice(&base_offset.to_le_bytes());
        bytes[24..32].copy_from_slice(&producer.to_le_bytes());
        bytes[32..40].copy_from_slice(&sequence.to_le_bytes());
        bytes[40..48].copy_from_slice(&self.base_timestamp.to_le_bytes());
        bytes[48..56].copy_from_slice(&self.max_timestamp.to_le_bytes());
        bytes[56..64].copy_from_slice(&schema.to_le_bytes());
        bytes[64..72].copy_from_slice(&durable.to_le_bytes());
        let crc = crc32c::crc32c(&bytes[8..]);
        bytes[4..8].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// The records so far, as [`RawRecord`]s with offsets from 0.
    pub fn records(&self) -> RawRecords<'_> {
        RawRecords { rest: &self.bytes[HEADER_LEN..], offset: 0, left: self.count, base_timestamp: self.base_timestamp }
    }

    /// Empties it and keeps its memory.
    pub fn clear(&mut self) {
        self.bytes.truncate(HEADER_LEN);
        self.count = 0;
        self.max_timestamp = i64::MIN;
        self.schema = SchemaSoFar::None;
    }
}

/// What a [`FrameBuilder`] held at some moment, to go back to.
#[derive(Clone, Copy, Debug)]
pub struct FrameMark {
    len: usize,
    count: u32,
    max_timestamp: i64,
    schema: SchemaSoFar,
}

impl FrameBuilder {
    /// Remembers what it holds now.
    pub fn mark(&self) -> FrameMark {
        FrameMark { len: self.bytes.len(), count: self.count, max_timestamp: self.max_timestamp, schema: self.schema }
    }

    /// Drops what was added since the mark.
    pub fn rollback(&mut self, mark: FrameMark) {
        self.bytes.truncate(mark.len);
        self.count = mark.count;
        self.max_timestamp = mark.max_timestamp;
        self.schema = mark.schema;
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
}

impl Cursor {
    /// The place before the first record at or after `offset`.
    pub fn at_offset(frames: &Frames, offset: u64) -> Self {
        let mut cursor = Self::default();
        while cursor.left > 0 || cursor.enter(frames) {
            if cursor.offset >= offset {
                break;
            }
            // Whole frames below the offset need no walk.
            if cursor.offset + u64::from(cursor.left) <= offset {
                cursor.left = 0;
            } else if cursor.next(frames).is_none() {
                break;
            }
        }
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
                return true;
            }
        }
        false
    }

    /// Steps over the next record and returns it.
    #[inline]
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
        })
    }

    /// Moves to where a walk over [`Cursor::rest_of_frame_or_next`] has come.
    #[inline]
    pub fn advance_to(&mut self, walk: &RawRecords<'_>) {
        self.at = self.end - walk.rest.len();
        self.offset = walk.offset;
        self.left = walk.left;
    }

    /// The offset of the next record, or the one after the last that was stepped over.
    #[inline]
    pub fn offset(&self) -> u64 {
        self.offset
    }
}

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_gives_back_what_was_put_in() {
        let mut frame = FrameBuilder::new();
        let long = vec![7_u8; 300];
        frame.push(Some(b"k"), Some(&long), 1_000);
        frame.push(None, None, 900);
        frame.push_with_headers(Some(b""), Some(b""), 1_001, &[("a", b"1"), ("a", b"")]);
        let bytes = frame.seal(0, 40, 9, 5, 77).to_vec();
        let read = Frame::parse(&bytes).unwrap();
        assert_eq!((read.header.count, read.header.base_offset, read.header.next_offset()), (3, 40, 43));
        assert_eq!((read.header.max_timestamp, read.header.durable, read.header.schema), (1_001, 77, 0));
        let records: Vec<_> = read.records().collect();
        assert_eq!((records[0].key, records[0].value, records[0].timestamp), (Some(&b"k"[..]), Some(&long[..]), 1_000));
        assert_eq!((records[1].key, records[1].value, records[1].timestamp, records[1].offset), (None, None, 900, 41));
        assert_eq!(records[2].headers.iter().collect::<Vec<_>>(), [("a", &b"1"[..]), ("a", &b""[..])]);
        assert_eq!(read.records().count(), 3);
    }

    #[test]
    fn any_flipped_bit_is_noticed() {
        let mut frame = FrameBuilder::new();
        frame.push(Some(b"key"), Some(b"value"), 1);
        let bytes = frame.seal(0, 0, 0, 0, 0).to_vec();
        for bit in 0..bytes.len() * 8 {
            let mut damaged = bytes.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(Frame::parse(&damaged).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn one_schema_is_named_and_two_are_not() {
        let value = |schema: u8| [0xC3, 1, schema, 0, 0, 0, 0, 0, 0, 0, 42];
        let mut frame = FrameBuilder::new();
        frame.push(None, Some(&value(5)), 0);
        frame.push(None, Some(&value(5)), 0);
        assert_eq!(Frame::parse(frame.seal(0, 0, 0, 0, 0)).unwrap().header.schema, 5);
        frame.push(None, Some(&value(6)), 0);
        assert_eq!(Frame::parse(frame.seal(0, 0, 0, 0, 0)).unwrap().header.schema, 0);
    }
}

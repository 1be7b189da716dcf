//! Many records on their way into one frame.

use super::frame::{
    COMPACTED_FORMAT, FORMAT, FrameHeader, HAS_HEADERS, HAS_HOLE, HAS_KEY, HAS_TIMESTAMP, HAS_VALUE, HEADER_LEN,
    RawRecord, RawRecords,
};
use super::{SINGLE_OBJECT_HEADER_LEN, SINGLE_OBJECT_MARKER};

/// Collects records into a frame.
#[derive(Clone, Debug)]
pub struct FrameBuilder {
    bytes: Vec<u8>,
    count: u32,
    base_timestamp: i64,
    max_timestamp: i64,
    /// The single-object header that all values so far begin with; `None` before the first or once they differ.
    schema: SchemaSoFar,
    /// Whether a record has no key.
    keyless: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum SchemaSoFar {
    None,
    All([u8; SINGLE_OBJECT_HEADER_LEN]),
    Mixed,
}

impl SchemaSoFar {
    /// With one more value.
    #[inline]
    fn with(self, value: &[u8]) -> Self {
        let header =
            value.first_chunk::<SINGLE_OBJECT_HEADER_LEN>().filter(|header| header[..2] == SINGLE_OBJECT_MARKER);
        match (self, header) {
            (Self::None, Some(header)) => Self::All(*header),
            (Self::All(all), Some(header)) if all == *header => self,
            _ => Self::Mixed,
        }
    }

    /// The fingerprint that every value carries, or 0.
    fn fingerprint(self) -> u64 {
        match self {
            Self::All(header) => u64::from_le_bytes([
                header[2], header[3], header[4], header[5], header[6], header[7], header[8], header[9],
            ]),
            _ => 0,
        }
    }
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
            keyless: false,
        }
    }

    /// An empty frame with room for records of about so many bytes.
    pub(crate) fn with_capacity(bytes: usize) -> Self {
        let mut frame = Self::new();
        // The last record usually goes a little beyond.
        frame.bytes.reserve_exact(bytes + bytes / 16);
        frame
    }

    /// A frame of `len` bytes without records; `len` is at least [`HEADER_LEN`].
    pub(crate) fn padding(len: usize) -> Self {
        let mut frame = Self::new();
        frame.bytes.resize(len.max(HEADER_LEN), 0);
        frame.max_timestamp = 0;
        frame
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
    #[inline]
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether a record in it has no key.
    pub fn is_keyless(&self) -> bool {
        self.keyless
    }

    /// Adds a record. `timestamp` is in milliseconds since 1970.
    #[inline]
    pub fn push(&mut self, key: Option<&[u8]>, value: Option<&[u8]>, timestamp: i64) {
        self.push_with_headers(key, value, timestamp, &[]);
    }

    /// Adds a record with headers.
    #[inline]
    pub fn push_with_headers(
        &mut self,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        timestamp: i64,
        headers: &[(&str, &[u8])],
    ) {
        self.push_parts(key.map(|key| [key]), value, timestamp, headers);
    }

    /// Adds a record whose key is these parts, one behind the other.
    #[inline]
    pub(crate) fn push_parts<const N: usize>(
        &mut self,
        key: Option<[&[u8]; N]>,
        value: Option<&[u8]>,
        timestamp: i64,
        headers: &[(&str, &[u8])],
    ) {
        let delta = self.begin(timestamp);
        let flags = u8::from(value.is_some()) * HAS_VALUE + u8::from(!headers.is_empty()) * HAS_HEADERS;
        self.put_head(flags, key, delta);
        if let Some(value) = value {
            self.schema = self.schema.with(value);
            put_bytes(&mut self.bytes, value);
        }
        self.put_timestamp(delta);
        if !headers.is_empty() {
            put_varint(&mut self.bytes, headers.len() as u64);
            for (name, value) in headers {
                put_bytes(&mut self.bytes, name.as_bytes());
                put_bytes(&mut self.bytes, value);
            }
        }
        self.count += 1;
    }

    /// Adds a record whose value `encode` appends, and returns the value's length. What cannot be encoded leaves nothing.
    #[inline]
    pub(crate) fn push_encoded<const N: usize, E>(
        &mut self,
        key: Option<[&[u8]; N]>,
        timestamp: i64,
        encode: impl FnOnce(&mut Vec<u8>) -> Result<(), E>,
    ) -> Result<usize, E> {
        let before = self.mark();
        let delta = self.begin(timestamp);
        self.put_head(HAS_VALUE, key, delta);
        // Most values are short enough for a length of one byte.
        let start = self.bytes.len() + 1;
        self.bytes.push(0);
        if let Err(error) = encode(&mut self.bytes) {
            self.rollback(before);
            return Err(error);
        }
        let len = self.bytes.len() - start;
        self.schema = self.schema.with(&self.bytes[start..]);
        if len < 0x80 {
            self.bytes[start - 1] = len as u8;
        } else {
            let mut length = Vec::new();
            put_varint(&mut length, len as u64);
            self.bytes.splice(start - 1..start, length);
        }
        self.put_timestamp(delta);
        self.count += 1;
        Ok(len)
    }

    /// Takes note of a record's timestamp; returns how far it is from the first one's.
    #[inline(always)]
    fn begin(&mut self, timestamp: i64) -> i64 {
        if self.count == 0 {
            self.base_timestamp = timestamp;
        }
        self.max_timestamp = self.max_timestamp.max(timestamp);
        timestamp.wrapping_sub(self.base_timestamp)
    }

    #[inline(always)]
    fn put_head<const N: usize>(&mut self, flags: u8, key: Option<[&[u8]; N]>, delta: i64) {
        let flags = flags + u8::from(key.is_some()) * HAS_KEY + u8::from(delta != 0) * HAS_TIMESTAMP;
        match key {
            Some(parts) => {
                let len = parts.iter().map(|part| part.len()).sum::<usize>();
                if len < 0x80 {
                    self.bytes.extend_from_slice(&[flags, len as u8]);
                } else {
                    self.bytes.push(flags);
                    put_varint(&mut self.bytes, len as u64);
                }
                for part in parts {
                    self.bytes.extend_from_slice(part);
                }
            }
            None => {
                self.bytes.push(flags);
                self.keyless = true;
            }
        }
    }

    #[inline(always)]
    fn put_timestamp(&mut self, delta: i64) {
        if delta != 0 {
            put_varint(&mut self.bytes, ((delta << 1) ^ (delta >> 63)) as u64);
        }
    }

    /// Adds a record of `from` that has a key, a value and no headers, under its key without the first `skip` bytes. Key and
    /// value go over in one piece, with the value's length between them.
    #[inline]
    pub(crate) fn push_rest(&mut self, from: &Self, record: &RawRecord<'_>, skip: usize) {
        let (Some(key), Some(value)) = (record.key, record.value) else { return };
        let delta = self.begin(record.timestamp);
        let start = from.bytes.as_ptr() as usize;
        let (begins, ends) = (key.as_ptr() as usize - start + skip, value.as_ptr() as usize - start + value.len());
        let flags = HAS_KEY + HAS_VALUE + u8::from(delta != 0) * HAS_TIMESTAMP;
        match key.len() - skip {
            len @ ..0x80 => self.bytes.extend_from_slice(&[flags, len as u8]),
            len => {
                self.bytes.push(flags);
                put_varint(&mut self.bytes, len as u64);
            }
        }
        self.bytes.extend_from_slice(&from.bytes[begins..ends]);
        self.schema = self.schema.with(value);
        self.put_timestamp(delta);
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

    /// Adds a record of a frame that may have holes. `next` is the offset after the one before, and moves on.
    pub(crate) fn push_after_hole(&mut self, next: &mut u64, record: &RawRecord<'_>) {
        let flags = self.bytes.len();
        self.push_raw(record);
        self.end_record_at(flags, next, record.offset);
    }

    /// As [`FrameBuilder::push_after_hole`], for a record that comes in parts.
    #[cfg(feature = "kafka")]
    pub(crate) fn push_at(
        &mut self,
        next: &mut u64,
        offset: u64,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        timestamp: i64,
        headers: &[(&str, &[u8])],
    ) {
        let flags = self.bytes.len();
        self.push_with_headers(key, value, timestamp, headers);
        self.end_record_at(flags, next, offset);
    }

    /// Notes the hole before the record whose flags stand at that place.
    fn end_record_at(&mut self, flags: usize, next: &mut u64, offset: u64) {
        let hole = offset.saturating_sub(*next);
        if hole > 0 {
            self.bytes[flags] |= HAS_HOLE;
            put_varint(&mut self.bytes, hole);
        }
        *next = offset + 1;
    }

    /// Hands its records over as one frame for the offsets from `base_offset` up to `next_offset`, and is empty then.
    /// No checksum is made: the records have not been on a disk since somebody verified them.
    #[cfg(feature = "kafka")]
    pub(crate) fn move_into(&mut self, frames: &mut super::Frames, base_offset: u64, next_offset: u64) {
        let holes = (next_offset - base_offset).saturating_sub(u64::from(self.count));
        let header = FrameHeader {
            len: self.bytes.len(),
            count: self.count,
            base_offset,
            base_timestamp: self.base_timestamp,
            max_timestamp: self.max_timestamp,
            schema: self.schema.fingerprint(),
            compacted: holes > 0,
            holes,
            ..FrameHeader::default()
        };
        frames.clear();
        // The buffers change places, so that nothing is copied.
        std::mem::swap(&mut frames.bytes, &mut self.bytes);
        frames.frames.push((header, HEADER_LEN));
        self.bytes.resize(HEADER_LEN, 0);
        self.clear();
    }

    /// Fills in the header and the checksum; the bytes are what a log stores.
    ///
    /// May be called again with other numbers: the records stay.
    pub fn seal(&mut self, kind: u8, base_offset: u64, producer: u64, sequence: u64, durable: u64) -> &[u8] {
        self.fill((FORMAT, kind), [base_offset, producer, sequence], [durable, 0])
    }

    /// As [`FrameBuilder::seal`], for a frame that stands for the offsets from `base_offset` up to `next_offset`,
    /// with holes where there is no record. Its tombstones may go at `tombstones_until`.
    pub(crate) fn seal_compacted(&mut self, base_offset: u64, next_offset: u64, tombstones_until: i64) -> &[u8] {
        let holes = (next_offset - base_offset).saturating_sub(u64::from(self.count));
        self.fill((COMPACTED_FORMAT, 0), [base_offset, 0, 0], [tombstones_until as u64, holes])
    }

    /// As [`FrameBuilder::seal`], with what `header` says of offsets and producer.
    pub(crate) fn seal_as(&mut self, header: &FrameHeader) -> &[u8] {
        match header.compacted {
            true => self.seal_compacted(header.base_offset, header.next_offset(), header.tombstones_until),
            false => self.seal(header.kind, header.base_offset, header.producer, header.sequence, header.durable),
        }
    }

    fn fill(&mut self, (format, kind): (u8, u8), from_16: [u64; 3], from_64: [u64; 2]) -> &[u8] {
        let schema = self.schema.fingerprint();
        let length = (self.bytes.len() - 8) as u32;
        let bytes = &mut self.bytes;
        bytes[0..4].copy_from_slice(&length.to_le_bytes());
        bytes[8] = format;
        bytes[9] = kind;
        bytes[12..16].copy_from_slice(&self.count.to_le_bytes());
        let times = [self.base_timestamp as u64, self.max_timestamp as u64];
        let words = from_16.into_iter().chain(times).chain([schema]).chain(from_64);
        for (place, word) in bytes[16..HEADER_LEN].chunks_exact_mut(8).zip(words) {
            place.copy_from_slice(&word.to_le_bytes());
        }
        let crc = crc32c::crc32c(&bytes[8..]);
        bytes[4..8].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// The records so far, as [`RawRecord`]s with offsets from 0.
    pub fn records(&self) -> RawRecords<'_> {
        let (rest, base_timestamp) = (&self.bytes[HEADER_LEN..], self.base_timestamp);
        RawRecords { rest, offset: 0, left: self.count, base_timestamp, end: u64::MAX }
    }

    /// Empties it and keeps its memory.
    pub fn clear(&mut self) {
        self.bytes.truncate(HEADER_LEN);
        self.count = 0;
        self.max_timestamp = i64::MIN;
        self.schema = SchemaSoFar::None;
        self.keyless = false;
    }
}

/// What a [`FrameBuilder`] held at some moment, to go back to.
#[derive(Clone, Copy, Debug)]
pub struct FrameMark {
    len: usize,
    count: u32,
    max_timestamp: i64,
    schema: SchemaSoFar,
    keyless: bool,
}

impl FrameBuilder {
    /// Remembers what it holds now.
    #[inline]
    pub fn mark(&self) -> FrameMark {
        FrameMark {
            len: self.bytes.len(),
            count: self.count,
            max_timestamp: self.max_timestamp,
            schema: self.schema,
            keyless: self.keyless,
        }
    }

    /// Drops what was added since the mark.
    pub fn rollback(&mut self, mark: FrameMark) {
        self.bytes.truncate(mark.len);
        self.count = mark.count;
        self.max_timestamp = mark.max_timestamp;
        self.schema = mark.schema;
        self.keyless = mark.keyless;
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Frame;

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
    fn a_compacted_frame_keeps_its_offsets() {
        let keep = |offset: u64| [3, 4, 9].contains(&offset);
        let records = (0..12).map(|offset| RawRecord {
            offset,
            timestamp: 1_000 + offset as i64,
            key: Some(b"k"),
            value: Some(b"v"),
            headers: Default::default(),
        });
        let mut frame = FrameBuilder::new();
        let mut next = 0;
        records.filter(|record| keep(record.offset)).for_each(|record| frame.push_after_hole(&mut next, &record));
        let bytes = frame.seal_compacted(0, 12, 77).to_vec();
        let read = Frame::parse(&bytes).unwrap();
        assert_eq!((read.header.count, read.header.holes, read.header.next_offset()), (3, 9, 12));
        assert_eq!((read.header.compacted, read.header.tombstones_until, read.header.durable), (true, 77, 0));
        let found: Vec<_> = read.records().map(|record| (record.offset, record.timestamp)).collect();
        assert_eq!(found, [(3, 1_003), (4, 1_004), (9, 1_009)]);

        // Of records that stand behind the frame's end, which is no offset of theirs, the walk sees none.
        let short = Frame { header: FrameHeader { holes: 5, ..read.header }, ..read };
        assert_eq!(short.records().map(|record| record.offset).collect::<Vec<_>>(), [3, 4]);

        let mut frames = crate::record::Frames::default();
        frames.push(&read);
        for (from, want) in [(0, Some(3)), (3, Some(3)), (4, Some(4)), (5, Some(9)), (9, Some(9)), (10, None)] {
            let mut cursor = crate::record::Cursor::at_offset(&frames, from);
            assert!(cursor.offset() >= from || want.is_some());
            assert_eq!(cursor.next(&frames).map(|record| record.offset), want, "from {from}");
        }
        let mut empty = FrameBuilder::new();
        let bytes = empty.seal_compacted(12, 99, 0).to_vec();
        let read = Frame::parse(&bytes).unwrap();
        assert_eq!((read.header.count, read.header.next_offset(), read.records().count()), (0, 99, 0));
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
    fn an_encoded_value_is_as_a_pushed_one() {
        let (mut encoded, mut pushed) = (FrameBuilder::new(), FrameBuilder::new());
        for (len, timestamp) in [(0, 5), (127, 5), (128, 7), (70_000, 4), (20, 5)] {
            let value = [&[0xC3, 1, 9, 0, 0, 0, 0, 0, 0, 0][..], &vec![len as u8; len]].concat();
            let key = [&b"key of "[..], &value[..4]];
            let encode = |out: &mut Vec<u8>| {
                out.extend_from_slice(&value);
                if len == 20 { Err("does not fit") } else { Ok(()) }
            };
            let put = encoded.push_encoded(Some(key), timestamp, encode);
            if len != 20 {
                pushed.push_parts(Some(key), Some(&value), timestamp, &[]);
                assert_eq!(put, Ok(value.len()));
            } else {
                assert_eq!(put, Err("does not fit"));
            }
            assert_eq!(encoded.seal(0, 0, 0, 0, 0), pushed.seal(0, 0, 0, 0, 0), "{len}");
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

//! Frames: any bytes, bytes behind a header whose length and checksum are right, and frames that were written here.

use gretchen::record::{Cursor, Frame, FrameBuilder, FrameError, FrameHeader, Frames, HEADER_LEN, RawRecord};

use crate::memory::within;

/// The largest frame that is read.
const MOST: usize = 64 << 20;

/// The first byte says what is made of the rest.
pub fn run(bytes: &[u8]) {
    let Some((first, rest)) = bytes.split_first() else { return };
    match first % 3 {
        0 => any(rest),
        1 => sealed(rest),
        _ => written(rest),
    }
}

fn any(bytes: &[u8]) {
    let header = FrameHeader::parse(bytes);
    if let Ok(header) = &header {
        assert!((HEADER_LEN..=MOST).contains(&header.len), "{header:?}");
        assert!(header.next_offset() >= header.base_offset, "{header:?}");
    }
    match within(4096, || Frame::parse(bytes)) {
        Ok(frame) => {
            assert_eq!(header, Ok(frame.header));
            walk(&frame);
        }
        Err(FrameError::Short { have, need }) => assert!(have == bytes.len() && (have + 1..=MOST).contains(&need)),
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

/// Length, format and checksum are made right, so that what lies behind them is looked at.
fn sealed(bytes: &[u8]) {
    let frame = seal(bytes.to_vec());
    match Frame::parse(&frame) {
        Ok(frame) => walk(&frame),
        Err(error) => assert_eq!(error, FrameError::Header("impossible offsets")),
    }
}

/// The bytes as a frame that its checksum is right of.
pub(crate) fn seal(mut frame: Vec<u8>) -> Vec<u8> {
    frame.resize(frame.len().max(HEADER_LEN), 0);
    let length = (frame.len() - 8) as u32;
    frame[..4].copy_from_slice(&length.to_le_bytes());
    frame[8] = 1 + frame[8] % 2;
    let crc = crc32c::crc32c(&frame[8..]);
    frame[4..8].copy_from_slice(&crc.to_le_bytes());
    frame
}

/// All ways of walking over a frame meet the same records, in order of their offsets.
fn walk(frame: &Frame<'_>) {
    let (header, payload) = (frame.header, frame.payload);
    let records: Vec<RawRecord<'_>> = frame.records().collect();
    assert!(records.len() <= header.count as usize && records.len() <= payload.len());
    assert!(records.iter().all(|record| record.offset >= header.base_offset));
    assert!(records.is_sorted_by(|a, b| a.offset < b.offset), "{header:?}");
    for record in &records {
        within(4096, || {
            assert!(record.headers.iter().count() <= record.headers.len());
            assert!(record.headers.get("name").is_none_or(|value| value.len() <= payload.len()));
        });
        let parts = record.key.map_or(0, <[u8]>::len) + record.value.map_or(0, <[u8]>::len);
        assert!(parts <= payload.len());
    }
    let mut frames = Frames::default();
    frames.push(frame);
    let mut cursor = Cursor::default();
    let mut walked = 0;
    while let Some(record) = cursor.next(&frames) {
        assert_eq!(record.offset, records[walked].offset);
        walked += 1;
    }
    assert_eq!(walked, records.len());
    if records.last().is_some_and(|last| last.offset >= header.next_offset()) {
        // Its holes are more than it says that they are; nobody writes that.
        return;
    }
    for (at, record) in records.iter().enumerate().take(32) {
        let mut from = Cursor::at_offset(&frames, record.offset);
        assert_eq!(from.next(&frames).map(|found| found.offset), Some(record.offset));
        let mut behind = Cursor::at_offset(&frames, record.offset + 1);
        assert_eq!(behind.next(&frames).map(|found| found.offset), records.get(at + 1).map(|next| next.offset));
    }
}

/// Each record begins with a byte of flags and the lengths of key and value.
fn written(bytes: &[u8]) {
    let mut builder = FrameBuilder::new();
    let mut rest = bytes;
    let mut wanted = Vec::new();
    while let [flags, key, value, after @ ..] = rest {
        let (key, after) = after.split_at(after.len().min((*key).into()));
        let (value, after) = after.split_at(after.len().min((*value).into()));
        let key_or_none = (flags & 1 != 0).then_some(key);
        let value_or_none = (flags & 2 != 0).then_some(value);
        let timestamp = i64::from(*flags).wrapping_mul(i64::MAX / 3);
        let headers = [("a", key), ("b", value)];
        let headers = &headers[..usize::from(flags >> 2) % 3];
        builder.push_with_headers(key_or_none, value_or_none, timestamp, headers);
        wanted.push((key_or_none, value_or_none, timestamp, headers.to_vec()));
        rest = after;
    }
    let base = bytes.len() as u64;
    let sealed = builder.seal(0, base, 7, 9, 11).to_vec();
    let frame = Frame::parse(&sealed).expect("what was written");
    assert_eq!(frame.records().count(), wanted.len());
    for (record, (key, value, timestamp, headers)) in frame.records().zip(&wanted) {
        assert_eq!((record.key, record.value, record.timestamp), (*key, *value, *timestamp));
        assert_eq!(record.headers.iter().collect::<Vec<_>>(), *headers);
    }
    walk(&frame);
    // No flipped bit and no end that is missing leaves a frame.
    let at = crc32c::crc32c(bytes) as usize;
    let mut hurt = sealed.clone();
    hurt[at / 8 % sealed.len()] ^= 1 << (at % 8);
    assert!(Frame::parse(&hurt).is_err());
    assert!(Frame::parse(&sealed[..at % sealed.len()]).is_err());
}

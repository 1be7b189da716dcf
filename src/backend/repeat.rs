//! Which records of a frame a partition takes: not those that it has already, not behind another end than where the
//! producer left it, and not without a key where keys are compacted.

use crate::error::{Error, ErrorKind, Result};
use crate::record::FrameBuilder;
use crate::topic::TopicPartition;

/// Refuses an append where the end is not the one that is expected, if one is.
pub(super) fn check_end(place: &TopicPartition, end: u64, expected: Option<u64>) -> Result<()> {
    match expected {
        Some(expected) if expected != end => {
            let message = format!(
                "somebody else has written here: the end is offset {end} where {expected} was expected; stop the other \
                 writer, then restart this one"
            );
            Err(Error::new(ErrorKind::Conflict, message).at(place).at_offset(end))
        }
        _ => Ok(()),
    }
}

/// Refuses records without a key where the last of every key is kept: nothing would ever take their place.
pub(super) fn check_keys(place: &TopicPartition, compacts: bool, frame: &FrameBuilder) -> Result<()> {
    if !compacts || !frame.is_keyless() {
        return Ok(());
    }
    let message = "the topic is compacted and takes no record without a key; give every record one, or set the topic's \
                   cleanup to delete";
    Err(Error::new(ErrorKind::Unsupported, message).at(place))
}

/// How many of the first records of a frame are there already, when the partition has its producer's records up to
/// `known`. A sequence beyond `known` leaves a gap, which is accepted: the producer skipped those numbers.
pub(super) fn repeated(known: u64, sequence: u64, count: u32) -> u32 {
    u32::try_from(known.saturating_sub(sequence)).unwrap_or(u32::MAX).min(count)
}

/// The records of a frame after the first `dropped`.
pub(super) fn without_first(frame: &FrameBuilder, dropped: u32) -> FrameBuilder {
    let mut rest = FrameBuilder::new();
    frame.records().skip(dropped as usize).for_each(|record| rest.push_raw(&record));
    rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_known_is_repeated_and_no_more() {
        for (known, sequence, count, want) in
            [(0, 0, 3, 0), (3, 0, 3, 3), (2, 0, 3, 2), (9, 0, 3, 3), (3, 3, 1, 0), (3, 7, 1, 0), (u64::MAX, 0, 5, 5)]
        {
            assert_eq!(repeated(known, sequence, count), want, "{known} {sequence} {count}");
        }
    }

    #[test]
    fn the_rest_keeps_its_records() {
        let mut frame = FrameBuilder::new();
        frame.push(Some(b"a"), Some(b"1"), 5);
        frame.push_with_headers(Some(b"b"), None, 3, &[("h", b"v")]);
        let rest = without_first(&frame, 1);
        let record = rest.records().next().unwrap();
        assert_eq!((rest.count(), record.key, record.value, record.timestamp), (1, Some(&b"b"[..]), None, 3));
        assert_eq!(record.headers.get("h"), Some(&b"v"[..]));
    }
}

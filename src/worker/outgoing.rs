//! The outputs of a commit that is on its way, by the partition that they go to.

use super::mark::{Entry, Mark};
use crate::agent::{OUTPUT_HEAD, OUTPUT_TAG};
use crate::error::Result;
use crate::record::{EncodeError, FrameBuilder, RawRecord};
use crate::table::Encode;

/// Outputs are moved in pieces of about this many bytes.
const PIECE_BYTES: usize = 256 << 10;

/// Outputs that wait until their commit is durable, as the frames that their partitions get.
#[derive(Debug)]
pub(super) struct Outgoing {
    /// By number of the output partition.
    partitions: Vec<Pieces>,
    /// Bytes in pieces that are full.
    bytes: usize,
    /// How many of them are kept; `None` for all.
    limit: Option<usize>,
    /// There was more than is kept.
    overflowed: bool,
    spare: Vec<FrameBuilder>,
    /// Pieces that were in use at once since the last clear: as many are worth keeping.
    in_use: usize,
}

#[derive(Debug, Default)]
struct Pieces {
    full: Vec<FrameBuilder>,
    open: FrameBuilder,
    /// Outputs since the last clear.
    count: u64,
}

impl Outgoing {
    /// Outputs of a commit that has more bytes of them are not kept, but read from the changelog when they are moved.
    pub(super) fn within(bytes: usize) -> Self {
        Self { limit: Some(bytes), ..Self::of_all() }
    }

    /// One that keeps every output, however many: they can be had nowhere else.
    pub(super) fn of_all() -> Self {
        Self { partitions: Vec::new(), bytes: 0, limit: None, overflowed: false, spare: Vec::new(), in_use: 0 }
    }

    /// Keeps the outputs among the records of a commit's piece, as long as there is room.
    pub(super) fn set_aside(&mut self, piece: &FrameBuilder) -> Result<()> {
        for record in piece.records() {
            // Nearly all are so.
            if let Some([OUTPUT_TAG, a, b, c, d, 1, ..]) = record.key
                && record.value.is_some()
                && record.headers.is_empty()
            {
                if !self.has_room() {
                    return Ok(());
                }
                let number = u32::from_le_bytes([*a, *b, *c, *d]);
                self.open(number).push_rest(piece, &record, OUTPUT_HEAD);
                self.close_full(number);
            } else if let Entry::Output { number, key } = Entry::parse(&record)? {
                if !self.has_room() {
                    return Ok(());
                }
                self.push_raw(number, key, record);
            }
        }
        Ok(())
    }

    /// Whether there is room for more outputs of this commit; without it none of them is kept.
    #[inline]
    pub(super) fn has_room(&mut self) -> bool {
        if self.limit.is_some_and(|limit| self.bytes > limit) {
            self.clear();
            self.overflowed = true;
        }
        !self.overflowed
    }

    /// Adds an output as the changelog has it.
    pub(super) fn push_raw(&mut self, number: u32, key: Option<&[u8]>, record: RawRecord<'_>) {
        self.open(number).push_raw(&RawRecord { key, ..record });
        self.close_full(number);
    }

    /// Adds an output that a table makes; without `encode` a tombstone.
    #[inline]
    pub(super) fn push_encoded(
        &mut self,
        number: u32,
        key: &[u8],
        encode: Option<Encode<'_>>,
        timestamp: i64,
    ) -> Result<(), EncodeError> {
        let open = self.open(number);
        match encode {
            Some(encode) => drop(open.push_encoded(Some([key]), timestamp, encode)?),
            None => open.push(Some(key), None, timestamp),
        }
        self.close_full(number);
        Ok(())
    }

    #[inline]
    fn open(&mut self, number: u32) -> &mut FrameBuilder {
        let number = number as usize;
        if self.partitions.len() <= number {
            self.partitions.resize_with(number + 1, Pieces::default);
        }
        let pieces = &mut self.partitions[number];
        pieces.count += 1;
        &mut pieces.open
    }

    #[inline]
    fn close_full(&mut self, number: u32) {
        let pieces = &mut self.partitions[number as usize];
        if pieces.open.len() >= PIECE_BYTES {
            let next = self.spare.pop().unwrap_or_else(|| FrameBuilder::with_capacity(PIECE_BYTES));
            self.bytes += pieces.open.len();
            self.in_use += 1;
            pieces.full.push(std::mem::replace(&mut pieces.open, next));
        }
    }

    /// Whether it holds exactly the outputs of a commit.
    pub(super) fn is_whole(&self, mark: &Mark) -> bool {
        let kept = |number: u32| self.partitions.get(number as usize).map_or(0, |pieces| pieces.count);
        !self.overflowed && mark.outputs.iter().all(|to| kept(to.number) == to.count)
    }

    /// Takes out the pieces for an output partition that are full, or `all`.
    pub(super) fn take(&mut self, number: u32, all: bool) -> Vec<FrameBuilder> {
        let Some(pieces) = self.partitions.get_mut(number as usize) else { return Vec::new() };
        let mut taken = std::mem::take(&mut pieces.full);
        self.bytes -= taken.iter().map(FrameBuilder::len).sum::<usize>();
        if all && !pieces.open.is_empty() {
            let next = self.spare.pop().unwrap_or_default();
            self.in_use += 1;
            taken.push(std::mem::replace(&mut pieces.open, next));
        }
        taken
    }

    /// Takes a piece back whose memory can be used again.
    pub(super) fn recycle(&mut self, mut piece: FrameBuilder) {
        piece.clear();
        self.spare.push(piece);
    }

    /// Empties it.
    pub(super) fn clear(&mut self) {
        for pieces in &mut self.partitions {
            self.spare.append(&mut pieces.full);
            pieces.open.clear();
            pieces.count = 0;
        }
        // What this commit did not need, the next will hardly.
        self.spare.truncate(self.in_use);
        self.spare.iter_mut().for_each(FrameBuilder::clear);
        (self.bytes, self.in_use, self.overflowed) = (0, 0, false);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::worker::mark::MarkedOutputs;

    /// Outputs are kept as long as their full pieces have no more bytes than the limit.
    #[test]
    fn outputs_of_a_commit_are_kept_as_long_as_they_fit() {
        let put_out = |outgoing: &mut Outgoing, count: usize| {
            for _ in 0..count {
                if outgoing.has_room() {
                    let mut encode = |out: &mut Vec<u8>| {
                        out.resize(out.len() + PIECE_BYTES, 7);
                        Ok(())
                    };
                    outgoing.push_encoded(0, b"key", Some(&mut encode), 0).unwrap();
                }
            }
        };
        let mark = |count| {
            let to = MarkedOutputs { number: 0, topic: "out".to_owned(), partition: 0, sequence: 0, count };
            Mark { outputs: vec![to], ..Mark::default() }
        };
        let mut outgoing = Outgoing::of_all();
        put_out(&mut outgoing, 3);
        let three = outgoing.bytes;
        assert!(three > 3 * PIECE_BYTES && outgoing.is_whole(&mark(3)));
        for (bytes, kept) in [(three - 1, false), (three, true), (three + 1, true)] {
            let mut outgoing = Outgoing::within(bytes);
            put_out(&mut outgoing, 4);
            assert_eq!(outgoing.is_whole(&mark(4)), kept, "{bytes}");
            assert_eq!(outgoing.bytes > 0, kept, "{bytes}");
            let pieces = outgoing.take(0, true);
            assert_eq!(pieces.iter().map(FrameBuilder::count).sum::<u32>(), if kept { 4 } else { 0 }, "{bytes}");
            outgoing.clear();
            put_out(&mut outgoing, 1);
            assert!(outgoing.is_whole(&mark(1)), "the next commit begins anew");
        }
    }
}

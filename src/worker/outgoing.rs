//! The outputs of a commit that is on its way, by the partition that they go to.

use super::mark::{Entry, Mark};
use crate::error::{Error, ErrorKind, Result};
use crate::record::{FrameBuilder, RawRecord};

/// Outputs are moved in pieces of about this many bytes.
const PIECE_BYTES: usize = 256 << 10;

/// Outputs of a commit that is larger than this are not kept, but read from the changelog when they are moved.
const KEPT_BYTES: usize = 64 << 20;

/// Outputs that wait until their commit is durable, as the frames that their partitions get.
#[derive(Debug, Default)]
pub(super) struct Outgoing {
    /// By number of the output partition.
    partitions: Vec<Pieces>,
    /// Bytes in pieces that are full.
    bytes: usize,
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
    /// Keeps the outputs among the records of a commit's piece, as long as there is room.
    pub(super) fn set_aside(&mut self, piece: &FrameBuilder) -> Result<()> {
        if self.bytes > KEPT_BYTES {
            self.clear();
            self.overflowed = true;
        }
        if self.overflowed { Ok(()) } else { self.add(piece.records(), u32::MAX) }
    }

    /// Adds the outputs among records of the changelog, whose commit has so many output partitions.
    pub(super) fn add<'a>(&mut self, records: impl Iterator<Item = RawRecord<'a>>, partitions: u32) -> Result<()> {
        for mut record in records {
            let Some(Entry::Output { number, key }) = Entry::parse_output(&record)? else { continue };
            if number >= partitions {
                let message =
                    format!("the changelog holds an output to partition number {number}, which its commit lacks");
                return Err(Error::new(ErrorKind::Corrupt, message).at_offset(record.offset));
            }
            record.key = key;
            let number = number as usize;
            if self.partitions.len() <= number {
                self.partitions.resize_with(number + 1, Pieces::default);
            }
            let pieces = &mut self.partitions[number];
            pieces.open.push_raw(&record);
            pieces.count += 1;
            if pieces.open.len() >= PIECE_BYTES {
                let next = self.spare.pop().unwrap_or_default();
                self.bytes += pieces.open.len();
                self.in_use += 1;
                pieces.full.push(std::mem::replace(&mut pieces.open, next));
            }
        }
        Ok(())
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

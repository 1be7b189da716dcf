//! A checkpoint: what a partition's store lacks, copied out so that another thread can write it.

use std::sync::Arc;

use super::prefetch::prefetch;
use super::store::Store;
use crate::error::Result;

/// Deltas are encoded into pieces of this size: one huge buffer costs page faults on every growth.
const PIECE_BYTES: usize = 256 << 10;

/// So many entries before it is handed out, an entry's memory is asked for.
const AHEAD: usize = 16;

/// What stands before a key in its piece: the length of the key, and that of the state.
const LENGTHS: usize = 8;

/// The length of the state of a removed key.
const REMOVED: u32 = u32::MAX;

/// Keys and their stored states, packed.
///
/// They are as small as can be and have no index: memory that a checkpoint takes anew is cleared by the system first, which
/// takes longer than to copy the states into it.
#[derive(Debug, Default)]
pub(super) struct Deltas {
    pieces: Vec<Vec<u8>>,
    count: usize,
}

/// Deltas in the store's order of keys.
#[derive(Debug)]
pub(super) struct Sorted {
    pieces: Vec<Vec<u8>>,
    /// The first bytes that tell a key from others, and where it lies.
    order: Vec<(u64, Place)>,
}

#[derive(Clone, Copy, Debug)]
struct Place {
    piece: u32,
    start: u32,
}

impl Deltas {
    /// Adds a key as the store orders it, with its stored state.
    pub(super) fn push(&mut self, key: &[u8], state: Option<&[u8]>) {
        let len = LENGTHS + key.len() + state.map_or(0, <[u8]>::len);
        if self.pieces.last().is_none_or(|piece| piece.capacity() - piece.len() < len) {
            self.pieces.push(Vec::with_capacity(len.max(PIECE_BYTES)));
        }
        let index = self.pieces.len() - 1;
        let piece = &mut self.pieces[index];
        // Both were in one frame of the changelog, whose length has four bytes, too.
        let lengths = [key.len() as u32, state.map_or(REMOVED, |state| state.len() as u32)].map(u32::to_le_bytes);
        piece.extend_from_slice(lengths.as_flattened());
        piece.extend_from_slice(key);
        piece.extend_from_slice(state.unwrap_or_default());
        self.count += 1;
    }

    pub(super) fn len(&self) -> usize {
        self.count
    }

    /// Puts the keys in the store's order. What follows the bytes that all of them begin with is compared as a number: keys
    /// lie anywhere in memory, and few have more than eight bytes that tell them apart.
    pub(super) fn sorted(self) -> Sorted {
        let Self { pieces, count } = self;
        let first = places(&pieces).next().map_or(&[][..], |place| entry(&pieces, place).0);
        let shared = places(&pieces).fold(first.len(), |shared, place| {
            let (key, _) = entry(&pieces, place);
            key.iter().zip(&first[..shared]).take_while(|(a, b)| a == b).count()
        });
        let mut order = Vec::with_capacity(count);
        order.extend(places(&pieces).map(|place| (head(&entry(&pieces, place).0[shared..]), place)));
        let rest = |place: Place| &entry(&pieces, place).0[shared..];
        order.sort_unstable_by(|(a, x), (b, y)| a.cmp(b).then_with(|| rest(*x).cmp(rest(*y))));
        Sorted { pieces, order }
    }
}

impl Sorted {
    #[cfg(test)]
    pub(super) fn of<'a>(entries: &[(&'a [u8], Option<&'a [u8]>)]) -> Self {
        let mut deltas = Deltas::default();
        entries.iter().for_each(|(key, state)| deltas.push(key, *state));
        deltas.sorted()
    }

    /// Every key with its stored state; `None` for a removed key.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&[u8], Option<&[u8]>)> {
        let Self { pieces, order } = self;
        order.iter().enumerate().map(|(at, (_, place))| {
            // In the order of keys they lie anywhere.
            if let Some((_, Place { piece, start })) = order.get(at + AHEAD)
                && let Some(byte) = pieces[*piece as usize].get(*start as usize)
            {
                prefetch(byte);
            }
            entry(pieces, *place)
        })
    }
}

/// Where the entries are, in the order in which they were added.
fn places(pieces: &[Vec<u8>]) -> impl Iterator<Item = Place> {
    (0..).zip(pieces).flat_map(|(number, piece)| {
        let mut next = 0;
        std::iter::from_fn(move || {
            let start = next;
            let (key, state) = split(piece.get(start..).filter(|rest| !rest.is_empty())?);
            next += LENGTHS + key.len() + state.map_or(0, <[u8]>::len);
            // A piece of more than its usual size has one entry.
            Some(Place { piece: number, start: start as u32 })
        })
    })
}

fn entry(pieces: &[Vec<u8>], Place { piece, start }: Place) -> (&[u8], Option<&[u8]>) {
    split(&pieces[piece as usize][start as usize..])
}

/// The key and the state at the beginning of some bytes of a piece.
#[inline]
fn split(bytes: &[u8]) -> (&[u8], Option<&[u8]>) {
    let length = |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
    let (key_len, state_len) = (length(0) as usize, length(4));
    let (key, rest) = bytes[LENGTHS..].split_at(key_len);
    (key, (state_len != REMOVED).then(|| &rest[..state_len as usize]))
}

/// The first eight bytes, as many as there are, in an order that is that of the bytes.
fn head(bytes: &[u8]) -> u64 {
    let mut head = [0; 8];
    let len = bytes.len().min(8);
    head[..len].copy_from_slice(&bytes[..len]);
    u64::from_be_bytes(head)
}

/// What changed since the last checkpoint, as of a commit. [`Checkpoint::run`] it on any thread that may block, then
/// hand what it returns to [`AnyPartition::finish_checkpoint`](super::AnyPartition::finish_checkpoint).
#[derive(Debug)]
#[must_use = "nothing reaches the store before it is run"]
pub struct Checkpoint {
    pub(super) store: Arc<dyn Store>,
    pub(super) deltas: Deltas,
}

/// A checkpoint that is in the store, durably.
#[derive(Debug)]
#[must_use = "what it wrote stays in memory until the partition is told"]
pub struct CheckpointDone {
    pub(super) position: Option<u64>,
}

impl Checkpoint {
    /// Number of keys to write.
    pub fn len(&self) -> usize {
        self.deltas.len()
    }

    /// Whether no key changed, so that only the position would move.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Writes all keys and `changelog_position` at once and flushes them. Blocks.
    ///
    /// `changelog_position` is the end of the commit right after which the checkpoint was started, and the changelog
    /// must be durable up to there by now, or the store would be ahead of it after a loss of power. After an error
    /// the partition must be dropped and opened again: its store takes no further writes.
    ///
    /// Without a position the store is of use only as long as it is open, for what memory has no room for: whoever opens it
    /// then finds it empty.
    pub fn run(self, changelog_position: impl Into<Option<u64>>) -> Result<CheckpointDone> {
        let changelog_position = changelog_position.into();
        self.store.write(&self.deltas.sorted(), changelog_position)?;
        Ok(CheckpointDone { position: changelog_position })
    }
}

impl CheckpointDone {
    /// The changelog position that the store covers now, if it has one.
    pub fn position(&self) -> Option<u64> {
        self.position
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn keys_are_in_the_order_of_their_bytes(
            shared in proptest::collection::vec(any::<u8>(), 0..4),
            // Few values, so that keys begin alike, are contained in one another, and end in zeroes.
            keys in proptest::collection::btree_set(proptest::collection::vec(0..3_u8, 0..12), 0..200)
                .prop_flat_map(|keys| Just(Vec::from_iter(keys)).prop_shuffle()),
        ) {
            let mut keys: Vec<Vec<u8>> = keys.iter().map(|key| [&shared[..], key].concat()).collect();
            let mut deltas = Deltas::default();
            for key in &keys {
                deltas.push(key, Some(key).filter(|key| key.len() % 3 > 0).map(Vec::as_slice));
            }
            prop_assert_eq!(deltas.len(), keys.len());
            keys.sort();
            let deltas = deltas.sorted();
            let sorted: Vec<(Vec<u8>, bool)> =
                deltas.iter().map(|(key, state)| (key.to_vec(), state.is_some_and(|state| state == key))).collect();
            let expected: Vec<(Vec<u8>, bool)> = keys.iter().map(|key| (key.clone(), key.len() % 3 > 0)).collect();
            prop_assert_eq!(sorted, expected);
        }
    }
}

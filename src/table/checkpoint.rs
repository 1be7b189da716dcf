//! A checkpoint: what a partition's store lacks, copied out so that another thread can write it.

use std::sync::Arc;

use super::prefetch::prefetch;
use super::store::Store;
use crate::error::Result;

/// Deltas are encoded into pieces of this size: one huge buffer costs page faults on every growth.
const PIECE_BYTES: usize = 256 << 10;

/// So many entries before it is handed out, an entry's memory is asked for.
const AHEAD: usize = 16;

/// Keys and their stored states, packed.
#[derive(Debug, Default)]
pub(super) struct Deltas {
    pieces: Vec<Vec<u8>>,
    entries: Vec<Entry>,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    piece: usize,
    start: usize,
    key_len: usize,
    /// `None` for a removed key.
    state_len: Option<usize>,
}

impl Deltas {
    /// Adds a key as the store orders it, with its stored state.
    pub(super) fn push(&mut self, key: &[u8], state: Option<&[u8]>) {
        let len = key.len() + state.map_or(0, <[u8]>::len);
        if self.pieces.last().is_none_or(|piece| piece.capacity() - piece.len() < len) {
            self.pieces.push(Vec::with_capacity(len.max(PIECE_BYTES)));
        }
        let index = self.pieces.len() - 1;
        let piece = &mut self.pieces[index];
        self.entries.push(Entry {
            piece: index,
            start: piece.len(),
            key_len: key.len(),
            state_len: state.map(<[u8]>::len),
        });
        piece.extend_from_slice(key);
        piece.extend_from_slice(state.unwrap_or_default());
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Puts the keys in the store's order. What follows the bytes that all of them begin with is compared as a number: keys
    /// lie anywhere in memory, and few have more than eight bytes that tell them apart.
    fn sort(&mut self) {
        let Self { pieces, entries } = self;
        let Some(first) = entries.first().map(|entry| key_of(pieces, entry)) else { return };
        let shared = entries.iter().fold(first.len(), |shared, entry| {
            let key = key_of(pieces, entry);
            key.iter().zip(&first[..shared]).take_while(|(a, b)| a == b).count()
        });
        let mut order: Vec<(u64, u32)> =
            (0..).zip(&*entries).map(|(at, entry)| (head(&key_of(pieces, entry)[shared..]), at)).collect();
        let rest = |at: u32| &key_of(pieces, &entries[at as usize])[shared..];
        order.sort_unstable_by(|(a, x), (b, y)| a.cmp(b).then_with(|| rest(*x).cmp(rest(*y))));
        *entries = order.into_iter().map(|(_, at)| entries[at as usize]).collect();
    }

    /// Every key with its stored state.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&[u8], Option<&[u8]>)> {
        let Self { pieces, entries } = self;
        entries.iter().enumerate().map(|(at, entry)| {
            // In the order of keys they lie anywhere.
            if let Some(byte) = entries.get(at + AHEAD).and_then(|ahead| pieces[ahead.piece].get(ahead.start)) {
                prefetch(byte);
            }
            let behind_key = &pieces[entry.piece][entry.start + entry.key_len..];
            (key_of(pieces, entry), entry.state_len.map(|len| &behind_key[..len]))
        })
    }
}

/// The first eight bytes, as many as there are, in an order that is that of the bytes.
fn head(bytes: &[u8]) -> u64 {
    let mut head = [0; 8];
    let len = bytes.len().min(8);
    head[..len].copy_from_slice(&bytes[..len]);
    u64::from_be_bytes(head)
}

fn key_of<'a>(pieces: &'a [Vec<u8>], entry: &Entry) -> &'a [u8] {
    &pieces[entry.piece][entry.start..entry.start + entry.key_len]
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
    pub(super) position: u64,
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
    pub fn run(mut self, changelog_position: u64) -> Result<CheckpointDone> {
        self.deltas.sort();
        self.store.write(&self.deltas, changelog_position)?;
        Ok(CheckpointDone { position: changelog_position })
    }
}

impl CheckpointDone {
    /// The changelog position that the store covers now.
    pub fn position(&self) -> u64 {
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
            deltas.sort();
            keys.sort();
            let sorted: Vec<(Vec<u8>, bool)> =
                deltas.iter().map(|(key, state)| (key.to_vec(), state.is_some_and(|state| state == key))).collect();
            let expected: Vec<(Vec<u8>, bool)> = keys.iter().map(|key| (key.clone(), key.len() % 3 > 0)).collect();
            prop_assert_eq!(sorted, expected);
        }
    }
}

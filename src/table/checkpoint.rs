//! A checkpoint: what a partition's store lacks, copied out so that another thread can write it.

use std::sync::Arc;

use super::store::Store;
use crate::error::Result;

/// Deltas are encoded into pieces of this size: one huge buffer costs page faults on every growth.
const PIECE_BYTES: usize = 256 << 10;

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

    fn sort(&mut self) {
        let Self { pieces, entries } = self;
        entries.sort_unstable_by(|a, b| key_of(pieces, a).cmp(key_of(pieces, b)));
    }

    /// Every key with its stored state.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&[u8], Option<&[u8]>)> {
        self.entries.iter().map(|entry| {
            let behind_key = &self.pieces[entry.piece][entry.start + entry.key_len..];
            (key_of(&self.pieces, entry), entry.state_len.map(|len| &behind_key[..len]))
        })
    }
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

//! One file: what the page cache holds, and what would be left of it after a loss of power.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};

use super::random::Random;
use crate::disk::{PAGE_BYTES, PageWords};

/// A disk writes this many bytes as a whole, or not at all.
const SECTOR: usize = 512;

/// What the kernel forgets and reads again as a whole.
const PAGE: usize = 4096;

/// A change that was not synced.
#[derive(Clone, Debug)]
enum Change {
    Bytes { at: usize, bytes: Vec<u8> },
    Length(usize),
}

/// The content of a file.
#[derive(Clone, Debug, Default)]
pub(super) struct Content {
    /// As every process sees it.
    cache: Vec<u8>,
    /// As the disk has it.
    disk: Vec<u8>,
    /// What leads from the one to the other, in order.
    pending: Vec<Change>,
    /// After a failed sync the cache may hold what neither the disk has nor any later sync would write.
    lost: bool,
}

impl Content {
    pub(super) fn len(&self) -> usize {
        self.cache.len()
    }

    /// What is there from `at` on.
    pub(super) fn read(&self, at: usize) -> &[u8] {
        self.cache.get(at..).unwrap_or_default()
    }

    pub(super) fn write(&mut self, at: usize, bytes: &[u8]) {
        put(&mut self.cache, at, bytes);
        self.pending.push(Change::Bytes { at, bytes: bytes.to_vec() });
    }

    pub(super) fn set_len(&mut self, len: usize) {
        self.cache.resize(len, 0);
        self.pending.push(Change::Length(len));
    }

    pub(super) fn sync(&mut self) {
        for change in self.pending.drain(..) {
            match change {
                Change::Bytes { at, bytes } => put(&mut self.disk, at, &bytes),
                Change::Length(len) => self.disk.resize(len, 0),
            }
        }
    }

    /// A sync fails: some sectors have reached the disk, others have not and are held for clean from now on, as Linux
    /// does it.
    pub(super) fn fail_sync(&mut self, random: &mut Random) {
        self.disk = self.after_power_loss(random);
        self.pending.clear();
        self.lost = true;
        if self.disk.len() != self.cache.len() {
            // The length is no page, and stays to be written.
            self.pending.push(Change::Length(self.cache.len()));
        }
    }

    /// The kernel forgets clean pages and reads them again from the disk; it shows after a failed sync only.
    pub(super) fn forget_clean_pages(&mut self) {
        if !std::mem::take(&mut self.lost) {
            return;
        }
        for page in 0..self.cache.len().div_ceil(PAGE) {
            let (from, to) = (page * PAGE, ((page + 1) * PAGE).min(self.cache.len()));
            let dirty =
                |change: &Change| matches!(change, Change::Bytes { at, bytes } if *at < to && at + bytes.len() > from);
            if self.pending.iter().any(dirty) {
                self.lost = true;
                continue;
            }
            for at in from..to {
                self.cache[at] = self.disk.get(at).copied().unwrap_or(0);
            }
        }
    }

    /// Whether memory that processes share is on the disk as it is.
    pub(super) fn is_written_back(&self, page: &PageWords) -> bool {
        let same = |(word, bytes): (&AtomicU64, &[u8])| word.load(Ordering::SeqCst).to_ne_bytes() == bytes;
        self.pending.is_empty() && self.cache.len() >= PAGE_BYTES && page.iter().zip(self.cache.chunks(8)).all(same)
    }

    /// The first bytes are memory that processes share, and were written back as they are now.
    pub(super) fn write_back_page(&mut self, page: &[u8]) {
        self.sync();
        put(&mut self.disk, 0, page);
        put(&mut self.cache, 0, page);
    }

    /// The machine starts again with what the disk has.
    pub(super) fn lose_power(&mut self, random: &mut Random) {
        self.disk = self.after_power_loss(random);
        self.cache.clone_from(&self.disk);
        self.pending.clear();
        self.lost = false;
    }

    /// Lengths are kept in their order up to some moment. Every sector is left as it was at some moment, whichever moments
    /// the others are of.
    fn after_power_loss(&self, random: &mut Random) -> Vec<u8> {
        let mut disk = self.disk.clone();
        let style = random.within(0..4);
        let changes = self.pending.len() as u64;
        let lengths = match style {
            0 => 0,
            1 => changes,
            _ => random.within(0..changes + 1),
        };
        // From few sectors to almost all.
        let keep = random.within(1..16);
        let mut stopped = BTreeSet::new();
        for (number, change) in self.pending.iter().enumerate() {
            let counts = (number as u64) < lengths;
            match change {
                Change::Length(len) if counts => disk.resize(*len, 0),
                Change::Length(_) => {}
                Change::Bytes { at, bytes } => {
                    if counts && disk.len() < at + bytes.len() {
                        disk.resize(at + bytes.len(), 0);
                    }
                    let mut from = *at;
                    while from < at + bytes.len() {
                        let to = ((from / SECTOR + 1) * SECTOR).min(at + bytes.len());
                        let kept = match style {
                            0 => false,
                            1 => true,
                            2 => counts,
                            _ => !stopped.contains(&(from / SECTOR)) && random.within(0..16) < keep,
                        };
                        if !kept {
                            stopped.insert(from / SECTOR);
                        }
                        let end = to.min(disk.len());
                        if kept && from < end {
                            disk[from..end].copy_from_slice(&bytes[from - at..end - at]);
                        }
                        from = to;
                    }
                }
            }
        }
        disk
    }
}

fn put(into: &mut Vec<u8>, at: usize, bytes: &[u8]) {
    if into.len() < at + bytes.len() {
        into.resize(at + bytes.len(), 0);
    }
    into[at..at + bytes.len()].copy_from_slice(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_synced_is_there_and_of_the_rest_any_part() {
        let mut seen = std::collections::BTreeSet::new();
        for seed in 0..400 {
            let mut random = Random::new(seed);
            let mut file = Content::default();
            file.write(0, &[1; 2 * SECTOR]);
            file.sync();
            file.write(0, &[2; 2 * SECTOR]);
            file.write(2 * SECTOR, &[3; SECTOR]);
            file.lose_power(&mut random);
            let sectors: Vec<u8> = file.cache.chunks(SECTOR).map(|sector| sector[0]).collect();
            assert!(file.cache.chunks(SECTOR).all(|sector| sector.iter().all(|byte| *byte == sector[0])));
            assert!(sectors[..2].iter().all(|byte| [1, 2].contains(byte)), "{sectors:?}");
            seen.insert(sectors);
        }
        for sectors in [&[1, 1][..], &[2, 2], &[1, 2], &[2, 1], &[1, 1, 0], &[1, 1, 3], &[2, 2, 3], &[2, 1, 3]] {
            assert!(seen.contains(sectors), "{sectors:?} never came about");
        }
    }

    #[test]
    fn after_a_failed_sync_the_next_one_writes_nothing_of_it() {
        let reverts = (0..100).any(|seed| {
            let mut file = Content::default();
            file.write(0, &[1; PAGE]);
            file.sync();
            file.write(0, &[2; PAGE]);
            file.fail_sync(&mut Random::new(seed));
            assert_eq!(file.read(0)[0], 2);
            file.sync();
            file.forget_clean_pages();
            file.read(0).contains(&1)
        });
        assert!(reverts);
    }
}

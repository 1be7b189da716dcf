//! Memory shared between processes: a partition's end, and the doorbell.
//!
//! Both are small files mapped by every process. They hold atomics only, so that a process may be killed between any
//! two instructions and leave nothing that another would wait for. The files are never made shorter.
#![allow(unsafe_code)]

use std::marker::PhantomData;
use std::ops::Deref;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};

use crate::disk::{DiskFile, Look, PAGE_BYTES, SharedPage};
use crate::error::{Error, Result};

/// The format of an end page.
const FORMAT: u8 = 1;

/// Says that an end page was initialised, and by which format: the last byte is its number.
const MAGIC: u64 = u64::from_le_bytes([b'g', b'r', b'e', b't', b'e', b'n', b'd', b'0' + FORMAT]);

/// A struct that any bytes are a valid value of, and that threads and processes may use at once.
///
/// # Safety
/// `repr(C)`, nothing but atomic integers in it, at most [`PAGE_BYTES`] long.
unsafe trait Atomics {}

/// A shared file, mapped.
#[derive(Debug)]
struct Mapped<T> {
    page: Arc<dyn SharedPage>,
    of: PhantomData<T>,
}

impl<T: Atomics> Mapped<T> {
    /// Maps the file, and extends it where it is too short.
    fn open(file: &DiskFile, path: &Path) -> Result<Self> {
        let failed = |error| Error::io(format!("cannot map {}", path.display()), error);
        if file.length().map_err(failed)? < PAGE_BYTES as u64 {
            // With its space taken: on a full disk a write to a page without any would end the process, not fail.
            match file.allocate(0, PAGE_BYTES as u64) {
                Err(error) if error.kind() == std::io::ErrorKind::Unsupported => file.set_len(PAGE_BYTES as u64),
                allocated => allocated,
            }
            .map_err(failed)?;
        }
        Ok(Self { page: file.map().map_err(failed)?, of: PhantomData })
    }
}

impl<T: Atomics> Deref for Mapped<T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: the page is PAGE_BYTES long, aligned for atomics of eight bytes, and lives as long as `self`. `T` is made
        // of atomics only, so every content is valid and use by other threads and processes is no data race.
        unsafe { &*self.page.words().as_ptr().cast::<T>() }
    }
}

/// The end of a partition.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct End {
    /// Byte position, counted over all segments since the partition's first.
    pub(super) pos: u64,
    /// Offset that the next record gets.
    pub(super) offset: u64,
    /// Base offset of the segment that is written.
    pub(super) segment_base: u64,
    /// Byte position at which that segment begins.
    pub(super) segment_start: u64,
}

#[repr(C)]
#[derive(Debug)]
struct EndLayout {
    magic: AtomicU64,
    boot: [AtomicU64; 2],
    /// Counts the publications; its lowest bit says which slot holds.
    version: AtomicU64,
    slots: [[AtomicU64; 4]; 2],
    durable_pos: AtomicU64,
    durable_offset: AtomicU64,
    /// Not 0 after a failed sync.
    failed: AtomicU32,
    /// Not 0 when a reader somewhere waits for the end to move.
    waiting: AtomicU32,
    /// Not 0 while a new segment is made, which exists before it is published.
    rolling: AtomicU32,
    /// How many syncs have begun and not ended, or were never to end.
    syncing: AtomicU32,
    /// Offset of the oldest record that is still there.
    start: AtomicU64,
}

// SAFETY: `repr(C)`, atomics only, 136 bytes.
unsafe impl Atomics for EndLayout {}

/// The shared page of a partition.
#[derive(Debug)]
pub(super) struct EndPage(Mapped<EndLayout>);

impl EndPage {
    /// Maps it. One of a newer format may be in use by a newer release, which would not be understood.
    pub(super) fn open(file: &DiskFile, path: &Path) -> Result<Self> {
        let page = Mapped::open(file, path).map(Self)?;
        let (own, found) = (MAGIC.to_le_bytes(), page.0.magic.load(Ordering::Acquire).to_le_bytes());
        match (own, found) {
            ([name @ .., own], [found_name @ .., found @ b'1'..=b'9']) if name == found_name && found > own => {
                Err(Error::newer_format(&path.display(), u32::from(found - b'0'), FORMAT.into()))
            }
            _ => Ok(page),
        }
    }

    /// Whether it was ever initialised.
    pub(super) fn is_initialised(&self) -> bool {
        self.0.magic.load(Ordering::Acquire) == MAGIC
    }

    /// Whether it was initialised since the machine started, so that it and the files agree.
    pub(super) fn is_of_boot(&self, boot: Option<[u64; 2]>) -> bool {
        let have = [self.0.boot[0].load(Ordering::Acquire), self.0.boot[1].load(Ordering::Acquire)];
        self.is_initialised() && boot == Some(have)
    }

    /// Begins anew. Only the partition's sole user may.
    pub(super) fn reset(&self, boot: Option<[u64; 2]>, start: u64, end: End, durable: (u64, u64)) {
        let page = &*self.0;
        page.start.store(start, Ordering::Release);
        page.durable_pos.store(durable.0, Ordering::Release);
        page.durable_offset.store(durable.1, Ordering::Release);
        page.failed.store(0, Ordering::Release);
        page.waiting.store(0, Ordering::Release);
        page.rolling.store(0, Ordering::Release);
        page.syncing.store(0, Ordering::Release);
        let boot = boot.unwrap_or_default();
        page.boot[0].store(boot[0], Ordering::Release);
        page.boot[1].store(boot[1], Ordering::Release);
        self.publish(end);
        page.magic.store(MAGIC, Ordering::Release);
    }

    /// The end as it was last published.
    pub(super) fn end(&self) -> End {
        let page = &*self.0;
        loop {
            let version = page.version.load(Ordering::Acquire);
            let slot = &page.slots[(version & 1) as usize];
            let [pos, offset, segment_base, segment_start] = std::array::from_fn(|i| slot[i].load(Ordering::Relaxed));
            // Pairs with the fence in `publish`: whoever saw a word of a later publication sees its version too.
            fence(Ordering::Acquire);
            if page.version.load(Ordering::Relaxed) == version {
                return End { pos, offset, segment_base, segment_start };
            }
        }
    }

    /// Publishes an end. Only the holder of the append lock may.
    ///
    /// It fills the slot that nobody reads and then turns to it, so a writer killed in between has published nothing.
    pub(super) fn publish(&self, end: End) {
        let page = &*self.0;
        let version = page.version.load(Ordering::Relaxed).wrapping_add(1);
        fence(Ordering::Release);
        let slot = &page.slots[(version & 1) as usize];
        for (word, value) in slot.iter().zip([end.pos, end.offset, end.segment_base, end.segment_start]) {
            word.store(value, Ordering::Relaxed);
        }
        page.version.store(version, Ordering::Release);
    }

    /// Byte position and offset up to which the partition was synced.
    pub(super) fn durable(&self) -> (u64, u64) {
        (self.0.durable_pos.load(Ordering::Acquire), self.0.durable_offset.load(Ordering::Acquire))
    }

    /// Publishes what a sync has made durable.
    pub(super) fn raise_durable(&self, end: End) {
        self.0.durable_pos.fetch_max(end.pos, Ordering::AcqRel);
        self.0.durable_offset.fetch_max(end.offset, Ordering::AcqRel);
    }

    /// Offset of the oldest record that is still there.
    pub(super) fn start(&self) -> u64 {
        self.0.start.load(Ordering::Acquire)
    }

    /// Publishes that records before an offset are about to go.
    pub(super) fn raise_start(&self, offset: u64) {
        self.0.start.fetch_max(offset, Ordering::AcqRel);
    }

    /// Notes that a sync failed, for every process that uses the partition.
    pub(super) fn fail(&self) {
        self.0.failed.store(1, Ordering::Release);
    }

    pub(super) fn has_failed(&self) -> bool {
        self.0.failed.load(Ordering::Acquire) != 0
    }

    /// Notes that a sync begins.
    pub(super) fn begin_sync(&self) {
        self.0.syncing.fetch_add(1, Ordering::AcqRel);
    }

    /// Notes that a sync has ended, and that a failure of it is noted.
    pub(super) fn end_sync(&self) {
        self.0.syncing.fetch_sub(1, Ordering::AcqRel);
    }

    /// Of a partition without users: whether somebody was killed in a sync, of which nobody knows how it ended.
    pub(super) fn is_syncing(&self) -> bool {
        self.0.syncing.load(Ordering::Acquire) != 0
    }

    /// Notes that a new segment is being made, or that it was published.
    pub(super) fn set_rolling(&self, rolling: bool) {
        self.0.rolling.store(rolling.into(), Ordering::Release);
    }

    /// Whether somebody began to make a new segment and did not publish it.
    pub(super) fn is_rolling(&self) -> bool {
        self.0.rolling.load(Ordering::Acquire) != 0
    }

    /// A reader is about to look at the end for the last time before it waits.
    pub(super) fn announce_waiting(&self) {
        self.0.waiting.store(1, Ordering::SeqCst);
        fence(Ordering::SeqCst);
    }

    /// Whether readers wait for what was just published; they are taken to be woken then.
    pub(super) fn take_waiting(&self) -> bool {
        // Between the publication before and the load after: a reader either sees the new end or is seen waiting.
        fence(Ordering::SeqCst);
        self.0.waiting.load(Ordering::SeqCst) != 0 && self.0.waiting.swap(0, Ordering::SeqCst) != 0
    }
}

#[repr(C)]
#[derive(Debug)]
struct BellLayout {
    rung: AtomicU32,
    /// Not 0 when a process sleeps on `rung`.
    waiting: AtomicU32,
}

// SAFETY: `repr(C)`, atomics only, 8 bytes.
unsafe impl Atomics for BellLayout {}

/// The word that processes sleep on until some partition's end moves.
#[derive(Debug)]
pub(super) struct BellPage(Mapped<BellLayout>);

impl BellPage {
    pub(super) fn open(file: &DiskFile, path: &Path) -> Result<Self> {
        Mapped::open(file, path).map(Self)
    }

    /// Says that this process is about to sleep, and returns what a look returns.
    pub(super) fn announce_waiting(&self) -> u32 {
        let rung = self.0.rung.load(Ordering::SeqCst);
        self.0.waiting.store(1, Ordering::SeqCst);
        fence(Ordering::SeqCst);
        rung
    }

    /// Calls `look` now and whenever it is rung; see [`SharedPage::listen`].
    pub(super) fn listen(&self, look: Look) -> std::io::Result<()> {
        Arc::clone(&self.0.page).listen(look)
    }

    /// Wakes every process that sleeps. `always`: also those that have not announced it.
    pub(super) fn ring(&self, always: bool) {
        self.0.rung.fetch_add(1, Ordering::SeqCst);
        if self.0.waiting.swap(0, Ordering::SeqCst) != 0 || always {
            self.0.page.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::{Disk, Open};

    #[test]
    fn an_end_is_read_whole_while_it_moves() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("end");
        let file = Disk::system().open(&path, Open::New).unwrap();
        let page = EndPage::open(&file, &path).unwrap();
        page.reset(None, 0, End::default(), (0, 0));
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for i in 1..200_000 {
                    page.publish(End { pos: i, offset: i, segment_base: i, segment_start: i });
                }
            });
            let mut last = 0;
            while last < 199_999 {
                let end = page.end();
                assert!(end.offset == end.pos && end.segment_base == end.pos && end.segment_start == end.pos);
                assert!(end.pos >= last);
                last = end.pos;
            }
        });
    }
}

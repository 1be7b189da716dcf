//! A partition as this process has it open.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use tokio::sync::{Notify, Semaphore};

use super::append_lock::lock_to_append;
use super::descriptors::{OpenFiles, Permit};
use super::doorbell::Doorbell;
use super::files::{is_linked, lock_shared, open_or_create, try_lock};
use super::recovery::recover;
use super::segment::Segment;
use super::segment_name::{SegmentName, segments_in};
use super::shared::{End, EndPage};
use super::sync::Syncing;
use super::time::LogTime;
use super::writer::Writer;
use super::{Durability, LogOptions};
use crate::backend::Offsets;
use crate::backend::compaction::segment_records;
use crate::disk::{Disk, DiskFile, Unlock};
use crate::error::{Error, ErrorKind, Result};
use crate::topic::{TopicPartition, TopicSettings};

/// What all partitions of a data folder have in common.
#[derive(Debug)]
pub(super) struct Common {
    pub(super) options: LogOptions,
    pub(super) bell: Doorbell,
    /// Names this run of the machine, where the system tells.
    pub(super) boot: Option<[u64; 2]>,
    pub(super) files: OpenFiles,
    /// What the age of segments goes by.
    pub(super) time: LogTime,
    /// The turn of the one compaction at a time.
    pub(super) compacting: Arc<Semaphore>,
}

/// What a topic's settings say of appends. They may change while the partition is open.
#[derive(Debug)]
pub(super) struct Limits {
    segment_bytes: AtomicU64,
    segment_records: AtomicU64,
    compacts: AtomicBool,
}

impl Limits {
    fn new(common: &Common, settings: &TopicSettings) -> Self {
        let limits = Self {
            segment_bytes: AtomicU64::new(0),
            segment_records: AtomicU64::new(0),
            compacts: AtomicBool::new(false),
        };
        limits.set(common, settings);
        limits
    }

    pub(super) fn set(&self, common: &Common, settings: &TopicSettings) {
        let bytes = settings.segment_bytes.unwrap_or(common.options.segment_bytes);
        self.segment_bytes.store(bytes, Ordering::Relaxed);
        let compacts = settings.cleanup.compacts();
        let records = if compacts { segment_records(common.options.compaction_memory_bytes) } else { u64::MAX };
        self.segment_records.store(records, Ordering::Relaxed);
        self.compacts.store(compacts, Ordering::Relaxed);
    }

    /// Whether a segment ends that would get so many bytes and offsets.
    pub(super) fn end_a_segment(&self, bytes: u64, offsets: u64) -> bool {
        bytes > self.segment_bytes() || offsets > self.segment_records.load(Ordering::Relaxed)
    }

    /// Bytes after which a segment ends.
    pub(super) fn segment_bytes(&self) -> u64 {
        self.segment_bytes.load(Ordering::Relaxed)
    }

    /// Whether every record must have a key.
    pub(super) fn compacts(&self) -> bool {
        self.compacts.load(Ordering::Relaxed)
    }
}

/// An open partition.
#[derive(Debug)]
pub(super) struct Partition {
    pub(super) place: TopicPartition,
    pub(super) folder: PathBuf,
    pub(super) common: Arc<Common>,
    pub(super) page: EndPage,
    /// Held shared by every user, so that the first can be told from the others.
    _users: Unlock<DiskFile>,
    pub(super) append_lock: DiskFile,
    pub(super) append_lock_path: PathBuf,
    pub(super) writer: Mutex<Writer>,
    pub(super) syncing: Syncing,
    /// Notified when the end has moved.
    pub(super) appended: Notify,
    /// The end at which waiting readers of this process were last woken from outside.
    woken_at: AtomicU64,
    watched: AtomicBool,
    pub(super) limits: Limits,
    _files: Permit,
}

/// The file that holds the end and that users lock.
pub(super) fn users_path(folder: &Path) -> PathBuf {
    folder.join("end")
}

impl Partition {
    /// Opens a partition; its first user makes it whole.
    pub(super) fn open(
        common: Arc<Common>,
        place: TopicPartition,
        folder: PathBuf,
        settings: &TopicSettings,
        files: Permit,
    ) -> Result<Arc<Self>> {
        let disk = &common.options.disk;
        let append_lock_path = folder.join("append.lock");
        let append_lock = open_or_create(disk, &append_lock_path)?;
        lock_to_append(disk, &place, &append_lock, &append_lock_path)?;
        let locked = Unlock(&append_lock);
        let users_path = users_path(&folder);
        // Given back after an error, too: a child process that begins just now would keep it for a moment.
        let users = Unlock(open_or_create(disk, &users_path)?);
        let page = EndPage::open(&users.0, &users_path)?;
        let writer = if try_lock(&users.0, &users_path)? {
            let found = recover(disk, &folder, &page, page.is_of_boot(common.boot))?;
            page.reset(common.boot, start_of(disk, &folder)?, found.end, found.durable);
            Writer::recovered(found)
        } else {
            Writer::behind(in_use(disk, &folder, &page)?)
        };
        // Others that open it wait for the append lock, so nobody comes between the exclusive lock and this one.
        lock_shared(&users.0, &users_path)?;
        if !is_linked(&users.0, &users_path)? {
            return Err(Error::new(ErrorKind::NotFound, "the topic was deleted meanwhile").at(&place));
        }
        let limits = Limits::new(&common, settings);
        drop(locked);
        Ok(Arc::new(Self {
            woken_at: AtomicU64::new(page.end().pos),
            place,
            folder,
            common,
            page,
            _users: users,
            append_lock,
            append_lock_path,
            writer: Mutex::new(writer),
            syncing: Syncing::default(),
            appended: Notify::new(),
            watched: AtomicBool::new(false),
            limits,
            _files: files,
        }))
    }

    pub(super) fn disk(&self) -> &Disk {
        &self.common.options.disk
    }

    pub(super) fn end(&self) -> End {
        self.page.end()
    }

    pub(super) fn offsets(&self) -> Offsets {
        // In this order, so that what is durable is never beyond the end.
        let durable = self.page.durable().1;
        Offsets { start: self.page.start(), end: self.end().offset, durable }
    }

    pub(super) fn syncs(&self) -> bool {
        self.common.options.durability == Durability::Fsync
    }

    /// Wakes the readers after an append of this process.
    pub(super) fn wake_all(&self) {
        self.appended.notify_waiters();
        if self.page.take_waiting() {
            self.common.bell.ring();
        }
    }

    /// Wakes the readers of this process if the end has moved since the last time.
    pub(super) fn wake_if_moved(&self) {
        let pos = self.end().pos;
        if self.woken_at.swap(pos, Ordering::AcqRel) != pos {
            self.appended.notify_waiters();
        }
    }

    /// Waits until the end is beyond `pos`. Cancel-safe.
    pub(super) async fn moved_beyond(self: &Arc<Self>, pos: u64) -> Result<()> {
        if self.end().pos > pos {
            return Ok(());
        }
        if !self.watched.swap(true, Ordering::AcqRel) {
            self.common.bell.watch(self).inspect_err(|_| self.watched.store(false, Ordering::Release))?;
        }
        loop {
            let appended = self.appended.notified();
            tokio::pin!(appended);
            appended.as_mut().enable();
            self.page.announce_waiting();
            if self.end().pos > pos {
                return Ok(());
            }
            appended.await;
        }
    }

    /// An error if an earlier failure forbids to write.
    pub(super) fn check_usable(&self) -> Result<()> {
        if self.syncing.has_failed() || self.page.has_failed() {
            return Err(Error::new(
                ErrorKind::Poisoned,
                "a sync has failed, so it is unknown what reached the disk; stop every process that uses the \
                 partition, check the disk, and start again",
            )
            .at(&self.place));
        }
        Ok(())
    }
}

/// The offset of the oldest record that is still there.
pub(super) fn start_of(disk: &Disk, folder: &Path) -> Result<u64> {
    Ok(segments_in(disk, folder)?.first().map_or(0, |name| name.base))
}

/// The segment that others write, for one who joins them.
fn in_use(disk: &Disk, folder: &Path, page: &EndPage) -> Result<Segment> {
    let end = page.end();
    let short = |what: &str| {
        Error::new(
            ErrorKind::Corrupt,
            format!("{} is in use and {what}; stop its users and open it again", folder.display()),
        )
    };
    if !page.is_initialised() {
        return Err(short("its shared page is gone"));
    }
    let segment = Segment::open(disk, folder, SegmentName::appended(end.segment_base))?
        .ok_or_else(|| short("its last segment is gone"))?;
    if segment.start != end.segment_start || segment.start + segment.len()? < end.pos {
        return Err(short("its last segment is shorter than what was written"));
    }
    Ok(segment)
}

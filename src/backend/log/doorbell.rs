//! The doorbell: wakes the readers of this process when another one has appended.
//!
//! One thread a process sleeps on a word in a shared file. Appenders ring only when a reader somewhere waits for that
//! partition, and partitions that nobody appends to cost nothing.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use super::files::{io_error, open_or_create};
use super::partition::Partition;
use super::shared::BellPage;
use crate::disk::Disk;
use crate::error::Result;

/// The doorbell of a data folder; its thread ends when the last handle is gone.
#[derive(Debug)]
pub(super) struct Doorbell(Arc<Bell>);

#[derive(Debug)]
struct Bell {
    path: PathBuf,
    page: BellPage,
    watched: Mutex<Watched>,
    stopped: AtomicBool,
}

#[derive(Debug, Default)]
struct Watched {
    partitions: Vec<Weak<Partition>>,
    started: bool,
}

impl Doorbell {
    pub(super) fn open(disk: &Disk, data_dir: &Path) -> Result<Self> {
        let path = data_dir.join("doorbell");
        let page = BellPage::open(&open_or_create(disk, &path)?, &path)?;
        Ok(Self(Arc::new(Bell { path, page, watched: Mutex::default(), stopped: AtomicBool::new(false) })))
    }

    /// Wakes the readers of other processes.
    pub(super) fn ring(&self) {
        self.0.page.ring(false);
    }

    /// From now on wakes the readers of a partition when its end moves.
    pub(super) fn watch(&self, partition: &Arc<Partition>) -> Result<()> {
        let mut watched = self.0.watched.lock().unwrap_or_else(PoisonError::into_inner);
        watched.partitions.push(Arc::downgrade(partition));
        let first = !std::mem::replace(&mut watched.started, true);
        // The first look may come at once, and on this thread.
        drop(watched);
        if first {
            let bell = Arc::clone(&self.0);
            self.0.page.listen(Box::new(move || bell.look())).map_err(|error| {
                self.0.watched.lock().unwrap_or_else(PoisonError::into_inner).started = false;
                io_error("listen to", &self.0.path, error)
            })?;
        }
        // The last look may have been just before the partition was added.
        partition.wake_if_moved();
        Ok(())
    }
}

impl Drop for Doorbell {
    fn drop(&mut self) {
        self.0.stopped.store(true, Ordering::SeqCst);
        self.0.page.ring(true);
    }
}

impl Bell {
    /// Wakes the readers of partitions whose end has moved. `None` when the last handle is gone.
    fn look(&self) -> Option<u32> {
        let rung = self.page.announce_waiting();
        if self.stopped.load(Ordering::SeqCst) {
            return None;
        }
        self.wake_readers();
        Some(rung)
    }

    fn wake_readers(&self) {
        let mut watched = self.watched.lock().unwrap_or_else(PoisonError::into_inner);
        let mut gone = Vec::new();
        watched.partitions.retain(|partition| match partition.upgrade() {
            Some(partition) => {
                partition.wake_if_moved();
                // Dropped below, without the lock: it may be the last.
                gone.push(partition);
                true
            }
            None => false,
        });
        drop(watched);
    }
}

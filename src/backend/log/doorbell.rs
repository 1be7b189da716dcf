//! The doorbell: wakes the readers of this process when another one has appended.
//!
//! One thread a process sleeps on a word in a shared file. Appenders ring only when a reader somewhere waits for that
//! partition, and partitions that nobody appends to cost nothing.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use super::files::open_or_create;
use super::partition::Partition;
use super::shared::BellPage;
use crate::error::{Error, Result};

/// The doorbell of a data folder; its thread ends when the last handle is gone.
#[derive(Debug)]
pub(super) struct Doorbell(Arc<Bell>);

#[derive(Debug)]
struct Bell {
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
    pub(super) fn open(data_dir: &Path) -> Result<Self> {
        let path = data_dir.join("doorbell");
        let page = BellPage::open(&open_or_create(&path)?, &path)?;
        Ok(Self(Arc::new(Bell { page, watched: Mutex::default(), stopped: AtomicBool::new(false) })))
    }

    /// Wakes the readers of other processes.
    pub(super) fn ring(&self) {
        self.0.page.ring(false);
    }

    /// From now on wakes the readers of a partition when its end moves.
    pub(super) fn watch(&self, partition: &Arc<Partition>) -> Result<()> {
        let mut watched = self.0.watched.lock().unwrap_or_else(PoisonError::into_inner);
        watched.partitions.push(Arc::downgrade(partition));
        if !watched.started {
            let bell = Arc::clone(&self.0);
            std::thread::Builder::new()
                .name("gretchen-bell".into())
                .spawn(move || bell.listen())
                .map_err(|error| Error::io("cannot start the thread that waits for other processes", error))?;
            watched.started = true;
        }
        drop(watched);
        // The thread may have looked just before the partition was added.
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
    fn listen(&self) {
        loop {
            let rung = self.page.announce_waiting();
            if self.stopped.load(Ordering::SeqCst) {
                return;
            }
            self.wake_readers();
            if let Err(error) = self.page.sleep(rung) {
                tracing::error!(%error, "readers are no longer woken by other processes");
                return;
            }
        }
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

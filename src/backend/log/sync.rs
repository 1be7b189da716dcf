//! Group commit: many waiters, one `fdatasync`.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Notify;

use super::files::{io_error, sync_folder};
use super::partition::Partition;
use super::segment::Segment;
use super::segment_name::segments_in;
use super::shared::End;
use crate::error::{Error, ErrorKind, Result};

/// A partition's folder and those above it, up to the data folder: the partition, the topic, the topics, the data.
const FOLDERS: usize = 4;

/// Turns that others get to append before a sync that many may wait for.
const TURNS: usize = 8;

/// Who syncs a partition in this process.
#[derive(Debug, Default)]
pub(super) struct Syncing {
    led: Mutex<bool>,
    done: Notify,
    failed: AtomicBool,
}

/// The right to sync; dropping it hands the waiters on.
struct Lead(Arc<Partition>);

impl Drop for Lead {
    fn drop(&mut self) {
        *self.0.syncing.led.lock().unwrap_or_else(PoisonError::into_inner) = false;
        self.0.syncing.done.notify_waiters();
    }
}

impl Syncing {
    pub(super) fn has_failed(&self) -> bool {
        self.failed.load(Ordering::Acquire)
    }
}

impl Partition {
    /// Makes the partition durable up to a byte position: returns once a sync that began after the call has ended.
    /// Cancel-safe.
    pub(super) async fn sync_to(self: &Arc<Self>, pos: u64) -> Result<()> {
        self.sync_after(0, pos).await
    }

    /// The same, where others may be about to append: as long as they do, they have their turns first, and one sync is for
    /// all of them.
    pub(super) async fn sync_together(self: &Arc<Self>, pos: u64) -> Result<()> {
        self.sync_after(TURNS, pos).await
    }

    async fn sync_after(self: &Arc<Self>, turns: usize, pos: u64) -> Result<()> {
        loop {
            if self.page.durable().0 >= pos {
                return Ok(());
            }
            self.check_usable()?;
            let done = self.syncing.done.notified();
            tokio::pin!(done);
            done.as_mut().enable();
            match self.lead() {
                // The one who leads syncs everything that was appended until it begins.
                Some(lead) => {
                    for _ in 0..turns {
                        let before = self.end().pos;
                        tokio::task::yield_now().await;
                        if self.end().pos == before {
                            break;
                        }
                    }
                    self.disk().blocking(move || lead.0.sync_now()).await?;
                }
                None => done.await,
            }
        }
    }

    /// Begins to make everything so far durable, without waiting for it.
    pub(super) fn sync_behind(self: &Arc<Self>) {
        if let Some(lead) = self.lead() {
            self.disk().beside(move || {
                // A failure is kept, and reported by the next append or sync.
                if let Err(error) = lead.0.sync_now() {
                    tracing::error!(%error, "a sync failed");
                }
            });
        }
    }

    fn lead(self: &Arc<Self>) -> Option<Lead> {
        let mut led = self.syncing.led.lock().unwrap_or_else(PoisonError::into_inner);
        (!std::mem::replace(&mut *led, true)).then(|| Lead(Arc::clone(self)))
    }

    fn sync_now(&self) -> Result<()> {
        self.check_usable()?;
        let end = self.end();
        // Should this process be killed just when the sync fails, the next user must not take it for one that succeeded.
        self.page.begin_sync();
        let synced = self.sync_segments(end).map_err(|error| self.poisoned_by(error));
        self.page.end_sync();
        synced?;
        self.page.raise_durable(end);
        Ok(())
    }

    /// Closes the partition to appends and syncs, in every process: what the kernel could not write it may now hold for
    /// clean, and trying again would prove nothing.
    pub(super) fn poisoned_by(&self, error: Error) -> Error {
        self.syncing.failed.store(true, Ordering::Release);
        self.page.fail();
        error.at(&self.place)
    }

    /// Syncs the names of the partition's files. After a failure another try would prove nothing, and what is removed only
    /// behind a sync must not go.
    pub(super) fn sync_names(&self) -> Result<()> {
        sync_folder(self.disk(), &self.folder).map_err(|error| self.poisoned_by(error))
    }

    /// Syncs every segment that holds something between what is durable and `end`.
    fn sync_segments(&self, end: End) -> Result<()> {
        let sync = |segment: &Segment| segment.file.sync_data().map_err(|error| io_error("sync", &segment.path, error));
        let durable = self.page.durable().0;
        if durable == 0 {
            // The first segment's name is not durable yet. Those of the folders above may not be either, where another
            // process made them and has not come to it.
            for folder in self.folder.ancestors().take(FOLDERS) {
                sync_folder(self.disk(), folder)?;
            }
        }
        let written = Arc::clone(&self.writer().segment);
        if written.base == end.segment_base && written.start <= durable {
            return sync(&written);
        }
        let gone = |base: u64| Error::new(ErrorKind::Corrupt, format!("segment {base} is gone"));
        let names = segments_in(self.disk(), &self.folder)?;
        let upto = names.iter().position(|name| name.base == end.segment_base).ok_or_else(|| gone(end.segment_base))?;
        // Where the segment after the one that is looked at begins.
        let mut next = end.pos;
        for name in names[..=upto].iter().rev() {
            let Some(segment) = Segment::open(self.disk(), &self.folder, *name)? else {
                // Somebody else has synced it meanwhile; only then it is deleted or compacted.
                if self.page.durable().0 >= next {
                    break;
                }
                return Err(gone(name.base));
            };
            sync(&segment)?;
            if segment.start <= durable {
                break;
            }
            next = segment.start;
        }
        Ok(())
    }
}

//! Group commit: many waiters, one `fdatasync`.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Notify;

use super::files::{io_error, sync_folder};
use super::partition::Partition;
use super::segment::{Segment, segments_in};
use super::shared::End;
use crate::error::{Error, ErrorKind, Result};

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
                Some(lead) => self.disk().blocking(move || lead.0.sync_now()).await?,
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
        self.sync_segments(end).map_err(|error| {
            self.note_failed_sync();
            error.at(&self.place)
        })?;
        self.page.raise_durable(end);
        Ok(())
    }

    /// Nothing is appended or synced any more, by whomever: what the kernel could not write it may now hold for clean,
    /// and trying again would prove nothing.
    pub(super) fn note_failed_sync(&self) {
        self.syncing.failed.store(true, Ordering::Release);
        self.page.fail();
    }

    /// Syncs every segment that holds something between what is durable and `end`.
    fn sync_segments(&self, end: End) -> Result<()> {
        let sync = |segment: &Segment| segment.file.sync_data().map_err(|error| io_error("sync", &segment.path, error));
        let durable = self.page.durable().0;
        if durable == 0 {
            // The first segment's name is not durable yet.
            sync_folder(self.disk(), &self.folder)?;
        }
        let written = Arc::clone(&self.writer().segment);
        if written.base == end.segment_base && written.start <= durable {
            return sync(&written);
        }
        let gone = |base: u64| Error::new(ErrorKind::Corrupt, format!("segment {base} is gone"));
        let bases = segments_in(self.disk(), &self.folder)?;
        let upto = bases.binary_search(&end.segment_base).map_err(|_| gone(end.segment_base))?;
        for base in bases[..=upto].iter().rev() {
            let segment = Segment::open(self.disk(), &self.folder, *base)?.ok_or_else(|| gone(*base))?;
            sync(&segment)?;
            if segment.start <= durable {
                break;
            }
        }
        Ok(())
    }
}

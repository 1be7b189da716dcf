//! What happens to a record that its agent fails on.

use std::sync::atomic::Ordering;
use std::time::Duration;

use super::partition::TaskRun;
use crate::agent::{AgentFuture, OnError, Shape, is_storage, lookup_failed};
use crate::error::{BoxError, Error, ErrorKind, Result};
use crate::record::RawRecord;
use crate::topic::TopicPartition;

/// What is left to do after a failed record.
pub(super) enum Verdict {
    /// Begin again with the record that is next now.
    Restart,
    /// The task ends with this error.
    Stop(Error),
}

impl TaskRun {
    /// A record failed: undoes what it did and applies the agent's policy.
    pub(super) async fn failed(&mut self, agent: &mut AgentFuture, error: BoxError) -> Result<Verdict> {
        self.drop_agent(agent);
        let def = self.plan.def;
        let place = self.unfinished_place();
        if def.concurrency > 1 {
            // It has applied its policy itself, record by record; what comes here is final.
            return Ok(Verdict::Stop(self.stopped(error, place)));
        }
        if is_storage(&*error) {
            // The record is not to blame: passing it over would lose it.
            return Ok(Verdict::Stop(self.stopped(error, place)));
        }
        if self.attempts.0 != place {
            self.attempts = (place, 0);
        }
        match def.on_error {
            OnError::Retry { times, backoff_ms } if self.attempts.1 < times => {
                let wait = Duration::from_millis(backoff_ms.saturating_mul(1 << self.attempts.1.min(16)));
                self.attempts.1 += 1;
                tracing::warn!(
                    agent = def.name,
                    partition = self.shared.partition,
                    offset = place.map(|(_, offset)| offset),
                    error = crate::agent::chain(&*error),
                    attempt = self.attempts.1,
                    of = times,
                    "a record failed and is tried again"
                );
                let stop = &mut self.signals.stop;
                self.signals.idle.store(true, Ordering::SeqCst);
                tokio::select! {
                    biased;
                    () = self.context.clock.sleep(wait) => {}
                    _ = stop.changed() => {}
                }
                self.signals.idle.store(false, Ordering::SeqCst);
                self.rewind();
                Ok(Verdict::Restart)
            }
            OnError::Skip | OnError::DeadLetter(_) if place.is_some() => {
                self.pass_over(&error);
                Ok(Verdict::Restart)
            }
            _ => Ok(Verdict::Stop(self.stopped(error, place))),
        }
    }

    /// Ends the agent and undoes what it did to the records that it has not finished.
    pub(super) fn drop_agent(&self, agent: &mut AgentFuture) {
        // The agent gives the buffer back, with the unfinished records marked.
        *agent = Box::pin(std::future::pending());
        // What it failed on beside a record that cannot be read does not concern the next one.
        self.shared.failure.take();
        // Between two records there is nothing to undo: all that was done belongs to finished ones.
        if self.unfinished_place().is_some() {
            self.shared.rollback();
        }
    }

    fn stopped(&self, error: BoxError, place: Option<(usize, u64)>) -> Error {
        // Whoever could not be asked may answer later.
        let kind = lookup_failed(&*error).filter(|kind| *kind == ErrorKind::Io).unwrap_or(ErrorKind::Agent);
        let failed = Error::new(kind, format!("agent {} failed and stops at this record", self.plan.def.name));
        let failed = match place {
            Some((source, offset)) => failed
                .at(&TopicPartition::new(self.shared.sources[source].topic.clone(), self.shared.partition))
                .at_offset(offset),
            None => failed,
        };
        failed.with_source(error)
    }

    /// Source and offset of the first unfinished record.
    fn unfinished_place(&self) -> Option<(usize, u64)> {
        let slot = self.shared.mail.borrow();
        let mail = slot.as_ref()?;
        let mut cursor = mail.begin;
        (mail.begin != mail.next).then(|| cursor.next(&mail.frames).map(|record| (mail.source, record.offset)))?
    }

    /// The unfinished records are handed out again.
    fn rewind(&self) {
        if let Some(mail) = &mut *self.shared.mail.borrow_mut() {
            mail.next = mail.begin;
        }
    }

    /// The unfinished records are passed over, each on its own account.
    fn pass_over(&self, error: &BoxError) {
        if let Some(mail) = &mut *self.shared.mail.borrow_mut() {
            let mut cursor = mail.begin;
            while cursor != mail.next {
                let Some(record) = cursor.next(&mail.frames) else { break };
                let record: RawRecord<'_> = record;
                if record.value.is_some() {
                    self.shared.pass_over(mail.source, &record, error);
                }
            }
            mail.begin = mail.next;
            self.shared.publish(mail);
        }
    }

    /// The task ends at a record that failed; what was finished before it is committed where that is possible.
    pub(super) async fn stop_at_record(&mut self, error: Error) -> Error {
        self.rewind();
        if self.signals.stop.has_changed().is_err() {
            // Whoever started the task has let go of it: nothing may be committed any more.
            return error;
        }
        // A table without undo may hold half of what the failed record did: the last commit stands, the records since
        // are processed again.
        let whole = self.shared.tables.is_empty() || self.shared.undo || self.plan.def.shape == Shape::Aggregate;
        if whole && let Err(commit) = self.shut_down().await {
            tracing::error!(agent = self.plan.def.name, partition = self.shared.partition, error = %commit, "the last commit failed, too");
        }
        error
    }
}

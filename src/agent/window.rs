//! The records that may be worked on at once: those of a few buffers, each of which stays until all in it are done.

use std::collections::VecDeque;
use std::rc::Rc;
use std::task::{Context, Poll};

use super::event::IntoOutputs;
use super::outbox::Emit;
use super::task::{Mail, Shared, Source};
use crate::error::BoxError;
use crate::record::{Cursor, DecodeError, Decoder, RawRecord, Value};

/// Reads what an agent takes from a record.
pub(super) trait Read<R: Value, I>:
    Fn(&Source, (&RawRecord<'_>, u32), &[u8], &mut Decoder<R>) -> Result<I, DecodeError>
{
}

impl<R, I, F> Read<R, I> for F
where
    R: Value,
    F: Fn(&Source, (&RawRecord<'_>, u32), &[u8], &mut Decoder<R>) -> Result<I, DecodeError>,
{
}

/// Where a record stands.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    /// Counts the buffers.
    mail: u64,
    /// Before the record.
    before: Cursor,
    /// Its offset.
    pub(super) offset: u64,
}

/// Records of a task that are worked on at once, or may be.
#[derive(Debug)]
pub(super) struct Window<R: Value> {
    pub(super) task: Rc<Shared>,
    decoder: Decoder<R>,
    /// The source whose schemas the decoder knows.
    source: usize,
    /// Oldest first. Records are started from the last; all that the others hold are started.
    mails: VecDeque<Mail>,
    /// Number of the first buffer.
    first: u64,
    /// A buffer whose memory can be used again.
    spare: Mail,
}

impl<R: Value> Window<R> {
    /// An empty window.
    pub(super) fn new(task: Rc<Shared>) -> Self {
        let decoder = Decoder::new(task.sources[0].schemas.clone());
        Self { task, decoder, source: 0, mails: VecDeque::new(), first: 0, spare: Mail::default() }
    }

    /// Steps to the next record and reads it; `None` at the end of what is at hand.
    pub(super) fn start_next<I>(&mut self, read: &impl Read<R, I>) -> Option<(Place, Result<I, DecodeError>)> {
        loop {
            let mail = self.mails.back_mut()?;
            let before = mail.next;
            let raw = mail.next.next(&mail.frames)?;
            if raw.value.is_none() {
                self.task.dropped.set(self.task.dropped.get() + 1);
                continue;
            }
            self.task.stream_time.set(self.task.stream_time.get().max(raw.timestamp));
            let offset = raw.offset;
            let place = Place { mail: self.first + self.mails.len() as u64 - 1, before, offset };
            return Some((place, self.read(&place, read)?));
        }
    }

    /// Reads a record, for the first time or again.
    pub(super) fn read<I>(&mut self, place: &Place, read: &impl Read<R, I>) -> Option<Result<I, DecodeError>> {
        let mail = self.mails.get((place.mail - self.first) as usize)?;
        let source = &self.task.sources[mail.source];
        if mail.source != self.source {
            self.source = mail.source;
            self.decoder.set_lookup(&source.schemas);
        }
        let mut cursor = place.before;
        let raw = cursor.next(&mail.frames)?;
        let value = raw.value?;
        self.task.at_hand.set_timestamp(raw.timestamp);
        let read = read(source, (&raw, self.task.partition), value, &mut self.decoder);
        Some(read.map_err(|error| self.decoder.explained(error, value)))
    }

    /// Puts out what the agent returned for a record: all of it, or nothing.
    pub(super) fn put_out(&self, place: &Place, outputs: impl IntoOutputs) -> Result<(), BoxError> {
        let Some(&destination) = self.task.outputs.first() else { return Ok(()) };
        let Some((_, raw)) = self.raw(place) else { return Ok(()) };
        let outbox = &mut *self.task.outbox.borrow_mut();
        let before = outbox.mark();
        let mut emit = Emit { outbox, destination, key: raw.key, timestamp: raw.timestamp };
        if let Err(error) = outputs.emit(&mut emit) {
            // Of several outputs those before the one that does not fit would stay.
            emit.outbox.rollback(before);
            return Err(error.into());
        }
        if outbox.is_full() {
            self.task.commit_due.set(true);
        }
        Ok(())
    }

    /// Applies the policy that passes a record over.
    pub(super) fn pass_over(&self, place: &Place, error: &BoxError) {
        if let Some((source, raw)) = self.raw(place) {
            self.task.pass_over(source, &raw, error);
        }
    }

    fn raw(&self, place: &Place) -> Option<(usize, RawRecord<'_>)> {
        let mail = self.mails.get((place.mail - self.first) as usize)?;
        let mut cursor = place.before;
        Some((mail.source, cursor.next(&mail.frames)?))
    }

    /// Moves the positions up to the oldest record that is not done, and lets go of buffers without one.
    pub(super) fn advance(&mut self, oldest: Option<&Place>) {
        while let Some(front) = self.mails.front_mut() {
            let held = oldest.filter(|place| place.mail == self.first);
            front.begin = held.map_or(front.next, |place| place.before);
            self.task.publish(front);
            if held.is_some() || !front.is_used_up() {
                break;
            }
            if let Some(mail) = self.mails.pop_front() {
                self.first += 1;
                self.spare = mail;
            }
        }
    }

    /// Takes the next buffer, or asks the worker for one where there is `room` for more records. With nothing `at_work`
    /// the worker has its turn in any case.
    pub(super) fn poll_more(&mut self, cx: &Context<'_>, room: bool, at_work: bool) -> Poll<()> {
        let task = &self.task;
        let wants = room && !task.commit_due.get() && self.mails.len() < task.concurrent_batches;
        if wants {
            let mut slot = task.mail.borrow_mut();
            if let Some(mail) = slot.as_mut().filter(|mail| !mail.is_used_up()) {
                let mut spare = std::mem::take(&mut self.spare);
                (spare.begin, spare.next) = (Cursor::default(), Cursor::default());
                spare.counted = Default::default();
                spare.frames.clear();
                task.pulse.of(mail.source);
                self.mails.push_back(std::mem::replace(mail, spare));
                return Poll::Ready(());
            }
        }
        if !at_work || (wants && !task.starved.get()) {
            // The worker is to act; it wakes the agent when it has.
            task.waits.set(true);
            *task.waker.borrow_mut() = Some(cx.waker().clone());
        }
        Poll::Pending
    }
}

impl<R: Value> Drop for Window<R> {
    /// Gives the buffer with the oldest unfinished record back; nothing is settled here.
    fn drop(&mut self) {
        if let Some(mail) = self.mails.pop_front() {
            *self.task.mail.borrow_mut() = Some(mail);
        }
    }
}

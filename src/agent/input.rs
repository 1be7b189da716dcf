//! How records reach an agent: decoded straight from the batch, without a waker, a channel or an allocation a record.

use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use super::ahead::{AHEAD, Ahead};
use super::def::Shape;
use super::event::{Batch, Event, IntoOutputs, Outcome};
use super::outbox::{Emit, owned_headers};
use super::stream::Stream;
use super::task::{Mail, Shared, Source};
use crate::clock::Moment;
use crate::error::BoxError;
use crate::record::{DecodeError, Decoder, RawRecord, Value};

/// A batch agent gets at most this many records at once.
const BATCH_RECORDS: usize = 1_000;

/// The records of a task, one after another. Asking for the next finishes the one before.
#[derive(Debug)]
pub struct Input<R: Value> {
    pub(super) task: Rc<Shared>,
    pub(super) decoder: Decoder<R>,
    pub(super) mail: Option<Mail>,
    /// What was walked over of the mail and not yet handed out, and the record at hand.
    ahead: Ahead,
    /// Records from one look at the clock to the next.
    records_per_clock: usize,
    looked_at_clock: Moment,
}

impl<R: Value> Input<R> {
    pub(super) fn new(task: Rc<Shared>) -> Self {
        // A task has at least one source; without one nothing would ever be decoded.
        let decoder = Decoder::new(task.sources[0].schemas.clone());
        let looked_at_clock = task.clock.moment();
        Self { task, decoder, mail: None, ahead: Ahead::new(), records_per_clock: 1, looked_at_clock }
    }

    /// The next record.
    #[inline(always)]
    #[expect(clippy::should_implement_trait, reason = "it is awaited, as a stream's")]
    pub fn next(&mut self) -> Next<'_, R> {
        Next(self)
    }

    /// The next record with key, headers and position.
    pub async fn next_event(&mut self) -> Option<Event<R>> {
        poll_fn(|cx| self.poll_event(cx)).await
    }

    /// All records that are at hand, at most a thousand.
    pub async fn next_batch(&mut self) -> Option<Batch<R>> {
        poll_fn(|cx| self.poll_batch(cx)).await
    }

    /// The agent as a stream's consumer.
    pub fn into_stream(self) -> Stream<R> {
        Stream::new(self)
    }

    #[inline(always)]
    fn poll_next(&mut self, cx: &Context<'_>) -> Poll<Option<R>> {
        ready!(self.poll_step(cx));
        let Some(mail) = &self.mail else { return Poll::Pending };
        let value = self.ahead.value(&mail.frames).unwrap_or_default();
        match self.decoder.decode(value) {
            Ok(value) => Poll::Ready(Some(value)),
            Err(error) => {
                self.task.fail(self.decoder.explained(error, value).into());
                Poll::Pending
            }
        }
    }

    fn poll_event(&mut self, cx: &Context<'_>) -> Poll<Option<Event<R>>> {
        ready!(self.poll_step(cx));
        let Some(mail) = &self.mail else { return Poll::Pending };
        let Some(raw) = self.ahead.raw(mail) else { return Poll::Pending };
        let value = raw.value.unwrap_or_default();
        match event(&self.task.sources[mail.source], (&raw, self.task.partition), value, &mut self.decoder) {
            Ok(event) => Poll::Ready(Some(event)),
            Err(error) => {
                self.task.fail(self.decoder.explained(error, value).into());
                Poll::Pending
            }
        }
    }

    /// Steps to the next record.
    ///
    /// Never registers a waker: when it is pending, the worker polls again after it has committed or refilled.
    #[inline(always)]
    pub(super) fn poll_step(&mut self, cx: &Context<'_>) -> Poll<()> {
        let task = &*self.task;
        if self.ahead.is_used_up() || task.waits.get() || task.commit_due.get() {
            ready!(self.poll_group(cx));
        }
        let (place, item) = self.ahead.step();
        let task = &*self.task;
        task.at_hand.set_timestamp(item.timestamp);
        task.at_hand.set_place(place);
        task.pulse.at(item.offset);
        if task.prepares.get() {
            self.prepare();
        }
        Poll::Ready(())
    }

    /// Keeps what the record at hand, or its failure, may need.
    #[inline(never)]
    fn prepare(&self) {
        self.task.mark();
        if self.task.keeps_key.get() {
            keep_key(&self.task, self.mail.as_ref().and_then(|mail| self.ahead.key(&mail.frames)));
        }
    }

    /// Walks over the next records, or lets the worker act.
    #[inline(never)]
    fn poll_group(&mut self, cx: &Context<'_>) -> Poll<()> {
        if !self.pause_is_over() {
            return self.wait(cx);
        }
        let Some(mail) = &mut self.mail else { return self.wait(cx) };
        let task = &*self.task;
        self.ahead.fill(mail, self.records_per_clock, |keys| {
            if task.expects {
                task.tables.iter().for_each(|table| table.expect(keys));
            }
        });
        if self.ahead.is_used_up() { self.give_back(cx) } else { Poll::Ready(()) }
    }

    /// The worker is to act; it wakes the agent when it has.
    #[inline(never)]
    pub(super) fn wait<T>(&self, cx: &Context<'_>) -> Poll<T> {
        self.task.waits.set(true);
        *self.task.waker.borrow_mut() = Some(cx.waker().clone());
        Poll::Pending
    }

    /// Between two records: finishes the one before, and stays there while the worker has something to do.
    #[inline]
    pub(super) fn pause_is_over(&mut self) -> bool {
        if self.task.waits.get() {
            // Asked again before the worker has acted: the record at hand may be one that cannot be read.
            return false;
        }
        if self.mail.is_none() {
            return self.take_mail();
        }
        self.settle(true);
        self.look_at_clock();
        if !self.task.commit_due.get() {
            return true;
        }
        self.publish();
        false
    }

    /// Brings the mail to where the agent is. The record at hand may be finished.
    #[inline]
    fn settle(&mut self, finished: bool) {
        let Some(mail) = &mut self.mail else { return };
        if let Some(settled) = self.ahead.settle(mail, finished) {
            let task = &self.task;
            task.dropped.set(task.dropped.get() + settled.tombstones);
            task.stream_time.set(task.stream_time.get().max(settled.timestamp));
            task.at_hand.forget_place();
        }
    }

    /// Asks whether a commit is due. Where records take long, each is followed by a look, so that a commit comes in time
    /// and a stop does not wait for many of them.
    #[inline(never)]
    fn look_at_clock(&mut self) {
        let now = self.task.clock.moment();
        let took = now.since(std::mem::replace(&mut self.looked_at_clock, now));
        let slow = took > self.task.commit_interval / 8;
        // A few quick records after a rest are committed together, when nothing is left to read.
        let few = !slow && self.records_per_clock < AHEAD;
        self.records_per_clock = if slow { 1 } else { (self.records_per_clock * 2).min(AHEAD) };
        if !few && now >= self.task.commit_at.get() {
            self.task.commit_due.set(true);
        }
    }

    #[inline(never)]
    fn take_mail(&mut self) -> bool {
        if self.task.commit_due.get() {
            return false;
        }
        // A buffer that is used up is the worker's to refill.
        let mut slot = self.task.mail.borrow_mut();
        if slot.as_ref().is_none_or(Mail::is_used_up) {
            return false;
        }
        self.mail = slot.take();
        drop(slot);
        if let Some(mail) = &self.mail {
            self.decoder.set_lookup(&self.task.sources[mail.source].schemas);
            self.task.pulse.of(mail.source);
            self.looked_at_clock = self.task.clock.moment();
            self.records_per_clock = 1;
        }
        true
    }

    /// The buffer is used up: it goes back to be refilled.
    #[inline(never)]
    pub(super) fn give_back<T>(&mut self, cx: &Context<'_>) -> Poll<T> {
        self.settle(true);
        self.publish();
        self.return_mail();
        self.wait(cx)
    }

    /// Publishes how far the agent has come.
    pub(super) fn publish(&self) {
        if let Some(mail) = &self.mail {
            self.task.publish(mail);
        }
    }

    fn return_mail(&mut self) {
        if let Some(mail) = self.mail.take() {
            *self.task.mail.borrow_mut() = Some(mail);
        }
    }

    fn poll_batch(&mut self, cx: &Context<'_>) -> Poll<Option<Batch<R>>> {
        if !self.pause_is_over() {
            return self.wait(cx);
        }
        let Some(mail) = &mut self.mail else { return self.wait(cx) };
        let task = &self.task;
        let source = &task.sources[mail.source];
        let mut events = Vec::new();
        let mut failed = None;
        task.mark();
        keep_key(task, None);
        while events.len() < BATCH_RECORDS {
            let before = mail.next;
            let Some(raw) = mail.next.next(&mail.frames) else { break };
            let Some(value) = raw.value else {
                task.dropped.set(task.dropped.get() + 1);
                continue;
            };
            task.at_hand.set_timestamp(raw.timestamp);
            task.stream_time.set(task.stream_time.get().max(raw.timestamp));
            if events.is_empty() {
                task.pulse.at(raw.offset);
            }
            match event(source, (&raw, task.partition), value, &mut self.decoder) {
                Ok(event) => events.push(event),
                // The records before it are a batch of their own, so that the policy meets the broken one alone.
                Err(error) if events.is_empty() => {
                    failed = Some(self.decoder.explained(error, value));
                    break;
                }
                Err(_) => {
                    mail.next = before;
                    break;
                }
            }
        }
        match failed {
            Some(error) => {
                self.task.fail(error.into());
                Poll::Pending
            }
            None if events.is_empty() => self.give_back(cx),
            None => Poll::Ready(Some(Batch { events })),
        }
    }

    /// Puts out what the agent returned for the record at hand, or passes its error on.
    #[inline]
    pub fn finish<T: Outcome>(&mut self, outcome: T) -> Result<(), BoxError> {
        let outputs = outcome.outputs()?;
        let Some(&destination) = self.task.outputs.first() else { return Ok(()) };
        let Some(mail) = &self.mail else { return Ok(()) };
        let outbox = &mut *self.task.outbox.borrow_mut();
        let mut emit = Emit { outbox, destination, key: None, timestamp: self.task.at_hand.timestamp() };
        if self.task.agent.shape == Shape::Batch {
            // Of many records none is the one whose key an output could keep, and a batch of one is no exception.
            let mut cursor = mail.begin;
            // Tombstones before it were passed over.
            while let Some(raw) = cursor.next(&mail.frames) {
                if raw.value.is_some() {
                    emit.timestamp = raw.timestamp;
                    break;
                }
            }
        } else {
            emit.key = self.ahead.key(&mail.frames);
        }
        outputs.emit(&mut emit)?;
        if outbox.is_full() {
            self.task.commit_due.set(true);
        }
        Ok(())
    }

    /// The record at hand, borrowed.
    #[inline(always)]
    pub(super) fn current_view(&mut self) -> Result<Option<R::View<'_>>, DecodeError> {
        match self.mail.as_ref().and_then(|mail| self.ahead.value(&mail.frames)) {
            Some(value) => self.decoder.view(value).map(Some),
            None => Ok(None),
        }
    }

    /// The record at hand with all that came with it, and what decodes it.
    #[inline]
    pub(super) fn current(&mut self) -> Option<(RawRecord<'_>, &mut Decoder<R>)> {
        Some((self.ahead.raw(self.mail.as_ref()?)?, &mut self.decoder))
    }
}

impl<R: Value> Drop for Input<R> {
    /// Gives the buffer back, with the unfinished records marked as such; nothing is settled here.
    fn drop(&mut self) {
        self.settle(false);
        self.publish();
        self.return_mail();
    }
}

/// The next record of an [`Input`]. Cancel-safe.
///
/// A future of its own, because it is inlined into the agent: a record that is returned behind a pointer is written in
/// words of 8 bytes and read in ones of 16, which the processor cannot forward.
#[derive(Debug)]
#[must_use = "futures do nothing unless they are awaited"]
pub struct Next<'i, R: Value>(&'i mut Input<R>);

impl<R: Value> Future for Next<'_, R> {
    type Output = Option<R>;

    #[inline(always)]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<R>> {
        self.0.poll_next(cx)
    }
}

/// Reads a record with everything that came with it.
pub(super) fn event<R: Value>(
    source: &Source,
    (raw, partition): (&RawRecord<'_>, u32),
    value: &[u8],
    decoder: &mut Decoder<R>,
) -> Result<Event<R>, DecodeError> {
    Ok(Event {
        value: decoder.decode(value)?,
        key: raw.key.map(bytes::Bytes::copy_from_slice),
        headers: owned_headers(raw.headers),
        timestamp: raw.timestamp,
        topic: source.topic.clone(),
        partition,
        offset: raw.offset,
    })
}

#[inline(never)]
fn keep_key(task: &Shared, key: Option<&[u8]>) {
    let kept = &mut *task.key.borrow_mut();
    match (kept.as_mut(), key) {
        (Some(kept), Some(key)) => {
            kept.clear();
            kept.extend_from_slice(key);
        }
        (_, key) => *kept = key.map(<[u8]>::to_vec),
    }
}

//! What a stream agent holds: the records that it asks for, and the topic that it puts records out to.

use std::future::poll_fn;
use std::marker::PhantomData;
use std::rc::Rc;

use super::event::{Batch, Event, IntoKey, Outcome};
use super::input::Input;
use super::task::Shared;
use crate::error::{BoxError, Error, ErrorKind, Result};
use crate::record::Value;

/// The records of one partition, in order. Asking for the next finishes the one before: from then on it counts as
/// done and will not be seen again.
///
/// Every `next` is cancel-safe: dropping its future hands out nothing. It may therefore be raced with a time-out or an
/// answer from elsewhere, as with `tokio::time::timeout(time, stream.next())`.
#[derive(Debug)]
pub struct Stream<R: Value> {
    input: Input<R>,
    /// The input's own, at hand while a view borrows the input.
    task: Rc<Shared>,
}

impl<R: Value> Stream<R> {
    pub(super) fn new(input: Input<R>) -> Self {
        Self { task: Rc::clone(&input.task), input }
    }

    /// The next record.
    #[inline]
    pub async fn next(&mut self) -> Option<R> {
        self.input.next().await
    }

    /// The next record with key, headers and position.
    pub async fn next_event(&mut self) -> Option<Event<R>> {
        self.input.next_event().await
    }

    /// The records that are at hand, at least one. They are finished together.
    pub async fn next_batch(&mut self) -> Option<Batch<R>> {
        self.input.next_batch().await
    }

    /// The next record, borrowed from the batch that it was read in: nothing is copied.
    #[inline]
    pub async fn next_view(&mut self) -> Option<R::View<'_>> {
        // The step and the look are apart, because a view cannot leave the closure that borrows for one poll.
        let Self { input, task } = self;
        poll_fn(|cx| input.poll_step(cx)).await;
        match input.current_view() {
            Ok(view) => view,
            Err(error) => {
                task.fail(error.into());
                // The policy takes over: the task drops this agent.
                std::future::pending().await
            }
        }
    }
}

/// A topic that the agent puts records out to: the one that `output` names, or that of the same place in `outputs`.
#[derive(Clone, Debug)]
pub struct Output<T: Value> {
    task: Rc<Shared>,
    /// Among the agent's outputs.
    place: usize,
    value: PhantomData<fn(T)>,
}

impl<T: Value> Output<T> {
    pub(super) fn new(task: Rc<Shared>, place: usize) -> Self {
        Self { task, place, value: PhantomData }
    }

    /// Puts out a record under the key of the record at hand. It becomes visible with the next commit.
    pub fn send(&mut self, value: &T) -> Result<()> {
        let key = self.task.key.borrow();
        self.push(key.as_deref(), Some(value))
    }

    /// Puts out a record under a key of its own.
    pub fn send_keyed(&mut self, key: impl IntoKey, value: &T) -> Result<()> {
        self.push(Some(&key.into_key()), Some(value))
    }

    /// Puts out that a key has no value any more.
    pub fn send_tombstone(&mut self, key: impl IntoKey) -> Result<()> {
        self.push(Some(&key.into_key()), None)
    }

    fn push(&self, key: Option<&[u8]>, value: Option<&T>) -> Result<()> {
        let Some(&destination) = self.task.outputs.get(self.place) else {
            return Err(Error::new(
                ErrorKind::Plan,
                format!("agent {} has no output topic: add `output = \"…\"` to its #[agent]", self.task.agent.name),
            ));
        };
        let mut outbox = self.task.outbox.borrow_mut();
        let timestamp = self.task.at_hand.timestamp();
        match value {
            Some(value) => outbox
                .push_value(destination, key, value, timestamp)
                .map_err(|error| Error::new(ErrorKind::Encode, "the record cannot be put out").with_source(error))?,
            None => outbox.push(destination, key, None, timestamp, &[]),
        }
        if outbox.is_full() {
            self.task.commit_due.set(true);
        }
        Ok(())
    }
}

/// What a stream agent's end means: an error is the failure of the record at hand.
pub fn finish_stream<T: Outcome>(outcome: T) -> Result<(), BoxError> {
    outcome.outputs().map(|_| ())
}

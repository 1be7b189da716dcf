//! Several records of one partition at once, for agents without tables.

use std::future::{Future, poll_fn};
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use futures::FutureExt;
use futures::stream::{FuturesUnordered, StreamExt};

use super::def::OnError;
use super::event::{Event, Outcome};
use super::failure::{chain, is_storage, panicked};
use super::input::{Input, event};
use super::task::Source;
use super::tracker::{Ticket, Tracker};
use super::window::{Place, Read, Window};
use crate::error::BoxError;
use crate::record::{DecodeError, Decoder, RawRecord, Value};

/// A slow record does not keep others from being started, but this many times the agent's `concurrency` at most wait
/// behind it until they can be put out.
const LOOK_AHEAD: usize = 16;

/// One call of the agent: the record, and what it came to.
type Call<'a, T> = Pin<Box<dyn Future<Output = (Ticket, Result<T, BoxError>)> + 'a>>;

/// A record at work, and how many times it was tried again.
#[derive(Clone, Copy, Debug)]
struct Tried {
    place: Place,
    again: u32,
}

/// Calls `run` for up to `limit` records at once. They may be done in any order; positions and outputs follow the order
/// of the records, so that no position passes an unfinished one.
pub async fn concurrently<R, T, F, Fut>(input: Input<R>, limit: usize, run: F) -> Result<(), BoxError>
where
    R: Value,
    T: Outcome,
    F: Fn(R) -> Fut,
    Fut: Future<Output = T>,
{
    drive(
        input,
        limit,
        |_: &Source, _: (&RawRecord<'_>, u32), value: &[u8], decoder: &mut Decoder<R>| decoder.decode(value),
        run,
    )
    .await
}

/// [`concurrently`], for agents that take events.
pub async fn concurrently_events<R, T, F, Fut>(input: Input<R>, limit: usize, run: F) -> Result<(), BoxError>
where
    R: Value,
    T: Outcome,
    F: Fn(Event<R>) -> Fut,
    Fut: Future<Output = T>,
{
    drive(input, limit, event, run).await
}

async fn drive<R, I, T, F, Fut>(input: Input<R>, limit: usize, read: impl Read<R, I>, run: F) -> Result<(), BoxError>
where
    R: Value,
    T: Outcome,
    F: Fn(I) -> Fut,
    Fut: Future<Output = T>,
{
    let mut window = Window::<R>::new(input.task.clone());
    drop(input);
    let task = window.task.clone();
    task.commits_any_time.set(true);
    let mut tracker: Tracker<Tried, Result<T::Outputs, BoxError>> = Tracker::default();
    let mut calls: FuturesUnordered<Call<'_, T::Outputs>> = FuturesUnordered::new();
    // A record has failed for good: what was started before it may end, and nothing is started any more.
    let mut failed = false;
    loop {
        // What is done is put out in the order of the records.
        while let Some((tried, outcome)) = tracker.take_oldest() {
            if let Err(error) = outcome.and_then(|outputs| window.put_out(&tried.place, outputs)) {
                match task.agent.on_error {
                    OnError::Skip | OnError::DeadLetter(_) if !is_storage(&*error) => {
                        window.pass_over(&tried.place, &error);
                    }
                    _ => {
                        let Some(wait) = try_again(&window, &tried, &error) else { return Err(error) };
                        let again = Tried { again: tried.again + 1, ..tried };
                        let ticket = tracker.start_again(again);
                        let Some(item) = window.read(&tried.place, &read) else { return Err(error) };
                        calls.push(call(ticket, item, wait, &window, &run));
                        break;
                    }
                }
            }
            window.advance(tracker.oldest().map(|tried| &tried.place));
        }

        let most = limit.saturating_mul(LOOK_AHEAD);
        while calls.len() < limit && tracker.len() < most && !failed && !task.commit_due.get() {
            let Some((place, item)) = window.start_next(&read) else { break };
            let ticket = tracker.start(Tried { place, again: 0 });
            calls.push(call(ticket, item, Duration::ZERO, &window, &run));
        }
        if tracker.len() == 0 {
            // Tombstones at the end of a buffer are nobody's work.
            window.advance(None);
        }
        task.in_flight.set(tracker.len());
        task.calls.set(calls.len());
        if let Some(oldest) = tracker.oldest() {
            task.pulse.at(oldest.place.offset);
        }

        let room = calls.len() < limit && tracker.len() < most && !failed;
        let ended = poll_fn(|cx| {
            if let Poll::Ready(Some(ended)) = calls.poll_next_unpin(cx) {
                return Poll::Ready(Some(ended));
            }
            window.poll_more(cx, room, tracker.len() > 0).map(|()| None)
        });
        let Some((ticket, outcome)) = ended.await else { continue };
        let again = match (&outcome, tracker.place(ticket)) {
            (Err(error), Some(tried)) => try_again(&window, tried, error).map(|wait| {
                tried.again += 1;
                (wait, tried.place)
            }),
            _ => None,
        };
        match again.and_then(|(wait, place)| Some((wait, window.read(&place, &read)?))) {
            Some((wait, item)) => calls.push(call(ticket, item, wait, &window, &run)),
            None => {
                let passes = matches!(task.agent.on_error, OnError::Skip | OnError::DeadLetter(_));
                failed |= outcome.as_ref().is_err_and(|error| !passes || is_storage(&**error));
                tracker.done(ticket, outcome);
            }
        }
    }
}

/// How long to wait before a record that failed is tried again; `None` when it is not.
fn try_again<R: Value>(window: &Window<R>, tried: &Tried, error: &BoxError) -> Option<Duration> {
    let OnError::Retry { times, backoff_ms } = window.task.agent.on_error else { return None };
    // Storage that fails is not the record's fault.
    if tried.again >= times || is_storage(&**error) {
        return None;
    }
    tracing::warn!(
        agent = window.task.agent.name,
        partition = window.task.partition,
        offset = tried.place.offset,
        error = chain(&**error),
        attempt = tried.again + 1,
        of = times,
        "a record failed and is tried again"
    );
    Some(Duration::from_millis(backoff_ms.saturating_mul(1 << tried.again.min(16))))
}

/// One call of the agent; its panic is an error like any other, so that the records beside it go on.
fn call<'a, R, I, T, F, Fut>(
    ticket: Ticket,
    item: Result<I, DecodeError>,
    wait: Duration,
    window: &Window<R>,
    run: &'a F,
) -> Call<'a, T::Outputs>
where
    R: Value,
    I: 'a,
    T: Outcome,
    F: Fn(I) -> Fut,
    Fut: Future<Output = T> + 'a,
{
    let task = window.task.clone();
    let outcome = async move {
        if !wait.is_zero() {
            task.resting.set(task.resting.get() + 1);
            task.clock.sleep(wait).await;
            task.resting.set(task.resting.get() - 1);
        }
        let item = item?;
        match AssertUnwindSafe(async { run(item).await }).catch_unwind().await {
            Ok(outcome) => outcome.outputs(),
            Err(panic) => Err(panicked(&*panic).into()),
        }
    };
    Box::pin(async move { (ticket, outcome.await) })
}

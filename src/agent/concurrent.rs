//! Several records of one partition at once, for agents without tables.

use std::future::{Future, poll_fn};
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::time::Duration;

use futures::FutureExt;
use futures::stream::{FuturesOrdered, StreamExt};

use super::def::OnError;
use super::event::{Event, Outcome};
use super::failure::{is_storage, panicked};
use super::input::{Input, event};
use super::task::Source;
use crate::error::BoxError;
use crate::record::{DecodeError, Decoder, RawRecord, Value};

type Running<'a, T> = FuturesOrdered<Pin<Box<dyn Future<Output = Result<T, BoxError>> + 'a>>>;

/// Calls `run` for up to `limit` records at once. Records are finished in their order, so that the position never
/// passes an unfinished one and outputs keep the order of their records.
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

async fn drive<R, I, T, F, Fut, Read>(mut input: Input<R>, limit: usize, read: Read, run: F) -> Result<(), BoxError>
where
    R: Value,
    T: Outcome,
    F: Fn(I) -> Fut,
    Fut: Future<Output = T>,
    Read: Fn(&Source, (&RawRecord<'_>, u32), &[u8], &mut Decoder<R>) -> Result<I, DecodeError>,
{
    input.task.commits_any_time.set(true);
    let mut running: Running<'_, T::Outputs> = FuturesOrdered::new();
    let mut attempts = 0;
    loop {
        while running.len() < limit {
            match input.start_next(&read) {
                Some(item) => running.push_back(attempt(item, Duration::ZERO, &input, &run)),
                None => break,
            }
        }
        let Some(outcome) = running.next().await else {
            poll_fn(|cx| input.poll_refill(cx)).await;
            continue;
        };
        let Err(error) = outcome.and_then(|outputs| input.finish_oldest(outputs)) else {
            attempts = 0;
            continue;
        };
        if is_storage(&*error) {
            return Err(error);
        }
        match input.task.agent.on_error {
            OnError::Retry { times, backoff_ms } if attempts < times => {
                let wait = Duration::from_millis(backoff_ms.saturating_mul(1 << attempts.min(16)));
                attempts += 1;
                let Some(item) = input.reread_oldest(&read) else { return Err(error) };
                running.push_front(attempt(item, wait, &input, &run));
            }
            OnError::Fail | OnError::Retry { .. } => return Err(error),
            OnError::Skip | OnError::DeadLetter(_) => input.pass_over_oldest(&error)?,
        }
    }
}

/// One call of the agent; its panic is an error like any other, so that the records beside it go on.
fn attempt<'a, R, I, T, F, Fut>(
    item: Result<I, DecodeError>,
    wait: Duration,
    input: &Input<R>,
    run: &'a F,
) -> Pin<Box<dyn Future<Output = Result<T::Outputs, BoxError>> + 'a>>
where
    R: Value,
    I: 'a,
    T: Outcome,
    F: Fn(I) -> Fut,
    Fut: Future<Output = T> + 'a,
{
    let clock = input.task.clock.clone();
    Box::pin(async move {
        let item = item?;
        if !wait.is_zero() {
            clock.sleep(wait).await;
        }
        match AssertUnwindSafe(async { run(item).await }).catch_unwind().await {
            Ok(outcome) => outcome.outputs(),
            Err(panic) => Err(panicked(&*panic).into()),
        }
    })
}

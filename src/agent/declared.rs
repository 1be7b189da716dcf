//! Declared aggregations: the fold that `aggregate!` generated, over the borrowed view, a group of records at a time.

use std::cell::Cell;
use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::task::{Context, Poll};

use super::def::AgentFuture;
use super::failure::panicked;
use super::input::Input;
use super::task::{Mail, Shared, Task};
use crate::error::BoxError;
use crate::record::{
    DecodeError, Input as RecordInput, Key, RawRecord, RawRecords, Record, explained, left_over, split_single_object,
};
use crate::table::aggregate::AggregateError;
use crate::table::{SlotNo, Slots, Table, TableHandle, TableState};

/// Records that are decoded, and whose keys are hashed and looked up, together.
const GROUP: usize = 64;

/// An aggregation as `aggregate!` generates it.
pub trait Aggregation: 'static {
    /// What is aggregated.
    type Record: Record;
    /// What it is grouped by.
    type Key: Key;
    /// The record that shows the figures of a key.
    type Value: Record;
    /// The accumulators of a key.
    type State: TableState<Self::Key, Self::Value> + Default;

    /// The bytes of the grouping key; `None` where the field is null.
    fn key<'v>(view: &'v <Self::Record as Record>::View<'_>, scratch: &'v mut Vec<u8>) -> Option<&'v [u8]>;

    /// Folds one record. A fold that fails leaves the state as it was.
    fn fold(state: &mut Self::State, view: &<Self::Record as Record>::View<'_>) -> Result<(), AggregateError>;
}

/// Runs a declared aggregation on one partition.
pub fn aggregate<A: Aggregation>(task: Task, table: &'static Table<A::Key, A::Value, A::State>) -> AgentFuture {
    Box::pin(async move {
        let mut input = task.input::<A::Record>()?;
        let handle = task.table(table)?;
        poll_fn(|cx| poll_buffer::<A>(&mut input, &handle, cx)).await
    })
}

/// Folds buffer after buffer; pending when the worker is to commit or refill, ready only when a record failed.
fn poll_buffer<A: Aggregation>(
    input: &mut Input<A::Record>,
    handle: &TableHandle<A::Key, A::Value, A::State>,
    cx: &Context<'_>,
) -> Poll<Result<(), BoxError>> {
    loop {
        // Keeping the records that are folded finished is the fold's own affair; the pause is between frames.
        if !input.pause_is_over() {
            return input.wait(cx);
        }
        let mut slots = handle.partition().slots()?;
        if matches!(fold_frame::<A>(input, &mut slots)?, Folded::AtEnd) {
            drop(slots);
            return input.give_back(cx);
        }
        if input.task.interval_passed() {
            input.task.commit_due.set(true);
        }
    }
}

enum Folded {
    Some,
    AtEnd,
}

/// Why a group ends.
enum End {
    /// It is full.
    Full,
    /// So does the frame.
    Frame,
    /// Another schema wrote the next record.
    Foreign,
    /// The next record cannot be read.
    Broken(DecodeError),
}

/// Folds what is left of the frame at hand.
fn fold_frame<A: Aggregation>(input: &mut Input<A::Record>, slots: &mut Slots<A::State>) -> Result<Folded, BoxError> {
    let Input { task, decoder, mail, .. } = input;
    let Some(Mail { frames, begin, next, .. }) = mail else { return Ok(Folded::AtEnd) };
    let Some(mut walk) = next.rest_of_frame_or_next(frames) else { return Ok(Folded::AtEnd) };
    let mut views = Vec::with_capacity(GROUP);
    let mut keys = Keys::default();
    loop {
        views.clear();
        let start = walk.clone();
        let end = read_group::<A::Record>(&mut walk, &mut views, task);
        if let Some((_, first)) = views.first() {
            task.pulse.at(first.offset);
        }
        if let Err((offset, error)) = fold_guarded::<A>(slots, &views, &mut keys, task) {
            // The records before the failed one count; it alone is unfinished.
            let mut walk = start;
            loop {
                next.advance_to(&walk);
                if walk.next().is_none_or(|raw| raw.offset == offset) {
                    break;
                }
            }
            *begin = *next;
            next.advance_to(&walk);
            return Err(error);
        }
        next.advance_to(&walk);
        *begin = *next;
        match end {
            End::Full => {}
            End::Frame => return Ok(Folded::Some),
            End::Broken(error) => {
                walk.next();
                next.advance_to(&walk);
                return Err(error.into());
            }
            End::Foreign => {
                let raw = walk.next();
                next.advance_to(&walk);
                if let Some((raw, value)) = raw.and_then(|raw| Some((raw, raw.value?))) {
                    let one = [(decoder.view(value)?, raw)];
                    fold_guarded::<A>(slots, &one, &mut keys, task).map_err(|(_, error)| error)?;
                }
                *begin = *next;
            }
        }
    }
}

/// Decodes the next records that this build's schema wrote. The walk stops before a record that ends the group.
#[inline]
fn read_group<'a, R: Record>(
    walk: &mut RawRecords<'a>,
    views: &mut Vec<(R::View<'a>, RawRecord<'a>)>,
    task: &Shared,
) -> End {
    while views.len() < GROUP {
        let here = walk.clone();
        let Some(raw) = walk.next() else { return End::Frame };
        let Some(value) = raw.value else {
            task.dropped.set(task.dropped.get() + 1);
            continue;
        };
        let end = match split_single_object(value) {
            Some((fingerprint, datum)) if fingerprint == R::SCHEMA.fingerprint => match read_all::<R>(datum) {
                Ok(view) => {
                    views.push((view, raw));
                    continue;
                }
                Err(error) => End::Broken(explained(error, value)),
            },
            _ => End::Foreign,
        };
        *walk = here;
        return end;
    }
    End::Full
}

#[inline]
fn read_all<R: Record>(datum: &[u8]) -> Result<R::View<'_>, DecodeError> {
    let mut input = RecordInput::after_header(datum);
    let view = R::view(&mut input)?;
    if input.rest().is_empty() { Ok(view) } else { Err(left_over(input.position(), input.rest().len())) }
}

/// The keys of a group, one after another, and where they were found.
#[derive(Default)]
struct Keys {
    bytes: Vec<u8>,
    ends: Vec<usize>,
    scratch: Vec<u8>,
    found: Vec<Option<SlotNo>>,
    /// Which record of the group is being folded.
    folding: Cell<usize>,
}

/// Folds a group. A fold of the user's that panics has failed on its record as one that returns an error has: it works
/// on copies, so that the records before it count and it alone leaves no trace.
fn fold_guarded<A: Aggregation>(
    slots: &mut Slots<A::State>,
    views: &[(<A::Record as Record>::View<'_>, RawRecord<'_>)],
    keys: &mut Keys,
    task: &Shared,
) -> Result<(), (u64, BoxError)> {
    keys.folding.set(0);
    match catch_unwind(AssertUnwindSafe(|| fold_group::<A>(slots, views, keys, task))) {
        Ok(result) => result,
        Err(panic) => {
            let offset = views.get(keys.folding.get()).map_or(0, |(_, raw)| raw.offset);
            Err((offset, panicked(&*panic).into()))
        }
    }
}

/// Folds a group. On failure says at which offset.
fn fold_group<A: Aggregation>(
    slots: &mut Slots<A::State>,
    views: &[(<A::Record as Record>::View<'_>, RawRecord<'_>)],
    keys: &mut Keys,
    task: &Shared,
) -> Result<(), (u64, BoxError)> {
    let Some((_, first)) = views.first() else { return Ok(()) };
    let Keys { bytes, ends, scratch, found, folding } = keys;
    bytes.clear();
    ends.clear();
    let mut unkeyed = false;
    for (view, _) in views {
        match A::key(view, scratch) {
            Some(key) => bytes.extend_from_slice(key),
            None => unkeyed = true,
        }
        ends.push(if unkeyed { usize::MAX } else { bytes.len() });
        if unkeyed {
            break;
        }
    }
    if unkeyed {
        return fold_singly::<A>(slots, views, scratch, folding, task);
    }
    let mut group: [&[u8]; GROUP] = [&[]; GROUP];
    let mut from = 0;
    for (key, to) in group.iter_mut().zip(ends.iter()) {
        *key = &bytes[from..*to];
        from = *to;
    }
    slots.locate(&group[..views.len()], found).map_err(|error| (first.offset, error.into()))?;
    let mut stream_time = task.stream_time.get();
    for (at, (((view, raw), slot), key)) in views.iter().zip(found.iter()).zip(&group).enumerate() {
        folding.set(at);
        let slot = slot.ok_or_else(|| (raw.offset, slots.refusal(key).into()))?;
        fold_into::<A>(slots, slot, view, raw.timestamp).map_err(|error| (raw.offset, error.into()))?;
        stream_time = stream_time.max(raw.timestamp);
    }
    task.stream_time.set(stream_time);
    Ok(())
}

/// Folds one record. A failed one leaves no trace, so that aggregations need no undo.
#[inline]
fn fold_into<A: Aggregation>(
    slots: &mut Slots<A::State>,
    slot: SlotNo,
    view: &<A::Record as Record>::View<'_>,
    timestamp: i64,
) -> Result<(), AggregateError> {
    if slots.state(slot).is_none() {
        let mut first = A::State::default();
        A::fold(&mut first, view)?;
        *slots.touch(slot, timestamp) = Some(first);
    } else if let Some(state) = slots.touch(slot, timestamp) {
        A::fold(state, view)?;
    }
    Ok(())
}

/// Folds records of which some have no key, which are counted as dropped.
#[cold]
fn fold_singly<A: Aggregation>(
    slots: &mut Slots<A::State>,
    views: &[(<A::Record as Record>::View<'_>, RawRecord<'_>)],
    scratch: &mut Vec<u8>,
    folding: &Cell<usize>,
    task: &Shared,
) -> Result<(), (u64, BoxError)> {
    for (at, (view, raw)) in views.iter().enumerate() {
        folding.set(at);
        task.stream_time.set(task.stream_time.get().max(raw.timestamp));
        let Some(key) = A::key(view, scratch) else {
            task.drop_unkeyed(raw.offset);
            continue;
        };
        let hash = slots.hash(key);
        let slot = slots.entry(hash, key).map_err(|error| (raw.offset, error.into()))?;
        fold_into::<A>(slots, slot, view, raw.timestamp).map_err(|error| (raw.offset, error.into()))?;
    }
    Ok(())
}

//! Declared aggregations: the fold that `aggregate!` generated, over the borrowed view, a group of records at a time.

use std::cell::Cell;
use std::future::poll_fn;
use std::marker::PhantomData;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::task::{Context, Poll};

use super::def::AgentFuture;
use super::failure::panicked;
use super::input::Input;
use super::task::{Mail, Shared, Task};
use crate::error::{BoxError, Error};
use crate::record::{
    DecodeError, Decoder, Input as RecordInput, Key, PlainRecord, RawRecords, Record, Value, left_over,
    split_single_object,
};
use crate::table::aggregate::AggregateError;
use crate::table::{SlotNo, Slots, Table, TableHandle, TableState};

/// Records that are walked over, and whose keys are hashed, together.
const GROUP: usize = 64;

/// Records whose slots are asked for together, while those before them are folded: a processor has room for so many reads
/// that wait for memory, and more of them would wait for one another.
const PART: usize = 16;

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

/// Folds what is left of the frame at hand.
fn fold_frame<A: Aggregation>(input: &mut Input<A::Record>, slots: &mut Slots<A::State>) -> Result<Folded, BoxError> {
    let Input { task, decoder, mail, .. } = input;
    let Some(Mail { frames, begin, next, .. }) = mail else { return Ok(Folded::AtEnd) };
    let Some(mut walk) = next.rest_of_frame_or_next(frames) else { return Ok(Folded::AtEnd) };
    let mut group = Group::<A>::new();
    loop {
        let start = walk;
        walk = group.read(&start, slots, task);
        if let Some(first) = group.items[..group.count].first() {
            task.pulse.at(first.offset);
        }
        if let Err((offset, error)) = group.fold_guarded(slots, decoder, task) {
            // The records before the failed one count; it alone is unfinished.
            let mut walk = start.clone();
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
        if group.count < GROUP {
            // A record that cannot be walked over ends the buffer.
            return Ok(if walk.rest().len() == start.rest().len() { Folded::AtEnd } else { Folded::Some });
        }
    }
}

/// Reads a whole datum that this build's schema wrote.
#[inline(always)]
fn read_all<R: Record>(datum: &[u8]) -> Result<R::View<'_>, DecodeError> {
    let mut input = RecordInput::after_header(datum);
    let view = R::view(&mut input)?;
    if input.rest().is_empty() { Ok(view) } else { Err(left_over(input.position(), input.rest().len())) }
}

/// A record that was walked over, with no more of what came with it than the fold needs.
#[derive(Clone, Copy, Default)]
struct Item<'a> {
    value: &'a [u8],
    timestamp: i64,
    offset: u64,
    /// Of its key.
    hash: u64,
}

/// Records that are folded together. Three walks over them, so that memory is on its way before it is needed: one hashes
/// the keys and asks for their places in the index, one asks for the slots of a part of them, one decodes and folds the part
/// before.
///
/// The records are keyed by what they are grouped by, so the first walk takes a record's key for that of its group. Where
/// the decoded record says otherwise, it is looked up once more: a key is a hint and no more.
struct Group<'a, A: Aggregation> {
    items: [Item<'a>; GROUP],
    count: usize,
    scratch: Vec<u8>,
    /// Which record of the group is being folded.
    folding: Cell<usize>,
    aggregation: PhantomData<A>,
}

impl<'a, A: Aggregation> Group<'a, A> {
    fn new() -> Self {
        Self {
            items: [Item::default(); GROUP],
            count: 0,
            scratch: Vec::new(),
            folding: Cell::new(0),
            aggregation: PhantomData,
        }
    }

    /// Walks over the next records: as many as there is room for, or fewer at the end of the frame.
    #[inline(never)]
    fn read(&mut self, walk: &RawRecords<'a>, slots: &Slots<A::State>, task: &Shared) -> RawRecords<'a> {
        // Copied here and at the end, so that it stays in registers.
        let mut walk = walk.clone();
        let mut count = 0;
        while let Some(item) = self.items.get_mut(count) {
            let (key, value, timestamp, offset) = match walk.next_plain() {
                Some(PlainRecord { offset, timestamp, key, value }) => (key, value, timestamp, offset),
                None => {
                    let Some(raw) = walk.next() else { break };
                    let Some(value) = raw.value else {
                        task.dropped.set(task.dropped.get() + 1);
                        continue;
                    };
                    (raw.key.unwrap_or_default(), value, raw.timestamp, raw.offset)
                }
            };
            let hash = slots.hash(key);
            slots.ask_index(hash);
            *item = Item { value, timestamp, offset, hash };
            count += 1;
        }
        self.count = count;
        walk.clone()
    }

    /// Folds the group. A fold of the user's that panics has failed on its record as one that returns an error has: it
    /// works on copies, so that the records before it count and it alone leaves no trace.
    fn fold_guarded(
        &mut self,
        slots: &mut Slots<A::State>,
        decoder: &mut Decoder<A::Record>,
        task: &Shared,
    ) -> Result<(), (u64, BoxError)> {
        self.folding.set(0);
        let folded = catch_unwind(AssertUnwindSafe(|| self.fold(slots, decoder, task)));
        let finished = if matches!(folded, Ok(Ok(()))) { self.count } else { self.folding.get() };
        let latest = self.items[..finished].iter().fold(i64::MIN, |latest, item| latest.max(item.timestamp));
        task.stream_time.set(task.stream_time.get().max(latest));
        match folded {
            Ok(result) => result,
            Err(panic) => {
                let offset = self.items.get(self.folding.get()).map_or(0, |item| item.offset);
                Err((offset, panicked(&*panic).into()))
            }
        }
    }

    /// Folds the group. On failure says at which offset.
    #[inline(never)]
    fn fold(
        &mut self,
        slots: &mut Slots<A::State>,
        decoder: &mut Decoder<A::Record>,
        task: &Shared,
    ) -> Result<(), (u64, BoxError)> {
        let Self { items, count, scratch, folding, .. } = self;
        let items = &items[..*count];
        // Where the keys of a part, and of the next one, probably are.
        let (mut aims, mut next_aims) = ([None; PART], [None; PART]);
        let mut parts = items.chunks(PART).peekable();
        let mut at = 0;
        if let Some(first) = parts.peek() {
            aim::<A>(first, &mut aims, items, at, scratch, slots)?;
        }
        while let Some(part) = parts.next() {
            if let Some(next) = parts.peek() {
                aim::<A>(next, &mut next_aims, items, at, scratch, slots)?;
            }
            for (item, aim) in part.iter().zip(&aims) {
                folding.set(at);
                at += 1;
                match split_single_object(item.value) {
                    Some((fingerprint, datum)) if fingerprint == <A::Record as Record>::SCHEMA.fingerprint => {
                        match read_all::<A::Record>(datum) {
                            Ok(view) => fold_one::<A>(slots, &view, item, *aim, scratch, task)?,
                            Err(error) => return Err((item.offset, decoder.explained(error, item.value).into())),
                        }
                    }
                    _ => fold_foreign::<A>(slots, decoder, item, scratch, task)?,
                }
            }
            aims = next_aims;
        }
        Ok(())
    }
}

/// Asks for the slots that the keys of a part of a group probably have. If memory lacks one, the whole group is loaded; that
/// this fails is told of the first record that is not folded yet.
#[inline(always)]
fn aim<A: Aggregation>(
    part: &[Item<'_>],
    aims: &mut [Option<SlotNo>; PART],
    group: &[Item<'_>],
    folded: usize,
    scratch: &mut Vec<u8>,
    slots: &mut Slots<A::State>,
) -> Result<(), (u64, BoxError)> {
    let mut missing = false;
    for (item, aim) in part.iter().zip(aims) {
        *aim = slots.ask_slot(item.hash);
        missing |= aim.is_none();
    }
    match missing && slots.loads_in_groups() {
        true => load::<A>(group, scratch, slots)
            .map_err(|error| (group.get(folded).map_or(0, |item| item.offset), error.into())),
        false => Ok(()),
    }
}

/// Folds a record that is decoded, into the slot that is aimed at if that is its key's.
#[inline(always)]
fn fold_one<A: Aggregation>(
    slots: &mut Slots<A::State>,
    view: &<A::Record as Record>::View<'_>,
    item: &Item<'_>,
    aim: Option<SlotNo>,
    scratch: &mut Vec<u8>,
    task: &Shared,
) -> Result<(), (u64, BoxError)> {
    let Some(key) = A::key(view, scratch) else {
        task.drop_unkeyed(item.offset);
        return Ok(());
    };
    match aim.and_then(|slot| slots.touch_if(slot, key, item.timestamp)) {
        Some(state) => A::fold(state, view).map_err(|error| (item.offset, error.into())),
        None => fold_entry::<A>(slots, key, view, item),
    }
}

/// Folds a record that another schema wrote, or whose value cannot be read.
#[inline(never)]
fn fold_foreign<A: Aggregation>(
    slots: &mut Slots<A::State>,
    decoder: &mut Decoder<A::Record>,
    item: &Item<'_>,
    scratch: &mut Vec<u8>,
    task: &Shared,
) -> Result<(), (u64, BoxError)> {
    let error = match decoder.view(item.value) {
        Ok(view) => return fold_one::<A>(slots, &view, item, None, scratch, task),
        Err(error) => error,
    };
    Err((item.offset, decoder.explained(error, item.value).into()))
}

/// Loads the keys of a group that memory lacks with one read, as far as they can be told without another schema.
#[cold]
fn load<A: Aggregation>(items: &[Item<'_>], scratch: &mut Vec<u8>, slots: &mut Slots<A::State>) -> Result<(), Error> {
    let views = items.iter().filter_map(|item| A::Record::view_value(item.value).ok());
    let keys: Vec<Vec<u8>> = views.filter_map(|view| A::key(&view, scratch).map(<[u8]>::to_vec)).collect();
    let keys: Vec<&[u8]> = keys.iter().map(Vec::as_slice).collect();
    slots.locate(&keys, &mut Vec::new())
}

/// Folds one record whose key has no slot or no state yet. A failed one leaves no trace, so that aggregations need no
/// undo.
#[inline(never)]
fn fold_entry<A: Aggregation>(
    slots: &mut Slots<A::State>,
    key: &[u8],
    view: &<A::Record as Record>::View<'_>,
    item: &Item<'_>,
) -> Result<(), (u64, BoxError)> {
    let slot = slots.entry(slots.hash(key), key).map_err(|error| (item.offset, error.into()))?;
    let folded = match slots.state(slot) {
        None => {
            let mut first = A::State::default();
            A::fold(&mut first, view).map(|()| *slots.touch(slot, item.timestamp) = Some(first))
        }
        Some(_) => match slots.touch(slot, item.timestamp) {
            Some(state) => A::fold(state, view),
            None => Ok(()),
        },
    };
    folded.map_err(|error| (item.offset, error.into()))
}

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
    let mut group = Group::<A>::new();
    loop {
        group.clear();
        let start = walk.clone();
        let end = group.read(&mut walk, slots, task);
        if let Some(first) = group.items.first() {
            task.pulse.at(first.offset);
        }
        if let Err((offset, error)) = group.fold_guarded(slots, task) {
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
                    let mut one = Group::<A>::new();
                    one.push(decoder.view(value)?, &raw, slots);
                    one.fold_guarded(slots, task).map_err(|(_, error)| error)?;
                }
                *begin = *next;
            }
        }
    }
}

#[inline(always)]
fn read_all<R: Record>(datum: &[u8]) -> Result<R::View<'_>, DecodeError> {
    let mut input = RecordInput::after_header(datum);
    let view = R::view(&mut input)?;
    if input.rest().is_empty() { Ok(view) } else { Err(left_over(input.position(), input.rest().len())) }
}

/// A decoded record, with no more of what came with it than the fold needs.
struct Item<'a, R: Record> {
    view: R::View<'a>,
    timestamp: i64,
    offset: u64,
}

/// Records that are folded together. Three walks over them, so that memory is on its way before it is needed: one
/// decodes, hashes the keys and asks for their places in the index, one asks for their slots, one folds.
struct Group<'a, A: Aggregation> {
    items: Vec<Item<'a, A::Record>>,
    hashes: [u64; GROUP],
    /// Where the keys probably are.
    aims: [Option<SlotNo>; GROUP],
    scratch: Vec<u8>,
    /// Some record has no key.
    unkeyed: bool,
    /// Which record of the group is being folded.
    folding: Cell<usize>,
}

impl<'a, A: Aggregation> Group<'a, A> {
    fn new() -> Self {
        Self {
            items: Vec::with_capacity(GROUP),
            hashes: [0; GROUP],
            aims: [None; GROUP],
            scratch: Vec::new(),
            unkeyed: false,
            folding: Cell::new(0),
        }
    }

    fn clear(&mut self) {
        self.items.clear();
        self.unkeyed = false;
    }

    /// Decodes the next records that this build's schema wrote. The walk stops before a record that ends the group.
    #[inline]
    fn read(&mut self, walk: &mut RawRecords<'a>, slots: &Slots<A::State>, task: &Shared) -> End {
        while self.items.len() < GROUP {
            let here = walk.clone();
            let Some(raw) = walk.next() else { return End::Frame };
            let Some(value) = raw.value else {
                task.dropped.set(task.dropped.get() + 1);
                continue;
            };
            let end = match split_single_object(value) {
                Some((fingerprint, datum)) if fingerprint == <A::Record as Record>::SCHEMA.fingerprint => {
                    match read_all::<A::Record>(datum) {
                        Ok(view) => {
                            self.push(view, &raw, slots);
                            continue;
                        }
                        Err(error) => End::Broken(explained(error, value)),
                    }
                }
                _ => End::Foreign,
            };
            *walk = here;
            return end;
        }
        End::Full
    }

    /// Adds a record while there is room.
    #[inline(always)]
    fn push(&mut self, view: <A::Record as Record>::View<'a>, raw: &RawRecord<'_>, slots: &Slots<A::State>) {
        if let Some(hash) = self.hashes.get_mut(self.items.len()) {
            match A::key(&view, &mut self.scratch) {
                Some(key) => {
                    *hash = slots.hash(key);
                    slots.ask_index(*hash);
                }
                None => self.unkeyed = true,
            }
            self.items.push(Item { view, timestamp: raw.timestamp, offset: raw.offset });
        }
    }

    /// Folds the group. A fold of the user's that panics has failed on its record as one that returns an error has: it
    /// works on copies, so that the records before it count and it alone leaves no trace.
    fn fold_guarded(&mut self, slots: &mut Slots<A::State>, task: &Shared) -> Result<(), (u64, BoxError)> {
        self.folding.set(0);
        match catch_unwind(AssertUnwindSafe(|| self.fold(slots, task))) {
            Ok(result) => result,
            Err(panic) => {
                let offset = self.items.get(self.folding.get()).map_or(0, |item| item.offset);
                Err((offset, panicked(&*panic).into()))
            }
        }
    }

    /// Folds the group. On failure says at which offset.
    fn fold(&mut self, slots: &mut Slots<A::State>, task: &Shared) -> Result<(), (u64, BoxError)> {
        if self.unkeyed {
            return self.fold_singly(slots, task);
        }
        let Self { items, hashes, aims, scratch, folding, .. } = self;
        let mut missing = false;
        for (hash, aim) in hashes[..items.len()].iter().zip(aims.iter_mut()) {
            *aim = slots.ask_slot(*hash);
            missing |= aim.is_none();
        }
        if missing && slots.loads_in_groups() {
            load::<A>(items, scratch, slots)?;
        }
        let mut stream_time = task.stream_time.get();
        for (at, ((item, hash), aim)) in items.iter().zip(hashes.iter()).zip(aims.iter()).enumerate() {
            folding.set(at);
            // Records without a key are folded singly.
            let key = A::key(&item.view, scratch).unwrap_or_default();
            match aim.and_then(|slot| slots.touch_if(slot, key, item.timestamp)) {
                Some(state) => A::fold(state, &item.view).map_err(|error| (item.offset, error.into()))?,
                None => fold_entry::<A>(slots, *hash, key, item)?,
            }
            stream_time = stream_time.max(item.timestamp);
        }
        task.stream_time.set(stream_time);
        Ok(())
    }

    /// Folds records of which some have no key, which are counted as dropped.
    #[cold]
    fn fold_singly(&mut self, slots: &mut Slots<A::State>, task: &Shared) -> Result<(), (u64, BoxError)> {
        for (at, item) in self.items.iter().enumerate() {
            self.folding.set(at);
            task.stream_time.set(task.stream_time.get().max(item.timestamp));
            match A::key(&item.view, &mut self.scratch) {
                Some(key) => fold_entry::<A>(slots, slots.hash(key), key, item)?,
                None => task.drop_unkeyed(item.offset),
            }
        }
        Ok(())
    }
}

/// Loads the keys of a group that memory lacks with one read.
#[cold]
fn load<A: Aggregation>(
    items: &[Item<'_, A::Record>],
    scratch: &mut Vec<u8>,
    slots: &mut Slots<A::State>,
) -> Result<(), (u64, BoxError)> {
    let Some(first) = items.first() else { return Ok(()) };
    let keys: Vec<Vec<u8>> = items.iter().filter_map(|item| A::key(&item.view, scratch).map(<[u8]>::to_vec)).collect();
    let keys: Vec<&[u8]> = keys.iter().map(Vec::as_slice).collect();
    slots.locate(&keys, &mut Vec::new()).map_err(|error| (first.offset, error.into()))
}

/// Folds one record whose key has no slot or no state yet. A failed one leaves no trace, so that aggregations need no
/// undo.
#[inline(never)]
fn fold_entry<A: Aggregation>(
    slots: &mut Slots<A::State>,
    hash: u64,
    key: &[u8],
    item: &Item<'_, A::Record>,
) -> Result<(), (u64, BoxError)> {
    let slot = slots.entry(hash, key).map_err(|error| (item.offset, error.into()))?;
    let folded = match slots.state(slot) {
        None => {
            let mut first = A::State::default();
            A::fold(&mut first, &item.view).map(|()| *slots.touch(slot, item.timestamp) = Some(first))
        }
        Some(_) => match slots.touch(slot, item.timestamp) {
            Some(state) => A::fold(state, &item.view),
            None => Ok(()),
        },
    };
    folded.map_err(|error| (item.offset, error.into()))
}

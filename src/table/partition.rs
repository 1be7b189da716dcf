//! One partition of a table as its task sees it.

use std::any::Any;
use std::cell::{Cell, RefCell, RefMut};
use std::fmt;
use std::rc::Rc;
use std::sync::Arc;

use super::at_hand::AtHand;
use super::checkpoint::{Checkpoint, CheckpointDone};
use super::def::{Codec, OpenPartition, TableDef};
use super::slots::Slots;
use super::store::{self, Store};
use crate::error::{Error, ErrorKind, Result};
use crate::record::EncodeError;

/// Keys of a prefetch that are looked up together.
const PREFETCH_KEYS: usize = 256;

/// Appends a value's bytes.
pub type Encode<'a> = &'a mut dyn FnMut(&mut Vec<u8>) -> Result<(), EncodeError>;

/// Takes what a commit writes.
pub trait CommitSink {
    /// A key's new stored state for the changelog; `None` for a removed key. `timestamp` is the largest of the records
    /// that changed it.
    fn delta(&mut self, key: &[u8], state: Option<Encode<'_>>, timestamp: i64) -> Result<(), EncodeError>;

    /// A key's new value as it goes on the wire, for the table's output topic; `None` for a removed key. It is what
    /// [`TableDef::value_wire`] makes of the stored state.
    fn output(&mut self, key: &[u8], value: Option<Encode<'_>>, timestamp: i64) -> Result<(), EncodeError>;

    /// Whether it wants to be emptied before it takes more.
    fn is_full(&self) -> bool;
}

/// One partition of a table, whatever its types. It belongs to one task on one thread; user code may hold handles to
/// it over an `.await`.
pub trait AnyPartition: fmt::Debug {
    /// Applies a committed delta that is newer than the store, on opening. When [`AnyPartition::wants_commit`] says
    /// so in between, take a checkpoint.
    fn apply(&self, key: &[u8], stored: Option<&[u8]>) -> Result<()>;

    /// Hands out every key that changed since the last commit, in an order of the table's own, and starts the next
    /// commit. What was handed out stays in memory until a checkpoint has it.
    ///
    /// Stops where the sink is full, and goes on at the next call; nothing may change in between. Returns whether all
    /// were handed out.
    ///
    /// After an error, of the table or of the sink, the partition must be dropped and opened again: some changes were
    /// handed out and others were not.
    fn drain_commit(&self, sink: &mut dyn CommitSink) -> Result<bool>;

    /// Keeps, from the next mark on, what [`AnyPartition::rollback`] needs; without it nothing is kept or spent. With
    /// it, a write of a value that does not fit its schema fails at once, otherwise at the latest at the commit.
    fn enable_undo(&self, on: bool);

    /// Makes a point to roll back to. A commit makes one too.
    fn mark(&self);

    /// Puts back what every key held at the last mark, if the undo was enabled. Slots that were located since stay
    /// valid.
    fn rollback(&self);

    /// Loads those of the keys that memory lacks, many with one read. Keys of other partitions are passed over.
    fn prefetch(&self, keys: &mut dyn Iterator<Item = &[u8]>) -> Result<()>;

    /// Copies out what changed since the last checkpoint, as of the commit just made. `None` while a checkpoint that
    /// was started before has not finished.
    ///
    /// Fails if anything is uncommitted: only what belongs to a committed position may reach the store.
    fn start_checkpoint(&self) -> Result<Option<Checkpoint>>;

    /// Tells which keys will probably be looked up soon, and replaces those that were told before: their slots are
    /// asked for and kept in mind. A hint: nothing is loaded. [`AtHand::set_place`] says whose turn it is.
    fn expect(&self, keys: &[&[u8]]);

    /// Keys that the store was asked for, so far: while it grows, [`AnyPartition::prefetch`] pays.
    fn loads(&self) -> u64;

    /// Takes note that a checkpoint is in the store.
    fn finish_checkpoint(&self, done: CheckpointDone);

    /// The changelog position that the store covers; `None` if it has never had a checkpoint.
    fn store_position(&self) -> Result<Option<u64>>;

    /// The id of the changelog that the store is a copy of, if it says so. Whoever has opened it for another changelog must
    /// not use it.
    fn store_changelog(&self) -> Result<Option<Arc<str>>>;

    /// Whether anything changed since the last commit.
    fn is_dirty(&self) -> bool;

    /// About how many bytes changed since the last checkpoint was started.
    fn dirty_bytes(&self) -> usize;

    /// About how many bytes the cache takes.
    fn memory_bytes(&self) -> usize;

    /// Whether so much changed that a commit, and then a checkpoint, should come before its time. If it still says
    /// so while a checkpoint is running, wait for that.
    fn wants_commit(&self) -> bool;

    /// Whether what changed takes all of its memory, so that nothing more may before it is in the store.
    fn is_full(&self) -> bool;

    /// Evicts keys that the store has, least used first, down to the memory's bound. Slot numbers become invalid.
    fn evict(&self);

    /// The partition, for a handle that knows its type.
    fn as_any(&self) -> &dyn Any;

    /// The shared partition, for a handle that knows its type.
    fn into_any(self: Rc<Self>) -> Rc<dyn Any>;
}

/// One partition of a table with state `S`.
#[derive(Debug)]
pub struct TablePartition<S> {
    slots: RefCell<Slots<S>>,
    store: Arc<dyn Store>,
    at_hand: Rc<AtHand>,
    memory_bytes: usize,
    checkpoint_runs: Cell<bool>,
}

impl<S: Clone + fmt::Debug + 'static> TablePartition<S> {
    pub(super) fn open(def: TableDef, codec: Codec<S>, open: OpenPartition) -> Result<Self> {
        let store = store::open(&def, &open)?;
        let numbers = (open.partition, open.partitions);
        Ok(Self {
            slots: RefCell::new(Slots::new(def, (codec, open.schemas), numbers, open.place, Arc::clone(&store))),
            store,
            at_hand: open.at_hand,
            memory_bytes: open.memory_bytes,
            checkpoint_runs: Cell::new(false),
        })
    }

    /// The slots, for as long as a batch is folded into them. Fails while user code is inside an update.
    #[inline]
    pub fn slots(&self) -> Result<RefMut<'_, Slots<S>>> {
        self.slots.try_borrow_mut().map_err(|_| used_within_itself())
    }

    /// What the task says of the record that is being processed.
    #[inline]
    pub fn at_hand(&self) -> &AtHand {
        &self.at_hand
    }
}

#[cold]
#[inline(never)]
fn used_within_itself() -> Error {
    Error::new(
        ErrorKind::State,
        "a table was used from within its own `update`; finish the update before the next access",
    )
}

impl<S: Clone + fmt::Debug + 'static> AnyPartition for TablePartition<S> {
    fn apply(&self, key: &[u8], stored: Option<&[u8]>) -> Result<()> {
        self.slots()?.apply(key, stored)
    }

    fn drain_commit(&self, sink: &mut dyn CommitSink) -> Result<bool> {
        self.slots()?.drain_commit(sink)
    }

    fn enable_undo(&self, on: bool) {
        self.slots.borrow_mut().cache_mut().enable_undo(on);
    }

    fn mark(&self) {
        self.slots.borrow_mut().cache_mut().mark();
    }

    fn rollback(&self) {
        self.slots.borrow_mut().cache_mut().rollback();
    }

    fn prefetch(&self, keys: &mut dyn Iterator<Item = &[u8]>) -> Result<()> {
        let mut slots = self.slots()?;
        let (mut some, mut found) = (Vec::with_capacity(PREFETCH_KEYS), Vec::new());
        loop {
            some.clear();
            some.extend((&mut *keys).take(PREFETCH_KEYS));
            if some.is_empty() {
                return Ok(());
            }
            slots.locate(&some, &mut found)?;
        }
    }

    fn expect(&self, keys: &[&[u8]]) {
        if let Ok(mut slots) = self.slots.try_borrow_mut() {
            slots.expect(keys);
        }
    }

    fn loads(&self) -> u64 {
        self.slots.borrow().loads()
    }

    fn start_checkpoint(&self) -> Result<Option<Checkpoint>> {
        let mut slots = self.slots()?;
        if !slots.cache().dirty().is_empty() {
            let table = slots.def().name;
            return Err(Error::new(ErrorKind::State, format!("a checkpoint of table {table} needs a commit first")));
        }
        if self.checkpoint_runs.get() {
            return Ok(None);
        }
        let deltas = slots.begin_checkpoint()?;
        self.checkpoint_runs.set(true);
        Ok(Some(Checkpoint { store: Arc::clone(&self.store), deltas }))
    }

    fn finish_checkpoint(&self, done: CheckpointDone) {
        // The value proves that the checkpoint ran.
        let CheckpointDone { position: _ } = done;
        self.slots.borrow_mut().cache_mut().end_checkpoint();
        self.checkpoint_runs.set(false);
    }

    fn store_position(&self) -> Result<Option<u64>> {
        self.store.position()
    }

    fn store_changelog(&self) -> Result<Option<Arc<str>>> {
        self.store.changelog()
    }

    fn is_dirty(&self) -> bool {
        !self.slots.borrow().cache().dirty().is_empty()
    }

    fn dirty_bytes(&self) -> usize {
        let slots = self.slots.borrow();
        slots.cache().bytes_of(slots.cache().unsaved().len())
    }

    fn memory_bytes(&self) -> usize {
        self.slots.borrow().cache().bytes()
    }

    fn wants_commit(&self) -> bool {
        self.dirty_bytes() >= self.memory_bytes / 2
    }

    fn is_full(&self) -> bool {
        self.dirty_bytes() >= self.memory_bytes
    }

    fn evict(&self) {
        self.slots.borrow_mut().evict(self.memory_bytes);
    }

    fn as_any(&self) -> &dyn Any {
        self
    }

    fn into_any(self: Rc<Self>) -> Rc<dyn Any> {
        self
    }
}

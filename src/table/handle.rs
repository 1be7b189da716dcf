//! Typed handles: how user code reads and writes its partition of a table.

use std::borrow::Borrow;
use std::cell::RefCell;
use std::fmt;
use std::marker::PhantomData;
use std::ops::{Bound, RangeBounds};
use std::rc::Rc;

use super::TableState;
use super::merge::Merge;
use super::partition::{AnyPartition, TablePartition};
use super::slots::{SlotNo, Slots};
use super::store::raw_key;
use crate::error::{Error, ErrorKind, Result};
use crate::record::{Key, Value};

/// A task's own hold on its partition, from which handles are lent to user code.
pub struct TableHandle<K, V, S = V> {
    partition: Rc<TablePartition<S>>,
    scratch: RefCell<Vec<u8>>,
    types: PhantomData<fn() -> (K, V)>,
}

impl<K: Key, V: Value, S: TableState<K, V>> TableHandle<K, V, S> {
    /// A handle to a partition that a table of these types opened.
    pub fn new(partition: Rc<dyn AnyPartition>) -> Result<Self> {
        match partition.into_any().downcast() {
            Ok(partition) => Ok(Self { partition, scratch: RefCell::default(), types: PhantomData }),
            Err(_) => Err(Error::new(
                ErrorKind::Plan,
                format!(
                    "the table is not one of {}; give the parameter the types of the table that the agent names",
                    std::any::type_name::<S>()
                ),
            )),
        }
    }

    /// A handle that may write.
    pub fn as_mut(&mut self) -> TableMut<'_, K, V, S> {
        TableMut(self)
    }

    /// A handle that reads.
    pub fn as_ref(&self) -> TableRef<'_, K, V, S> {
        TableRef(self)
    }

    /// The partition, for a fold over whole batches.
    pub fn partition(&self) -> &TablePartition<S> {
        &self.partition
    }

    /// Runs `run` with the raw bytes of a key.
    #[inline]
    fn with_key<R>(&self, key: &K::Ref, run: impl FnOnce(&[u8]) -> Result<R>) -> Result<R> {
        if let Some(raw) = K::as_bytes(key) {
            return run(raw);
        }
        let mut raw = self.scratch.take();
        raw.clear();
        K::encode_key(key, &mut raw)
            .map_err(|error| Error::new(ErrorKind::Encode, "the key cannot be encoded").with_source(error))?;
        let result = run(&raw);
        self.scratch.replace(raw);
        result
    }

    #[inline]
    fn with_slot<R>(&self, key: &K::Ref, run: impl FnOnce(&mut Slots<S>, SlotNo, &[u8]) -> Result<R>) -> Result<R> {
        self.with_key(key, |raw| {
            let mut slots = self.partition.slots()?;
            let slot = slots.look_up(raw, self.partition.at_hand())?;
            slots.cache_mut().reference(slot);
            run(&mut slots, slot, raw)
        })
    }

    /// Runs `change` with a key's state, and marks it as changed.
    #[inline]
    fn with_state<R>(&self, key: &K::Ref, change: impl FnOnce(&mut Option<S>) -> R) -> Result<R> {
        self.with_key(key, |raw| self.partition.slots()?.change(raw, self.partition.at_hand(), change))
    }

    #[inline]
    fn get(&self, key: &K::Ref) -> Result<Option<V>> {
        self.with_slot(key, |slots, slot, raw| match slots.state(slot) {
            Some(state) => state.value(raw).map(Some).map_err(|error| slots.unwritable(raw, error)),
            None => Ok(None),
        })
    }

    fn contains_key(&self, key: &K::Ref) -> Result<bool> {
        self.with_slot(key, |slots, slot, _| Ok(slots.state(slot).is_some()))
    }

    fn range(&self, from: Bound<&K::Ref>, to: Bound<&K::Ref>) -> Result<TableRange<K, V, S>> {
        let owned = |bound: Bound<&K::Ref>| -> Result<Bound<Vec<u8>>> {
            Ok(match bound {
                Bound::Included(key) => Bound::Included(self.with_key(key, |raw| Ok(raw.to_vec()))?),
                Bound::Excluded(key) => Bound::Excluded(self.with_key(key, |raw| Ok(raw.to_vec()))?),
                Bound::Unbounded => Bound::Unbounded,
            })
        };
        let (from, to) = (owned(from)?, owned(to)?);
        let slots = self.partition.slots()?;
        let merge = slots.range(from.as_ref().map(Vec::as_slice), to.as_ref().map(Vec::as_slice));
        Ok(TableRange { merge, types: PhantomData })
    }
}

impl<K, V, S: fmt::Debug> fmt::Debug for TableHandle<K, V, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("TableHandle").field(&self.partition).finish()
    }
}

/// Reads one partition of a table: the partition that the records of the agent come from.
///
/// It sees everything written so far, committed or not.
#[derive(Debug)]
pub struct TableRef<'a, K, V, S = V>(&'a TableHandle<K, V, S>);

impl<K, V, S> Clone for TableRef<'_, K, V, S> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<K, V, S> Copy for TableRef<'_, K, V, S> {}

/// Reads and writes one partition of a table: the partition that the records of the agent come from.
///
/// A key that belongs to another partition is refused ([`ErrorKind::Key`]). Writes become durable, and visible to
/// others, with the next commit. Tables that a declared aggregation fills can be read only.
#[derive(Debug)]
pub struct TableMut<'a, K, V, S = V>(&'a mut TableHandle<K, V, S>);

macro_rules! reading {
    () => {
        /// A key's value.
        pub fn get(&self, key: &K::Ref) -> Result<Option<V>> {
            self.0.get(key)
        }

        /// Whether a key has a value.
        pub fn contains_key(&self, key: &K::Ref) -> Result<bool> {
            self.0.contains_key(key)
        }

        /// The keys within `bounds` and their values, in the order of the keys: numbers by value, all others by
        /// their bytes.
        ///
        /// What the task itself writes later may or may not be seen.
        pub fn range<Q: Borrow<K::Ref>>(&self, bounds: impl RangeBounds<Q>) -> Result<TableRange<K, V, S>> {
            self.0.range(bounds.start_bound().map(Q::borrow), bounds.end_bound().map(Q::borrow))
        }

        /// All keys and their values, in the order of the keys.
        pub fn iter(&self) -> Result<TableRange<K, V, S>> {
            self.0.range(Bound::Unbounded, Bound::Unbounded)
        }
    };
}

impl<K: Key, V: Value, S: TableState<K, V>> TableRef<'_, K, V, S> {
    reading!();
}

impl<K: Key, V: Value, S: TableState<K, V>> TableMut<'_, K, V, S> {
    reading!();

    /// The same handle for less long, to pass it on.
    pub fn reborrow(&mut self) -> TableMut<'_, K, V, S> {
        TableMut(self.0)
    }
}

impl<K: Key, V: Value> TableMut<'_, K, V, V> {
    /// Changes a key's value in place, beginning with the default if it has none.
    #[inline]
    pub fn update<R>(&mut self, key: &K::Ref, change: impl FnOnce(&mut V) -> R) -> Result<R>
    where
        V: Default,
    {
        self.update_or_insert_with(key, V::default, change)
    }

    /// Changes a key's value in place, beginning with `init` if it has none.
    #[inline]
    pub fn update_or_insert_with<R>(
        &mut self,
        key: &K::Ref,
        init: impl FnOnce() -> V,
        change: impl FnOnce(&mut V) -> R,
    ) -> Result<R> {
        self.0.with_state(key, |state| change(state.get_or_insert_with(init)))
    }

    /// Sets a key's value.
    pub fn set(&mut self, key: &K::Ref, value: V) -> Result<()> {
        self.0.with_state(key, |state| *state = Some(value))
    }

    /// Removes a key and returns what it had. A key that had nothing changes nothing.
    pub fn remove(&mut self, key: &K::Ref) -> Result<Option<V>> {
        let now = self.0.partition.at_hand().timestamp();
        self.0.with_slot(key, |slots, slot, _| match slots.state(slot) {
            Some(_) => Ok(slots.touch(slot, now).take()),
            None => Ok(None),
        })
    }
}

/// The keys of a range and their values, in order. A read that fails ends it.
pub struct TableRange<K, V, S = V> {
    merge: Merge<S>,
    types: PhantomData<fn() -> (K, V)>,
}

impl<K: Key, V: Value, S: TableState<K, V>> Iterator for TableRange<K, V, S> {
    type Item = Result<(K, V)>;

    fn next(&mut self) -> Option<Self::Item> {
        let entry = self.merge.next()?;
        Some(entry.and_then(|(key, state)| {
            let raw = raw_key(key, K::SIGNED);
            let key = K::decode_key(&raw)
                .map_err(|error| Error::new(ErrorKind::Corrupt, "a stored key cannot be read").with_source(error))?;
            let value = state.value(&raw).map_err(|error| {
                Error::new(ErrorKind::Encode, format!("the value of key {key:?} does not fit its schema"))
                    .with_source(error)
            })?;
            Ok((key, value))
        }))
    }
}

impl<K, V, S> fmt::Debug for TableRange<K, V, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("TableRange").field(&self.merge).finish()
    }
}

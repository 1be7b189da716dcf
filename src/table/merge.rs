//! A store's keys in order, with newer states laid over them.

use std::collections::VecDeque;
use std::fmt;
use std::iter::Peekable;
use std::ops::Bound;
use std::sync::Arc;
use std::vec::IntoIter;

use super::store::{Store, StoreKey};
use crate::error::Result;

/// Keys that are read from the store at a time. No iterator of the store is kept open in between.
const PAGE: usize = 512;

/// The bounds of a range, as the store orders keys.
pub(super) type StoreBounds = (Bound<StoreKey>, Bound<StoreKey>);

type Decode<T> = Box<dyn Fn(&[u8]) -> Result<T>>;

/// Walks a range: the store's states page by page, and newer ones as they were when the walk began.
pub(super) struct Merge<T> {
    store: Arc<dyn Store>,
    from: Bound<StoreKey>,
    to: Bound<StoreKey>,
    page: VecDeque<(StoreKey, Vec<u8>)>,
    store_done: bool,
    overlay: Peekable<IntoIter<(StoreKey, Option<T>)>>,
    decode: Decode<T>,
}

impl<T> Merge<T> {
    pub(super) fn new(
        store: Arc<dyn Store>,
        (from, to): StoreBounds,
        overlay: impl Iterator<Item = (StoreKey, Option<T>)>,
        decode: impl Fn(&[u8]) -> Result<T> + 'static,
    ) -> Self {
        let mut overlay: Vec<_> = overlay.filter(|(key, _)| is_within(key, &from, &to)).collect();
        overlay.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        let store_done = !store.holds_keys() || is_empty(&from, &to);
        Self {
            store,
            from,
            to,
            page: VecDeque::new(),
            store_done,
            overlay: overlay.into_iter().peekable(),
            decode: Box::new(decode),
        }
    }

    fn fill(&mut self) -> Result<()> {
        if !self.page.is_empty() || self.store_done {
            return Ok(());
        }
        // A failed read ends the walk: going on would skip keys in silence.
        self.store_done = true;
        let from = self.from.as_ref().map(Vec::as_slice);
        self.page = self.store.scan(from, self.to.as_ref().map(Vec::as_slice), PAGE)?.into();
        if let Some((last, _)) = self.page.back().filter(|_| self.page.len() >= PAGE) {
            self.from = Bound::Excluded(last.clone());
            self.store_done = false;
        }
        Ok(())
    }

    fn step(&mut self) -> Result<Option<(StoreKey, T)>> {
        loop {
            self.fill()?;
            let stored_key = self.page.front().map(|(key, _)| key);
            let newer = self.overlay.next_if(|(key, _)| stored_key.is_none_or(|stored| key <= stored));
            match newer {
                Some((key, state)) => {
                    if self.page.front().is_some_and(|(stored, _)| *stored == key) {
                        self.page.pop_front();
                    }
                    if let Some(state) = state {
                        return Ok(Some((key, state)));
                    }
                }
                None => {
                    let Some((key, stored)) = self.page.pop_front() else { return Ok(None) };
                    return Ok(Some((key, (self.decode)(&stored)?)));
                }
            }
        }
    }
}

impl<T> Iterator for Merge<T> {
    type Item = Result<(StoreKey, T)>;

    fn next(&mut self) -> Option<Self::Item> {
        self.step().transpose()
    }
}

impl<T> fmt::Debug for Merge<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Merge").field("from", &self.from).field("to", &self.to).finish_non_exhaustive()
    }
}

fn is_within(key: &StoreKey, from: &Bound<StoreKey>, to: &Bound<StoreKey>) -> bool {
    let after = match from {
        Bound::Included(from) => key >= from,
        Bound::Excluded(from) => key > from,
        Bound::Unbounded => true,
    };
    after
        && match to {
            Bound::Included(to) => key <= to,
            Bound::Excluded(to) => key < to,
            Bound::Unbounded => true,
        }
}

fn is_empty(from: &Bound<StoreKey>, to: &Bound<StoreKey>) -> bool {
    match (from, to) {
        (Bound::Included(from), Bound::Included(to)) => from > to,
        (Bound::Included(from) | Bound::Excluded(from), Bound::Included(to) | Bound::Excluded(to)) => from >= to,
        _ => false,
    }
}

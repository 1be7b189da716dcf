//! Arrays and maps: owned, or walked in place.

use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;

use super::codec::{Codec, write_bytes, write_long};
use super::plan::{EXACT, Plan, no_plan};
use super::{DecodeError, EncodeError, Input, Step};

/// Room that a count alone may claim; a longer list grows as its items are read.
const MAX_CLAIMED: usize = 256;

/// Memory that items which take no bytes may take in all: of a record without fields a reader may make one with many.
const MAX_EMPTY_MEMORY: usize = 1 << 20;

/// Reads every item of every block; returns how many there were.
#[inline]
fn read_items<'a>(
    input: &mut Input<'a>,
    min_len: usize,
    mut item: impl FnMut(&mut Input<'a>, usize) -> Result<(), DecodeError>,
) -> Result<usize, DecodeError> {
    let mut total = 0;
    loop {
        let block = input.read_block(min_len)?;
        if block.count == 0 {
            input.end_block(&block)?;
            return Ok(total);
        }
        for left in (0..block.count).rev() {
            if let Err(error) = item(input, left + 1) {
                return Err(error.within(&format!("[{total}]")));
            }
            total += 1;
        }
        input.end_block(&block)?;
    }
}

/// The part of `before` that has been read since.
#[inline]
fn read_since<'a>(before: &'a [u8], input: &Input<'a>) -> &'a [u8] {
    &before[..before.len() - input.rest().len()]
}

/// An `array`
#[derive(Debug)]
pub struct Array<C>(PhantomData<C>);

impl<C: Codec + 'static> Codec for Array<C> {
    type Owned = Vec<C::Owned>;
    type View<'a> = ArrayView<'a, C>;
    const MIN_LEN: usize = 1;

    fn encode(value: &Vec<C::Owned>, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        if !value.is_empty() {
            write_long(value.len() as i64, out);
            for (index, item) in value.iter().enumerate() {
                if let Err(error) = C::encode(item, out) {
                    return Err(error.within(&format!("[{index}]")));
                }
            }
        }
        out.push(0);
        Ok(())
    }

    fn decode(input: &mut Input<'_>) -> Result<Vec<C::Owned>, DecodeError> {
        collect(input, C::MIN_LEN, C::decode)
    }

    fn view<'a>(input: &mut Input<'a>) -> Result<ArrayView<'a, C>, DecodeError> {
        let before = input.rest();
        let len = read_items(input, C::MIN_LEN, |input, _| C::view(input).map(drop))?;
        let walk = Walk { bytes: read_since(before, input), len, step: &EXACT, plan: None };
        Ok(ArrayView { walk, items: PhantomData })
    }

    fn own(view: &ArrayView<'_, C>) -> Vec<C::Owned> {
        view.iter().map(|item| C::own(&item)).collect()
    }

    fn convert(input: &mut Input<'_>, step: &Step) -> Result<Vec<C::Owned>, DecodeError> {
        let Some((step, min_len)) = step.items() else { return Err(no_plan(input)) };
        collect(input, min_len, |input| C::resolve(input, step))
    }

    fn convert_view<'a>(input: &mut Input<'a>, step: &'a Step) -> Result<ArrayView<'a, C>, DecodeError> {
        let Some((step, min_len)) = step.items() else { return Err(no_plan(input)) };
        let before = input.rest();
        let len = read_items(input, min_len, |input, _| C::resolve_view(input, step).map(drop))?;
        let walk = Walk { bytes: read_since(before, input), len, step, plan: input.plan() };
        Ok(ArrayView { walk, items: PhantomData })
    }
}

/// Reads the items of an array.
#[inline]
fn collect<'a, T>(
    input: &mut Input<'a>,
    min_len: usize,
    item: impl Fn(&mut Input<'a>) -> Result<T, DecodeError>,
) -> Result<Vec<T>, DecodeError> {
    let mut items = Vec::new();
    read_items(input, min_len, |input, left| {
        if items.len() == items.capacity() {
            items.reserve(left.min(MAX_CLAIMED));
        }
        items.push(item(input)?);
        if min_len == 0 && items.len() * size_of::<T>() > MAX_EMPTY_MEMORY {
            let len = items.len();
            return Err(
                input.error(format!("{len} items that take no bytes, and more than {MAX_EMPTY_MEMORY} of memory"))
            );
        }
        Ok(())
    })?;
    Ok(items)
}

/// Items in the bytes that they were read from, checked as a whole.
#[derive(Clone, Copy, Debug)]
struct Walk<'a> {
    bytes: &'a [u8],
    len: usize,
    /// What to do with each of them, and what it belongs to, if another schema wrote them.
    step: &'a Step,
    plan: Option<&'a Plan>,
}

impl<'a> Walk<'a> {
    fn blocks(&self) -> Blocks<'a> {
        let mut input = Input::new(self.bytes);
        if let Some(plan) = self.plan {
            input.follow(plan);
        }
        Blocks { input, in_block: 0, left: self.len, step: self.step }
    }
}

/// An array in the bytes that it was read from. It was checked as a whole; its items are read as they are asked for.
pub struct ArrayView<'a, C> {
    walk: Walk<'a>,
    items: PhantomData<fn() -> C>,
}

impl<'a, C: Codec> ArrayView<'a, C> {
    /// How many items it has.
    pub fn len(&self) -> usize {
        self.walk.len
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.walk.len == 0
    }

    /// Its items in order.
    pub fn iter(&self) -> ArrayIter<'a, C> {
        ArrayIter { blocks: self.walk.blocks(), items: PhantomData }
    }
}

impl<C> Clone for ArrayView<'_, C> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<C> Copy for ArrayView<'_, C> {}

impl<'a, C: Codec> fmt::Debug for ArrayView<'a, C>
where
    C::View<'a>: fmt::Debug,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

impl<'a, C: Codec> IntoIterator for &ArrayView<'a, C> {
    type Item = C::View<'a>;
    type IntoIter = ArrayIter<'a, C>;

    fn into_iter(self) -> ArrayIter<'a, C> {
        self.iter()
    }
}

/// Walks over bytes that were checked already: it stops where they contradict themselves, which cannot be.
#[derive(Clone, Debug)]
struct Blocks<'a> {
    input: Input<'a>,
    in_block: usize,
    left: usize,
    step: &'a Step,
}

impl<'a> Blocks<'a> {
    #[inline]
    fn next<T>(&mut self, read: impl FnOnce(&mut Input<'a>, &'a Step) -> Result<T, DecodeError>) -> Option<T> {
        self.left = self.left.checked_sub(1)?;
        if self.in_block == 0 {
            self.in_block = self.input.skip_block_head().ok()?;
        }
        self.in_block = self.in_block.checked_sub(1)?;
        read(&mut self.input, self.step).ok()
    }
}

/// The items of an [`ArrayView`].
pub struct ArrayIter<'a, C> {
    blocks: Blocks<'a>,
    items: PhantomData<fn() -> C>,
}

impl<C> fmt::Debug for ArrayIter<'_, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ArrayIter").field("left", &self.blocks.left).finish_non_exhaustive()
    }
}

impl<'a, C: Codec> Iterator for ArrayIter<'a, C> {
    type Item = C::View<'a>;

    #[inline]
    fn next(&mut self) -> Option<C::View<'a>> {
        self.blocks.next(C::resolve_view)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.blocks.left, Some(self.blocks.left))
    }
}

impl<C: Codec> ExactSizeIterator for ArrayIter<'_, C> {}

/// A `map`
#[derive(Debug)]
pub struct Map<C>(PhantomData<C>);

impl<C: Codec + 'static> Codec for Map<C> {
    type Owned = BTreeMap<String, C::Owned>;
    type View<'a> = MapView<'a, C>;
    const MIN_LEN: usize = 1;

    fn encode(value: &BTreeMap<String, C::Owned>, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        if !value.is_empty() {
            write_long(value.len() as i64, out);
            for (key, item) in value {
                write_bytes(key.as_bytes(), out);
                if let Err(error) = C::encode(item, out) {
                    return Err(error.within(&format!("[{key:?}]")));
                }
            }
        }
        out.push(0);
        Ok(())
    }

    fn decode(input: &mut Input<'_>) -> Result<BTreeMap<String, C::Owned>, DecodeError> {
        collect_entries(input, 1 + C::MIN_LEN, C::decode)
    }

    fn view<'a>(input: &mut Input<'a>) -> Result<MapView<'a, C>, DecodeError> {
        let before = input.rest();
        let len = read_items(input, 1 + C::MIN_LEN, |input, _| {
            input.read_str()?;
            C::view(input).map(drop)
        })?;
        let walk = Walk { bytes: read_since(before, input), len, step: &EXACT, plan: None };
        Ok(MapView { walk, values: PhantomData })
    }

    fn own(view: &MapView<'_, C>) -> BTreeMap<String, C::Owned> {
        view.iter().map(|(key, value)| (key.to_owned(), C::own(&value))).collect()
    }

    fn convert(input: &mut Input<'_>, step: &Step) -> Result<BTreeMap<String, C::Owned>, DecodeError> {
        let Some((step, min_len)) = step.items() else { return Err(no_plan(input)) };
        collect_entries(input, min_len, |input| C::resolve(input, step))
    }

    fn convert_view<'a>(input: &mut Input<'a>, step: &'a Step) -> Result<MapView<'a, C>, DecodeError> {
        let Some((step, min_len)) = step.items() else { return Err(no_plan(input)) };
        let before = input.rest();
        let len = read_items(input, min_len, |input, _| {
            input.read_str()?;
            C::resolve_view(input, step).map(drop)
        })?;
        let walk = Walk { bytes: read_since(before, input), len, step, plan: input.plan() };
        Ok(MapView { walk, values: PhantomData })
    }
}

/// Reads the entries of a map.
#[inline]
fn collect_entries<'a, T>(
    input: &mut Input<'a>,
    min_len: usize,
    value: impl Fn(&mut Input<'a>) -> Result<T, DecodeError>,
) -> Result<BTreeMap<String, T>, DecodeError> {
    let mut entries = BTreeMap::new();
    read_items(input, min_len, |input, _| {
        let key = input.read_str()?.to_owned();
        entries.insert(key, value(input)?);
        Ok(())
    })?;
    Ok(entries)
}

/// A map in the bytes that it was read from. It was checked as a whole; its entries are read as they are asked for.
pub struct MapView<'a, C> {
    walk: Walk<'a>,
    values: PhantomData<fn() -> C>,
}

impl<'a, C: Codec> MapView<'a, C> {
    /// How many entries were written; a key that was written twice counts twice.
    pub fn len(&self) -> usize {
        self.walk.len
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.walk.len == 0
    }

    /// Its entries as they were written.
    pub fn iter(&self) -> MapIter<'a, C> {
        MapIter { blocks: self.walk.blocks(), values: PhantomData }
    }

    /// The value of a key, found by walking; the last one where a key was written twice.
    pub fn get(&self, key: &str) -> Option<C::View<'a>> {
        self.iter().filter(|(found, _)| *found == key).last().map(|(_, value)| value)
    }
}

impl<C> Clone for MapView<'_, C> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<C> Copy for MapView<'_, C> {}

impl<'a, C: Codec> fmt::Debug for MapView<'a, C>
where
    C::View<'a>: fmt::Debug,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

impl<'a, C: Codec> IntoIterator for &MapView<'a, C> {
    type Item = (&'a str, C::View<'a>);
    type IntoIter = MapIter<'a, C>;

    fn into_iter(self) -> MapIter<'a, C> {
        self.iter()
    }
}

/// The entries of a [`MapView`].
pub struct MapIter<'a, C> {
    blocks: Blocks<'a>,
    values: PhantomData<fn() -> C>,
}

impl<C> fmt::Debug for MapIter<'_, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MapIter").field("left", &self.blocks.left).finish_non_exhaustive()
    }
}

impl<'a, C: Codec> Iterator for MapIter<'a, C> {
    type Item = (&'a str, C::View<'a>);

    #[inline]
    fn next(&mut self) -> Option<(&'a str, C::View<'a>)> {
        self.blocks.next(|input, step| Ok((input.read_str()?, C::resolve_view(input, step)?)))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.blocks.left, Some(self.blocks.left))
    }
}

impl<C: Codec> ExactSizeIterator for MapIter<'_, C> {}

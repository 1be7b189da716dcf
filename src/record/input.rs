//! Reading a datum, primitive by primitive. Nothing that it says of itself (a length, a count) is trusted.

use super::plan::Plan;
use super::{DecodeError, SINGLE_OBJECT_HEADER_LEN};

/// Items that take no bytes at all, a `null` or an empty record, could be claimed without end: this many are allowed
/// in one datum.
const MAX_EMPTY_ITEMS: usize = 65_536;

/// Records inside of records that a value may have where its type contains itself. Any deeper, and reading it, or
/// dropping it, could overflow a thread's stack.
pub(crate) const MAX_VALUE_DEPTH: usize = 128;

/// Bytes of a record up to which that many may be nested; of larger ones fewer. A level takes about eight times its
/// record's size of the stack, and over twenty times in a build without optimisation: the deepest value must stay well
/// below the 2 MiB that a thread has by default.
const LEVEL_SIZE: usize = 384;

/// What a level of records of that size counts; all around a place may count [`MAX_NESTED`] together.
pub(crate) const fn level_cost(size: usize) -> usize {
    if size > LEVEL_SIZE { size } else { LEVEL_SIZE }
}

/// See [`level_cost`].
pub(crate) const MAX_NESTED: usize = MAX_VALUE_DEPTH * LEVEL_SIZE;

/// Bytes that an int may have, also where fewer would do, as Java has it.
const MAX_INT: usize = 5;

/// The same for a long.
const MAX_LONG: usize = 10;

/// The rest of a datum that is being decoded.
///
/// What reads primitives is always inlined: an error is seven words, which would go through memory, and its making
/// stands apart.
#[derive(Clone, Debug)]
pub struct Input<'a> {
    rest: &'a [u8],
    len: usize,
    empty_items: usize,
    /// What the records around this place whose types contain themselves count.
    nested: usize,
    /// What the steps belong to that are followed, if another schema wrote the datum.
    plan: Option<&'a Plan>,
}

impl<'a> Input<'a> {
    /// Begins to read `bytes`.
    #[inline]
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes, len: bytes.len(), empty_items: 0, nested: 0, plan: None }
    }

    /// Begins to read the datum behind a single-object header, so that positions count the header too.
    #[inline]
    pub(crate) fn after_header(datum: &'a [u8]) -> Self {
        Self { rest: datum, len: datum.len() + SINGLE_OBJECT_HEADER_LEN, empty_items: 0, nested: 0, plan: None }
    }

    /// From now on steps of that plan are followed.
    #[inline]
    pub(crate) fn follow(&mut self, plan: &'a Plan) {
        self.plan = Some(plan);
    }

    #[inline]
    pub(super) fn plan(&self) -> Option<&'a Plan> {
        self.plan
    }

    /// What has not been read yet.
    #[inline]
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// How many bytes have been read.
    #[inline(always)]
    pub fn position(&self) -> usize {
        self.len - self.rest.len()
    }

    /// Reads a record whose type contains itself; `cost` is that of its [`level_cost`].
    #[inline]
    pub(crate) fn nested<T>(
        &mut self,
        cost: usize,
        read: impl FnOnce(&mut Self) -> Result<T, DecodeError>,
    ) -> Result<T, DecodeError> {
        if self.nested + cost > MAX_NESTED {
            return Err(self.error(format!("records nested more than {} deep", MAX_NESTED / cost)));
        }
        self.nested += cost;
        let read = read(self);
        self.nested -= cost;
        read
    }

    /// An error at this place. What makes errors gets numbers, not the input: one that nobody else can see stays in
    /// registers.
    #[inline]
    pub(crate) fn error(&self, reason: impl Into<String>) -> DecodeError {
        DecodeError::new(self.position(), reason)
    }

    #[inline(always)]
    fn ends(&self, need: usize) -> DecodeError {
        cut_off(self.position(), need, self.rest.len())
    }

    /// One byte.
    #[inline]
    pub fn read_byte(&mut self) -> Result<u8, DecodeError> {
        match self.rest.split_first() {
            Some((byte, rest)) => {
                self.rest = rest;
                Ok(*byte)
            }
            None => Err(self.ends(1)),
        }
    }

    /// That many bytes, borrowed.
    #[inline(always)]
    pub fn read_slice(&mut self, len: usize) -> Result<&'a [u8], DecodeError> {
        match self.rest.split_at_checked(len) {
            Some((slice, rest)) => {
                self.rest = rest;
                Ok(slice)
            }
            None => Err(self.ends(len)),
        }
    }

    /// `N` bytes, borrowed.
    #[inline(always)]
    pub fn read_array<const N: usize>(&mut self) -> Result<&'a [u8; N], DecodeError> {
        match self.rest.split_first_chunk() {
            Some((array, rest)) => {
                self.rest = rest;
                Ok(array)
            }
            None => Err(self.ends(N)),
        }
    }

    /// A `boolean`.
    #[inline(always)]
    pub fn read_bool(&mut self) -> Result<bool, DecodeError> {
        match self.rest.first() {
            Some(0) => {
                self.rest = &self.rest[1..];
                Ok(false)
            }
            Some(1) => {
                self.rest = &self.rest[1..];
                Ok(true)
            }
            Some(other) => Err(no_boolean(self.position(), *other)),
            None => Err(self.ends(1)),
        }
    }

    /// A `long`: zigzag, seven bits a byte.
    #[inline(always)]
    pub fn read_long(&mut self) -> Result<i64, DecodeError> {
        let zigzag = match self.rest {
            [a, rest @ ..] if *a < 0x80 => {
                self.rest = rest;
                u64::from(*a)
            }
            [a, b, rest @ ..] if *b < 0x80 => {
                self.rest = rest;
                u64::from(*a & 0x7f) | u64::from(*b) << 7
            }
            [a, b, c, rest @ ..] if *c < 0x80 => {
                self.rest = rest;
                u64::from(*a & 0x7f) | u64::from(*b & 0x7f) << 7 | u64::from(*c) << 14
            }
            [a, b, c, d, rest @ ..] if *d < 0x80 => {
                self.rest = rest;
                u64::from(*a & 0x7f) | u64::from(*b & 0x7f) << 7 | u64::from(*c & 0x7f) << 14 | u64::from(*d) << 21
            }
            _ => self.read_varint(MAX_LONG)?,
        };
        Ok((zigzag >> 1) as i64 ^ -((zigzag & 1) as i64))
    }

    /// A number of several bytes.
    #[inline(always)]
    fn read_varint(&mut self, max_len: usize) -> Result<u64, DecodeError> {
        match varint(self.rest, max_len) {
            (number, len @ 1..) => {
                self.rest = &self.rest[len..];
                Ok(number)
            }
            _ => Err(no_varint(self.position(), self.rest.len(), max_len)),
        }
    }

    /// An `int`.
    #[inline(always)]
    pub fn read_int(&mut self) -> Result<i32, DecodeError> {
        let before = self.position();
        let zigzag = match self.rest {
            [a, rest @ ..] if *a < 0x80 => {
                self.rest = rest;
                u64::from(*a)
            }
            [a, b, rest @ ..] if *b < 0x80 => {
                self.rest = rest;
                u64::from(*a & 0x7f) | u64::from(*b) << 7
            }
            [a, b, c, rest @ ..] if *c < 0x80 => {
                self.rest = rest;
                u64::from(*a & 0x7f) | u64::from(*b & 0x7f) << 7 | u64::from(*c) << 14
            }
            _ => self.read_varint(MAX_INT)?,
        };
        let long = (zigzag >> 1) as i64 ^ -((zigzag & 1) as i64);
        match i32::try_from(long) {
            Ok(int) => Ok(int),
            Err(_) => Err(no_int(before, long)),
        }
    }

    /// A `float`.
    #[inline(always)]
    pub fn read_float(&mut self) -> Result<f32, DecodeError> {
        self.read_array().map(|bytes| f32::from_le_bytes(*bytes))
    }

    /// A `double`.
    #[inline(always)]
    pub fn read_double(&mut self) -> Result<f64, DecodeError> {
        self.read_array().map(|bytes| f64::from_le_bytes(*bytes))
    }

    /// `bytes`, borrowed.
    #[inline(always)]
    pub fn read_bytes(&mut self) -> Result<&'a [u8], DecodeError> {
        let before = self.position();
        let len = self.read_long()?;
        match usize::try_from(len) {
            Ok(len) => self.read_slice(len),
            Err(_) => Err(no_length(before, len)),
        }
    }

    /// A `string`, borrowed.
    #[inline(always)]
    pub fn read_str(&mut self) -> Result<&'a str, DecodeError> {
        let bytes = self.read_bytes()?;
        match super::utf8::from_utf8(bytes) {
            Ok(text) => Ok(text),
            Err(error) => Err(no_text(self.position() - bytes.len() + error.valid_up_to())),
        }
    }

    /// The number of a union's branch or of a symbol, below `count`.
    #[inline(always)]
    pub fn read_index(&mut self, count: usize) -> Result<usize, DecodeError> {
        let before = self.position();
        let index = self.read_long()?;
        match usize::try_from(index) {
            Ok(index) if index < count => Ok(index),
            _ => Err(no_index(before, index, count)),
        }
    }

    /// The head of a block of an array or map: how many items, and where its bytes must end if it says so.
    ///
    /// `min_len` is what an item takes at least.
    pub(crate) fn read_block(&mut self, min_len: usize) -> Result<Block, DecodeError> {
        let position = self.position();
        let count = self.read_long()?;
        let end = if count < 0 {
            let size = self.read_long()?;
            match usize::try_from(size) {
                Ok(size) if size <= self.rest.len() => Some(self.position() + size),
                _ => {
                    let left = self.rest.len();
                    return Err(DecodeError::new(position, format!("a block of {size} bytes where {left} are left")));
                }
            }
        } else {
            None
        };
        let possible = match min_len {
            0 => MAX_EMPTY_ITEMS.saturating_sub(self.empty_items),
            _ => self.rest.len() / min_len,
        };
        match usize::try_from(count.unsigned_abs()) {
            Ok(count) if count <= possible => {
                if min_len == 0 {
                    self.empty_items += count;
                }
                Ok(Block { count, end })
            }
            _ => Err(DecodeError::new(
                position,
                format!("{} items where at most {possible} can be", count.unsigned_abs()),
            )),
        }
    }

    /// The count of a block in bytes that were checked before.
    #[inline]
    pub(crate) fn skip_block_head(&mut self) -> Result<usize, DecodeError> {
        let count = self.read_long()?;
        if count < 0 {
            self.read_long()?;
        }
        Ok(count.unsigned_abs() as usize)
    }

    /// Checks that a block ended where it said.
    pub(crate) fn end_block(&self, block: &Block) -> Result<(), DecodeError> {
        match block.end {
            Some(end) if end != self.position() => Err(self.error(format!("the block should end at byte {end}"))),
            _ => Ok(()),
        }
    }
}

/// A number at the beginning, and how many bytes it has; 0 of them where there is none.
///
/// Up to eight are taken as one word: the first byte without a high bit is the last, and the groups of seven bits move
/// together in three steps.
#[inline(never)]
fn varint(bytes: &[u8], max_len: usize) -> (u64, usize) {
    if let Some(chunk) = bytes.first_chunk() {
        let word = u64::from_le_bytes(*chunk);
        let bits = (!word & 0x8080_8080_8080_8080).trailing_zeros() + 1;
        let len = bits as usize / 8;
        if len <= max_len && bits <= 64 {
            let word = word & (u64::MAX >> (64 - bits));
            let pairs = word & 0x007f_007f_007f_007f | (word & 0x7f00_7f00_7f00_7f00) >> 1;
            let fours = pairs & 0x0000_3fff_0000_3fff | (pairs & 0x3fff_0000_3fff_0000) >> 2;
            return (fours & 0x0fff_ffff | (fours & 0x0fff_ffff_0000_0000) >> 4, len);
        }
    }
    let mut value = 0_u64;
    for (index, byte) in bytes.iter().take(max_len).enumerate() {
        if index == MAX_LONG - 1 && *byte > 1 {
            break;
        }
        value |= u64::from(byte & 0x7f) << (7 * index);
        if *byte < 0x80 {
            return (value, index + 1);
        }
    }
    (0, 0)
}

#[cold]
#[inline(never)]
fn no_varint(position: usize, left: usize, max_len: usize) -> DecodeError {
    match left {
        _ if left < max_len => cut_off(position, left + 1, left),
        _ if max_len == MAX_INT => DecodeError::new(position, format!("an int of more than {MAX_INT} bytes")),
        _ => DecodeError::new(position, "a number of more than 64 bits"),
    }
}

#[cold]
#[inline(never)]
fn no_boolean(position: usize, byte: u8) -> DecodeError {
    DecodeError::new(position, format!("a boolean is 0 or 1, this byte is {byte}"))
}

#[cold]
#[inline(never)]
fn no_length(position: usize, len: i64) -> DecodeError {
    DecodeError::new(position, format!("length {len}"))
}

#[cold]
#[inline(never)]
fn no_text(position: usize) -> DecodeError {
    DecodeError::new(position, "a string that is not UTF-8")
}

#[cold]
#[inline(never)]
fn no_index(position: usize, index: i64, count: usize) -> DecodeError {
    DecodeError::new(position, format!("number {index} where 0 to {} are known", count.max(1) - 1))
}

#[cold]
#[inline(never)]
fn no_int(position: usize, long: i64) -> DecodeError {
    DecodeError::new(position, format!("{long} is out of the range of an int"))
}

#[cold]
#[inline(never)]
fn cut_off(position: usize, need: usize, left: usize) -> DecodeError {
    DecodeError::new(position, format!("{need} bytes are needed and {left} are left; the value is cut off"))
}

/// The head of a block of items.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Block {
    /// Its items; none in the last.
    pub(crate) count: usize,
    /// Position at which it ends, if it said.
    pub(crate) end: Option<usize>,
}

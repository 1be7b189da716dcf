//! Random schemas, random values of them, and random changes to them.
//!
//! Everything is drawn from [`Choices`]: bytes that proptest or a fuzzer makes and shrinks, or a seed. The values are
//! encoded here, by code of its own, so that the library is held against something else than itself.

mod evolve;
mod schema;
mod values;

pub(crate) use evolve::evolve;
pub(crate) use schema::{Schema, Style, random_schema};
pub(crate) use values::{Datum, Limits, encode, random_datum};

/// Where decisions come from. When the bytes are used up every choice is the first, which is always the simplest.
#[derive(Clone, Debug)]
pub(crate) struct Choices<'a> {
    bytes: &'a [u8],
    /// State of a generator that goes on after the bytes, or 0.
    state: u64,
}

impl<'a> Choices<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, state: 0 }
    }

    /// Never used up.
    pub(crate) fn seeded(seed: u64) -> Self {
        Self { bytes: &[], state: seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1 }
    }

    pub(crate) fn byte(&mut self) -> u8 {
        if let Some((first, rest)) = self.bytes.split_first() {
            self.bytes = rest;
            return *first;
        }
        if self.state == 0 {
            return 0;
        }
        self.state ^= self.state >> 12;
        self.state ^= self.state << 25;
        self.state ^= self.state >> 27;
        (self.state.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 56) as u8
    }

    /// A number below `end`, which is at most 65,536.
    pub(crate) fn below(&mut self, end: usize) -> usize {
        match end {
            0 | 1 => 0,
            2..=256 => usize::from(self.byte()) % end,
            _ => usize::from(u16::from_le_bytes([self.byte(), self.byte()])) % end,
        }
    }

    /// True once in `n`; false when the bytes are used up.
    pub(crate) fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == n - 1
    }

    pub(crate) fn pick<T: Clone>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())].clone()
    }

    /// Any number, the small ones and the limits more often.
    pub(crate) fn long(&mut self) -> i64 {
        match self.below(8) {
            0..4 => i64::from(self.byte() as i8),
            4 => i64::from(i16::from_le_bytes([self.byte(), self.byte()])),
            5 => i64::from(self.all::<4>().iter().fold(0_i32, |number, byte| number << 8 | i32::from(*byte))),
            6 => i64::from_le_bytes(self.all()),
            _ => self.pick(&[i64::MAX, i64::MIN, 1 << 31, -(1 << 31) - 1, (1 << 31) - 1, 0]),
        }
    }

    pub(crate) fn all<const N: usize>(&mut self) -> [u8; N] {
        std::array::from_fn(|_| self.byte())
    }
}

//! A fold that the user writes.

use super::keep::Keepable;
use super::{Accumulator, AggregateError, Finish};
use crate::record::DecodeError;

/// The accumulator of a user's own fold: any scalar, beginning with its default.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Fold<T>(T);

impl<T: Keepable + Default> Fold<T> {
    /// What was folded so far.
    pub fn get(&self) -> &T {
        &self.0
    }

    /// Replaces what was folded so far.
    pub fn set(&mut self, value: T) {
        self.0 = value;
    }
}

impl<T: Keepable + Default> Accumulator for Fold<T> {
    const LAYOUT: &'static str = T::LAYOUTS[2];

    fn encode(&self, out: &mut Vec<u8>) {
        self.0.encode_field(out);
    }

    fn decode(input: &mut &[u8]) -> Result<Self, DecodeError> {
        T::decode_field(input).map(Self)
    }
}

impl<T: Keepable + Default> Finish<T> for Fold<T> {
    fn finish(&self) -> Result<T, AggregateError> {
        Ok(self.0.clone())
    }
}

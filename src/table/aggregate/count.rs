//! How many.

use super::field::StateField;
use super::{Accumulator, Aggregate, AggregateError, Finish};
use crate::record::{DecodeError, FieldType};

/// Counts the values of a field; null is not counted. Of nothing it is 0.
#[derive(Clone, Copy, Debug)]
pub enum Count {}

/// Counts records, whatever is in them: `count()` without a field.
#[derive(Clone, Copy, Debug)]
pub enum CountRecords {}

/// The accumulator of [`Count`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally(i64);

impl Tally {
    /// Counts one. A hundred years of a record each nanosecond fit.
    #[inline]
    pub fn add(&mut self) {
        self.0 = self.0.saturating_add(1);
    }
}

impl Accumulator for Tally {
    const LAYOUT: &'static str = "count:long";

    #[inline]
    fn encode(&self, out: &mut Vec<u8>) {
        self.0.encode_field(out);
    }

    #[inline]
    fn decode(input: &mut &[u8]) -> Result<Self, DecodeError> {
        i64::decode_field(input).map(Self)
    }
}

impl<T: FieldType + IsNull> Aggregate<T> for Count {
    type Acc = Tally;

    #[inline]
    fn fold(acc: &mut Tally, value: T::View<'_>) -> Result<(), AggregateError> {
        if !T::is_null(&value) {
            acc.add();
        }
        Ok(())
    }
}

impl CountRecords {
    /// Counts a record.
    #[inline]
    pub fn fold(acc: &mut Tally) {
        acc.add();
    }
}

/// Whether a field's view is null.
pub trait IsNull: FieldType {
    /// Whether the value is null.
    fn is_null(view: &Self::View<'_>) -> bool;
}

macro_rules! never_null {
    ($($type:ty),* $(,)?) => {$(
        impl IsNull for $type {
            #[inline]
            fn is_null(_view: &Self::View<'_>) -> bool {
                false
            }
        }
    )*};
}

never_null!(
    bool,
    i32,
    i64,
    f32,
    f64,
    String,
    bytes::Bytes,
    rust_decimal::Decimal,
    jiff::civil::Date,
    jiff::Timestamp,
    uuid::Uuid,
);

impl<T: FieldType> IsNull for Option<T> {
    #[inline]
    fn is_null(view: &Self::View<'_>) -> bool {
        view.is_none()
    }
}

impl Finish<i64> for Tally {
    fn finish(&self) -> Result<i64, AggregateError> {
        Ok(self.0)
    }
}

impl Finish<Option<i64>> for Tally {
    fn finish(&self) -> Result<Option<i64>, AggregateError> {
        Ok(Some(self.0))
    }
}

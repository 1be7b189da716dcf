//! Sums: whole numbers and decimals checked, floating point as it is.

use rust_decimal::Decimal;

use super::field::StateField;
use super::{Accumulator, Aggregate, AggregateError, Finish};
use crate::record::{DecodeError, FieldType};

/// Adds the values of a field; null is skipped. Of nothing it is 0. An overflow is an error and changes nothing.
#[derive(Clone, Copy, Debug)]
pub enum Sum {}

/// A number that can be summed.
pub trait Summable: FieldType + for<'a> FieldType<View<'a> = Self> + Copy {
    /// What the sum is kept in.
    type Wide: SumNumber;

    /// The value as the sum keeps it.
    fn widen(self) -> Self::Wide;
}

/// A number that sums are kept in.
pub trait SumNumber: StateField + Copy + Default {
    /// Names the stored form.
    const LAYOUT: &'static str;
    /// Its Avro type, for errors.
    const NAME: &'static str;

    /// The sum, if it fits.
    fn plus(self, other: Self) -> Option<Self>;
}

impl SumNumber for i64 {
    const LAYOUT: &'static str = "sum:long";
    const NAME: &'static str = "long";

    #[inline]
    fn plus(self, other: Self) -> Option<Self> {
        self.checked_add(other)
    }
}

impl SumNumber for f64 {
    const LAYOUT: &'static str = "sum:double";
    const NAME: &'static str = "double";

    #[inline]
    fn plus(self, other: Self) -> Option<Self> {
        Some(self + other)
    }
}

impl SumNumber for Decimal {
    const LAYOUT: &'static str = "sum:decimal";
    const NAME: &'static str = "decimal";

    #[inline]
    fn plus(self, other: Self) -> Option<Self> {
        let sum = self.checked_add(other)?;
        // `checked_add` rounds where 28 digits do not suffice, and drops the scale of a zero: only the first loses.
        let exact = sum.scale() >= self.scale().max(other.scale())
            || (sum.checked_sub(self) == Some(other) && sum.checked_sub(other) == Some(self));
        exact.then_some(sum)
    }
}

macro_rules! summable {
    ($($type:ty => $wide:ty),*) => {$(
        impl Summable for $type {
            type Wide = $wide;

            #[inline]
            fn widen(self) -> $wide {
                self.into()
            }
        }
    )*};
}

summable!(i32 => i64, i64 => i64, f32 => f64, f64 => f64, Decimal => Decimal);

/// The accumulator of [`Sum`].
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Total<T>(T);

impl<T: SumNumber> Total<T> {
    #[inline]
    fn plus(self, value: T) -> Result<Self, AggregateError> {
        self.0.plus(value).map(Self).ok_or(AggregateError::Overflow { function: "sum", accumulator: T::NAME })
    }
}

impl<T: SumNumber> Accumulator for Total<T> {
    const LAYOUT: &'static str = T::LAYOUT;

    #[inline]
    fn encode(&self, out: &mut Vec<u8>) {
        self.0.encode_field(out);
    }

    #[inline]
    fn decode(input: &mut &[u8]) -> Result<Self, DecodeError> {
        T::decode_field(input).map(Self)
    }
}

macro_rules! sum_of {
    ($($type:ty),*) => {$(
        impl Aggregate<$type> for Sum {
            type Acc = Total<<$type as Summable>::Wide>;

            #[inline]
            fn check(acc: &Self::Acc, value: $type) -> Result<(), AggregateError> {
                acc.plus(value.widen()).map(|_| ())
            }

            #[inline]
            fn fold(acc: &mut Self::Acc, value: $type) -> Result<(), AggregateError> {
                *acc = acc.plus(value.widen())?;
                Ok(())
            }
        }
    )*};
}

sum_of!(i32, i64, f32, f64, Decimal);

impl<T: Summable> Aggregate<Option<T>> for Sum
where
    Self: Aggregate<T>,
{
    type Acc = <Self as Aggregate<T>>::Acc;

    #[inline]
    fn check(acc: &Self::Acc, value: Option<T>) -> Result<(), AggregateError> {
        value.map_or(Ok(()), |value| <Self as Aggregate<T>>::check(acc, value))
    }

    #[inline]
    fn fold(acc: &mut Self::Acc, value: Option<T>) -> Result<(), AggregateError> {
        value.map_or(Ok(()), |value| <Self as Aggregate<T>>::fold(acc, value))
    }
}

impl<T: SumNumber> Finish<T> for Total<T> {
    fn finish(&self) -> Result<T, AggregateError> {
        Ok(self.0)
    }
}

impl<T: SumNumber> Finish<Option<T>> for Total<T> {
    fn finish(&self) -> Result<Option<T>, AggregateError> {
        Ok(Some(self.0))
    }
}

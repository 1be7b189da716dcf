//! The arithmetic mean.

use rust_decimal::Decimal;

use super::field::{StateField, take};
use super::{Accumulator, Aggregate, AggregateError, Finish, Nullable};
use crate::record::{DecodeError, FieldType};

/// The arithmetic mean of a field; null is skipped. Of whole and floating-point numbers it is a double, of decimals a
/// decimal.
#[derive(Clone, Copy, Debug)]
pub enum Mean {}

/// A number that has a mean.
pub trait Mensurable: for<'a> FieldType<View<'a> = Self> + Copy {
    /// What the sum is kept in.
    type Wide: MeanNumber;

    /// The value as the sum keeps it.
    fn widen(self) -> Self::Wide;
}

/// A number that a mean's sum is kept in.
pub trait MeanNumber: Copy + Default + std::fmt::Debug + Send + 'static {
    /// What the mean is.
    type Mean;
    /// Names the stored form.
    const LAYOUT: &'static str;
    /// Its name, for errors.
    const NAME: &'static str;

    /// The sum, if it fits.
    fn plus(self, other: Self) -> Option<Self>;
    /// The sum over the count, which is not 0.
    fn over(self, count: i64) -> Self::Mean;
    /// Appends what is stored.
    fn encode(self, out: &mut Vec<u8>);
    /// Reads it back.
    fn decode(input: &mut &[u8]) -> Result<Self, DecodeError>;
}

/// Whole numbers are summed in 128 bits: 2^63 of the largest fit.
impl MeanNumber for i128 {
    type Mean = f64;
    const LAYOUT: &'static str = "mean:long";
    const NAME: &'static str = "whole number";

    #[inline]
    fn plus(self, other: Self) -> Option<Self> {
        self.checked_add(other)
    }

    fn over(self, count: i64) -> f64 {
        self as f64 / count as f64
    }

    fn encode(self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.to_le_bytes());
    }

    fn decode(input: &mut &[u8]) -> Result<Self, DecodeError> {
        take::<16, Self>(input).map(Self::from_le_bytes)
    }
}

impl MeanNumber for f64 {
    type Mean = Self;
    const LAYOUT: &'static str = "mean:double";
    const NAME: &'static str = "double";

    #[inline]
    fn plus(self, other: Self) -> Option<Self> {
        Some(self + other)
    }

    fn over(self, count: i64) -> Self {
        self / count as Self
    }

    fn encode(self, out: &mut Vec<u8>) {
        self.encode_field(out);
    }

    fn decode(input: &mut &[u8]) -> Result<Self, DecodeError> {
        Self::decode_field(input)
    }
}

impl MeanNumber for Decimal {
    type Mean = Self;
    const LAYOUT: &'static str = "mean:decimal";
    const NAME: &'static str = "decimal";

    #[inline]
    fn plus(self, other: Self) -> Option<Self> {
        super::sum::SumNumber::plus(self, other)
    }

    fn over(self, count: i64) -> Self {
        self / Self::from(count)
    }

    fn encode(self, out: &mut Vec<u8>) {
        self.encode_field(out);
    }

    fn decode(input: &mut &[u8]) -> Result<Self, DecodeError> {
        Self::decode_field(input)
    }
}

macro_rules! mensurable {
    ($($type:ty => $wide:ty),*) => {$(
        impl Mensurable for $type {
            type Wide = $wide;

            #[inline]
            fn widen(self) -> $wide {
                self.into()
            }
        }
    )*};
}

mensurable!(i32 => i128, i64 => i128, f32 => f64, f64 => f64, Decimal => Decimal);

/// The accumulator of [`Mean`].
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Average<W> {
    sum: W,
    count: i64,
}

impl<W: MeanNumber> Average<W> {
    #[inline]
    fn plus(self, value: W) -> Result<Self, AggregateError> {
        let sum = self.sum.plus(value).ok_or(AggregateError::Overflow { function: "mean", accumulator: W::NAME })?;
        Ok(Self { sum, count: self.count.saturating_add(1) })
    }
}

impl<W: MeanNumber> Accumulator for Average<W> {
    const LAYOUT: &'static str = W::LAYOUT;

    fn encode(&self, out: &mut Vec<u8>) {
        self.sum.encode(out);
        self.count.encode_field(out);
    }

    fn decode(input: &mut &[u8]) -> Result<Self, DecodeError> {
        Ok(Self { sum: W::decode(input)?, count: i64::decode_field(input)? })
    }
}

impl<T: Mensurable> Aggregate<T> for Mean {
    type Acc = Average<T::Wide>;

    #[inline]
    fn check(acc: &Self::Acc, value: T::View<'_>) -> Result<(), AggregateError> {
        acc.plus(T::own(value).widen()).map(|_| ())
    }

    #[inline]
    fn fold(acc: &mut Self::Acc, value: T::View<'_>) -> Result<(), AggregateError> {
        *acc = acc.plus(T::own(value).widen())?;
        Ok(())
    }
}

impl<T: Mensurable> Aggregate<Option<T>> for Mean {
    type Acc = Nullable<Average<T::Wide>>;

    #[inline]
    fn check(acc: &Self::Acc, value: Option<T::View<'_>>) -> Result<(), AggregateError> {
        value.map_or(Ok(()), |value| acc.0.plus(T::own(value).widen()).map(|_| ()))
    }

    #[inline]
    fn fold(acc: &mut Self::Acc, value: Option<T::View<'_>>) -> Result<(), AggregateError> {
        if let Some(value) = value {
            acc.0 = acc.0.plus(T::own(value).widen())?;
        }
        Ok(())
    }
}

macro_rules! finish_mean {
    ($($wide:ty => $mean:ty),*) => {$(
        impl Finish<$mean> for Average<$wide> {
            fn finish(&self) -> Result<$mean, AggregateError> {
                match self.count {
                    0 => Err(AggregateError::Nothing { function: "mean" }),
                    count => Ok(self.sum.over(count)),
                }
            }
        }

        impl Finish<Option<$mean>> for Average<$wide> {
            fn finish(&self) -> Result<Option<$mean>, AggregateError> {
                Ok((self.count != 0).then(|| self.sum.over(self.count)))
            }
        }
    )*};
}

finish_mean!(i128 => f64, f64 => f64, Decimal => Decimal);

//! The first and the last value, in the order of the partition.

use std::fmt;
use std::marker::PhantomData;

use super::field::StateField;
use super::{Accumulator, Aggregate, AggregateError, Finish, Nullable};
use crate::record::DecodeError;

/// The first value of a field in the order of the partition; null is skipped.
#[derive(Clone, Copy, Debug)]
pub enum First {}

/// The last value of a field in the order of the partition; null is skipped.
#[derive(Clone, Copy, Debug)]
pub enum Last {}

/// Which value a [`Kept`] holds on to.
pub trait Keep: Clone + Copy + fmt::Debug + Default + Send + 'static {
    /// Whether a later value replaces an earlier one.
    const REPLACES: bool;
    /// For errors.
    const NAME: &'static str;
}

/// Holds on to the first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Earliest;

/// Holds on to the last.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Latest;

impl Keep for Earliest {
    const REPLACES: bool = false;
    const NAME: &'static str = "first";
}

impl Keep for Latest {
    const REPLACES: bool = true;
    const NAME: &'static str = "last";
}

/// A scalar that is no option: the values of an optional field are kept without their null.
pub trait Keepable: StateField {
    /// Names the stored form of the first, the last and a fold.
    const LAYOUTS: [&'static str; 3];
}

macro_rules! keepable {
    ($($type:ty: $name:literal),* $(,)?) => {$(
        impl Keepable for $type {
            const LAYOUTS: [&'static str; 3] = [concat!("first:", $name), concat!("last:", $name), concat!("fold:", $name)];
        }
    )*};
}

keepable!(
    bool: "boolean",
    i32: "int",
    i64: "long",
    f32: "float",
    f64: "double",
    String: "string",
    bytes::Bytes: "bytes",
    rust_decimal::Decimal: "decimal",
    jiff::civil::Date: "date",
    jiff::Timestamp: "timestamp",
    uuid::Uuid: "uuid",
);

/// The accumulator of [`First`] and [`Last`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept<T, W>(Option<T>, PhantomData<W>);

impl<T, W> Default for Kept<T, W> {
    fn default() -> Self {
        Self(None, PhantomData)
    }
}

impl<T: Keepable, W: Keep> Kept<T, W> {
    #[inline]
    fn fold(&mut self, value: T::View<'_>) {
        if W::REPLACES || self.0.is_none() {
            self.0 = Some(T::own(value));
        }
    }
}

impl<T: Keepable, W: Keep> Accumulator for Kept<T, W> {
    const LAYOUT: &'static str = T::LAYOUTS[W::REPLACES as usize];

    #[inline]
    fn encode(&self, out: &mut Vec<u8>) {
        self.0.encode_field(out);
    }

    #[inline]
    fn decode(input: &mut &[u8]) -> Result<Self, DecodeError> {
        Option::decode_field(input).map(|kept| Self(kept, PhantomData))
    }
}

impl<T: Keepable, W: Keep> Finish<T> for Kept<T, W> {
    fn finish(&self) -> Result<T, AggregateError> {
        self.0.clone().ok_or(AggregateError::Nothing { function: W::NAME })
    }
}

impl<T: Keepable, W: Keep> Finish<Option<T>> for Kept<T, W> {
    fn finish(&self) -> Result<Option<T>, AggregateError> {
        Ok(self.0.clone())
    }
}

macro_rules! kept {
    ($function:ty, $which:ty) => {
        impl<T: Keepable> Aggregate<T> for $function {
            type Acc = Kept<T, $which>;

            #[inline]
            fn fold(acc: &mut Self::Acc, value: T::View<'_>) -> Result<(), AggregateError> {
                acc.fold(value);
                Ok(())
            }
        }

        impl<T: Keepable> Aggregate<Option<T>> for $function {
            type Acc = Nullable<Kept<T, $which>>;

            #[inline]
            fn fold(acc: &mut Self::Acc, value: Option<T::View<'_>>) -> Result<(), AggregateError> {
                if let Some(value) = value {
                    acc.0.fold(value);
                }
                Ok(())
            }
        }
    };
}

kept!(First, Earliest);
kept!(Last, Latest);

//! The smallest and the largest.

use std::cmp::Ordering;
use std::fmt;
use std::marker::PhantomData;

use super::field::StateField;
use super::{Accumulator, Aggregate, AggregateError, Finish, Nullable};
use crate::record::DecodeError;

/// The smallest value of a field; null is skipped, and NaN is the result only if there is nothing else.
#[derive(Clone, Copy, Debug)]
pub enum Min {}

/// The largest value of a field; null is skipped, and NaN is the result only if there is nothing else.
#[derive(Clone, Copy, Debug)]
pub enum Max {}

/// A scalar with an order.
pub trait Extremum: StateField {
    /// Compares a value that was lent with one that is kept. NaN is never asked for.
    fn compare(view: &Self::View<'_>, kept: &Self) -> Ordering;

    /// Whether the kept value surely stays where a value that compares as `replaces` would replace it: the quick look
    /// before the exact one.
    #[inline]
    fn surely_stays(view: &Self::View<'_>, kept: &Self, replaces: Ordering) -> bool {
        let _ = (view, kept, replaces);
        false
    }

    /// Whether it is no number.
    #[inline]
    fn is_nan(view: &Self::View<'_>) -> bool {
        let _ = view;
        false
    }

    /// Whether what is kept is no number.
    #[inline]
    fn is_kept_nan(&self) -> bool {
        false
    }

    /// Names the stored form of the smallest and the largest.
    const LAYOUTS: [&'static str; 2];
}

macro_rules! ordered {
    ($($type:ty: $name:literal),* $(,)?) => {$(
        impl Extremum for $type {
            const LAYOUTS: [&'static str; 2] = [concat!("min:", $name), concat!("max:", $name)];

            #[inline]
            fn compare(view: &Self, kept: &Self) -> Ordering {
                view.cmp(kept)
            }
        }
    )*};
}

ordered!(
    bool: "boolean",
    i32: "int",
    i64: "long",
    rust_decimal::Decimal: "decimal",
    jiff::civil::Date: "date",
    jiff::Timestamp: "timestamp",
    uuid::Uuid: "uuid",
);

impl Extremum for String {
    const LAYOUTS: [&'static str; 2] = ["min:string", "max:string"];

    #[inline]
    fn compare(view: &&str, kept: &Self) -> Ordering {
        (*view).cmp(kept.as_str())
    }
}

macro_rules! floating {
    ($($type:ty: $name:literal),*) => {$(
        impl Extremum for $type {
            const LAYOUTS: [&'static str; 2] = [concat!("min:", $name), concat!("max:", $name)];

            #[inline]
            fn compare(view: &Self, kept: &Self) -> Ordering {
                view.total_cmp(kept)
            }

            // False for NaN on either side, and where equal values may be two zeroes.
            #[inline]
            fn surely_stays(view: &Self, kept: &Self, replaces: Ordering) -> bool {
                match replaces {
                    Ordering::Less => kept < view,
                    _ => kept > view,
                }
            }

            #[inline]
            fn is_nan(view: &Self) -> bool {
                <$type>::is_nan(*view)
            }

            #[inline]
            fn is_kept_nan(&self) -> bool {
                <$type>::is_nan(*self)
            }
        }
    )*};
}

floating!(f32: "float", f64: "double");

/// Which end of the order an [`Extreme`] keeps.
pub trait Order: Clone + Copy + fmt::Debug + Default + Send + 'static {
    /// How a value compares with the kept one that it replaces.
    const REPLACES: Ordering;
    /// For errors.
    const NAME: &'static str;
    /// Which of [`Extremum::LAYOUTS`] it is.
    const LAYOUT: usize;
}

/// Keeps the smallest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Smallest;

/// Keeps the largest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Largest;

impl Order for Smallest {
    const REPLACES: Ordering = Ordering::Less;
    const NAME: &'static str = "min";
    const LAYOUT: usize = 0;
}

impl Order for Largest {
    const REPLACES: Ordering = Ordering::Greater;
    const NAME: &'static str = "max";
    const LAYOUT: usize = 1;
}

/// The accumulator of [`Min`] and [`Max`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Extreme<T, O>(Option<T>, PhantomData<O>);

impl<T, O> Default for Extreme<T, O> {
    fn default() -> Self {
        Self(None, PhantomData)
    }
}

impl<T: Extremum, O: Order> Extreme<T, O> {
    #[inline]
    fn fold(&mut self, value: T::View<'_>) {
        let replaces = match &self.0 {
            None => true,
            Some(kept) if T::surely_stays(&value, kept, O::REPLACES) => return,
            Some(kept) if T::is_nan(&value) || kept.is_kept_nan() => !T::is_nan(&value),
            Some(kept) => T::compare(&value, kept) == O::REPLACES,
        };
        if replaces {
            self.0 = Some(T::own(value));
        }
    }
}

impl<T: Extremum, O: Order> Accumulator for Extreme<T, O> {
    const LAYOUT: &'static str = T::LAYOUTS[O::LAYOUT];

    #[inline]
    fn encode(&self, out: &mut Vec<u8>) {
        self.0.encode_field(out);
    }

    #[inline]
    fn decode(input: &mut &[u8]) -> Result<Self, DecodeError> {
        Option::decode_field(input).map(|kept| Self(kept, PhantomData))
    }
}

impl<T: Extremum, O: Order> Finish<T> for Extreme<T, O> {
    fn finish(&self) -> Result<T, AggregateError> {
        self.0.clone().ok_or(AggregateError::Nothing { function: O::NAME })
    }
}

impl<T: Extremum, O: Order> Finish<Option<T>> for Extreme<T, O> {
    fn finish(&self) -> Result<Option<T>, AggregateError> {
        Ok(self.0.clone())
    }
}

macro_rules! extreme {
    ($function:ty, $order:ty) => {
        impl<T: Extremum> Aggregate<T> for $function {
            type Acc = Extreme<T, $order>;

            #[inline]
            fn fold(acc: &mut Self::Acc, value: T::View<'_>) -> Result<(), AggregateError> {
                acc.fold(value);
                Ok(())
            }
        }

        impl<T: Extremum> Aggregate<Option<T>> for $function {
            type Acc = Nullable<Extreme<T, $order>>;

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

extreme!(Min, Smallest);
extreme!(Max, Largest);

//! Declared aggregations: count, sum, min, max, mean, first and last of a record's fields, kept up to date record by
//! record.
//!
//! An [`Aggregate`] over a field's type has an [`Accumulator`], which is what a table stores, and which [`Finish`]es
//! into a field of the output record. A null field is skipped by all of them.
//!
//! A record counts in all of a table's fields or in none. Generated code therefore asks [`Aggregate::check`] of every
//! field first, and only then folds into the accumulators, which cannot fail any more.
//!
//! ```
//! use gretchen::table::aggregate::{Aggregate, AggregateError, Count, Finish, Max, Sum};
//!
//! #[derive(Clone, Debug, Default)]
//! struct State {
//!     orders: <Count as Aggregate<i64>>::Acc,
//!     items: <Sum as Aggregate<i64>>::Acc,
//!     largest: <Max as Aggregate<Option<i64>>>::Acc,
//! }
//!
//! fn fold(state: &mut State, quantity: i64, discount: Option<i64>) -> Result<(), AggregateError> {
//!     <Count as Aggregate<i64>>::check(&state.orders, quantity)?;
//!     <Sum as Aggregate<i64>>::check(&state.items, quantity)?;
//!     <Max as Aggregate<Option<i64>>>::check(&state.largest, discount)?;
//!     <Count as Aggregate<i64>>::fold(&mut state.orders, quantity)?;
//!     <Sum as Aggregate<i64>>::fold(&mut state.items, quantity)?;
//!     <Max as Aggregate<Option<i64>>>::fold(&mut state.largest, discount)
//! }
//!
//! let mut state = State::default();
//! fold(&mut state, i64::MAX, Some(5))?;
//! assert!(fold(&mut state, 1, Some(6)).is_err());
//! let (orders, largest): (i64, Option<i64>) = (state.orders.finish()?, state.largest.finish()?);
//! assert_eq!((orders, largest), (1, Some(5)));
//! # Ok::<(), AggregateError>(())
//! ```

mod count;
mod extreme;
mod field;
mod fold;
mod keep;
mod mean;
mod sum;
#[cfg(test)]
mod tests;

use std::fmt;

pub use self::count::{Count, CountRecords, IsNull, Tally};
pub use self::extreme::{Extreme, Extremum, Largest, Max, Min, Order, Smallest};
pub use self::field::StateField;
pub use self::fold::Fold;
pub use self::keep::{Earliest, First, Keep, Keepable, Kept, Last, Latest};
pub use self::mean::{Average, Mean, MeanNumber, Mensurable};
pub use self::sum::{Sum, SumNumber, Summable, Total};

use crate::record::{DecodeError, EncodeError, FieldType};

/// A function over the values of one field, e.g. [`Sum`].
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be computed over a field of type `{In}`",
    label = "does not fit this field",
    note = "sum and mean take int, long, float, double and decimal; min and max take these and string, boolean, date, \
            timestamp and uuid; count, first and last take any scalar field"
)]
pub trait Aggregate<In: FieldType> {
    /// What is kept.
    type Acc: Accumulator;

    /// Whether [`Aggregate::fold`] would succeed.
    #[inline]
    fn check(acc: &Self::Acc, value: In::View<'_>) -> Result<(), AggregateError> {
        let _ = (acc, value);
        Ok(())
    }

    /// Takes in one value. After an error the accumulator is as it was.
    fn fold(acc: &mut Self::Acc, value: In::View<'_>) -> Result<(), AggregateError>;
}

/// What an aggregate keeps of the values so far, and how that is stored.
pub trait Accumulator: Clone + fmt::Debug + Default + Send + 'static {
    /// Names what the stored bytes mean; part of a table's layout.
    const LAYOUT: &'static str;

    /// Appends what is stored.
    fn encode(&self, out: &mut Vec<u8>);

    /// Reads back what [`Accumulator::encode`] wrote and moves `input` past it.
    fn decode(input: &mut &[u8]) -> Result<Self, DecodeError>;
}

/// An accumulator that can fill an output field of type `Out`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot fill an output field of type `{Out}`",
    label = "the output field has another type",
    note = "count fills long; sum fills long (of int and long), double (of float and double) or decimal; mean fills \
            double or decimal; min, max, first and last fill a field of their input's type",
    note = "any of them may fill an optional field (`[\"null\", …]`)"
)]
pub trait Finish<Out> {
    /// The output field's value. Fails where there is none and the field is not optional.
    fn finish(&self) -> Result<Out, AggregateError>;
}

/// An output field that may be null, as it must be where the input field may.
#[diagnostic::on_unimplemented(
    message = "min, max, mean, first and last of an optional field need an optional output field, not `{Self}`",
    label = "must be `[\"null\", …]` in the output's schema"
)]
pub trait OptionalField {}

impl<T> OptionalField for Option<T> {}

/// The accumulator over an optional field: it may have seen no value at all.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Nullable<A>(pub A);

impl<A: Accumulator> Accumulator for Nullable<A> {
    const LAYOUT: &'static str = A::LAYOUT;

    fn encode(&self, out: &mut Vec<u8>) {
        self.0.encode(out);
    }

    fn decode(input: &mut &[u8]) -> Result<Self, DecodeError> {
        A::decode(input).map(Self)
    }
}

impl<A: Finish<Out>, Out: OptionalField> Finish<Out> for Nullable<A> {
    fn finish(&self) -> Result<Out, AggregateError> {
        self.0.finish()
    }
}

/// Makes sure that a state was read to its end; `input` is what its last accumulator left.
pub fn expect_end(input: &[u8]) -> Result<(), DecodeError> {
    match input {
        [] => Ok(()),
        rest => {
            let reason = format!("{} bytes are left over after the last accumulator", rest.len());
            Err(DecodeError::at_field("-", 0, reason))
        }
    }
}

/// Why a record cannot be taken into an aggregation.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AggregateError {
    /// A whole number or a decimal has no room for the result.
    #[error("{function} overflows its {accumulator}: use a wider output field, or correct the record")]
    Overflow {
        /// E.g. `sum`.
        function: &'static str,
        /// E.g. `long`.
        accumulator: &'static str,
    },
    /// Nothing was taken in yet, and the output field cannot be null.
    #[error("{function} of no value has no result: make the output field optional")]
    Nothing {
        /// E.g. `min`.
        function: &'static str,
    },
}

impl AggregateError {
    /// The error of an output field that cannot be filled.
    pub fn at_field(&self, field: &str) -> EncodeError {
        EncodeError { field: field.to_owned(), reason: self.to_string() }
    }
}

//! Every function over every kind of field, with nulls, overflows and stored forms.

use std::fmt::Debug;

use bytes::Bytes;
use jiff::Timestamp;
use jiff::civil::{Date, date};
use rust_decimal::Decimal;
use uuid::Uuid;

use super::*;

/// Folds values, storing and reading back the accumulator after each.
fn fold<A: Aggregate<In>, In: FieldType>(values: &[In::View<'static>]) -> Result<A::Acc, AggregateError> {
    let mut acc = A::Acc::default();
    for value in values {
        let check = A::check(&acc, value.clone());
        let folded = A::fold(&mut acc, value.clone());
        assert_eq!(check, folded, "a check foretells the fold");
        folded?;
        acc = stored(&acc);
    }
    Ok(acc)
}

fn stored<A: Accumulator>(acc: &A) -> A {
    let mut bytes = Vec::new();
    acc.encode(&mut bytes);
    let mut input = bytes.as_slice();
    let read = A::decode(&mut input).unwrap();
    assert!(input.is_empty());
    for len in 0..bytes.len() {
        assert!(A::decode(&mut &bytes[..len]).is_err(), "cut off at {len} of {}", bytes.len());
    }
    read
}

#[track_caller]
fn check<A: Aggregate<In>, In: FieldType, Out: PartialEq + Debug>(values: &[In::View<'static>], result: Out)
where
    A::Acc: Finish<Out>,
{
    assert_eq!(fold::<A, In>(values).and_then(|acc| acc.finish()), Ok(result));
}

fn decimal(text: &str) -> Decimal {
    text.parse().unwrap()
}

#[test]
fn counts_skip_null() {
    check::<Count, String, i64>(&["a", "", "b"], 3);
    check::<Count, Option<i32>, i64>(&[Some(1), None, Some(1)], 2);
    check::<Count, Option<i32>, i64>(&[], 0);
    check::<Count, Option<Bytes>, Option<i64>>(&[None], Some(0));
    let mut records = Tally::default();
    CountRecords::fold(&mut records);
    assert_eq!(Finish::<i64>::finish(&records), Ok(1));
}

#[test]
fn sums_are_exact_or_errors() {
    check::<Sum, i32, i64>(&[i32::MAX, i32::MAX, 1], 2 * i64::from(i32::MAX) + 1);
    check::<Sum, Option<i64>, i64>(&[None, Some(4), None], 4);
    check::<Sum, Option<i64>, i64>(&[], 0);
    check::<Sum, f32, f64>(&[0.5, 0.25], 0.75);
    check::<Sum, Decimal, Decimal>(&[decimal("0.10"), decimal("0.20")], decimal("0.30"));
    check::<Sum, Decimal, Decimal>(&[decimal("0.00000"), decimal("1.2"), decimal("-1.20")], Decimal::ZERO);
    check::<Sum, i64, Option<i64>>(&[i64::MAX, -1, 1], Some(i64::MAX));
}

#[test]
fn an_overflow_changes_nothing() {
    let mut acc = fold::<Sum, i64>(&[i64::MAX]).unwrap();
    let overflow = AggregateError::Overflow { function: "sum", accumulator: "long" };
    assert_eq!(<Sum as Aggregate<i64>>::check(&acc, 1), Err(overflow.clone()));
    assert_eq!(<Sum as Aggregate<i64>>::fold(&mut acc, 1), Err(overflow.clone()));
    assert_eq!(<Sum as Aggregate<Option<i64>>>::fold(&mut acc, Some(1)), Err(overflow));
    assert_eq!(Finish::<i64>::finish(&acc), Ok(i64::MAX));

    // Too large, and too many digits: both would lose part of the sum.
    for values in [[Decimal::MAX, Decimal::ONE], [Decimal::MAX, decimal("0.1")], [decimal("1e27"), decimal("0.001")]] {
        assert!(matches!(fold::<Sum, Decimal>(&values), Err(AggregateError::Overflow { accumulator: "decimal", .. })));
    }
}

#[test]
fn extremes_of_every_type() {
    check::<Min, i32, i32>(&[3, -1, 2], -1);
    check::<Max, i64, Option<i64>>(&[3, -1, 2], Some(3));
    check::<Min, String, String>(&["b", "a", "c"], "a".to_owned());
    check::<Max, Option<String>, Option<String>>(&[None, Some("b"), Some("a")], Some("b".to_owned()));
    check::<Min, Option<i32>, Option<i32>>(&[None], None);
    check::<Max, Decimal, Decimal>(&[decimal("1.5"), decimal("1.50"), decimal("-2")], decimal("1.5"));
    check::<Min, Date, Date>(&[date(2024, 2, 29), date(-1, 1, 1)], date(-1, 1, 1));
    check::<Max, Timestamp, Timestamp>(&[Timestamp::MIN, Timestamp::UNIX_EPOCH], Timestamp::UNIX_EPOCH);
    check::<Max, bool, bool>(&[false, true, false], true);
    check::<Min, Uuid, Uuid>(&[Uuid::max(), Uuid::nil()], Uuid::nil());
    assert_eq!(
        fold::<Min, i64>(&[]).and_then(|acc| Finish::<i64>::finish(&acc)),
        Err(AggregateError::Nothing { function: "min" })
    );
}

#[test]
fn nan_is_the_result_only_if_there_is_nothing_else() {
    check::<Min, f64, f64>(&[f64::NAN, 2.0, f64::NAN, 1.0], 1.0);
    check::<Max, f32, f32>(&[1.0, f32::NAN, f32::NEG_INFINITY], 1.0);
    check::<Min, f64, f64>(&[0.0, -0.0], -0.0);
    let acc = fold::<Max, f64>(&[f64::NAN]).unwrap();
    assert!(Finish::<f64>::finish(&acc).unwrap().is_nan());
}

#[test]
fn means() {
    check::<Mean, i64, f64>(&[i64::MAX, i64::MAX, -1], (i64::MAX as f64 * 2.0 - 1.0) / 3.0);
    check::<Mean, Option<f32>, Option<f64>>(&[Some(1.0), None, Some(2.0)], Some(1.5));
    check::<Mean, Option<i32>, Option<f64>>(&[None], None);
    check::<Mean, Decimal, Decimal>(&[decimal("0.1"), decimal("0.2")], decimal("0.15"));
    assert_eq!(
        fold::<Mean, f64>(&[]).and_then(|acc| Finish::<f64>::finish(&acc)),
        Err(AggregateError::Nothing { function: "mean" })
    );
    assert!(fold::<Mean, Decimal>(&[Decimal::MAX, Decimal::MAX]).is_err());
}

#[test]
fn first_and_last_skip_null() {
    check::<First, Option<String>, Option<String>>(&[None, Some("a"), Some("b"), None], Some("a".to_owned()));
    check::<Last, Option<String>, Option<String>>(&[None, Some("a"), Some("b"), None], Some("b".to_owned()));
    check::<Last, Bytes, Bytes>(&[b"a", b""], Bytes::new());
    check::<First, bool, Option<bool>>(&[true, false], Some(true));
}

#[test]
fn a_fold_keeps_any_scalar() {
    let mut acc = Fold::<String>::default();
    acc.set(acc.get().clone() + "x");
    assert_eq!(Finish::<String>::finish(&stored(&acc)), Ok("x".to_owned()));
}

#[test]
fn layouts_tell_functions_and_types_apart() {
    let layouts = [
        <<Count as Aggregate<i64>>::Acc as Accumulator>::LAYOUT,
        <<Sum as Aggregate<i64>>::Acc as Accumulator>::LAYOUT,
        <<Sum as Aggregate<f64>>::Acc as Accumulator>::LAYOUT,
        <<Min as Aggregate<i64>>::Acc as Accumulator>::LAYOUT,
        <<Max as Aggregate<i64>>::Acc as Accumulator>::LAYOUT,
        <<Max as Aggregate<i32>>::Acc as Accumulator>::LAYOUT,
        <<Mean as Aggregate<i32>>::Acc as Accumulator>::LAYOUT,
        <<First as Aggregate<i32>>::Acc as Accumulator>::LAYOUT,
        <<Last as Aggregate<i32>>::Acc as Accumulator>::LAYOUT,
        Fold::<i32>::LAYOUT,
    ];
    let different: std::collections::BTreeSet<_> = layouts.iter().collect();
    assert_eq!(different.len(), layouts.len(), "{layouts:?}");
    // A field that becomes optional keeps its state.
    assert_eq!(<<Max as Aggregate<Option<i32>>>::Acc as Accumulator>::LAYOUT, "max:int");
}

#[test]
fn broken_states_are_errors() {
    assert!(bool::decode_field(&mut &[2_u8][..]).is_err());
    assert!(String::decode_field(&mut &[255_u8; 9][..]).is_err(), "a length beyond the end");
    assert!(Decimal::decode_field(&mut &[255_u8; 16][..]).is_err());
    assert!(Date::decode_field(&mut &[0, 0, 13, 1][..]).is_err());
    assert!(Timestamp::decode_field(&mut &[127_u8; 16][..]).is_err());
}

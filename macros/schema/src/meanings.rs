//! Does a default mean anything as what its logical type says?
//!
//! Who has no use for the meaning reads it as the type underneath, so it breaks no schema; but a generated type would
//! have no value for it.

use serde_json::Value;

use crate::{Logical, latin1_bytes};

/// Days since 1970 in the years -9999 to 9999, which dates may have.
const DAYS: std::ops::RangeInclusive<i64> = -4_371_587..=2_932_896;

/// Seconds since 1970 of timestamps in those years, with room for every offset from UTC.
const SECONDS: std::ops::RangeInclusive<i64> = -377_705_023_201..=253_402_207_200;

const SECONDS_A_DAY: i64 = 86_400;

/// Digits of a decimal that an `i128` holds for certain.
const MAX_EXACT_PRECISION: u32 = 38;

/// Why a default that fits the type underneath is no value of the logical type, if it is none.
pub(crate) fn problem(logical: Logical, fixed: bool, default: &Value) -> Option<String> {
    let number = || default.as_i64().unwrap_or_default();
    let seconds = |per_second: i64| SECONDS.contains(&number().div_euclid(per_second));
    let time = |per_second: i64| (0..SECONDS_A_DAY * per_second).contains(&number());
    let fits = match logical {
        Logical::Date => DAYS.contains(&number()),
        Logical::TimeMillis => time(1_000),
        Logical::TimeMicros => time(1_000_000),
        Logical::TimestampMillis | Logical::LocalTimestampMillis => seconds(1_000),
        Logical::TimestampMicros | Logical::LocalTimestampMicros => seconds(1_000_000),
        Logical::TimestampNanos | Logical::LocalTimestampNanos | Logical::Duration => true,
        // A fixed of its size is any bytes.
        Logical::Uuid => fixed || default.as_str().is_some_and(is_uuid),
        Logical::Decimal { precision, .. } => bytes(default).is_none_or(|bytes| has_digits(&bytes, precision)),
        Logical::BigDecimal => bytes(default).is_none_or(|bytes| is_big_decimal(&bytes)),
    };
    (!fits).then(|| format!("default {default} is no {}; write one", logical.name()))
}

fn bytes(default: &Value) -> Option<Vec<u8>> {
    default.as_str().and_then(latin1_bytes)
}

/// As hexadecimal digits, with hyphens between groups or without.
fn is_uuid(text: &str) -> bool {
    let groups = text.split('-').map(str::len).collect::<Vec<_>>();
    let hex = text.bytes().all(|byte| byte == b'-' || byte.is_ascii_hexdigit());
    hex && (groups == [8, 4, 4, 4, 12] || groups == [32])
}

/// Whether an integer in two's complement has no more digits; where it is larger than an `i128`, whether it may have.
fn has_digits(bytes: &[u8], precision: u32) -> bool {
    let negative = bytes.first().is_some_and(|first| *first >= 0x80);
    let fill = if negative { 0xff } else { 0 };
    let significant = &bytes[bytes.iter().take_while(|byte| **byte == fill).count()..];
    if precision > MAX_EXACT_PRECISION {
        let bits = significant.first().map_or(0, |first| {
            significant.len() as u64 * 8
                - u64::from(if negative { first.leading_ones() } else { first.leading_zeros() })
        });
        return bits <= (f64::from(precision) * std::f64::consts::LOG2_10) as u64 + 1;
    }
    if significant.len() >= size_of::<i128>() {
        return false;
    }
    let value =
        significant.iter().fold(if negative { -1_i128 } else { 0 }, |value, byte| value << 8 | i128::from(*byte));
    10_u128.checked_pow(precision).is_none_or(|limit| value.unsigned_abs() < limit)
}

/// Bytes that hold an integer as bytes and a scale as an int.
fn is_big_decimal(bytes: &[u8]) -> bool {
    let Some((len, rest)) = long(bytes) else { return false };
    let Some(rest) = usize::try_from(len).ok().and_then(|len| rest.get(len..)) else { return false };
    matches!(long(rest), Some((scale, [])) if scale.unsigned_abs() <= MAX_SCALE)
}

/// As the library has it.
const MAX_SCALE: u64 = 65_536;

fn long(bytes: &[u8]) -> Option<(i64, &[u8])> {
    let mut zigzag = 0_u64;
    for (index, byte) in bytes.iter().enumerate().take(5) {
        zigzag |= u64::from(byte & 0x7f) << (7 * index);
        if *byte < 0x80 {
            return Some(((zigzag >> 1) as i64 ^ -((zigzag & 1) as i64), &bytes[index + 1..]));
        }
    }
    None
}

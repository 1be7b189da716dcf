//! The codecs of logical types: decimals, dates, times, UUIDs.

use jiff::Timestamp;
use jiff::civil::{self, DateTime};
use jiff::tz::Offset;
use rust_decimal::Decimal;
use uuid::Uuid;

use super::codec::{copied, write_bytes, write_long};
use super::{DecodeError, EncodeError, Input};

/// Digits that every `rust_decimal` can hold; decimals of a higher precision are `bigdecimal`s.
pub(crate) const MAX_PRECISION: u32 = 28;

copied!(
    /// `decimal` of `bytes`
    DecimalBytes<const PRECISION: u32, const SCALE: u32>,
    Decimal,
    1,
    |value, out| {
        let unscaled = unscaled(value, PRECISION, SCALE)?.to_be_bytes();
        write_bytes(shortest(&unscaled), out);
        Ok(())
    },
    |input| {
        let bytes = input.read_bytes()?;
        read_decimal(bytes, PRECISION, SCALE, input)
    }
);

copied!(
    /// `decimal` of a `fixed` of `SIZE` bytes
    DecimalFixed<const PRECISION: u32, const SCALE: u32, const SIZE: usize>,
    Decimal,
    SIZE,
    |value, out| write_decimal_fixed(unscaled(value, PRECISION, SCALE)?, SIZE, out),
    |input| {
        let bytes = input.read_slice(SIZE)?;
        read_decimal(bytes, PRECISION, SCALE, input)
    }
);

/// The integer that a decimal is written as: exact, or an error.
#[inline]
pub(crate) fn unscaled(value: &Decimal, precision: u32, scale: u32) -> Result<i128, EncodeError> {
    let mantissa = value.mantissa();
    let unscaled = if value.scale() == scale { Some(mantissa) } else { rescale(mantissa, value.scale(), scale) };
    match unscaled {
        Some(unscaled) if has_digits(unscaled.unsigned_abs(), precision) => Ok(unscaled),
        _ => Err(no_decimal(value, precision, scale)),
    }
}

fn rescale(mantissa: i128, from: u32, to: u32) -> Option<i128> {
    if from < to {
        return 10_i128.checked_pow(to - from).and_then(|factor| mantissa.checked_mul(factor));
    }
    let factor = 10_i128.checked_pow(from - to)?;
    (mantissa % factor == 0).then_some(mantissa / factor)
}

#[cold]
#[inline(never)]
fn no_decimal(value: &Decimal, precision: u32, scale: u32) -> EncodeError {
    EncodeError::new(format!(
        "{value} does not fit decimal({precision},{scale}): {precision} digits, {scale} of them after the point; \
         round it or widen the schema"
    ))
}

/// Two's complement without superfluous leading bytes.
#[inline]
pub(crate) fn shortest(bytes: &[u8; 16]) -> &[u8] {
    let mut start = 0;
    while start < 15
        && (bytes[start] == 0 && bytes[start + 1] < 0x80 || bytes[start] == 0xff && bytes[start + 1] >= 0x80)
    {
        start += 1;
    }
    &bytes[start..]
}

pub(crate) fn write_decimal_fixed(unscaled: i128, size: usize, out: &mut Vec<u8>) -> Result<(), EncodeError> {
    let bytes = unscaled.to_be_bytes();
    let short = shortest(&bytes);
    if short.len() > size {
        return Err(EncodeError::new(format!("{unscaled} does not fit {size} bytes; widen the schema's fixed")));
    }
    let fill = if unscaled < 0 { 0xff } else { 0 };
    out.resize(out.len() + size - short.len(), fill);
    out.extend_from_slice(short);
    Ok(())
}

/// Reads big-endian two's complement of any length.
#[inline(always)]
pub(crate) fn read_decimal(
    bytes: &[u8],
    precision: u32,
    scale: u32,
    input: &Input<'_>,
) -> Result<Decimal, DecodeError> {
    match narrow(bytes) {
        Some(value) if has_digits(value.unsigned_abs().into(), precision) => {
            let magnitude = value.unsigned_abs();
            Ok(Decimal::from_parts(magnitude as u32, (magnitude >> 32) as u32, 0, value < 0, scale))
        }
        _ => read_wide_decimal(bytes, precision, scale, input.position()),
    }
}

/// The integer of up to eight bytes, from two words that overlap.
#[inline]
fn narrow(bytes: &[u8]) -> Option<i64> {
    Some(match bytes.len() {
        0 => 0,
        1 => i64::from(bytes[0] as i8),
        2..4 => {
            let (first, last) = (bytes.first_chunk()?, bytes.last_chunk()?);
            i64::from(i16::from_be_bytes(*first)) << (8 * (bytes.len() - 2)) | i64::from(u16::from_be_bytes(*last))
        }
        4..=8 => {
            let (first, last) = (bytes.first_chunk()?, bytes.last_chunk()?);
            i64::from(i32::from_be_bytes(*first)) << (8 * (bytes.len() - 4)) | i64::from(u32::from_be_bytes(*last))
        }
        _ => return None,
    })
}

#[inline]
fn has_digits(magnitude: u128, precision: u32) -> bool {
    10_u128.checked_pow(precision).is_none_or(|limit| magnitude < limit)
}

/// What has more than eight bytes, or too many digits.
#[inline(never)]
fn read_wide_decimal(bytes: &[u8], precision: u32, scale: u32, position: usize) -> Result<Decimal, DecodeError> {
    let negative = bytes.first().is_some_and(|first| *first >= 0x80);
    let fill = if negative { 0xff } else { 0 };
    let (head, tail) = bytes.split_at(bytes.len().saturating_sub(16));
    let mut value = if negative { -1_i128 } else { 0 };
    for byte in tail {
        value = value << 8 | i128::from(*byte);
    }
    let fits = head.iter().all(|byte| *byte == fill) && (value < 0) == negative;
    match Decimal::try_from_i128_with_scale(value, scale) {
        Ok(decimal) if fits && has_digits(value.unsigned_abs(), precision) => Ok(decimal),
        _ => Err(DecodeError::new(position, format!("a decimal of more than {precision} digits"))),
    }
}

copied!(
    /// `date`
    Date,
    civil::Date,
    1,
    |value, out| {
        write_long(i64::from(days_of(*value)), out);
        Ok(())
    },
    |input| {
        let days = input.read_int()?;
        match date_of(days) {
            Some(date) => Ok(date),
            None => Err(out_of_range(input, i64::from(days), "date")),
        }
    }
);

#[inline]
fn out_of_range(input: &Input<'_>, value: i64, what: &'static str) -> DecodeError {
    not_in_range(input.position(), value, what)
}

#[cold]
#[inline(never)]
fn not_in_range(position: usize, value: i64, what: &'static str) -> DecodeError {
    DecodeError::new(position, format!("{value} is out of the range of a {what}"))
}

/// Days since 1970-01-01 in the Gregorian calendar: `days_from_civil` of <https://howardhinnant.github.io/date_algorithms.html>.
#[inline]
fn days_of(date: civil::Date) -> i32 {
    let (month, day) = (i32::from(date.month()), i32::from(date.day()));
    let year = i32::from(date.year()) - i32::from(month <= 2);
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

/// The reverse; `None` outside of the years -9999 to 9999. By Neri and Schneider, Euclidean affine functions and their
/// application to calendar algorithms (2022), figure 12: three multiplications stand in for the divisions.
#[inline]
fn date_of(days: i32) -> Option<civil::Date> {
    if !(-4_371_587..=2_932_896).contains(&days) {
        return None;
    }
    // Whole periods of 400 years are added, so that all numbers are positive and years begin in March.
    const PERIODS: u32 = 82;
    let quarters = 4 * (days as u32).wrapping_add(719_468 + 146_097 * PERIODS) + 3;
    let (century, rest) = (quarters / 146_097, (quarters % 146_097) | 3);
    let product = 2_939_745 * u64::from(rest);
    let day_of_year = product as u32 / 2_939_745 / 4;
    let year = (100 * century + (product >> 32) as u32) as i32 - 400 * PERIODS as i32;
    let month_and_day = 2_141 * day_of_year + 197_913;
    let (month, day) = (month_and_day >> 16, (month_and_day & 0xffff) / 2_141 + 1);
    let next_year = day_of_year >= 306;
    let (year, month) = if next_year { (year + 1, month - 12) } else { (year, month) };
    civil::Date::new(year as i16, month as i8, day as i8).ok()
}

/// A time of day, in units of which a second has `PER_SECOND`.
macro_rules! time_codec {
    ($(#[$doc:meta])* $name:ident, $per_second:literal, |$value:ident, $out:ident| $write:expr, |$input:ident| $read:expr) => {
        copied!(
            $(#[$doc])*
            $name,
            civil::Time,
            1,
            |time, $out| {
                let $value = time_units(*time, $per_second);
                $write;
                Ok(())
            },
            |$input| {
                let units = $read;
                match time_of(units, $per_second) {
                    Some(time) => Ok(time),
                    None => Err(out_of_range($input, units, "time of day")),
                }
            }
        );
    };
}

time_codec!(
    /// `time-millis`
    TimeMillis, 1_000, |units, out| write_long(units, out), |input| i64::from(input.read_int()?)
);
time_codec!(
    /// `time-micros`
    TimeMicros, 1_000_000, |units, out| write_long(units, out), |input| input.read_long()?
);

/// A time of day in units; what is finer than a unit is cut off.
fn time_units(time: civil::Time, per_second: i64) -> i64 {
    let seconds = (i64::from(time.hour()) * 60 + i64::from(time.minute())) * 60 + i64::from(time.second());
    seconds * per_second + i64::from(time.subsec_nanosecond()) / (1_000_000_000 / per_second)
}

fn time_of(units: i64, per_second: i64) -> Option<civil::Time> {
    if !(0..86_400 * per_second).contains(&units) {
        return None;
    }
    let (seconds, rest) = (units / per_second, units % per_second);
    let nanoseconds = rest * (1_000_000_000 / per_second);
    civil::Time::new((seconds / 3600) as i8, (seconds / 60 % 60) as i8, (seconds % 60) as i8, nanoseconds as i32).ok()
}

/// A moment in a unit; what is finer than the unit is cut off towards the past.
macro_rules! timestamp_codecs {
    ($($utc:ident, $local:ident, $unit:literal, $per_second:literal;)*) => {$(
        copied!(
            #[doc = concat!("`timestamp-", $unit, "`; what is finer is cut off towards the past")]
            $utc,
            Timestamp,
            1,
            |value, out| {
                write_long(units_of(*value, $per_second)?, out);
                Ok(())
            },
            |input| read_timestamp(input, $per_second)
        );

        copied!(
            #[doc = concat!("`local-timestamp-", $unit, "`; what is finer is cut off towards the past")]
            $local,
            DateTime,
            1,
            |value, out| {
                write_long(units_of(moment_of(*value)?, $per_second)?, out);
                Ok(())
            },
            |input| read_timestamp(input, $per_second).map(|timestamp| Offset::UTC.to_datetime(timestamp))
        );
    )*};
}

timestamp_codecs!(
    TimestampMillis, LocalTimestampMillis, "millis", 1_000;
    TimestampMicros, LocalTimestampMicros, "micros", 1_000_000;
    TimestampNanos, LocalTimestampNanos, "nanos", 1_000_000_000;
);

#[inline]
fn read_timestamp(input: &mut Input<'_>, per_second: i64) -> Result<Timestamp, DecodeError> {
    let units = input.read_long()?;
    let nanoseconds = units.rem_euclid(per_second) * (1_000_000_000 / per_second);
    match Timestamp::new(units.div_euclid(per_second), nanoseconds as i32) {
        Ok(timestamp) => Ok(timestamp),
        Err(_) => Err(out_of_range(input, units, "timestamp")),
    }
}

/// The moment at which a clock in UTC shows this.
fn moment_of(local: DateTime) -> Result<Timestamp, EncodeError> {
    Offset::UTC.to_timestamp(local).map_err(|_| EncodeError::new(format!("{local} is too far from 1970")))
}

/// Units since 1970, of which a second has `per_second`.
#[inline]
fn units_of(moment: Timestamp, per_second: i64) -> Result<i64, EncodeError> {
    // Both parts have the sign of the whole, so rounding the smaller one down rounds the whole down.
    let rest = i64::from(moment.subsec_nanosecond()).div_euclid(1_000_000_000 / per_second);
    match moment.as_second().checked_mul(per_second).and_then(|units| units.checked_add(rest)) {
        Some(units) => Ok(units),
        None => Err(EncodeError::new(format!("{moment} is too far from 1970 for its unit; use a coarser one"))),
    }
}

copied!(
    /// `uuid` of a `string`
    UuidText,
    Uuid,
    1,
    |value, out| {
        write_bytes(value.hyphenated().encode_lower(&mut Uuid::encode_buffer()).as_bytes(), out);
        Ok(())
    },
    |input| {
        let text = input.read_bytes()?;
        match Uuid::try_parse_ascii(text) {
            Ok(uuid) => Ok(uuid),
            Err(error) => Err(no_uuid(input.position(), &error)),
        }
    }
);

#[cold]
#[inline(never)]
fn no_uuid(position: usize, error: &uuid::Error) -> DecodeError {
    DecodeError::new(position, format!("not a UUID: {error}"))
}

copied!(
    /// `uuid` of a `fixed`
    UuidFixed,
    Uuid,
    16,
    |value, out| {
        out.extend_from_slice(value.as_bytes());
        Ok(())
    },
    |input| input.read_array().map(|bytes| Uuid::from_bytes(*bytes))
);

copied!(
    /// `duration`
    Duration,
    super::Duration,
    12,
    |value, out| {
        out.extend_from_slice(&value.to_bytes());
        Ok(())
    },
    |input| input.read_array().map(super::Duration::from_bytes)
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_equal_jiffs() {
        let epoch = civil::date(1970, 1, 1);
        for (year, month, day) in
            [(-9999, 1, 1), (0, 2, 29), (1600, 2, 29), (1969, 12, 31), (2024, 2, 29), (9999, 12, 31)]
        {
            let date = civil::date(year, month, day);
            let days = i64::from(days_of(date));
            assert_eq!(days, date.duration_since(epoch).as_hours() / 24, "{date}");
            assert_eq!(date_of(days as i32), Some(date));
        }
        assert_eq!((date_of(-4_371_588), date_of(2_932_897)), (None, None));
        // Every day of four hundred years, over a change of era.
        let mut date = civil::date(-200, 1, 1);
        for days in days_of(date)..days_of(civil::date(201, 1, 1)) {
            assert_eq!(date_of(days), Some(date));
            date = date.tomorrow().expect("in range");
        }
    }

    #[test]
    fn a_wide_decimal_is_read_or_refused() {
        let read = |bytes: &[u8]| read_decimal(bytes, 29, 2, &Input::new(&[])).map(|decimal| decimal.to_string());
        assert_eq!(read(&[]).as_deref(), Ok("0.00"));
        assert_eq!(read(&[0xff; 30]).as_deref(), Ok("-0.01"));
        assert_eq!(read(&[0, 0, 0, 0, 0, 0, 0, 0, 1, 0]).as_deref(), Ok("2.56"));
        assert_eq!(read(&[0x80, 0, 0, 0, 0, 0, 0, 0]).as_deref(), Ok("-92233720368547758.08"));
        let mut largest = [0xff; 13];
        largest[0] = 0;
        assert_eq!(read(&largest).as_deref(), Ok("792281625142643375935439503.35"));
        assert!(read(&[1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]).is_err());
        assert!(read(&[1; 17]).is_err());
        assert!(read(&[0x80; 16]).is_err());
    }

    #[test]
    fn a_decimal_of_too_many_digits_is_refused() {
        let read = |bytes: &[u8]| read_decimal(bytes, 3, 0, &Input::new(&[])).map(|decimal| decimal.to_string());
        for value in -1_000_i64..=1_000 {
            let bytes = value.to_be_bytes();
            // As short as can be, and longer.
            for skipped in 0..=6 {
                let read = read(&bytes[skipped..]);
                match value.unsigned_abs() {
                    1_000 => assert_eq!(read.expect_err("too many").reason, "a decimal of more than 3 digits"),
                    _ => assert_eq!(read, Ok(value.to_string())),
                }
            }
        }
        for value in [i64::MIN, i64::MAX, -1, 1 << 40, -(1 << 23), 255, -129] {
            for skipped in 0..8_u32 {
                let bytes = value.to_be_bytes();
                let expected = value << (8 * skipped) >> (8 * skipped);
                assert_eq!(narrow(&bytes[skipped as usize..]), Some(expected), "{value} {skipped}");
            }
        }
        assert_eq!(read(&[0; 16]), Ok("0".into()));
        assert_eq!(read(&[0xff; 16]), Ok("-1".into()));
        assert!(read(&[1, 0, 0, 0, 0, 0, 0, 0, 0]).is_err());
    }

    #[test]
    fn what_is_finer_is_cut_off_towards_the_past() {
        let moment = |nanoseconds| Timestamp::from_nanosecond(nanoseconds).expect("in range");
        assert_eq!(units_of(moment(-1), 1_000), Ok(-1));
        assert_eq!(units_of(moment(1_999_999), 1_000), Ok(1));
        assert_eq!(units_of(moment(i64::MIN.into()), 1_000_000_000), Ok(i64::MIN));
        assert!(units_of(moment(i128::from(i64::MAX) + 1), 1_000_000_000).is_err());
    }
}

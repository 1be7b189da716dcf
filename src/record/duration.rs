//! `duration`: three counts of time that cannot be made into one.

use std::fmt;
use std::str::FromStr;

/// An Avro `duration`: months, days and milliseconds beside each other, since neither a month nor a day is always as
/// long.
///
/// As a text it is the duration of ISO 8601: `P14M3DT0.25S`. Parsing takes years, weeks, hours and minutes too.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Duration {
    /// Calendar months.
    pub months: u32,
    /// Calendar days.
    pub days: u32,
    /// Milliseconds.
    pub millis: u32,
}

impl Duration {
    /// No time at all.
    pub const ZERO: Self = Self { months: 0, days: 0, millis: 0 };

    /// As it is written: each count little-endian.
    pub fn to_bytes(self) -> [u8; 12] {
        let mut bytes = [0; 12];
        for (part, count) in bytes.chunks_exact_mut(4).zip([self.months, self.days, self.millis]) {
            part.copy_from_slice(&count.to_le_bytes());
        }
        bytes
    }

    /// From what is written.
    pub fn from_bytes(bytes: &[u8; 12]) -> Self {
        let [a, b, c, d, e, f, g, h, i, j, k, l] = *bytes;
        Self {
            months: u32::from_le_bytes([a, b, c, d]),
            days: u32::from_le_bytes([e, f, g, h]),
            millis: u32::from_le_bytes([i, j, k, l]),
        }
    }
}

impl fmt::Display for Duration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self == Self::ZERO {
            return f.write_str("PT0S");
        }
        f.write_str("P")?;
        if self.months > 0 {
            write!(f, "{}M", self.months)?;
        }
        if self.days > 0 {
            write!(f, "{}D", self.days)?;
        }
        match (self.millis / 1_000, self.millis % 1_000) {
            (0, 0) => Ok(()),
            (seconds, 0) => write!(f, "T{seconds}S"),
            (seconds, millis) => {
                let fraction = format!("{millis:03}");
                write!(f, "T{seconds}.{}S", fraction.trim_end_matches('0'))
            }
        }
    }
}

/// A text that is no duration, or one that does not fit.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no duration; write one such as \"P14M3DT0.25S\"")]
pub struct WrongDuration(String);

impl FromStr for Duration {
    type Err = WrongDuration;

    fn from_str(text: &str) -> Result<Self, WrongDuration> {
        parse(text).ok_or_else(|| WrongDuration(text.to_owned()))
    }
}

/// Milliseconds of the units behind `T`, and those before it: months, or days.
fn parse(text: &str) -> Option<Duration> {
    let rest = text.strip_prefix('P')?;
    let (date, time) = rest.split_once('T').map_or((rest, None), |(date, time)| (date, Some(time)));
    if date.is_empty() && time.is_none_or(str::is_empty) || time.is_some_and(str::is_empty) {
        return None;
    }
    let (mut months, mut days, mut millis) = (0_u64, 0_u64, 0_u64);
    let mut add = |sum: fn(u64, u64) -> Option<u64>, which: usize, number: u64| {
        let sum_of = [&mut months, &mut days, &mut millis].into_iter().nth(which)?;
        *sum_of = sum(*sum_of, number)?;
        Some(())
    };
    parts(date, "YMWD", |unit, whole, fraction| {
        let (which, factor) = match unit {
            'Y' => (0, 12),
            'M' => (0, 1),
            'W' => (1, 7),
            _ => (1, 1),
        };
        fraction.is_empty().then_some(())?;
        add(u64::checked_add, which, whole.checked_mul(factor)?)
    })?;
    parts(time.unwrap_or_default(), "HMS", |unit, whole, fraction| {
        let factor = match unit {
            'H' => 3_600_000,
            'M' => 60_000,
            _ => 1_000,
        };
        let fraction = match fraction.len() {
            0 => 0,
            1..=3 if unit == 'S' => format!("{fraction:0<3}").parse().ok()?,
            _ => return None,
        };
        add(u64::checked_add, 2, whole.checked_mul(factor)?.checked_add(fraction)?)
    })?;
    let fits = |count| u32::try_from(count).ok();
    Some(Duration { months: fits(months)?, days: fits(days)?, millis: fits(millis)? })
}

/// Numbers, each with its unit; the units in their order, each at most once.
fn parts(mut text: &str, units: &str, mut part: impl FnMut(char, u64, &str) -> Option<()>) -> Option<()> {
    let mut units = units.chars();
    while !text.is_empty() {
        let end = text.find(|c: char| c.is_ascii_uppercase())?;
        let unit = text[end..].chars().next()?;
        units.find(|known| *known == unit)?;
        let (whole, fraction) = text[..end].split_once('.').unwrap_or((&text[..end], ""));
        if whole.is_empty() || !whole.bytes().chain(fraction.bytes()).all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        part(unit, whole.parse().ok()?, fraction)?;
        text = &text[end + 1..];
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_go_there_and_back() {
        for (months, days, millis, text) in [
            (0, 0, 0, "PT0S"),
            (14, 3, 250, "P14M3DT0.25S"),
            (0, 1, 0, "P1D"),
            (0, 0, 61_000, "PT61S"),
            (u32::MAX, u32::MAX, u32::MAX, "P4294967295M4294967295DT4294967.295S"),
        ] {
            let duration = Duration { months, days, millis };
            assert_eq!(duration.to_string(), text);
            assert_eq!(text.parse(), Ok(duration));
            assert_eq!(Duration::from_bytes(&duration.to_bytes()), duration);
        }
        assert_eq!("P1Y2M1W1DT1H1M1.001S".parse(), Ok(Duration { months: 14, days: 8, millis: 3_661_001 }));
        for wrong in
            ["", "P", "PT", "P1", "1D", "P-1D", "P1S", "P1DT", "P1D1M", "PT1.0005S", "P4294967296D", "P1.5D", "P+1D"]
        {
            assert!(wrong.parse::<Duration>().is_err(), "{wrong}");
        }
    }
}

//! What becomes of a topic's old records.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::error::{Error, ErrorKind, Result};

/// How old records go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Cleanup {
    /// Whole segments are deleted when they are too old or too many; without a bound, nothing is.
    #[default]
    #[serde(rename = "delete")]
    Delete,
    /// The last record of every key is kept.
    #[serde(rename = "compact")]
    Compact,
    /// Both: the last record of every key, until it is too old or there are too many.
    #[serde(rename = "compact,delete")]
    CompactAndDelete,
}

impl Cleanup {
    /// Whether records with a later one of the same key go. Then every record must have a key.
    pub fn compacts(self) -> bool {
        self != Self::Delete
    }

    /// Whether records go because of their age or their bytes.
    pub fn deletes(self) -> bool {
        self != Self::Compact
    }
}

impl fmt::Display for Cleanup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Delete => "delete",
            Self::Compact => "compact",
            Self::CompactAndDelete => "compact,delete",
        })
    }
}

/// What becomes of a topic's old records. Where nothing is said, none goes.
///
/// ```
/// # use gretchen::topic::TopicSettings;
/// let week = TopicSettings::parse(["retention_ms=7d", "retention_bytes=10GiB"])?;
/// assert_eq!(week.retention_ms, Some(7 * 86_400_000));
/// # Ok::<(), gretchen::error::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct TopicSettings {
    /// How they go.
    pub cleanup: Cleanup,
    /// A record may go when so many milliseconds have passed since it was appended, whatever its timestamp says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retention_ms: Option<u64>,
    /// The oldest records of a partition go as long as this many bytes are left.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retention_bytes: Option<u64>,
    /// Time for which compaction keeps tombstones, so that every reader sees them; a day where nothing is said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub delete_retention_ms: Option<u64>,
    /// Size at which a segment ends; as the log says where nothing is said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub segment_bytes: Option<u64>,
    /// Age at which a segment ends, however small; `retention_ms` where nothing is said. Only whole segments go, and
    /// never the one that is written.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub segment_ms: Option<u64>,
}

/// The least size of a segment.
const MIN_SEGMENT_BYTES: u64 = 4096;
const DAY_MS: u64 = 24 * 60 * 60 * 1000;

/// Names of the settings, in the order in which people should read them.
const NAMES: [&str; 6] =
    ["cleanup", "retention_ms", "retention_bytes", "delete_retention_ms", "segment_bytes", "segment_ms"];

impl TopicSettings {
    /// The settings that texts like `retention_ms=7d` say; see [`TopicSettings::set`].
    pub fn parse<'a>(texts: impl IntoIterator<Item = &'a str>) -> Result<Self> {
        let mut settings = Self::default();
        texts.into_iter().try_for_each(|text| settings.set(text))?;
        Ok(settings)
    }

    /// Changes one setting: its name, `=` and a value. Times are milliseconds or have a unit (`90s`, `15m`, `12h`,
    /// `7d`), sizes are bytes or have one (`512KiB`, `64MiB`, `2GiB`); `none` takes a bound away.
    pub fn set(&mut self, text: &str) -> Result<()> {
        let wrong = |what: String| Err(Error::new(ErrorKind::Config, what));
        let Some((name, value)) = text.split_once('=') else {
            return wrong(format!("{text:?} sets nothing; write NAME=VALUE with one of {}", NAMES.join(", ")));
        };
        let name = name.trim().replace(['-', '.'], "_");
        let value = value.trim();
        let (number, units): (&mut Option<u64>, &[(&str, u64)]) = match name.as_str() {
            "cleanup" | "cleanup_policy" => {
                self.cleanup = match value {
                    "delete" => Cleanup::Delete,
                    "compact" => Cleanup::Compact,
                    "compact,delete" | "delete,compact" => Cleanup::CompactAndDelete,
                    _ => return wrong(format!("cleanup is {value:?}; it must be delete, compact or compact,delete")),
                };
                return Ok(());
            }
            "retention_ms" => (&mut self.retention_ms, TIMES),
            "retention_bytes" => (&mut self.retention_bytes, SIZES),
            "delete_retention_ms" => (&mut self.delete_retention_ms, TIMES),
            "segment_bytes" => (&mut self.segment_bytes, SIZES),
            "segment_ms" => (&mut self.segment_ms, TIMES),
            _ => return wrong(format!("a topic has no setting {name:?}; it has {}", NAMES.join(", "))),
        };
        if value == "none" {
            *number = None;
            return Ok(());
        }
        match with_unit(value, units) {
            Some(bytes) if name == "segment_bytes" && bytes < MIN_SEGMENT_BYTES => {
                wrong(format!("segment_bytes is {value:?}; a segment takes at least {MIN_SEGMENT_BYTES} bytes"))
            }
            Some(value) => {
                *number = Some(value);
                Ok(())
            }
            None => {
                let units: Vec<&str> = units.iter().map(|(unit, _)| *unit).collect();
                wrong(format!(
                    "{name} is {value:?}; it must be a whole number, with a unit ({}), or none",
                    units.join(", ")
                ))
            }
        }
    }

    /// Each setting with its value, as [`TopicSettings::set`] reads it; those of which nothing is said are left out.
    pub fn list(&self) -> Vec<(&'static str, String)> {
        let numbers =
            [self.retention_ms, self.retention_bytes, self.delete_retention_ms, self.segment_bytes, self.segment_ms];
        let [cleanup, named @ ..] = NAMES;
        let mut list = vec![(cleanup, self.cleanup.to_string())];
        list.extend(named.into_iter().zip(numbers).filter_map(|(name, number)| Some((name, number?.to_string()))));
        list
    }

    /// Whether anything ever goes.
    pub fn lets_go(&self) -> bool {
        self.cleanup.compacts() || self.retention_ms.is_some() || self.retention_bytes.is_some()
    }

    /// Whether nothing is said that the first version of topics had not.
    pub(crate) fn is_plain(&self) -> bool {
        let Self { retention_ms, retention_bytes, delete_retention_ms, segment_bytes, segment_ms, cleanup } = self;
        let numbers = [retention_ms, retention_bytes, delete_retention_ms, segment_bytes, segment_ms];
        numbers.into_iter().all(Option::is_none) && *cleanup != Cleanup::CompactAndDelete
    }

    /// Time for which tombstones are kept, in milliseconds.
    pub(crate) fn tombstones_ms(&self) -> u64 {
        self.delete_retention_ms.unwrap_or(DAY_MS)
    }

    /// Age at which a segment ends, in milliseconds.
    pub(crate) fn roll_ms(&self) -> Option<u64> {
        self.segment_ms.or(self.retention_ms.filter(|_| self.cleanup.deletes()))
    }
}

const TIMES: &[(&str, u64)] = &[("ms", 1), ("s", 1000), ("m", 60 * 1000), ("h", 60 * 60 * 1000), ("d", DAY_MS)];
const SIZES: &[(&str, u64)] = &[("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30), ("TiB", 1 << 40)];

/// A whole number, times its unit.
fn with_unit(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let factor = match unit.trim() {
        "" => 1,
        unit => units.iter().find(|(name, _)| *name == unit)?.1,
    };
    // Beyond what a signed time can hold, nothing is ever that old.
    number.parse::<u64>().ok()?.checked_mul(factor).filter(|number| *number <= i64::MAX as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_setting_is_read_as_people_write_it() {
        let mut settings = TopicSettings::default();
        for (text, want) in [
            ("retention_ms=7d", "retention_ms=604800000"),
            ("retention.ms=90s", "retention_ms=90000"),
            ("retention-bytes = 2 GiB", "retention_bytes=2147483648"),
            ("delete_retention_ms=0", "delete_retention_ms=0"),
            ("segment_bytes=4096", "segment_bytes=4096"),
            ("segment_ms=12h", "segment_ms=43200000"),
            ("cleanup=delete,compact", "cleanup=compact,delete"),
        ] {
            settings.set(text).unwrap();
            let list = settings.list();
            assert!(list.iter().any(|(name, value)| format!("{name}={value}") == want), "{text}: {list:?}");
        }
        assert!(settings.lets_go() && !settings.is_plain());
        for name in ["retention_ms", "retention_bytes", "delete_retention_ms", "segment_bytes", "segment_ms"] {
            settings.set(&format!("{name}=none")).unwrap();
        }
        settings.set("cleanup=delete").unwrap();
        assert_eq!(settings, TopicSettings::default());
        assert!(!settings.lets_go() && settings.is_plain());
    }

    #[test]
    fn what_is_no_setting_is_refused() {
        for (text, wanted) in [
            ("retention_ms", "sets nothing"),
            ("retention=5", "it has cleanup, retention_ms"),
            ("retention_ms=soon", "a whole number, with a unit (ms, s, m, h, d), or none"),
            ("retention_ms=-1", "a whole number"),
            ("retention_ms=9223372036854775808", "a whole number"),
            ("retention_bytes=5d", "with a unit (KiB, MiB, GiB, TiB)"),
            ("segment_bytes=4095", "at least 4096"),
            ("cleanup=keep", "it must be delete, compact or compact,delete"),
        ] {
            let error = TopicSettings::parse([text]).unwrap_err();
            assert!(error.message().contains(wanted), "{text}: {error}");
        }
    }
}

//! What ends a commit in a changelog, and how its records are told apart.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::agent::OUTPUT_TAG;
use crate::error::{Error, ErrorKind, Result};
use crate::record::RawRecord;

/// Output partitions that an agent may have: their numbers are places in a list.
const OUTPUT_PARTITIONS: u32 = 1 << 20;

/// First byte of the key of a table's new value.
pub(crate) const DELTA_TAG: u8 = 1;
/// The whole key of the record that ends a commit.
pub(crate) const MARK_TAG: u8 = 3;
/// The same where outputs of the commit follow from its deltas: releases that do not know of that refuse it.
pub(crate) const DERIVING_MARK_TAG: u8 = 4;
/// The first that only newer releases know: whatever a record says besides what is read here needs a kind of its own.
const UNKNOWN_FROM: u8 = 5;

/// The end of a commit. Without it nothing of the commit counts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Mark {
    /// Counts the task's commits.
    pub commit: u64,
    /// Offset of the commit's first record: what stands between an earlier mark and this offset is the rest of a
    /// commit that never ended.
    pub begins: u64,
    /// For each source topic the offset to be read next.
    pub positions: BTreeMap<String, u64>,
    /// The same of topics that the agent has read before and reads no more, should it read them again.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub left: BTreeMap<String, u64>,
    /// Largest timestamp seen, ms.
    pub stream_time: i64,
    /// What tells each of these topics from one of the same name that was deleted, where its backend has that.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub ids: BTreeMap<String, String>,
    /// The agent's tables, in the order by which the commit's values name them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tables: Vec<String>,
    /// What the states of each table look like, where only the same can be read; else an empty text.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub layouts: Vec<String>,
    /// Where the tables put out what their deltas in this commit come to. These outputs are not in the changelog: they
    /// follow those that are, in the order of the deltas.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub derived: Vec<Derived>,
    /// The outputs of this commit, by output partition.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub outputs: Vec<MarkedOutputs>,
}

/// A table whose outputs follow from its deltas: the last value of every key that changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Derived {
    /// Its place among the agent's tables.
    pub table: usize,
    /// The number of its output topic's partition 0, as [`MarkedOutputs::number`].
    pub first: u32,
    /// How many partitions its output topic has.
    pub partitions: u32,
}

impl Derived {
    fn is_possible(&self) -> bool {
        self.partitions > 0 && self.first.checked_add(self.partitions).is_some_and(|end| end <= OUTPUT_PARTITIONS)
    }
}

/// Outputs of one commit to one partition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct MarkedOutputs {
    /// The number by which the commit's records name this partition.
    pub number: u32,
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: u32,
    /// The task's own number of the first of them in that partition.
    pub sequence: u64,
    /// How many there are.
    pub count: u64,
}

/// Topics that a task has read before and reads no more, should it read them again.
#[derive(Clone, Debug, Default)]
pub(crate) struct Left {
    /// The offset to be read next.
    pub(crate) positions: BTreeMap<String, u64>,
    /// As [`Mark::ids`].
    ids: BTreeMap<String, String>,
}

impl Left {
    /// `ids` are those of the last mark.
    pub(crate) fn new(positions: BTreeMap<String, u64>, mut ids: BTreeMap<String, String>) -> Self {
        ids.retain(|topic, _| positions.contains_key(topic));
        Self { positions, ids }
    }

    /// The ids of these topics and of those that the task reads.
    pub(crate) fn ids_with(&self, sources: BTreeMap<String, String>) -> BTreeMap<String, String> {
        self.ids.clone().into_iter().chain(sources).collect()
    }
}

impl Mark {
    /// The key of its record.
    pub(crate) fn tag(&self) -> u8 {
        if self.derived.is_empty() { MARK_TAG } else { DERIVING_MARK_TAG }
    }

    /// Whether it can be true of a commit that ends at an offset; nothing else is computed with it before.
    fn check(&self, ends: u64) -> Result<(), &'static str> {
        let outputs = |wrong: fn(&MarkedOutputs) -> bool| self.outputs.iter().any(wrong);
        if self.begins > ends {
            Err("a commit begins behind its end")
        } else if outputs(|to| to.number >= OUTPUT_PARTITIONS) {
            Err("a commit has more output partitions than there can be")
        } else if self.derived.iter().any(|from| !from.is_possible()) {
            Err("a table of a commit puts out to partitions that there cannot be")
        } else if outputs(|to| to.sequence.checked_add(to.count).is_none()) {
            Err("a commit has more outputs than there can be")
        } else {
            Ok(())
        }
    }

    /// Whether the commit has outputs to the partition of that number.
    pub(crate) fn puts_out_to(&self, number: u32) -> bool {
        self.outputs.iter().any(|to| to.number == number)
    }
}

/// A record of a changelog.
#[derive(Debug)]
pub(crate) enum Entry<'a> {
    /// A table's new value for a key, or its removal.
    Delta {
        /// Which of the agent's tables.
        table: usize,
        /// The key's bytes.
        key: &'a [u8],
        /// The state's bytes.
        state: Option<&'a [u8]>,
    },
    /// Something put out, to the output partition of that number.
    Output {
        /// The number, as [`MarkedOutputs::number`].
        number: u32,
        /// The output's own key.
        key: Option<&'a [u8]>,
    },
    /// The end of a commit.
    Mark(Mark),
}

impl<'a> Entry<'a> {
    /// What a changelog's record is.
    pub(crate) fn parse(record: &RawRecord<'a>) -> Result<Self> {
        let broken = |why: &str| {
            Error::new(
                ErrorKind::Corrupt,
                format!("the changelog holds a record that no release of gretchen writes: {why}"),
            )
            .at_offset(record.offset)
        };
        match record.key {
            Some([DELTA_TAG, table, key @ ..]) => {
                Ok(Self::Delta { table: usize::from(*table), key, state: record.value })
            }
            Some([OUTPUT_TAG, a, b, c, d, has_key, key @ ..]) => {
                Ok(Self::Output { number: u32::from_le_bytes([*a, *b, *c, *d]), key: (*has_key != 0).then_some(key) })
            }
            Some([MARK_TAG | DERIVING_MARK_TAG]) => {
                let mark: Mark = serde_json::from_slice(record.value.unwrap_or_default())
                    .map_err(|error| broken("the end of a commit cannot be read").with_source(error))?;
                mark.check(record.offset).map_err(broken)?;
                Ok(Self::Mark(mark))
            }
            // The checksum of its frame held.
            Some([tag, ..]) if *tag >= UNKNOWN_FROM => {
                let message = format!(
                    "the changelog holds a record of kind {tag}, this build knows those up to {}; use the release that wrote it",
                    UNKNOWN_FROM - 1
                );
                Err(Error::new(ErrorKind::Unsupported, message).at_offset(record.offset))
            }
            Some([tag, ..]) => Err(broken(&format!("its kind is {tag}"))),
            _ => Err(broken("it has no key")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Headers;

    #[test]
    fn a_kind_of_record_that_only_a_newer_release_knows_is_refused() {
        for (tag, kind) in
            [(0, ErrorKind::Corrupt), (UNKNOWN_FROM, ErrorKind::Unsupported), (255, ErrorKind::Unsupported)]
        {
            let key = [tag, 1, 2];
            let record =
                RawRecord { offset: 7, timestamp: 0, key: Some(&key), value: Some(b"v"), headers: Headers::default() };
            let error = Entry::parse(&record).unwrap_err();
            assert_eq!((error.kind(), error.offset()), (kind, Some(7)), "{error}");
            if kind == ErrorKind::Unsupported {
                let both = format!("kind {tag}, this build knows those up to {DERIVING_MARK_TAG}; use the release");
                assert!(error.message().contains(&both), "{error}");
            }
        }
    }
}

//! Topics: names, specifications, and which partition a key belongs to.

mod settings;

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

pub use self::settings::{Cleanup, TopicSettings};
use crate::error::{Error, ErrorKind, Result};

/// One partition of one topic.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TopicPartition {
    /// The topic's name.
    pub topic: Arc<str>,
    /// The partition's number, from 0.
    pub partition: u32,
}

impl TopicPartition {
    /// Partition `partition` of `topic`.
    pub fn new(topic: impl Into<Arc<str>>, partition: u32) -> Self {
        Self { topic: topic.into(), partition }
    }
}

impl fmt::Display for TopicPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.topic, self.partition)
    }
}

/// A schema as a topic keeps it: the full text and the fingerprint that records carry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicSchema {
    /// CRC-64-AVRO fingerprint of the canonical form.
    pub fingerprint: u64,
    /// The whole schema as JSON, with every named type in it.
    pub json: Arc<str>,
}

/// What the values of a topic look like, so that other programs can write and read them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum WireFormat {
    /// Avro's single-object encoding: `C3 01`, the fingerprint of the schema, the datum.
    #[default]
    SingleObject,
    /// The datum alone. All values are of the one schema that the topic got first.
    Bare,
    /// As Confluent's serializers write it: a zero, the number of the schema in four bytes, big-endian, the datum. A
    /// registry gives the numbers, where one is named; without one the number is the schema's place among those that the
    /// topic keeps, from 1.
    Confluent,
    /// Plain texts, UTF-8: what Kafka's `StringSerializer` writes. Its name is `string`.
    #[serde(rename = "string")]
    Text,
    /// Bytes as they are.
    Bytes,
    /// Plain numbers of 4 bytes, big-endian: what Kafka's `IntegerSerializer` writes.
    Int,
    /// Plain numbers of 8 bytes, big-endian: what Kafka's `LongSerializer` writes.
    Long,
    /// Plain floating-point numbers of 4 bytes: what Kafka's `FloatSerializer` writes.
    Float,
    /// Plain floating-point numbers of 8 bytes: what Kafka's `DoubleSerializer` writes.
    Double,
}

impl fmt::Display for WireFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::SingleObject => "single-object",
            Self::Bare => "bare",
            Self::Confluent => "confluent",
            Self::Text => "string",
            Self::Bytes => "bytes",
            Self::Int => "int",
            Self::Long => "long",
            Self::Float => "float",
            Self::Double => "double",
        })
    }
}

/// Who gives the numbers in the Confluent headers of a topic's values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Numbering {
    /// The topic: its first schema has number 1, and so on.
    Own,
    /// A schema registry.
    Registry,
}

/// A topic as somebody wants it to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicSpec {
    /// By Kafka's rule, see [`check_name`].
    pub name: Arc<str>,
    /// Number of partitions, fixed when the topic is created.
    pub partitions: u32,
    /// The field that the records are keyed by, when there is one.
    pub key_field: Option<Arc<str>>,
    /// The schema of the values, when they have one.
    pub schema: Option<TopicSchema>,
    /// What happens to old records. A topic gets it when it is made and keeps it until somebody sets it.
    pub settings: TopicSettings,
    /// Made by an app for itself: changelogs and repartition topics.
    pub internal: bool,
    /// What values look like; nothing said takes the topic as it is, or makes one of single objects.
    pub format: Option<WireFormat>,
    /// Who gives the numbers in Confluent headers, fixed by whoever writes the first.
    pub numbers: Option<Numbering>,
}

impl TopicSpec {
    /// A topic with `partitions` partitions and nothing else said.
    pub fn new(name: impl Into<Arc<str>>, partitions: u32) -> Self {
        Self {
            name: name.into(),
            partitions,
            key_field: None,
            schema: None,
            settings: TopicSettings::default(),
            internal: false,
            format: None,
            numbers: None,
        }
    }

    /// Refuses to set anything of a topic that an app made for itself.
    pub(crate) fn check_settable(&self) -> Result<()> {
        if !self.internal {
            return Ok(());
        }
        let message = format!(
            "topic {} is an app's own, and its worker lets records go when they are not needed any more; nothing of it \
             can be set",
            self.name
        );
        Err(Error::new(ErrorKind::Config, message))
    }

    /// Checks that `wanted` asks for nothing else than this existing topic is. Without a key it takes the topic as
    /// it is keyed.
    pub(crate) fn check_fits(&self, wanted: &Self) -> Result<()> {
        let differs = |what: &str, have: &dyn fmt::Display, want: &dyn fmt::Display| {
            Err(Error::new(
                ErrorKind::Conflict,
                format!(
                    "topic {} exists with {what} {have}, and {what} {want} is asked for; ask for {have}, or use \
                     another topic",
                    self.name
                ),
            ))
        };
        if self.partitions != wanted.partitions {
            return differs("partition count", &self.partitions, &wanted.partitions);
        }
        if let Some(want) = wanted.format.filter(|want| *want != self.format.unwrap_or_default()) {
            return differs("format", &self.format.unwrap_or_default(), &want);
        }
        self.check_numbers(wanted)?;
        match (&self.key_field, &wanted.key_field) {
            (_, None) => Ok(()),
            (Some(have), Some(want)) if have == want => Ok(()),
            (Some(have), Some(want)) => differs("key", have, want),
            (None, Some(want)) => differs("key", &"none", want),
        }
    }
}

impl TopicSpec {
    /// A value does not say whose number it has, so a topic can have numbers of one kind alone.
    fn check_numbers(&self, wanted: &Self) -> Result<()> {
        let message = match (self.numbers, wanted.numbers) {
            (Some(Numbering::Own), Some(Numbering::Registry)) => format!(
                "the values of topic {} have numbers of the topic's own, from a time without a schema registry, and could \
                 not be told from values with numbers of the registry's: write to a new topic, or leave the setting registry \
                 out",
                self.name
            ),
            (Some(Numbering::Registry), Some(Numbering::Own)) => self.lacks_registry(),
            _ => return Ok(()),
        };
        Err(Error::new(ErrorKind::Conflict, message))
    }

    /// What is said where the topic's numbers cannot be looked up.
    pub(crate) fn lacks_registry(&self) -> String {
        format!(
            "the values of topic {} have numbers that a schema registry gave; name that registry with the setting registry",
            self.name
        )
    }
}

/// The largest number of partitions that a topic may have.
pub const MAX_PARTITIONS: u32 = 100_000;

/// Checks a topic's name by Kafka's rule: 1 to 249 of `[a-zA-Z0-9._-]`, neither `.` nor `..`.
pub fn check_name(name: &str) -> Result<()> {
    let wrong = match name {
        "" => Some("it is empty".to_owned()),
        "." | ".." => Some("it is a path".to_owned()),
        _ if name.len() > 249 => Some(format!("it has {} bytes", name.len())),
        _ => name
            .chars()
            .find(|c| !matches!(c, 'a'..='z' | 'A'..='Z' | '0'..='9' | '.' | '_' | '-'))
            .map(|c| format!("it holds {c:?}")),
    };
    match wrong {
        None => Ok(()),
        Some(why) => Err(Error::new(
            ErrorKind::Config,
            format!(
                "{name:?} cannot name a topic: {why}; use 1 to 249 of a-z A-Z 0-9 . _ - and neither \".\" nor \"..\""
            ),
        )),
    }
}

/// Checks the name and the number of partitions of a topic that is to be created.
pub(crate) fn check_spec(spec: &TopicSpec) -> Result<()> {
    check_name(&spec.name)?;
    if spec.partitions == 0 || spec.partitions > MAX_PARTITIONS {
        return Err(Error::new(
            ErrorKind::Config,
            format!("topic {} cannot have {} partitions; use 1 to {MAX_PARTITIONS}", spec.name, spec.partitions),
        ));
    }
    Ok(())
}

/// The partition that a key belongs to: Kafka's default partitioner, so that every client agrees.
#[inline]
pub fn partition_of(key: &[u8], partitions: u32) -> u32 {
    if partitions <= 1 { 0 } else { (murmur2(key) & 0x7fff_ffff) % partitions }
}

/// Murmur2 with the seed that Kafka's Java client uses (`org.apache.kafka.common.utils.Utils.murmur2`).
pub fn murmur2(data: &[u8]) -> u32 {
    const M: u32 = 0x5bd1_e995;
    let mut hash = 0x9747_b28c ^ data.len() as u32;
    let mut words = data.chunks_exact(4);
    for word in &mut words {
        let mut k = u32::from_le_bytes([word[0], word[1], word[2], word[3]]).wrapping_mul(M);
        k ^= k >> 24;
        hash = hash.wrapping_mul(M) ^ k.wrapping_mul(M);
    }
    let rest = words.remainder();
    if !rest.is_empty() {
        for (i, byte) in rest.iter().enumerate() {
            hash ^= u32::from(*byte) << (8 * i);
        }
        hash = hash.wrapping_mul(M);
    }
    hash ^= hash >> 13;
    hash = hash.wrapping_mul(M);
    hash ^ (hash >> 15)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The vectors of Kafka's own `UtilsTest.testMurmur2`.
    #[test]
    fn murmur2_equals_kafkas() {
        for (key, hash) in [
            ("21", -973_932_308),
            ("foobar", -790_332_482),
            ("a-little-bit-long-string", -985_981_536),
            ("a-little-bit-longer-string", -1_486_304_829),
            ("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58_897_971),
            ("abc", 479_470_107),
        ] {
            assert_eq!(murmur2(key.as_bytes()) as i32, hash, "{key}");
        }
    }

    #[test]
    fn names_follow_kafkas_rule() {
        for good in ["orders", "a.b_c-D9", &"x".repeat(249)] {
            assert!(check_name(good).is_ok(), "{good}");
        }
        for bad in ["", ".", "..", "a/b", "ä", "a b", &"x".repeat(250)] {
            assert!(check_name(bad).is_err(), "{bad}");
        }
    }
}

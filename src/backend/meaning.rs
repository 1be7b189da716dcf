//! Schemas that share a fingerprint and do not mean the same.

use crate::error::{Error, ErrorKind, Result};
use crate::record::{DynamicSchema, incompatibilities};
use crate::topic::TopicSchema;

/// Refuses a schema whose fingerprint a topic knows as that of another with other logical types.
///
/// The fingerprint is that of the canonical form, which holds no logical types: a decimal of scale 2 and one of scale 3
/// share it, and values of the one would be read as the other without a word.
pub(crate) fn check_same_meaning(topic: &str, known: &[TopicSchema], wanted: &TopicSchema) -> Result<()> {
    let same = |known: &&TopicSchema| known.fingerprint == wanted.fingerprint && known.json != wanted.json;
    let Some(known) = known.iter().find(same) else { return Ok(()) };
    let (Ok(old), Ok(new)) = (DynamicSchema::parse(&known.json), DynamicSchema::parse(&wanted.json)) else {
        return Ok(());
    };
    match incompatibilities(&old, &new).first() {
        None => Ok(()),
        Some(problem) => Err(Error::new(
            ErrorKind::Conflict,
            format!(
                "topic {topic} has values of {} with the fingerprint {:016x} already, and another meaning: {problem}; a \
                 fingerprint says nothing of logical types, so that they would be read wrongly. Give the field another \
                 name, or use another topic",
                old.name(),
                wanted.fingerprint
            ),
        )),
    }
}

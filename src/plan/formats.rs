//! What agents read and write must fit the formats of their topics before anything is committed.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::agent::{AgentDef, OnError};
use crate::backend::{Topic, plain_of};
use crate::error::{Error, ErrorKind, Result};
use crate::record::{Plain, RecordSchema};
use crate::topic::{TopicSchema, WireFormat};

/// The formats of topics, by name.
pub(super) type Formats = BTreeMap<Arc<str>, WireFormat>;

/// Checks what an agent reads and puts out: where a topic holds plain values of a kind, nothing else can be read or written,
/// and what names no schema cannot be put into a topic whose values all have one.
pub(super) fn check_formats(agent: &AgentDef, formats: &Formats) -> Result<()> {
    for topic in agent.topics {
        check_input(agent, topic, formats.get(*topic).copied().unwrap_or_default())?;
    }
    let outputs = agent.outputs.iter().map(|output| (output.topic, output.schema, output.plain, ""));
    let tables = agent.tables.iter().map(|table| table());
    let tables = tables.filter_map(|table| Some((table.output?, table.schema, table.plain, "a table's ")));
    for (topic, schema, plain, whose) in outputs.chain(tables) {
        let format = formats.get(topic).copied().unwrap_or_default();
        let fits = match plain_of(format) {
            Some(held) => plain == Some(held),
            None => schema.is_some() || format == WireFormat::SingleObject,
        };
        if !fits {
            let what = format!("{whose}{}", described(schema, plain));
            return Err(refused(agent, &what, topic, format));
        }
    }
    if let OnError::DeadLetter(topic) = agent.on_error {
        // They are what others had, whatever that was.
        let format = formats.get(topic).copied().unwrap_or_default();
        if !matches!(format, WireFormat::SingleObject | WireFormat::Bytes) {
            return Err(refused(agent, "dead letters", topic, format));
        }
    }
    Ok(())
}

fn check_input(agent: &AgentDef, topic: &str, format: WireFormat) -> Result<()> {
    let Some(held) = plain_of(format) else { return Ok(()) };
    // Bytes are read whatever they mean, and a type of the user's own may know them.
    let own = agent.plain.is_none() && agent.input.is_none();
    if own || agent.plain == Some(held) || agent.plain == Some(Plain::Bytes) {
        return Ok(());
    }
    let message = format!(
        "agent {} ({}:{}) reads {} from topic {topic}, whose values are plain {held}: take {held} values, or read another \
         topic",
        agent.name,
        agent.file,
        agent.line,
        described(agent.input, agent.plain)
    );
    Err(Error::new(ErrorKind::Plan, message))
}

fn described(schema: Option<&RecordSchema>, plain: Option<Plain>) -> String {
    match (schema, plain) {
        (Some(schema), _) => format!("records {}", schema.name),
        (None, Some(plain)) => format!("plain {plain} values"),
        (None, None) => "plain values".to_owned(),
    }
}

#[cold]
fn refused(agent: &AgentDef, what: &str, topic: &str, format: WireFormat) -> Error {
    let why = match plain_of(format) {
        Some(held) => format!("put plain {held} values there, or use another topic"),
        None => "these name no schema; give them a topic of single objects".to_owned(),
    };
    let message = format!(
        "agent {} ({}:{}) writes {what} to topic {topic}, whose values are {format}: {why}",
        agent.name, agent.file, agent.line
    );
    Error::new(ErrorKind::Plan, message)
}

/// Values without a header are all of one schema: no agent may write another.
pub(super) fn check_bare(topic: &Topic, written: &TopicSchema) -> Result<()> {
    let first = topic.schemas.first().map_or(written.fingerprint, |first| first.fingerprint);
    if topic.spec.format != Some(WireFormat::Bare) || first == written.fingerprint {
        return Ok(());
    }
    let message = format!(
        "topic {} holds bare values of schema {first:016x}, and an agent writes {:016x} there; write to a new topic, \
         or make one in another format",
        topic.spec.name, written.fingerprint
    );
    Err(Error::new(ErrorKind::Plan, message))
}

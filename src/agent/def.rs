//! What `#[agent]` and `aggregate!` know of an agent when they compile it.

use std::future::Future;
use std::pin::Pin;

use super::task::Task;
use crate::error::BoxError;
use crate::record::{Plain, RecordSchema};
use crate::table::TableDef;

/// An agent at work on one partition. It stays on the thread of its partition, so it need not be `Send`.
pub type AgentFuture = Pin<Box<dyn Future<Output = Result<(), BoxError>>>>;

/// How an agent takes its records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// One record a call.
    Record,
    /// One record a call, with key, headers and position.
    Event,
    /// Many records a call.
    Batch,
    /// One call; the agent asks for each record.
    Stream,
    /// A declared aggregation.
    Aggregate,
    /// Puts records into partitions by another key; made by the plan.
    Rekey,
}

impl Shape {
    /// The word for people.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Record => "record",
            Self::Event => "event",
            Self::Batch => "batch",
            Self::Stream => "stream",
            Self::Aggregate => "aggregate",
            Self::Rekey => "rekey",
        }
    }
}

/// What happens to a record that its agent fails on. It is never skipped in silence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnError {
    /// The task stops at that record; everything before it is committed.
    Fail,
    /// The record is tried again, `times` times, after waits that double from `backoff_ms`; then the task stops.
    Retry {
        /// Attempts after the first.
        times: u32,
        /// The first wait in milliseconds.
        backoff_ms: u64,
    },
    /// The record is counted, logged and passed over.
    Skip,
    /// The original bytes go to this topic, with the error and where they came from in headers.
    DeadLetter(&'static str),
}

/// The field that an agent's topic must be keyed by.
#[derive(Clone, Copy, Debug)]
pub struct KeyDef {
    /// The field's name in the schema.
    pub field: &'static str,
    /// The agent that puts records into a repartition topic, should the topic be keyed otherwise.
    pub start_rekey: fn(Task) -> AgentFuture,
}

/// Where records go that an agent returns or sends.
#[derive(Clone, Copy, Debug)]
pub struct OutputDef {
    /// The topic.
    pub topic: &'static str,
    /// The schema of what is put out, for records.
    pub schema: Option<&'static RecordSchema>,
    /// What is put out, for plain values.
    pub plain: Option<Plain>,
    /// Whether each has the key of the record that it comes from, for certain.
    pub keeps_key: bool,
}

/// One agent.
#[derive(Clone, Copy, Debug)]
pub struct AgentDef {
    /// Unique within the app, part of the stored format.
    pub name: &'static str,
    /// First paragraph of the function's documentation.
    pub help: &'static str,
    /// Source file of the function.
    pub file: &'static str,
    /// Line of the function.
    pub line: u32,
    /// The topics that it consumes.
    pub topics: &'static [&'static str],
    /// What the topics must be keyed by.
    pub key: Option<KeyDef>,
    /// The tables that it writes.
    pub tables: &'static [fn() -> TableDef],
    /// Where what it returns goes, or what it sends through each of its outputs.
    pub outputs: &'static [OutputDef],
    /// The consumer group whose members share its partitions, where it is not the agent's own.
    pub group: Option<&'static str>,
    /// Records of one partition that are worked on at once.
    pub concurrency: usize,
    /// What happens to a record that it fails on.
    pub on_error: OnError,
    /// How it takes its records.
    pub shape: Shape,
    /// The schema that it reads with, for records.
    pub input: Option<&'static RecordSchema>,
    /// What it reads, for plain values.
    pub plain: Option<Plain>,
    /// Begins the work on one partition.
    pub start: fn(Task) -> AgentFuture,
}

/// Implemented by `#[agent]` for a type with the function's name.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not an agent",
    note = "put `#[agent(topic = \"…\")]` on the function"
)]
pub trait Agent {
    /// The agent.
    const DEF: &'static AgentDef;
}

/// An agent that its macro submitted for discovery.
#[derive(Debug)]
pub struct Submitted(pub &'static AgentDef);

inventory::collect!(Submitted);

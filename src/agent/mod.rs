//! Agents: plain async functions at work on the records of a partition.

mod ahead;
mod concurrent;
mod declared;
mod def;
mod event;
mod failure;
mod input;
mod outbox;
mod pulse;
mod rekey;
mod stream;
mod task;
mod tracker;
mod window;

pub use concurrent::{concurrently, concurrently_events};
pub use declared::{Aggregation, aggregate};
pub use def::{Agent, AgentDef, AgentFuture, KeyDef, OnError, OutputDef, Shape, Submitted};
pub use event::{Batch, Event, IntoKey, IntoOutputs, Keyed, Outcome};
pub(crate) use failure::{chain, is_storage, lookup_failed, panicked};
pub use input::{Input, Next};
pub use outbox::Destination;
pub use outbox::Emit;
pub(crate) use outbox::{OUTPUT_HEAD, OUTPUT_TAG, Outbox, OutboxLimits};
pub(crate) use pulse::{Beat, Pulse};
pub use rekey::{KeyField, rekey};
pub use stream::{Output, Stream, finish_stream};
pub use task::Task;
pub(crate) use task::{Mail, Shared, Source};

//! Stream processing with plain async functions over typed topics.

pub mod agent;
pub mod app;
pub mod backend;
mod cli;
pub mod clock;
pub mod config;
pub mod error;
pub mod fault;
pub mod plan;
pub mod prelude;
pub mod publish;
pub mod record;
pub mod session;
pub mod table;
pub mod testing;
pub mod topic;
pub mod worker;

#[doc(hidden)]
#[path = "private.rs"]
pub mod __private;

pub use gretchen_macros::{agent, aggregate, records};

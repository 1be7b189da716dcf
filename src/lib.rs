//! Stream processing with plain async functions over typed topics.

pub mod backend;
pub mod clock;
pub mod error;
pub mod record;
pub mod testing;
pub mod topic;

//! Stream processing with plain async functions over typed topics.

pub mod backend;
pub mod clock;
pub mod error;
pub mod record;
pub mod table;
pub mod topic;

#[doc(hidden)]
#[path = "private.rs"]
pub mod __private;

pub use gretchen_macros::records;

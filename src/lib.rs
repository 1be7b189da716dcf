//! Stream processing with plain async functions over typed topics.
//!
//! An agent is an `async fn` that is run for the records of a topic; its state lives in tables. State, outputs and
//! positions commit together, so that every record counts exactly once, whatever crashes.
//!
//! ```
//! use gretchen::prelude::*;
//! # use gretchen::testing::TestApp;
//!
//! static VISITS: Table<String, i64> = Table::new("visits");
//!
//! #[agent(topic = "pages", table = VISITS)]
//! async fn count_visits(page: Event<String>, mut visits: TableMut<'_, String, i64>) -> Result<()> {
//!     visits.update(&page.value, |count| *count += 1)?;
//!     Ok(())
//! }
//!
//! # let _main = || -> ExitCode {
//! App::new("site").main() // a whole command line: worker, send, read, tables, …
//! # };
//! # let mut app = TestApp::new(App::new("site").agent::<count_visits>())?;
//! # app.send_keyed("pages", "/", &"/".to_owned())?;
//! # assert_eq!(app.table(&VISITS)?.get("/")?, Some(1));
//! # Ok::<(), gretchen::error::Error>(())
//! ```
//!
//! [`records!`] makes types of Avro schemas, [`agent`](macro@agent) makes agents, [`aggregate!`] declares totals.
//! [`testing`] runs an app in memory under a clock that the test turns. [`docs`] tells [how it works](docs::architecture)
//! and [what is promised](docs::delivery).

pub mod agent;
pub mod app;
pub mod backend;
mod cli;
pub mod clock;
pub mod config;
pub mod disk;
pub mod docs;
pub mod error;
pub mod fault;
#[cfg(test)]
mod heap;
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

/// The examples of the README are tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

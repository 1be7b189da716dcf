//! What tests of apps and of backends are made with.

pub mod app;
pub mod conformance;
pub mod sim;
pub use app::{Received, START_MS, TestApp, TestTable};

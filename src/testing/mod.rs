//! What tests of apps and of backends are made with.

pub mod conformance;

//! Every integration test, in one binary: each further one would link RocksDB again.

// Helpers of tests are no `#[test]` functions, which clippy would let unwrap.
#![allow(clippy::unwrap_used)]

mod conformance;
mod log;

//! Every integration test, in one binary: each further one would link RocksDB again.

mod conformance;
mod log;

//! Integration tests, one binary: every further one would link RocksDB again.

mod conformance;
mod log;
mod records;
mod testing_kit;

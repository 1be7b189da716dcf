//! Integration tests, one binary: every further one would link RocksDB again.

mod records;
mod testing_kit;

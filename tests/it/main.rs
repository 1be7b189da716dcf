//! Integration tests, one binary: every further one would link RocksDB again.

mod cli;
mod records;
mod testing_kit;

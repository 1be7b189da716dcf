//! Integration tests, one binary: every further one would link RocksDB again.

mod examples;
mod layers;
mod policies;
mod records;
mod testing_kit;

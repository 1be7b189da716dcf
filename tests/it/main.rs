//! Integration tests, one binary: every further one would link RocksDB again.

mod layers;
mod records;
mod testing_kit;

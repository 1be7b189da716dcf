//! Integration tests, one binary: every further one would link RocksDB again.

mod agent_macros;
mod records;
mod testing_kit;

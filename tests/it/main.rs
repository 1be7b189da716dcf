//! Integration tests, one binary: every further one would link RocksDB again.

mod agent_macros;
mod conformance;
mod examples;
mod kill;
mod layers;
mod log;
mod policies;
mod records;
mod shop;
mod support;
mod testing_kit;

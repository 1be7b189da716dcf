//! Integration tests, one binary: every further one would link RocksDB again.

// Helpers of tests are no `#[test]` functions, which clippy would not let unwrap.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod agent_macros;
mod cleaning;
mod cli;
mod clock_jumps;
mod conformance;
mod disorder;
mod examples;
mod failing_calls;
mod fault_points;
mod fixtures;
mod flipped_bits;
mod formats;
mod full_disk;
mod handover;
#[cfg(feature = "kafka")]
mod kafka;
mod kill;
mod large_state;
mod layers;
mod limits;
mod log;
mod log_commands;
mod operator;
mod outputs;
mod plain;
mod policies;
mod rebuilt;
mod records;
#[cfg(all(feature = "kafka", feature = "registry"))]
mod registry;
mod reset;
mod schema_commands;
mod shop;
mod sim;
mod state;
mod storage;
mod stuck;
mod support;
mod testing_kit;
mod waiting;
mod workers;

//! Integration tests, one binary: every further one would link RocksDB again.
// What a test cannot do without fails it, in its helpers, too.
#![allow(clippy::unwrap_used)]

mod fault_points;
mod kill;
mod records;
mod shop;
mod support;
mod testing_kit;
mod workers;

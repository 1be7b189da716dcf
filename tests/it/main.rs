//! Integration tests, one binary: every further one would link RocksDB again.

mod fault_points;
mod kill;
mod records;
mod shop;
mod support;
mod testing_kit;
mod workers;

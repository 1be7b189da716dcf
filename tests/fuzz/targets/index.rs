#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| gretchen_fuzz::index::run(bytes));

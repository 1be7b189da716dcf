#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| gretchen_fuzz::arguments::run(bytes));

//! `coding_recovery` of [`banyan_fuzz::TARGETS`], driven by libFuzzer.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| banyan_fuzz::run("coding_recovery", input));

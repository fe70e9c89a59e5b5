//! What anybody may send to a relay, and to a device that has registered with one.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| relay::fuzzing::take(fuzz::parts(data)));

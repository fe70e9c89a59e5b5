//! What anybody may send to the port for beats, and as an ask for one.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| link::fuzzing::take_beats(fuzz::parts(data)));

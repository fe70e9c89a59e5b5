//! What anybody, and a peer with a proper key, may send to the port of encrypted links.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tunnel::fuzzing::take(fuzz::parts(data)));

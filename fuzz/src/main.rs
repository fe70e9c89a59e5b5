//! Hostile input for every parser that faces the network: one program for all targets, as building takes longer than
//! running. The variable `FUZZ_TARGET` names the one that is fed; arguments are libFuzzer's.
#![no_main]

mod shared;
mod targets;

use std::sync::LazyLock;

use targets::Target;

static TARGET: LazyLock<Target> = LazyLock::new(|| {
    let name = std::env::var("FUZZ_TARGET").expect("FUZZ_TARGET names the target");
    targets::named(&name).unwrap_or_else(|| panic!("there is no target `{name}`"))
});

libfuzzer_sys::fuzz_target!(init: LazyLock::force(&TARGET), |data: &[u8]| TARGET(data));

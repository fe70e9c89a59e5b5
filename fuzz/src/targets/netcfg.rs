//! What may stand in `netcfg.json`.

// Without all of NetManager, which takes minutes to build.
#[expect(dead_code, reason = "the file itself is read by NetManager only")]
#[path = "../../../net-manager/src/config.rs"]
mod config;

use std::path::Path;

pub(crate) fn take(data: &[u8]) {
    if let Ok(text) = std::str::from_utf8(data)
        && let Err(error) = config::NetworkConfig::parse(Path::new("netcfg.json"), text)
    {
        assert!(!error.to_string().is_empty());
    }
}

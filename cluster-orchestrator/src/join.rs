//! The join token of this cluster.

use std::io;

use anyhow::Context;
use link::JoinToken;

use crate::Config;

/// The token from the flag or the file; `None` while the file is not there.
pub(crate) fn token(config: &Config) -> anyhow::Result<Option<JoinToken>> {
    let Some(path) = &config.token_file else {
        let token = config.token.clone().context(
            "this cluster has not joined a root yet: create a token with `mangrove token create --cluster NAME` \
             and export it as MANGROVE_TOKEN",
        )?;
        return Ok(Some(token));
    };
    match std::fs::read_to_string(path) {
        Ok(text) => {
            text.parse().map(Some).with_context(|| format!("understand the token in {}", path.display()))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("read {}", path.display())),
    }
}

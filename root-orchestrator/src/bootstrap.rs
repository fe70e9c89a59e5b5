//! The token of a cluster that is started together with the root: written to a file both can see.

use std::{io::Write, os::unix::fs::OpenOptionsExt};

use anyhow::Context;
use model::TokenId;
use root_core::{Change, JoinKind, Token};

use crate::{Config, audit::Audited, downlink};

const DAY_MILLIS: u64 = 86_400_000;
/// Once, and again after its state was lost.
const USES: u32 = 16;

/// Writes a fresh token if the configuration asks for one. The one of the start before is revoked.
pub(crate) async fn offer_token(config: &Config, brain: &Audited, ca_pin: [u8; 32]) -> anyhow::Result<()> {
    let (Some(name), Some(path)) = (&config.bootstrap_cluster, &config.bootstrap_token_file) else {
        return Ok(());
    };
    let kind = JoinKind::Cluster { name: name.clone() };
    let id = TokenId::new(daemon::fresh_uuid());
    let (text, secret_hash) = downlink::new_token(id, ca_pin);
    brain
        .ask(move |state, now| {
            let mut changes: Vec<Change> = state
                .tokens()
                .filter(|token| token.kind == kind && token.uses_left > 1)
                .map(|token| Change::Token(token.id, None))
                .collect();
            let expires_at = now.date.plus_millis(DAY_MILLIS);
            let token = Token { id, kind, secret_hash, uses_left: USES, expires_at, used_by: Vec::new() };
            changes.push(Change::Token(id, Some(token)));
            Ok::<_, std::convert::Infallible>(((), changes))
        })
        .await?
        .unwrap_or_else(|never| match never {});
    // Whole or not at all: the cluster may be reading.
    let temporary = path.with_extension("new");
    let mut file = std::fs::OpenOptions::new()
        .create(true)
        .truncate(true)
        .write(true)
        .mode(0o600)
        .open(&temporary)
        .with_context(|| format!("create {}", temporary.display()))?;
    file.write_all(text.reveal().as_bytes())?;
    file.sync_all()?;
    std::fs::rename(&temporary, path).with_context(|| format!("write {}", path.display()))?;
    tracing::info!(cluster = name, path = %path.display(), "a join token was written");
    Ok(())
}

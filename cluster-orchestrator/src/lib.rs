//! A cluster orchestrator: gRPC for workers, one connection to the root, around the brain in `core/`.
//!
//! ```text
//!   root ◄──► uplink.rs ─────┐                        ┌──► store (documents.rs)
//!   workers ◄─► downlink.rs ─┼──► control ◄──► core ──┤
//!   workers ──► beats.rs ────┤                        └──► effects: assignments and leases to workers (links.rs)
//!   devices ◄─► relays.rs ───┘
//! ```
//!
//! What was last assigned is in the store: workers are served whether the root is there or not.

mod beats;
mod certifier;
mod config;
mod documents;
mod downlink;
mod join;
mod links;
mod news;
mod relays;
mod surroundings;
mod uplink;

use std::sync::Arc;

use anyhow::Context;
use cluster_core::State;
use control::Control;
use daemon::StateDirectory;
use link::{Credentials, Revocations, Revoked, SealingKey, Subject};
use store::{History, SqliteStore, Store};
use tokio::net::TcpListener;
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};

pub use config::{Config, bind};

/// What the brain is reached by.
pub(crate) type Brain = control::Handle<State>;

/// Runs the cluster orchestrator until `shutdown`.
///
/// # Errors
/// When it cannot join, or the state directory, the store or the port cannot be used.
pub async fn run(config: Config, listener: TcpListener, shutdown: CancellationToken) -> anyhow::Result<()> {
    let directory = Arc::new(StateDirectory::open(&config.state_dir)?);
    // On this device, whatever the root's is on: it must be there when nothing else is. Nobody watches it.
    let store = SqliteStore::open(&directory.path().join("store.sqlite"), History::NONE);
    let store: Arc<dyn Store> = Arc::new(store.context("open the store")?);
    let root_address = config.root();
    let identity = tokio::select! {
        identity = link::join(&root_address, &directory, || join::token(&config).map_err(Into::into)) => {
            identity.context("join the root")?
        }
        () = shutdown.cancelled() => return Ok(()),
    };
    let Subject::Cluster { root, cluster } = identity.subject() else {
        anyhow::bail!("the state directory belongs to {}; pass another --state-dir", identity.subject());
    };
    let credentials = Arc::new(Credentials::new(Arc::clone(&directory), identity));
    let mut brain =
        documents::load(store.as_ref(), config.beat_interval_millis).await.context("read the store")?;
    let revocations = Revocations::default();
    revocations.replace(brain.revoked().map(Revoked::Worker).collect());
    brain.trust_site(config.trusted_site);
    brain.relay_at(config.relay_address);
    let sealing = SealingKey::load_or_generate(&directory).context("open the key for secrets")?;
    let control = Control::new(brain);
    let links = Arc::new(links::Links::default());
    let beats = Arc::new(beats::Beats::bind(listener.local_addr()?)?);
    let relays = Arc::new(relays::Relays::bind(&config)?);
    let news = Arc::new(news::News::default());
    let surroundings = surroundings::ClusterSurroundings::new(
        Arc::clone(&links),
        Arc::clone(&beats),
        Arc::clone(&relays),
        revocations.clone(),
        sealing.clone(),
        Arc::clone(&news),
    );
    let life = config.certificate_life;
    let certifier =
        certifier::Certifier::open(Arc::clone(&directory), Arc::clone(&credentials), (root, cluster), life)?;
    let certifier = Arc::new(certifier);
    let (root_channel, root_channels) = tokio::sync::watch::channel(None);

    let uplink = uplink::Uplink {
        brain: control.handle(),
        links: Arc::clone(&links),
        news,
        certifier: Arc::clone(&certifier),
        credentials: Arc::clone(&credentials),
        relays: Arc::clone(&relays),
        sealing,
        root_channel,
        config,
    };
    let (to_beats, to_relays) = (control.handle(), control.handle());
    let downlink = downlink::Downlink {
        brain: control.handle(),
        links,
        beats: Arc::clone(&beats),
        certifier,
        root_channels,
        revocations,
        root,
        cluster,
        shutdown: shutdown.clone(),
    };
    tracing::info!(%cluster, workers = %listener.local_addr()?, "the cluster is ready for workers");
    tokio::try_join!(
        async { control.run(store, surroundings, shutdown.clone()).await.context("keep the store") },
        async { downlink.serve(listener, credentials.follow()).await.context("serve the workers") },
        async {
            // Tasks of their own: beats and what is relayed come all the time.
            let _beats = AbortOnDropHandle::new(tokio::spawn(async move { beats.ring(&to_beats).await }));
            let _relays = AbortOnDropHandle::new(tokio::spawn(async move { relays.serve(&to_relays).await }));
            // In a box: it is what this daemon does most, and large.
            let holding = Box::pin(uplink.hold());
            tokio::select! {
                () = holding => {}
                () = shutdown.cancelled() => {}
            }
            Ok(())
        },
    )?;
    Ok(())
}

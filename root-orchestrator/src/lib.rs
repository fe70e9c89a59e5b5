//! The root orchestrator: REST for users, gRPC for clusters, around the brain in `core/`.
//!
//! ```text
//!   api/ ─────────┐                        ┌──► store (documents.rs)
//!                 ├──► control ◄──► core ──┤
//!   downlink.rs ──┘                        └──► effects: assignments to clusters (links.rs)
//!
//!   devices that do not reach the relay of their cluster ◄──► lending.rs
//! ```
//!
//! The root stores no worker's name or address. What a user asks about one instance (its log) is fetched from the
//! cluster on demand and passed on.

mod api;
mod auth;
mod bootstrap;
mod config;
mod documents;
mod downlink;
mod lending;
mod links;
mod surroundings;
mod vault;

use std::sync::Arc;

use anyhow::Context;
use control::Control;
use daemon::StateDirectory;
use link::{Authority, Identity, KeyPair, Subject};
use root_core::State;
use store::{SqliteStore, Store};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};

pub use config::{Config, Listeners};
pub use vault::{KeyText, SecretsKeyConfig};

/// What the brain is reached by.
pub(crate) type Brain = control::Handle<State>;

/// Runs the root until `shutdown`.
///
/// # Errors
/// When the state directory, the store or a port cannot be used.
pub async fn run(config: Config, listeners: Listeners, shutdown: CancellationToken) -> anyhow::Result<()> {
    let directory = StateDirectory::open(&config.state_dir)?;
    let store: Arc<dyn Store> =
        Arc::new(SqliteStore::open(&directory.path().join("store.sqlite")).context("open the store")?);
    let settings = documents::load_or_create_settings(store.as_ref()).await.context("read the settings")?;
    let authority = Authority::load_or_create(&directory, settings.root_id, daemon::now())
        .context("open the authority")?;
    let identity = own_identity(&directory, &authority, Subject::Root { root: settings.root_id })?;
    let users = auth::Users::open(Arc::clone(&store), &settings, config.admin_password.clone())
        .await
        .context("read the users")?;

    let vault =
        vault::Vault::open(&config.secrets, &directory, store.as_ref()).await.context("open the secrets")?;
    let vault = Arc::new(vault);
    let brain = documents::load(store.as_ref()).await.context("read the store")?;
    let lending = lending::Lending::open(&config, &directory)?.map(Arc::new);
    if let Some(lending) = &lending {
        brain.clusters().for_each(|cluster| lending.admit(cluster.id));
    }
    let control = Control::new(brain);
    let pin = authority.pin();
    let links = Arc::new(links::Links::default());
    let (surroundings, watch) =
        surroundings::RootSurroundings::new(Arc::clone(&links), lending.clone(), Arc::clone(&vault));

    let api = api::router(api::Context {
        brain: control.handle(),
        links: Arc::clone(&links),
        users: Arc::new(users),
        watch,
        vault,
        ca_pin: pin,
    });
    let downlink = downlink::Downlink {
        brain: control.handle(),
        links,
        authority: Arc::new(authority),
        lending: lending.clone(),
        root: settings.root_id,
        shutdown: shutdown.clone(),
    };
    let handle = control.handle();
    tracing::info!(
        api = %listeners.api.local_addr()?,
        clusters = %listeners.cluster.local_addr()?,
        root = %settings.root_id,
        "the root is ready"
    );
    // A task of its own: what is relayed comes all the time.
    let _relaying =
        lending.map(|lending| AbortOnDropHandle::new(tokio::spawn(async move { lending.serve().await })));
    tokio::try_join!(
        async { control.run(store, surroundings, shutdown.clone()).await.context("keep the store") },
        async { bootstrap::offer_token(&config, &handle, pin).await.context("write the bootstrap token") },
        async { api::serve(listeners.api, api, shutdown.clone()).await.context("serve the API") },
        async { downlink.serve(listeners.cluster, &identity).await.context("serve the clusters") },
    )?;
    Ok(())
}

/// The root's own certificate for its cluster port, signed afresh at every start.
fn own_identity(
    directory: &StateDirectory,
    authority: &Authority,
    subject: Subject,
) -> anyhow::Result<Identity> {
    let key = KeyPair::load_or_generate(directory)?;
    let certificate = authority.certify(&key.certificate_request()?, subject, daemon::now())?;
    Ok(Identity::new(&key, &certificate, authority.certificate_pem())?)
}

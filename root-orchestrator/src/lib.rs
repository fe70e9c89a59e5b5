//! The root orchestrator: REST for users, gRPC for clusters, around the brain in `core/`.
//!
//! ```text
//!   api/ ─────────┐                        ┌──► store (documents.rs)
//!                 ├──► control ◄──► core ──┤
//!   downlink.rs ──┘                        └──► effects: assignments to clusters (links.rs), news to hooks (hooks.rs)
//!
//!   devices that do not reach the relay of their cluster ◄──► lending.rs
//! ```
//!
//! The root stores no worker's name or address. What a user asks about one instance (its log) is fetched from the
//! cluster on demand and passed on.

mod api;
mod audit;
mod auth;
mod bootstrap;
mod config;
mod documents;
mod downlink;
mod hooks;
mod lending;
mod links;
mod oidc;
mod outward;
mod surroundings;
mod vault;

use std::sync::Arc;

use anyhow::Context;
use control::Control;
use daemon::StateDirectory;
use link::{Authority, Identity, KeyPair, Revocations, Subject, keep_renewed};
use root_core::{Call, State};
use store::History;
use tokio::sync::watch;
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};

pub use api::ApiTlsConfig;
pub use config::{Config, Listeners};
pub use hooks::HooksConfig;
pub use oidc::OidcConfig;
pub use vault::{KeyText, SecretsKeyConfig};

/// The root's own certificate cannot be made.
#[derive(Debug, thiserror::Error)]
enum RenewalError {
    #[error("the root's key or certificate cannot be used")]
    Identity(#[from] link::IdentityError),
    #[error("the root does not certify itself")]
    Authority(#[from] link::AuthorityError),
}

/// What the brain is reached by.
pub(crate) type Brain = control::Handle<State>;

/// Runs the root until `shutdown`.
///
/// # Errors
/// When the state directory, the store or a port cannot be used.
pub async fn run(config: Config, listeners: Listeners, shutdown: CancellationToken) -> anyhow::Result<()> {
    let transport = api::Transport::open(&config.api_tls, listeners.api.local_addr()?)?;
    let directory = StateDirectory::open(&config.state_dir)?;
    // It may be elsewhere, and take its time to answer.
    let store = tokio::select! {
        store = config.store.open(&directory, History::USUAL) => store.context("open the store")?,
        () = shutdown.cancelled() => return Ok(()),
    };
    let settings = documents::load_or_create_settings(store.as_ref(), config.new_login_key).await;
    let settings = settings.context("read the settings")?;
    if config.new_login_key {
        tracing::warn!("a new key signs logins; those of before are good no more");
    }
    let authority = Authority::load_or_create(&directory, settings.root_id, link::present_since_build())
        .context("open the authority")?
        .lasting(config.certificate_life);
    let subject = Subject::Root { root: settings.root_id };
    let (own, identity) = watch::channel(own_identity(&directory, &authority, subject)?);
    let keys = auth::Keys::open(&settings.signing_key).context("open the key that signs logins")?;
    auth::beginning::begin(store.as_ref(), &settings, config.admin_password.clone())
        .await
        .context("make the first user")?;

    let vault =
        vault::Vault::open(&config.secrets, &directory, store.as_ref()).await.context("open the secrets")?;
    let vault = Arc::new(vault);
    let oidc = oidc::Oidc::new(&config.oidc, Arc::clone(&vault)).context("set up the identity provider")?;
    let mut brain = documents::load(store.as_ref(), &settings).await.context("read the store")?;
    brain.keep_records(config.audit_records.into());
    let lending = lending::Lending::open(&config, &directory)?.map(Arc::new);
    if let Some(lending) = &lending {
        let admitted = brain.clusters().filter(|cluster| brain.revocation(cluster.id, None).is_none());
        admitted.for_each(|cluster| lending.admit(cluster.id));
    }
    let revocations = Revocations::default();
    revocations.replace(surroundings::revoked(&brain));
    let control = Control::new(brain);
    let authority = Arc::new(authority);
    let pin = authority.pin();
    let links = Arc::new(links::Links::default());
    let hook_client = hooks::Client::new(&config.hooks).context("get ready to call hooks")?;
    let messenger = hooks::Messenger::new(control.handle(), Arc::clone(&vault), hook_client.clone());
    let (surroundings, watch) = surroundings::RootSurroundings::new(
        Arc::clone(&links),
        lending.clone(),
        revocations.clone(),
        Arc::clone(&vault),
        messenger,
    );

    let context = api::Context {
        brain: audit::Audited::new(control.handle(), Call::of_root("answer requests")),
        store: Arc::clone(&store),
        links: Arc::clone(&links),
        authentication: Arc::new(auth::Authentication::new(keys, oidc)),
        watch,
        vault,
        hook_client,
        callers: Arc::default(),
        ca_pin: pin,
        authority: Arc::clone(&authority),
        own: identity.clone(),
    };
    let api = api::router(context, control.handle());
    let downlink = downlink::Downlink {
        brain: control.handle(),
        links,
        authority: Arc::clone(&authority),
        own: identity.clone(),
        revocations,
        lending: lending.clone(),
        root: settings.root_id,
        shutdown: shutdown.clone(),
    };
    let starting = audit::Audited::new(control.handle(), Call::of_root("offer a join token at start"));
    tracing::info!(
        api = %listeners.api.local_addr()?,
        clusters = %listeners.cluster.local_addr()?,
        root = %settings.root_id,
        "the root is ready"
    );
    // A task of its own: what is relayed comes all the time.
    let _relaying =
        lending.map(|lending| AbortOnDropHandle::new(tokio::spawn(async move { lending.serve().await })));
    let renewing = async {
        let lifetime = || {
            let identity = own.borrow();
            (identity.lifetime(), identity.now())
        };
        // It is nobody's child: there is nobody to spread this for.
        let renewed = keep_renewed(0, lifetime, || {
            let renewed = own_identity(&directory, &authority, subject);
            std::future::ready(renewed.map(|identity| drop(own.send_replace(identity))))
        });
        match renewed.await {}
    };
    tokio::try_join!(
        async { control.run(store, surroundings, shutdown.clone()).await.context("keep the store") },
        async { bootstrap::offer_token(&config, &starting, pin).await.context("write the bootstrap token") },
        async { api::serve(listeners.api, transport, api, shutdown.clone()).await.context("serve the API") },
        async {
            tokio::select! {
                served = downlink.serve(listeners.cluster, identity) => served.context("serve the clusters"),
                () = renewing => Ok(()),
            }
        },
    )?;
    Ok(())
}

/// The root's own certificate for its cluster port, signed afresh at every start and whenever it is time.
fn own_identity(
    directory: &StateDirectory,
    authority: &Authority,
    subject: Subject,
) -> Result<Identity, RenewalError> {
    let key = KeyPair::load_or_generate(directory)?;
    let certificate = authority.certify(&key.certificate_request()?, subject, link::present_since_build())?;
    Ok(Identity::new(&key, &certificate, authority.certificate_pem())?)
}

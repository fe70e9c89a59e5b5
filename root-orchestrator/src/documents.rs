//! The root's documents in the store: one collection per kind.

use root_core::{Change, Secret, State};
use serde::{Deserialize, Serialize};
use store::{Store, StoreError, Write, decode, put};
use uuid::Uuid;

use control::{document, load_all};
use model::OrganizationId;

const APPLICATIONS: &str = "applications";
const SERVICES: &str = "services";
const INSTANCES: &str = "instances";
const CLUSTERS: &str = "clusters";
const TOKENS: &str = "tokens";
const SECRETS: &str = "secrets";
const PLANS: &str = "plans";
const BLOCKS: &str = "blocks";
const SETTINGS: &str = "settings";
const ROOT: &str = "root";

/// What the root decides once, at its first start.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Settings {
    pub(crate) root_id: Uuid,
    /// The organisation every user belongs to.
    pub(crate) organization: OrganizationId,
    /// Signs access tokens; hexadecimal.
    pub(crate) token_key: String,
}

pub(crate) async fn load_or_create_settings(store: &dyn Store) -> Result<Settings, StoreError> {
    if let Some(document) = store.list(SETTINGS).await?.first() {
        return decode(document);
    }
    let settings = Settings {
        root_id: daemon::fresh_uuid(),
        organization: daemon::fresh_organization_id(),
        token_key: daemon::random_hex::<32>(),
    };
    store.commit(vec![put(SETTINGS, ROOT, &settings)]).await?;
    Ok(settings)
}

/// The stored form of a change.
pub(crate) fn write(change: &Change) -> Write {
    match change {
        Change::Application(id, application) => document(APPLICATIONS, id, application.as_ref()),
        Change::Service(id, service) => document(SERVICES, id, service.as_ref()),
        Change::Instance(id, instance) => document(INSTANCES, id, instance.as_ref()),
        Change::Cluster(id, cluster) => document(CLUSTERS, id, cluster.as_ref()),
        Change::Token(id, token) => document(TOKENS, id, token.as_ref()),
        Change::Secret(id, secret) => document(SECRETS, id, secret.as_ref()),
        Change::Blocks(blocks) => put(PLANS, BLOCKS, blocks),
    }
}

/// All secrets, for whoever has to look at them before anybody else.
pub(crate) async fn secrets(store: &dyn Store) -> Result<Vec<Secret>, StoreError> {
    store.list(SECRETS).await?.iter().map(decode).collect()
}

/// Stores these in place of what they were, all or none.
pub(crate) async fn replace_secrets(store: &dyn Store, secrets: Vec<Secret>) -> Result<(), StoreError> {
    let writes = secrets.iter().map(|secret| put(SECRETS, secret.id, secret));
    store.commit(writes.collect()).await.map(drop)
}

/// The brain with everything that is stored.
pub(crate) async fn load(store: &dyn Store) -> Result<State, StoreError> {
    let mut state = State::default();
    load_all(store, &mut state, SECRETS, |it: Secret| Change::Secret(it.id, Some(it))).await?;
    // Clusters and services first: instances refer to them.
    load_all(store, &mut state, CLUSTERS, |it: root_core::Cluster| Change::Cluster(it.id, Some(it))).await?;
    load_all(store, &mut state, APPLICATIONS, |it: root_core::Application| {
        Change::Application(it.id, Some(it))
    })
    .await?;
    load_all(store, &mut state, SERVICES, |it: root_core::Service| Change::Service(it.id, Some(it))).await?;
    load_all(store, &mut state, INSTANCES, |it: root_core::Instance| Change::Instance(it.id, Some(it)))
        .await?;
    load_all(store, &mut state, TOKENS, |it: root_core::Token| Change::Token(it.id, Some(it))).await?;
    load_all(store, &mut state, PLANS, Change::Blocks).await?;
    state.loaded(daemon::present());
    Ok(state)
}

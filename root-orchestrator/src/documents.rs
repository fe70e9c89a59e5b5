//! The root's documents in the store: one collection per kind.

use root_core::{
    ApiToken, Application, AuditEnds, Change, CustomResource, Delivery, EndedSession, Hook, Notes, Object,
    Organization, PeopleChange, ResourceType, Secret, State, User, oidc::ProviderLogin,
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use store::{Document, Expect, Page, Revision, Store, StoreError, Write, decode, put};
use uuid::Uuid;

use audit::{Head, Record};
use control::{document, load_all};
use model::{ApplicationId, Brain, OrganizationId};

use crate::auth::Keys;

pub(crate) const APPLICATIONS: &str = "applications";
pub(crate) const SERVICES: &str = "services";
pub(crate) const INSTANCES: &str = "instances";
pub(crate) const CLUSTERS: &str = "clusters";
const TOKENS: &str = "tokens";
const SECRETS: &str = "secrets";
const PLANS: &str = "plans";
const BLOCKS: &str = "blocks";
pub(crate) const USERS: &str = "users";
pub(crate) const ORGANIZATIONS: &str = "organizations";
const API_TOKENS: &str = "api_tokens";
const ENDED_SESSIONS: &str = "ended_sessions";
const PROVIDER_LOGINS: &str = "provider_logins";
const CERTIFICATES: &str = "certificates";
const REVOCATIONS: &str = "revocations";
const HOOKS: &str = "hooks";
const DELIVERIES: &str = "deliveries";
const RESOURCE_TYPES: &str = "resource_types";
const CUSTOM_RESOURCES: &str = "custom_resources";
/// Objects of the resource API, by kind, organisation and name.
pub(crate) const OBJECTS: &str = "objects";
/// Records of who changed what, by their numbers. They are read from the store only.
pub(crate) const AUDIT: &str = "audit";
const AUDIT_ENDS: &str = "audit";
const AUDIT_MARKS: &str = "audit_marks";
const TASKS: &str = "tasks";
const IGNITORS: &str = "ignitors";
const RUNS: &str = "runs";
const TASK_RUNS: &str = "task_runs";
const CALLS: &str = "calls";
/// Among the plans: the numbers of runs and events.
const WORKFLOWS: &str = "workflows";
const SETTINGS: &str = "settings";
const ROOT: &str = "root";

/// What the root decides once, at its first start.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Settings {
    pub(crate) root_id: Uuid,
    /// The first organisation, `root`.
    pub(crate) organization: OrganizationId,
    /// Signs the tokens of logins; see [`Keys::open`]. Empty in a document from before there was one.
    #[serde(default)]
    pub(crate) signing_key: String,
}

/// With another signing key than before, if `new_login_key`: then nothing it has signed is good any more.
pub(crate) async fn load_or_create_settings(
    store: &dyn Store,
    new_login_key: bool,
) -> Result<Settings, StoreError> {
    let mut settings = match store.list(SETTINGS).await?.first() {
        Some(document) => decode(document)?,
        None => Settings {
            root_id: daemon::fresh_uuid(),
            organization: daemon::fresh_organization_id(),
            signing_key: String::new(),
        },
    };
    if !settings.signing_key.is_empty() && !new_login_key {
        return Ok(settings);
    }
    settings.signing_key = Keys::generate();
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
        Change::People(change) => match change {
            PeopleChange::User(id, user) => document(USERS, id, user.as_ref()),
            PeopleChange::Organization(id, organization) => {
                document(ORGANIZATIONS, id, organization.as_ref())
            }
            PeopleChange::ApiToken(id, token) => document(API_TOKENS, id, token.as_ref()),
            PeopleChange::EndedSession(id, session) => document(ENDED_SESSIONS, id, session.as_ref()),
            PeopleChange::ProviderLogin(id, login) => document(PROVIDER_LOGINS, id, login.as_ref()),
        },
        Change::Certificate(holder, record) => {
            document(CERTIFICATES, holder, record.as_ref().map(|it| (holder, it)).as_ref())
        }
        Change::Revocation(id, revocation) => {
            let worker = id.worker.map(|worker| format!("/{worker}")).unwrap_or_default();
            document(REVOCATIONS, format!("{}{worker}", id.cluster), revocation.as_ref())
        }
        Change::Hook(id, hook) => document(HOOKS, id, hook.as_ref()),
        Change::Delivery(id, delivery) => document(DELIVERIES, id, delivery.as_ref()),
        Change::ResourceType(id, kind) => document(RESOURCE_TYPES, id, kind.as_ref()),
        Change::Resource(id, resource) => document(CUSTOM_RESOURCES, id, resource.as_ref()),
        Change::Workflow(change) => match change {
            workflow::Change::Task(name, task) => document(TASKS, name, task.as_ref()),
            workflow::Change::Ignitor(name, ignitor) => document(IGNITORS, name, ignitor.as_ref()),
            workflow::Change::Run(id, run) => document(RUNS, id, run.as_ref()),
            workflow::Change::TaskRun(id, task_run) => document(TASK_RUNS, id, task_run.as_ref()),
            workflow::Change::Call(id, call) => document(CALLS, id, call.as_ref()),
            workflow::Change::Counters(counters) => put(PLANS, WORKFLOWS, counters),
        },
        Change::Object(key, object) => document(OBJECTS, key, object.as_ref()),
        Change::AuditRecord(number, record) => {
            let value = record.as_ref().map(|record| record.line());
            Write { collection: AUDIT, key: record_key(*number), value, expect: Expect::Anything }
        }
        Change::AuditEnds(ends) => put(PLANS, AUDIT_ENDS, ends),
        Change::AuditMark(number, mark) => document(AUDIT_MARKS, record_key(*number), mark.as_ref()),
    }
}

/// Of one width, so that keys are in the order of numbers.
pub(crate) fn record_key(number: u64) -> String {
    format!("{number:020}")
}

/// All secrets, for whoever has to look at them before anybody else.
pub(crate) async fn secrets(store: &dyn Store) -> Result<Vec<Secret>, StoreError> {
    store.list(SECRETS).await?.iter().map(decode).collect()
}

/// All hooks, likewise.
pub(crate) async fn hooks(store: &dyn Store) -> Result<Vec<Hook>, StoreError> {
    store.list(HOOKS).await?.iter().map(decode).collect()
}

/// What holds something sealed.
#[derive(Debug, Default)]
pub(crate) struct Sealed {
    pub(crate) secrets: Vec<Secret>,
    pub(crate) hooks: Vec<Hook>,
}

impl Sealed {
    pub(crate) fn count(&self) -> usize {
        self.secrets.len() + self.hooks.len()
    }
}

/// Stores these in place of what they were, all or none.
pub(crate) async fn replace_sealed(store: &dyn Store, sealed: Sealed) -> Result<(), StoreError> {
    let secrets = sealed.secrets.iter().map(|secret| put(SECRETS, secret.id, secret));
    let hooks = sealed.hooks.iter().map(|hook| put(HOOKS, hook.id, hook));
    store.commit(secrets.chain(hooks).collect()).await.map(drop)
}

/// The brain with everything that is stored.
pub(crate) async fn load(store: &dyn Store, settings: &Settings) -> Result<State, StoreError> {
    let mut state = State::of(settings.organization);
    load_all(store, &mut state, SECRETS, |it: Secret| Change::Secret(it.id, Some(it))).await?;
    // Clusters and services first: instances refer to them.
    load_written(store, &mut state, CLUSTERS, |it: root_core::Cluster| Change::Cluster(it.id, Some(it)))
        .await?;
    load_written(store, &mut state, APPLICATIONS, |it: StoredApplication| {
        Change::Application(it.id, Some(it.of(settings.organization)))
    })
    .await?;
    load_written(store, &mut state, SERVICES, |it: root_core::Service| Change::Service(it.id, Some(it)))
        .await?;
    load_written(store, &mut state, INSTANCES, |it: root_core::Instance| Change::Instance(it.id, Some(it)))
        .await?;
    load_all(store, &mut state, TOKENS, |it: root_core::Token| Change::Token(it.id, Some(it))).await?;
    let mut ends = None;
    for document in store.list(PLANS).await? {
        match document.key.as_str() {
            AUDIT_ENDS => ends = Some(decode(&document)?),
            WORKFLOWS => {
                state.apply(Change::Workflow(workflow::Change::Counters(decode(&document)?)));
            }
            _ => state.apply(Change::Blocks(decode(&document)?)),
        }
    }
    let ends = match ends {
        Some(ends) => ends,
        None => audit_ends(store).await?,
    };
    state.apply(Change::AuditEnds(ends));
    load_all(store, &mut state, AUDIT_MARKS, |it: Head| Change::AuditMark(it.sequence, Some(it))).await?;
    let people = Change::People;
    load_all(store, &mut state, USERS, |it: User| people(PeopleChange::User(it.id, Some(it)))).await?;
    load_written(store, &mut state, ORGANIZATIONS, |it: Organization| {
        people(PeopleChange::Organization(it.id, Some(it)))
    })
    .await?;
    load_all(store, &mut state, API_TOKENS, |it: ApiToken| people(PeopleChange::ApiToken(it.id, Some(it))))
        .await?;
    load_all(store, &mut state, ENDED_SESSIONS, |it: EndedSession| {
        people(PeopleChange::EndedSession(it.id.clone(), Some(it)))
    })
    .await?;
    load_all(store, &mut state, PROVIDER_LOGINS, |it: ProviderLogin| {
        people(PeopleChange::ProviderLogin(it.id.clone(), Some(it)))
    })
    .await?;
    load_all(store, &mut state, CERTIFICATES, |(holder, record)| Change::Certificate(holder, Some(record)))
        .await?;
    load_all(store, &mut state, REVOCATIONS, |it: root_core::Revocation| Change::Revocation(it.id, Some(it)))
        .await?;
    load_all(store, &mut state, RESOURCE_TYPES, |it: ResourceType| Change::ResourceType(it.id, Some(it)))
        .await?;
    load_all(store, &mut state, CUSTOM_RESOURCES, |it: CustomResource| Change::Resource(it.id, Some(it)))
        .await?;
    load_workflows(store, &mut state).await?;
    load_written(store, &mut state, OBJECTS, |it: Object| Change::Object(it.key.clone(), Some(it))).await?;
    load_all(store, &mut state, HOOKS, |it: Hook| Change::Hook(it.id, Some(it))).await?;
    load_all(store, &mut state, DELIVERIES, |it: Delivery| Change::Delivery(it.id, Some(it))).await?;
    state.loaded(daemon::present());
    state.committed(&[], store.revisions().borrow().0);
    Ok(state)
}

async fn load_workflows(store: &dyn Store, state: &mut State) -> Result<(), StoreError> {
    use workflow::{Call, Change as Step, Ignitor, Run, Task, TaskRun};
    let ours = Change::Workflow;
    load_all(store, state, TASKS, |it: Task| ours(Step::Task(it.name.clone(), Some(it)))).await?;
    load_all(store, state, IGNITORS, |it: Ignitor| ours(Step::Ignitor(it.name.clone(), Some(it)))).await?;
    load_all(store, state, RUNS, |it: Run| ours(Step::Run(it.id, Some(it)))).await?;
    load_all(store, state, TASK_RUNS, |it: TaskRun| ours(Step::TaskRun(it.id.clone(), Some(it)))).await?;
    load_all(store, state, CALLS, |it: Call| ours(Step::Call(it.id.clone(), Some(it)))).await
}

/// Applies the documents of a collection, with the revisions at which they were written.
async fn load_written<T: DeserializeOwned>(
    store: &dyn Store,
    state: &mut State,
    collection: &str,
    change: impl Fn(T) -> Change,
) -> Result<(), StoreError> {
    take_written(state, &store.list(collection).await?, change)
}

fn take_written<T: DeserializeOwned>(
    state: &mut State,
    documents: &[Document],
    change: impl Fn(T) -> Change,
) -> Result<(), StoreError> {
    for document in documents {
        let change = change(decode(document)?);
        state.apply(change.clone());
        state.committed(&[change], document.revision.0);
    }
    Ok(())
}

/// What is shown as applications, services, instances and clusters, as of a revision: a state of these alone.
pub(crate) async fn viewed_at(
    store: &dyn Store,
    first: OrganizationId,
    at: Revision,
) -> Result<State, StoreError> {
    let mut state = State::of(first);
    let clusters = store.list_at(CLUSTERS, at).await?;
    take_written(&mut state, &clusters, |it: root_core::Cluster| Change::Cluster(it.id, Some(it)))?;
    let applications = store.list_at(APPLICATIONS, at).await?;
    take_written(&mut state, &applications, |it: StoredApplication| {
        Change::Application(it.id, Some(it.of(first)))
    })?;
    let services = store.list_at(SERVICES, at).await?;
    take_written(&mut state, &services, |it: root_core::Service| Change::Service(it.id, Some(it)))?;
    let instances = store.list_at(INSTANCES, at).await?;
    take_written(&mut state, &instances, |it: root_core::Instance| Change::Instance(it.id, Some(it)))?;
    Ok(state)
}

/// Where the records begin and end, as they say themselves: what is missing is not written over, but found by a check.
async fn audit_ends(store: &dyn Store) -> Result<AuditEnds, StoreError> {
    let end = async |descending| {
        let page = Page { beyond: None, descending, limit: 1 };
        store.page(AUDIT, page).await?.first().map(decode::<Record>).transpose()
    };
    let (first, last) = (end(false).await?, end(true).await?);
    let before =
        |record: &Record| Head { sequence: record.sequence.saturating_sub(1), hash: record.previous };
    Ok(AuditEnds {
        forgotten: first.as_ref().map(before).unwrap_or_default(),
        newest: last.as_ref().map(Head::from).unwrap_or_default(),
    })
}

/// An application as it is stored. Those from before there were organisations are of the first one.
#[derive(Debug, Deserialize)]
struct StoredApplication {
    id: ApplicationId,
    organization: Option<OrganizationId>,
    owner: String,
    name: String,
    namespace: String,
    description: String,
    #[serde(default)]
    notes: Notes,
}

impl StoredApplication {
    fn of(self, first: OrganizationId) -> Application {
        let Self { id, organization, owner, name, namespace, description, notes } = self;
        let organization = organization.unwrap_or(first);
        Application { id, organization, owner, name, namespace, description, notes }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};
    use store::{History, SqliteStore};

    use super::*;
    use crate::auth::beginning::begin;
    use root_core::access::Role;

    fn store() -> (tempfile::TempDir, SqliteStore) {
        let directory = tempfile::tempdir().expect("a directory");
        let store =
            SqliteStore::open(&directory.path().join("store.sqlite"), History::USUAL).expect("a store");
        (directory, store)
    }

    #[tokio::test]
    async fn a_signing_key_is_made_once_also_for_a_store_that_has_none() {
        let (_directory, store) = store();
        let before = json!({
            "root_id": "00000000-0000-0000-0000-000000000001",
            "organization": "0123456789abcdef01234567",
            "token_key": "00ff",
        });
        store.commit(vec![put::<Value>(SETTINGS, ROOT, &before)]).await.expect("durable");
        let first = load_or_create_settings(&store, false).await.expect("readable");
        assert_eq!(first.organization.to_string(), "0123456789abcdef01234567");
        assert!(Keys::open(&first.signing_key).is_ok());
        let again = load_or_create_settings(&store, false).await.expect("readable");
        assert_eq!(again.signing_key, first.signing_key, "logins outlive a restart");
        let renewed = load_or_create_settings(&store, true).await.expect("readable");
        assert_ne!(renewed.signing_key, first.signing_key);
        assert_eq!(renewed.organization, first.organization);
        let kept = load_or_create_settings(&store, false).await.expect("readable");
        assert_eq!(kept.signing_key, renewed.signing_key);
    }

    #[tokio::test]
    async fn what_was_stored_before_there_were_organisations_is_of_the_first_one() {
        let (_directory, store) = store();
        let settings = load_or_create_settings(&store, false).await.expect("new");
        let application = json!({
            "id": "aaaaaaaaaaaaaaaaaaaaaaaa", "owner": "Admin", "name": "shop", "namespace": "prod",
            "description": "",
        });
        let user = json!({
            "id": "bbbbbbbbbbbbbbbbbbbbbbbb", "name": "Admin", "password_hash": "hash", "roles": ["Admin"],
        });
        let writes = vec![
            put::<Value>(APPLICATIONS, "aaaaaaaaaaaaaaaaaaaaaaaa", &application),
            put::<Value>(USERS, "bbbbbbbbbbbbbbbbbbbbbbbb", &user),
        ];
        store.commit(writes).await.expect("durable");
        begin(&store, &settings, None).await.expect("the organisation is made");
        let state = load(&store, &settings).await.expect("readable");
        let application = state.applications().next().expect("there");
        assert_eq!((application.organization, application.owner.as_str()), (settings.organization, "Admin"));
        let admin = state.user_named("Admin").expect("there").id;
        let rights = state.rights(admin, settings.organization).expect("a member");
        assert_eq!((rights.roles, rights.in_root), (Role::ALL.into(), true));
        assert_eq!(state.users().count(), 1, "no second first user");
    }

    #[tokio::test]
    async fn tasks_and_what_was_started_outlive_a_restart() {
        let (_directory, store) = store();
        let settings = load_or_create_settings(&store, false).await.expect("new");
        begin(&store, &settings, None).await.expect("the organisation is made");
        let mut state = load(&store, &settings).await.expect("readable");
        let (own, now) = (settings.organization, daemon::present());
        let document = |kind: &str, name: &str, spec: Value| json!({"apiVersion": "sirocco.cloud/v1alpha1", "kind": kind, "metadata": {"name": name}, "spec": spec});
        let containers = json!([{"image": "tool:1"}]);
        let spec = json!({"startOnIgnition": ["i"], "successActions": ["p"], "template": {"spec": {"containers": containers}}});
        let mut changes = state.set_task(own, &document("Task", "t", spec)).expect("valid").1;
        changes.extend(state.set_ignitor(own, &document("Ignitor", "i", json!({})), now).expect("valid").1);
        changes.iter().for_each(|change| state.apply(change.clone()));
        let fired = state.fire(own, "i", None, now).expect("it is there").1;
        fired.iter().for_each(|change| state.apply(change.clone()));
        changes.extend(fired);
        changes.extend(state.reconcile(now).changes);
        for change in &changes {
            store.commit(vec![write(change)]).await.expect("durable");
        }
        let again = load(&store, &settings).await.expect("readable");
        let (before, after) = (state.workflow(), again.workflow());
        assert_eq!(after.tasks().collect::<Vec<_>>(), before.tasks().collect::<Vec<_>>());
        assert_eq!(after.ignitors().collect::<Vec<_>>(), before.ignitors().collect::<Vec<_>>());
        let (runs, of) = (before.runs().collect::<Vec<_>>(), before.runs().next().expect("it began").id);
        assert_eq!((runs.len(), after.runs().collect::<Vec<_>>()), (1, runs));
        let parts = before.task_runs(of).collect::<Vec<_>>();
        assert_eq!((parts.len(), after.task_runs(of).collect::<Vec<_>>()), (1, parts));
        assert_ne!(
            again.fire(own, "i", None, now).expect("it is there").0,
            of,
            "numbers are not given again"
        );
    }
}

//! What the root holds: durable documents, and what it remembers only while it runs.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
    sync::Arc,
};

use ::audit::{Head, Record};
use addressing::{BlockPlan, StablePlan};
use model::{
    ApplicationId, AssignedInstance, AssignedService, CertificateRecord, ClusterId, Desired, Generation,
    Holder, HookId, InstanceId, InstanceReport, Location, Moment, OrganizationId, Phase, Refusal, ResourceId,
    ResourceTypeId, Resources, RevisionId, SecretId, ServiceId, SpentToken, Tenure, TokenId,
};
use serde::{Deserialize, Serialize};

use crate::{
    AuditEnds, CustomResource, Delivery, DeliveryId, Document, Hook, Notes, Object, ObjectKey, ResourceType,
    Revocation, RevokedId, Secret, Service, Token,
    audit::Ledger,
    events::Events,
    neighbours::Neighbourhood,
    objects::Objects,
    outbox::Outbox,
    people::{People, PeopleChange},
    resources::Resources as CustomResources,
    sight::{HeldCopy, Returns, Session, Sight},
    workflows::Workflows,
};

/// What is deployed together. Durable.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Application {
    /// Which one.
    pub id: ApplicationId,
    /// The organisation it belongs to.
    pub organization: OrganizationId,
    /// The name of the user who made it, for people to read.
    pub owner: String,
    /// Unique with the namespace in its organisation.
    pub name: String,
    /// See `name`.
    pub namespace: String,
    /// For people.
    pub description: String,
    /// What clients of the resource API note at it.
    #[serde(default, skip_serializing_if = "Notes::is_empty")]
    pub notes: Notes,
}

/// One instance of a service. Durable.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Instance {
    /// Which one.
    pub id: InstanceId,
    /// Which revision of its service it is a copy of, for as long as it exists.
    pub revision: u32,
    /// Which clusters have it.
    pub tenure: Tenure<ClusterId>,
    /// Its own address wherever it runs; `None` for one that is new or from before there were any, until the next turn.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<Ipv4Addr>,
    /// What its user wants of it.
    pub desired: Desired,
    /// What was last heard of it, or, without a cluster, decided about it here.
    pub report: InstanceReport,
}

impl Instance {
    /// The cluster that has the copy that counts.
    #[must_use]
    pub fn cluster(&self) -> Option<ClusterId> {
        self.tenure.holder.map(|(cluster, _)| cluster)
    }

    /// The revision it is a copy of.
    #[must_use]
    pub const fn revision_id(&self) -> RevisionId {
        RevisionId { service: self.id.service, number: self.revision }
    }

    /// Whether it should run and has not ended for good.
    #[must_use]
    pub fn is_live(&self) -> bool {
        self.desired == Desired::Running && self.report.phase != Phase::Completed
    }

    /// Whether it does what it is for.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.report.ready || self.report.phase == Phase::Completed
    }

    fn waits_for_a_cluster(&self) -> bool {
        self.tenure.holder.is_none() && self.desired == Desired::Running
    }
}

/// One cluster that joined. Durable.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Cluster {
    /// Which one.
    pub id: ClusterId,
    /// The label users know it by; unique.
    pub name: String,
    /// Where it is; known from its first connection on.
    pub location: Option<Location>,
    /// The newest assignment made for it.
    pub generation: Generation,
}

/// One document that becomes this, or goes.
#[derive(Debug, Clone, PartialEq)]
pub enum Change {
    /// An application.
    Application(ApplicationId, Option<Application>),
    /// A service.
    Service(ServiceId, Option<Service>),
    /// An instance.
    Instance(InstanceId, Option<Instance>),
    /// A cluster.
    Cluster(ClusterId, Option<Cluster>),
    /// A join token.
    Token(TokenId, Option<Token>),
    /// A secret.
    Secret(SecretId, Option<Secret>),
    /// The whole address plan.
    Blocks(BlockPlan<ClusterId>),
    /// Users, organisations and what they log in with.
    People(PeopleChange),
    /// The newest certificate of a cluster.
    Certificate(Holder, Option<CertificateRecord>),
    /// Certificates that count no more.
    Revocation(RevokedId, Option<Revocation>),
    /// Who is told of changes.
    Hook(HookId, Option<Hook>),
    /// What a hook is still to be told.
    Delivery(DeliveryId, Option<Delivery>),
    /// A type of custom resources.
    ResourceType(ResourceTypeId, Option<ResourceType>),
    /// A custom resource.
    Resource(ResourceId, Option<CustomResource>),
    /// A task, an ignitor, or something of a run.
    Workflow(workflow::Change),
    /// An object of the resource API.
    Object(ObjectKey, Option<Object>),
    /// A record of who changed what. Forgotten ones go; the rest is never changed.
    AuditRecord(u64, Option<Arc<Record>>),
    /// Where the records begin and end.
    AuditEnds(AuditEnds),
    /// A record up to which all can be forgotten.
    AuditMark(u64, Option<Head>),
}

/// See the crate's description.
#[derive(Debug, Default)]
pub struct State {
    /// The first organisation; none in a state of which nobody asks who may do what.
    pub(crate) root_organization: Option<OrganizationId>,
    pub(crate) people: People,
    pub(crate) audit: Ledger,
    pub(crate) applications: BTreeMap<ApplicationId, Application>,
    pub(crate) services: BTreeMap<ServiceId, Service>,
    /// Applications by their names, which several organisations may have given.
    pub(crate) by_name: BTreeMap<String, BTreeSet<ApplicationId>>,
    /// The services of each application, deleted ones too.
    pub(crate) parts: BTreeMap<ApplicationId, BTreeSet<ServiceId>>,
    pub(crate) instances: BTreeMap<InstanceId, Instance>,
    pub(crate) clusters: BTreeMap<ClusterId, Cluster>,
    pub(crate) tokens: BTreeMap<TokenId, Token>,
    pub(crate) secrets: BTreeMap<SecretId, Secret>,
    /// Secrets by their names.
    pub(crate) secret_names: BTreeMap<(OrganizationId, String), SecretId>,
    pub(crate) blocks: BlockPlan<ClusterId>,
    pub(crate) certificates: BTreeMap<Holder, CertificateRecord>,
    pub(crate) revocations: BTreeMap<RevokedId, Revocation>,
    /// Clusters to be told which of their workers' certificates count no more.
    pub(crate) revocations_due: BTreeSet<ClusterId>,
    pub(crate) hooks: BTreeMap<HookId, Hook>,
    pub(crate) outbox: Outbox,
    pub(crate) resources: CustomResources,
    pub(crate) workflows: Workflows,
    pub(crate) objects: Objects,
    pub(crate) events: Events,
    /// The commits that wrote documents that are shown as objects.
    pub(crate) written: BTreeMap<Document, u64>,
    /// The newest commit.
    pub(crate) revision: u64,
    /// Which addresses services and instances have. Follows from their documents.
    pub(crate) stable: StablePlan,
    /// Services and instances without addresses.
    pub(crate) unaddressed: (BTreeSet<ServiceId>, BTreeSet<InstanceId>),
    pub(crate) sessions: BTreeMap<ClusterId, Session>,
    pub(crate) sights: BTreeMap<ClusterId, Sight>,
    /// Who has copies of the same applications.
    pub(crate) neighbourhood: Neighbourhood,
    /// Why a cluster declined an instance; forgotten when the cluster has more to give.
    pub(crate) declined: BTreeMap<InstanceId, BTreeMap<ClusterId, Refusal>>,
    /// Instances that wait for a cluster.
    pub(crate) pending: BTreeSet<InstanceId>,
    /// Instances whose cluster has lost their worker and has no other for them.
    pub(crate) stranded: BTreeSet<InstanceId>,
    /// Copies each cluster has.
    pub(crate) held: BTreeMap<ClusterId, BTreeMap<InstanceId, HeldCopy>>,
    /// Copies of each service at each cluster.
    pub(crate) spread: BTreeMap<ServiceId, BTreeMap<ClusterId, usize>>,
    /// Clusters whose assignment is no longer what was last generated.
    pub(crate) dirty: BTreeSet<ClusterId>,
    /// Clusters that have not said that they hold their newest assignment.
    pub(crate) behind: BTreeSet<ClusterId>,
    /// Clusters whose tokens are no longer those they were last sent, and the uses to confirm.
    pub(crate) tokens_due: BTreeMap<ClusterId, Vec<SpentToken>>,
    /// Services whose last instance may have gone.
    pub(crate) emptied: BTreeSet<ServiceId>,
    /// Services with a rollout of which something has changed.
    pub(crate) rollouts_due: BTreeSet<ServiceId>,
    /// How far each rollout has come, and when it is given up if it gets no further.
    pub(crate) progress: BTreeMap<ServiceId, (usize, Moment)>,
    /// When the reasons of those that wait are to be told anew.
    pub(crate) reasons_due: Option<Moment>,
    /// When to look again for clusters that have been silent for too long; `None` is now.
    pub(crate) silence_due: Option<Moment>,
    /// Clusters that come back after a start.
    pub(crate) returns: Returns,
    /// Those that were silent at the last look.
    pub(crate) silent: BTreeSet<ClusterId>,
    /// Instances of silent clusters whose time has come, and for which there was no other place.
    pub(crate) unplaced: BTreeSet<(ClusterId, InstanceId)>,
    /// Clusters that may need more address blocks.
    pub(crate) blocks_due: BTreeSet<ClusterId>,
    /// Whether there is more to give than when pending instances were last considered.
    pub(crate) capacity_changed: bool,
}

impl State {
    /// A state with nothing in it, of a root whose first organisation is this.
    #[must_use]
    pub fn of(root_organization: OrganizationId) -> Self {
        Self { root_organization: Some(root_organization), ..Self::default() }
    }

    /// Takes on a change. Infallible: whatever is decided was decided before.
    pub(crate) fn take(&mut self, change: Change) {
        self.overhear(&change);
        self.witness(&change);
        match change {
            Change::Application(id, application) => self.apply_application(id, application),
            Change::Service(id, service) => {
                if service.as_ref().is_some_and(|service| service.deleted) {
                    self.emptied.insert(id);
                }
                if service.as_ref().is_some_and(|service| service.rollout.is_some()) {
                    self.rollouts_due.insert(id);
                } else {
                    self.progress.remove(&id);
                }
                match &service {
                    Some(service) => {
                        self.parts.entry(service.application).or_default().insert(id);
                    }
                    None => {
                        let whole = self.services.get(&id).map(|gone| gone.application);
                        forget(&mut self.parts, whole, &id);
                    }
                }
                self.workflows.take_service(id, service.as_ref());
                self.address_service(id, service.as_ref());
                self.share_service(id, service.as_ref());
                self.readmit(id, service.as_ref());
                set(&mut self.services, id, service);
            }
            Change::Instance(id, instance) => self.apply_instance(id, instance),
            Change::Cluster(id, cluster) => {
                if cluster.is_none() {
                    self.sights.remove(&id);
                }
                self.behind.insert(id);
                self.blocks_due.insert(id);
                set(&mut self.clusters, id, cluster);
            }
            Change::Token(id, token) => {
                let before = self.tokens.remove(&id);
                for token in before.iter().chain(&token) {
                    if let Some(cluster) = token.for_workers_of() {
                        self.tokens_due.entry(cluster).or_default();
                    }
                }
                set(&mut self.tokens, id, token);
            }
            Change::Secret(id, secret) => self.apply_secret(id, secret),
            Change::Blocks(blocks) => {
                let lent = |id: &ClusterId| self.blocks.blocks_of(id) != blocks.blocks_of(id);
                let moved: Vec<ClusterId> = self.clusters.keys().copied().filter(lent).collect();
                moved.into_iter().for_each(|id| self.neighbour_moved(id));
                self.blocks = blocks;
            }
            Change::People(change) => self.people.take(change),
            Change::Certificate(holder, record) => set(&mut self.certificates, holder, record),
            Change::Revocation(id, revocation) => {
                self.revocations_due.insert(id.cluster);
                set(&mut self.revocations, id, revocation);
            }
            Change::Hook(id, hook) => {
                self.outbox.take_hook(self.hooks.get(&id), hook.as_ref());
                set(&mut self.hooks, id, hook);
            }
            Change::Delivery(id, delivery) => self.outbox.take_delivery(id, delivery),
            Change::ResourceType(id, kind) => self.resources.take_type(id, kind),
            Change::Resource(id, resource) => self.resources.take_resource(id, resource),
            Change::Workflow(change) => self.workflows.take(change),
            Change::Object(key, object) => self.take_object(key, object),
            // It is kept by the store alone.
            Change::AuditRecord(..) => {}
            Change::AuditEnds(ends) => self.audit.ends = ends,
            Change::AuditMark(number, mark) => set(&mut self.audit.marks, number, mark),
        }
    }

    fn apply_application(&mut self, id: ApplicationId, application: Option<Application>) {
        // An application keeps its name.
        match &application {
            Some(application) => {
                self.by_name.entry(application.name.clone()).or_default().insert(id);
            }
            None => {
                let name = self.applications.get(&id).map(|gone| gone.name.clone());
                forget(&mut self.by_name, name, &id);
            }
        }
        set(&mut self.applications, id, application);
    }

    /// Clusters that have instances of a service are told when others may connect to them.
    fn readmit(&mut self, id: ServiceId, service: Option<&Service>) {
        let (Some(before), Some(service)) = (self.services.get(&id), service) else { return };
        if before.allowed_callers == service.allowed_callers {
            return;
        }
        for cluster in self.spread.get(&id).into_iter().flat_map(BTreeMap::keys) {
            let held = self.held.get_mut(cluster).into_iter();
            for (_, copy) in held.flat_map(|held| held.range_mut(InstanceId::all_of(id))) {
                if let Some(told) = &mut copy.service {
                    told.allowed_callers = Arc::clone(&service.allowed_callers);
                }
            }
            self.dirty.insert(*cluster);
        }
    }

    fn apply_instance(&mut self, id: InstanceId, instance: Option<Instance>) {
        let before = self.instances.remove(&id);
        self.workflows.take_instance(id.service);
        self.address_instance(id, before.as_ref(), instance.as_ref());
        let told = |instance: &Option<Instance>, cluster| {
            instance.as_ref().and_then(|it| it.tenure.told(cluster, it.desired))
        };
        let children = |instance: &Option<Instance>| -> Vec<ClusterId> {
            instance.as_ref().map(|it| it.tenure.children().collect()).unwrap_or_default()
        };
        let mut concerned = children(&before);
        concerned.extend(children(&instance));
        concerned.sort_unstable();
        concerned.dedup();
        for cluster in concerned {
            let (was, is) = (told(&before, cluster), told(&instance, cluster));
            let copy = self.held.get_mut(&cluster).and_then(|held| held.get_mut(&id));
            if was == is {
                if let (Some(copy), Some(it)) = (copy, &instance) {
                    copy.said = None;
                    if copy.assigned.address != it.address {
                        copy.assigned.address = it.address;
                        self.dirty.insert(cluster);
                    }
                }
                continue;
            }
            let same_copy = was.map(|(generation, _)| generation) == is.map(|(generation, _)| generation);
            let usage = copy.and_then(|copy| copy.usage).filter(|_| same_copy);
            self.dirty.insert(cluster);
            if was.is_some() {
                self.vacate(cluster, id);
            }
            if let (Some((generation, desired)), Some(it)) = (is, &instance) {
                let assigned =
                    AssignedInstance { id, revision: it.revision, generation, desired, address: it.address };
                let service = self.assigned_service(it.revision_id());
                let copy = HeldCopy { assigned, service, said: None, usage };
                self.held.entry(cluster).or_default().insert(id, copy);
                let copies = self.spread.entry(id.service).or_default().entry(cluster).or_default();
                *copies += 1;
                if *copies == 1 {
                    self.spread_changed(id.service);
                }
                if was.is_none() {
                    let needs = instance.as_ref().and_then(|it| self.resources_of(it)).unwrap_or_default();
                    let sight = self.sights.entry(cluster).or_default();
                    sight.in_flight.insert(id, needs);
                    sight.look_again = None;
                    // Of those that are heard, the next look tells.
                    if self.silent.contains(&cluster) {
                        self.silence_due = None;
                    }
                }
            }
        }
        let holds = |set: &mut BTreeSet<InstanceId>, holds: bool| {
            if holds { set.insert(id) } else { set.remove(&id) }
        };
        holds(&mut self.pending, instance.as_ref().is_some_and(Instance::waits_for_a_cluster));
        let is_stranded =
            |it: &Instance| it.is_live() && it.report.phase == Phase::Lost && it.report.refusal.is_some();
        holds(&mut self.stranded, instance.as_ref().is_some_and(is_stranded));
        if self.services.get(&id.service).is_some_and(|service| service.rollout.is_some()) {
            self.rollouts_due.insert(id.service);
        }
        match instance {
            Some(instance) => {
                self.instances.insert(id, instance);
            }
            None => {
                self.declined.remove(&id);
                self.emptied.insert(id.service);
            }
        }
    }

    fn vacate(&mut self, cluster: ClusterId, id: InstanceId) {
        if let Some(held) = self.held.get_mut(&cluster) {
            held.remove(&id);
        }
        if let Some(sight) = self.sights.get_mut(&cluster) {
            sight.in_flight.remove(&id);
        }
        if let Some(clusters) = self.spread.get_mut(&id.service) {
            if let Some(copies) = clusters.get_mut(&cluster) {
                *copies -= 1;
            }
            let before = clusters.len();
            clusters.retain(|_, copies| *copies > 0);
            let fewer = clusters.len() < before;
            if clusters.is_empty() {
                self.spread.remove(&id.service);
            }
            if fewer {
                self.spread_changed(id.service);
            }
        }
    }

    fn assigned_service(&self, revision: RevisionId) -> Option<AssignedService> {
        let service = self.services.get(&revision.service)?;
        let spec = Arc::clone(service.spec_of(revision.number)?);
        Some(AssignedService {
            names: Arc::clone(&service.names),
            spec,
            addresses: Arc::clone(&service.addresses),
            allowed_callers: Arc::clone(&service.allowed_callers),
        })
    }

    fn resources_of(&self, instance: &Instance) -> Option<Resources> {
        Some(self.services.get(&instance.id.service)?.spec_of(instance.revision)?.resources)
    }
}

/// Takes one out of a set in a map, and with the last the set.
pub(crate) fn forget<K: Ord, V: Ord>(map: &mut BTreeMap<K, BTreeSet<V>>, key: Option<K>, value: &V) {
    if let Some(key) = key
        && let Some(values) = map.get_mut(&key)
    {
        values.remove(value);
        if values.is_empty() {
            map.remove(&key);
        }
    }
}

fn set<K: Ord, V>(map: &mut BTreeMap<K, V>, key: K, value: Option<V>) {
    match value {
        Some(value) => {
            map.insert(key, value);
        }
        None => {
            map.remove(&key);
        }
    }
}

//! The rules of the root, one by one: of survival in `survival.rs`, of revisions in `rollout.rs`, of joining in
//! `enrolment.rs`, of people in `access.rs`, `membership.rs`, `oidc.rs` and `sessions.rs`, and so on.

mod access;
mod addresses;
mod audit;
mod certificates;
mod constraints;
mod enrolment;
mod events;
mod hooks;
mod membership;
mod names;
mod neighbours;
mod notes;
mod objects;
mod oidc;
mod placing;
mod quota;
mod resources;
mod rollout;
mod secrets;
mod sessions;
mod survival;
mod workflow_actions;
mod workflow_objects;
mod workflows;

use model::{
    ApplicationId, AssignedInstance, Brain, Capability, ClusterAggregate, ClusterId, ClusterReport, Desired,
    Generation, InstanceId, InstanceReport, Location, Mebibytes, Millicores, Moment, Now, OrganizationId,
    Phase, Plan, Refusal, RefusalCode, Resources, RevisionId, ServiceId, ServiceSpec, Timestamp, TokenId,
};

use crate::{
    Application, Author, Change, Claim, Cluster, Effect, EnrolmentRejected, FreshIds, JoinKind, Rejected,
    State, Token, UpdatePolicy,
    sla::{SlaApplication, SlaService},
};

const REVISION: u32 = 1;
/// The generation of the first copy.
const FIRST: Generation = Generation(1 << 32);
const BEGINNING: Now = Now { date: Timestamp(1_000_000), moment: Moment(5_000_000) };

const ROOT: OrganizationId = OrganizationId::from_bytes([0xf0; 12]);
const ACME: OrganizationId = OrganizationId::from_bytes([0xac; 12]);

fn author(organization: OrganizationId) -> Author {
    Author { organization, name: "user".to_owned() }
}

/// Counts instead of drawing.
#[derive(Default)]
struct CountedIds(u8);

impl CountedIds {
    fn next(&mut self) -> [u8; 12] {
        self.0 += 1;
        [self.0; 12]
    }
}

impl FreshIds for CountedIds {
    fn application(&mut self) -> ApplicationId {
        ApplicationId::from_bytes(self.next())
    }

    fn service(&mut self) -> ServiceId {
        ServiceId::from_bytes(self.next())
    }
}

fn uuid<T: std::str::FromStr>(number: u8) -> T {
    let text = format!("00000000-0000-0000-0000-0000000000{number:02x}");
    text.parse().ok().expect("a UUID")
}

fn resources(cores: u32, memory: u32) -> Resources {
    Resources { cpu: Millicores::from_cores(cores), memory: Mebibytes(memory), ..Resources::default() }
}

fn aggregate(workers: &[Resources]) -> ClusterAggregate {
    let sum = workers.iter().fold(Resources::default(), |sum, one| sum.plus(one));
    ClusterAggregate {
        active_workers: u32::try_from(workers.len()).expect("few"),
        known_workers: u32::try_from(workers.len()).expect("few"),
        allocatable: sum,
        free: sum,
        largest_free: placement::frontier(workers.iter().copied()),
        capabilities: vec![Capability::Container],
        ..ClusterAggregate::default()
    }
}

/// A root with one application and its state driven as the shell drives it.
struct Root {
    state: State,
    ids: CountedIds,
    now: Now,
    sessions: u64,
    reports: u64,
}

impl Root {
    fn new() -> Self {
        Self { state: State::of(ROOT), ids: CountedIds::default(), now: BEGINNING, sessions: 0, reports: 0 }
    }

    fn apply(&mut self, changes: Vec<Change>) {
        changes.into_iter().for_each(|change| self.state.apply(change));
    }

    fn reconcile(&mut self) -> Plan<Change, Effect> {
        let mut plan = self.state.reconcile(self.now);
        let again = self.state.reconcile(self.now);
        assert_eq!(
            (again.changes, again.effects),
            (vec![], vec![]),
            "a second pass without news finds nothing to do"
        );
        plan.effects.retain(|effect| match effect {
            Effect::SendAssignment { .. } => true,
            Effect::SendTokens { .. }
            | Effect::SendRevocations { .. }
            | Effect::Deliver(_)
            | Effect::CallAction(_)
            | Effect::TellNeighbours { .. }
            | Effect::PassOn { .. } => false,
        });
        plan
    }

    fn service(&mut self, spec: ServiceSpec) -> ServiceId {
        self.service_for(spec, &[])
    }

    /// A service that lets applications connect; the first is `app0.test`, each later one is named by a higher number.
    fn service_for(&mut self, spec: ServiceSpec, callers: &[&str]) -> ServiceId {
        let name = format!("app{}", self.ids.0);
        let wanted = SlaApplication {
            id: None,
            name,
            namespace: "test".to_owned(),
            description: String::new(),
            services: vec![neighbours::wanted(spec, callers)],
        };
        let (created, changes) = self
            .state
            .create_applications(&author(ROOT), vec![wanted], &mut self.ids, self.now.date)
            .expect("a new name");
        self.apply(changes);
        self.state.services_of(created[0]).next().expect("its service").id
    }

    fn deploy(&mut self, service: ServiceId) -> InstanceId {
        let service = self.state.service(service).expect("it exists").clone();
        let (id, changes) = self.state.deploy(&service, self.now.date).expect("there is no quota");
        self.apply(changes);
        id
    }

    fn cluster(&mut self, number: u8, name: &str, workers: &[Resources]) -> ClusterId {
        let id = uuid(number);
        let cluster =
            Cluster { id, name: name.to_owned(), location: None, generation: Generation::default() };
        self.apply(vec![Change::Cluster(id, Some(cluster))]);
        let location = Location { latitude: 0.0, longitude: 0.0, radius_metres: 0.0 };
        self.sessions += 1;
        let changes =
            self.state.cluster_connected(id, self.sessions, location, Generation::default(), self.now);
        self.apply(changes);
        self.report(id, aggregate(workers), vec![]);
        id
    }

    fn session(&self, cluster: ClusterId) -> u64 {
        self.state.sessions.get(&cluster).map_or(0, |session| session.number)
    }

    fn disconnect(&mut self, cluster: ClusterId) {
        self.state.cluster_disconnected(cluster, self.session(cluster));
    }

    /// Time goes by as the shell would let it: whenever a moment comes that was asked for, it is looked at.
    fn wait(&mut self, millis: u64) {
        let until = self.now.moment.plus_millis(millis);
        loop {
            let wake_at =
                self.state.reconcile(self.now).wake_at.map(|at| at.max(self.now.moment.plus_millis(1)));
            let next = wake_at.filter(|at| *at < until).unwrap_or(until);
            let passed = next.millis_since(self.now.moment);
            self.now = Now { date: self.now.date.plus_millis(passed), moment: next };
            if next == until {
                break;
            }
        }
        self.state.reconcile(self.now);
    }

    fn report(&mut self, cluster: ClusterId, aggregate: ClusterAggregate, instances: Vec<InstanceReport>) {
        let observed_generation = self.state.cluster(cluster).expect("it joined").generation;
        self.reports += 1;
        let report = ClusterReport {
            observed_generation,
            sequence: self.reports,
            aggregate,
            instances,
            ..ClusterReport::default()
        };
        let changes = self.state.cluster_reported(cluster, self.session(cluster), report, self.now);
        self.apply(changes);
    }

    fn said(&self, id: InstanceId, phase: Phase) -> InstanceReport {
        let holder = self.state.instance(id).expect("it exists").tenure.holder;
        let generation = holder.map_or(FIRST, |(_, generation)| generation);
        InstanceReport {
            ready: phase == Phase::Running,
            ..InstanceReport::new(id, generation, phase, self.now.date)
        }
    }

    fn phase(&self, id: InstanceId) -> Phase {
        self.state.instance(id).expect("it exists").report.phase
    }

    fn refusal(&self, id: InstanceId) -> String {
        self.state.instance(id).expect("it exists").report.refusal.as_ref().expect("refused").to_string()
    }
}

fn small() -> ServiceSpec {
    ServiceSpec::container("image").reserving(Millicores::from_cores(1), Mebibytes(100))
}

#[test]
fn an_instance_goes_to_a_cluster_in_a_whole_assignment() {
    let mut root = Root::new();
    let cluster = root.cluster(1, "one", &[resources(4, 1000)]);
    root.reconcile();
    let service = root.service(small());
    let id = root.deploy(service);
    let plan = root.reconcile();
    let [Effect::SendAssignment { cluster: to, assignment, .. }] = &plan.effects[..] else {
        panic!("one assignment, not {:?}", plan.effects);
    };
    assert_eq!(*to, cluster);
    let address = root.state.instance(id).expect("there").address;
    assert!(address.is_some(), "an instance has its address before anybody is told of it");
    assert_eq!(
        assignment.instances,
        [AssignedInstance { id, revision: REVISION, generation: FIRST, desired: Desired::Running, address }]
    );
    let assigned = &assignment.services[&RevisionId { service, number: REVISION }];
    assert_eq!(assigned.spec, small().into());
    assert_eq!(assigned.addresses, root.state.service(service).expect("there").addresses);
    assert_eq!(assigned.addresses.len(), 4, "one of each policy");
    assert!(assignment.network.is_some(), "a cluster has addresses to lend from its first assignment on");
    assert_eq!(root.phase(id), Phase::ClusterScheduled);
}

#[test]
fn without_a_cluster_the_refusal_says_so_and_one_that_joins_gets_the_instance() {
    let mut root = Root::new();
    let service = root.service(small());
    let id = root.deploy(service);
    root.reconcile();
    assert_eq!(root.phase(id), Phase::Refused);
    assert!(root.refusal(id).starts_with("NoTargetCluster: "), "{}", root.refusal(id));
    root.cluster(1, "one", &[resources(4, 1000)]);
    root.reconcile();
    assert_eq!(root.phase(id), Phase::ClusterScheduled);
}

#[test]
fn the_next_cluster_is_tried_when_one_declines() {
    let mut root = Root::new();
    let one = root.cluster(1, "one", &[resources(8, 2000)]);
    let two = root.cluster(2, "two", &[resources(4, 1000)]);
    let service = root.service(small());
    let id = root.deploy(service);
    root.reconcile();
    let first = root.state.instance(id).and_then(|instance| instance.cluster()).expect("placed");
    let second = if first == one { two } else { one };
    let refusal = Refusal {
        code: RefusalCode::NoResourcesAvailable,
        summary: "no worker can take it".to_owned(),
        candidates: vec![],
    };
    let said = InstanceReport { refusal: Some(refusal), ..root.said(id, Phase::Refused) };
    let same = root.state.aggregate(first).0;
    root.report(first, same.clone(), vec![said.clone()]);
    root.reconcile();
    let instance = root.state.instance(id).expect("it exists");
    let generation = FIRST.next_cluster();
    assert_eq!(instance.tenure.holder, Some((second, generation)));

    let aggregate = root.state.aggregate(second).0;
    root.report(second, aggregate, vec![InstanceReport { generation, ..said.clone() }]);
    root.reconcile();
    assert_eq!(root.phase(id), Phase::Refused);
    let refusal = root.refusal(id);
    assert!(refusal.contains("one: no worker can take it"), "{refusal}");
    assert!(refusal.contains("two: no worker can take it"), "{refusal}");

    // More capacity is a reason to ask again; the same again is not.
    root.report(first, same.clone(), vec![]);
    assert_eq!(root.reconcile().effects, []);
    root.report(first, ClusterAggregate { free: resources(9, 2000), ..same.clone() }, vec![]);
    root.reconcile();
    assert_eq!(root.state.instance(id).and_then(|instance| instance.cluster()), Some(first));

    // Also when the refusal is told together with it: it was decided before.
    let generation = generation.next_cluster();
    let grown = ClusterAggregate { free: resources(10, 2000), ..same };
    root.report(first, grown.clone(), vec![InstanceReport { generation, ..said.clone() }]);
    root.reconcile();
    assert_eq!(root.state.instance(id).and_then(|instance| instance.cluster()), Some(first));
    let generation = generation.next_cluster();
    root.report(first, grown, vec![InstanceReport { generation, ..said }]);
    root.reconcile();
    assert_eq!(root.phase(id), Phase::Refused, "asked once");
}

#[test]
fn a_report_of_an_older_placement_is_ignored() {
    let mut root = Root::new();
    let cluster = root.cluster(1, "one", &[resources(4, 1000)]);
    let service = root.service(small());
    let id = root.deploy(service);
    root.reconcile();
    let old = InstanceReport { generation: Generation(0), ..root.said(id, Phase::Running) };
    root.report(cluster, aggregate(&[resources(4, 1000)]), vec![old]);
    assert_eq!(root.phase(id), Phase::ClusterScheduled);
    let current = root.said(id, Phase::Running);
    root.report(cluster, aggregate(&[resources(4, 1000)]), vec![current]);
    assert_eq!(root.phase(id), Phase::Running);
}

#[test]
fn an_instance_goes_only_when_its_cluster_confirms_it() {
    let mut root = Root::new();
    let cluster = root.cluster(1, "one", &[resources(4, 1000)]);
    let service = root.service(small());
    let id = root.deploy(service);
    root.reconcile();
    let running = root.said(id, Phase::Running);
    root.report(cluster, aggregate(&[resources(4, 1000)]), vec![running.clone()]);
    let application =
        root.state.service(service).and_then(|service| root.state.application(service.application)).cloned();
    let changes = root.state.delete_application(&application.expect("its application"), BEGINNING.date);
    root.apply(changes);
    let plan = root.reconcile();
    assert_eq!(root.state.service(service), None, "gone from view at once");
    let [Effect::SendAssignment { assignment, .. }] = &plan.effects[..] else { panic!("one assignment") };
    assert_eq!(assignment.instances[0].desired, Desired::Removed);

    root.report(cluster, aggregate(&[resources(4, 1000)]), vec![running]);
    root.report(cluster, aggregate(&[resources(4, 1000)]), vec![]);
    root.reconcile();
    assert_eq!(root.phase(id), Phase::Undeploying, "neither silence nor an old report removes it");

    let before = root.state.instance(id).expect("it exists").report.clone();
    for (said, shown) in [("waiting for 2 connections to end", None), ("", Some(before.detail.as_str()))] {
        let going = InstanceReport { detail: said.to_owned(), ..root.said(id, Phase::Undeploying) };
        root.report(cluster, aggregate(&[resources(4, 1000)]), vec![going]);
        let now = &root.state.instance(id).expect("it exists").report;
        let expected = InstanceReport { detail: shown.unwrap_or(said).to_owned(), ..before.clone() };
        assert_eq!(*now, expected);
    }

    let removed = root.said(id, Phase::Removed);
    root.report(cluster, aggregate(&[resources(4, 1000)]), vec![removed]);
    let plan = root.reconcile();
    assert_eq!(root.state.instance(id), None);
    assert!(
        plan.changes.contains(&Change::Service(service, None)),
        "the last instance takes its service along"
    );
}

#[test]
fn what_no_cluster_has_is_removed_at_once() {
    let mut root = Root::new();
    let service = root.service(small());
    let id = root.deploy(service);
    root.reconcile();
    let changes = root.state.undeploy(service, 0, BEGINNING.date).expect("it exists");
    assert_eq!(changes, [Change::Instance(id, None)]);
    root.apply(changes);
    assert_eq!(
        root.state.undeploy(service, 0, BEGINNING.date),
        Err(Rejected::NoInstance { service, number: 0 })
    );
}

#[test]
fn instance_numbers_are_never_used_twice() {
    let mut root = Root::new();
    let service = root.service(small());
    let first = root.deploy(service);
    let changes = root.state.undeploy(service, first.number, BEGINNING.date).expect("it exists");
    root.apply(changes);
    assert_eq!(root.deploy(service).number, 1);
}

#[test]
fn services_are_added_together_or_not_at_all() {
    let mut root = Root::new();
    let service = root.service(small());
    let application: Application = {
        let id = root.state.service(service).expect("it exists").application;
        root.state.application(id).expect("it exists").clone()
    };
    let named = |name: &str| SlaService {
        allowed_callers: model::AllowedCallers::new(),
        round_robin: None,
        name: name.to_owned(),
        namespace: "test".to_owned(),
        spec: small(),
        update: UpdatePolicy::default(),
        secrets: crate::sla::SecretWishes::default(),
        document: serde_json::Map::new(),
    };
    let refused = root.state.add_services(
        &application,
        vec![named("new"), named("service")],
        &mut root.ids,
        BEGINNING.date,
    );
    assert_eq!(
        refused,
        Err(Rejected::ServiceExists { name: "service".to_owned(), namespace: "test".to_owned() })
    );
}

#[test]
fn a_reconnected_cluster_is_told_what_it_missed_and_no_more() {
    let mut root = Root::new();
    let cluster = root.cluster(1, "one", &[resources(4, 1000)]);
    root.reconcile();
    let generation = root.state.cluster(cluster).expect("it joined").generation;
    let location = Location { latitude: 0.0, longitude: 0.0, radius_metres: 0.0 };

    root.disconnect(cluster);
    let changes = root.state.cluster_connected(cluster, 10, location, generation, root.now);
    root.apply(changes);
    assert_eq!(root.reconcile().effects, [], "it holds the newest already");

    root.disconnect(cluster);
    let changes = root.state.cluster_connected(cluster, 11, location, Generation(0), root.now);
    root.apply(changes);
    assert_eq!(root.reconcile().effects.len(), 1, "it lost its store and is told everything");
}

#[test]
fn a_root_restored_from_a_backup_goes_on_above_what_its_cluster_holds() {
    let mut root = Root::new();
    let cluster = root.cluster(1, "one", &[resources(4, 1000)]);
    root.reconcile();
    root.disconnect(cluster);
    let location = Location { latitude: 0.0, longitude: 0.0, radius_metres: 0.0 };
    let changes = root.state.cluster_connected(cluster, 10, location, Generation(500), root.now);
    root.apply(changes);
    let plan = root.reconcile();
    let [Effect::SendAssignment { assignment, .. }] = &plan.effects[..] else { panic!("one assignment") };
    assert_eq!(assignment.generation, Generation(501));
}

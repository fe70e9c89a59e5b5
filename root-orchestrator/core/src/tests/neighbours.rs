//! Who is told of whom, and what is passed on.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
    sync::Arc,
};

use model::{
    ApplicationName, CallableInstance, Neighbour, NeighbourInstance, NeighbourNews, Neighbours,
    SharedApplication, SharedNews, SharedService, Weight, may_connect,
};
use proptest::prelude::*;

use super::*;

/// A service as its user describes it, which lets applications connect.
pub(super) fn wanted(spec: ServiceSpec, callers: &[&str]) -> SlaService {
    SlaService {
        allowed_callers: callers.iter().map(|caller| caller.parse().expect("a caller")).collect(),
        round_robin: None,
        name: "service".to_owned(),
        namespace: "test".to_owned(),
        spec,
        update: UpdatePolicy::default(),
        secrets: crate::sla::SecretWishes::default(),
        document: serde_json::Map::new(),
    }
}

/// Two clusters with a copy of one service each.
fn two_clusters() -> (Root, [ClusterId; 2], ServiceId) {
    let mut root = Root::new();
    let clusters =
        [(1, "one"), (2, "two")].map(|(number, name)| root.cluster(number, name, &[resources(4, 1000)]));
    let service = root.service(small());
    root.deploy(service);
    root.deploy(service);
    (root, clusters, service)
}

impl Root {
    fn neighbours_told(&mut self) -> BTreeMap<ClusterId, Neighbours> {
        let effects = self.state.reconcile(self.now).effects.into_iter();
        let told = effects.filter_map(|effect| match effect {
            Effect::TellNeighbours { cluster, session, neighbours } => {
                assert_eq!(session, self.session(cluster), "over the connection there is");
                Some((cluster, neighbours))
            }
            Effect::SendAssignment { .. }
            | Effect::SendTokens { .. }
            | Effect::SendRevocations { .. }
            | Effect::Deliver(_)
            | Effect::CallAction(_)
            | Effect::PassOn { .. } => None,
        });
        told.collect()
    }

    fn connect(&mut self, id: ClusterId) {
        self.sessions += 1;
        let location = Location { latitude: 0.0, longitude: 0.0, radius_metres: 0.0 };
        let observed = self.state.cluster(id).expect("it joined").generation;
        let changes = self.state.cluster_connected(id, self.sessions, location, observed, self.now);
        self.apply(changes);
    }

    fn neighbour(&self, id: ClusterId) -> Neighbour {
        let epoch = self.state.is_connected(id).then(|| self.session(id));
        Neighbour { epoch, blocks: self.state.blocks.blocks_of(&id) }
    }

    /// Lets other applications connect to a service than before.
    fn allow(&mut self, service: ServiceId, callers: &[&str]) {
        let known = self.state.service(service).expect("it exists").clone();
        let wanted = wanted(small(), callers);
        let (_, changes) = self.state.update(&known, wanted, self.now.date).expect("it keeps its name");
        self.apply(changes);
    }

    /// One instance of a service is removed, if it has any in a cluster that is there.
    fn remove_one(&mut self, service: ServiceId) {
        let copies = self.state.instances_of(service).filter_map(|it| Some((it.id, it.cluster()?)));
        let copy = copies.filter(|(_, cluster)| self.state.is_connected(*cluster)).last();
        let Some((id, cluster)) = copy else { return };
        let changes = self.state.undeploy(service, id.number, self.now.date).expect("it is there");
        self.apply(changes);
        let said = self.said(id, Phase::Removed);
        self.report(cluster, aggregate(&[resources(40, 10_000)]), vec![said]);
    }

    /// The application of a service with the clusters that have copies, and the clusters that are to be told: those with
    /// copies of services whose application may call one of it, or be called by it.
    fn by_the_rule(&self, service: ServiceId) -> (ApplicationId, SharedApplication, BTreeSet<ClusterId>) {
        let one = self.state.service(service).expect("it exists");
        let holders = |id| -> BTreeSet<ClusterId> {
            self.state.instances_of(id).filter_map(|it| it.cluster()).collect()
        };
        let beside = self.state.services().filter(|other| {
            let (one_is, other_is) =
                (ApplicationName::from(&*one.names), ApplicationName::from(&*other.names));
            may_connect(&one_is, &other_is, &other.allowed_callers)
                || may_connect(&other_is, &one_is, &one.allowed_callers)
        });
        let audience: BTreeSet<ClusterId> = beside.flat_map(|other| holders(other.id)).collect();
        let shared = SharedService {
            names: Arc::clone(&one.names),
            addresses: Arc::clone(&one.addresses),
            allowed_callers: Arc::clone(&one.allowed_callers),
        };
        let services = BTreeMap::from([(service, shared)]).into();
        (one.application, SharedApplication { services, clusters: holders(service) }, audience)
    }

    /// The copies of a service a cluster has, as it would say.
    fn own(&self, cluster: ClusterId, service: ServiceId) -> Vec<NeighbourInstance> {
        let copies = self.state.instances_of(service).filter_map(|instance| {
            let (holder, generation) = instance.tenure.holder?;
            let instance = CallableInstance {
                number: instance.id.number,
                address: instance.address?,
                worker: uuid(77),
                ready: true,
                weight: Weight::default(),
            };
            (holder == cluster).then_some(NeighbourInstance { instance, generation })
        });
        copies.collect()
    }

    fn passed_on(&mut self) -> Vec<(ClusterId, u64, ClusterId, NeighbourNews)> {
        let effects = self.state.reconcile(self.now).effects.into_iter();
        let passed = effects.filter_map(|effect| match effect {
            Effect::PassOn { cluster, session, from, news } => Some((cluster, session, from, news)),
            Effect::SendAssignment { .. }
            | Effect::SendTokens { .. }
            | Effect::SendRevocations { .. }
            | Effect::Deliver(_)
            | Effect::CallAction(_)
            | Effect::TellNeighbours { .. } => None,
        });
        passed.collect()
    }
}

fn news(service: ServiceId, instances: Vec<NeighbourInstance>) -> NeighbourNews {
    let services = BTreeMap::from([(service, Some(Arc::new(instances)))]);
    NeighbourNews { whole: true, services, peers: BTreeMap::new() }
}

#[test]
fn clusters_with_copies_of_one_application_are_told_of_each_other() {
    let (mut root, [one, two], service) = two_clusters();
    let told = root.neighbours_told();
    for (cluster, other) in [(one, two), (two, one)] {
        let told = &told[&cluster];
        assert!(told.whole, "the first of a connection");
        assert_eq!(told.clusters, BTreeMap::from([(other, root.neighbour(other))]));
        let [Some(SharedNews { services, joined, left })] =
            &told.applications.values().cloned().collect::<Vec<_>>()[..]
        else {
            panic!("one application, not {told:?}");
        };
        assert_eq!((joined, left), (&BTreeSet::from([other]), &BTreeSet::new()));
        let known = root.state.service(service).expect("it exists");
        assert_eq!(services[&service].addresses, known.addresses);
        assert_eq!(services[&service].names, known.names);
    }
    assert_eq!(root.neighbours_told(), BTreeMap::new());
}

#[test]
fn a_third_cluster_is_told_of_all_and_the_others_of_it_alone() {
    let (mut root, [one, two], service) = two_clusters();
    root.neighbours_told();
    let three = root.cluster(3, "three", &[resources(4, 1000)]);
    root.deploy(service);
    let told = root.neighbours_told();
    let joined = |cluster: ClusterId| {
        let news = told[&cluster].applications.values().flatten();
        news.flat_map(|news| news.joined.clone()).collect::<Vec<_>>()
    };
    assert_eq!((joined(one), joined(two), joined(three)), (vec![three], vec![three], vec![one, two]));
    let named = |cluster: ClusterId| told[&cluster].clusters.keys().copied().collect::<Vec<_>>();
    assert_eq!((named(one), named(three)), (vec![three], vec![one, two]));
    assert!(!told[&one].whole && told[&three].whole);
}

#[test]
fn one_that_is_away_stays_a_neighbour_until_its_copies_are_gone() {
    let (mut root, [one, two], service) = two_clusters();
    root.neighbours_told();
    let its = root.own(two, service)[0];
    root.disconnect(two);
    let away = Neighbours {
        clusters: BTreeMap::from([(two, Neighbour { epoch: None, ..root.neighbour(two) })]),
        ..Neighbours::default()
    };
    assert_eq!(root.neighbours_told(), BTreeMap::from([(one, away)]));

    root.connect(two);
    let told = root.neighbours_told();
    assert_eq!(told[&one].clusters, BTreeMap::from([(two, root.neighbour(two))]));
    assert!(told[&one].applications.is_empty() && !told[&one].whole, "nothing else is new to it");
    assert!(told[&two].whole && told[&two].applications.len() == 1, "a new connection is told everything");

    let changes =
        root.state.undeploy(service, its.instance.number, root.now.date).expect("there is such an instance");
    root.apply(changes);
    assert_eq!(root.neighbours_told(), BTreeMap::new(), "it is not gone yet");
    let gone = InstanceId { service, number: its.instance.number };
    let said = root.said(gone, Phase::Removed);
    root.report(two, aggregate(&[resources(4, 1000)]), vec![said]);
    let told = root.neighbours_told();
    for cluster in [one, two] {
        assert_eq!(told[&cluster].applications.values().collect::<Vec<_>>(), [&None]);
    }
}

#[test]
fn what_a_neighbour_says_is_passed_on_to_the_connection_it_is_meant_for() {
    let (mut root, [one, two], service) = two_clusters();
    root.neighbours_told();
    let said = news(service, root.own(one, service));
    let (to, from) = (root.session(two), root.session(one));
    root.state.neighbour_told(one, from, two, to, said.clone());
    assert_eq!(root.passed_on(), [(two, to, one, said.clone())]);
    root.state.neighbour_told(one, from, two, to + 5, said.clone());
    root.state.neighbour_told(one, from + 5, two, to, said.clone());
    assert_eq!(root.passed_on(), [], "neither to another connection nor from one");
    root.disconnect(two);
    root.state.neighbour_told(one, from, two, to, said);
    assert_eq!(root.passed_on(), [], "nobody is there");
}

#[test]
fn a_cluster_tells_only_of_instances_it_was_given() {
    let (mut root, [one, two], service) = two_clusters();
    let other = root.service(small());
    root.deploy(other);
    root.neighbours_told();
    let own = root.own(one, service)[0];
    let mut elsewhere = own;
    elsewhere.instance.address = Ipv4Addr::new(10, 30, 200, 200);
    let mut newer = own;
    newer.generation = own.generation.next();
    let foreign = root.own(two, service)[0];
    let mut said = news(service, vec![own, elsewhere, newer, foreign]);
    said.services.insert(other, Some(Arc::new(vec![own])));
    root.state.neighbour_told(one, root.session(one), two, root.session(two), said);
    let (to, session) = (two, root.session(two));
    assert_eq!(root.passed_on(), [(to, session, one, news(service, vec![own]))]);

    let three = root.cluster(3, "three", &[resources(4, 1000)]);
    root.neighbours_told();
    let said = news(service, vec![]);
    root.state.neighbour_told(three, root.session(three), two, session, said);
    assert_eq!(root.passed_on(), [], "it shares nothing with it");
}

/// A caller in one cluster and the service it may call in another.
fn caller_and_callee() -> (Root, [(ClusterId, ServiceId); 2]) {
    let mut root = Root::new();
    for (number, name) in [(1, "one"), (2, "two")] {
        root.cluster(number, name, &[resources(4, 1000)]);
    }
    let services = [root.service(small()), root.service_for(small(), &["app0.test"])];
    let places = services.map(|service| {
        let id = root.deploy(service);
        root.reconcile();
        (root.state.instance(id).and_then(|it| it.cluster()).expect("there is room"), service)
    });
    assert_ne!(places[0].0, places[1].0, "the other has more room");
    (root, places)
}

#[test]
fn the_clusters_of_a_caller_and_of_whom_it_may_call_are_told_of_both() {
    let (mut root, [(one, caller), (two, callee)]) = caller_and_callee();
    // What was told while they were placed is told again.
    root.connect(one);
    root.connect(two);
    let told = root.neighbours_told();
    for (cluster, other) in [(one, two), (two, one)] {
        assert_eq!(told[&cluster].clusters, BTreeMap::from([(other, root.neighbour(other))]));
        let applications = told[&cluster].applications.values().flatten();
        let services: BTreeMap<ServiceId, SharedService> =
            applications.flat_map(|news| (*news.services).clone()).collect();
        let callers = |service| services[&service].allowed_callers.iter().map(ToString::to_string).collect();
        let (none, some): (Vec<String>, Vec<String>) = (callers(caller), callers(callee));
        assert_eq!((none, some), (vec![], vec!["app0.test".to_owned()]));
    }
    for (from, service, to) in [(one, caller, two), (two, callee, one)] {
        let said = news(service, root.own(from, service));
        root.state.neighbour_told(from, root.session(from), to, root.session(to), said.clone());
        assert_eq!(root.passed_on(), [(to, root.session(to), from, said)]);
    }
}

#[test]
fn attempts_of_tasks_have_to_do_only_with_who_lets_everybody_connect() {
    let mut root = Root::new();
    for (number, name) in [(1, "one"), (2, "two")] {
        root.cluster(number, name, &[resources(1, 1000)]);
    }
    let document = |kind: &str, spec: serde_json::Value| serde_json::json!({"apiVersion": "sirocco.cloud/v1alpha1", "kind": kind, "metadata": {"name": "it"}, "spec": spec});
    let container =
        serde_json::json!({"name": "c", "image": "tool", "resources": {"requests": {"cpu": "1"}}});
    let task =
        serde_json::json!({"startOnIgnition": ["it"], "template": {"spec": {"containers": [container]}}});
    let (_, changes) = root.state.set_task(ACME, &document("Task", task)).expect("valid");
    root.apply(changes);
    let ignitor = document("Ignitor", serde_json::json!({}));
    let (_, changes) = root.state.set_ignitor(ACME, &ignitor, root.now).expect("valid");
    root.apply(changes);
    for _ in 0..2 {
        let (_, changes) = root.state.fire(ACME, "it", None, root.now).expect("it fires");
        root.apply(changes);
    }
    let told = root.neighbours_told();
    let attempts: Vec<ServiceId> =
        root.state.services.values().filter(|it| it.attempt.is_some()).map(|it| it.id).collect();
    let places: BTreeSet<Option<ClusterId>> = attempts
        .iter()
        .flat_map(|attempt| root.state.instances_of(*attempt).map(|instance| instance.cluster()))
        .collect();
    assert_eq!((attempts.len(), places.len()), (2, 2), "one each");
    assert!(told.values().all(|told| told.applications.is_empty()), "{told:?}");

    let third = root.cluster(3, "three", &[resources(4, 1000)]);
    let open = root.service_for(small(), &["*"]);
    root.deploy(open);
    let told = root.neighbours_told();
    let application = |service: ServiceId| root.state.service(service).expect("there").application;
    let both = BTreeSet::from([application(open), application(attempts[0])]);
    for cluster in [Some(third)].into_iter().chain(places).flatten() {
        let known: BTreeSet<ApplicationId> = told[&cluster].applications.keys().copied().collect();
        assert_eq!(known, both, "a caller and whom it calls are told of each other");
    }
}

#[test]
fn clusters_forget_each_other_when_the_allowance_is_taken_away() {
    let (mut root, [(one, caller), (two, callee)]) = caller_and_callee();
    root.neighbours_told();
    root.allow(callee, &["bank.test"]);
    let told = root.neighbours_told();
    for cluster in [one, two] {
        let applications: Vec<_> = told[&cluster].applications.values().collect();
        assert_eq!(applications, [&None, &None]);
    }
    let said = news(caller, root.own(one, caller));
    root.state.neighbour_told(one, root.session(one), two, root.session(two), said);
    assert_eq!(root.passed_on(), [], "nothing is passed on either");

    root.allow(callee, &["*"]);
    assert_eq!(root.neighbours_told().len(), 2);
    let caller = root.state.service(caller).expect("it is there").clone();
    let changes = root.state.delete_service(&caller, root.now.date);
    root.apply(changes);
    let gone = InstanceId { service: caller.id, number: 0 };
    let said = root.said(gone, Phase::Removed);
    root.report(one, aggregate(&[resources(4, 1000)]), vec![said]);
    let told = root.neighbours_told();
    assert!(told[&two].applications.values().all(Option::is_none), "nobody has a caller: {told:?}");
}

#[derive(Debug, Clone)]
enum Step {
    Deploy(usize),
    Remove(usize),
    Allow(usize, u8),
    Disconnect(usize),
    Connect(usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (0_usize..3).prop_map(Step::Deploy),
        3 => (0_usize..3).prop_map(Step::Remove),
        3 => (0_usize..3, 0_u8..16).prop_map(|(service, mask)| Step::Allow(service, mask)),
        1 => (0_usize..4).prop_map(Step::Disconnect),
        1 => (0_usize..4).prop_map(Step::Connect),
    ];
    proptest::collection::vec(step, 1..40)
}

proptest! {
    /// Whatever comes and goes, each cluster that is there knows of exactly the applications it has to do with, who has
    /// copies of them, and the connections of those.
    #[test]
    fn each_cluster_knows_whom_it_has_to_do_with(steps in steps()) {
        let mut root = Root::new();
        let clusters = [1, 2, 3, 4].map(|number| {
            root.cluster(number, &format!("cluster{number}"), &[resources(40, 10_000)])
        });
        let services = [(); 3].map(|()| root.service(small()));
        let names = services.map(|id| ApplicationName::from(&*root.state.service(id).expect("there").names));
        let mut known: BTreeMap<ClusterId, BTreeMap<ApplicationId, SharedApplication>> = BTreeMap::new();
        let mut epochs: BTreeMap<(ClusterId, ClusterId), Neighbour> = BTreeMap::new();
        for step in steps {
            match step {
                Step::Deploy(service) => drop(root.deploy(services[service])),
                Step::Remove(service) => root.remove_one(services[service]),
                Step::Allow(service, mask) => {
                    let all = names.iter().map(ToString::to_string).chain(["*".to_owned()]).enumerate();
                    let callers: Vec<String> =
                        all.filter(|(bit, _)| mask >> bit & 1 == 1).map(|(_, name)| name).collect();
                    let callers: Vec<&str> = callers.iter().map(String::as_str).collect();
                    root.allow(services[service], &callers);
                }
                Step::Disconnect(cluster) => root.disconnect(clusters[cluster]),
                Step::Connect(cluster) => root.connect(clusters[cluster]),
            }
            for (cluster, told) in root.neighbours_told() {
                let known = known.entry(cluster).or_default();
                if told.whole {
                    known.clear();
                    epochs.retain(|(to, _), _| *to != cluster);
                }
                epochs.extend(told.clusters.into_iter().map(|(other, it)| ((cluster, other), it)));
                for (id, news) in told.applications {
                    let Some(SharedNews { services, joined, left }) = news else {
                        known.remove(&id);
                        continue;
                    };
                    let application = known.entry(id).or_default();
                    application.services = services;
                    application.clusters.retain(|other| !left.contains(other));
                    application.clusters.extend(joined);
                }
            }
            for cluster in clusters.into_iter().filter(|cluster| root.state.is_connected(*cluster)) {
                let mut expected = BTreeMap::new();
                for (id, mut shared, audience) in services.map(|service| root.by_the_rule(service)) {
                    if !shared.clusters.is_empty() && audience.len() > 1 && audience.contains(&cluster) {
                        shared.clusters.remove(&cluster);
                        expected.insert(id, shared);
                    }
                }
                let known = known.get(&cluster).cloned().unwrap_or_default();
                prop_assert_eq!(&known, &expected, "{}", cluster);
                for other in known.values().flat_map(|shared| &shared.clusters) {
                    prop_assert_eq!(&epochs[&(cluster, *other)], &root.neighbour(*other));
                }
            }
        }
    }
}

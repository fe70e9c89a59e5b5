//! Who is told of whom, and what is passed on.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
    sync::Arc,
};

use model::{CallableInstance, Neighbour, NeighbourInstance, NeighbourNews, Neighbours, SharedNews};

use super::*;

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
            Effect::SendAssignment { .. } | Effect::SendTokens { .. } | Effect::PassOn { .. } => None,
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

    /// The copies of a service a cluster has, as it would say.
    fn own(&self, cluster: ClusterId, service: ServiceId) -> Vec<NeighbourInstance> {
        let copies = self.state.instances_of(service).filter_map(|instance| {
            let (holder, generation) = instance.tenure.holder?;
            let instance = CallableInstance {
                number: instance.id.number,
                address: instance.address?,
                worker: uuid(77),
                ready: true,
            };
            (holder == cluster).then_some(NeighbourInstance { instance, generation })
        });
        copies.collect()
    }

    fn passed_on(&mut self) -> Vec<(ClusterId, u64, ClusterId, NeighbourNews)> {
        let effects = self.state.reconcile(self.now).effects.into_iter();
        let passed = effects.filter_map(|effect| match effect {
            Effect::PassOn { cluster, session, from, news } => Some((cluster, session, from, news)),
            Effect::SendAssignment { .. } | Effect::SendTokens { .. } | Effect::TellNeighbours { .. } => None,
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

//! What other clusters say of their instances, and what they are told of those here.

mod distrust;
mod open;
mod pieces;
mod regrouped;
mod weights;

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc};

use model::{
    AllowedCallers, ApplicationId, CallableInstance, ClusterId, Neighbour, NeighbourInstance, NeighbourNews,
    Neighbours, Peer, Reach, RelayPlace, SharedNews, SharedService, Surroundings, TunnelEnd, TunnelKey, Way,
    Weight,
};

use super::*;
use crate::Unacceptable;

const APPLICATION: ApplicationId = ApplicationId::from_bytes([9; 12]);
/// A service without copies here.
const BACKEND: ServiceId = ServiceId::from_bytes([2; 12]);
/// Where the worker here is reached.
const REACH: Reach = Reach {
    address: ADDRESS,
    tunnel: Some(TunnelEnd { port: 50103, key: TunnelKey([1; 32]), kernel_port: Some(50107) }),
    observed: None,
    at_root: None,
};
/// A worker of a neighbour.
const AWAY: u8 = 50;

fn neighbour(number: u8) -> ClusterId {
    format!("00000000-0000-0000-0001-0000000000{number:02x}").parse().expect("a UUID")
}

fn lease(v4: &str, v6: &str) -> NetworkLease {
    NetworkLease { v4: vec![v4.parse().expect("a range")], v6: vec![v6.parse().expect("a range")] }
}

/// The blocks of a neighbour.
fn blocks(number: u8) -> NetworkLease {
    lease(&format!("10.19.{}.0/20", u32::from(number) * 16), &format!("fc00::{number}:0/114"))
}

fn peer(neighbour: u8, key: u8) -> Peer {
    let lease =
        lease(&format!("10.19.{}.64/26", u32::from(neighbour) * 16), &format!("fc00::{neighbour}:100/120"));
    let endpoint = SocketAddr::from(([198, 51, 100, key], 50103));
    Peer { way: way(endpoint, key), lease }
}

fn way(endpoint: SocketAddr, key: u8) -> Way {
    let (observed, relay, kernel_port) = (None, None, Some(50107));
    Way::Secure { endpoint, observed, relay, key: TunnelKey([key; 32]), kernel_port }
}

fn away(number: u32, on: u8, generation: u64, ready: bool) -> NeighbourInstance {
    let address = Ipv4Addr::new(10, 30, 1, u8::try_from(number).expect("few"));
    let instance = CallableInstance { number, address, worker: worker(on), ready, weight: Weight::MOST };
    NeighbourInstance { instance, generation: Generation(generation) }
}

fn shared(service: ServiceId, name: &str) -> (ServiceId, SharedService) {
    let names = ServiceNames {
        application: "app".to_owned(),
        application_namespace: "test".to_owned(),
        service: name.to_owned(),
        service_namespace: "test".to_owned(),
    };
    let address = Ipv4Addr::new(10, 30, 0, service.to_bytes()[0]);
    let addresses = BTreeMap::from([(AddressKind::RoundRobin, address)]);
    let allowed_callers = Arc::default();
    (service, SharedService { names: names.into(), addresses: addresses.into(), allowed_callers })
}

/// The service of an application that neighbours alone have.
const FOREIGN: ServiceId = ServiceId::from_bytes([4; 12]);
const TILL: ApplicationId = ApplicationId::from_bytes([8; 12]);

fn callers(texts: &[&str]) -> Arc<AllowedCallers> {
    Arc::new(texts.iter().map(|text| text.parse().expect("a caller")).collect())
}

/// What the root says of the application `till.test`, of which those have copies and which lets those connect.
fn till(clusters: &[u8], allowed: &[&str]) -> SharedNews {
    let (id, mut service) = shared(FOREIGN, "till");
    service.names = Arc::new(ServiceNames { application: "till".to_owned(), ..(*service.names).clone() });
    service.allowed_callers = callers(allowed);
    SharedNews {
        services: Arc::new([(id, service)].into()),
        joined: clusters.iter().map(|number| neighbour(*number)).collect(),
        left: [].into(),
    }
}

/// What the root says: those neighbours with those connections share the application.
fn named(whole: bool, epochs: &[(u8, Option<u64>)]) -> Neighbours {
    let news = SharedNews {
        services: Arc::new([shared(SERVICE, "service"), shared(BACKEND, "backend")].into()),
        joined: epochs.iter().map(|(number, _)| neighbour(*number)).collect(),
        left: [].into(),
    };
    let cluster = |(number, epoch): &(u8, Option<u64>)| {
        (neighbour(*number), Neighbour { epoch: *epoch, blocks: blocks(*number) })
    };
    Neighbours {
        whole,
        applications: BTreeMap::from([(APPLICATION, (!epochs.is_empty()).then_some(news))]),
        clusters: epochs.iter().map(cluster).collect(),
    }
}

fn said(
    whole: bool,
    instances: &[(ServiceId, Vec<NeighbourInstance>)],
    peers: &[(u8, Peer)],
) -> NeighbourNews {
    let services =
        instances.iter().map(|(id, them)| (*id, (!them.is_empty()).then(|| Arc::new(them.clone()))));
    let peers = peers.iter().map(|(number, peer)| (worker(*number), Some(Arc::new(peer.clone()))));
    NeighbourNews { whole, services: services.collect(), peers: peers.collect() }
}

/// A cluster, all it made durable, and what its NetManagers know.
#[derive(Default)]
struct Site {
    cluster: Cluster,
    durable: Vec<Change>,
    known: BTreeMap<WorkerId, Surroundings>,
    /// What neighbours were told in the last pass.
    told: Vec<(ClusterId, u64, NeighbourNews)>,
}

impl Site {
    /// One worker with an instance that runs, and a neighbour.
    fn new() -> Self {
        Self::of(|cluster| cluster.state.network_connected(worker(1), 1, Some(REACH)))
    }

    /// The same, with what the worker does first.
    fn of(first: impl FnOnce(&mut Cluster)) -> Self {
        let mut site = Self::default();
        site.cluster.connect(1, 4, 1000);
        first(&mut site.cluster);
        let here = AssignedInstance { address: Some([10, 30, 1, 0].into()), ..wanted(0, Desired::Running) };
        site.cluster.assign(small(), vec![here]);
        site.turn();
        site.cluster.say(1, 0, Phase::Running);
        site.named(1, named(true, &[(1, Some(7))]));
        site
    }

    fn take(&mut self, changes: Vec<Change>) {
        self.durable.extend(changes.clone());
        self.cluster.apply(changes);
    }

    fn turn(&mut self) {
        let plan = self.cluster.reconcile();
        self.durable.extend(plan.changes);
        self.told.clear();
        for effect in plan.effects {
            match effect {
                Effect::TellNetwork { worker, news, .. } => self.known.entry(worker).or_default().take(news),
                Effect::TellNeighbour { to, epoch, news, .. } => self.told.push((to, epoch, news)),
                Effect::SendAssignment { .. }
                | Effect::OfferRelay { .. }
                | Effect::CloseRelay { .. }
                | Effect::SetBeats { .. }
                | Effect::AskForBeat { .. }
                | Effect::RequestReport { .. }
                | Effect::Report { .. }
                | Effect::Note(_) => {}
            }
        }
    }

    fn named(&mut self, session: u64, neighbours: Neighbours) {
        let changes = self.cluster.state.neighbours_named(session, neighbours);
        self.take(changes);
        self.turn();
    }

    fn hears(&mut self, from: u8, news: NeighbourNews) -> Vec<Unacceptable> {
        let (unacceptable, changes) = self.cluster.state.neighbour_said(neighbour(from), news);
        self.take(changes);
        self.turn();
        unacceptable
    }

    /// The root lets other applications connect to the service here.
    fn allow(&mut self, allowed: &[&str]) {
        let here = AssignedInstance { address: Some([10, 30, 1, 0].into()), ..wanted(0, Desired::Running) };
        let mut open = self.cluster.assignment(small(), vec![here]);
        open.services.values_mut().for_each(|service| service.allowed_callers = callers(allowed));
        let changes = self.cluster.state.take_on(open, self.cluster.now).expect("newer");
        self.take(changes);
    }

    /// The root says of nothing but `till`.
    fn named_till(&mut self, session: u64, clusters: &[(u8, u64)], allowed: &[&str]) {
        let numbers: Vec<u8> = clusters.iter().map(|(number, _)| *number).collect();
        let cluster = |(number, epoch): &(u8, u64)| {
            (neighbour(*number), Neighbour { epoch: Some(*epoch), blocks: blocks(*number) })
        };
        let neighbours = Neighbours {
            whole: true,
            applications: BTreeMap::from([(TILL, Some(till(&numbers, allowed)))]),
            clusters: clusters.iter().map(cluster).collect(),
        };
        self.named(session, neighbours);
    }

    /// What the NetManager here knows of a service: its instances by number and worker.
    fn callable(&self, service: ServiceId) -> Vec<(u32, WorkerId, bool)> {
        let known = self.known[&worker(1)].services.get(&service);
        let instances = known.into_iter().flat_map(|service| &service.instances);
        instances.map(|it| (it.number, it.worker, it.ready)).collect()
    }

    fn peers(&self) -> Vec<WorkerId> {
        self.known[&worker(1)].peers.keys().copied().collect()
    }
}

#[test]
fn instances_of_a_neighbour_are_called_as_those_here() {
    let mut site = Site::new();
    let backend = [away(4, AWAY, 1, true)];
    let news = said(
        true,
        &[(SERVICE, vec![away(1, AWAY, 1, true)]), (BACKEND, backend.to_vec())],
        &[(AWAY, peer(1, 5))],
    );
    assert_eq!(site.hears(1, news), []);
    assert_eq!(site.callable(SERVICE), [(0, worker(1), true), (1, worker(AWAY), true)]);
    assert_eq!(site.callable(BACKEND), [(4, worker(AWAY), true)]);
    let known = &site.known[&worker(1)];
    assert_eq!(known.peers, BTreeMap::from([(worker(AWAY), peer(1, 5).into())]));
    let backend = &known.services[&BACKEND];
    assert_eq!(
        (&backend.names, &backend.addresses),
        (&shared(BACKEND, "backend").1.names, &shared(BACKEND, "").1.addresses)
    );

    site.hears(1, said(false, &[(SERVICE, vec![]), (BACKEND, vec![])], &[]));
    assert_eq!((site.callable(SERVICE).len(), site.peers()), (1, vec![]));
    assert!(known_names(&site, BACKEND), "it is there, and nobody answers for it");
}

fn known_names(site: &Site, service: ServiceId) -> bool {
    site.known[&worker(1)].services.contains_key(&service)
}

#[test]
fn another_way_to_a_device_of_a_neighbour_is_told_on() {
    let mut site = Site::new();
    site.hears(1, said(true, &[(SERVICE, vec![away(1, AWAY, 1, true)])], &[(AWAY, peer(1, 5))]));
    site.hears(1, said(false, &[], &[(AWAY, peer(1, 6))]));
    assert_eq!(site.known[&worker(1)].peers[&worker(AWAY)], peer(1, 6).into());
}

#[test]
fn a_neighbour_is_told_everything_once_for_each_connection_and_then_what_is_new() {
    let mut site = Site::new();
    let here = |generation, ready| {
        let mut here = away(0, 1, generation, ready);
        here.instance.address = [10, 30, 1, 0].into();
        here
    };
    let endpoint = SocketAddr::new(ADDRESS, 50103);
    let own = Peer {
        way: way(endpoint, 1),
        lease: site.cluster.state.lease_of(worker(1)).expect("it has a subnet"),
    };
    let whole = said(true, &[(SERVICE, vec![here(1, true)])], &[(1, own)]);
    assert_eq!(site.told, [(neighbour(1), 7, whole.clone())]);
    site.named(1, named(false, &[(1, Some(7))]));
    assert_eq!(site.told, [], "nothing is new");

    site.named(1, named(false, &[(1, Some(8))]));
    assert_eq!(site.told, [(neighbour(1), 8, whole.clone())], "it has another connection");
    site.named(1, named(false, &[(1, None)]));
    site.named(2, named(true, &[(1, Some(8))]));
    assert_eq!(site.told, [(neighbour(1), 8, whole)], "this cluster has another connection");

    site.cluster.say(1, 0, Phase::Dead);
    site.turn();
    let gone = NeighbourNews {
        services: BTreeMap::from([(SERVICE, None)]),
        peers: BTreeMap::from([(worker(1), None)]),
        ..NeighbourNews::default()
    };
    assert_eq!(site.told, [(neighbour(1), 8, gone)]);
}

#[test]
fn a_neighbour_is_told_where_devices_here_are_seen_and_of_the_relay_that_is_reached_from_elsewhere() {
    let mut site = Site::new();
    let relay = SocketAddr::from(([203, 0, 113, 1], 50105));
    let seen = SocketAddr::from(([198, 51, 100, 7], 4000));
    site.cluster.state.relay_at(Some(relay));
    site.cluster.state.network_observed(worker(1), 1, seen);
    site.turn();
    let [(_, _, news)] = &site.told[..] else { panic!("one neighbour, not {:?}", site.told) };
    let way = news.peers[&worker(1)].as_ref().map(|peer| peer.way);
    let endpoint = SocketAddr::new(ADDRESS, 50103);
    let by = |relay| Way::Secure {
        endpoint,
        observed: Some(seen),
        relay,
        key: TunnelKey([1; 32]),
        kernel_port: Some(50107),
    };
    assert_eq!(way, Some(by(Some(RelayPlace::At(relay)))));
    site.cluster.state.network_at_root(worker(1), 1, Some(seen));
    site.turn();
    let (_, _, news) = site.told.last().expect("news");
    let way = news.peers[&worker(1)].as_ref().map(|peer| peer.way);
    assert_eq!(way, Some(by(Some(RelayPlace::Root))));
}

#[test]
fn whom_a_service_lets_connect_goes_with_its_last_copy_here() {
    let mut site = Site::new();
    let mut open = site.cluster.assignment(small(), vec![wanted(0, Desired::Running)]);
    let callers = [model::AllowedCaller::Everybody];
    open.services.values_mut().for_each(|service| service.allowed_callers = Arc::new(callers.clone().into()));
    let changes = site.cluster.state.take_on(open, site.cluster.now).expect("newer");
    site.take(changes);
    assert!(site.cluster.state.allowances.is_open(SERVICE));
    let mut away = site.cluster.assignment(small(), vec![]);
    away.services.clear();
    let held =
        crate::Held { generation: away.generation, services: away.services.into(), ..crate::Held::default() };
    site.take(vec![Change::Held(held)]);
    assert!(!site.cluster.state.allowances.is_open(SERVICE), "it is shared, and nobody has it here");
}

#[test]
fn a_service_elsewhere_that_lets_one_here_connect_is_called_and_answers() {
    let mut site = Site::new();
    site.named_till(2, &[(1, 7)], &["app.test"]);
    let [(to, 7, news)] = &site.told[..] else { panic!("one message, not {:?}", site.told) };
    assert_eq!(*to, neighbour(1));
    assert!(news.whole && news.services[&SERVICE].is_some(), "it must know who calls it: {news:?}");
    site.hears(1, said(true, &[(FOREIGN, vec![away(1, AWAY, 1, true)])], &[(AWAY, peer(1, 5))]));
    assert_eq!(site.callable(FOREIGN), [(1, worker(AWAY), true)]);
    let known = site.known[&worker(1)].services[&FOREIGN].clone();
    assert_eq!(known.allowed_callers, callers(&["app.test"]));
    assert_eq!(site.peers(), [worker(AWAY)]);

    site.named_till(3, &[(1, 7)], &["bank.test"]);
    assert!(!known_names(&site, FOREIGN), "no longer");
    assert_eq!(site.peers(), []);
}

#[test]
fn a_service_here_that_lets_one_elsewhere_connect_is_told_there_and_knows_its_callers() {
    let mut site = Site::new();
    site.named_till(2, &[(1, 7)], &[]);
    let whole = |site: &Site| site.told.iter().any(|(_, _, news)| news.services.contains_key(&SERVICE));
    assert!(!whole(&site), "nothing of it concerns the other: {:?}", site.told);
    site.hears(1, said(true, &[(FOREIGN, vec![away(1, AWAY, 1, true)])], &[(AWAY, peer(1, 5))]));
    assert!(!known_names(&site, FOREIGN));

    site.allow(&["till.test"]);
    site.turn();
    let [(to, 7, news)] = &site.told[..] else { panic!("one message, not {:?}", site.told) };
    assert!(*to == neighbour(1) && news.services[&SERVICE].is_some() && news.peers[&worker(1)].is_some());
    assert_eq!(site.callable(FOREIGN), [(1, worker(AWAY), true)], "it is to be answered");

    site.allow(&[]);
    site.turn();
    let gone = NeighbourNews {
        services: BTreeMap::from([(SERVICE, None)]),
        peers: BTreeMap::from([(worker(1), None)]),
        ..NeighbourNews::default()
    };
    assert_eq!(site.told, [(neighbour(1), 7, gone)]);
    assert!(!known_names(&site, FOREIGN));
}

#[test]
fn whom_a_service_lets_connect_elsewhere_counts_again_when_its_last_copy_here_is_gone() {
    let mut site = Site::new();
    let mut open = named(true, &[(1, Some(7))]);
    let news = open.applications.get_mut(&APPLICATION).and_then(Option::as_mut).expect("it is shared");
    Arc::make_mut(&mut news.services).get_mut(&SERVICE).expect("it is there").allowed_callers =
        callers(&["*"]);
    site.named(2, open);
    assert!(!site.cluster.state.allowances.is_open(SERVICE), "what it is here by counts more");
    let held = crate::Held { generation: Generation(9), ..crate::Held::default() };
    site.take(vec![Change::Held(held)]);
    assert!(site.cluster.state.allowances.is_open(SERVICE));
    site.named(3, Neighbours { whole: true, ..Neighbours::default() });
    assert!(!site.cluster.state.allowances.is_open(SERVICE), "nobody has it any more");
}

#[test]
fn the_cluster_that_no_more_shares_and_then_does_is_told_again() {
    let mut site = Site::new();
    // Both at once, as when the cluster was busy: the neighbour has dropped what it was told in between.
    for neighbours in [named(false, &[]), named(false, &[(1, Some(7))])] {
        let changes = site.cluster.state.neighbours_named(1, neighbours);
        site.take(changes);
    }
    site.turn();
    let told =
        site.told.iter().any(|(to, _, news)| *to == neighbour(1) && news.services.contains_key(&SERVICE));
    assert!(told, "{:?}", site.told);
}

#[test]
fn a_neighbour_that_shares_another_application_than_before_is_told() {
    let mut site = Site::new();
    // By the first word of a new connection the old application is gone; it is applied before the new one.
    let older = ApplicationId::from_bytes([1; 12]);
    let mut before = named(true, &[(1, Some(7))]);
    let news = before.applications.remove(&APPLICATION).expect("it is shared");
    before.applications.insert(older, news);
    site.named(2, before);
    site.named(3, named(true, &[(1, Some(8))]));
    let [(to, 8, news)] = &site.told[..] else { panic!("one message, not {:?}", site.told) };
    assert!(*to == neighbour(1) && news.whole && news.services.contains_key(&SERVICE), "{news:?}");
}

#[test]
fn what_neighbours_said_outlives_a_restart_and_goes_when_the_root_names_them_no_more() {
    let mut site = Site::new();
    site.hears(1, said(true, &[(SERVICE, vec![away(1, AWAY, 1, true)])], &[(AWAY, peer(1, 5))]));
    let mut state = State::default();
    site.durable.iter().for_each(|change| state.apply(change.clone()));
    let expected = site.cluster.state.instances_anywhere(SERVICE);
    assert!(state.instances_anywhere(SERVICE).contains(&away(1, AWAY, 1, true).instance));
    assert_eq!(expected.len(), 2);

    // The neighbour is away from the root, which is no reason to call nobody there.
    site.named(2, named(true, &[(1, None)]));
    assert_eq!(site.callable(SERVICE).len(), 2);
    site.named(3, Neighbours { whole: true, ..Neighbours::default() });
    assert_eq!((site.callable(SERVICE), site.peers()), (vec![(0, worker(1), true)], vec![]));
    let last = |of: fn(&Change) -> bool| site.durable.iter().rev().find(|change| of(change)).cloned();
    assert_eq!(
        last(|it| matches!(it, Change::Elsewhere(..))),
        Some(Change::Elsewhere(neighbour(1), SERVICE, None))
    );
    assert_eq!(
        last(|it| matches!(it, Change::PeerElsewhere(..))),
        Some(Change::PeerElsewhere(neighbour(1), worker(AWAY), None))
    );
}

#[test]
fn whole_news_of_a_neighbour_replace_all_it_said() {
    let mut site = Site::new();
    site.hears(1, said(true, &[(SERVICE, vec![away(1, AWAY, 1, true)])], &[(AWAY, peer(1, 5))]));
    site.hears(1, said(true, &[(BACKEND, vec![away(2, AWAY + 1, 1, true)])], &[(AWAY + 1, peer(1, 6))]));
    assert_eq!(site.callable(SERVICE), [(0, worker(1), true)]);
    assert_eq!(site.peers(), [worker(AWAY + 1)]);
}

#[test]
fn of_two_copies_the_one_that_can_be_called_counts_and_then_the_newer() {
    let mut site = Site::new();
    let hear = |site: &mut Site, generation, ready| {
        site.hears(
            1,
            said(true, &[(SERVICE, vec![away(0, AWAY, generation, ready)])], &[(AWAY, peer(1, 5))]),
        );
        site.callable(SERVICE)
    };
    assert_eq!(hear(&mut site, 1, true), [(0, worker(1), true)], "here");
    assert_eq!(hear(&mut site, 2, false), [(0, worker(1), true)], "it is not ready");
    assert_eq!(hear(&mut site, 2, true), [(0, worker(AWAY), true)]);
}

//! What NetManagers are told of services and of each other.

mod at_root;
mod pieces;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
};

use model::{
    AddressKind, AllowedCallers, CallableInstance, NetworkNews, Peer, Reach, Surroundings, TunnelEnd,
    TunnelKey, Way, Weight,
};

use super::*;
use crate::Instance;

/// As [`wanted`], with the address it keeps.
pub(super) fn addressed(number: u32, desired: Desired) -> AssignedInstance {
    AssignedInstance { address: Some(address(number)), ..wanted(number, desired) }
}

fn address(number: u32) -> Ipv4Addr {
    Ipv4Addr::new(10, 30, 1, u8::try_from(number).expect("few"))
}

pub(super) fn reach(number: u8) -> Reach {
    let tunnel = TunnelEnd { port: 50103, key: TunnelKey([number; 32]), kernel_port: Some(50107) };
    Reach { address: IpAddr::from([192, 0, 2, number]), tunnel: Some(tunnel), observed: None, at_root: None }
}

/// The way to a device in a site that is not trusted.
fn way(number: u8) -> Way {
    Way::Secure {
        endpoint: SocketAddr::new(reach(number).address, 50103),
        observed: None,
        relay: None,
        key: TunnelKey([number; 32]),
        kernel_port: Some(50107),
    }
}

/// Two workers whose NetManagers are there, and a service with an instance on each.
pub(super) fn two_workers() -> Cluster {
    let mut cluster = Cluster::default();
    for number in [1, 2] {
        cluster.connect(number, 1, 1000);
        cluster.state.network_connected(worker(number), 1, Some(reach(number)));
    }
    let instances = [0, 1].map(|number| addressed(number, Desired::Running)).to_vec();
    cluster.assign(small(), instances);
    cluster.reconcile();
    cluster
}

/// What each NetManager is told in a pass.
pub(super) fn told(cluster: &mut Cluster) -> BTreeMap<WorkerId, NetworkNews> {
    let effects = cluster.reconcile().effects.into_iter();
    effects
        .filter_map(|effect| match effect {
            Effect::TellNetwork { worker, news, .. } => Some((worker, news)),
            Effect::SendAssignment { .. }
            | Effect::OfferRelay { .. }
            | Effect::CloseRelay { .. }
            | Effect::SetBeats { .. }
            | Effect::AskForBeat { .. }
            | Effect::RequestReport { .. }
            | Effect::TellNeighbour { .. }
            | Effect::Report { .. }
            | Effect::Note(_) => None,
        })
        .collect()
}

pub(super) fn running(cluster: &Cluster, number: u32, ready: bool) -> CallableInstance {
    let worker = cluster.state.instance(instance(number)).and_then(Instance::holder).expect("it is placed");
    CallableInstance { number, address: address(number), worker, ready, weight: Weight::MOST }
}

/// The worker that has an instance says so.
pub(super) fn say(cluster: &mut Cluster, number: u32, phase: Phase) {
    let holder = cluster.holder(number).expect("it is placed");
    let worker = (1..=u8::MAX).find(|number| worker(*number) == holder).expect("one of ours");
    cluster.say(worker, number, phase);
}

/// What is different about instances of the only service in news.
pub(super) fn different(news: &NetworkNews) -> Vec<(u32, Option<CallableInstance>)> {
    assert_eq!(news.services, BTreeMap::new(), "nothing else of it is");
    news.instances[&instance(0).service].iter().map(|(number, now)| (*number, *now)).collect()
}

/// The instances of the only service in news.
fn instances(news: &NetworkNews) -> Vec<CallableInstance> {
    let service = news.services[&instance(0).service].as_ref();
    service.expect("it may be called").instances.clone()
}

/// The first call of an instance must find its way to others, and the answer the way back.
#[test]
fn who_has_an_instance_is_told_of_all_and_where_before_any_of_them_runs() {
    let mut cluster = Cluster::default();
    for number in [1, 2] {
        cluster.connect(number, 1, 1000);
        cluster.state.network_connected(worker(number), 1, Some(reach(number)));
    }
    cluster.assign(small(), vec![]);
    told(&mut cluster);
    cluster.assign(small(), [0, 1].map(|number| addressed(number, Desired::Running)).to_vec());
    let news = told(&mut cluster);
    let expected = [running(&cluster, 0, false), running(&cluster, 1, false)];
    for number in [1, 2] {
        let other = 3 - number;
        let news = &news[&worker(number)];
        assert_eq!(instances(news), expected);
        let lease = cluster.state.lease_of(worker(other)).expect("it has a subnet");
        let peer = Peer { way: way(other), lease };
        assert_eq!(news.peers, BTreeMap::from([(worker(other), Some(peer.into()))]));
        assert!(!news.whole, "only what is new");
    }
    for phase in [Phase::NodeScheduled, Phase::Creating] {
        say(&mut cluster, 0, phase);
        assert_eq!(told(&mut cluster), BTreeMap::new(), "{phase}: nothing new");
    }
    say(&mut cluster, 0, Phase::Running);
    let expected = [(0, Some(running(&cluster, 0, true)))];
    let news = told(&mut cluster);
    assert!(news.len() == 2 && news.values().all(|news| different(news) == expected), "{news:?}");
}

#[test]
fn nothing_is_told_of_what_ended_and_of_the_lost() {
    let mut cluster = two_workers();
    say(&mut cluster, 0, Phase::Running);
    let news = told(&mut cluster);
    let first = running(&cluster, 0, true);
    assert_eq!(news.len(), 2, "whoever may call it");
    assert!(news.values().all(|news| different(news) == [(0, Some(first))]), "{news:?}");

    say(&mut cluster, 1, Phase::Running);
    told(&mut cluster);
    say(&mut cluster, 1, Phase::Dead);
    let news = told(&mut cluster);
    assert!(news.len() == 2 && news.values().all(|news| different(news) == [(1, None)]), "{news:?}");

    say(&mut cluster, 1, Phase::Running);
    told(&mut cluster);
    let survivor = cluster.state.instance(instance(0)).and_then(Instance::holder).expect("placed");
    let number = if survivor == worker(1) { 1 } else { 2 };
    for _ in 0..40 {
        cluster.beat(number);
        cluster.wait(250);
    }
    cluster.state.network_connected(survivor, 2, None);
    assert_eq!(instances(&told(&mut cluster)[&survivor]), [first], "the other is lost");
}

/// A device is placed on and told of others in one pass, which must not make it be told everything.
#[test]
fn a_device_that_gets_another_instance_is_told_of_that_alone() {
    let mut cluster = two_workers();
    cluster.connect(3, 4, 4000);
    cluster.state.network_connected(worker(3), 1, Some(reach(3)));
    let wanted = |count| (0..count).map(|number| addressed(number, Desired::Running)).collect();
    cluster.assign(small(), wanted(3));
    told(&mut cluster);
    cluster.assign(small(), wanted(4));
    let news = told(&mut cluster);
    let expected = running(&cluster, 3, false);
    assert_eq!(expected.worker, worker(3), "the only one with room");
    assert_eq!(news.keys().copied().collect::<Vec<_>>(), [1, 2, 3].map(worker));
    for news in news.values() {
        assert_eq!((different(news), &news.peers), (vec![(3, Some(expected))], &BTreeMap::new()));
    }
}

#[test]
fn one_that_goes_gets_no_new_calls_until_it_is_gone() {
    let mut cluster = two_workers();
    say(&mut cluster, 0, Phase::Running);
    say(&mut cluster, 1, Phase::Running);
    told(&mut cluster);
    let going = addressed(1, Desired::Removed);
    cluster.assign(small(), vec![addressed(0, Desired::Running), going]);
    let expected = [(1, Some(running(&cluster, 1, false)))];
    let news = told(&mut cluster);
    assert!(!news.is_empty() && news.values().all(|news| different(news) == expected), "{news:?}");

    let holder = running(&cluster, 1, false).worker;
    say(&mut cluster, 1, Phase::Removed);
    let news = told(&mut cluster);
    let remaining = running(&cluster, 0, true).worker;
    assert_eq!(different(&news[&remaining]), [(1, None)]);
    assert_eq!(news[&remaining].peers, BTreeMap::from([(holder, None)]), "nobody there is called any more");
    assert_eq!(news[&holder].services, BTreeMap::from([(instance(0).service, None)]), "and it calls nobody");
}

#[test]
fn a_netmanager_that_connects_again_is_told_everything() {
    let mut cluster = two_workers();
    say(&mut cluster, 0, Phase::Running);
    told(&mut cluster);
    cluster.state.network_disconnected(worker(1), 1);
    cluster.state.network_connected(worker(1), 2, Some(reach(1)));
    let news = told(&mut cluster);
    let news = &news[&worker(1)];
    assert!(news.whole);
    assert_eq!(instances(news), [running(&cluster, 0, true), running(&cluster, 1, false)]);
    // The end of the connection before comes late.
    cluster.state.network_disconnected(worker(1), 1);
    say(&mut cluster, 1, Phase::Running);
    assert!(told(&mut cluster).contains_key(&worker(1)));
}

#[test]
fn where_devices_are_reached_is_kept_and_told_when_it_changes() {
    let mut cluster = two_workers();
    say(&mut cluster, 0, Phase::Running);
    say(&mut cluster, 1, Phase::Running);
    told(&mut cluster);
    cluster.state.network_connected(worker(2), 2, Some(reach(9)));
    let plan = cluster.reconcile();
    let kept = plan.changes.iter().any(|change| {
        matches!(change, Change::Worker(id, Some(it)) if *id == worker(2) && it.reach == Some(reach(9)))
    });
    assert!(kept, "{:?}", plan.changes);
    let told = plan.effects.iter().any(|effect| {
        matches!(effect, Effect::TellNetwork { worker: to, news, .. }
            if *to == worker(1) && news.peers[&worker(2)].as_ref().is_some_and(|peer| peer.way == way(9)))
    });
    assert!(told, "{:?}", plan.effects);
}

/// Where worker 1 is told that worker 2 is seen.
fn observed(cluster: &mut Cluster) -> Option<Option<SocketAddr>> {
    let peer = told(cluster).get(&worker(1))?.peers.get(&worker(2))?.clone()?;
    match peer.way {
        Way::Secure { observed, .. } => Some(observed),
        Way::Direct { .. } => panic!("it is encrypted"),
    }
}

#[test]
fn where_the_relay_sees_a_device_is_told_kept_and_survives_its_reconnection() {
    let mut cluster = two_workers();
    say(&mut cluster, 0, Phase::Running);
    say(&mut cluster, 1, Phase::Running);
    told(&mut cluster);
    let place = SocketAddr::from(([198, 51, 100, 7], 4000));
    cluster.state.network_observed(worker(2), 1, place);
    assert_eq!(observed(&mut cluster), Some(Some(place)));
    let kept = Reach { observed: Some(place), ..reach(2) };
    assert_eq!(cluster.state.workers[&worker(2)].reach, Some(kept));
    cluster.state.network_observed(worker(2), 1, place);
    assert_eq!(observed(&mut cluster), None, "nothing new");
    cluster.state.network_connected(worker(2), 2, Some(reach(2)));
    assert_eq!(observed(&mut cluster), None, "it is where it was");
    cluster.state.network_observed(worker(2), 1, SocketAddr::from(([198, 51, 100, 8], 4000)));
    assert_eq!(observed(&mut cluster), None, "an older connection");
    for useless in [SocketAddr::new(reach(2).address, 50103), SocketAddr::from(([127, 0, 0, 1], 50103))] {
        cluster.state.network_observed(worker(2), 2, place);
        told(&mut cluster);
        cluster.state.network_observed(worker(2), 2, useless);
        assert_eq!(observed(&mut cluster), Some(None), "{useless}");
    }
}

#[test]
fn each_connection_is_offered_the_relay_once_also_in_a_trusted_site() {
    let offers = |cluster: &mut Cluster| -> Vec<(WorkerId, u64, TunnelKey)> {
        let effects = cluster.reconcile().effects.into_iter();
        effects
            .filter_map(|effect| match effect {
                Effect::OfferRelay { worker, session, key } => Some((worker, session, key)),
                Effect::SendAssignment { .. }
                | Effect::TellNetwork { .. }
                | Effect::CloseRelay { .. }
                | Effect::TellNeighbour { .. }
                | Effect::SetBeats { .. }
                | Effect::AskForBeat { .. }
                | Effect::RequestReport { .. }
                | Effect::Report { .. }
                | Effect::Note(_) => None,
            })
            .collect()
    };
    for trusted in [false, true] {
        let mut cluster = Cluster::default();
        cluster.state.trust_site(trusted);
        cluster.connect(1, 1, 1000);
        cluster.assign(small(), vec![]);
        for session in [1, 2] {
            cluster.state.network_connected(worker(1), session, Some(reach(1)));
            let offer = (worker(1), session, TunnelKey([1; 32]));
            assert_eq!(offers(&mut cluster), [offer]);
            cluster.state.network_observed(worker(1), session, SocketAddr::from(([198, 51, 100, 7], 1)));
            assert_eq!(offers(&mut cluster), []);
        }
    }
}

#[test]
fn a_service_has_the_addresses_the_root_gave_it() {
    let mut cluster = two_workers();
    cluster.state.network_connected(worker(1), 2, Some(reach(1)));
    let news = told(&mut cluster);
    let service = news[&worker(1)].services[&instance(0).service].clone().expect("it may be called");
    let expected = BTreeMap::from([(AddressKind::RoundRobin, Ipv4Addr::new(10, 30, 0, 1))]);
    assert_eq!((&*service.addresses, service.names.service.as_str()), (&expected, "service"));
}

/// The ways between the devices of a trusted site that are reached at these addresses, each with one of the instances:
/// from each to those that come after it, and back.
fn trusted_ways(addresses: &[&str]) -> Vec<(Way, Way)> {
    let mut cluster = Cluster::default();
    cluster.state.trust_site(true);
    let mut ways = BTreeMap::new();
    let numbers = 1..=u8::try_from(addresses.len()).expect("few");
    for (number, address) in numbers.clone().zip(addresses) {
        cluster.connect(number, 1, 1000);
        let reach = Reach { address: address.parse().expect("an address"), ..reach(number) };
        cluster.state.network_connected(worker(number), 1, Some(reach));
    }
    let mut news = Vec::new();
    // One by one, so that devices are told of those that come later.
    let mut wanted = Vec::new();
    for number in (0..).take(addresses.len()) {
        wanted.push(addressed(number, Desired::Running));
        cluster.assign(small(), wanted.clone());
        news.push(told(&mut cluster));
        say(&mut cluster, number, Phase::Running);
        news.push(told(&mut cluster));
    }
    for (worker, news) in news.into_iter().flatten() {
        ways.extend(news.peers.into_iter().filter_map(|(other, peer)| Some(((worker, other), peer?.way))));
    }
    let pairs = numbers.clone().flat_map(|first| numbers.clone().map(move |second| (first, second)));
    let pairs = pairs.filter(|(first, second)| first < second);
    pairs
        .map(|(first, second)| {
            let [first, second] = [first, second].map(worker);
            (ways[&(first, second)], ways[&(second, first)])
        })
        .collect()
}

fn direct(address: &str) -> Way {
    Way::Direct { underlay: address.parse().expect("an address") }
}

#[test]
fn in_a_trusted_site_packets_go_as_they_are_by_either_version_of_ip() {
    for [one, two] in [["192.0.2.1", "192.0.2.2"], ["2001:db8::1", "2001:db8::2"]] {
        assert_eq!(trusted_ways(&[one, two]), [(direct(two), direct(one))]);
    }
}

#[test]
fn in_a_trusted_site_devices_that_are_reached_by_different_versions_are_joined_encrypted() {
    let [four, six, also_six] = ["192.0.2.1", "2001:db8::2", "2001:db8::3"];
    let secure = |number, address: &str| Way::Secure {
        endpoint: SocketAddr::new(address.parse().expect("an address"), 50103),
        observed: None,
        relay: None,
        key: TunnelKey([number; 32]),
        kernel_port: Some(50107),
    };
    assert_eq!(
        trusted_ways(&[four, six, also_six]),
        [
            (secure(2, six), secure(1, four)),
            (secure(3, also_six), secure(1, four)),
            (direct(also_six), direct(six)),
        ]
    );
}

/// An application `till` with an instance on a third worker, beside `app` with one on another; both run.
fn two_applications(allowed: &[&str]) -> Cluster {
    let mut cluster = two_workers();
    cluster.connect(3, 4, 4000);
    cluster.state.network_connected(worker(3), 1, Some(reach(3)));
    assign_both(&mut cluster, allowed);
    cluster.reconcile();
    for number in [0, 1] {
        say(&mut cluster, number, Phase::Running);
    }
    assert_eq!(
        cluster.state.instance(till()).and_then(Instance::holder),
        Some(worker(3)),
        "the only one with room"
    );
    let told = cluster.state.instances[&till()].tenure.role(worker(3));
    let (_, generation) = told.expect("it is placed");
    cluster.report_of(3, till(), generation, Phase::Running);
    cluster
}

fn till() -> InstanceId {
    InstanceId { service: ServiceId::from_bytes([2; 12]), number: 0 }
}

/// What the root wants of both applications; `app` lets these connect.
fn assign_both(cluster: &mut Cluster, allowed: &[&str]) {
    assign_both_and(cluster, allowed, &[(till(), Desired::Running)]);
}

/// The same with these instances of `till`.
fn assign_both_and(cluster: &mut Cluster, allowed: &[&str], tills: &[(InstanceId, Desired)]) {
    let allowed: AllowedCallers = allowed.iter().map(|caller| caller.parse().expect("a caller")).collect();
    let mut instances: Vec<_> = [0, 1].map(|number| addressed(number, Desired::Running)).into();
    instances
        .extend(tills.iter().map(|(id, desired)| AssignedInstance { id: *id, ..addressed(9, *desired) }));
    let mut assignment = cluster.assignment(small(), instances);
    let app = assignment.services.get_mut(&REVISION).expect("it is there");
    let mut other = app.clone();
    app.allowed_callers = allowed.into();
    other.names = Arc::new(ServiceNames { application: "till".to_owned(), ..(*other.names).clone() });
    other.addresses = BTreeMap::from([(AddressKind::RoundRobin, [10, 30, 0, 2].into())]).into();
    assignment.services.insert(RevisionId { service: till().service, number: 1 }, other);
    let changes = cluster.state.take_on(assignment, cluster.now).expect("newer");
    cluster.apply(changes);
}

#[test]
fn a_device_that_loses_and_gets_services_is_led_to_whom_one_that_connects_is_led_to() {
    let mut cluster = two_applications(&["*"]);
    told(&mut cluster);
    cluster.state.network_connected(worker(3), 2, Some(reach(3)));
    let mut third = Surroundings::default();
    let mut hear = |cluster: &mut Cluster| {
        third.take(told(cluster).remove(&worker(3)).unwrap_or_default());
        let services: BTreeSet<ServiceId> = third.services.keys().copied().collect();
        (services, third.peers.keys().copied().collect::<BTreeSet<WorkerId>>())
    };
    let all = (BTreeSet::from([instance(0).service, till().service]), BTreeSet::from([worker(1), worker(2)]));
    assert_eq!(hear(&mut cluster), all);

    let before = cluster.state.instances[&till()].tenure.role(worker(3));
    let (_, generation) = before.expect("it is placed");
    let another = InstanceId { number: 1, ..till() };
    assign_both_and(&mut cluster, &["*"], &[(till(), Desired::Removed)]);
    cluster.report_of(3, till(), generation, Phase::Removed);
    assert_eq!(hear(&mut cluster), (BTreeSet::new(), BTreeSet::new()));
    assign_both_and(&mut cluster, &["*"], &[(another, Desired::Running)]);
    assert_eq!(hear(&mut cluster), all);
    assert_eq!(sees(&mut cluster, 3, 3), all, "as one that connects now");
}

/// Which services and devices a NetManager that connects now is told of.
fn sees(cluster: &mut Cluster, number: u8, session: u64) -> (BTreeSet<ServiceId>, BTreeSet<WorkerId>) {
    cluster.state.network_connected(worker(number), session, Some(reach(number)));
    let mut whole = Surroundings::default();
    whole.take(told(cluster).remove(&worker(number)).unwrap_or_default());
    (whole.services.into_keys().collect(), whole.peers.into_keys().collect())
}

#[test]
fn who_lets_another_application_connect_hears_of_it_and_it_of_them() {
    let (app, other) = (instance(0).service, till().service);
    let mut cluster = two_applications(&[]);
    told(&mut cluster);
    assert_eq!(sees(&mut cluster, 3, 2), (BTreeSet::from([other]), BTreeSet::new()), "apart");
    assert_eq!(sees(&mut cluster, 1, 2).0, BTreeSet::from([app]));

    for (session, allowed) in (3..).zip([["till.test"], ["*"]]) {
        assign_both(&mut cluster, &allowed);
        let news = told(&mut cluster);
        let told_of: BTreeSet<WorkerId> = news.keys().copied().collect();
        assert!(told_of.is_superset(&[worker(1), worker(2), worker(3)].into()), "{allowed:?}: {news:?}");
        let both = BTreeSet::from([app, other]);
        assert_eq!(sees(&mut cluster, 3, session), (both.clone(), [worker(1), worker(2)].into()));
        assert_eq!(sees(&mut cluster, 1, session), (both, [worker(2), worker(3)].into()), "the way back");
    }
    assign_both(&mut cluster, &[]);
    let news = told(&mut cluster);
    assert_eq!(news[&worker(3)].services.get(&app), Some(&None), "no longer");
    assert_eq!(news[&worker(1)].services.get(&other), Some(&None));
}

#[test]
fn netmanagers_are_told_whom_a_service_lets_connect() {
    let mut cluster = two_applications(&["bank.prod"]);
    cluster.state.network_connected(worker(1), 2, Some(reach(1)));
    let news = told(&mut cluster);
    let service = news[&worker(1)].services[&instance(0).service].clone().expect("it may be called");
    let expected: AllowedCallers = ["bank.prod".parse().expect("a caller")].into();
    assert_eq!(*service.allowed_callers, expected);
}

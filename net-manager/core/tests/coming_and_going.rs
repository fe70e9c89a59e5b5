//! When the first instruction of an instance may run, and who may still be connected to one that goes.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr},
};

use model::{
    AddressKind, CallableInstance, CallableService, Generation, InstanceId, Moment, NetworkLease,
    NetworkNews, Peer, PortMapping, ServiceId, ServiceNames, Way, Weight, WorkerId,
};
use net_core::{
    AttachRequest, Command, Element, LinkName, Namespace, NetworkState, Place, TOLD_WITHIN_MILLIS,
};

const ID: InstanceId = InstanceId { service: ServiceId::from_bytes([9; 12]), number: 0 };
const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 30, 1, 0);
const SINCE: Moment = Moment(1_000_000);

fn submit(state: &mut NetworkState, command: Command) {
    for change in state.accept(command).expect("a command that is granted") {
        state.apply(change);
    }
}

fn attached(address: Option<Ipv4Addr>) -> NetworkState {
    let mut state = NetworkState::default();
    submit(&mut state, Command::UseLease(lease("10.18.0.0/26", "fc00::/120")));
    submit(&mut state, attach(address));
    state
}

fn attach(address: Option<Ipv4Addr>) -> Command {
    Command::Attach(AttachRequest {
        id: ID,
        generation: Generation(1),
        namespace: Namespace { path: "/proc/1/ns/net".to_owned(), inode: 4_000 },
        ports: PortMapping::parse_list("8080:80").expect("a port mapping"),
        address,
    })
}

fn lease(v4: &str, v6: &str) -> NetworkLease {
    NetworkLease { v4: vec![v4.parse().expect("a network")], v6: vec![v6.parse().expect("a network")] }
}

fn worker(number: u128) -> WorkerId {
    WorkerId::new(uuid::Uuid::from_u128(number))
}

/// The cluster tells of a service with one instance on that device.
fn hear(state: &mut NetworkState, service: ServiceId, device: WorkerId) {
    let names = ServiceNames {
        application: "shop".to_owned(),
        application_namespace: "prod".to_owned(),
        service: "web".to_owned(),
        service_namespace: "front".to_owned(),
    };
    let service_is = CallableService {
        names: names.into(),
        addresses: BTreeMap::from([(AddressKind::RoundRobin, Ipv4Addr::new(10, 30, 0, 1))]).into(),
        allowed_callers: Default::default(),
        instances: vec![CallableInstance {
            number: 0,
            address: ADDRESS,
            worker: device,
            ready: true,
            weight: Weight::default(),
        }],
    };
    let way = Way::Direct { underlay: Ipv4Addr::new(192, 0, 2, 2).into() };
    let peer = Peer { way, lease: lease("10.18.0.64/26", "fc00::100/120") };
    state.hear(NetworkNews {
        whole: true,
        services: BTreeMap::from([(service, Some(service_is.into()))]),
        peers: BTreeMap::from([(worker(2), Some(peer))]),
        ..NetworkNews::default()
    });
}

fn addresses<const N: usize>(texts: [&str; N]) -> BTreeSet<IpAddr> {
    texts.map(|text| text.parse().expect("an address")).into()
}

#[test]
fn an_instance_begins_when_its_device_knows_whom_it_may_call() {
    let mut state = attached(Some(ADDRESS));
    let until = SINCE.plus_millis(TOLD_WITHIN_MILLIS);
    assert_eq!(state.begins(ID, SINCE, SINCE), Some(until));
    hear(&mut state, ServiceId::from_bytes([8; 12]), worker(1));
    assert_eq!(state.begins(ID, SINCE, SINCE), Some(until), "what it is told of others is not enough");
    hear(&mut state, ID.service, worker(1));
    assert_eq!(state.begins(ID, SINCE, SINCE), None);
}

#[test]
fn an_instance_begins_although_its_device_was_not_told_in_time() {
    let state = attached(Some(ADDRESS));
    let until = SINCE.plus_millis(TOLD_WITHIN_MILLIS);
    assert_eq!(state.begins(ID, SINCE, Moment(until.0 - 1)), Some(until));
    assert_eq!(state.begins(ID, SINCE, until), None);
}

#[test]
fn nothing_is_told_of_one_without_an_address_or_that_is_gone_so_nobody_waits() {
    assert_eq!(attached(None).begins(ID, SINCE, SINCE), None);
    let mut state = attached(Some(ADDRESS));
    submit(&mut state, Command::Detach(ID));
    assert_eq!(state.begins(ID, SINCE, SINCE), None);
}

#[test]
fn one_that_goes_keeps_everything_but_its_ports() {
    let mut state = attached(Some(ADDRESS));
    let before = state.desired();
    submit(&mut state, Command::Drain(ID));
    assert_eq!(state.accept(Command::Drain(ID)), Ok(vec![]), "once is enough");
    let mut expected = before.clone();
    expected.elements.retain(|element| !matches!(element, Element::Port { .. }));
    assert_eq!(state.desired(), expected);
    // It is placed here again.
    submit(&mut state, attach(Some(ADDRESS)));
    assert_eq!(state.desired(), before);
    submit(&mut state, Command::Detach(ID));
    assert_eq!(state.accept(Command::Drain(ID)), Ok(vec![]), "it is gone");
}

#[test]
fn one_that_moved_took_the_address_it_keeps_along() {
    let mut state = attached(Some(ADDRESS));
    let all = addresses(["10.18.0.2", "fc00::2", "10.30.1.0", "fdff::100"]);
    assert_eq!(state.connected_at(ID), all);
    hear(&mut state, ID.service, worker(1));
    assert_eq!(state.connected_at(ID), all, "it is here");
    hear(&mut state, ID.service, worker(2));
    assert_eq!(state.connected_at(ID), addresses(["10.18.0.2", "fc00::2"]));
    submit(&mut state, Command::Detach(ID));
    assert_eq!(state.connected_at(ID), BTreeSet::new());
}

#[test]
fn while_another_device_has_it_its_address_leads_there_and_it_calls_as_a_guest() {
    let mut state = attached(Some(ADDRESS));
    let name = LinkName::of(ID);
    let kept = addresses(["10.30.1.0", "fdff::100"]);
    let leads_here = |state: &NetworkState| {
        let link = state.desired().links[&name].clone();
        let routes: BTreeSet<IpAddr> = link.routes().into_keys().collect();
        (routes.is_superset(&kept), link.caller().v4)
    };
    let guests = |state: &NetworkState| {
        let desired = state.desired();
        let guests = desired.elements.into_iter().filter_map(|element| {
            let Element::Guest { from, gateway } = element else { return None };
            Some([from, gateway])
        });
        guests.flatten().collect::<BTreeSet<IpAddr>>()
    };
    let leads_away = |state: &NetworkState| {
        state
            .desired()
            .paths
            .iter()
            .any(|path| path.place() == Place::Route("10.30.1.0/32".parse().expect("one")))
    };
    let device = Ipv4Addr::new(10, 18, 0, 2);
    for (who, home) in [(1, true), (2, false), (1, true)] {
        hear(&mut state, ID.service, worker(who));
        assert_eq!(leads_here(&state), (home, if home { ADDRESS } else { device }), "{who}");
        assert_eq!(leads_away(&state), !home, "{who}");
        let as_device = addresses(["10.18.0.2", "10.18.0.1", "fc00::2", "fc00::1"]);
        assert_eq!(guests(&state), if home { BTreeSet::new() } else { as_device }, "{who}");
    }
}

//! Who is measured, and where the closest address of a service leads then.

use std::{collections::BTreeMap, net::IpAddr};

use model::{
    AddressKind, CallableInstance, CallableService, Generation, InstanceId, Moment, NetworkLease,
    NetworkNews, Peer, ServiceId, ServiceNames, TunnelKey, Way, Weight, WorkerId,
};
use net_core::{
    AttachRequest, Carrier, Command, Echo, EchoOver, Element, Family, Namespace, NetworkState, RoundTrip,
};

const CLOSEST: &str = "10.30.0.2";

fn parse<T: std::str::FromStr<Err: std::fmt::Debug>>(text: &str) -> T {
    text.parse().expect("an address or a network")
}

fn worker(number: u8) -> WorkerId {
    WorkerId::new(uuid::Uuid::from_bytes([number; 16]))
}

fn service() -> ServiceId {
    ServiceId::from_bytes([9; 12])
}

fn lease(number: u8) -> NetworkLease {
    NetworkLease {
        v4: vec![parse(&format!("10.18.{number}.0/26"))],
        v6: vec![parse(&format!("fc00::{number}00/120"))],
    }
}

fn submit(state: &mut NetworkState, command: Command) {
    for change in state.accept(command).expect("a command that is granted") {
        state.apply(change);
    }
}

/// The device of worker 0.
fn device() -> NetworkState {
    let mut state = NetworkState::default();
    submit(&mut state, Command::UseLease(lease(0)));
    state
}

fn attach(state: &mut NetworkState, number: u32) {
    let namespace = Namespace { path: String::new(), inode: 1 };
    let id = InstanceId { service: service(), number };
    let address = Some(parse(&format!("10.30.1.{number}")));
    let request = AttachRequest { id, generation: Generation(1), namespace, ports: vec![], address };
    submit(state, Command::Attach(request));
}

/// The service has an instance on each of these devices, numbered as these; the first other device is reached directly.
fn hear(state: &mut NetworkState, devices: &[u8]) {
    let instance = |number: &u8| CallableInstance {
        number: u32::from(*number),
        address: parse(&format!("10.30.1.{number}")),
        worker: worker(*number),
        ready: true,
        weight: Weight::default(),
    };
    let names = ServiceNames {
        application: "shop".to_owned(),
        application_namespace: "prod".to_owned(),
        service: "web".to_owned(),
        service_namespace: "front".to_owned(),
    };
    let callable = CallableService {
        names: names.into(),
        addresses: BTreeMap::from([
            (AddressKind::RoundRobin, parse("10.30.0.1")),
            (AddressKind::Closest, parse(CLOSEST)),
        ])
        .into(),
        allowed_callers: Default::default(),
        instances: devices.iter().map(instance).collect(),
    };
    let way = |number| match number {
        1 => Way::Direct { underlay: parse("192.0.2.1") },
        _ => Way::Secure {
            endpoint: parse("192.0.2.2:50103"),
            observed: None,
            relay: None,
            key: TunnelKey([number; 32]),
            kernel_port: None,
        },
    };
    let peers = devices.iter().filter(|number| **number > 0);
    state.hear(NetworkNews {
        whole: true,
        services: BTreeMap::from([(service(), Some(callable.into()))]),
        peers: peers
            .map(|number| (worker(*number), Some(Peer { way: way(*number), lease: lease(*number) })))
            .collect(),
        ..NetworkNews::default()
    });
}

/// The numbers of the instances that the address of IPv4 leads to.
fn led_to(state: &NetworkState, address: &str) -> Vec<u8> {
    let from: IpAddr = parse(address);
    let number = |to: IpAddr| match to {
        IpAddr::V4(to) => Some(to.octets()[3]),
        IpAddr::V6(_) => None,
    };
    let elements = state.desired().elements;
    let mut led_to: Vec<u8> = elements
        .iter()
        .filter_map(|element| match element {
            Element::Single { from: of, to } | Element::Backend { of, to, .. } if *of == from => number(*to),
            Element::Single { .. }
            | Element::Backend { .. }
            | Element::Subnet(_)
            | Element::Known(_)
            | Element::Spread { .. }
            | Element::Member { .. }
            | Element::Admitted { .. }
            | Element::Peer(_)
            | Element::Instance(_)
            | Element::Guest { .. }
            | Element::Port { .. } => None,
        })
        .collect();
    led_to.sort_unstable();
    led_to
}

#[test]
fn the_closest_address_leads_to_the_closest_devices_and_the_others_to_all() {
    let mut state = device();
    hear(&mut state, &[1, 2, 3]);
    assert_eq!(led_to(&state, CLOSEST), [1, 2, 3], "nobody knows who is closer");
    for (number, micros) in [(1, 9_000), (2, 4_000), (3, 4_400)] {
        assert!(state.take_round(worker(number), Some(RoundTrip(micros)), Moment(0)));
    }
    assert_eq!(led_to(&state, CLOSEST), [2, 3]);
    assert_eq!(led_to(&state, "10.30.0.1"), [1, 2, 3]);
    hear(&mut state, &[1, 3]);
    assert_eq!(led_to(&state, CLOSEST), [3]);
    hear(&mut state, &[1]);
    assert_eq!(led_to(&state, CLOSEST), [1]);
}

#[test]
fn no_device_is_closer_than_the_own_one() {
    let mut state = device();
    hear(&mut state, &[0, 1]);
    assert!(state.rounds_due().is_some());
    assert!(state.take_round(worker(1), Some(RoundTrip(1)), Moment(0)));
    attach(&mut state, 0);
    assert_eq!(led_to(&state, CLOSEST), [0]);
    assert_eq!(state.rounds_due(), None, "and none is measured");
    submit(&mut state, Command::Detach(InstanceId { service: service(), number: 0 }));
    assert_eq!(led_to(&state, CLOSEST), [1]);
}

#[test]
fn devices_are_asked_over_the_link_to_each_and_only_while_a_closest_address_may_lead_there() {
    let mut state = device();
    assert_eq!(state.rounds_due(), None);
    hear(&mut state, &[1, 2]);
    let from = parse("fc00::1");
    assert_eq!(
        state.begin_rounds(state.rounds_due().expect("two devices")),
        [
            (worker(1), Echo { from, to: parse("fc00::101"), over: EchoOver::Direct(Family::V4) }),
            (worker(2), Echo { from, to: parse("fc00::201"), over: EchoOver::Encrypted(Carrier::Engine) }),
        ]
    );
    hear(&mut state, &[]);
    assert_eq!(state.rounds_due(), None);

    let mut unlent = NetworkState::default();
    hear(&mut unlent, &[1, 2]);
    assert_eq!(unlent.rounds_due(), None, "without addresses of its own");
}

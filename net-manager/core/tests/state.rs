//! Who gets which address and port, and what the kernel must hold for it.

use std::collections::{BTreeMap, BTreeSet};

use addressing::{Exhausted, InstanceAddresses};
use model::{Generation, InstanceId, NetworkLease, NetworkNews, Peer, PortMapping, ServiceId, Way, WorkerId};
use net_core::{
    AttachRequest, Attachment, Change, Command, DesiredKernel, DirectLink, Element, Family, LinkName,
    LinkPlan, Namespace, NetworkState, ObservedKernel, Path, Rejection, reconcile,
};
use proptest::prelude::*;

fn lease(v4: &str, v6: &str) -> Command {
    Command::UseLease(NetworkLease {
        v4: vec![v4.parse().expect("a network")],
        v6: vec![v6.parse().expect("a network")],
    })
}

fn instance(number: u32) -> InstanceId {
    InstanceId { service: ServiceId::from_bytes([9; 12]), number }
}

fn request(number: u32, generation: u64, ports: &str) -> AttachRequest {
    AttachRequest {
        id: instance(number),
        generation: Generation(generation),
        namespace: Namespace { path: format!("/proc/{number}/ns/net"), inode: u64::from(number) + 4_000 },
        ports: PortMapping::parse_list(ports).expect("port mappings"),
        address: None,
    }
}

fn pair(v4: &str, v6: &str) -> InstanceAddresses {
    InstanceAddresses { v4: v4.parse().expect("v4"), v6: v6.parse().expect("v6") }
}

/// Accepts and applies.
fn submit(state: &mut NetworkState, command: Command) -> Result<(), Rejection> {
    for change in state.accept(command)? {
        state.apply(change);
    }
    Ok(())
}

fn state_with_subnet() -> NetworkState {
    let mut state = NetworkState::default();
    submit(&mut state, lease("10.18.0.0/26", "fc00::/120")).expect("a lease");
    state
}

fn attach(state: &mut NetworkState, number: u32, ports: &str) -> Result<InstanceAddresses, Rejection> {
    submit(state, Command::Attach(request(number, 1, ports)))?;
    Ok(state.attachment(instance(number)).expect("it was attached").addresses)
}

#[test]
fn without_a_subnet_nothing_is_attached() {
    assert_eq!(attach(&mut NetworkState::default(), 0, ""), Err(Rejection::NoSubnet));
}

#[test]
fn an_attached_instance_asks_the_kernel_for_a_cable_and_its_ports() {
    let mut state = state_with_subnet();
    attach(&mut state, 0, "8080:80").expect("room");
    let plan = LinkPlan {
        name: LinkName::of(instance(0)),
        instance: instance(0),
        namespace: request(0, 1, "").namespace,
        addresses: pair("10.18.0.2", "fc00::2"),
        stable: None,
        at_home: true,
        gateway: pair("10.18.0.1", "fc00::1"),
    };
    let port = |to: &str| Element::Port {
        protocol: model::Protocol::Tcp,
        host: 8080,
        to: to.parse().expect("a socket address"),
    };
    assert_eq!(
        state.desired(),
        DesiredKernel {
            elements: BTreeSet::from([
                Element::Subnet("10.18.0.0/26".parse().expect("a network")),
                Element::Subnet("fc00::/120".parse().expect("a network")),
                Element::Instance("10.18.0.2".parse().expect("v4")),
                Element::Instance("fc00::2".parse().expect("v6")),
                port("10.18.0.2:80"),
                port("[fc00::2]:80"),
            ]),
            subnets: BTreeSet::from(
                ["10.18.0.0/26", "fc00::/120"].map(|net| net.parse().expect("a network"))
            ),
            links: BTreeMap::from([(plan.name.clone(), plan)]),
            direct: Some(DirectLink {
                mac: [0x02, 0x6d, 10, 18, 0, 1],
                source: pair("10.18.0.1", "fc00::1")
            }),
            names: true,
            ..DesiredKernel::default()
        }
    );
}

#[test]
fn attaching_again_changes_nothing_and_a_restart_keeps_the_addresses() {
    let mut state = state_with_subnet();
    let first = attach(&mut state, 0, "80").expect("room");
    assert_eq!(state.accept(Command::Attach(request(0, 1, "80"))), Ok(vec![]));

    let mut restarted = request(0, 2, "81");
    restarted.namespace.inode = 1;
    let expected = Attachment {
        id: instance(0),
        generation: Generation(2),
        namespace: restarted.namespace.clone(),
        ports: PortMapping::parse_list("81").expect("port mappings"),
        addresses: first,
        subnet: state.subnet().expect("a subnet"),
        address: None,
        leaving: false,
    };
    assert_eq!(state.accept(Command::Attach(restarted)), Ok(vec![Change::Attached(expected)]));
}

#[test]
fn an_older_placement_is_refused() {
    let mut state = state_with_subnet();
    submit(&mut state, Command::Attach(request(0, 5, ""))).expect("room");
    assert_eq!(
        state.accept(Command::Attach(request(0, 4, ""))),
        Err(Rejection::OlderGeneration { id: instance(0), held: Generation(5), asked: Generation(4) })
    );
}

#[test]
fn a_port_that_is_taken_names_its_holder() {
    let mut state = state_with_subnet();
    attach(&mut state, 0, "53:53/udp;80").expect("room");
    attach(&mut state, 1, "53:53/tcp").expect("another protocol is another port");
    let error = attach(&mut state, 2, "80:8080").expect_err("port 80 is taken");
    assert_eq!(
        error.to_string(),
        format!(
            "port 80/tcp of this device is taken by instance {}; use another port or remove that instance",
            instance(0)
        )
    );
    submit(&mut state, Command::Detach(instance(0))).expect("it was attached");
    attach(&mut state, 2, "80:8080").expect("the port is free");
}

#[test]
fn a_port_mapped_twice_by_one_instance_is_refused() {
    let mut state = state_with_subnet();
    let error = attach(&mut state, 0, "80:1;80:2").expect_err("twice");
    assert_eq!(error, Rejection::RepeatedPort("80:2".parse().expect("a port mapping")));
    attach(&mut state, 0, "80:1;80:1").expect("the same mapping twice is one mapping");
}

#[test]
fn a_full_subnet_says_its_limit() {
    let mut state = state_with_subnet();
    for number in 0..61 {
        attach(&mut state, number, "").expect("room");
    }
    let subnet = "10.18.0.0/26".parse().expect("a network");
    assert_eq!(attach(&mut state, 61, ""), Err(Rejection::Full(Exhausted::Addresses { limit: 61, subnet })));
}

#[test]
fn detaching_twice_is_detaching_once() {
    let mut state = state_with_subnet();
    attach(&mut state, 0, "").expect("room");
    assert_eq!(state.accept(Command::Detach(instance(0))), Ok(vec![Change::Detached(instance(0))]));
    state.apply(Change::Detached(instance(0)));
    assert_eq!(state.accept(Command::Detach(instance(0))), Ok(vec![]));
}

#[test]
fn another_subnet_is_for_new_instances_and_old_ones_keep_their_traffic() {
    let mut state = state_with_subnet();
    attach(&mut state, 0, "").expect("room");
    submit(&mut state, lease("10.19.0.0/26", "fc00::1:0/120")).expect("a lease");
    assert_eq!(attach(&mut state, 1, ""), Ok(pair("10.19.0.2", "fc00::1:2")));
    assert_eq!(attach(&mut state, 0, ""), Ok(pair("10.18.0.2", "fc00::2")));
    let networks = |state: &NetworkState| -> Vec<String> {
        let text = |element: &Element| match element {
            Element::Subnet(net) => Some(net.to_string()),
            Element::Instance(_)
            | Element::Guest { .. }
            | Element::Port { .. }
            | Element::Known(_)
            | Element::Single { .. }
            | Element::Spread { .. }
            | Element::Backend { .. }
            | Element::Member { .. }
            | Element::Admitted { .. }
            | Element::Peer(_) => None,
        };
        state.desired().elements.iter().filter_map(text).collect()
    };
    assert_eq!(networks(&state), ["10.18.0.0/26", "10.19.0.0/26", "fc00::/120", "fc00::1:0/120"]);

    submit(&mut state, lease("10.18.0.0/26", "fc00::/120")).expect("the first lease again");
    assert_eq!(attach(&mut state, 2, ""), Ok(pair("10.18.0.3", "fc00::3")), "the second is still in use");
    submit(&mut state, Command::Detach(instance(1))).expect("it was attached");
    assert_eq!(networks(&state), ["10.18.0.0/26", "fc00::/120"]);
}

#[test]
fn an_instance_whose_namespace_is_gone_is_detached() {
    let mut state = state_with_subnet();
    attach(&mut state, 0, "").expect("room");
    attach(&mut state, 1, "").expect("room");
    let living = BTreeSet::from([request(1, 1, "").namespace]);
    assert_eq!(state.observe(&living), [Change::Detached(instance(0))]);
}

#[test]
fn a_lease_without_ranges_is_refused() {
    let empty = NetworkLease { v4: vec![], v6: vec![] };
    let refused = NetworkState::default().accept(Command::UseLease(empty)).expect_err("nothing is lent");
    assert_eq!(
        refused.to_string(),
        "bad network received: the cluster's lease names no IPv4 or no IPv6 range; check that its orchestrator and \
         NetManager are of one version"
    );
}

/// Another device and the only one there is, at that address of a trusted site.
fn device_at(underlay: &str) -> NetworkNews {
    let underlay = underlay.parse().expect("an address");
    let lease = NetworkLease {
        v4: vec!["10.18.0.64/26".parse().expect("a network")],
        v6: vec!["fc00::100/120".parse().expect("a network")],
    };
    let peer = Peer { way: Way::Direct { underlay }, lease };
    let peers = BTreeMap::from([(WorkerId::new(uuid::Uuid::from_bytes([2; 16])), Some(peer))]);
    NetworkNews { whole: true, peers, ..NetworkNews::default() }
}

#[test]
fn a_device_is_led_to_over_the_family_of_its_address_and_leaves_nothing_over_the_other() {
    let mut state = state_with_subnet();
    let mut kernel = ObservedKernel { secure: Some(BTreeMap::new()), ..ObservedKernel::default() };
    for (address, over) in [("192.0.2.2", Family::V4), ("2001:db8::2", Family::V6), ("192.0.2.3", Family::V4)]
    {
        state.hear(device_at(address));
        for effect in reconcile(&state.desired(), &kernel) {
            kernel.after(&effect);
        }
        let mac = [0x02, 0x6d, 10, 18, 0, 65];
        let [v4, v6] = ["10.18.0.65", "fc00::101"].map(|gateway| gateway.parse().expect("an address"));
        let route = |to: &str, via, from: &str| Path::Route {
            over,
            to: to.parse().expect("a network"),
            via,
            from: from.parse().expect("an address"),
        };
        let underlay = address.parse().expect("an address");
        let expected = BTreeSet::from([
            Path::Device { mac, underlay },
            Path::Neighbour { over, gateway: v4, mac },
            Path::Neighbour { over, gateway: v6, mac },
            route("10.18.0.64/26", v4, "10.18.0.1"),
            route("fc00::100/120", v6, "fc00::1"),
        ]);
        assert_eq!(kernel.paths, expected);
        let peers = kernel.elements.iter().filter(|element| matches!(element, Element::Peer(_)));
        assert_eq!(peers.collect::<Vec<_>>(), [&Element::Peer(underlay)]);
    }
}

#[derive(Debug, Clone)]
enum Step {
    Attach { number: u32, generation: u64, port: u16 },
    Detach(u32),
    Lease(bool),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (0_u32..70, 0_u64..3, 1_u16..100)
            .prop_map(|(number, generation, port)| Step::Attach { number, generation, port }),
        2 => (0_u32..70).prop_map(Step::Detach),
        1 => any::<bool>().prop_map(Step::Lease),
    ];
    prop::collection::vec(step, 0..100)
}

proptest! {
    // Each case settles the kernel up to a hundred times.
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn whatever_happens_addresses_and_ports_have_one_holder_and_the_kernel_follows(steps in steps()) {
        let mut state = state_with_subnet();
        let mut kernel = ObservedKernel::default();
        for step in steps {
            let command = match step {
                Step::Attach { number, generation, port } => {
                    Command::Attach(request(number, generation, &format!("{port}:1")))
                }
                Step::Detach(number) => Command::Detach(instance(number)),
                Step::Lease(true) => lease("10.18.0.0/26", "fc00::/120"),
                Step::Lease(false) => lease("10.18.0.64/26", "fc00::100/120"),
            };
            let before = state.clone();
            match submit(&mut state, command) {
                Ok(()) => {}
                Err(_) => prop_assert_eq!(&state, &before, "a refusal changes nothing"),
            }
            let addresses: BTreeSet<_> = state.attachments().iter().map(|one| one.addresses).collect();
            prop_assert_eq!(addresses.len(), state.attachments().len());
            let ports: BTreeSet<_> =
                state.attachments().iter().flat_map(|one| &one.ports).map(|port| port.host).collect();
            prop_assert_eq!(ports.len(), state.attachments().len());

            for effect in reconcile(&state.desired(), &kernel) {
                kernel.after(&effect);
            }
            prop_assert_eq!(reconcile(&state.desired(), &kernel), vec![], "one pass settles it");
        }
    }
}

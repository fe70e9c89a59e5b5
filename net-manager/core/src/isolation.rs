//! Who may connect to whom, in the numbers that rules compare. Decided by `model::may_connect`; the rules are in
//! `net-manager/src/datapath/kernel/isolation.rs`.
//!
//! Each address is that of an instance of a service of an application, or of a device itself. A new connection passes when the
//! application of the caller is admitted to the service of the callee: three lookups, however many instances there are.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use model::{AddressKind, ApplicationName, StableAddress, Surroundings, may_connect, slot_of};

use crate::{Attachment, DesiredKernel, Element, gateway_of, numbers::Numbers};

/// What an address belongs to. The numbers mean something on this device only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Membership {
    /// The number of a service; none has 0.
    pub service: u32,
    /// The number of an application; none has 0.
    pub application: u32,
}

impl Membership {
    /// That of devices: they may connect to every service.
    pub const DEVICE: Self = Self { service: 0, application: 0 };
}

impl DesiredKernel {
    /// Adds what says who may connect to whom. An instance of a service that was not told of is a member of nothing, and
    /// nobody may connect to it or be connected to by it.
    pub(crate) fn isolate(
        &mut self,
        surroundings: &Surroundings,
        attachments: &[Attachment],
        numbers: &Numbers,
    ) {
        let mut memberships = BTreeMap::new();
        // A set of them is made once and not with each.
        let mut elements = Vec::new();
        for (id, callee) in &surroundings.services {
            let own = ApplicationName::from(&*callee.names);
            let Some(of) = numbers.of(*id, &own) else { continue };
            memberships.insert(*id, of);
            let instances = callee.instances.iter();
            let instances = instances.filter_map(|it| StableAddress::of(AddressKind::Instance, it.address));
            elements.extend(members(instances.flat_map(|address| address.all()), of));
            let admitted = numbers
                .applications()
                .filter(|(caller, _)| may_connect(caller, &own, &callee.allowed_callers))
                .map(|(_, number)| number);
            let admitted = admitted.chain([Membership::DEVICE.application]);
            let service = of.service;
            elements.extend(admitted.map(|application| Element::Admitted { application, service }));
        }
        for attachment in attachments {
            if let Some(of) = memberships.get(&attachment.id.service) {
                let stable = attachment.stable().map(|stable| stable.all()).into_iter().flatten();
                elements.extend(members(attachment.addresses.all().into_iter().chain(stable), *of));
            }
        }
        for peer in surroundings.peers.values() {
            let v4 = peer.lease.v4.iter().map(|range| gateway_of(&(*range).into()));
            let v6 = peer.lease.v6.iter().map(|range| gateway_of(&(*range).into()));
            elements.extend(members(v4.chain(v6), Membership::DEVICE));
        }
        self.elements.append(&mut elements.into_iter().collect());
    }
}

fn members(addresses: impl Iterator<Item = IpAddr>, of: Membership) -> impl Iterator<Item = Element> {
    addresses.map(move |address| Element::Member { address, of })
}

/// Who may connect to whom, to judge connections that exist already.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Isolation {
    members: BTreeMap<IpAddr, Membership>,
    admitted: BTreeSet<(u32, u32)>,
    known: BTreeSet<IpAddr>,
}

impl Isolation {
    /// What these entries say.
    #[must_use]
    pub fn of(elements: &BTreeSet<Element>) -> Self {
        let mut isolation = Self::default();
        for element in elements {
            match element {
                Element::Member { address, of } => {
                    isolation.members.insert(*address, *of);
                }
                Element::Admitted { application, service } => {
                    isolation.admitted.insert((*application, *service));
                }
                Element::Known(address) => {
                    isolation.known.insert(*address);
                }
                Element::Subnet(_)
                | Element::Single { .. }
                | Element::Spread { .. }
                | Element::Backend { .. }
                | Element::Peer(_)
                | Element::Instance(_)
                | Element::Guest { .. }
                | Element::Port { .. } => {}
            }
        }
        isolation
    }

    /// Whether a connection that `caller` made to `called`, and that was led to `callee`, may not go on. As the rules do,
    /// it ends those to addresses that nobody has, and leaves alone what came through a port of the device, and what others
    /// than instances and devices have to do with.
    #[must_use]
    pub fn forbids(&self, caller: IpAddr, called: IpAddr, callee: IpAddr) -> bool {
        if is_stable(callee) && !self.known.contains(&callee) {
            return true;
        }
        let (Some(from), Some(to)) = (self.members.get(&caller), self.members.get(&callee)) else {
            return false;
        };
        let through_a_port = called != callee && !is_stable(callee);
        !through_a_port && !self.admitted.contains(&(from.application, to.service))
    }
}

fn is_stable(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => slot_of(v4).is_some(),
        IpAddr::V6(v6) => v6.segments()[0] == 0xfdff,
    }
}

#[cfg(test)]
mod tests {
    use std::{net::Ipv4Addr, sync::Arc};

    use model::{
        CallableInstance, CallableService, NetworkLease, Peer, ServiceId, ServiceNames, Way, Weight, WorkerId,
    };
    use proptest::prelude::*;

    use super::*;

    fn service(application: &str, number: u8, allowed: &[&str]) -> (ServiceId, Arc<CallableService>) {
        let names = ServiceNames {
            application: application.to_owned(),
            application_namespace: "prod".to_owned(),
            service: format!("service{number}"),
            service_namespace: "front".to_owned(),
        };
        let instance = CallableInstance {
            number: 0,
            address: Ipv4Addr::new(10, 30, 1, number),
            worker: WorkerId::new(uuid::Uuid::from_bytes([1; 16])),
            ready: true,
            weight: Weight::default(),
        };
        let service = CallableService {
            names: names.into(),
            addresses: Arc::new([(AddressKind::RoundRobin, Ipv4Addr::new(10, 30, 0, number))].into()),
            allowed_callers: Arc::new(
                allowed.iter().map(|caller| caller.parse().expect("a caller")).collect(),
            ),
            instances: vec![instance],
        };
        (ServiceId::from_bytes([number; 12]), Arc::new(service))
    }

    /// `shop` with two services, one of which lets `till`; and `till` with one.
    fn surroundings() -> Surroundings {
        let peer = Peer {
            way: Way::Direct { underlay: Ipv4Addr::new(192, 0, 2, 2).into() },
            lease: NetworkLease {
                v4: vec!["10.18.0.64/26".parse().expect("a range")],
                v6: vec!["fc00::100/120".parse().expect("a range")],
            },
        };
        Surroundings {
            services: [service("shop", 3, &["till.prod"]), service("shop", 5, &[]), service("till", 4, &[])]
                .into(),
            peers: [(WorkerId::new(uuid::Uuid::from_bytes([2; 16])), peer.into())].into(),
        }
    }

    fn numbers(surroundings: &Surroundings) -> Numbers {
        let mut numbers = Numbers::default();
        numbers.assign(surroundings);
        numbers
    }

    fn isolation(surroundings: &Surroundings) -> Isolation {
        let mut desired = DesiredKernel::default();
        desired.isolate(surroundings, &[], &numbers(surroundings));
        let instances = surroundings.services.values().flat_map(|service| &service.instances);
        let stable = instances.filter_map(|it| StableAddress::of(AddressKind::Instance, it.address));
        desired.elements.extend(stable.flat_map(|address| address.all()).map(Element::Known));
        Isolation::of(&desired.elements)
    }

    fn stable(number: u8) -> [IpAddr; 2] {
        StableAddress::of(AddressKind::Instance, Ipv4Addr::new(10, 30, 1, number)).expect("of the plan").all()
    }

    #[test]
    fn addresses_have_numbers_and_pairs_of_numbers_are_admitted() {
        let mut desired = DesiredKernel::default();
        desired.isolate(&surroundings(), &[], &numbers(&surroundings()));
        let member = |address: IpAddr, service, application| Element::Member {
            address,
            of: Membership { service, application },
        };
        let gateways = ["10.18.0.65", "fc00::101"].map(|address| member(address.parse().expect("one"), 0, 0));
        let shop = stable(3).map(|it| member(it, 3, 3)).into_iter();
        let shop = shop.chain(stable(5).map(|it| member(it, 5, 3)));
        let till = stable(4).map(|it| member(it, 4, 4));
        let admitted = [(0, 3), (0, 4), (0, 5), (3, 3), (3, 5), (4, 3), (4, 4)];
        let admitted = admitted.map(|(application, service)| Element::Admitted { application, service });
        let expected: BTreeSet<Element> =
            gateways.into_iter().chain(shop).chain(till).chain(admitted).collect();
        assert_eq!(desired.elements, expected);
    }

    #[test]
    fn connections_are_judged_as_the_rules_do() {
        let isolation = isolation(&surroundings());
        for family in [0, 1] {
            let [open, closed, till] = [3, 5, 4].map(|number| stable(number)[family]);
            assert!(!isolation.forbids(till, open, open));
            assert!(!isolation.forbids(till, "10.30.0.3".parse().expect("v4"), open), "by its service");
            assert!(isolation.forbids(till, closed, closed));
            assert!(isolation.forbids(open, till, till), "not the other way round");
            assert!(!isolation.forbids(open, closed, closed), "one application");
        }
        let gateway = "10.18.0.65".parse().expect("v4");
        assert!(!isolation.forbids(gateway, stable(5)[0], stable(5)[0]), "a device");
        let stranger = "192.0.2.7".parse().expect("v4");
        assert!(!isolation.forbids(stranger, stable(5)[0], stable(5)[0]));
    }

    #[test]
    fn nobody_goes_on_calling_an_address_that_is_gone() {
        let isolation = isolation(&surroundings());
        let (caller, by_service) = (stable(3)[0], "10.30.0.5".parse().expect("v4"));
        for gone in stable(6) {
            assert!(isolation.forbids(caller, gone, gone));
            assert!(isolation.forbids(caller, by_service, gone), "by its service");
            assert!(isolation.forbids("192.0.2.7".parse().expect("v4"), gone, gone), "from outside");
        }
        let world = "192.0.2.7".parse().expect("v4");
        assert!(!isolation.forbids(stable(6)[0], world, world), "what it called itself ends with its cable");
    }

    proptest! {
        /// The numbers say what the names do, whatever services there are.
        #[test]
        fn numbers_admit_whom_names_admit(
            parts in prop::collection::btree_map(1_u8..40, (0_u8..4, prop::collection::vec(0_u8..5, 0..3)), 1..12)
        ) {
            let names = ["a", "b", "c", "d"];
            let text = |caller: &u8| names.get(usize::from(*caller)).map_or("*".to_owned(), |it| format!("{it}.prod"));
            let services: BTreeMap<_, _> = parts.iter().map(|(number, (application, allowed))| {
                let allowed: Vec<String> = allowed.iter().map(text).collect();
                let allowed: Vec<&str> = allowed.iter().map(String::as_str).collect();
                service(names[usize::from(*application)], *number, &allowed)
            }).collect();
            let surroundings = Surroundings { services, ..Surroundings::default() };
            let isolation = isolation(&surroundings);
            for caller in surroundings.services.values() {
                for callee in surroundings.services.values() {
                    let may = may_connect(
                        &(&*caller.names).into(), &(&*callee.names).into(), &callee.allowed_callers,
                    );
                    let [from, to] = [caller, callee].map(|it| IpAddr::V4(it.instances[0].address));
                    prop_assert_eq!(isolation.forbids(from, to, to), !may);
                }
            }
        }
    }
}

//! What follows for the kernel from what the cluster tells of others: which addresses lead to whom, and the ways there.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr, SocketAddr},
};

use addressing::{InstanceAddresses, Subnet};
use ipnet::IpNet;
use model::{
    AddressKind, CallableService, InstanceId, Peer, StableAddress, Surroundings, TunnelKey, Way, WorkerId,
};

use crate::{
    Carrier, Chain, DesiredKernel, DirectLink, Element, Family, KernelPeer, Mac, Path, SecurePeer,
    carriers::Carriers,
    places::{Orders, Places},
};

/// How another device is led to.
#[derive(Debug, Clone, Copy)]
enum Device {
    /// By its gateway on the link of the site, which has one for each family of the site's own addresses.
    Direct { over: Family, gateway: InstanceAddresses },
    /// Over an encrypted link.
    Secure { key: TunnelKey, by: Carrier },
}

/// What leads to others, as it is gathered: a set of it is made once and not with each entry of it.
#[derive(Debug, Default)]
struct Ways {
    elements: Vec<Element>,
    paths: Vec<Path>,
    chains: BTreeSet<Chain>,
    secure: BTreeMap<TunnelKey, SecurePeer>,
    kernel_peers: BTreeMap<TunnelKey, KernelPeer>,
}

impl DesiredKernel {
    /// Adds what leads to services and to the devices of others.
    pub(crate) fn lead_to_others(
        &mut self,
        surroundings: &Surroundings,
        here: &BTreeSet<InstanceId>,
        subnet: Subnet,
        places: &Places,
        carriers: &Carriers,
    ) {
        let (v4, v6) = subnet.gateway();
        let source = InstanceAddresses { v4, v6 };
        self.direct = Some(DirectLink { mac: mac_of(v4), source });
        let mut ways = Ways::default();
        let devices: BTreeMap<WorkerId, Device> = surroundings
            .peers
            .iter()
            .filter_map(|(worker, peer)| Some((*worker, ways.lead_to_device(peer, source, carriers)?)))
            .collect();
        for (id, service) in &surroundings.services {
            for instance in &service.instances {
                let address = StableAddress::of(AddressKind::Instance, instance.address);
                let Some(address) = address else { continue };
                let is_here = here.contains(&InstanceId { service: *id, number: instance.number });
                if let Some(device) = devices.get(&instance.worker).filter(|_| !is_here) {
                    ways.lead_to_instance(address, *device, source);
                }
            }
            if let Some(orders) = places.of(*id) {
                ways.lead_to_service(service, orders);
            }
        }
        self.elements.append(&mut ways.elements.into_iter().collect());
        self.paths.append(&mut ways.paths.into_iter().collect());
        self.chains.append(&mut ways.chains);
        self.secure.append(&mut ways.secure);
        self.kernel_peers.append(&mut ways.kernel_peers);
    }
}

impl Ways {
    /// `None` for a device without ranges.
    fn lead_to_device(
        &mut self,
        peer: &Peer,
        source: InstanceAddresses,
        carriers: &Carriers,
    ) -> Option<Device> {
        let (v4, v6) = Subnet::first_of(&peer.lease)?.gateway();
        let device = match peer.way {
            Way::Direct { underlay } => {
                let (mac, over) = (mac_of(v4), Family::of(underlay));
                self.elements.push(Element::Peer(underlay));
                self.paths.push(Path::Device { mac, underlay });
                for gateway in [IpAddr::V4(v4), IpAddr::V6(v6)] {
                    self.paths.push(Path::Neighbour { over, gateway, mac });
                }
                Device::Direct { over, gateway: InstanceAddresses { v4, v6 } }
            }
            Way::Secure { endpoint, observed, relay, key, kernel_port } => {
                let allowed = BTreeSet::new();
                if let Some(port) = kernel_port.filter(|_| carriers.is_in_kernel(key)) {
                    let endpoint = SocketAddr::new(endpoint.ip(), port);
                    self.kernel_peers.insert(key, KernelPeer { endpoint, allowed: allowed.clone() });
                }
                self.secure.insert(key, SecurePeer { endpoint, observed, relay, allowed });
                Device::Secure { key, by: carriers.carrier(key) }
            }
        };
        let ranges = peer.lease.v4.iter().copied().map(IpNet::V4);
        for range in ranges.chain(peer.lease.v6.iter().copied().map(IpNet::V6)) {
            self.lead_to_range(range, device, source);
        }
        Some(device)
    }

    fn lead_to_range(&mut self, to: IpNet, device: Device, source: InstanceAddresses) {
        let of_family = |both: InstanceAddresses| match to {
            IpNet::V4(_) => IpAddr::V4(both.v4),
            IpNet::V6(_) => IpAddr::V6(both.v6),
        };
        let from = of_family(source);
        match device {
            Device::Direct { over, gateway } => {
                self.paths.push(Path::Route { over, to, via: of_family(gateway), from });
            }
            Device::Secure { key, by } => {
                self.paths.push(Path::Through { to, from, by });
                if let Some(peer) = self.kernel_peers.get_mut(&key) {
                    peer.allowed.insert(to);
                }
                if let Some(peer) = self.secure.get_mut(&key) {
                    peer.allowed.insert(to);
                }
            }
        }
    }

    fn lead_to_instance(&mut self, address: StableAddress, device: Device, source: InstanceAddresses) {
        for to in address.all() {
            self.elements.push(Element::Known(to));
            self.lead_to_range(to.into(), device, source);
        }
    }

    fn lead_to_service(&mut self, service: &CallableService, orders: &Orders) {
        for (kind, v4) in &*service.addresses {
            let Some(address) = StableAddress::of(*kind, *v4) else { continue };
            let chosen = match kind {
                AddressKind::Closest => &orders.closest,
                AddressKind::RoundRobin => &orders.any,
                AddressKind::LeastUsed => &orders.least_used,
                AddressKind::Affinity => &orders.agreed,
                AddressKind::Instance => continue,
            };
            match &chosen[..] {
                // Refused at once: nobody has the address.
                [] => {}
                [only] => {
                    for (from, to) in address.all().into_iter().zip(only.all()) {
                        self.elements.push(Element::Known(from));
                        self.elements.push(Element::Single { from, to });
                    }
                }
                several => self.spread(*kind, address, several),
            }
        }
    }

    fn spread(&mut self, kind: AddressKind, address: StableAddress, among: &[StableAddress]) {
        let count = u32::try_from(among.len()).unwrap_or(u32::MAX);
        let chain = match kind {
            AddressKind::Instance | AddressKind::RoundRobin | AddressKind::Closest => {
                Chain::Turn { of: address.v4, count }
            }
            AddressKind::LeastUsed => Chain::Random { count },
            AddressKind::Affinity => Chain::Hash { count },
        };
        self.chains.insert(chain);
        for from in address.all() {
            self.elements.push(Element::Known(from));
            self.elements.push(Element::Spread { from, chain });
        }
        for (index, to) in (0..count).zip(among) {
            for (of, to) in address.all().into_iter().zip(to.all()) {
                self.elements.push(Element::Backend { of, index, to });
            }
        }
    }
}

/// The address of a device on the link: locally administered, told by its own address, which is unique.
fn mac_of(gateway: Ipv4Addr) -> Mac {
    let [a, b, c, d] = gateway.octets();
    [0x02, 0x6d, a, b, c, d]
}

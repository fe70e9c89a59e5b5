//! What the kernel should hold, what it does hold, and what is done about the difference. Data only.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    net::{IpAddr, Ipv4Addr, SocketAddr},
};

use addressing::InstanceAddresses;
use ipnet::IpNet;
use model::{Protocol, RelayPlace, TunnelKey};
use serde::{Deserialize, Serialize};

use crate::{Carrier, Isolation, LinkName, LinkPlan, Membership};

/// One entry of a set or map that the rules look things up in. The rules themselves never change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Element {
    /// What leaves the device from these addresses is masqueraded.
    Subnet(IpNet),
    /// An address somebody has: packets to other addresses of services and instances are refused.
    Known(IpAddr),
    /// Connections to the first go to the second.
    Single {
        /// The address of a service.
        from: IpAddr,
        /// That of its only instance.
        to: IpAddr,
    },
    /// Connections to this address are led by that chain.
    Spread {
        /// The address of a service.
        from: IpAddr,
        /// How they are spread.
        chain: Chain,
    },
    /// The address at a place of a service's list.
    Backend {
        /// The address of the service.
        of: IpAddr,
        /// From zero.
        index: u32,
        /// That of an instance.
        to: IpAddr,
    },
    /// What an address belongs to.
    Member {
        /// Of an instance, here or elsewhere, or of another device.
        address: IpAddr,
        /// Its service and application.
        of: Membership,
    },
    /// Members of an application may connect to those of a service.
    Admitted {
        /// The number of the application.
        application: u32,
        /// The number of the service.
        service: u32,
    },
    /// Another device of this site may send packets of its instances from this address.
    Peer(IpAddr),
    /// An instance of this device; it is masqueraded when it calls itself through a port of the device.
    Instance(IpAddr),
    /// What an instance sends to others from the first address leaves as if the device itself sent it; see
    /// `presence.rs`.
    Guest {
        /// That of the instance, of the device's range.
        from: IpAddr,
        /// That of the device.
        gateway: IpAddr,
    },
    /// A port of the device that leads to an instance.
    Port {
        /// Which protocol.
        protocol: Protocol,
        /// Port of the device.
        host: u16,
        /// Where it leads; the family says for which packets.
        to: SocketAddr,
    },
}

/// A chain of rules that chooses one of several instances. Its name tells all that is in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Chain {
    /// Each in turn. Every address has its own, as each counts its own connections.
    Turn {
        /// The address whose connections it counts.
        of: Ipv4Addr,
        /// How many there are to choose from.
        count: u32,
    },
    /// By chance.
    Random {
        /// How many there are to choose from.
        count: u32,
    },
    /// By the caller's address: the same for the same caller while there are as many.
    Hash {
        /// How many there are to choose from.
        count: u32,
    },
}

impl fmt::Display for Chain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Turn { of, count } => write!(f, "turn-{of}-{count}"),
            Self::Random { count } => write!(f, "random-{count}"),
            Self::Hash { count } => write!(f, "hash-{count}"),
        }
    }
}

impl Chain {
    /// The chain of that name; `None` when it is none of these.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        let mut parts = name.split('-');
        let chain = match (parts.next()?, parts.next()?, parts.next()) {
            ("turn", of, Some(count)) => Self::Turn { of: of.parse().ok()?, count: count.parse().ok()? },
            ("random", count, None) => Self::Random { count: count.parse().ok()? },
            ("hash", count, None) => Self::Hash { count: count.parse().ok()? },
            _ => return None,
        };
        parts.next().is_none().then_some(chain)
    }

    /// How many there are to choose from.
    #[must_use]
    pub const fn count(self) -> u32 {
        match self {
            Self::Turn { count, .. } | Self::Random { count } | Self::Hash { count } => count,
        }
    }
}

/// The two interfaces that join this device with others of its site, one for each family of the site's own addresses,
/// and what is particular to this device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DirectLink {
    /// Its own address on both.
    pub mac: Mac,
    /// From where the device itself speaks to services.
    pub source: InstanceAddresses,
}

/// An address of the link layer.
pub type Mac = [u8; 6];

/// One entry that leads to another device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Path {
    /// The device with this address on the link is reached at that address of the site.
    Device {
        /// On the link.
        mac: Mac,
        /// In the site's own network.
        underlay: IpAddr,
    },
    /// The gateway of a device has this address on the link.
    Neighbour {
        /// Of what family the address is that the device is reached at.
        over: Family,
        /// The gateway.
        gateway: IpAddr,
        /// On the link.
        mac: Mac,
    },
    /// What a device answers for.
    Route {
        /// Of what family the address is that the device is reached at.
        over: Family,
        /// A range of a device, or one instance.
        to: IpNet,
        /// The gateway of the device.
        via: IpAddr,
        /// From where this device itself speaks.
        from: IpAddr,
    },
    /// The same over an encrypted link, which finds the device by the address.
    Through {
        /// A range of a device, or one instance.
        to: IpNet,
        /// From where this device itself speaks.
        from: IpAddr,
        /// What carries the link.
        by: Carrier,
    },
}

/// The other end of an encrypted link.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecurePeer {
    /// Where it is, as it says itself.
    pub endpoint: SocketAddr,
    /// Where a relay sees it, if that is elsewhere.
    pub observed: Option<SocketAddr>,
    /// Its relay; `None` for that of this device's own cluster.
    pub relay: Option<RelayPlace>,
    /// The addresses that are its own: packets to them go there, and it may send from no others.
    pub allowed: BTreeSet<IpNet>,
}

/// The other end of an encrypted link as the kernel's own WireGuard knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KernelPeer {
    /// Where its kernel listens.
    pub endpoint: SocketAddr,
    /// As of [`SecurePeer`].
    pub allowed: BTreeSet<IpNet>,
}

/// What only one path can be for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// A device on the link of that family.
    Device(Family, Mac),
    /// A gateway on it.
    Neighbour(Family, IpAddr),
    /// A range.
    Route(IpNet),
}

impl Path {
    /// What it is for; of two with the same place one takes that of the other.
    #[must_use]
    pub const fn place(&self) -> Place {
        match *self {
            Self::Device { mac, underlay } => Place::Device(Family::of(underlay), mac),
            Self::Neighbour { over, gateway, .. } => Place::Neighbour(over, gateway),
            Self::Route { to, .. } | Self::Through { to, .. } => Place::Route(to),
        }
    }
}

/// The two kinds of addresses, as firewall tables are divided.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// That of an address.
    #[must_use]
    pub const fn of(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(_) => Self::V4,
            IpAddr::V6(_) => Self::V6,
        }
    }
}

/// What other programs' rules do to forwarded packets of one family.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ForwardFilter {
    /// The chain that drops what no rule of it accepts, as `table chain`.
    pub drops: Option<String>,
    /// Docker's chain for rules of others: `None` when it is not there, else whether ours are in it.
    pub docker_user: Option<bool>,
}

/// The device's own address of a range, the gateway of its instances: the first after the range's name.
#[must_use]
pub fn gateway_of(subnet: &IpNet) -> IpAddr {
    match subnet {
        IpNet::V4(net) => IpAddr::from((u32::from(net.network()) + 1).to_be_bytes()),
        IpNet::V6(net) => IpAddr::from((u128::from(net.network()) + 1).to_be_bytes()),
    }
}

/// All that should be in the kernel.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct DesiredKernel {
    /// Entries for the rules.
    pub elements: BTreeSet<Element>,
    /// Ranges this device answers for; see [`Effect::ClaimSubnet`].
    pub subnets: BTreeSet<IpNet>,
    /// One cable per instance.
    pub links: BTreeMap<LinkName, LinkPlan>,
    /// Chains that elements lead to.
    pub chains: BTreeSet<Chain>,
    /// The link to other devices; `None` while this device has no subnet.
    pub direct: Option<DirectLink>,
    /// The ways to them.
    pub paths: BTreeSet<Path>,
    /// Whether instances may ask this device for names.
    pub names: bool,
    /// The other ends of encrypted links.
    pub secure: BTreeMap<TunnelKey, SecurePeer>,
    /// Those of them that the kernel's own WireGuard knows too.
    pub kernel_peers: BTreeMap<TunnelKey, KernelPeer>,
}

/// A cable as it is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ObservedLink {
    /// Its alias; see [`LinkPlan::mark`].
    pub mark: String,
    /// It is up and lets packets from 127.0.0.1 pass to mapped ports.
    pub ready: bool,
    /// Our host routes into it, with their source addresses.
    pub routes: BTreeMap<IpAddr, IpAddr>,
    /// Addresses whose place on the cable is known for good.
    pub neighbours: BTreeSet<IpAddr>,
}

impl ObservedLink {
    /// A cable exactly as planned.
    #[must_use]
    pub fn as_planned(plan: &LinkPlan) -> Self {
        Self {
            mark: plan.mark(),
            ready: true,
            routes: plan.routes(),
            neighbours: plan.routes().into_keys().collect(),
        }
    }
}

/// All of ours that is in the kernel.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ObservedKernel {
    /// Whether our table has exactly the chains, rules and sets it should have.
    pub ruleset_intact: bool,
    /// Entries of our sets.
    pub elements: BTreeSet<Element>,
    /// Ranges claimed, and whether the device has its own address in them too.
    pub subnets: BTreeMap<IpNet, bool>,
    /// No connection goes on that could not be made now.
    pub isolated: bool,
    /// Cables with a name of ours.
    pub links: BTreeMap<LinkName, ObservedLink>,
    /// Chains that choose instances.
    pub chains: BTreeSet<Chain>,
    /// The link to other devices, if it is as it should be apart from what is particular to this device.
    pub direct: Option<DirectLink>,
    /// The ways to them.
    pub paths: BTreeSet<Path>,
    /// Whether the device has the address instances ask for names.
    pub names: bool,
    /// The other ends of encrypted links; `None` when there can be no such links now.
    pub secure: Option<BTreeMap<TunnelKey, SecurePeer>>,
    /// Those the kernel's own WireGuard knows; `None` when it has none.
    pub kernel_peers: Option<BTreeMap<TunnelKey, KernelPeer>>,
    /// What others do to forwarded packets.
    pub forward: BTreeMap<Family, ForwardFilter>,
}

/// One step towards what should be. Each is safe to repeat.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Make our table as it should be, keeping the entries of its sets, in one transaction.
    InstallRuleset,
    /// Change entries and the chains they lead to, in one transaction, removals first. Connections of addresses that
    /// nobody has any more are forgotten.
    ChangeElements {
        /// Entries that go.
        remove: BTreeSet<Element>,
        /// Entries that come.
        add: BTreeSet<Element>,
        /// Chains that nothing leads to any more.
        close: BTreeSet<Chain>,
        /// Chains that come; entries lead to them from a later change on.
        open: BTreeSet<Chain>,
    },
    /// End the connections that could not be made now.
    EndForbidden(Isolation),
    /// Make the link to other devices, or make it anew; the paths over it go with the old one.
    OpenDirect(DirectLink),
    /// Take that link away.
    CloseDirect,
    /// Make these all the ends of encrypted links there are.
    SetSecure(BTreeMap<TunnelKey, SecurePeer>),
    /// Make these all the ends that the kernel's own WireGuard knows. Those that stay lose nothing.
    SetKernelPeers(BTreeMap<TunnelKey, KernelPeer>),
    /// Change paths, those that come first. One that takes the place of another replaces it at once.
    ChangePaths {
        /// Paths that go.
        remove: BTreeSet<Path>,
        /// Paths that come.
        add: BTreeSet<Path>,
    },
    /// Let Docker forward our packets.
    OpenDockerUser(Family),
    /// Give the device its own address of this range, and let nothing for an address without an instance leave the
    /// device.
    ClaimSubnet(IpNet),
    /// Undo that.
    ReleaseSubnet(IpNet),
    /// Give the device the address instances ask for names, [`crate::NAME_SERVER`].
    OfferNames,
    /// Undo that.
    WithdrawNames,
    /// Lay a cable that is not there.
    CreateLink(LinkPlan),
    /// Put right the device's end of a cable without cutting it.
    RepairLink(LinkPlan),
    /// Cut a cable and forget the connections of the addresses behind it.
    RemoveLink {
        /// Which.
        name: LinkName,
        /// Where its routes led.
        addresses: BTreeSet<IpAddr>,
    },
}

impl Effect {
    /// Whether after it connections may exist that could not be made then. One of an address that is gone ends with the
    /// address.
    #[must_use]
    pub fn restricts(&self) -> bool {
        let Self::ChangeElements { remove, add, .. } = self else {
            return matches!(self, Self::InstallRuleset);
        };
        let members = add.iter().filter_map(|element| element.member());
        let members: BTreeSet<IpAddr> = members.collect();
        remove.iter().any(|element| {
            matches!(element, Element::Admitted { .. })
                || element.member().is_some_and(|address| members.contains(&address))
        })
    }
}

impl Element {
    const fn member(&self) -> Option<IpAddr> {
        match self {
            Self::Member { address, .. } => Some(*address),
            Self::Subnet(_)
            | Self::Known(_)
            | Self::Single { .. }
            | Self::Spread { .. }
            | Self::Backend { .. }
            | Self::Admitted { .. }
            | Self::Peer(_)
            | Self::Instance(_)
            | Self::Guest { .. }
            | Self::Port { .. } => None,
        }
    }
}

/// A change concerns few of what there is.
fn replace<T: Copy + Ord>(all: &mut BTreeSet<T>, remove: &BTreeSet<T>, add: &BTreeSet<T>) {
    for gone in remove {
        all.remove(gone);
    }
    all.extend(add);
}

impl ObservedKernel {
    /// The kernel after `effect` was done, so that the next change needs no reading.
    pub fn after(&mut self, effect: &Effect) {
        self.isolated &= !effect.restricts();
        match effect {
            Effect::EndForbidden(_) => self.isolated = true,
            Effect::InstallRuleset => self.ruleset_intact = true,
            Effect::ChangeElements { remove, add, close, open } => {
                replace(&mut self.elements, remove, add);
                replace(&mut self.chains, close, open);
            }
            Effect::OpenDirect(link) => {
                self.direct = Some(*link);
                self.paths.clear();
            }
            Effect::CloseDirect => {
                self.direct = None;
                self.paths.clear();
            }
            Effect::SetSecure(peers) => self.secure = Some(peers.clone()),
            Effect::SetKernelPeers(peers) => self.kernel_peers = Some(peers.clone()),
            Effect::ChangePaths { remove, add } => {
                replace(&mut self.paths, remove, add);
            }
            Effect::OpenDockerUser(family) => {
                self.forward.entry(*family).or_default().docker_user = Some(true);
            }
            Effect::ClaimSubnet(subnet) => {
                self.subnets.insert(*subnet, true);
            }
            Effect::ReleaseSubnet(subnet) => {
                self.subnets.remove(subnet);
            }
            Effect::OfferNames => self.names = true,
            Effect::WithdrawNames => self.names = false,
            Effect::CreateLink(plan) | Effect::RepairLink(plan) => {
                self.links.insert(plan.name.clone(), ObservedLink::as_planned(plan));
            }
            Effect::RemoveLink { name, .. } => {
                self.links.remove(name);
            }
        }
    }
}

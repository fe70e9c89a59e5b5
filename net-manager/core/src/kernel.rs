//! What the kernel should hold, what it does hold, and what is done about the difference. Data only.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr},
};

use ipnet::IpNet;
use model::Protocol;

use crate::{LinkName, LinkPlan};

/// One entry of a set or map that the rules look things up in. The rules themselves never change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Element {
    /// What leaves the device from these addresses is masqueraded.
    Subnet(IpNet),
    /// An instance of this device; it is masqueraded when it calls itself through a port of the device.
    Instance(IpAddr),
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

/// The two kinds of addresses, as firewall tables are divided.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
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
            neighbours: BTreeSet::from(plan.addresses.all()),
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
    /// Cables with a name of ours.
    pub links: BTreeMap<LinkName, ObservedLink>,
    /// What others do to forwarded packets.
    pub forward: BTreeMap<Family, ForwardFilter>,
}

/// One step towards what should be. Each is safe to repeat.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Make our table as it should be, keeping the entries of its sets, in one transaction.
    InstallRuleset,
    /// Change entries, in one transaction, removals first.
    ChangeElements {
        /// Entries that go.
        remove: BTreeSet<Element>,
        /// Entries that come.
        add: BTreeSet<Element>,
    },
    /// Let Docker forward our packets.
    OpenDockerUser(Family),
    /// Give the device its own address of this range, and let nothing for an address without an instance leave the
    /// device.
    ClaimSubnet(IpNet),
    /// Undo that.
    ReleaseSubnet(IpNet),
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

impl ObservedKernel {
    /// The kernel after `effect` was done, so that the next change needs no reading.
    pub fn after(&mut self, effect: &Effect) {
        match effect {
            Effect::InstallRuleset => self.ruleset_intact = true,
            Effect::ChangeElements { remove, add } => {
                self.elements.retain(|element| !remove.contains(element));
                self.elements.extend(add);
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
            Effect::CreateLink(plan) | Effect::RepairLink(plan) => {
                self.links.insert(plan.name.clone(), ObservedLink::as_planned(plan));
            }
            Effect::RemoveLink { name, .. } => {
                self.links.remove(name);
            }
        }
    }
}

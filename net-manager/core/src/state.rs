//! The truth of this worker's network: its subnet and the instances attached to it.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
};

use addressing::{HostPlan, InstanceAddresses, Subnet};
use ipnet::IpNet;
use model::{
    AddressKind, Generation, InstanceId, Moment, NetworkLease, NetworkNews, PortMapping, StableAddress,
    Surroundings, TunnelKey, Way, WorkerId,
};
use serde::{Deserialize, Serialize};

use crate::{
    DesiredKernel, Echo, EchoOver, Element, EngineReason, Family, LinkName, LinkPlan, Namespace, Nearness,
    Rejection, RoundTrip, Signs, carriers::Carriers, closest::Distances, numbers::Numbers, places::Places,
    presence::guest,
};

/// A cluster that is there tells of an application before its containers are made. One that is not must not keep an
/// instance from starting: what it may call is known from before, or cannot be known.
pub const TOLD_WITHIN_MILLIS: u64 = 2_000;

/// What is wished for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Use the ranges the cluster lent.
    UseLease(NetworkLease),
    /// Connect an instance, or replace what it was connected with.
    Attach(AttachRequest),
    /// Lead nobody new to an instance by ports of the device; it goes.
    Drain(InstanceId),
    /// Disconnect an instance.
    Detach(InstanceId),
}

/// How an instance is to be connected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttachRequest {
    /// Which instance.
    pub id: InstanceId,
    /// Which placement of it.
    pub generation: Generation,
    /// Where it runs.
    pub namespace: Namespace,
    /// Ports of the device that lead to it.
    pub ports: Vec<PortMapping>,
    /// The address it keeps wherever it runs.
    pub address: Option<Ipv4Addr>,
}

/// An instance that is connected.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attachment {
    /// Which instance.
    pub id: InstanceId,
    /// Which placement of it.
    pub generation: Generation,
    /// Where it runs.
    pub namespace: Namespace,
    /// Ports of the device that lead to it, in order.
    pub ports: Vec<PortMapping>,
    /// Its addresses.
    pub addresses: InstanceAddresses,
    /// The subnet they are of, which need not be the present one.
    pub subnet: Subnet,
    /// The address it keeps wherever it runs.
    #[serde(default)]
    pub address: Option<Ipv4Addr>,
    /// It goes: its ports lead nobody new to it.
    #[serde(default)]
    pub leaving: bool,
}

impl Attachment {
    /// Both of the addresses it keeps wherever it runs.
    #[must_use]
    pub fn stable(&self) -> Option<StableAddress> {
        self.address.and_then(|address| StableAddress::of(AddressKind::Instance, address))
    }

    fn link_plan(&self, at_home: bool) -> LinkPlan {
        let (v4, v6) = self.subnet.gateway();
        LinkPlan {
            name: LinkName::of(self.id),
            instance: self.id,
            namespace: self.namespace.clone(),
            addresses: self.addresses,
            stable: self.stable(),
            at_home,
            gateway: InstanceAddresses { v4, v6 },
        }
    }

    fn elements(&self) -> impl Iterator<Item = Element> {
        let addresses = self.addresses.all();
        let ports = self.ports.iter().filter(|_| !self.leaving).flat_map(move |port| {
            addresses.map(|address| Element::Port {
                protocol: port.protocol,
                host: port.host,
                to: (address, port.container).into(),
            })
        });
        let stable = self.stable().map(|stable| stable.all()).into_iter().flatten();
        let known = stable.clone().map(Element::Known);
        ports.chain(addresses.into_iter().chain(stable).map(Element::Instance)).chain(known)
    }
}

/// One accepted alteration of the state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// New instances get addresses of this subnet.
    SubnetChosen(Subnet),
    /// The instance is connected like this.
    Attached(Attachment),
    /// The instance goes.
    Leaving(InstanceId),
    /// The instance is not connected.
    Detached(InstanceId),
}

/// All that NetManager must remember.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct NetworkState {
    hosts: Option<HostPlan>,
    /// In order of their ids.
    attachments: Vec<Attachment>,
    /// What the cluster tells of others. Kept apart from the rest, as it changes far more often.
    #[serde(skip)]
    surroundings: Surroundings,
    /// How far the devices are that closest addresses may lead to. Known again soon after a start.
    #[serde(skip)]
    distances: Distances,
    /// In which order addresses of services lead to instances; another one after a start.
    #[serde(skip)]
    places: Places,
    /// By what the rules know services and applications.
    #[serde(skip)]
    numbers: Numbers,
    /// What carries each encrypted link. The kernel tells it after a start.
    #[serde(skip)]
    carriers: Carriers,
}

impl NetworkState {
    /// What the cluster told of others.
    #[must_use]
    pub const fn surroundings(&self) -> &Surroundings {
        &self.surroundings
    }

    /// To be called once with what was known before a restart.
    pub fn recall(&mut self, surroundings: Surroundings) {
        self.surroundings = surroundings;
        self.look_at_surroundings();
    }

    /// Takes on what the cluster tells of others.
    pub fn hear(&mut self, news: NetworkNews) {
        self.surroundings.take(news);
        self.carriers.keep(&self.with_kernel());
        self.look_at_surroundings();
    }

    /// Takes on what follows from the surroundings and from what is attached.
    fn look_at_surroundings(&mut self) {
        self.numbers.assign(&self.surroundings);
        self.choose_whom_to_measure();
        self.arrange();
    }

    fn arrange(&mut self) {
        let begin = self.subnet().map_or(0, |subnet| u32::from(subnet.gateway().0) / 64);
        let here = self.instances_here();
        self.places.arrange(&self.surroundings, &here, &self.distances, begin);
    }

    /// Devices are measured while a closest address may lead to them: that of a service with nothing ready here.
    fn choose_whom_to_measure(&mut self) {
        let Surroundings { services, peers } = &self.surroundings;
        let mut wanted = BTreeSet::new();
        let here = self.instances_here();
        for (service, callable) in services {
            let ready = callable.instances.iter().filter(|instance| instance.ready);
            let is_here = |number| here.contains(&InstanceId { service: *service, number });
            let leads_away =
                self.subnet().is_some() && callable.addresses.contains_key(&AddressKind::Closest);
            if leads_away && !ready.clone().any(|instance| is_here(instance.number)) {
                let workers = ready.map(|instance| instance.worker);
                wanted.extend(workers.filter(|worker| peers.contains_key(worker)));
            }
        }
        self.distances.want(&wanted);
    }

    /// The other ends whose devices have a WireGuard in the kernel.
    fn with_kernel(&self) -> BTreeSet<TunnelKey> {
        let ends = self.surroundings.peers.values().filter_map(|peer| match peer.way {
            Way::Secure { key, kernel_port, .. } => kernel_port.map(|_| key),
            Way::Direct { .. } => None,
        });
        ends.collect()
    }

    /// Takes on what there is to see of encrypted links. Says whether the kernel has to change for it.
    pub fn look(&mut self, signs: &Signs, now: Moment) -> bool {
        let candidates = self.with_kernel();
        self.carriers.look(&candidates, signs, now)
    }

    /// When is to be looked next, beside each comparison of the kernel.
    #[must_use]
    pub fn look_due(&self) -> Option<Moment> {
        self.carriers.due()
    }

    /// Why the engine carries the encrypted link that goes this way; `None` when the kernel does, or it is not encrypted.
    #[must_use]
    pub fn why_by_engine(&self, way: Way) -> Option<EngineReason> {
        match way {
            Way::Secure { key, kernel_port, .. } => self.carriers.reason(key, kernel_port.is_some()),
            Way::Direct { .. } => None,
        }
    }

    /// How far a device counts as being.
    #[must_use]
    pub fn nearness(&self, worker: WorkerId) -> Nearness {
        self.distances.of(worker)
    }

    /// When the next rounds of echoes are to begin.
    #[must_use]
    pub fn rounds_due(&self) -> Option<Moment> {
        self.distances.due()
    }

    /// The rounds of echoes to begin now. What comes of each is for [`NetworkState::take_round`]; one that is lost is asked
    /// for again.
    pub fn begin_rounds(&mut self, now: Moment) -> Vec<(WorkerId, Echo)> {
        let begun = self.distances.begin(now);
        begun.into_iter().filter_map(|worker| Some((worker, self.echo(worker)?))).collect()
    }

    fn echo(&self, worker: WorkerId) -> Option<Echo> {
        let peer = self.surroundings.peers.get(&worker)?;
        let (_, from) = self.subnet()?.gateway();
        let (_, to) = Subnet::first_of(&peer.lease)?.gateway();
        let over = match peer.way {
            Way::Direct { underlay } => EchoOver::Direct(Family::of(underlay)),
            Way::Secure { key, .. } => EchoOver::Encrypted(self.carriers.carrier(key)),
        };
        Some(Echo { from, to, over })
    }

    /// Takes on the shortest answer of a round, or that there was none. Says whether the kernel may have to change for it.
    pub fn take_round(&mut self, worker: WorkerId, answer: Option<RoundTrip>, now: Moment) -> bool {
        let changed = self.distances.take(worker, answer, now);
        if changed {
            self.arrange();
        }
        changed
    }

    /// The subnet new instances get their addresses of.
    #[must_use]
    pub fn subnet(&self) -> Option<Subnet> {
        self.hosts.as_ref().map(HostPlan::subnet)
    }

    /// Every connected instance, in order of the ids.
    #[must_use]
    pub fn attachments(&self) -> &[Attachment] {
        &self.attachments
    }

    /// How `id` is connected.
    #[must_use]
    pub fn attachment(&self, id: InstanceId) -> Option<&Attachment> {
        self.position(id).ok().map(|index| &self.attachments[index])
    }

    fn position(&self, id: InstanceId) -> Result<usize, usize> {
        self.attachments.binary_search_by_key(&id, |attachment| attachment.id)
    }

    /// What `command` alters; nothing when it is so already.
    ///
    /// # Errors
    /// Why it is not granted; then nothing is altered.
    pub fn accept(&self, command: Command) -> Result<Vec<Change>, Rejection> {
        match command {
            Command::UseLease(lease) => {
                let subnet = Subnet::first_of(&lease).ok_or(Rejection::EmptyLease)?;
                let known = self.subnet() == Some(subnet);
                Ok(if known { Vec::new() } else { vec![Change::SubnetChosen(subnet)] })
            }
            Command::Attach(request) => self.accept_attach(request),
            Command::Drain(id) => {
                let stays = self.attachment(id).filter(|attachment| !attachment.leaving);
                Ok(stays.map(|_| Change::Leaving(id)).into_iter().collect())
            }
            Command::Detach(id) => {
                Ok(self.attachment(id).map(|_| Change::Detached(id)).into_iter().collect())
            }
        }
    }

    fn accept_attach(&self, request: AttachRequest) -> Result<Vec<Change>, Rejection> {
        let AttachRequest { id, generation, namespace, mut ports, address } = request;
        ports.sort_unstable();
        ports.dedup();
        self.check_ports(id, &ports)?;
        self.check_address(id, address)?;
        let held = self.attachment(id);
        if let Some(held) = held.filter(|held| held.generation > generation) {
            return Err(Rejection::OlderGeneration { id, held: held.generation, asked: generation });
        }
        let (subnet, addresses) = match held {
            Some(held) => (held.subnet, held.addresses),
            None => {
                let mut hosts = self.hosts.clone().ok_or(Rejection::NoSubnet)?;
                (hosts.subnet(), hosts.allocate(id)?)
            }
        };
        let leaving = false;
        let attachment = Attachment { id, generation, namespace, ports, addresses, subnet, address, leaving };
        let known = held == Some(&attachment);
        Ok(if known { Vec::new() } else { vec![Change::Attached(attachment)] })
    }

    fn check_address(&self, id: InstanceId, address: Option<Ipv4Addr>) -> Result<(), Rejection> {
        let Some(address) = address else { return Ok(()) };
        StableAddress::of(AddressKind::Instance, address).ok_or(Rejection::NotAnAddress(address))?;
        let same = |other: &&Attachment| other.id != id && other.address == Some(address);
        match self.attachments.iter().find(same) {
            Some(other) => Err(Rejection::AddressConflict { address, holder: other.id }),
            None => Ok(()),
        }
    }

    fn check_ports(&self, id: InstanceId, ports: &[PortMapping]) -> Result<(), Rejection> {
        for (index, port) in ports.iter().enumerate() {
            if ports[..index].iter().any(|earlier| earlier.clashes_with(port)) {
                return Err(Rejection::RepeatedPort(*port));
            }
            let others = self.attachments.iter().filter(|other| other.id != id);
            if let Some(holder) =
                others.into_iter().find(|other| other.ports.iter().any(|held| held.clashes_with(port)))
            {
                return Err(Rejection::PortConflict { port: *port, holder: holder.id });
            }
        }
        Ok(())
    }

    /// Instances whose namespace is not among the living are no longer connected.
    #[must_use]
    pub fn observe(&self, living: &BTreeSet<Namespace>) -> Vec<Change> {
        self.attachments
            .iter()
            .filter(|attachment| !living.contains(&attachment.namespace))
            .map(|attachment| Change::Detached(attachment.id))
            .collect()
    }

    /// Alters the state. `change` must come from this state.
    pub fn apply(&mut self, change: Change) {
        match change {
            Change::SubnetChosen(subnet) => {
                let mut hosts = HostPlan::new(subnet);
                for attachment in &self.attachments {
                    // `false` for an address of another subnet, which keeps nobody from the new one.
                    hosts.claim(attachment.id, attachment.addresses);
                }
                self.hosts = Some(hosts);
            }
            Change::Attached(attachment) => {
                if let Some(hosts) = &mut self.hosts {
                    hosts.claim(attachment.id, attachment.addresses);
                }
                match self.position(attachment.id) {
                    Ok(index) => self.attachments[index] = attachment,
                    Err(index) => self.attachments.insert(index, attachment),
                }
            }
            Change::Leaving(id) => {
                if let Ok(index) = self.position(id) {
                    self.attachments[index].leaving = true;
                }
            }
            Change::Detached(id) => {
                if let Some(hosts) = &mut self.hosts {
                    hosts.release(id);
                }
                self.attachments.retain(|attachment| attachment.id != id);
            }
        }
        self.look_at_surroundings();
    }

    /// Until when the first instruction of an instance attached at `since` is held back; `None` is no longer. It waits
    /// until the cluster has told of its application, which it does in one piece, or until it has waited for long enough.
    #[must_use]
    pub fn begins(&self, id: InstanceId, since: Moment, now: Moment) -> Option<Moment> {
        // Without an address that it keeps it is of a time before services had any, and nothing is told of it.
        let waits = self.attachment(id).is_some_and(|attachment| attachment.address.is_some())
            && !self.surroundings.services.contains_key(&id.service);
        let until = since.plus_millis(TOLD_WITHIN_MILLIS);
        (waits && until > now).then_some(until)
    }

    /// What the kernel must hold for this state.
    #[must_use]
    pub fn desired(&self) -> DesiredKernel {
        let in_use = self.attachments.iter().map(|attachment| attachment.subnet);
        let subnets: BTreeSet<Subnet> = self.subnet().into_iter().chain(in_use).collect();
        let subnets: BTreeSet<IpNet> =
            subnets.iter().flat_map(|subnet| [IpNet::V4(subnet.v4), IpNet::V6(subnet.v6)]).collect();
        let networks = subnets.iter().copied().map(Element::Subnet);
        let here = self.instances_here();
        let links: BTreeMap<LinkName, LinkPlan> = self
            .attachments
            .iter()
            .map(|attachment| attachment.link_plan(here.contains(&attachment.id)))
            .map(|plan| (plan.name.clone(), plan))
            .collect();
        let guests = links.values().filter(|plan| !plan.at_home).flat_map(guest);
        let mut desired = DesiredKernel {
            elements: networks
                .chain(self.attachments.iter().flat_map(Attachment::elements))
                .chain(guests)
                .collect(),
            subnets,
            links,
            names: true,
            ..DesiredKernel::default()
        };
        desired.isolate(&self.surroundings, &self.attachments, &self.numbers);
        if let Some(subnet) = self.subnet() {
            desired.lead_to_others(&self.surroundings, &here, subnet, &self.places, &self.carriers);
        }
        desired
    }
}

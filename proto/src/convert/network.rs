//! What NetManagers are told.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Display,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    str::FromStr,
    sync::Arc,
};

use model::{
    AddressKind, AllowedCallers, CallableInstance, CallableService, InstanceNews, NetworkLease, NetworkNews,
    Peer, Reach, RelayLoan, RelayOffer, RelayPlace, ServiceId, ServiceNames, SharedService, StableAddress,
    TunnelEnd, TunnelKey, Way, Weight, WorkerId,
};
use uuid::Uuid;

use super::{
    WireError,
    assignment::{addresses_from_wire, addresses_to_wire, callers_from_wire, callers_to_wire},
    narrow, parse, required, service_from_parts, service_to_parts,
};
use crate::v1;

/// Puts a message together.
#[must_use]
pub fn network_message(lease: Option<&NetworkLease>, news: &NetworkNews) -> v1::ClusterToNetwork {
    v1::ClusterToNetwork {
        lease: lease.map(Into::into),
        whole: news.whole,
        services: news
            .services
            .iter()
            .map(|(id, service)| service_to_wire(*id, service.as_deref()))
            .collect(),
        peers: news.peers.iter().map(|(id, peer)| peer_to_wire(*id, peer.as_deref())).collect(),
        relay: None,
        root_relay: None,
        instances: news.instances.iter().map(|(id, news)| instances_to_wire(*id, news)).collect(),
    }
}

/// A message that offers the relay of the cluster, lends the one of the root, or both, and tells nothing else.
#[must_use]
pub fn relay_message(offer: Option<&RelayOffer>, loan: Option<&RelayLoan>) -> v1::ClusterToNetwork {
    let relay = offer.map(|offer| v1::RelayOffer {
        address: text_of(offer.address),
        port: offer.port.into(),
        session: offer.session,
        key: offer.key.to_vec(),
    });
    v1::ClusterToNetwork { relay, root_relay: loan.map(Into::into), ..v1::ClusterToNetwork::default() }
}

/// Nothing is an empty text.
fn text_of<T: Display>(value: Option<T>) -> String {
    value.map(|value| value.to_string()).unwrap_or_default()
}

/// A message, taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetworkMessage {
    /// The subnet, if it is another than before.
    pub lease: Option<NetworkLease>,
    /// What is new.
    pub news: NetworkNews,
    /// The relay to register with, if it is another than before.
    pub relay: Option<RelayOffer>,
    /// Likewise the use of the root's.
    pub root_relay: Option<RelayLoan>,
}

/// Takes the messages of one connection apart.
#[derive(Debug, Default)]
pub struct NetworkReader {
    /// The services that were told of.
    told: BTreeSet<ServiceId>,
}

impl NetworkReader {
    /// Takes the next message apart.
    ///
    /// # Errors
    /// When a part of it is not what it should be, or it is about instances of a service that was not told of. Then
    /// nothing of it counts, and what comes after it would say what is different from something else: the connection must
    /// end, and the next one begins with everything.
    pub fn read(&mut self, message: v1::ClusterToNetwork) -> Result<NetworkMessage, WireError> {
        let services: BTreeMap<ServiceId, Option<Arc<CallableService>>> =
            message.services.into_iter().map(service_from_wire).collect::<Result<_, _>>()?;
        let instances: BTreeMap<ServiceId, Arc<InstanceNews>> =
            message.instances.into_iter().map(instances_from_wire).collect::<Result<_, _>>()?;
        let peers = message.peers.into_iter().map(peer_from_wire).collect::<Result<_, _>>()?;
        let lease = message.lease.map(TryInto::try_into).transpose()?;
        let relay = message.relay.map(relay_from_wire).transpose()?;
        let root_relay = message.root_relay.map(TryInto::try_into).transpose()?;
        let is_known = |id| !message.whole && self.told.contains(id) && !services.contains_key(id);
        if let Some(unknown) = instances.keys().find(|id| !is_known(id)) {
            return Err(WireError::new(
                "instances",
                format!("are of service {unknown}, which was not told of"),
            ));
        }
        if message.whole {
            self.told.clear();
        }
        for (id, service) in &services {
            match service {
                Some(_) => self.told.insert(*id),
                None => self.told.remove(id),
            };
        }
        let news = NetworkNews { whole: message.whole, services, instances, peers };
        Ok(NetworkMessage { lease, news, relay, root_relay })
    }
}

fn relay_from_wire(wire: v1::RelayOffer) -> Result<RelayOffer, WireError> {
    Ok(RelayOffer {
        address: unless_empty("relay.address", &wire.address)?,
        port: narrow("relay.port", wire.port)?,
        session: wire.session,
        key: key_from_wire("relay.key", wire.key)?,
    })
}

fn key_from_wire(field: &'static str, bytes: Vec<u8>) -> Result<[u8; 32], WireError> {
    bytes.try_into().map_err(|_| WireError::new(field, "must be 32 bytes"))
}

impl From<&RelayLoan> for v1::RelayLoan {
    fn from(loan: &RelayLoan) -> Self {
        Self { address: text_of(loan.address), port: loan.port.into(), key: loan.key.to_vec() }
    }
}

impl TryFrom<v1::RelayLoan> for RelayLoan {
    type Error = WireError;

    fn try_from(wire: v1::RelayLoan) -> Result<Self, WireError> {
        Ok(Self {
            address: unless_empty("root_relay.address", &wire.address)?,
            port: narrow("root_relay.port", wire.port)?,
            key: key_from_wire("root_relay.key", wire.key)?,
        })
    }
}

fn unless_empty<T: FromStr<Err: Display>>(field: &'static str, text: &str) -> Result<Option<T>, WireError> {
    if text.is_empty() { Ok(None) } else { parse(field, text).map(Some) }
}

/// Somewhere a datagram may be sent to.
fn reachable(field: &'static str, place: SocketAddr) -> Result<SocketAddr, WireError> {
    let ip = place.ip();
    if place.port() == 0 || ip.is_unspecified() || ip.is_multicast() {
        return Err(WireError::new(field, format!("is {place}, where nobody can be")));
    }
    Ok(place)
}

fn service_to_wire(id: ServiceId, service: Option<&CallableService>) -> v1::CallableService {
    let Some(service) = service else {
        let (high, low) = service_to_parts(id);
        let description = v1::ServiceDescription { high, low, ..v1::ServiceDescription::default() };
        return v1::CallableService {
            description: Some(description),
            gone: true,
            ..v1::CallableService::default()
        };
    };
    let CallableService { names, addresses, allowed_callers, instances } = service;
    v1::CallableService {
        description: Some(description_to_wire(id, names, addresses, allowed_callers)),
        instances: instances.iter().map(instance_to_wire).collect(),
        gone: false,
    }
}

fn service_from_wire(
    wire: v1::CallableService,
) -> Result<(ServiceId, Option<Arc<CallableService>>), WireError> {
    let description = required("service.description", wire.description)?;
    if wire.gone {
        return Ok((service_from_parts(description.high, description.low), None));
    }
    let (id, SharedService { names, addresses, allowed_callers }) = description_from_wire(description)?;
    let instances: Vec<CallableInstance> =
        wire.instances.into_iter().map(instance_from_wire).collect::<Result<_, _>>()?;
    in_order("service.instances", instances.iter().map(|instance| instance.number))?;
    Ok((id, Some(Arc::new(CallableService { names, addresses, allowed_callers, instances }))))
}

fn instances_to_wire(id: ServiceId, news: &InstanceNews) -> v1::InstanceNews {
    let (high, low) = service_to_parts(id);
    v1::InstanceNews {
        high,
        low,
        instances: news.values().flatten().map(instance_to_wire).collect(),
        gone: news.iter().filter(|(_, instance)| instance.is_none()).map(|(number, _)| *number).collect(),
    }
}

fn instances_from_wire(wire: v1::InstanceNews) -> Result<(ServiceId, Arc<InstanceNews>), WireError> {
    let count = wire.instances.len() + wire.gone.len();
    let gone = wire.gone.into_iter().map(|number| Ok((number, None)));
    let there = wire.instances.into_iter().map(|instance| {
        let instance = instance_from_wire(instance)?;
        Ok((instance.number, Some(instance)))
    });
    let news: InstanceNews = gone.chain(there).collect::<Result<_, WireError>>()?;
    if news.len() < count {
        return Err(WireError::new("instances", "name one of them twice"));
    }
    Ok((service_from_parts(wire.high, wire.low), Arc::new(news)))
}

/// Instances are found by their numbers, so each is there once and in its place.
pub(super) fn in_order(field: &'static str, numbers: impl Iterator<Item = u32>) -> Result<(), WireError> {
    if numbers.is_sorted_by(|one, next| one < next) {
        return Ok(());
    }
    Err(WireError::new(field, "are not in order of their numbers, or name one of them twice"))
}

pub(super) fn description_to_wire(
    id: ServiceId,
    names: &ServiceNames,
    addresses: &BTreeMap<AddressKind, Ipv4Addr>,
    allowed_callers: &AllowedCallers,
) -> v1::ServiceDescription {
    let (high, low) = service_to_parts(id);
    v1::ServiceDescription {
        high,
        low,
        application: names.application.clone(),
        application_namespace: names.application_namespace.clone(),
        service: names.service.clone(),
        service_namespace: names.service_namespace.clone(),
        addresses: addresses_to_wire(addresses),
        allowed_callers: callers_to_wire(allowed_callers),
    }
}

pub(super) fn description_from_wire(
    wire: v1::ServiceDescription,
) -> Result<(ServiceId, SharedService), WireError> {
    let addresses = stable_addresses(&wire.addresses)?;
    let allowed_callers = callers_from_wire(&wire.allowed_callers)?;
    let names = ServiceNames {
        application: wire.application,
        application_namespace: wire.application_namespace,
        service: wire.service,
        service_namespace: wire.service_namespace,
    };
    let service = SharedService {
        names: names.into(),
        addresses: addresses.into(),
        allowed_callers: allowed_callers.into(),
    };
    Ok((service_from_parts(wire.high, wire.low), service))
}

/// Addresses that are all of the plan.
fn stable_addresses(wire: &[v1::ServiceAddress]) -> Result<BTreeMap<AddressKind, Ipv4Addr>, WireError> {
    let addresses = addresses_from_wire(wire)?;
    match addresses.iter().find(|(kind, address)| StableAddress::of(**kind, **address).is_none()) {
        Some((_, outside)) => {
            Err(WireError::new("service.addresses", format!("has {outside}, which is not of the plan")))
        }
        None => Ok(addresses),
    }
}

pub(super) fn instance_to_wire(instance: &CallableInstance) -> v1::CallableInstance {
    v1::CallableInstance {
        number: instance.number,
        address: instance.address.into(),
        worker: instance.worker.as_uuid().as_bytes().to_vec(),
        ready: instance.ready,
        weight: instance.weight.get(),
    }
}

pub(super) fn instance_from_wire(wire: v1::CallableInstance) -> Result<CallableInstance, WireError> {
    let address = wire.address.into();
    if StableAddress::of(AddressKind::Instance, address).is_none() {
        return Err(WireError::new("instance.address", format!("is {address}, which is not of the plan")));
    }
    let worker = worker_from_wire("instance.worker", &wire.worker)?;
    let weight = Weight::new(wire.weight);
    Ok(CallableInstance { number: wire.number, address, worker, ready: wire.ready, weight })
}

pub(super) fn peer_to_wire(id: WorkerId, peer: Option<&Peer>) -> v1::NetworkPeer {
    let worker = id.as_uuid().as_bytes().to_vec();
    match peer {
        Some(peer) => v1::NetworkPeer {
            worker,
            address: match peer.way {
                Way::Direct { underlay } => underlay.to_string(),
                Way::Secure { endpoint, .. } => endpoint.ip().to_string(),
            },
            tunnel: match peer.way {
                Way::Direct { .. } => None,
                Way::Secure { endpoint, key, kernel_port, .. } => {
                    Some(TunnelEnd { port: endpoint.port(), key, kernel_port }.into())
                }
            },
            observed: match peer.way {
                Way::Direct { .. } => String::new(),
                Way::Secure { observed, .. } => text_of(observed),
            },
            relay: match peer.way {
                Way::Direct { .. } => String::new(),
                Way::Secure { relay, .. } => text_of(relay),
            },
            lease: Some((&peer.lease).into()),
            gone: false,
        },
        None => v1::NetworkPeer { worker, gone: true, ..v1::NetworkPeer::default() },
    }
}

pub(super) fn peer_from_wire(wire: v1::NetworkPeer) -> Result<(WorkerId, Option<Arc<Peer>>), WireError> {
    let id = worker_from_wire("peer.worker", &wire.worker)?;
    if wire.gone {
        return Ok((id, None));
    }
    let address: IpAddr = parse("peer.address", &wire.address)?;
    let way = match wire.tunnel.map(TunnelEnd::try_from).transpose()? {
        Some(end) => Way::Secure {
            endpoint: reachable("peer.address", SocketAddr::new(address, end.port))?,
            observed: place("peer.observed", &wire.observed)?,
            relay: relay_place("peer.relay", &wire.relay)?,
            key: end.key,
            kernel_port: end.kernel_port,
        },
        None => Way::Direct { underlay: address },
    };
    let lease = required("peer.lease", wire.lease)?.try_into()?;
    Ok((id, Some(Arc::new(Peer { way, lease }))))
}

fn place(field: &'static str, text: &str) -> Result<Option<SocketAddr>, WireError> {
    unless_empty(field, text)?.map(|place| reachable(field, place)).transpose()
}

fn relay_place(field: &'static str, text: &str) -> Result<Option<RelayPlace>, WireError> {
    let relay = unless_empty(field, text)?;
    if let Some(RelayPlace::At(place)) = relay {
        reachable(field, place)?;
    }
    Ok(relay)
}

fn worker_from_wire(field: &'static str, bytes: &[u8]) -> Result<WorkerId, WireError> {
    let id = Uuid::from_slice(bytes).map_err(|error| WireError::new(field, error.to_string()))?;
    Ok(WorkerId::new(id))
}

impl From<TunnelEnd> for v1::TunnelEnd {
    fn from(end: TunnelEnd) -> Self {
        let kernel_port = end.kernel_port.map(Into::into).unwrap_or_default();
        Self { port: end.port.into(), key: end.key.0.to_vec(), kernel_port }
    }
}

impl TryFrom<v1::TunnelEnd> for TunnelEnd {
    type Error = WireError;

    fn try_from(wire: v1::TunnelEnd) -> Result<Self, WireError> {
        let key = key_from_wire("tunnel.key", wire.key)?;
        let kernel_port = Some(narrow("tunnel.kernel_port", wire.kernel_port)?).filter(|port| *port > 0);
        Ok(Self { port: narrow("tunnel.port", wire.port)?, key: TunnelKey(key), kernel_port })
    }
}

/// What a NetManager says first.
#[must_use]
pub fn network_hello(version: &str, reach: Option<&Reach>) -> v1::NetworkToCluster {
    v1::NetworkToCluster {
        version: version.to_owned(),
        address: reach.map(|reach| reach.address.to_string()).unwrap_or_default(),
        tunnel: reach.and_then(|reach| reach.tunnel).map(Into::into),
        mailbox: None,
    }
}

/// What a NetManager says later: where the relay of the root sees its device, while it is to be reached by that.
#[must_use]
pub fn network_mailbox(at_root: Option<SocketAddr>) -> v1::NetworkToCluster {
    let mailbox = Some(v1::Mailbox { at_root: text_of(at_root) });
    v1::NetworkToCluster { mailbox, ..v1::NetworkToCluster::default() }
}

/// Reads what [`network_mailbox`] says.
///
/// # Errors
/// When it is no place where a device can be.
pub fn read_mailbox(mailbox: &v1::Mailbox) -> Result<Option<SocketAddr>, WireError> {
    place("mailbox.at_root", &mailbox.at_root)
}

/// Where the NetManager that says this is reached; `None` when it does not know.
///
/// # Errors
/// When a part of it is not what it should be.
pub fn read_network_hello(hello: v1::NetworkToCluster) -> Result<Option<Reach>, WireError> {
    if hello.address.is_empty() {
        return Ok(None);
    }
    let address = parse("network.address", &hello.address)?;
    let tunnel = hello.tunnel.map(TryInto::try_into).transpose()?;
    Ok(Some(Reach { address, tunnel, observed: None, at_root: None }))
}

#[cfg(test)]
mod tests;

//! What NetManagers are told.

use std::{
    collections::BTreeMap,
    fmt::Display,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    str::FromStr,
    sync::Arc,
};

use model::{
    AddressKind, AllowedCallers, CallableInstance, CallableService, NetworkLease, NetworkNews, Peer, Reach,
    RelayOffer, ServiceId, ServiceNames, SharedService, StableAddress, TunnelEnd, TunnelKey, Way, WorkerId,
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
        peers: news.peers.iter().map(|(id, peer)| peer_to_wire(*id, peer.as_ref())).collect(),
        relay: None,
    }
}

/// A message that offers a relay and tells nothing else.
#[must_use]
pub fn relay_message(offer: &RelayOffer) -> v1::ClusterToNetwork {
    let relay = v1::RelayOffer {
        address: offer.address.map(|address| address.to_string()).unwrap_or_default(),
        port: offer.port.into(),
        session: offer.session,
        key: offer.key.to_vec(),
    };
    v1::ClusterToNetwork { relay: Some(relay), ..v1::ClusterToNetwork::default() }
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
}

/// Takes a message apart.
///
/// # Errors
/// When a part of it is not what it should be; then nothing of it counts.
pub fn read_network_message(message: v1::ClusterToNetwork) -> Result<NetworkMessage, WireError> {
    let services = message.services.into_iter().map(service_from_wire).collect::<Result<_, _>>()?;
    let peers = message.peers.into_iter().map(peer_from_wire).collect::<Result<_, _>>()?;
    let lease = message.lease.map(TryInto::try_into).transpose()?;
    let relay = message.relay.map(relay_from_wire).transpose()?;
    Ok(NetworkMessage { lease, news: NetworkNews { whole: message.whole, services, peers }, relay })
}

fn relay_from_wire(wire: v1::RelayOffer) -> Result<RelayOffer, WireError> {
    Ok(RelayOffer {
        address: unless_empty("relay.address", &wire.address)?,
        port: narrow("relay.port", wire.port)?,
        session: wire.session,
        key: wire.key.try_into().map_err(|_| WireError::new("relay.key", "must be 32 bytes"))?,
    })
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
    let instances = wire.instances.into_iter().map(instance_from_wire).collect::<Result<_, _>>()?;
    Ok((id, Some(Arc::new(CallableService { names, addresses, allowed_callers, instances }))))
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
    }
}

pub(super) fn instance_from_wire(wire: v1::CallableInstance) -> Result<CallableInstance, WireError> {
    let address = wire.address.into();
    if StableAddress::of(AddressKind::Instance, address).is_none() {
        return Err(WireError::new("instance.address", format!("is {address}, which is not of the plan")));
    }
    let worker = worker_from_wire("instance.worker", &wire.worker)?;
    Ok(CallableInstance { number: wire.number, address, worker, ready: wire.ready })
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
                Way::Secure { observed, .. } => observed.map(|place| place.to_string()).unwrap_or_default(),
            },
            relay: match peer.way {
                Way::Direct { .. } => String::new(),
                Way::Secure { relay, .. } => relay.map(|place| place.to_string()).unwrap_or_default(),
            },
            lease: Some((&peer.lease).into()),
            gone: false,
        },
        None => v1::NetworkPeer { worker, gone: true, ..v1::NetworkPeer::default() },
    }
}

pub(super) fn peer_from_wire(wire: v1::NetworkPeer) -> Result<(WorkerId, Option<Peer>), WireError> {
    let id = worker_from_wire("peer.worker", &wire.worker)?;
    if wire.gone {
        return Ok((id, None));
    }
    let address: IpAddr = parse("peer.address", &wire.address)?;
    let way = match wire.tunnel.map(TunnelEnd::try_from).transpose()? {
        Some(end) => {
            let place = |field, text: &str| -> Result<Option<SocketAddr>, WireError> {
                unless_empty(field, text)?.map(|place| reachable(field, place)).transpose()
            };
            Way::Secure {
                endpoint: reachable("peer.address", SocketAddr::new(address, end.port))?,
                observed: place("peer.observed", &wire.observed)?,
                relay: place("peer.relay", &wire.relay)?,
                key: end.key,
                kernel_port: end.kernel_port,
            }
        }
        None => Way::Direct { underlay: address },
    };
    let lease = required("peer.lease", wire.lease)?.try_into()?;
    Ok((id, Some(Peer { way, lease })))
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
        let key = wire.key.try_into().map_err(|_| WireError::new("tunnel.key", "must be 32 bytes"))?;
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
    }
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
    Ok(Some(Reach { address, tunnel, observed: None }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer() -> Peer {
        let way = Way::Secure {
            endpoint: ([10, 0, 0, 2], 50103).into(),
            observed: Some(([198, 51, 100, 7], 4000).into()),
            relay: Some(([203, 0, 113, 1], 50105).into()),
            key: TunnelKey([7; 32]),
            kernel_port: Some(50107),
        };
        Peer { way, lease: NetworkLease { v4: vec![], v6: vec![] } }
    }

    fn worker() -> WorkerId {
        WorkerId::new(Uuid::from_bytes([1; 16]))
    }

    #[test]
    fn all_places_of_a_device_and_its_relay_arrive() {
        let bare = match peer().way {
            Way::Secure { endpoint, key, .. } => {
                Way::Secure { endpoint, observed: None, relay: None, key, kernel_port: None }
            }
            Way::Direct { .. } => panic!("it is encrypted"),
        };
        for peer in [peer(), Peer { way: bare, ..peer() }] {
            assert_eq!(peer_from_wire(peer_to_wire(worker(), Some(&peer))), Ok((worker(), Some(peer))));
        }
    }

    #[test]
    fn places_where_nobody_can_be_are_refused_by_name() {
        for place in ["0.0.0.0:1", "[::]:1", "224.0.0.1:1", "192.0.2.1:0", "192.0.2.1", "nowhere"] {
            let observed =
                v1::NetworkPeer { observed: place.to_owned(), ..peer_to_wire(worker(), Some(&peer())) };
            let error = peer_from_wire(observed).expect_err(place).to_string();
            assert!(error.contains("peer.observed"), "{error}");
            let relay = v1::NetworkPeer { relay: place.to_owned(), ..peer_to_wire(worker(), Some(&peer())) };
            let error = peer_from_wire(relay).expect_err(place).to_string();
            assert!(error.contains("peer.relay"), "{error}");
        }
    }

    #[test]
    fn an_offer_of_a_relay_arrives_whole_or_is_refused() {
        let offer = RelayOffer { address: None, port: 50105, session: 7, key: [7; 32] };
        for offer in [offer.clone(), RelayOffer { address: Some(([203, 0, 113, 1]).into()), ..offer.clone() }]
        {
            let read = read_network_message(relay_message(&offer)).expect("a message");
            assert_eq!((read.lease, read.news, read.relay), (None, NetworkNews::default(), Some(offer)));
        }
        let mut wrong = relay_message(&offer);
        wrong.relay.as_mut().expect("an offer").key.pop();
        assert!(read_network_message(wrong).is_err());
        assert_eq!(format!("{offer:?}"), "RelayOffer(0000000000000007, key withheld)");
    }
}

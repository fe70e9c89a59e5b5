//! What NetManagers are told.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
};

use model::{
    AddressKind, CallableInstance, CallableService, NetworkLease, NetworkNews, Peer, Reach, ServiceId,
    ServiceNames, StableAddress, TunnelEnd, TunnelKey, Way, WorkerId,
};
use uuid::Uuid;

use super::{
    WireError,
    assignment::{addresses_from_wire, addresses_to_wire},
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
    }
}

/// Takes a message apart.
///
/// # Errors
/// When a part of it is not what it should be; then nothing of it counts.
pub fn read_network_message(
    message: v1::ClusterToNetwork,
) -> Result<(Option<NetworkLease>, NetworkNews), WireError> {
    let services = message.services.into_iter().map(service_from_wire).collect::<Result<_, _>>()?;
    let peers = message.peers.into_iter().map(peer_from_wire).collect::<Result<_, _>>()?;
    let lease = message.lease.map(TryInto::try_into).transpose()?;
    Ok((lease, NetworkNews { whole: message.whole, services, peers }))
}

fn service_to_wire(id: ServiceId, service: Option<&CallableService>) -> v1::CallableService {
    let (high, low) = service_to_parts(id);
    let Some(service) = service else {
        return v1::CallableService { high, low, gone: true, ..v1::CallableService::default() };
    };
    v1::CallableService {
        high,
        low,
        application: service.names.application.clone(),
        application_namespace: service.names.application_namespace.clone(),
        service: service.names.service.clone(),
        service_namespace: service.names.service_namespace.clone(),
        addresses: addresses_to_wire(&service.addresses),
        instances: service.instances.iter().map(instance_to_wire).collect(),
        gone: false,
    }
}

fn service_from_wire(
    wire: v1::CallableService,
) -> Result<(ServiceId, Option<Arc<CallableService>>), WireError> {
    let id = service_from_parts(wire.high, wire.low);
    if wire.gone {
        return Ok((id, None));
    }
    let addresses = stable_addresses(&wire.addresses)?;
    let instances = wire.instances.into_iter().map(instance_from_wire).collect::<Result<_, _>>()?;
    let names = ServiceNames {
        application: wire.application,
        application_namespace: wire.application_namespace,
        service: wire.service,
        service_namespace: wire.service_namespace,
    };
    Ok((id, Some(Arc::new(CallableService { names: names.into(), addresses: addresses.into(), instances }))))
}

/// Addresses that are all of the plan.
pub(super) fn stable_addresses(
    wire: &[v1::ServiceAddress],
) -> Result<BTreeMap<AddressKind, Ipv4Addr>, WireError> {
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
                Way::Secure { endpoint, key } => Some(TunnelEnd { port: endpoint.port(), key }.into()),
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
        Some(end) => Way::Secure { endpoint: SocketAddr::new(address, end.port), key: end.key },
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
        Self { port: end.port.into(), key: end.key.0.to_vec() }
    }
}

impl TryFrom<v1::TunnelEnd> for TunnelEnd {
    type Error = WireError;

    fn try_from(wire: v1::TunnelEnd) -> Result<Self, WireError> {
        let key = wire.key.try_into().map_err(|_| WireError::new("tunnel.key", "must be 32 bytes"))?;
        Ok(Self { port: narrow("tunnel.port", wire.port)?, key: TunnelKey(key) })
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
    Ok(Some(Reach { address, tunnel }))
}

//! What NetManagers are told.

use std::sync::Arc;

use model::{
    AddressKind, CallableInstance, CallableService, InstanceId, NetworkLease, NetworkNews, Peer, ServiceId,
    ServiceNames, StableAddress, WorkerId,
};
use uuid::Uuid;

use super::{
    WireError,
    assignment::{addresses_from_wire, addresses_to_wire},
    parse, required,
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
    let v1::InstanceId { service_high: high, service_low: low, .. } =
        InstanceId { service: id, number: 0 }.into();
    let Some(service) = service else {
        return v1::CallableService { high, low, gone: true, ..v1::CallableService::default() };
    };
    let instance = |it: &CallableInstance| v1::CallableInstance {
        number: it.number,
        address: it.address.into(),
        worker: it.worker.as_uuid().as_bytes().to_vec(),
        ready: it.ready,
    };
    v1::CallableService {
        high,
        low,
        application: service.names.application.clone(),
        application_namespace: service.names.application_namespace.clone(),
        service: service.names.service.clone(),
        service_namespace: service.names.service_namespace.clone(),
        addresses: addresses_to_wire(&service.addresses),
        instances: service.instances.iter().map(instance).collect(),
        gone: false,
    }
}

fn service_from_wire(
    wire: v1::CallableService,
) -> Result<(ServiceId, Option<Arc<CallableService>>), WireError> {
    let id = v1::InstanceId { service_high: wire.high, service_low: wire.low, number: 0 };
    let id = InstanceId::from(id).service;
    if wire.gone {
        return Ok((id, None));
    }
    let addresses = addresses_from_wire(&wire.addresses)?;
    for (kind, address) in &addresses {
        if StableAddress::of(*kind, *address).is_none() {
            return Err(WireError::new(
                "service.addresses",
                format!("has {address}, which is not of the plan"),
            ));
        }
    }
    let instances = wire.instances.into_iter().map(instance_from_wire).collect::<Result<_, _>>()?;
    let names = ServiceNames {
        application: wire.application,
        application_namespace: wire.application_namespace,
        service: wire.service,
        service_namespace: wire.service_namespace,
    };
    Ok((id, Some(Arc::new(CallableService { names: names.into(), addresses: addresses.into(), instances }))))
}

fn instance_from_wire(wire: v1::CallableInstance) -> Result<CallableInstance, WireError> {
    let address = wire.address.into();
    if StableAddress::of(AddressKind::Instance, address).is_none() {
        return Err(WireError::new("instance.address", format!("is {address}, which is not of the plan")));
    }
    let worker = worker_from_wire("instance.worker", &wire.worker)?;
    Ok(CallableInstance { number: wire.number, address, worker, ready: wire.ready })
}

fn peer_to_wire(id: WorkerId, peer: Option<&Peer>) -> v1::NetworkPeer {
    let worker = id.as_uuid().as_bytes().to_vec();
    match peer {
        Some(peer) => v1::NetworkPeer {
            worker,
            underlay: peer.underlay.to_string(),
            lease: Some((&peer.lease).into()),
            gone: false,
        },
        None => v1::NetworkPeer { worker, gone: true, ..v1::NetworkPeer::default() },
    }
}

fn peer_from_wire(wire: v1::NetworkPeer) -> Result<(WorkerId, Option<Peer>), WireError> {
    let id = worker_from_wire("peer.worker", &wire.worker)?;
    if wire.gone {
        return Ok((id, None));
    }
    let underlay = parse("peer.underlay", &wire.underlay)?;
    let lease = required("peer.lease", wire.lease)?.try_into()?;
    Ok((id, Some(Peer { underlay, lease })))
}

fn worker_from_wire(field: &'static str, bytes: &[u8]) -> Result<WorkerId, WireError> {
    let id = Uuid::from_slice(bytes).map_err(|error| WireError::new(field, error.to_string()))?;
    Ok(WorkerId::new(id))
}

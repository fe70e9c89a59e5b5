//! Assignments and the specifications in them.

use std::{collections::BTreeMap, net::Ipv4Addr, sync::Arc};

use model::{
    AddedFile, AddressKind, AllowedCallers, AssignedInstance, AssignedService, Assignment, Desired,
    DirectConstraint, DistanceConstraint, Generation, Microdegrees, NetworkLease, PortMapping, Protocol,
    RevisionId, ServiceNames, ServiceSpec, Span, Virtualization,
};

use super::{WireError, narrow, parse, required, secrets};
use crate::v1;

impl From<&Assignment> for v1::Assignment {
    fn from(assignment: &Assignment) -> Self {
        Self {
            generation: assignment.generation.0,
            services: assignment
                .services
                .iter()
                .map(|(id, service)| v1::AssignedService {
                    id: id.service.to_string(),
                    revision: id.number,
                    application: service.names.application.clone(),
                    application_namespace: service.names.application_namespace.clone(),
                    service: service.names.service.clone(),
                    service_namespace: service.names.service_namespace.clone(),
                    spec: Some((&*service.spec).into()),
                    addresses: addresses_to_wire(&service.addresses),
                    allowed_callers: callers_to_wire(&service.allowed_callers),
                })
                .collect(),
            instances: assignment.instances.iter().map(|instance| (*instance).into()).collect(),
            network: assignment.network.as_ref().map(Into::into),
            secrets: secrets::to_wire(&assignment.secrets),
        }
    }
}

impl TryFrom<v1::Assignment> for Assignment {
    type Error = WireError;

    fn try_from(wire: v1::Assignment) -> Result<Self, WireError> {
        let mut services = BTreeMap::new();
        for service in wire.services {
            let assigned = AssignedService {
                names: Arc::new(ServiceNames {
                    application: service.application,
                    application_namespace: service.application_namespace,
                    service: service.service,
                    service_namespace: service.service_namespace,
                }),
                spec: Arc::new(required("service.spec", service.spec)?.try_into()?),
                addresses: Arc::new(addresses_from_wire(&service.addresses)?),
                allowed_callers: Arc::new(callers_from_wire(&service.allowed_callers)?),
            };
            let id = RevisionId { service: parse("service.id", &service.id)?, number: service.revision };
            services.insert(id, assigned);
        }
        let instances = wire
            .instances
            .into_iter()
            .map(TryInto::try_into)
            .collect::<Result<Vec<AssignedInstance>, _>>()?;
        if let Some(orphan) = instances.iter().find(|instance| {
            instance.desired == Desired::Running && !services.contains_key(&instance.revision_id())
        }) {
            return Err(WireError::new("assignment.instances", format!("{} has no service", orphan.id)));
        }
        Ok(Self {
            generation: Generation(wire.generation),
            services,
            instances,
            network: wire.network.map(TryInto::try_into).transpose()?,
            secrets: Arc::new(secrets::from_wire(wire.secrets)?),
        })
    }
}

/// On the wire an address that is no policy's has no place.
fn policy_of(kind: AddressKind) -> Option<v1::BalancingPolicy> {
    match kind {
        AddressKind::Instance => None,
        AddressKind::RoundRobin => Some(v1::BalancingPolicy::RoundRobin),
        AddressKind::Closest => Some(v1::BalancingPolicy::Closest),
        AddressKind::LeastUsed => Some(v1::BalancingPolicy::LeastUsed),
        AddressKind::Affinity => Some(v1::BalancingPolicy::Affinity),
    }
}

pub(super) fn addresses_to_wire(addresses: &BTreeMap<AddressKind, Ipv4Addr>) -> Vec<v1::ServiceAddress> {
    let written = addresses.iter().filter_map(|(kind, v4)| Some((policy_of(*kind)?, u32::from(*v4))));
    written.map(|(policy, v4)| v1::ServiceAddress { policy: policy.into(), v4 }).collect()
}

pub(super) fn addresses_from_wire(
    wire: &[v1::ServiceAddress],
) -> Result<BTreeMap<AddressKind, Ipv4Addr>, WireError> {
    let read = |address: &v1::ServiceAddress| {
        let kind = match address.policy() {
            v1::BalancingPolicy::RoundRobin => AddressKind::RoundRobin,
            v1::BalancingPolicy::Closest => AddressKind::Closest,
            v1::BalancingPolicy::LeastUsed => AddressKind::LeastUsed,
            v1::BalancingPolicy::Affinity => AddressKind::Affinity,
            v1::BalancingPolicy::Unspecified => {
                return Err(WireError::new("address.policy", format!("is unknown: {}", address.policy)));
            }
        };
        Ok((kind, Ipv4Addr::from(address.v4)))
    };
    wire.iter().map(read).collect()
}

pub(super) fn callers_to_wire(callers: &AllowedCallers) -> Vec<String> {
    callers.iter().map(ToString::to_string).collect()
}

pub(super) fn callers_from_wire(wire: &[String]) -> Result<AllowedCallers, WireError> {
    wire.iter().map(|caller| parse("service.allowed_callers", caller)).collect()
}

impl From<AssignedInstance> for v1::AssignedInstance {
    fn from(instance: AssignedInstance) -> Self {
        Self {
            id: Some(instance.id.into()),
            revision: instance.revision,
            generation: instance.generation.0,
            desired: match instance.desired {
                Desired::Running => v1::Desired::Running,
                Desired::Removed => v1::Desired::Removed,
            }
            .into(),
            address: instance.address.map_or(0, u32::from),
        }
    }
}

impl TryFrom<v1::AssignedInstance> for AssignedInstance {
    type Error = WireError;

    fn try_from(wire: v1::AssignedInstance) -> Result<Self, WireError> {
        let desired = match wire.desired() {
            v1::Desired::Running => Desired::Running,
            v1::Desired::Removed => Desired::Removed,
            // Not understood is not removed: refuse the whole message instead.
            v1::Desired::Unspecified => {
                return Err(WireError::new("instance.desired", format!("is unknown: {}", wire.desired)));
            }
        };
        Ok(Self {
            id: required("instance.id", wire.id)?.into(),
            revision: wire.revision,
            generation: Generation(wire.generation),
            desired,
            address: (wire.address != 0).then(|| Ipv4Addr::from(wire.address)),
        })
    }
}

impl From<&NetworkLease> for v1::NetworkLease {
    fn from(lease: &NetworkLease) -> Self {
        Self {
            v4: lease.v4.iter().map(ToString::to_string).collect(),
            v6: lease.v6.iter().map(ToString::to_string).collect(),
        }
    }
}

impl TryFrom<v1::NetworkLease> for NetworkLease {
    type Error = WireError;

    fn try_from(wire: v1::NetworkLease) -> Result<Self, WireError> {
        if wire.v4.len() != wire.v6.len() {
            return Err(WireError::new("network", "has unequal numbers of IPv4 and IPv6 ranges"));
        }
        Ok(Self {
            v4: wire.v4.iter().map(|range| parse("network.v4", range)).collect::<Result<_, _>>()?,
            v6: wire.v6.iter().map(|range| parse("network.v6", range)).collect::<Result<_, _>>()?,
        })
    }
}

impl From<&ServiceSpec> for v1::ServiceSpec {
    fn from(spec: &ServiceSpec) -> Self {
        Self {
            image: spec.image.clone(),
            virtualization: match spec.virtualization {
                Virtualization::Container => v1::Virtualization::Container,
            }
            .into(),
            resources: Some(spec.resources.into()),
            command: spec.command.clone(),
            environment: spec.environment.iter().map(|(name, value)| (name.clone(), value.clone())).collect(),
            ports: spec
                .ports
                .iter()
                .map(|port| v1::PortMapping {
                    host: port.host.into(),
                    container: port.container.into(),
                    protocol: match port.protocol {
                        Protocol::Tcp => v1::Protocol::Tcp,
                        Protocol::Udp => v1::Protocol::Udp,
                    }
                    .into(),
                })
                .collect(),
            entry_point: spec.entry_point.clone(),
            one_shot: spec.one_shot,
            single_attempt: spec.single_attempt,
            privileged: spec.privileged,
            added_files: spec
                .added_files
                .iter()
                .map(|file| v1::AddedFile {
                    path: file.path.clone(),
                    content: file.content.clone(),
                    mode: file.mode,
                })
                .collect(),
            constraints: spec
                .constraints
                .iter()
                .map(|constraint| v1::DirectConstraint {
                    clusters: constraint.clusters.clone(),
                    nodes: constraint.nodes.clone(),
                })
                .collect(),
            survival: Some(spec.survival.into()),
            health: Some((&spec.health).into()),
            drain_millis: spec.drain.as_millis(),
            secrets: spec.secrets.iter().map(Into::into).collect(),
            image_pull_secret: spec.image_pull_secret.as_ref().map(Into::into),
            distances: spec
                .distances
                .iter()
                .map(|distance| v1::DistanceConstraint {
                    latitude_microdegrees: distance.latitude.0,
                    longitude_microdegrees: distance.longitude.0,
                    within_metres: distance.within_metres,
                })
                .collect(),
            architectures: spec.architectures.iter().cloned().collect(),
        }
    }
}

impl TryFrom<v1::ServiceSpec> for ServiceSpec {
    type Error = WireError;

    fn try_from(wire: v1::ServiceSpec) -> Result<Self, WireError> {
        let virtualization = match wire.virtualization() {
            v1::Virtualization::Container => Virtualization::Container,
            v1::Virtualization::Unspecified => {
                return Err(WireError::new(
                    "spec.virtualization",
                    format!("is unknown: {}", wire.virtualization),
                ));
            }
        };
        let ports = wire.ports.into_iter().map(TryInto::try_into).collect::<Result<Vec<PortMapping>, _>>()?;
        Ok(Self {
            image: wire.image,
            virtualization,
            resources: wire.resources.unwrap_or_default().into(),
            entry_point: wire.entry_point,
            command: wire.command,
            environment: wire.environment.into_iter().collect(),
            ports,
            one_shot: wire.one_shot,
            single_attempt: wire.single_attempt,
            privileged: wire.privileged,
            added_files: wire
                .added_files
                .into_iter()
                .map(|file| AddedFile { path: file.path, content: file.content, mode: file.mode })
                .collect(),
            constraints: wire
                .constraints
                .into_iter()
                .map(|constraint| DirectConstraint { clusters: constraint.clusters, nodes: constraint.nodes })
                .collect(),
            distances: wire
                .distances
                .into_iter()
                .map(|distance| DistanceConstraint {
                    latitude: Microdegrees(distance.latitude_microdegrees),
                    longitude: Microdegrees(distance.longitude_microdegrees),
                    within_metres: distance.within_metres,
                })
                .collect(),
            architectures: wire.architectures.into_iter().collect(),
            survival: required("spec.survival", wire.survival)?.try_into()?,
            health: wire.health.unwrap_or_default().try_into()?,
            drain: Span::from_millis(wire.drain_millis),
            secrets: wire.secrets.into_iter().map(TryInto::try_into).collect::<Result<_, _>>()?,
            image_pull_secret: wire.image_pull_secret.map(TryInto::try_into).transpose()?,
        })
    }
}

impl TryFrom<v1::PortMapping> for PortMapping {
    type Error = WireError;

    fn try_from(wire: v1::PortMapping) -> Result<Self, WireError> {
        let protocol = match wire.protocol() {
            v1::Protocol::Tcp => Protocol::Tcp,
            v1::Protocol::Udp => Protocol::Udp,
            v1::Protocol::Unspecified => {
                return Err(WireError::new("port.protocol", format!("is unknown: {}", wire.protocol)));
            }
        };
        Ok(Self {
            host: narrow("port.host", wire.host)?,
            container: narrow("port.container", wire.container)?,
            protocol,
        })
    }
}

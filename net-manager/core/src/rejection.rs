//! Why NetManager does not grant a wish.

use std::net::Ipv4Addr;

use addressing::Exhausted;
use model::{Generation, InstanceId, PortMapping};

/// Why a wish is not granted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Rejection {
    /// The cluster has lent nothing yet.
    #[error(
        "bad network received: this worker has no subnet, because its cluster has lent it none; check that NetManager is \
         connected to the cluster and that the cluster has an address block from the root"
    )]
    NoSubnet,
    /// A lease without a range of each family.
    #[error(
        "bad network received: the cluster's lease names no IPv4 or no IPv6 range; check that its orchestrator and \
         NetManager are of one version"
    )]
    EmptyLease,
    /// No address is left.
    #[error(transparent)]
    Full(#[from] Exhausted),
    /// Somebody else has the port.
    #[error("port {}/{} of this device is taken by instance {holder}; use another port or remove that instance", port.host, port.protocol)]
    PortConflict {
        /// The mapping that was asked for.
        port: PortMapping,
        /// Who has its port.
        holder: InstanceId,
    },
    /// The request itself names a port twice.
    #[error("port {}/{} is mapped twice by the same instance; keep one of the mappings", .0.host, .0.protocol)]
    RepeatedPort(PortMapping),
    /// Not an address for instances.
    #[error("{0} is not an address for instances: they are 10.30.0.1 to 10.31.255.254")]
    NotAnAddress(Ipv4Addr),
    /// Somebody else has the address.
    #[error("address {address} is that of instance {holder}, which is attached; detach that instance first")]
    AddressConflict {
        /// The address that was asked for.
        address: Ipv4Addr,
        /// Who has it.
        holder: InstanceId,
    },
    /// Somebody speaks of an earlier placement.
    #[error("instance {id} is attached with generation {held}, which is newer than {asked}")]
    OlderGeneration {
        /// Which instance.
        id: InstanceId,
        /// What is attached.
        held: Generation,
        /// What was asked for.
        asked: Generation,
    },
}

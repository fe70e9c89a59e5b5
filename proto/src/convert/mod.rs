//! Wire ⇄ model. From the model it cannot fail; from the wire every value is checked and the error names the field.

mod assignment;
mod certificate;
mod neighbours;
mod network;
mod policy;
mod report;
mod secrets;
mod upkeep;

use model::{Capability, InstanceId, Resources, ServiceId};

use crate::v1;

pub use network::{
    NetworkMessage, NetworkReader, network_hello, network_mailbox, network_message, read_mailbox,
    read_network_hello, relay_message,
};

/// A message that breaks the protocol.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("message from the peer is not valid: {field} {problem}")]
pub struct WireError {
    field: &'static str,
    problem: String,
}

impl WireError {
    fn new(field: &'static str, problem: impl Into<String>) -> Self {
        Self { field, problem: problem.into() }
    }

    /// A field that must be there is not.
    #[must_use]
    pub fn missing(field: &'static str) -> Self {
        Self::new(field, "is missing")
    }
}

impl From<WireError> for tonic::Status {
    fn from(error: WireError) -> Self {
        Self::invalid_argument(error.to_string())
    }
}

pub(crate) fn required<T>(field: &'static str, value: Option<T>) -> Result<T, WireError> {
    value.ok_or_else(|| WireError::missing(field))
}

pub(crate) fn parse<T: std::str::FromStr>(field: &'static str, text: &str) -> Result<T, WireError>
where
    T::Err: std::fmt::Display,
{
    text.parse().map_err(|error: T::Err| WireError::new(field, error.to_string()))
}

pub(crate) fn narrow<T: TryFrom<u32>>(field: &'static str, value: u32) -> Result<T, WireError> {
    T::try_from(value).map_err(|_| WireError::new(field, format!("is out of range: {value}")))
}

impl From<Resources> for v1::Resources {
    fn from(resources: Resources) -> Self {
        Self {
            cpu_millicores: resources.cpu.0,
            memory_mebibytes: resources.memory.0,
            storage_mebibytes: resources.storage.0,
            gpus: resources.gpus,
        }
    }
}

impl From<v1::Resources> for Resources {
    fn from(wire: v1::Resources) -> Self {
        Self {
            cpu: model::Millicores(wire.cpu_millicores),
            memory: model::Mebibytes(wire.memory_mebibytes),
            storage: model::Mebibytes(wire.storage_mebibytes),
            gpus: wire.gpus,
        }
    }
}

/// The twelve bytes of a service's id as two numbers.
pub(crate) fn service_to_parts(id: ServiceId) -> (u64, u32) {
    let [a, b, c, d, e, f, g, h, i, j, k, l] = id.to_bytes();
    (u64::from_be_bytes([a, b, c, d, e, f, g, h]), u32::from_be_bytes([i, j, k, l]))
}

pub(crate) fn service_from_parts(high: u64, low: u32) -> ServiceId {
    let [a, b, c, d, e, f, g, h] = high.to_be_bytes();
    let [i, j, k, l] = low.to_be_bytes();
    ServiceId::from_bytes([a, b, c, d, e, f, g, h, i, j, k, l])
}

impl From<InstanceId> for v1::InstanceId {
    fn from(id: InstanceId) -> Self {
        let (service_high, service_low) = service_to_parts(id.service);
        Self { service_high, service_low, number: id.number }
    }
}

impl From<v1::InstanceId> for InstanceId {
    fn from(wire: v1::InstanceId) -> Self {
        Self { service: service_from_parts(wire.service_high, wire.service_low), number: wire.number }
    }
}

impl From<Capability> for v1::Capability {
    fn from(capability: Capability) -> Self {
        match capability {
            Capability::Container => Self::Container,
            Capability::Overlay => Self::Overlay,
        }
    }
}

/// Capabilities that this version does not know are of no use to it and are left out.
pub(crate) fn known_capabilities(wire: &[i32]) -> Vec<Capability> {
    wire.iter()
        .filter_map(|number| match v1::Capability::try_from(*number) {
            Ok(v1::Capability::Container) => Some(Capability::Container),
            Ok(v1::Capability::Overlay) => Some(Capability::Overlay),
            Ok(v1::Capability::Unspecified) | Err(_) => None,
        })
        .collect()
}

pub(crate) fn wire_capabilities(capabilities: &[Capability]) -> Vec<i32> {
    capabilities.iter().map(|capability| v1::Capability::from(*capability).into()).collect()
}

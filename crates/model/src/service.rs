//! What a user asks for: one service of an application, as every tier understands it.
//!
//! The SLA document it is parsed from is known only to the root (`root-orchestrator/core/src/sla`).

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    str::FromStr,
};

use serde::{Deserialize, Serialize};

use crate::{
    DistanceConstraint, Health, ImagePullSecret, Mebibytes, Millicores, Resources, SecretUse,
    SecretVersionId, Span, Survival,
};

/// What one copy of a service needs to run. The same on every tier.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceSpec {
    /// OCI image reference.
    pub image: String,
    /// How it is run.
    pub virtualization: Virtualization,
    /// What each instance reserves, and is limited to (processor and memory).
    pub resources: Resources,
    /// Replaces the image's entry point when not empty; the command of the image does not count then either.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub entry_point: Vec<String>,
    /// Replaces the image's command when not empty.
    pub command: Vec<String>,
    /// Variables by name.
    pub environment: BTreeMap<String, String>,
    /// Ports of the device that lead to ports of the instance.
    pub ports: Vec<PortMapping>,
    /// Ends by itself; exit 0 is success and is not restarted.
    pub one_shot: bool,
    /// A one-shot that is not started again whatever it ended with. For who counts its attempts.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub single_attempt: bool,
    /// Runs with all privileges on its device.
    pub privileged: bool,
    /// Files put into the instance before it starts.
    pub added_files: Vec<AddedFile>,
    /// Where it may run; all of them must hold.
    pub constraints: Vec<DirectConstraint>,
    /// How far from places it may run; all of them must hold. Decided by the root.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub distances: Vec<DistanceConstraint>,
    /// Processor architectures as container images name them, any of which will do; none do not constrain.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub architectures: BTreeSet<String>,
    /// What happens when its device or cluster is cut off.
    #[serde(default)]
    pub survival: Survival,
    /// How it is found out whether it works.
    #[serde(default)]
    pub health: Health,
    /// How long connections to an instance that is to be removed may take to end.
    #[serde(default)]
    pub drain: Span,
    /// Secrets that instances are given.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub secrets: Vec<SecretUse>,
    /// What the image is fetched with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_pull_secret: Option<ImagePullSecret>,
}

impl ServiceSpec {
    /// A container of `image` that reserves nothing; a base for tests and builders.
    #[must_use]
    pub fn container(image: impl Into<String>) -> Self {
        Self {
            image: image.into(),
            virtualization: Virtualization::Container,
            resources: Resources::default(),
            entry_point: Vec::new(),
            command: Vec::new(),
            environment: BTreeMap::new(),
            ports: Vec::new(),
            one_shot: false,
            single_attempt: false,
            privileged: false,
            added_files: Vec::new(),
            constraints: Vec::new(),
            distances: Vec::new(),
            architectures: BTreeSet::new(),
            survival: Survival::default(),
            health: Health::default(),
            drain: Span::default(),
            secrets: Vec::new(),
            image_pull_secret: None,
        }
    }

    /// The versions of secrets that whoever runs it needs.
    pub fn secret_versions(&self) -> impl Iterator<Item = SecretVersionId> {
        let mounted = self.secrets.iter().map(|secret| secret.version);
        mounted.chain(self.image_pull_secret.as_ref().map(|secret| secret.version))
    }

    /// The same as [`ServiceSpec::secret_versions`], to be replaced by others.
    pub fn secret_versions_mut(&mut self) -> impl Iterator<Item = &mut SecretVersionId> {
        let mounted = self.secrets.iter_mut().map(|secret| &mut secret.version);
        mounted.chain(self.image_pull_secret.as_mut().map(|secret| &mut secret.version))
    }

    /// The same with a reservation of processor and memory.
    #[must_use]
    pub const fn reserving(mut self, cpu: Millicores, memory: Mebibytes) -> Self {
        self.resources.cpu = cpu;
        self.resources.memory = memory;
        self
    }

    /// Whether one of these processor architectures will do.
    #[must_use]
    pub fn runs_on(&self, architectures: &[String]) -> bool {
        self.architectures.is_empty() || architectures.iter().any(|has| self.architectures.contains(has))
    }

    /// The architectures that will do, in words: `amd64 or arm64`.
    #[must_use]
    pub fn architectures_in_words(&self) -> String {
        self.architectures.iter().map(String::as_str).collect::<Vec<_>>().join(" or ")
    }

    /// Device ports claimed by two mappings of this service, if any.
    #[must_use]
    pub fn port_clash(&self) -> Option<PortMapping> {
        self.ports
            .iter()
            .enumerate()
            .find(|(index, port)| self.ports[..*index].iter().any(|earlier| earlier.clashes_with(port)))
            .map(|(_, port)| *port)
    }
}

/// The four names that make up a service's full name `application.namespace.service.namespace`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ServiceNames {
    /// Application name.
    pub application: String,
    /// Application namespace.
    pub application_namespace: String,
    /// Service name.
    pub service: String,
    /// Service namespace.
    pub service_namespace: String,
}

impl fmt::Display for ServiceNames {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}.{}.{}.{}",
            self.application, self.application_namespace, self.service, self.service_namespace
        )
    }
}

/// How an instance is executed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Virtualization {
    /// An OCI container.
    Container,
}

/// Something a worker can do that a service may require. A cluster has those of all its workers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Capability {
    /// Runs OCI containers.
    Container,
    /// Gives instances addresses of their own through NetManager.
    Overlay,
}

impl Capability {
    /// Every capability, in the order of their bits.
    pub const ALL: [Self; 2] = [Self::Container, Self::Overlay];

    /// The bit that stands for this capability in a compact set.
    #[must_use]
    pub const fn bit(self) -> u64 {
        1 << self as u64
    }
}

/// The constraint `direct`: names the user chose. Empty lists do not constrain.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct DirectConstraint {
    /// Names of clusters, any of which will do. Decided by the root.
    pub clusters: Vec<String>,
    /// Names of workers, any of which will do. Decided by the cluster.
    pub nodes: Vec<String>,
}

/// A file with its content.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AddedFile {
    /// Absolute path inside the instance.
    pub path: String,
    /// Content, as it will be written.
    pub content: String,
    /// Permission bits.
    pub mode: u32,
}

/// Transport protocol of a port mapping.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// Transmission Control Protocol.
    Tcp,
    /// User Datagram Protocol.
    Udp,
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        })
    }
}

/// A port of the device that leads to a port of the instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct PortMapping {
    /// Port on the device, 1 to 65535.
    pub host: u16,
    /// Port inside the instance, 1 to 65535.
    pub container: u16,
    /// Which protocol.
    pub protocol: Protocol,
}

impl PortMapping {
    /// Whether both claim the same port of a device.
    #[must_use]
    pub fn clashes_with(&self, other: &Self) -> bool {
        self.host == other.host && self.protocol == other.protocol
    }

    /// Parses Oakestra's list form `host[:container][/tcp|/udp]`, joined by `;`. The protocol defaults to tcp,
    /// the container port to the host port; an empty text is no mapping.
    ///
    /// # Errors
    /// The first entry that is not of that form, with what was expected.
    pub fn parse_list(text: &str) -> Result<Vec<Self>, PortMappingError> {
        text.split(';').map(str::trim).filter(|entry| !entry.is_empty()).map(str::parse).collect()
    }
}

impl fmt::Display for PortMapping {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}/{}", self.host, self.container, self.protocol)
    }
}

/// A text that is not a port mapping.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a port mapping: expected `host[:container][/tcp or /udp]` with ports from 1 to 65535")]
pub struct PortMappingError(String);

impl FromStr for PortMapping {
    type Err = PortMappingError;

    fn from_str(text: &str) -> Result<Self, PortMappingError> {
        let wrong = || PortMappingError(text.to_owned());
        let (ports, protocol) = match text.split_once('/') {
            None => (text, Protocol::Tcp),
            Some((ports, "tcp")) => (ports, Protocol::Tcp),
            Some((ports, "udp")) => (ports, Protocol::Udp),
            Some(_) => return Err(wrong()),
        };
        let (host, container) = ports.split_once(':').unwrap_or((ports, ports));
        let port = |digits: &str| match digits.parse::<u16>() {
            Ok(port) if port > 0 && digits.bytes().all(|byte| byte.is_ascii_digit()) => Ok(port),
            Ok(_) | Err(_) => Err(wrong()),
        };
        Ok(Self { host: port(host)?, container: port(container)?, protocol })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn port_lists_follow_the_documented_grammar() {
        assert_eq!(
            PortMapping::parse_list("8080:80/tcp;53/udp;443"),
            Ok(vec![
                PortMapping { host: 8080, container: 80, protocol: Protocol::Tcp },
                PortMapping { host: 53, container: 53, protocol: Protocol::Udp },
                PortMapping { host: 443, container: 443, protocol: Protocol::Tcp },
            ])
        );
        assert_eq!(PortMapping::parse_list(""), Ok(vec![]));
    }

    #[test]
    fn wrong_port_mappings_are_refused() {
        for text in ["0", "65536", "80:", ":80", "80/sctp", "a:b", "+80", "80:80:80", "80/tcp/udp"] {
            assert_eq!(text.parse::<PortMapping>(), Err(PortMappingError(text.to_owned())), "{text}");
        }
    }

    #[test]
    fn two_mappings_of_one_device_port_clash() {
        let mut spec = ServiceSpec::container("image");
        spec.ports = PortMapping::parse_list("80:1;80:2/udp;81;80:3").expect("well formed");
        assert_eq!(spec.port_clash(), Some(PortMapping { host: 80, container: 3, protocol: Protocol::Tcp }));
    }
}

//! The cable between the device and one instance.

use std::{collections::BTreeMap, fmt, net::IpAddr};

use addressing::InstanceAddresses;
use model::{InstanceId, StableAddress};
use serde::{Deserialize, Serialize};

/// The name of the device's end of a cable: `mgv` and twelve hexadecimal digits, the longest the kernel takes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct LinkName(String);

impl LinkName {
    /// What every name begins with. Rules match it as `mgv*`.
    pub const PREFIX: &str = "mgv";

    /// The name for an instance: always the same, so that a restart finds its cable again.
    #[must_use]
    pub fn of(instance: InstanceId) -> Self {
        // 48 of the 64 bits: for the 61 instances of a worker a clash has odds of one in 150 billion.
        Self(format!("{}{:012x}", Self::PREFIX, fnv1a(&instance.to_string()) >> 16))
    }

    /// A name read from the kernel; `None` when it is not one of ours.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        let digits = name.strip_prefix(Self::PREFIX)?;
        let ours = digits.len() == 12 && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
        ours.then(|| Self(name.to_owned()))
    }

    /// The name as the kernel knows it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for LinkName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// FNV-1a, 64 bits: small and the same on every build. Names need spread, not secrecy.
fn fnv1a(text: &str) -> u64 {
    text.bytes()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

/// A network namespace: where it is found, and which one was found there.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Namespace {
    /// Such as `/proc/123/ns/net`.
    pub path: String,
    /// Its inode, because after the process ended the same path may lead to another namespace.
    pub inode: u64,
}

/// One cable as it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkPlan {
    /// The device's end.
    pub name: LinkName,
    /// Whose it is.
    pub instance: InstanceId,
    /// Where the other end, `eth0`, is.
    pub namespace: Namespace,
    /// The addresses of the other end.
    pub addresses: InstanceAddresses,
    /// More of them: those the instance keeps wherever it runs.
    pub stable: Option<StableAddress>,
    /// Whether those lead here, and are what the instance calls others from; see `presence.rs`.
    pub at_home: bool,
    /// The device's own addresses, from which it speaks to the instance.
    pub gateway: InstanceAddresses,
}

impl LinkPlan {
    /// The alias written on the device's end as the last step of making it. A cable that carries another mark, or
    /// none, is not this one or was not finished.
    #[must_use]
    pub fn mark(&self) -> String {
        let stable = self.stable.map(|stable| format!(" {}", stable.v4)).unwrap_or_default();
        format!("mangrove {} {}{stable}", self.instance, self.namespace.inode)
    }

    /// The addresses that the instance calls other instances from.
    #[must_use]
    pub fn caller(&self) -> InstanceAddresses {
        let stable = self.stable.filter(|_| self.at_home);
        stable.map_or(self.addresses, |stable| InstanceAddresses { v4: stable.v4, v6: stable.v6 })
    }

    /// The host routes that lead into the cable, each with the source address the device uses.
    #[must_use]
    pub fn routes(&self) -> BTreeMap<IpAddr, IpAddr> {
        let stable = self.stable.filter(|_| self.at_home);
        let stable = stable.map(|stable| stable.all()).into_iter().flatten();
        let gateway = |to: IpAddr| if to.is_ipv4() { self.gateway.v4.into() } else { self.gateway.v6.into() };
        self.addresses.all().into_iter().chain(stable).map(|to| (to, gateway(to))).collect()
    }
}

#[cfg(test)]
mod tests {
    use model::ServiceId;

    use super::*;

    #[test]
    fn a_link_name_fits_the_kernel_and_is_told_from_others() {
        let name = LinkName::of(InstanceId { service: ServiceId::from_bytes([0xab; 12]), number: 3 });
        assert_eq!(name.as_str(), "mgv8cdcd5e8ac8c");
        assert_eq!(LinkName::parse(name.as_str()), Some(name));
        for foreign in ["mgv", "mgv0", "mgvxxxxxxxxxxxx", "eth0", "veth8cdcd5e8ac8c"] {
            assert_eq!(LinkName::parse(foreign), None, "{foreign}");
        }
    }
}

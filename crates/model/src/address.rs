//! The stable addresses of services and instances: what they are. Which are in use is the business of
//! `addressing::StablePlan`.
//!
//! ```text
//!   10.30.0.1 – 10.31.255.254      both families always, paired: the v4 address and the kind say which v6 address
//!   fdff:0000::/21 instances       fdff:1000::/21 closest           fdff:2000::/21 round-robin
//!   fdff:3000::/21 least used      fdff:4000::/21 affinity
//! ```

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde::{Deserialize, Serialize};

/// 10.30.0.0.
const FIRST_V4: u32 = u32::from_be_bytes([10, 30, 0, 0]);

/// What an address stands for. Decides how connections to it are spread, and the range of its IPv6 address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AddressKind {
    /// One instance, wherever it is.
    Instance,
    /// The instances that answer soonest.
    Closest,
    /// Each instance in turn.
    RoundRobin,
    /// Instances with much to spare more often than others.
    LeastUsed,
    /// The same instance for the same caller.
    Affinity,
}

impl AddressKind {
    /// Those a service has one address of each.
    pub const OF_A_SERVICE: [Self; 4] = [Self::RoundRobin, Self::Closest, Self::LeastUsed, Self::Affinity];

    /// The second 16 bits of the IPv6 address.
    const fn range(self) -> u128 {
        match self {
            Self::Instance => 0x0000,
            Self::Closest => 0x1000,
            Self::RoundRobin => 0x2000,
            Self::LeastUsed => 0x3000,
            Self::Affinity => 0x4000,
        }
    }

    /// The word for it, in documents and on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Instance => "instance",
            Self::Closest => "closest",
            Self::RoundRobin => "round_robin",
            Self::LeastUsed => "least_used",
            Self::Affinity => "affinity",
        }
    }
}

/// An address in both families, told by the first and the kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StableAddress {
    /// From 10.30.0.1 to 10.31.255.254.
    pub v4: Ipv4Addr,
    /// Within fdff::/16.
    pub v6: Ipv6Addr,
}

impl StableAddress {
    /// How many there are: two /16, whose first and last address stay free, as some programs take them for a network's
    /// own.
    pub const COUNT: u32 = (2 << 16) - 2;

    /// The pair that belongs to an IPv4 address, whoever has it; `None` for one that is not of the plan.
    #[must_use]
    pub fn of(kind: AddressKind, v4: Ipv4Addr) -> Option<Self> {
        slot_of(v4).map(|slot| Self::at(kind, slot))
    }

    /// Both, IPv4 first.
    #[must_use]
    pub const fn all(&self) -> [IpAddr; 2] {
        [IpAddr::V4(self.v4), IpAddr::V6(self.v6)]
    }

    /// The pair at a place from 1 to [`StableAddress::COUNT`].
    #[must_use]
    pub fn at(kind: AddressKind, slot: u32) -> Self {
        let v6 = 0xfdff << 112 | kind.range() << 96 | u128::from(slot);
        Self { v4: Ipv4Addr::from(FIRST_V4 + slot), v6: Ipv6Addr::from(v6) }
    }
}

/// The place of an address, from 1 to [`StableAddress::COUNT`].
#[must_use]
pub fn slot_of(v4: Ipv4Addr) -> Option<u32> {
    u32::from(v4).checked_sub(FIRST_V4).filter(|slot| (1..=StableAddress::COUNT).contains(slot))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_families_go_together_and_the_kind_is_seen_in_ipv6() {
        let second = "10.30.0.2".parse().expect("an address");
        let pair = |kind| StableAddress::of(kind, second).map(|address| address.v6.to_string());
        assert_eq!(pair(AddressKind::RoundRobin).as_deref(), Some("fdff:2000::2"));
        assert_eq!(pair(AddressKind::Instance).as_deref(), Some("fdff::2"));
        for outside in ["10.30.0.0", "10.29.255.255", "10.31.255.255", "10.18.0.2"] {
            let outside = outside.parse().expect("an address");
            assert_eq!(StableAddress::of(AddressKind::Instance, outside), None);
        }
    }
}

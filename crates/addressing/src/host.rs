//! What a worker gives to its instances.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use model::InstanceId;
use serde::{Deserialize, Serialize};

use crate::{Exhausted, Pool, Subnet};

/// Offset 0 names the network and 1 is the worker itself.
const FIRST_OFFSET: u8 = 2;
/// Highest offset for instances in Oakestra's plan; 63 is the broadcast address of a /26.
const LAST_OFFSET: u8 = 62;

/// The pair of addresses of one instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct InstanceAddresses {
    /// IPv4.
    pub v4: Ipv4Addr,
    /// IPv6.
    pub v6: Ipv6Addr,
}

impl InstanceAddresses {
    /// Both, IPv4 first.
    #[must_use]
    pub const fn all(&self) -> [IpAddr; 2] {
        [IpAddr::V4(self.v4), IpAddr::V6(self.v6)]
    }
}

/// Which instance has which addresses of one subnet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostPlan {
    subnet: Subnet,
    pool: Pool<u8, InstanceId>,
}

impl HostPlan {
    /// A subnet nobody has an address of.
    #[must_use]
    pub fn new(subnet: Subnet) -> Self {
        Self { subnet, pool: Pool::default() }
    }

    /// The subnet the addresses are of.
    #[must_use]
    pub const fn subnet(&self) -> Subnet {
        self.subnet
    }

    /// The addresses of `instance`, chosen now if it has none. Asking again changes nothing.
    ///
    /// # Errors
    /// When every address is in use.
    pub fn allocate(&mut self, instance: InstanceId) -> Result<InstanceAddresses, Exhausted> {
        if let Some(addresses) = self.addresses_of(instance) {
            return Ok(addresses);
        }
        // A subnet smaller than /26 has fewer; the last address of any IPv4 subnet is its broadcast address.
        let last = u8::try_from(self.subnet.v4.hosts().count()).unwrap_or(u8::MAX).min(LAST_OFFSET);
        let limit = usize::from((last + 1).saturating_sub(FIRST_OFFSET));
        let offset = self
            .pool
            .allocate(&instance, FIRST_OFFSET..=last)
            .ok_or(Exhausted::Addresses { limit, subnet: self.subnet.v4 })?;
        Ok(self.at(offset))
    }

    /// Records that `instance` has these addresses, as when the subnet comes back after another one. `false` when
    /// they are not of this subnet or somebody else has them.
    pub fn claim(&mut self, instance: InstanceId, addresses: InstanceAddresses) -> bool {
        (FIRST_OFFSET..=LAST_OFFSET)
            .find(|offset| self.at(*offset) == addresses)
            .is_some_and(|offset| self.pool.claim(&instance, offset))
    }

    /// Takes its addresses from `instance`.
    pub fn release(&mut self, instance: InstanceId) {
        self.pool.release(&instance);
    }

    /// The addresses of `instance`.
    #[must_use]
    pub fn addresses_of(&self, instance: InstanceId) -> Option<InstanceAddresses> {
        self.pool.slots_of(&instance).first().map(|offset| self.at(*offset))
    }

    fn at(&self, offset: u8) -> InstanceAddresses {
        let (v4, v6) = self.subnet.address(offset);
        InstanceAddresses { v4, v6 }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use model::ServiceId;
    use proptest::prelude::*;

    use super::*;

    fn plan() -> HostPlan {
        HostPlan::new(Subnet {
            v4: "10.18.0.64/26".parse().expect("a network"),
            v6: "fc00::100/120".parse().expect("a network"),
        })
    }

    fn instance(number: u32) -> InstanceId {
        InstanceId { service: ServiceId::from_bytes([7; 12]), number }
    }

    fn addresses(v4: &str, v6: &str) -> InstanceAddresses {
        InstanceAddresses { v4: v4.parse().expect("v4"), v6: v6.parse().expect("v6") }
    }

    #[test]
    fn instances_begin_after_the_worker_and_61_fit() {
        let mut plan = plan();
        assert_eq!(plan.allocate(instance(0)), Ok(addresses("10.18.0.66", "fc00::102")));
        for number in 1..61 {
            plan.allocate(instance(number)).expect("an address is free");
        }
        assert_eq!(plan.addresses_of(instance(60)), Some(addresses("10.18.0.126", "fc00::13e")));
        let error = plan.allocate(instance(61)).expect_err("none is left");
        assert_eq!(
            error.to_string(),
            "all 61 addresses of this worker's subnet 10.18.0.64/26 are in use; place the instance on another worker"
        );
    }

    #[test]
    fn addresses_of_another_subnet_or_another_instance_are_not_claimed() {
        let mut plan = plan();
        let third = addresses("10.18.0.68", "fc00::104");
        assert!(plan.claim(instance(0), third));
        assert!(!plan.claim(instance(1), third));
        assert!(!plan.claim(instance(2), addresses("10.18.0.2", "fc00::2")));
        assert_eq!(plan.addresses_of(instance(0)), Some(third));
    }

    #[test]
    fn a_smaller_subnet_keeps_its_broadcast_address() {
        let mut plan = HostPlan::new(Subnet {
            v4: "10.18.0.0/29".parse().expect("a network"),
            v6: "fc00::/120".parse().expect("a network"),
        });
        let given: Vec<_> =
            (0..6).map(|number| plan.allocate(instance(number)).map(|pair| pair.v4)).collect();
        assert_eq!(given[4], Ok("10.18.0.6".parse().expect("v4")));
        assert_eq!(
            given[5],
            Err(Exhausted::Addresses { limit: 5, subnet: "10.18.0.0/29".parse().expect("a network") })
        );
    }

    proptest! {
        #[test]
        fn two_instances_never_share_an_address(steps in prop::collection::vec((any::<bool>(), 0_u32..80), 0..200)) {
            let mut plan = plan();
            let mut held: BTreeMap<u32, InstanceAddresses> = BTreeMap::new();
            for (allocate, number) in steps {
                if allocate {
                    if let Ok(addresses) = plan.allocate(instance(number)) {
                        prop_assert_eq!(*held.entry(number).or_insert(addresses), addresses);
                    }
                } else {
                    plan.release(instance(number));
                    held.remove(&number);
                }
                let distinct: BTreeSet<_> = held.values().flat_map(InstanceAddresses::all).collect();
                prop_assert_eq!(distinct.len(), held.len() * 2);
            }
        }
    }
}

//! What the root lends to clusters.

use std::net::{Ipv4Addr, Ipv6Addr};

use ipnet::{Ipv4Net, Ipv6Net};
use model::NetworkLease;
use serde::{Deserialize, Serialize};

use crate::{Exhausted, Pool};

/// 10.18.0.0, where the subnets of workers begin in Oakestra's plan too, so that firewalls need no new rule.
const FIRST_V4: u32 = u32::from_be_bytes([10, 18, 0, 0]);
/// fc00::, the unique local range of the same plan.
const FIRST_V6: u128 = 0xfc00 << 112;
/// Blocks up to 10.29.255.255: twelve /16 of sixteen /20 each. 10.30.0.0/16 is for services.
const HOME_BLOCKS: u32 = 12 * 16;
/// 10.32.0.0, where the plan goes on once all of those are lent: an installation that never needs more than Oakestra's
/// plan has never sees an address from here. 10.31.0.0/16 stays free beside the services.
const FIRST_V4_BEYOND: u32 = u32::from_be_bytes([10, 32, 0, 0]);
/// Blocks up to 10.255.255.255: 224 /16 of sixteen /20 each.
const BLOCKS: u32 = HOME_BLOCKS + 224 * 16;
const BLOCK_V4_PREFIX: u8 = 20;
const BLOCK_V6_PREFIX: u8 = 114;

/// Which cluster has which blocks of the whole plan. `Owner` is a cluster's id.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(
    transparent,
    bound(serialize = "Owner: Serialize + Ord", deserialize = "Owner: Deserialize<'de> + Ord + Clone")
)]
pub struct BlockPlan<Owner> {
    pool: Pool<u32, Owner>,
}

impl<Owner> Default for BlockPlan<Owner> {
    fn default() -> Self {
        Self { pool: Pool::default() }
    }
}

impl<Owner: Clone + Ord> BlockPlan<Owner> {
    /// How many blocks there are in all.
    pub const LIMIT: usize = BLOCKS as usize;

    /// The blocks of `owner`; its first one is chosen now if it has none. Asking again changes nothing.
    ///
    /// # Errors
    /// When every block is lent.
    pub fn allocate(&mut self, owner: &Owner) -> Result<NetworkLease, Exhausted> {
        if self.pool.slots_of(owner).is_empty() { self.extend(owner) } else { Ok(self.blocks_of(owner)) }
    }

    /// Lends `owner` one block more; returns all it has then. Those beyond Oakestra's plan are lent only while none of
    /// that is free.
    ///
    /// # Errors
    /// When every block is lent.
    pub fn extend(&mut self, owner: &Owner) -> Result<NetworkLease, Exhausted> {
        let home = self.pool.allocate(owner, 0..HOME_BLOCKS);
        home.or_else(|| self.pool.allocate(owner, HOME_BLOCKS..BLOCKS))
            .ok_or(Exhausted::Blocks { limit: Self::LIMIT })?;
        Ok(self.blocks_of(owner))
    }

    /// Takes every block from `owner`.
    pub fn release(&mut self, owner: &Owner) {
        self.pool.release(owner);
    }

    /// The blocks of `owner`, in order; empty when it has none.
    #[must_use]
    pub fn blocks_of(&self, owner: &Owner) -> NetworkLease {
        let indices = self.pool.slots_of(owner);
        NetworkLease {
            v4: indices.iter().map(|index| block_v4(*index)).collect(),
            v6: indices.iter().map(|index| block_v6(*index)).collect(),
        }
    }
}

fn block_v4(index: u32) -> Ipv4Net {
    let size = 1 << (32 - BLOCK_V4_PREFIX);
    let first = match index.checked_sub(HOME_BLOCKS) {
        None => FIRST_V4 + index * size,
        Some(beyond) => FIRST_V4_BEYOND + beyond * size,
    };
    Ipv4Net::new_assert(Ipv4Addr::from(first), BLOCK_V4_PREFIX)
}

fn block_v6(index: u32) -> Ipv6Net {
    let size = 1 << (128 - BLOCK_V6_PREFIX);
    Ipv6Net::new_assert(Ipv6Addr::from(FIRST_V6 + u128::from(index) * size), BLOCK_V6_PREFIX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lease(v4: &[&str], v6: &[&str]) -> NetworkLease {
        NetworkLease {
            v4: v4.iter().map(|net| net.parse().expect("a network")).collect(),
            v6: v6.iter().map(|net| net.parse().expect("a network")).collect(),
        }
    }

    #[test]
    fn clusters_get_blocks_of_both_families_in_step() {
        let mut plan = BlockPlan::default();
        assert_eq!(plan.allocate(&1), Ok(lease(&["10.18.0.0/20"], &["fc00::/114"])));
        assert_eq!(plan.allocate(&2), Ok(lease(&["10.18.16.0/20"], &["fc00::4000/114"])));
        assert_eq!(plan.allocate(&1), Ok(lease(&["10.18.0.0/20"], &["fc00::/114"])));
        assert_eq!(
            plan.extend(&1),
            Ok(lease(&["10.18.0.0/20", "10.18.32.0/20"], &["fc00::/114", "fc00::8000/114"]))
        );
    }

    #[test]
    fn blocks_end_where_the_services_range_begins_and_go_on_behind_it() {
        let mut plan = BlockPlan::default();
        for owner in 0..192 {
            plan.allocate(&owner).expect("a block is free");
        }
        assert_eq!(plan.blocks_of(&191), lease(&["10.29.240.0/20"], &["fc00::2f:c000/114"]));
        plan.release(&7);
        assert_eq!(plan.allocate(&192), Ok(lease(&["10.18.112.0/20"], &["fc00::1:c000/114"])));
        assert_eq!(plan.allocate(&193), Ok(lease(&["10.32.0.0/20"], &["fc00::30:0/114"])));
    }

    #[test]
    fn the_last_block_is_the_last_of_the_private_range() {
        let mut plan = BlockPlan::default();
        for owner in 0..BLOCKS {
            plan.allocate(&owner).expect("a block is free");
        }
        assert_eq!(plan.blocks_of(&3775), lease(&["10.255.240.0/20"], &["fc00::3af:c000/114"]));
        assert_eq!(plan.allocate(&3776), Err(Exhausted::Blocks { limit: 3776 }));
    }

    #[test]
    fn a_thousand_clusters_with_room_for_a_hundred_workers_each_share_no_address() {
        let mut plan = BlockPlan::default();
        for owner in (0..1000).chain(0..1000) {
            plan.extend(&owner).expect("a block is free");
        }
        let mut all: Vec<Ipv4Net> = (0..1000).flat_map(|owner| plan.blocks_of(&owner).v4).collect();
        all.sort_unstable();
        assert_eq!(all.len(), 2000);
        assert!(all.windows(2).all(|pair| pair[0].broadcast() < pair[1].network()));
    }
}

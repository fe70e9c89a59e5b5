//! What a cluster lends to its workers.

use std::net::{Ipv4Addr, Ipv6Addr};

use ipnet::{Ipv4Net, Ipv6Net};
use model::NetworkLease;
use serde::{Deserialize, Serialize};

use crate::{Exhausted, Pool};

const SUBNET_V4_PREFIX: u8 = 26;
const SUBNET_V6_PREFIX: u8 = 120;

/// The addresses of one worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Subnet {
    /// IPv4 range.
    pub v4: Ipv4Net,
    /// IPv6 range, at least as large.
    pub v6: Ipv6Net,
}

impl Subnet {
    /// The first pair of ranges of a lease; `None` when it has none.
    #[must_use]
    pub fn first_of(lease: &NetworkLease) -> Option<Self> {
        Some(Self { v4: *lease.v4.first()?, v6: *lease.v6.first()? })
    }

    /// The pair of addresses `offset` above the start of both ranges.
    #[must_use]
    pub fn address(&self, offset: u8) -> (Ipv4Addr, Ipv6Addr) {
        (
            Ipv4Addr::from(u32::from(self.v4.network()) + u32::from(offset)),
            Ipv6Addr::from(u128::from(self.v6.network()) + u128::from(offset)),
        )
    }

    /// The worker's own pair of addresses, the gateway of its instances.
    #[must_use]
    pub fn gateway(&self) -> (Ipv4Addr, Ipv6Addr) {
        self.address(1)
    }
}

impl From<Subnet> for NetworkLease {
    fn from(subnet: Subnet) -> Self {
        Self { v4: vec![subnet.v4], v6: vec![subnet.v6] }
    }
}

/// What is to be known of one subnet that was lent: kept apart from the others, as a plan of thousands is not to be
/// written anew for each worker that joins. `Owner` is a worker's id.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lent<Owner> {
    /// Which subnet.
    pub subnet: Subnet,
    /// Who has it, or had it last.
    pub owner: Owner,
    /// Whether it is free again, and the number of its release: those that were released earlier have smaller ones.
    pub released: Option<u64>,
}

/// Which worker has which subnet of the blocks a cluster was lent. `Owner` is a worker's id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SubnetPlan<Owner> {
    blocks: NetworkLease,
    pool: Pool<Subnet, Owner>,
}

impl<Owner> Default for SubnetPlan<Owner> {
    fn default() -> Self {
        Self { blocks: NetworkLease { v4: Vec::new(), v6: Vec::new() }, pool: Pool::default() }
    }
}

impl<Owner: Clone + Ord> SubnetPlan<Owner> {
    /// Replaces the blocks to lend from. What workers hold of a block that went stays theirs; nothing new is lent
    /// from it.
    pub fn set_blocks(&mut self, blocks: NetworkLease) {
        self.blocks = blocks;
    }

    /// The blocks to lend from.
    #[must_use]
    pub const fn blocks(&self) -> &NetworkLease {
        &self.blocks
    }

    /// What to [record](Self::record) so that `owner` has a subnet; `None` if it has one.
    ///
    /// # Errors
    /// When there is no block or every subnet is lent.
    pub fn lend(&self, owner: &Owner) -> Result<Option<Lent<Owner>>, Exhausted> {
        if self.subnet_of(owner).is_some() {
            return Ok(None);
        }
        if self.blocks.v4.is_empty() {
            return Err(Exhausted::NoBlock);
        }
        // Not listed first: mostly one of the first that are looked at is free.
        let subnets = subnets_of(&self.blocks);
        let exhausted =
            || Exhausted::Subnets { limit: subnets.clone().count(), blocks: self.blocks.v4.len() };
        let subnet = self.pool.choose(owner, subnets.clone()).ok_or_else(exhausted)?;
        Ok(Some(Lent { subnet, owner: owner.clone(), released: None }))
    }

    /// What to [record](Self::record) so that `owner` has no subnet; `None` if it has none.
    #[must_use]
    pub fn release(&self, owner: &Owner) -> Option<Lent<Owner>> {
        let subnet = self.subnet_of(owner)?;
        Some(Lent { subnet, owner: owner.clone(), released: Some(self.pool.next_release()) })
    }

    /// Takes on what was decided or kept, in any order. A subnet that somebody has stays theirs until its release is
    /// recorded.
    pub fn record(&mut self, lent: &Lent<Owner>) {
        match lent.released {
            None => {
                self.pool.claim(&lent.owner, lent.subnet);
            }
            Some(number) => self.pool.free(lent.subnet, &lent.owner, number),
        }
    }

    /// The subnet of `owner`.
    #[must_use]
    pub fn subnet_of(&self, owner: &Owner) -> Option<Subnet> {
        self.pool.first_of(owner)
    }
}

/// The subnets of both families side by side. Both block sizes hold the same number of subnets.
fn subnets_of(blocks: &NetworkLease) -> impl Iterator<Item = Subnet> + Clone {
    blocks.v4.iter().zip(&blocks.v6).flat_map(|(v4, v6)| {
        let v4_subnets = v4.subnets(SUBNET_V4_PREFIX).into_iter().flatten();
        let v6_subnets = v6.subnets(SUBNET_V6_PREFIX).into_iter().flatten();
        v4_subnets.zip(v6_subnets).map(|(v4, v6)| Subnet { v4, v6 })
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::BlockPlan;

    fn plan_with_one_block() -> SubnetPlan<String> {
        let mut plan = SubnetPlan::default();
        plan.set_blocks(BlockPlan::default().allocate(&"cluster").expect("a block is free"));
        plan
    }

    /// Decides and records.
    fn lend<Owner: Clone + Ord>(plan: &mut SubnetPlan<Owner>, owner: &Owner) -> Result<Subnet, Exhausted> {
        if let Some(lent) = plan.lend(owner)? {
            plan.record(&lent);
        }
        Ok(plan.subnet_of(owner).expect("it was lent one"))
    }

    fn subnet(v4: &str, v6: &str) -> Subnet {
        Subnet { v4: v4.parse().expect("a network"), v6: v6.parse().expect("a network") }
    }

    #[test]
    fn a_worker_that_asks_again_gets_the_same_subnet() {
        let mut plan = plan_with_one_block();
        let first = subnet("10.18.0.0/26", "fc00::/120");
        let second = subnet("10.18.0.64/26", "fc00::100/120");
        assert_eq!(lend(&mut plan, &"a".to_owned()), Ok(first));
        assert_eq!(lend(&mut plan, &"b".to_owned()), Ok(second));
        assert_eq!(lend(&mut plan, &"a".to_owned()), Ok(first));
        assert_eq!(first.gateway(), ("10.18.0.1".parse().expect("v4"), "fc00::1".parse().expect("v6")));
    }

    #[test]
    fn a_full_cluster_says_its_limit_and_a_new_block_helps() {
        let mut plan = plan_with_one_block();
        for number in 0..64 {
            lend(&mut plan, &format!("worker {number}")).expect("a subnet is free");
        }
        let late = "late".to_owned();
        assert_eq!(lend(&mut plan, &late), Err(Exhausted::Subnets { limit: 64, blocks: 1 }));
        let mut blocks = plan.blocks().clone();
        blocks.v4.push("10.18.16.0/20".parse().expect("a network"));
        blocks.v6.push("fc00::4000/114".parse().expect("a network"));
        plan.set_blocks(blocks);
        assert_eq!(lend(&mut plan, &late), Ok(subnet("10.18.16.0/26", "fc00::4000/120")));
    }

    #[test]
    fn a_plan_is_what_was_recorded_in_any_order() {
        let mut plan = plan_with_one_block();
        let mut kept = BTreeMap::new();
        let mut keep = |plan: &mut SubnetPlan<String>, lent: Lent<String>| {
            plan.record(&lent);
            let text = serde_json::to_string(&lent).expect("it has a JSON form");
            kept.insert(lent.subnet, serde_json::from_str::<Lent<String>>(&text).expect("the same form"));
        };
        for owner in ["a", "b", "c"] {
            let lent = plan.lend(&owner.to_owned()).expect("a subnet is free").expect("it has none");
            keep(&mut plan, lent);
        }
        for owner in ["b", "a"] {
            let released = plan.release(&owner.to_owned()).expect("it has one");
            keep(&mut plan, released);
        }
        assert_eq!(plan.release(&"a".to_owned()), None);
        let mut again = plan_with_one_block();
        for lent in kept.values() {
            again.record(lent);
        }
        assert_eq!(again, plan);
        // All others are in use: what has been free for longest comes first.
        for number in 3..64 {
            lend(&mut again, &format!("worker {number}")).expect("a subnet is free");
        }
        assert_eq!(lend(&mut again, &"d".to_owned()), Ok(subnet("10.18.0.64/26", "fc00::100/120")));
        assert_eq!(lend(&mut again, &"e".to_owned()), Ok(subnet("10.18.0.0/26", "fc00::/120")));
    }

    #[test]
    fn blocks_survive_json() {
        let mut blocks = BlockPlan::default();
        blocks.extend(&7).and_then(|_| blocks.extend(&7)).expect("blocks are free");
        blocks.extend(&8).expect("blocks are free");
        blocks.release(&7);
        let text = serde_json::to_string(&blocks).expect("it has a JSON form");
        assert_eq!(serde_json::from_str::<BlockPlan<u32>>(&text).expect("the same form"), blocks);
    }

    #[test]
    fn a_cluster_without_a_block_says_so() {
        assert_eq!(SubnetPlan::default().lend(&"a"), Err(Exhausted::NoBlock));
    }

    #[test]
    fn a_block_that_went_is_kept_by_its_workers_and_lent_to_nobody() {
        let mut plan = plan_with_one_block();
        let (old, new) = ("old".to_owned(), "new".to_owned());
        let kept = lend(&mut plan, &old);
        plan.set_blocks(NetworkLease {
            v4: vec!["10.20.0.0/20".parse().expect("a network")],
            v6: vec!["fc00::8:0/114".parse().expect("a network")],
        });
        assert_eq!(lend(&mut plan, &old), kept);
        assert_eq!(lend(&mut plan, &new), Ok(subnet("10.20.0.0/26", "fc00::8:0/120")));
    }
}

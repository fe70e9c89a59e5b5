//! The stable addresses of services and instances, which the root gives out and nobody routes by place: an instance
//! keeps its own wherever it runs. Kept in the documents of services and instances; this is rebuilt from them.
//!
//! What the addresses are is in `model::address`. The ranges are those of Oakestra's plan, which has no second /16 and
//! leaves all but instances and round-robin unused. Blocks of workers (`block.rs`) are elsewhere.

use std::{collections::BTreeSet, net::Ipv4Addr};

use model::{AddressKind, StableAddress, slot_of};

/// An address that cannot be given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NoAddress {
    /// Asked for, and not of the plan.
    #[error("{0} is not an address for services: they are 10.30.0.1 to 10.31.255.254")]
    OutOfRange(Ipv4Addr),
    /// Asked for, and somebody else has it.
    #[error("{0} is the address of another service or instance; choose another or leave it out")]
    Taken(Ipv4Addr),
    /// All are in use.
    #[error(
        "all {limit} addresses of services and instances are in use; delete services that are not needed"
    )]
    Exhausted {
        /// How many there are.
        limit: usize,
    },
}

/// Which addresses are in use. Of whom they are is known to whoever asked.
///
/// Guarantees: an address is given once until it is given back, and addresses are given in turn, so that one that was
/// given back rests until all others had theirs: callers have old answers.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct StablePlan {
    used: BTreeSet<u32>,
    /// Where to look for the next one; beyond all that were claimed.
    next: u32,
}

impl StablePlan {
    /// How many addresses there are in all.
    pub const LIMIT: usize = StableAddress::COUNT as usize;

    /// Gives an address that nobody has.
    ///
    /// # Errors
    /// [`NoAddress::Exhausted`].
    pub fn allocate(&mut self, kind: AddressKind) -> Result<StableAddress, NoAddress> {
        if self.left() == 0 {
            return Err(NoAddress::Exhausted { limit: Self::LIMIT });
        }
        let start = self.next.clamp(1, StableAddress::COUNT);
        let slot = (start..=StableAddress::COUNT).chain(1..start).find(|slot| !self.used.contains(slot));
        let slot = slot.ok_or(NoAddress::Exhausted { limit: Self::LIMIT })?;
        self.used.insert(slot);
        self.next = if slot == StableAddress::COUNT { 1 } else { slot + 1 };
        Ok(StableAddress::at(kind, slot))
    }

    /// Takes a certain address: one that a user asks for, or that a document says is in use.
    ///
    /// # Errors
    /// [`NoAddress::OutOfRange`] and [`NoAddress::Taken`].
    pub fn claim(&mut self, kind: AddressKind, v4: Ipv4Addr) -> Result<StableAddress, NoAddress> {
        let slot = slot_of(v4).ok_or(NoAddress::OutOfRange(v4))?;
        if !self.used.insert(slot) {
            return Err(NoAddress::Taken(v4));
        }
        Ok(StableAddress::at(kind, slot))
    }

    /// To be called once after what is in use was claimed: what comes next is beyond it, so that what was given back
    /// shortly before a restart rests too.
    pub fn go_on_behind(&mut self) {
        self.next = self.used.last().map_or(1, |last| last + 1);
    }

    /// Gives an address back. Nothing happens when it is not in use or not of this plan.
    pub fn release(&mut self, v4: Ipv4Addr) {
        if let Some(slot) = slot_of(v4) {
            self.used.remove(&slot);
        }
    }

    /// Whether an address is in use.
    #[must_use]
    pub fn is_used(&self, v4: Ipv4Addr) -> bool {
        slot_of(v4).is_some_and(|slot| self.used.contains(&slot))
    }

    /// How many are free.
    #[must_use]
    pub fn left(&self) -> usize {
        Self::LIMIT - self.used.len()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn v4(text: &str) -> Ipv4Addr {
        text.parse().expect("an address")
    }

    #[test]
    fn an_address_that_is_asked_for_is_given_once() {
        let mut plan = StablePlan::default();
        let wanted = v4("10.30.0.2");
        assert!(plan.claim(AddressKind::RoundRobin, wanted).is_ok());
        assert_eq!(plan.claim(AddressKind::Closest, wanted), Err(NoAddress::Taken(wanted)));
        assert_eq!(plan.allocate(AddressKind::Instance).map(|it| it.v4), Ok(v4("10.30.0.1")));
        assert_eq!(plan.allocate(AddressKind::Instance).map(|it| it.v4), Ok(v4("10.30.0.3")));
        for outside in ["10.30.0.0", "10.29.255.255", "10.31.255.255", "192.0.2.1"] {
            let refused = plan.claim(AddressKind::RoundRobin, v4(outside));
            assert_eq!(refused, Err(NoAddress::OutOfRange(v4(outside))));
        }
    }

    fn given(plan: &mut StablePlan) -> Ipv4Addr {
        plan.allocate(AddressKind::Instance).expect("free").v4
    }

    #[test]
    fn what_was_given_back_rests_until_all_others_had_their_turn() {
        let mut plan = StablePlan::default();
        let first = given(&mut plan);
        plan.release(first);
        for _ in 1..StablePlan::LIMIT {
            assert_ne!(given(&mut plan), first);
        }
        assert_eq!(plan.left(), 1);
        assert_eq!(given(&mut plan), first);
    }

    #[test]
    fn the_last_is_told() {
        let mut plan = StablePlan::default();
        for _ in 0..StablePlan::LIMIT {
            given(&mut plan);
        }
        assert!(plan.is_used(v4("10.31.255.254")));
        let none = plan.allocate(AddressKind::Instance);
        assert_eq!(none, Err(NoAddress::Exhausted { limit: 131_070 }));
        plan.release(v4("10.30.7.7"));
        assert_eq!(plan.allocate(AddressKind::Closest).map(|it| it.v4), Ok(v4("10.30.7.7")));
    }

    #[test]
    fn after_a_restart_what_comes_next_is_new() {
        let mut plan = StablePlan::default();
        plan.claim(AddressKind::Instance, v4("10.30.0.9")).expect("free");
        plan.go_on_behind();
        assert_eq!(given(&mut plan), v4("10.30.0.10"));
    }

    proptest! {
        #[test]
        fn an_address_is_never_given_twice(steps in prop::collection::vec((0u8..3, 1u32..12), 0..80)) {
            let mut plan = StablePlan::default();
            let mut used: BTreeSet<Ipv4Addr> = BTreeSet::new();
            for (step, number) in steps {
                let some = StableAddress::at(AddressKind::Instance, number).v4;
                match step {
                    0 => {
                        let given = plan.allocate(AddressKind::Instance).expect("there are many").v4;
                        prop_assert!(used.insert(given), "{} was in use", given);
                    }
                    1 => prop_assert_eq!(plan.claim(AddressKind::RoundRobin, some).is_ok(), used.insert(some)),
                    _ => {
                        plan.release(some);
                        used.remove(&some);
                    }
                }
                prop_assert!(used.iter().all(|address| plan.is_used(*address)));
                prop_assert_eq!(plan.is_used(some), used.contains(&some));
                prop_assert_eq!(plan.left(), StablePlan::LIMIT - used.len());
            }
        }
    }
}

//! The stable addresses of services and instances, which the root gives out and nobody routes by place: an instance
//! keeps its own wherever it runs. Kept in the documents of services and instances; this is rebuilt from them.
//!
//! ```text
//!   10.30.0.0/16, then 10.31.0.0/16     both families always, paired: the v4 address says which v6 address
//!   fdff:0000::/21 instances            fdff:1000::/21 closest            fdff:2000::/21 round-robin
//!   fdff:3000::/21 least used           fdff:4000::/21 affinity
//! ```
//!
//! The ranges are those of Oakestra's plan, which has no second /16 and leaves all but instances and round-robin
//! unused. Blocks of workers (`block.rs`) are elsewhere.

use std::{
    collections::{BTreeMap, VecDeque},
    net::{Ipv4Addr, Ipv6Addr},
};

use model::Moment;
use serde::{Deserialize, Serialize};

/// 10.30.0.0.
const FIRST_V4: u32 = u32::from_be_bytes([10, 30, 0, 0]);
/// 10.30.0.0 to 10.31.255.255. Its first and last address stay free: some programs take them for a network's own.
const ADDRESSES: u32 = 2 << 16;
/// What was given back is not given to another for this long, unless nothing else is left: callers have old answers.
pub const QUARANTINE_MILLIS: u64 = 300_000;

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
}

/// An address in both families. Both are told by the first and the kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct StableAddress {
    /// From 10.30.0.1 to 10.31.255.254.
    pub v4: Ipv4Addr,
    /// Within fdff::/16.
    pub v6: Ipv6Addr,
}

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
/// Guarantees: an address is given once until it is given back; what nobody ever had goes first, then what has been
/// free for longest. Every operation takes constant or logarithmic time.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct StablePlan {
    /// Slots that are in use (`None`), or were given back (when).
    known: BTreeMap<u32, Option<Moment>>,
    /// All below were used at some time, or claimed.
    next: u32,
    /// Slots that were given back, with when, longest free first. What was claimed since is passed over.
    released: VecDeque<(u32, Moment)>,
}

impl StablePlan {
    /// How many addresses there are in all.
    pub const LIMIT: usize = ADDRESSES as usize - 2;

    /// Gives an address that nobody has.
    ///
    /// # Errors
    /// [`NoAddress::Exhausted`].
    pub fn allocate(&mut self, kind: AddressKind, now: Moment) -> Result<StableAddress, NoAddress> {
        let freed = self.longest_free();
        let slot = match freed {
            Some((slot, since)) if now.millis_since(since) >= QUARANTINE_MILLIS => Some(slot),
            Some(_) | None => self.never_used().or(freed.map(|(slot, _)| slot)),
        };
        let slot = slot.ok_or(NoAddress::Exhausted { limit: Self::LIMIT })?;
        self.known.insert(slot, None);
        Ok(address(kind, slot))
    }

    /// Takes a certain address: one that a user asks for, or that a document says is in use.
    ///
    /// # Errors
    /// [`NoAddress::OutOfRange`] and [`NoAddress::Taken`].
    pub fn claim(&mut self, kind: AddressKind, v4: Ipv4Addr) -> Result<StableAddress, NoAddress> {
        let slot = slot_of(v4).ok_or(NoAddress::OutOfRange(v4))?;
        if self.known.insert(slot, None) == Some(None) {
            return Err(NoAddress::Taken(v4));
        }
        Ok(address(kind, slot))
    }

    /// Gives an address back. Nothing happens when it is not in use or not of this plan.
    pub fn release(&mut self, v4: Ipv4Addr, now: Moment) {
        let Some(slot) = slot_of(v4) else { return };
        if let Some(freed @ None) = self.known.get_mut(&slot) {
            *freed = Some(now);
            self.released.push_back((slot, now));
        }
    }

    /// Whether an address is in use.
    #[must_use]
    pub fn is_used(&self, v4: Ipv4Addr) -> bool {
        slot_of(v4).and_then(|slot| self.known.get(&slot)).is_some_and(Option::is_none)
    }

    fn never_used(&mut self) -> Option<u32> {
        self.next = self.next.max(1);
        while self.known.contains_key(&self.next) {
            self.next += 1;
        }
        (self.next < ADDRESSES - 1).then_some(self.next)
    }

    /// Stays in the queue, where it is passed over once it is in use.
    fn longest_free(&mut self) -> Option<(u32, Moment)> {
        while let Some((slot, since)) = self.released.front().copied() {
            if self.known.get(&slot) == Some(&Some(since)) {
                return Some((slot, since));
            }
            self.released.pop_front();
        }
        None
    }
}

/// The pair that belongs to an IPv4 address of the plan, whoever has it; `None` for any other.
#[must_use]
pub fn stable_address(kind: AddressKind, v4: Ipv4Addr) -> Option<StableAddress> {
    slot_of(v4).map(|slot| address(kind, slot))
}

fn slot_of(v4: Ipv4Addr) -> Option<u32> {
    u32::from(v4).checked_sub(FIRST_V4).filter(|slot| (1..ADDRESSES - 1).contains(slot))
}

fn address(kind: AddressKind, slot: u32) -> StableAddress {
    let v6 = 0xfdff << 112 | kind.range() << 96 | u128::from(slot);
    StableAddress { v4: Ipv4Addr::from(FIRST_V4 + slot), v6: Ipv6Addr::from(v6) }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    const SOON: Moment = Moment(1_000);
    const LATER: Moment = Moment(1_000 + QUARANTINE_MILLIS);

    fn v4(text: &str) -> Ipv4Addr {
        text.parse().expect("an address")
    }

    #[test]
    fn both_families_go_together_and_the_kind_is_seen_in_ipv6() {
        let mut plan = StablePlan::default();
        let first = plan.allocate(AddressKind::RoundRobin, SOON).expect("free");
        assert_eq!((first.v4, first.v6), (v4("10.30.0.1"), "fdff:2000::1".parse().expect("an address")));
        let second = plan.allocate(AddressKind::Instance, SOON).expect("free");
        assert_eq!((second.v4, second.v6), (v4("10.30.0.2"), "fdff::2".parse().expect("an address")));
        assert_eq!(stable_address(AddressKind::Instance, second.v4), Some(second));
        assert_eq!(stable_address(AddressKind::Instance, v4("10.18.0.2")), None);
    }

    #[test]
    fn an_address_that_is_asked_for_is_given_once() {
        let mut plan = StablePlan::default();
        let wanted = v4("10.30.0.2");
        assert!(plan.claim(AddressKind::RoundRobin, wanted).is_ok());
        assert_eq!(plan.claim(AddressKind::Closest, wanted), Err(NoAddress::Taken(wanted)));
        assert_eq!(plan.allocate(AddressKind::Instance, SOON).map(|it| it.v4), Ok(v4("10.30.0.1")));
        assert_eq!(plan.allocate(AddressKind::Instance, SOON).map(|it| it.v4), Ok(v4("10.30.0.3")));
        for outside in ["10.30.0.0", "10.29.255.255", "10.31.255.255", "192.0.2.1"] {
            let refused = plan.claim(AddressKind::RoundRobin, v4(outside));
            assert_eq!(refused, Err(NoAddress::OutOfRange(v4(outside))));
        }
    }

    #[test]
    fn what_was_given_back_rests_before_another_gets_it() {
        let mut plan = StablePlan::default();
        let [first, second] = [0, 1].map(|_| plan.allocate(AddressKind::Instance, SOON).expect("free").v4);
        plan.release(second, SOON);
        plan.release(first, SOON);
        plan.release(first, SOON);
        assert_eq!(plan.allocate(AddressKind::Instance, SOON).map(|it| it.v4), Ok(v4("10.30.0.3")));
        assert_eq!(plan.allocate(AddressKind::Instance, LATER).map(|it| it.v4), Ok(second));
        assert_eq!(plan.allocate(AddressKind::Instance, LATER).map(|it| it.v4), Ok(first));
        assert_eq!(plan.allocate(AddressKind::Instance, LATER).map(|it| it.v4), Ok(v4("10.30.0.4")));
    }

    #[test]
    fn the_last_is_told_and_rest_is_cut_short_when_nothing_else_is_left() {
        let mut plan = StablePlan::default();
        for _ in 0..StablePlan::LIMIT {
            plan.allocate(AddressKind::Instance, SOON).expect("free");
        }
        assert!(plan.is_used(v4("10.31.255.254")));
        let none = plan.allocate(AddressKind::Instance, SOON);
        assert_eq!(none, Err(NoAddress::Exhausted { limit: 131_070 }));
        plan.release(v4("10.30.7.7"), SOON);
        assert_eq!(plan.allocate(AddressKind::Closest, SOON).map(|it| it.v4), Ok(v4("10.30.7.7")));
    }

    proptest! {
        #[test]
        fn an_address_is_never_given_twice(steps in prop::collection::vec((0u8..3, 1u32..12), 0..80)) {
            let mut plan = StablePlan::default();
            let mut used: BTreeSet<Ipv4Addr> = BTreeSet::new();
            for (minute, (step, number)) in steps.into_iter().enumerate() {
                let now = Moment(60_000 * minute as u64);
                let some = Ipv4Addr::from(FIRST_V4 + number);
                match step {
                    0 => {
                        let given = plan.allocate(AddressKind::Instance, now).expect("there are many").v4;
                        prop_assert!(used.insert(given), "{} was in use", given);
                    }
                    1 => prop_assert_eq!(plan.claim(AddressKind::RoundRobin, some).is_ok(), used.insert(some)),
                    _ => {
                        plan.release(some, now);
                        used.remove(&some);
                    }
                }
                prop_assert!(used.iter().all(|address| plan.is_used(*address)));
                prop_assert_eq!(plan.is_used(some), used.contains(&some));
            }
        }
    }
}

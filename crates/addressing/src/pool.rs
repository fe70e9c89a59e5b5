//! Who holds which of a set of interchangeable things, and in which order they are used again.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

/// Slots held by owners. The caller says which slots there are each time it allocates, in order of preference.
///
/// Guarantees: a slot has at most one owner; the same calls on the same pool give the same slots.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(
    from = "Stored<Slot, Owner>",
    bound(
        serialize = "Slot: Serialize + Ord, Owner: Serialize + Ord",
        deserialize = "Slot: Deserialize<'de> + Ord + Copy, Owner: Deserialize<'de> + Ord + Clone"
    )
)]
pub struct Pool<Slot, Owner> {
    #[serde(with = "pairs")]
    held: BTreeMap<Slot, Owner>,
    /// The same the other way round.
    #[serde(skip)]
    of_owner: BTreeMap<Owner, BTreeSet<Slot>>,
    /// Free slots that were held before, by the number of their release, longest free first, with their last owner.
    #[serde(with = "in_order")]
    released: BTreeMap<(u64, Slot), Owner>,
}

/// A pool as it is kept.
#[derive(Deserialize)]
#[serde(bound(deserialize = "Slot: Deserialize<'de> + Ord, Owner: Deserialize<'de>"))]
struct Stored<Slot, Owner> {
    #[serde(with = "pairs")]
    held: BTreeMap<Slot, Owner>,
    #[serde(with = "in_order")]
    released: BTreeMap<(u64, Slot), Owner>,
}

impl<Slot: Copy + Ord, Owner: Clone + Ord> From<Stored<Slot, Owner>> for Pool<Slot, Owner> {
    fn from(stored: Stored<Slot, Owner>) -> Self {
        let mut of_owner: BTreeMap<Owner, BTreeSet<Slot>> = BTreeMap::new();
        for (slot, owner) in &stored.held {
            of_owner.entry(owner.clone()).or_default().insert(*slot);
        }
        Self { held: stored.held, of_owner, released: stored.released }
    }
}

impl<Slot, Owner> Default for Pool<Slot, Owner> {
    fn default() -> Self {
        Self { held: BTreeMap::new(), of_owner: BTreeMap::new(), released: BTreeMap::new() }
    }
}

/// Equal are pools that give the same slots from now on: of releases their order counts, not their numbers.
impl<Slot: PartialEq, Owner: PartialEq> PartialEq for Pool<Slot, Owner> {
    fn eq(&self, other: &Self) -> bool {
        let ours = self.released.iter().map(|((_, slot), owner)| (slot, owner));
        let theirs = other.released.iter().map(|((_, slot), owner)| (slot, owner));
        self.held == other.held && ours.eq(theirs)
    }
}

impl<Slot: Eq, Owner: Eq> Eq for Pool<Slot, Owner> {}

impl<Slot: Copy + Ord, Owner: Clone + Ord> Pool<Slot, Owner> {
    /// Gives `owner` one more of `slots`: the one it released last if that is still free, else one that nobody
    /// ever held, else the one that has been free the longest. `None` when every one is held.
    pub fn allocate(&mut self, owner: &Owner, slots: impl Iterator<Item = Slot> + Clone) -> Option<Slot> {
        let chosen = self.choose(owner, slots)?;
        self.take(chosen, owner);
        Some(chosen)
    }

    /// What [`allocate`](Self::allocate) would give.
    pub(crate) fn choose(&self, owner: &Owner, slots: impl Iterator<Item = Slot> + Clone) -> Option<Slot> {
        let offered = |slot: &Slot| slots.clone().any(|candidate| candidate == *slot);
        let own_before = self
            .released
            .iter()
            .rev()
            .find(|((_, slot), last)| *last == owner && offered(slot))
            .map(|((_, slot), _)| *slot);
        let unused = || {
            slots.clone().find(|slot| {
                !self.held.contains_key(slot) && !self.released.keys().any(|(_, released)| released == slot)
            })
        };
        let longest_free = || self.released.keys().map(|(_, slot)| *slot).find(offered);
        own_before.or_else(unused).or_else(longest_free)
    }

    /// Records that `owner` holds `slot`, as when state is restored. `false`, and nothing changes, when somebody
    /// else holds it.
    pub fn claim(&mut self, owner: &Owner, slot: Slot) -> bool {
        match self.held.get(&slot) {
            Some(holder) => holder == owner,
            None => {
                self.take(slot, owner);
                true
            }
        }
    }

    fn take(&mut self, slot: Slot, owner: &Owner) {
        self.released.retain(|(_, released), _| *released != slot);
        self.held.insert(slot, owner.clone());
        self.of_owner.entry(owner.clone()).or_default().insert(slot);
    }

    /// Takes everything from `owner`; returns what it held, in order. Nothing when it held nothing.
    pub fn release(&mut self, owner: &Owner) -> Vec<Slot> {
        let slots = self.slots_of(owner);
        for slot in &slots {
            self.free(*slot, owner, self.next_release());
        }
        slots
    }

    /// Larger than the number of every release before.
    pub(crate) fn next_release(&self) -> u64 {
        self.released.last_key_value().map_or(0, |((last, _), _)| last + 1)
    }

    /// Records that `slot`, which `owner` had, is free since the release of this number.
    pub(crate) fn free(&mut self, slot: Slot, owner: &Owner, release: u64) {
        self.held.remove(&slot);
        if let Some(slots) = self.of_owner.get_mut(owner) {
            slots.remove(&slot);
            if slots.is_empty() {
                self.of_owner.remove(owner);
            }
        }
        self.released.retain(|(_, released), _| *released != slot);
        self.released.insert((release, slot), owner.clone());
    }

    /// What `owner` holds, in order.
    #[must_use]
    pub fn slots_of(&self, owner: &Owner) -> Vec<Slot> {
        self.of_owner.get(owner).into_iter().flatten().copied().collect()
    }

    /// The first that `owner` holds.
    pub(crate) fn first_of(&self, owner: &Owner) -> Option<Slot> {
        self.of_owner.get(owner)?.first().copied()
    }

    /// Who holds `slot`.
    #[must_use]
    pub fn owner_of(&self, slot: &Slot) -> Option<&Owner> {
        self.held.get(slot)
    }

    /// Every held slot with its owner, in order of the slots.
    pub fn iter(&self) -> impl Iterator<Item = (&Slot, &Owner)> {
        self.held.iter()
    }
}

/// Releases as a list: their numbers say only which came first.
mod in_order {
    use std::collections::BTreeMap;

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(super) fn serialize<Slot: Serialize, Owner: Serialize, S: Serializer>(
        releases: &BTreeMap<(u64, Slot), Owner>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(releases.iter().map(|((_, slot), owner)| (slot, owner)))
    }

    pub(super) fn deserialize<'de, Slot, Owner, D>(
        deserializer: D,
    ) -> Result<BTreeMap<(u64, Slot), Owner>, D::Error>
    where
        Slot: Deserialize<'de> + Ord,
        Owner: Deserialize<'de>,
        D: Deserializer<'de>,
    {
        let releases: Vec<(Slot, Owner)> = Vec::deserialize(deserializer)?;
        Ok((0..).zip(releases).map(|(number, (slot, owner))| ((number, slot), owner)).collect())
    }
}

/// A map as a list of pairs, because keys that are not text have no JSON form.
mod pairs {
    use std::collections::BTreeMap;

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(super) fn serialize<K: Serialize, V: Serialize, S: Serializer>(
        map: &BTreeMap<K, V>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(map)
    }

    pub(super) fn deserialize<'de, K: Deserialize<'de> + Ord, V: Deserialize<'de>, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<BTreeMap<K, V>, D::Error> {
        Vec::<(K, V)>::deserialize(deserializer).map(BTreeMap::from_iter)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_was_free_longest_is_used_again_first() {
        let mut pool = Pool::default();
        assert_eq!(pool.allocate(&"a", 0..3), Some(0));
        assert_eq!(pool.allocate(&"b", 0..3), Some(1));
        assert_eq!((pool.release(&"b"), pool.release(&"a")), (vec![1], vec![0]));
        assert_eq!(pool.allocate(&"c", 0..3), Some(2));
        assert_eq!(pool.allocate(&"d", 0..3), Some(1));
        assert_eq!(pool.allocate(&"e", 0..3), Some(0));
        assert_eq!(pool.allocate(&"f", 0..3), None);
    }

    #[test]
    fn an_owner_that_comes_back_finds_what_it_had() {
        let mut pool = Pool::default();
        for owner in ["a", "b"] {
            pool.allocate(&owner, 0..3);
        }
        pool.release(&"a");
        pool.release(&"b");
        assert_eq!(pool.allocate(&"b", 0..3), Some(1));
        assert_eq!(pool.allocate(&"a", 0..3), Some(0));
    }

    #[test]
    fn a_claimed_slot_is_refused_to_others() {
        let mut pool = Pool::default();
        assert!(pool.claim(&"a", 7));
        assert!(pool.claim(&"a", 7));
        assert!(!pool.claim(&"b", 7));
        assert_eq!(pool.owner_of(&7), Some(&"a"));
    }

    proptest! {
        #[test]
        fn a_slot_never_has_two_owners(steps in prop::collection::vec((any::<bool>(), 0_u8..6), 0..60)) {
            let mut pool = Pool::default();
            let mut expected: BTreeSet<(u8, u8)> = BTreeSet::new();
            for (allocate, owner) in steps {
                if allocate {
                    match pool.allocate(&owner, 0_u8..4) {
                        Some(slot) => {
                            prop_assert!(expected.iter().all(|(held, _)| *held != slot), "{} was held", slot);
                            expected.insert((slot, owner));
                        }
                        None => prop_assert_eq!(expected.len(), 4),
                    }
                } else {
                    let released: BTreeSet<u8> = pool.release(&owner).into_iter().collect();
                    let held = expected.iter().filter(|(_, holder)| *holder == owner).map(|(slot, _)| *slot);
                    prop_assert_eq!(released, held.collect::<BTreeSet<u8>>());
                    expected.retain(|(_, holder)| *holder != owner);
                }
                let actual: BTreeSet<(u8, u8)> = pool.iter().map(|(slot, owner)| (*slot, *owner)).collect();
                prop_assert_eq!(&actual, &expected);
            }
        }
    }
}

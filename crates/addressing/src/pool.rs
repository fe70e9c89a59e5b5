//! Who holds which of a set of interchangeable things, and in which order they are used again.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use serde::{Deserialize, Serialize};

/// Slots held by owners. The caller says which slots there are each time it allocates, in order of preference.
///
/// Guarantees: a slot has at most one owner; the same calls on the same pool give the same slots.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
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
    /// Free slots that were held before, longest free first, with their last owner.
    released: VecDeque<(Slot, Owner)>,
}

/// A pool as it is kept.
#[derive(Deserialize)]
#[serde(bound(deserialize = "Slot: Deserialize<'de> + Ord, Owner: Deserialize<'de>"))]
struct Stored<Slot, Owner> {
    #[serde(with = "pairs")]
    held: BTreeMap<Slot, Owner>,
    released: VecDeque<(Slot, Owner)>,
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
        Self { held: BTreeMap::new(), of_owner: BTreeMap::new(), released: VecDeque::new() }
    }
}

impl<Slot: Copy + Ord, Owner: Clone + Ord> Pool<Slot, Owner> {
    /// Gives `owner` one more of `slots`: the one it released last if that is still free, else one that nobody
    /// ever held, else the one that has been free the longest. `None` when every one is held.
    pub fn allocate(&mut self, owner: &Owner, slots: impl Iterator<Item = Slot> + Clone) -> Option<Slot> {
        let offered = |slot: &Slot| slots.clone().any(|candidate| candidate == *slot);
        let own_before = self
            .released
            .iter()
            .rev()
            .find(|(slot, last)| last == owner && offered(slot))
            .map(|(slot, _)| *slot);
        let unused = || {
            slots.clone().find(|slot| {
                !self.held.contains_key(slot) && !self.released.iter().any(|(released, _)| released == slot)
            })
        };
        let longest_free = || self.released.iter().map(|(slot, _)| *slot).find(offered);
        let chosen = own_before.or_else(unused).or_else(longest_free)?;
        self.take(chosen, owner);
        Some(chosen)
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
        self.released.retain(|(released, _)| *released != slot);
        self.held.insert(slot, owner.clone());
        self.of_owner.entry(owner.clone()).or_default().insert(slot);
    }

    /// Takes everything from `owner`; returns what it held, in order. Nothing when it held nothing.
    pub fn release(&mut self, owner: &Owner) -> Vec<Slot> {
        let slots = self.slots_of(owner);
        self.of_owner.remove(owner);
        for slot in &slots {
            self.held.remove(slot);
            self.released.push_back((*slot, owner.clone()));
        }
        slots
    }

    /// What `owner` holds, in order.
    #[must_use]
    pub fn slots_of(&self, owner: &Owner) -> Vec<Slot> {
        self.of_owner.get(owner).into_iter().flatten().copied().collect()
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

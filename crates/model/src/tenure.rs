//! Who has an instance: the state machine both tiers share. The root keeps one over clusters, each cluster one over
//! its workers.
//!
//! ```text
//!            place            hand_over              succeed
//!   nobody ────────► holder ───────────► + successor ────────► holder is the successor, the old copy a leftover
//!                      │  ▲
//!              replace │  │ restore (the lost one is back and its copy is the one to keep)
//!                      ▼  │
//!             new holder, the lost copy a leftover ──settle──► tombstone ──buried──► forgotten
//! ```
//!
//! Guarantees: a generation is given to one copy only and grows with every copy; what was told to remove a generation
//! is never told to run it again.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{Desired, Generation};

/// A copy that may still exist on a child that is no longer the holder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Leftover {
    /// Its generation.
    pub generation: Generation,
    /// It must go. Until then it may become the holder's again.
    pub settled: bool,
}

/// What a child is to an instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// It has the copy that counts.
    Holder,
    /// It gets ready to be the holder.
    Successor,
    /// It may have an older copy.
    Leftover,
}

/// See the module's description.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(bound(deserialize = "Child: Ord + Deserialize<'de>"))]
pub struct Tenure<Child: Ord> {
    /// Who has it, and in which generation.
    pub holder: Option<(Child, Generation)>,
    /// Who is to have it as soon as it is ready there.
    #[serde(default = "none", skip_serializing_if = "Option::is_none")]
    pub successor: Option<(Child, Generation)>,
    /// Copies that may still exist elsewhere.
    #[serde(default = "BTreeMap::new", skip_serializing_if = "BTreeMap::is_empty")]
    pub leftovers: BTreeMap<Child, Leftover>,
    /// The newest generation given to any copy.
    pub latest: Generation,
}

fn none<T>() -> Option<T> {
    None
}

impl<Child: Ord> Default for Tenure<Child> {
    fn default() -> Self {
        Self { holder: None, successor: None, leftovers: BTreeMap::new(), latest: Generation::default() }
    }
}

impl<Child: Ord + Copy> Tenure<Child> {
    /// Gives it to `child`, whoever had it before: that copy becomes a leftover that may still be restored.
    /// `generation` must be greater than every one given before.
    pub fn place(&mut self, child: Child, generation: Generation) {
        debug_assert!(generation > self.latest, "generations grow");
        self.drop_successor();
        if let Some((lost, generation)) = self.holder.take() {
            self.leftovers.insert(lost, Leftover { generation, settled: false });
        }
        // A newer copy on the same child replaces the older one there.
        self.leftovers.remove(&child);
        self.holder = Some((child, generation));
        self.latest = generation;
    }

    /// Nobody has it any more; the copy there must go.
    pub fn take_back(&mut self) {
        self.drop_successor();
        if let Some((child, generation)) = self.holder.take() {
            self.leftovers.insert(child, Leftover { generation, settled: true });
        }
    }

    /// Begins a move: the holder keeps its copy until the one on `child` is ready.
    pub fn hand_over(&mut self, child: Child, generation: Generation) {
        debug_assert!(generation > self.latest, "generations grow");
        self.drop_successor();
        self.leftovers.remove(&child);
        self.successor = Some((child, generation));
        self.latest = generation;
    }

    /// Ends a move: the copy of the successor counts, that of the old holder must go.
    pub fn succeed(&mut self) {
        let Some(successor) = self.successor.take() else { return };
        if let Some((child, generation)) = self.holder.replace(successor) {
            self.leftovers.insert(child, Leftover { generation, settled: true });
        }
    }

    /// Gives up a move: the copy of the successor must go.
    pub fn drop_successor(&mut self) {
        if let Some((child, generation)) = self.successor.take() {
            self.leftovers.insert(child, Leftover { generation, settled: true });
        }
    }

    /// The copy of a child that was lost counts again; the one made instead must go. False when there is no such copy
    /// or it must go already.
    pub fn restore(&mut self, child: Child) -> bool {
        let Some(leftover) = self.leftovers.get(&child).copied().filter(|leftover| !leftover.settled) else {
            return false;
        };
        self.take_back();
        self.leftovers.remove(&child);
        self.holder = Some((child, leftover.generation));
        true
    }

    /// Every copy but the holder's must go. True when that is news.
    pub fn settle(&mut self) -> bool {
        let open = self.leftovers.values_mut().filter(|leftover| !leftover.settled);
        open.fold(false, |_, leftover| {
            leftover.settled = true;
            true
        })
    }

    /// A child confirmed that its copies up to `generation` are gone, or is given up. True when that is news.
    pub fn buried(&mut self, child: Child, generation: Generation) -> bool {
        match self.role(child) {
            Some((_, copy)) if copy > generation => return false,
            Some((Role::Holder, _)) => self.holder = None,
            Some((Role::Successor, _)) => self.successor = None,
            Some((Role::Leftover, _)) => drop(self.leftovers.remove(&child)),
            None => return false,
        }
        true
    }

    /// A child has a copy of an older generation that was not known of: it must go.
    pub fn found(&mut self, child: Child, generation: Generation) {
        debug_assert!(self.role(child).is_none() && generation < self.latest, "an older copy of a stranger");
        self.leftovers.insert(child, Leftover { generation, settled: true });
    }

    /// Whether an older copy may yet be restored.
    #[must_use]
    pub fn is_contested(&self) -> bool {
        self.leftovers.values().any(|leftover| !leftover.settled)
    }

    /// What a child is to the instance, and the generation of its copy.
    #[must_use]
    pub fn role(&self, child: Child) -> Option<(Role, Generation)> {
        let is = |whose: &Option<(Child, Generation)>| {
            whose.filter(|(who, _)| *who == child).map(|(_, generation)| generation)
        };
        is(&self.holder)
            .map(|generation| (Role::Holder, generation))
            .or_else(|| is(&self.successor).map(|generation| (Role::Successor, generation)))
            .or_else(|| self.leftovers.get(&child).map(|leftover| (Role::Leftover, leftover.generation)))
    }

    /// What a child is to be told: its generation, and whether to run or to remove it. `desired` is what is wanted of
    /// the instance as a whole.
    #[must_use]
    pub fn told(&self, child: Child, desired: Desired) -> Option<(Generation, Desired)> {
        let (role, generation) = self.role(child)?;
        let desired = match role {
            Role::Holder | Role::Successor => desired,
            Role::Leftover if self.leftovers.get(&child).is_some_and(|leftover| leftover.settled) => {
                Desired::Removed
            }
            Role::Leftover => desired,
        };
        Some((generation, desired))
    }

    /// Everybody who has or may have a copy.
    pub fn children(&self) -> impl Iterator<Item = Child> + '_ {
        let named = self.holder.iter().chain(&self.successor).map(|(child, _)| *child);
        named.chain(self.leftovers.keys().copied())
    }

    /// Whether no copy can exist anywhere.
    #[must_use]
    pub fn is_vacant(&self) -> bool {
        self.holder.is_none() && self.successor.is_none() && self.leftovers.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: Generation = Generation(1);
    const TWO: Generation = Generation(2);
    const THREE: Generation = Generation(3);

    fn placed() -> Tenure<char> {
        let mut tenure = Tenure::default();
        tenure.place('a', ONE);
        tenure
    }

    #[test]
    fn a_replaced_copy_may_come_back_until_it_is_settled() {
        let mut tenure = placed();
        tenure.place('b', TWO);
        assert_eq!(tenure.told('a', Desired::Running), Some((ONE, Desired::Running)));
        let mut kept = tenure.clone();
        assert!(kept.restore('a'));
        assert_eq!(kept.holder, Some(('a', ONE)));
        assert_eq!(kept.told('b', Desired::Running), Some((TWO, Desired::Removed)));
        assert!(tenure.settle());
        assert!(!tenure.settle(), "told twice");
        assert!(!tenure.restore('a'), "a tombstone is final");
        assert_eq!(tenure.told('a', Desired::Running), Some((ONE, Desired::Removed)));
        assert!(!tenure.buried('a', Generation(0)), "an older burial");
        assert!(tenure.buried('a', ONE));
        assert_eq!(tenure.told('a', Desired::Running), None);
    }

    #[test]
    fn a_move_keeps_the_old_copy_until_the_new_one_is_ready() {
        let mut tenure = placed();
        tenure.hand_over('b', TWO);
        assert_eq!(tenure.told('a', Desired::Running), Some((ONE, Desired::Running)));
        assert_eq!(tenure.told('b', Desired::Running), Some((TWO, Desired::Running)));
        let mut given_up = tenure.clone();
        given_up.drop_successor();
        assert_eq!(given_up.told('b', Desired::Running), Some((TWO, Desired::Removed)));
        tenure.succeed();
        assert_eq!(tenure.holder, Some(('b', TWO)));
        assert_eq!(tenure.told('a', Desired::Running), Some((ONE, Desired::Removed)));
    }

    #[test]
    fn a_newer_copy_on_the_same_child_leaves_no_leftover() {
        let mut tenure = placed();
        tenure.place('b', TWO);
        tenure.place('a', THREE);
        assert_eq!(tenure.role('a'), Some((Role::Holder, THREE)));
        assert_eq!(tenure.role('b'), Some((Role::Leftover, TWO)));
    }

    #[test]
    fn what_is_to_go_goes_everywhere() {
        let mut tenure = placed();
        tenure.place('b', TWO);
        tenure.hand_over('c', THREE);
        for child in ['a', 'b', 'c'] {
            let (_, desired) = tenure.told(child, Desired::Removed).expect("it may have a copy");
            assert_eq!(desired, Desired::Removed);
        }
        assert_eq!(tenure.children().collect::<Vec<_>>(), ['b', 'c', 'a']);
        tenure.take_back();
        assert!(!tenure.is_vacant());
        for (child, generation) in [('a', ONE), ('b', TWO), ('c', THREE)] {
            assert!(tenure.buried(child, generation));
        }
        assert!(tenure.is_vacant());
    }
}

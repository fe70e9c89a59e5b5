//! What a group of commits comes to: which of them hold, and what they change. No IO: the backends find what is stored
//! now, and write what comes out.

use std::collections::BTreeMap;

use crate::{Change, Expect, Revision, StoreError, Version, Write};

/// A document, by collection and key.
pub(crate) type Name = (String, String);

/// What is to be written, and told.
#[derive(Debug)]
pub(crate) struct Settled {
    /// For each commit of the group.
    pub(crate) outcomes: Vec<Result<Revision, StoreError>>,
    /// In order. One from nothing to nothing is no line of the log.
    pub(crate) changes: Vec<Change>,
    /// The newest revision, then.
    pub(crate) newest: Revision,
}

/// Takes commits in after `newest`, one after the other; one that fails undoes none of its neighbours. `found` has the
/// documents they are about, as far as it matters what these are.
pub(crate) fn settle(newest: Revision, group: &[Vec<Write>], found: BTreeMap<Name, Version>) -> Settled {
    let mut present = found;
    let mut settled = Settled { outcomes: Vec::with_capacity(group.len()), changes: Vec::new(), newest };
    for writes in group {
        if writes.is_empty() {
            settled.outcomes.push(Ok(settled.newest));
            continue;
        }
        let revision = Revision(settled.newest.0 + 1);
        match take_in(revision, writes, &present) {
            Ok(changes) => {
                for change in &changes {
                    let name = (change.collection.clone(), change.key.clone());
                    match &change.value {
                        Some(value) => drop(present.insert(name, Version { revision, value: value.clone() })),
                        None => drop(present.remove(&name)),
                    }
                }
                settled.changes.extend(changes);
                settled.newest = revision;
                settled.outcomes.push(Ok(revision));
            }
            Err(conflict) => settled.outcomes.push(Err(conflict)),
        }
    }
    settled
}

/// The changes of one commit, one for each document, or what it finds otherwise than it expects.
fn take_in(
    revision: Revision,
    writes: &[Write],
    present: &BTreeMap<Name, Version>,
) -> Result<Vec<Change>, StoreError> {
    let mut places: BTreeMap<Name, usize> = BTreeMap::new();
    let mut changes: Vec<Change> = Vec::with_capacity(writes.len());
    for write in writes {
        let name = (write.collection.to_owned(), write.key.clone());
        let place = places.get(&name).copied();
        let found = match place {
            Some(place) => changes[place].value.as_ref().map(|_| revision),
            None => present.get(&name).map(|version| version.revision),
        };
        let as_expected = match write.expect {
            Expect::Anything => true,
            Expect::Absent => found.is_none(),
            Expect::Revision(expected) => found == Some(expected),
        };
        let (collection, key) = name.clone();
        if !as_expected {
            return Err(StoreError::Conflict { collection, key });
        }
        match place {
            Some(place) => changes[place].value.clone_from(&write.value),
            None => {
                let before = present.get(&name).cloned();
                places.insert(name, changes.len());
                changes.push(Change { revision, collection, key, value: write.value.clone(), before });
            }
        }
    }
    Ok(changes)
}

/// The last change of each document: what a backend has to write.
pub(crate) fn last_of_each(changes: &[Change]) -> BTreeMap<(&str, &str), &Change> {
    changes.iter().map(|change| ((change.collection.as_str(), change.key.as_str()), change)).collect()
}

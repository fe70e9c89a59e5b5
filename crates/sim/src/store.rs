//! A daemon's durable documents: what it finds again after a crash, and nothing else.

use std::collections::BTreeMap;

/// A change as its store sees it.
pub(crate) trait Document: Clone {
    /// Names the document. Documents are loaded in the order of their keys, as the daemon's shell loads them.
    type Key: Ord + Clone + std::fmt::Debug;

    fn key(&self) -> Self::Key;

    /// The change removes the document.
    fn removes(&self) -> bool;
}

/// Documents by key, changed by whole commits only.
#[derive(Debug, Clone)]
pub(crate) struct Store<Change: Document> {
    /// Boxed, as a map keeps room for more of them than it has.
    documents: BTreeMap<Change::Key, Box<Change>>,
    pub(crate) commits: u64,
}

impl<Change: Document> Store<Change> {
    pub(crate) const fn new() -> Self {
        Self { documents: BTreeMap::new(), commits: 0 }
    }

    /// All of them become durable.
    pub(crate) fn commit(&mut self, changes: &[Change]) {
        self.commits += 1;
        for change in changes {
            if change.removes() {
                self.documents.remove(&change.key());
            } else {
                self.documents.insert(change.key(), Box::new(change.clone()));
            }
        }
    }

    /// What is loaded at a start.
    pub(crate) fn documents(&self) -> impl Iterator<Item = &Change> {
        self.documents.values().map(|change| &**change)
    }
}

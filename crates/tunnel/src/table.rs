//! The peers as all threads see them: replaced as a whole, and looked at without a lock while nothing changes.

use std::{
    collections::BTreeMap,
    net::IpAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use crate::{PublicKey, peer::Peer, routes::Routes};

/// One set of peers.
#[derive(Debug)]
pub(crate) struct Table {
    by_slot: Vec<Option<Arc<Peer>>>,
    by_key: BTreeMap<PublicKey, Arc<Peer>>,
    routes: Routes<usize>,
}

/// The current table.
#[derive(Debug)]
pub(crate) struct Tables {
    version: AtomicU64,
    current: Mutex<Arc<Table>>,
}

/// One thread's view of the current table.
#[derive(Debug)]
pub(crate) struct View {
    tables: Arc<Tables>,
    version: u64,
    table: Arc<Table>,
}

impl Table {
    pub(crate) fn new(peers: impl IntoIterator<Item = Arc<Peer>>, routes: Routes<usize>) -> Self {
        let by_key: BTreeMap<PublicKey, Arc<Peer>> = peers.into_iter().map(|peer| (peer.key, peer)).collect();
        let slots = by_key.values().map(|peer| peer.slot + 1).max().unwrap_or(0);
        let mut by_slot = vec![None; slots];
        for peer in by_key.values() {
            by_slot[peer.slot] = Some(Arc::clone(peer));
        }
        Self { by_slot, by_key, routes }
    }

    /// The peer that the session index in a message belongs to.
    pub(crate) fn by_index(&self, index: u32) -> Option<&Arc<Peer>> {
        self.by_slot.get(usize::try_from(index >> 8).ok()?)?.as_ref()
    }

    pub(crate) fn by_key(&self, key: &PublicKey) -> Option<&Arc<Peer>> {
        self.by_key.get(key)
    }

    pub(crate) fn by_address(&self, address: IpAddr) -> Option<&Arc<Peer>> {
        self.by_slot.get(self.routes.owner(address)?)?.as_ref()
    }

    /// Whether packets from `address` may come from the peer in `slot`.
    pub(crate) fn allows(&self, address: IpAddr, slot: usize) -> bool {
        self.routes.owner(address) == Some(slot)
    }

    /// All peers, by key.
    pub(crate) fn peers(&self) -> impl Iterator<Item = &Arc<Peer>> {
        self.by_key.values()
    }
}

impl Tables {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            version: AtomicU64::new(0),
            current: Mutex::new(Arc::new(Table::new([], Routes::default()))),
        })
    }

    pub(crate) fn current(&self) -> Arc<Table> {
        Arc::clone(&self.lock())
    }

    /// Replaces the table by what `change` makes of it, with no other change in between.
    pub(crate) fn replace<E>(&self, change: impl FnOnce(&Table) -> Result<Table, E>) -> Result<(), E> {
        let mut current = self.lock();
        *current = Arc::new(change(&current)?);
        self.version.fetch_add(1, Ordering::Release);
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Arc<Table>> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl View {
    pub(crate) fn new(tables: &Arc<Tables>) -> Self {
        let version = tables.version.load(Ordering::Acquire);
        Self { tables: Arc::clone(tables), version, table: tables.current() }
    }

    /// The table of now. Costs one load while it stays the same.
    pub(crate) fn refresh(&mut self) -> &Table {
        let version = self.tables.version.load(Ordering::Acquire);
        if version != self.version {
            self.version = version;
            self.table = self.tables.current();
        }
        &self.table
    }
}

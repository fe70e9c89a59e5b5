//! Whose certificates count no more at a port, and which connections of them stand. Who is revoked is decided by the
//! brains; here it is done.

use std::{
    collections::{BTreeMap, BTreeSet},
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
};

use model::{ClusterId, WorkerId};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

use crate::Subject;

/// Whose certificates count no more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Revoked {
    /// A cluster's.
    Cluster(ClusterId),
    /// A worker's: its NodeEngine's and its NetManager's.
    Worker(WorkerId),
}

impl Revoked {
    /// Who would have to be revoked for a certificate of `subject` to be; nobody can revoke the root.
    const fn of(subject: Subject) -> Option<Self> {
        match subject {
            Subject::Root { .. } => None,
            Subject::Cluster { cluster, .. } => Some(Self::Cluster(cluster)),
            Subject::Worker { worker, .. } | Subject::Network { worker, .. } => Some(Self::Worker(worker)),
        }
    }
}

/// See the module's description. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Revocations(Arc<Mutex<Ledger>>);

#[derive(Debug, Default)]
struct Ledger {
    revoked: BTreeSet<Revoked>,
    /// What ends each connection that stands, by whose it is and the connection's number.
    standing: BTreeMap<(Revoked, u64), CancellationToken>,
    next: u64,
}

impl Revocations {
    /// These, and nobody else, from now on. Their connections are closed at once.
    pub fn replace(&self, revoked: BTreeSet<Revoked>) {
        let mut ledger = self.ledger();
        for one in &revoked {
            let standing = ledger.standing.range((*one, 0)..=(*one, u64::MAX));
            for ((whose, _), cut) in standing.filter(|(_, cut)| !cut.is_cancelled()) {
                tracing::warn!(?whose, "its certificate was revoked: its connection is closed");
                cut.cancel();
            }
        }
        ledger.revoked = revoked;
    }

    /// Whether certificates of `subject` count no more.
    pub(crate) fn covers(&self, subject: Subject) -> bool {
        Revoked::of(subject).is_some_and(|whose| self.ledger().revoked.contains(&whose))
    }

    /// Notes a connection, which is closed when its subject is revoked: at once, if it is already.
    pub(crate) fn watch(&self, subject: Subject) -> Option<Standing> {
        let whose = Revoked::of(subject)?;
        let cut = CancellationToken::new();
        let mut ledger = self.ledger();
        if ledger.revoked.contains(&whose) {
            cut.cancel();
        }
        let key = (whose, ledger.next);
        ledger.next += 1;
        ledger.standing.insert(key, cut.clone());
        drop(ledger);
        Some(Standing { revocations: self.clone(), key, cut: Box::pin(cut.cancelled_owned()) })
    }

    /// Nothing that is done under this lock can be interrupted half-way.
    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A connection that stands until it is dropped, or its subject is revoked.
#[derive(Debug)]
pub(crate) struct Standing {
    revocations: Revocations,
    key: (Revoked, u64),
    cut: Pin<Box<WaitForCancellationFutureOwned>>,
}

impl Standing {
    /// Ready once the connection is to be closed.
    pub(crate) fn poll_cut(&mut self, context: &mut Context<'_>) -> Poll<()> {
        self.cut.as_mut().poll(context)
    }
}

impl Drop for Standing {
    fn drop(&mut self) {
        self.revocations.ledger().standing.remove(&self.key);
    }
}

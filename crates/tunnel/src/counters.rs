//! What is counted that belongs to no peer.

use std::{
    io,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
};

use crate::Drops;

/// One field for each of [`Drops`].
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) no_peer: AtomicU64,
    pub(crate) malformed_inside: AtomicU64,
    pub(crate) malformed_outside: AtomicU64,
    pub(crate) unknown_sender: AtomicU64,
    pub(crate) under_load: AtomicU64,
    pub(crate) asides: AtomicU64,
    pub(crate) not_sent: AtomicU64,
    pub(crate) not_delivered: AtomicU64,
    gone: AtomicBool,
}

impl Counters {
    pub(crate) fn drops(&self) -> Drops {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Drops {
            no_peer: read(&self.no_peer),
            malformed_inside: read(&self.malformed_inside),
            malformed_outside: read(&self.malformed_outside),
            unknown_sender: read(&self.unknown_sender),
            under_load: read(&self.under_load),
            asides: read(&self.asides),
            not_sent: read(&self.not_sent),
            not_delivered: read(&self.not_delivered),
        }
    }

    /// Notes, once, that the tunnel is of no more use.
    pub(crate) fn interface_is_gone(&self, error: &io::Error) {
        if !self.gone.swap(true, Ordering::Relaxed) {
            tracing::error!(%error, "the interface of the tunnel was removed");
        }
    }

    pub(crate) fn is_interface_gone(&self) -> bool {
        self.gone.load(Ordering::Relaxed)
    }
}

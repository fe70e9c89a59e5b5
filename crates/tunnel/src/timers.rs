//! What happens by the clock: repeated handshakes, new keys, keepalives.

use std::{
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use crate::{
    counters::Counters,
    handshake::Doorkeeper,
    outbox::Outbox,
    socket::Sender,
    stop::{Stop, Wake},
    table::View,
};

/// The protocol counts in seconds; this keeps its clock, which moves only here, close enough.
const TICK: Duration = Duration::from_millis(200);

/// What handshakes are counted by.
const SECOND: Duration = Duration::from_secs(1);

/// The thread that looks at the clock.
pub(crate) struct Timers {
    pub(crate) view: View,
    pub(crate) sender: Sender,
    pub(crate) outbox: Outbox,
    pub(crate) doorkeeper: Arc<Doorkeeper>,
    pub(crate) counters: Arc<Counters>,
    pub(crate) stop: Arc<Stop>,
}

impl Timers {
    /// Until the tunnel ends.
    pub(crate) fn run(mut self) {
        let mut counted_from = Instant::now();
        while self.stop.wait(TICK) == Wake::Ready {
            let now = Instant::now();
            if now.duration_since(counted_from) >= SECOND {
                counted_from = now;
                self.doorkeeper.tick();
            }
            for peer in self.view.refresh().peers() {
                if let Some(session) = peer.lock().as_mut() {
                    session.tick(now, &mut self.outbox);
                }
                let failed = self.outbox.flush(&mut self.sender, &self.stop);
                self.counters.not_sent.fetch_add(failed, Ordering::Relaxed);
            }
        }
    }
}

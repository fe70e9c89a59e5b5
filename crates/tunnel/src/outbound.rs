//! From inside to outside: reads packets of the kernel, finds whose they are, encrypts and sends them.

use std::{
    io,
    os::fd::AsFd,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use rustix::event::PollFlags;

use crate::{
    counters::Counters,
    device::{Queue, Segments, is_gone},
    outbox::Outbox,
    packet,
    socket::Sender,
    stop::{Stop, Wake},
    table::View,
};

/// How long an idle thread holds on to a table that was replaced.
pub(crate) const IDLE: Duration = Duration::from_secs(1);

/// How long to wait after an error that may pass, such as an interface that somebody took down.
pub(crate) const PAUSE: Duration = Duration::from_millis(100);

/// One thread of this direction.
pub(crate) struct Outbound {
    pub(crate) queue: Arc<Queue>,
    pub(crate) sender: Sender,
    pub(crate) view: View,
    pub(crate) counters: Arc<Counters>,
    pub(crate) stop: Arc<Stop>,
    pub(crate) segments: Segments,
    pub(crate) outbox: Outbox,
}

impl Outbound {
    /// Until the tunnel ends, or its interface is gone.
    pub(crate) fn run(mut self) {
        while !self.stop.is_set() {
            match self.queue.read(&mut self.segments) {
                Ok(()) => {
                    self.seal();
                    if self.outbox.is_enough() {
                        self.flush();
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.flush();
                    if self.stop.wait_for(self.queue.as_fd(), PollFlags::IN, IDLE) == Wake::Stopped {
                        return;
                    }
                    self.view.refresh();
                }
                Err(error) if is_gone(&error) => return self.counters.interface_is_gone(&error),
                Err(error) => {
                    self.counters.malformed_inside.fetch_add(1, Ordering::Relaxed);
                    // The kernel's own errors persist for a while; those of one packet have no number.
                    if error.raw_os_error().is_some() && self.stop.wait(PAUSE) == Wake::Stopped {
                        return;
                    }
                }
            }
        }
    }

    fn seal(&mut self) {
        let Some(destination) = packet::destination(self.segments.first()) else {
            self.counters.malformed_inside.fetch_add(1, Ordering::Relaxed);
            return;
        };
        let Some(peer) = self.view.refresh().by_address(destination) else {
            self.counters.no_peer.fetch_add(1, Ordering::Relaxed);
            return;
        };
        let mut session = peer.lock();
        let Some(session) = session.as_mut() else { return };
        for packet in self.segments.iter() {
            if !self.outbox.has_room(packet.len()) {
                let failed = self.outbox.flush(&mut self.sender, &self.stop);
                self.counters.not_sent.fetch_add(failed, Ordering::Relaxed);
            }
            session.seal(packet, &mut self.outbox);
        }
    }

    fn flush(&mut self) {
        let failed = self.outbox.flush(&mut self.sender, &self.stop);
        self.counters.not_sent.fetch_add(failed, Ordering::Relaxed);
    }
}

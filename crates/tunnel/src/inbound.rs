//! From outside to inside: reads datagrams, finds whose they are, decrypts them and hands them to the kernel. Handshakes
//! are `handshake`'s.

use std::{
    array,
    io::{self, IoSliceMut},
    os::fd::AsFd,
    sync::{Arc, MutexGuard, atomic::Ordering},
};

use boringtun::noise::{TunnResult, errors::WireGuardError};
use quinn_udp::RecvMeta;
use rustix::event::PollFlags;
use tokio::sync::mpsc;

use crate::{
    Aside,
    counters::Counters,
    device::{Deliveries, Queue},
    handshake::Doorkeeper,
    outbound::{IDLE, PAUSE},
    outbox::Outbox,
    packet,
    path::Origin,
    peer::{Peer, Session},
    socket::{Endpoint, Receiver, Sender, origin},
    stop::{Stop, Wake},
    table::{Table, View},
};

/// How many datagrams, or joined ones, one read takes. Few, so that all stay in the cache until they are decrypted.
const BATCH: usize = 4;

/// The largest datagram, or joined ones.
const LARGEST: usize = 65_535;

/// From this number on a session has sent too much; the protocol ends it before.
const COUNTER_LIMIT: u64 = u64::MAX - (1 << 13);

/// What one read filled.
pub(crate) struct Arrivals {
    buffers: [Box<[u8]>; BATCH],
    details: [RecvMeta; BATCH],
}

/// One thread of this direction.
pub(crate) struct Inbound {
    pub(crate) receiver: Receiver,
    pub(crate) arrivals: Arrivals,
    pub(crate) view: View,
    pub(crate) desk: Desk,
}

/// What is done with one datagram after the other.
pub(crate) struct Desk {
    pub(crate) queue: Arc<Queue>,
    pub(crate) sender: Sender,
    pub(crate) deliveries: Deliveries,
    pub(crate) outbox: Outbox,
    pub(crate) doorkeeper: Arc<Doorkeeper>,
    pub(crate) relayed: Option<u8>,
    pub(crate) asides: Option<mpsc::Sender<Aside>>,
    pub(crate) counters: Arc<Counters>,
    pub(crate) stop: Arc<Stop>,
    /// The most bytes of a packet that may wait for a handshake.
    pub(crate) largest_packet: usize,
}

/// The peer of the last datagram, kept locked as the next one is most often from the same.
type Held<'table> = Option<(&'table Peer, MutexGuard<'table, Option<Session>>)>;

impl Arrivals {
    pub(crate) fn new() -> Self {
        Self { buffers: array::from_fn(|_| vec![0; LARGEST].into()), details: [RecvMeta::default(); BATCH] }
    }
}

impl Inbound {
    /// Until the tunnel ends.
    pub(crate) fn run(mut self) {
        while !self.desk.stop.is_set() {
            let Arrivals { buffers, details } = &mut self.arrivals;
            let mut slices = buffers.each_mut().map(|buffer| IoSliceMut::new(buffer));
            match self.receiver.receive(&mut slices, details) {
                Ok(count) => self.open(count),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    let socket = self.receiver.socket().as_fd();
                    if self.desk.stop.wait_for(socket, PollFlags::IN, IDLE) == Wake::Stopped {
                        return;
                    }
                    self.view.refresh();
                }
                // Such as a lack of memory, which passes.
                Err(_) => {
                    if self.desk.stop.wait(PAUSE) == Wake::Stopped {
                        return;
                    }
                }
            }
        }
    }

    fn open(&mut self, count: usize) {
        let table = self.view.refresh();
        let mut held = None;
        let Arrivals { buffers, details } = &self.arrivals;
        for (buffer, details) in buffers.iter().zip(details).take(count) {
            let from = origin(details);
            let filled = &buffer[..details.len.min(buffer.len())];
            if filled.is_empty() {
                self.desk.counters.malformed_outside.fetch_add(1, Ordering::Relaxed);
            }
            for datagram in filled.chunks(details.stride.max(1)) {
                self.desk.take(table, &mut held, from, datagram);
            }
        }
        drop(held);
        self.desk.deliver();
        self.desk.flush();
    }
}

impl Desk {
    fn take<'table>(
        &mut self,
        table: &'table Table,
        held: &mut Held<'table>,
        from: Endpoint,
        datagram: &[u8],
    ) {
        if packet::is_wireguard(datagram) {
            return self.take_message(table, held, Origin::Direct(from), datagram);
        }
        match datagram {
            // Whoever wrapped it: what is inside proves itself, and answers go to the peer's own relay.
            [first, message @ ..] if Some(*first) == self.relayed && packet::is_wireguard(message) => {
                self.take_message(table, held, Origin::Relayed(from), message);
            }
            _ => self.pass_aside(from, datagram),
        }
    }

    fn take_message<'table>(
        &mut self,
        table: &'table Table,
        held: &mut Held<'table>,
        origin: Origin,
        datagram: &[u8],
    ) {
        let Some(header) = packet::DataHeader::read(datagram) else {
            // A handshake may be of any peer, so none may stay locked.
            *held = None;
            return self.take_handshake(table, origin, datagram);
        };
        let slot = header.receiver >> 8;
        if held.as_ref().is_none_or(|(peer, _)| u32::try_from(peer.slot) != Ok(slot)) {
            *held = None;
            *held = table.by_index(header.receiver).map(|peer| (&**peer, peer.lock()));
        }
        let Some((peer, session)) = held else {
            self.counters.unknown_sender.fetch_add(1, Ordering::Relaxed);
            return;
        };
        let Some(session) = session.as_mut() else { return };
        if header.counter >= COUNTER_LIMIT {
            session.drops.replayed += 1;
            return;
        }
        self.open(table, peer, session, origin, datagram);
        if self.deliveries.is_full() {
            *held = None;
            self.deliver();
        }
    }

    /// Decrypts a message that says it carries a packet of `peer`.
    fn open(&mut self, table: &Table, peer: &Peer, session: &mut Session, origin: Origin, datagram: &[u8]) {
        let delivered = match session.tunn.decapsulate(None, datagram, self.deliveries.room()) {
            TunnResult::WriteToTunnelV4(packet, _) | TunnResult::WriteToTunnelV6(packet, _) => {
                match packet::source(packet) {
                    Some(source) if table.allows(source, peer.slot) => Some(packet.len()),
                    Some(_) => {
                        session.drops.source_not_allowed += 1;
                        None
                    }
                    None => {
                        session.drops.malformed += 1;
                        None
                    }
                }
            }
            // A keepalive.
            TunnResult::Done => None,
            TunnResult::Err(WireGuardError::InvalidPacket) => {
                session.drops.malformed += 1;
                None
            }
            TunnResult::Err(WireGuardError::DuplicateCounter | WireGuardError::InvalidCounter) => {
                session.drops.replayed += 1;
                return;
            }
            TunnResult::Err(_) | TunnResult::WriteToNetwork(_) => {
                session.drops.not_authentic += 1;
                return;
            }
        };
        if let Some(to) = session.hear(origin) {
            if !self.outbox.has_room(0) {
                self.flush();
            }
            session.probe(to, &mut self.outbox);
        }
        if let Some(size) = delivered {
            session.received += size as u64;
            self.deliveries.push(size);
        }
        self.release(session);
    }

    /// Sends what waited for keys of this peer.
    pub(crate) fn release(&mut self, session: &mut Session) {
        let failed = session.release(self.largest_packet, &mut self.outbox, &mut self.sender, &self.stop);
        if failed > 0 {
            self.counters.not_sent.fetch_add(failed, Ordering::Relaxed);
        }
    }

    fn pass_aside(&self, from: Endpoint, datagram: &[u8]) {
        match self.asides.as_ref().and_then(|asides| asides.try_reserve().ok()) {
            Some(place) => place.send(Aside { from: from.address, payload: datagram.to_vec() }),
            None => {
                self.counters.asides.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// Sends what is to be sent.
    pub(crate) fn flush(&mut self) {
        let failed = self.outbox.flush(&mut self.sender, &self.stop);
        self.counters.not_sent.fetch_add(failed, Ordering::Relaxed);
    }

    /// Hands the kernel what it is to get.
    fn deliver(&mut self) {
        if self.deliveries.is_empty() {
            return;
        }
        if self.queue.write(&mut self.deliveries).is_err() {
            self.counters.not_delivered.fetch_add(1, Ordering::Relaxed);
        }
    }
}

//! Encrypted datagrams on their way out, laid side by side so that the kernel takes many in one call.

use crate::{
    path::{MOST_ENDPOINTS, Target},
    settings::RELAY_PREFIX,
    socket::{Endpoint, Sender},
    stop::Stop,
};

/// What the protocol adds to a packet: a header of 16 bytes and a tag of 16.
pub(crate) const OVERHEAD: usize = 32;

/// The largest message of a handshake, which may take the place of a packet.
pub(crate) const HANDSHAKE: usize = 148;

/// Kept free for handshakes that go everywhere at once, and for what goes in front of a message to a relay.
const SPARE: usize = (MOST_ENDPOINTS + 3) * (HANDSHAKE + RELAY_PREFIX);

/// What the kernel takes in one call: 64 segments, and what fits in one datagram of IPv4.
const RUN_DATAGRAMS: usize = 64;
const RUN_BYTES: usize = 65_507;

/// A full batch of segments is worth a call; waiting for more only adds delay.
const ENOUGH: usize = 56_000;

/// Enough, and the segments of one more read: 64 KiB of payload in [`crate::device::SEGMENTS`] packets with headers.
const CAPACITY: usize = 256 << 10;

/// Datagrams in the order in which they are to be sent.
#[derive(Debug)]
pub(crate) struct Outbox {
    bytes: Box<[u8]>,
    length: usize,
    runs: Vec<Run>,
}

/// Datagrams to one endpoint, of one size but for the last.
#[derive(Debug)]
struct Run {
    to: Endpoint,
    start: usize,
    end: usize,
    size: usize,
    count: usize,
    /// A shorter datagram ended it.
    closed: bool,
}

impl Outbox {
    pub(crate) fn new() -> Self {
        Self { bytes: vec![0; CAPACITY].into(), length: 0, runs: Vec::with_capacity(64) }
    }

    /// Where the next datagram is written before it is pushed. Panics on a packet that was not checked by `has_room`.
    pub(crate) fn room(&mut self, packet: usize) -> &mut [u8] {
        &mut self.bytes[self.length..][..(packet + OVERHEAD).max(HANDSHAKE)]
    }

    pub(crate) fn has_room(&self, packet: usize) -> bool {
        self.length + (packet + OVERHEAD).max(HANDSHAKE) + SPARE <= self.bytes.len()
    }

    /// As [`Outbox::room`], behind `prefix`.
    pub(crate) fn room_behind(&mut self, prefix: &[u8], packet: usize) -> &mut [u8] {
        let (front, room) = self.bytes[self.length..].split_at_mut(prefix.len());
        front.copy_from_slice(prefix);
        &mut room[..(packet + OVERHEAD).max(HANDSHAKE)]
    }

    /// Takes a whole message, of at most the length of a handshake, for one of the places that it goes to.
    pub(crate) fn put(&mut self, target: Target<'_>, message: &[u8]) {
        self.room_behind(target.prefix, 0)[..message.len()].copy_from_slice(message);
        self.push(target.to, target.prefix.len() + message.len());
    }

    /// Takes the first `size` bytes of the room as a datagram to `to`.
    pub(crate) fn push(&mut self, to: Endpoint, size: usize) {
        let start = self.length;
        self.length += size;
        if let Some(run) = self.runs.last_mut()
            && run.takes(to, size)
        {
            run.end = self.length;
            run.count += 1;
            run.closed = size < run.size;
        } else {
            self.runs.push(Run { to, start, end: self.length, size, count: 1, closed: false });
        }
    }

    pub(crate) fn is_enough(&self) -> bool {
        self.length >= ENOUGH
    }

    /// Sends all of it. Returns how many datagrams were not sent.
    pub(crate) fn flush(&mut self, sender: &mut Sender, stop: &Stop) -> u64 {
        let mut failed = 0;
        for run in self.runs.drain(..) {
            failed += sender.send(stop, run.to, &self.bytes[run.start..run.end], run.size);
        }
        self.length = 0;
        failed
    }
}

impl Run {
    fn takes(&self, to: Endpoint, size: usize) -> bool {
        !self.closed
            && self.to == to
            && size <= self.size
            && self.count < RUN_DATAGRAMS
            && self.end - self.start + size <= RUN_BYTES
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn runs(outbox: &Outbox) -> Vec<(u16, usize, usize)> {
        outbox.runs.iter().map(|run| (run.to.address.port(), run.size, run.count)).collect()
    }

    fn to(port: u16) -> Endpoint {
        Endpoint { address: ([127, 0, 0, 1], port).into(), local: None }
    }

    #[test]
    fn datagrams_of_one_size_and_a_shorter_last_one_go_together() {
        let mut outbox = Outbox::new();
        for size in [1452, 1452, 700, 700, 1452] {
            outbox.push(to(1), size);
        }
        assert_eq!(runs(&outbox), [(1, 1452, 3), (1, 700, 1), (1, 1452, 1)]);
    }

    #[test]
    fn another_endpoint_starts_another_run() {
        let mut outbox = Outbox::new();
        for port in [1, 1, 2, 1] {
            outbox.push(to(port), 100);
        }
        assert_eq!(runs(&outbox), [(1, 100, 2), (2, 100, 1), (1, 100, 1)]);
    }

    #[test]
    fn a_run_is_no_more_than_the_kernel_takes() {
        let mut outbox = Outbox::new();
        for _ in 0..65 {
            outbox.push(to(1), 64);
        }
        for _ in 0..46 {
            outbox.push(to(2), 1452);
        }
        assert_eq!(runs(&outbox), [(1, 64, 64), (1, 64, 1), (2, 1452, 45), (2, 1452, 1)]);
        assert!(outbox.is_enough());
    }
}

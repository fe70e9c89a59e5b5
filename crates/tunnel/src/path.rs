//! The way to one peer: which of the places it may be at is used, and which are tried. Pure: the clock is an argument, and
//! what is to be sent is sent by `peer`.
//!
//! ```text
//!               handshakes go everywhere           packets go there, handshakes first
//!   searching ──── answer from a place ──────────► direct ─── 15 s without an answer ──► searching
//!             ──── answer by the relay ──────────► relayed
//!                                                     │ probes to all places, which open the way through address translation
//!                                                     └─── an answer to one ──► direct
//! ```
//!
//! A probe is an empty packet under the keys of the session, so that nothing but the protocol itself has to be trusted: an
//! authentic packet that comes straight from where a probe went shows that both directions work. On a direct way a peer
//! is followed wherever its packets come from, as ever in WireGuard; what comes by the relay moves nobody away from it.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use crate::{settings, socket::Endpoint};

/// More places than this are not tried.
pub(crate) const MOST_ENDPOINTS: usize = 4;

/// Without an answer for so long, a way is taken for dead. The other side speaks within 10 s of any packet.
const DEAD_AFTER: Duration = Duration::from_secs(15);

/// When nothing has come directly for so long and something comes by the relay, the other side does not use the direct
/// way, and will not get what is sent there. Longer than it takes to find the way for both.
const DESERTED_AFTER: Duration = Duration::from_secs(5);

/// How often direct places are tried while packets go by the relay. Less than the 30 s after which address translation may
/// forget a probe, so that the other side's next one meets an open way.
const PROBE_INTERVAL: Duration = Duration::from_secs(20);

/// The first probes are repeated soon, as one of them may be lost.
const SOON: Duration = Duration::from_secs(1);
const PROBES_SOON: u32 = 3;

/// An answer to a probe that comes later than this has another reason.
const PROBE_COUNTS: Duration = Duration::from_secs(30);

/// Where something came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Origin {
    /// Straight from there.
    Direct(Endpoint),
    /// Passed on by a relay, at this address.
    Relayed(Endpoint),
}

impl Origin {
    /// Who sent it last.
    pub(crate) fn address(&self) -> SocketAddr {
        match self {
            Self::Direct(endpoint) | Self::Relayed(endpoint) => endpoint.address,
        }
    }
}

/// Where packets go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Nowhere,
    Direct(Endpoint),
    Relayed,
}

/// Where one message goes, and what goes in front of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Target<'path> {
    pub(crate) to: Endpoint,
    pub(crate) prefix: &'path [u8],
}

/// What a path asks for by the clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Due {
    Nothing,
    /// To send a handshake.
    Search,
    /// To send probes.
    Probe,
}

/// See the module's description.
#[derive(Debug)]
pub(crate) struct Path {
    endpoints: Vec<SocketAddr>,
    relay: Option<settings::Relay>,
    way: Way,
    /// No authentic answer has come over `way` yet, or none for too long.
    searching: bool,
    /// A handshake was begun and nothing has come since.
    greeted: bool,
    /// When something was sent that is answered, with no answer over `way` since.
    unanswered_since: Option<Instant>,
    /// When something came directly last.
    heard_directly: Option<Instant>,
    /// Places where something went that is answered, and when.
    probed: Vec<(SocketAddr, Instant)>,
    /// How many probes were sent since packets go by the relay, and when the last was.
    probes: u32,
    last_probe: Option<Instant>,
    /// Packets went by the relay before: something in between closes the way when nobody speaks.
    found_by_relay: bool,
}

impl Path {
    pub(crate) fn new(wanted: &settings::Peer) -> Self {
        let mut path = Self {
            endpoints: Vec::new(),
            relay: None,
            way: Way::Nowhere,
            searching: true,
            greeted: false,
            unanswered_since: None,
            heard_directly: None,
            probed: Vec::new(),
            probes: 0,
            last_probe: None,
            found_by_relay: false,
        };
        path.take_places(wanted);
        path.fall_back();
        path
    }

    /// Takes over where the peer may be. Returns whether it is to be tried at once.
    pub(crate) fn configure(&mut self, wanted: &settings::Peer) -> bool {
        let known = std::mem::take(&mut self.endpoints);
        let relay = self.relay.take();
        self.take_places(wanted);
        let is_new = self.endpoints.iter().any(|endpoint| !known.contains(endpoint));
        let has_other_relay = self.relay != relay;
        if has_other_relay && self.way == Way::Relayed {
            // Until an answer comes the other way.
            self.searching = true;
        }
        let is_away = match self.way {
            Way::Direct(at) => !self.endpoints.contains(&at.address),
            Way::Relayed | Way::Nowhere => false,
        };
        if is_new && is_away {
            // It has moved, as somebody knows who hears of it earlier than we.
            self.searching = true;
        }
        if self.searching {
            self.fall_back();
        }
        if is_new && self.way == Way::Relayed {
            self.probes = 0;
            self.last_probe = None;
        }
        self.searching && (is_new || has_other_relay)
    }

    fn take_places(&mut self, wanted: &settings::Peer) {
        for endpoint in wanted.endpoints.iter().take(MOST_ENDPOINTS) {
            if !self.endpoints.contains(endpoint) {
                self.endpoints.push(*endpoint);
            }
        }
        self.relay = wanted.relay;
    }

    /// Where packets go while nobody has answered: by the relay if there is one, as it is the surest.
    fn fall_back(&mut self) {
        match (&self.relay, self.endpoints.first()) {
            (Some(_), _) => self.way = Way::Relayed,
            (None, Some(first)) => self.way = Way::Direct((*first).into()),
            (None, None) => {}
        }
    }

    fn relayed(&self) -> Option<Target<'_>> {
        let relay = self.relay.as_ref()?;
        Some(Target { to: relay.address.into(), prefix: &relay.prefix })
    }

    /// Where packets go; `None` when nobody knows.
    pub(crate) fn target(&self) -> Option<Target<'_>> {
        match self.way {
            Way::Direct(to) => Some(Target { to, prefix: &[] }),
            Way::Relayed => self.relayed(),
            Way::Nowhere => None,
        }
    }

    pub(crate) fn is_relayed(&self) -> bool {
        self.way == Way::Relayed
    }

    pub(crate) fn was_found_by_relay(&self) -> bool {
        self.found_by_relay
    }

    /// Notes that a handshake is begun, and says where its message goes: where packets do, or, while there is doubt,
    /// everywhere.
    pub(crate) fn greet(&mut self, now: Instant) -> impl Iterator<Item = Target<'_>> {
        if std::mem::replace(&mut self.greeted, true) {
            self.searching = true;
        }
        self.note_sent(now);
        let everywhere = self.searching || self.way == Way::Relayed;
        if everywhere {
            for index in 0..self.endpoints.len() {
                self.note_probe(self.endpoints[index], now);
            }
        }
        let Self { endpoints, relay, way, .. } = &*self;
        let direct = match way {
            Way::Direct(to) => Some(*to),
            Way::Relayed | Way::Nowhere => None,
        };
        let others = endpoints
            .iter()
            .filter(move |endpoint| everywhere && direct.is_none_or(|to| to.address != **endpoint))
            .map(|endpoint| Endpoint::from(*endpoint));
        let relay = relay.as_ref().filter(|_| everywhere);
        direct
            .into_iter()
            .chain(others)
            .map(|to| Target { to, prefix: &[] })
            .chain(relay.map(|relay| Target { to: relay.address.into(), prefix: &relay.prefix }))
    }

    /// Where an answer to a handshake goes that came from `origin`; `None` when there is no way back.
    pub(crate) fn back(&mut self, origin: Origin, now: Instant) -> Option<Target<'_>> {
        match origin {
            Origin::Direct(to) => {
                self.note_probe(to.address, now);
                Some(Target { to, prefix: &[] })
            }
            Origin::Relayed(_) => self.relayed(),
        }
    }

    /// Something was sent that the other side answers.
    pub(crate) fn note_sent(&mut self, now: Instant) {
        if self.unanswered_since.is_none() {
            self.unanswered_since = Some(now);
        }
    }

    fn note_probe(&mut self, to: SocketAddr, now: Instant) {
        self.probed.retain(|(place, at)| *place != to && now.saturating_duration_since(*at) < PROBE_COUNTS);
        self.probed.push((to, now));
    }

    fn was_probed(&self, place: SocketAddr, now: Instant) -> bool {
        let counts = |at: Instant| now.saturating_duration_since(at) < PROBE_COUNTS;
        self.probed.iter().any(|(probed, at)| *probed == place && counts(*at))
    }

    /// Something authentic came. Returns a place to send a probe to.
    pub(crate) fn hear(&mut self, origin: Origin, now: Instant) -> Option<Endpoint> {
        self.greeted = false;
        match origin {
            Origin::Direct(from) if self.way == Way::Direct(from) => {
                self.heard_directly = Some(now);
                self.settle();
                None
            }
            Origin::Direct(from) => self.hear_from(from, now),
            Origin::Relayed(_) => {
                self.hear_by_relay(now);
                None
            }
        }
    }

    fn hear_from(&mut self, from: Endpoint, now: Instant) -> Option<Endpoint> {
        let was_relayed = self.way == Way::Relayed;
        if was_relayed && !self.was_probed(from.address, now) {
            // That it reaches us does not say that we reach it.
            self.note_probe(from.address, now);
            return Some(from);
        }
        self.way = Way::Direct(from);
        self.heard_directly = Some(now);
        self.settle();
        // The other side learns by it that we reach it.
        was_relayed.then_some(from)
    }

    fn hear_by_relay(&mut self, now: Instant) {
        let lately = |at: Instant| now.saturating_duration_since(at) < DESERTED_AFTER;
        let is_alive = match self.way {
            // The other side may not have found the direct way yet.
            Way::Direct(_) => !self.searching && self.heard_directly.is_some_and(lately),
            Way::Nowhere | Way::Relayed => false,
        };
        if is_alive || self.relay.is_none() {
            return;
        }
        if self.searching || self.way != Way::Relayed {
            self.probes = 0;
            self.last_probe = None;
        }
        self.way = Way::Relayed;
        self.settle();
        self.found_by_relay = true;
    }

    fn settle(&mut self) {
        self.searching = false;
        self.unanswered_since = None;
    }

    /// The other side was given up by the protocol: wherever it was, it may come back where it should be.
    pub(crate) fn give_up(&mut self) {
        self.searching = true;
        self.unanswered_since = None;
        self.greeted = false;
        self.fall_back();
    }

    /// What is due by now.
    pub(crate) fn tick(&mut self, now: Instant) -> Due {
        let silent =
            self.unanswered_since.is_some_and(|since| now.saturating_duration_since(since) >= DEAD_AFTER);
        if silent && !self.searching {
            self.searching = true;
            self.unanswered_since = None;
            if self.relay.is_some() {
                self.way = Way::Relayed;
            }
            return Due::Search;
        }
        if self.searching || self.way != Way::Relayed || self.endpoints.is_empty() {
            return Due::Nothing;
        }
        let interval = if self.probes < PROBES_SOON { SOON } else { PROBE_INTERVAL };
        if self.last_probe.is_some_and(|last| now.saturating_duration_since(last) < interval) {
            return Due::Nothing;
        }
        Due::Probe
    }

    /// Notes that probes are sent, and says where to.
    pub(crate) fn probe(&mut self, now: Instant) -> Vec<Endpoint> {
        self.probes = self.probes.saturating_add(1);
        self.last_probe = Some(now);
        for index in 0..self.endpoints.len() {
            self.note_probe(self.endpoints[index], now);
        }
        self.endpoints.iter().map(|endpoint| Endpoint::from(*endpoint)).collect()
    }
}

#[cfg(test)]
mod tests;

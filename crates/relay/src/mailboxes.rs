//! What a relay does with a datagram. Pure: the socket is in `server`, the clock an argument.

use std::{collections::BTreeMap, net::SocketAddr};

use link::{DatagramKey, DatagramSession};
use model::Moment;

use crate::{
    tenants::Tenants,
    wire::{self, Destination, REGISTRATION, Registration, Request},
};

/// Who was not heard from for so long gets nothing more: three registrations were lost, and the way is likely closed.
pub(crate) const REGISTERED_MILLIS: u64 = 65_000;

/// A device registers no faster: each move is told to all that call it.
const REGISTER_AGAIN_MILLIS: u64 = 500;

/// What one mailbox is passed on at most: 16 MiB a second, which is 134 Mbit/s, so that nobody takes a site's whole line
/// through its relay; and that much of it at once, which a slow start of TCP stays below.
const BYTES_PER_MILLI: u64 = 16 << 10;
const BURST: u64 = 1 << 20;

/// A device was seen at another place than before, or for the first time in its session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    /// The session it registered by.
    pub session: u64,
    /// Where its registration came from.
    pub endpoint: SocketAddr,
}

/// What is to be done with a datagram.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict<'datagram> {
    /// It is dropped without an answer.
    Drop,
    /// It is answered.
    Answer { bytes: [u8; REGISTRATION], to: SocketAddr, seen: Option<Seen> },
    /// It is passed on.
    Pass { message: &'datagram [u8], to: SocketAddr },
}

/// The mailbox of one device.
#[derive(Debug)]
pub(crate) struct Mailbox {
    pub(crate) key: DatagramKey,
    /// Of the last registration that counted, behind its challenge if it had one.
    number: (u64, u64),
    /// Where that came from, and when.
    registered: Option<(SocketAddr, Moment)>,
    /// Bytes that may be passed on at once, and when that was so.
    budget: (u64, Moment),
}

impl Mailbox {
    pub(crate) fn new(key: DatagramKey) -> Self {
        Self { key, number: (0, 0), registered: None, budget: (BURST, Moment::default()) }
    }

    /// Whether it has registered and was heard from lately.
    pub(crate) fn is_registered(&self, now: Moment) -> bool {
        self.registered.is_some_and(|(_, at)| now.millis_since(at) <= REGISTERED_MILLIS)
    }

    /// Takes a genuine registration. Returns whether that is the first by its key, or from another place than before;
    /// `None` for one that does not count.
    pub(crate) fn register(&mut self, number: (u64, u64), from: SocketAddr, now: Moment) -> Option<bool> {
        // One that is repeated, or was held back by a stranger, must not say where the device is.
        if number <= self.number {
            return None;
        }
        if self.registered.is_some_and(|(_, at)| now.millis_since(at) < REGISTER_AGAIN_MILLIS) {
            return None;
        }
        // The device may say of itself that it is elsewhere than in the session before.
        let first = self.number == (0, 0);
        self.number = number;
        let moved = self.registered.is_none_or(|(before, _)| before != from);
        self.registered = Some((from, now));
        Some(first || moved)
    }

    fn pass<'datagram>(&mut self, message: &'datagram [u8], now: Moment) -> Option<Verdict<'datagram>> {
        let (to, _) = self.registered.filter(|_| self.is_registered(now))?;
        let size = u64::try_from(message.len()).unwrap_or(u64::MAX);
        let (left, at) = self.budget;
        let left = now.millis_since(at).saturating_mul(BYTES_PER_MILLI).saturating_add(left).min(BURST);
        self.budget = (left.saturating_sub(size), now);
        (left >= size).then_some(Verdict::Pass { message, to })
    }
}

/// All mailboxes of a relay.
#[derive(Debug, Default)]
pub(crate) struct Mailboxes {
    by_session: BTreeMap<u64, (Destination, Mailbox)>,
    by_destination: BTreeMap<Destination, u64>,
    /// Mailboxes of devices that are not known before they register.
    pub(crate) tenants: Tenants,
}

impl Mailboxes {
    pub(crate) fn new(tenants: Tenants) -> Self {
        Self { tenants, ..Self::default() }
    }

    /// Opens the mailbox `destination` for a session, in place of the session `before` of the same device. Until it
    /// registers anew the mailbox is where it was. False when the mailbox is another device's, or the session's id is
    /// taken; then nothing changes.
    pub(crate) fn open(
        &mut self,
        session: &DatagramSession,
        destination: Destination,
        before: Option<u64>,
    ) -> bool {
        let holder = self.by_destination.get(&destination);
        if holder.is_some_and(|holder| Some(*holder) != before) || self.by_session.contains_key(&session.id) {
            return false;
        }
        let before = before.and_then(|before| self.close(before));
        let mut mailbox = Mailbox::new(session.datagram_key());
        if let Some((_, before)) = before.filter(|(mailbox, _)| *mailbox == destination) {
            (mailbox.registered, mailbox.budget) = (before.registered, before.budget);
        }
        self.by_destination.insert(destination, session.id);
        self.by_session.insert(session.id, (destination, mailbox));
        true
    }

    /// Nothing is passed on to it any more, and another device may have it.
    pub(crate) fn close(&mut self, session: u64) -> Option<(Destination, Mailbox)> {
        let closed = self.by_session.remove(&session)?;
        self.by_destination.remove(&closed.0);
        Some(closed)
    }

    /// Decides about a datagram that came from `from`.
    pub(crate) fn take<'datagram>(
        &mut self,
        datagram: &'datagram [u8],
        from: SocketAddr,
        now: Moment,
    ) -> Verdict<'datagram> {
        let verdict = match Request::parse(datagram) {
            Some(Request::Register(registration)) => self.register(&registration, from, now),
            Some(Request::Enter(entry)) => self.tenants.enter(&entry, from, now),
            Some(Request::Forward { destination, message }) => {
                self.mailbox(destination).and_then(|mailbox| mailbox.pass(message, now))
            }
            None => None,
        };
        verdict.unwrap_or(Verdict::Drop)
    }

    fn register(
        &mut self,
        registration: &Registration<'_>,
        from: SocketAddr,
        now: Moment,
    ) -> Option<Verdict<'static>> {
        let (_, mailbox) = self.by_session.get_mut(&registration.session)?;
        if !registration.holds(&mailbox.key) {
            return None;
        }
        let is_news = mailbox.register((0, registration.number), from, now)?;
        let endpoint = canonical(from);
        let seen = is_news.then_some(Seen { session: registration.session, endpoint });
        let bytes = wire::registered(registration.session, registration.number, endpoint, &mailbox.key);
        Some(Verdict::Answer { bytes, to: from, seen })
    }

    fn mailbox(&mut self, destination: Destination) -> Option<&mut Mailbox> {
        match self.by_destination.get(&destination) {
            Some(session) => self.by_session.get_mut(session).map(|(_, mailbox)| mailbox),
            None => self.tenants.mailbox(destination),
        }
    }
}

/// A place as others are told of it.
pub(crate) fn canonical(place: SocketAddr) -> SocketAddr {
    SocketAddr::new(place.ip().to_canonical(), place.port())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{Order, Proof, Registrar};

    const START: Moment = Moment(1_000_000);

    fn session(id: u64) -> DatagramSession {
        DatagramSession { id, key: [u8::try_from(id).expect("few"); 32] }
    }

    fn destination(number: u8) -> Destination {
        Destination::of(&[number; 32])
    }

    fn place(port: u16) -> SocketAddr {
        ([198, 51, 100, 7], port).into()
    }

    fn registrar(id: u64) -> Registrar {
        Registrar::new(Order { relay: place(1), own: None, proof: Proof::Session(session(id)) })
    }

    fn message(length: usize) -> Vec<u8> {
        let mut message = vec![9; length];
        message[..4].copy_from_slice(&[4, 0, 0, 0]);
        message
    }

    fn to(number: u8, message: &[u8]) -> Vec<u8> {
        [&wire::forward_prefix(destination(number)), message].concat()
    }

    /// The mailbox 1, registered at `place(5)`, and who registered.
    fn registered() -> (Mailboxes, Registrar) {
        let mut mailboxes = Mailboxes::default();
        assert!(mailboxes.open(&session(1), destination(1), None));
        let mut device = registrar(1);
        let datagram = device.register(START);
        let verdict = mailboxes.take(&datagram, place(5), START);
        let seen = Seen { session: 1, endpoint: place(5) };
        assert!(
            matches!(verdict, Verdict::Answer { to, seen: told, .. } if (to, told) == (place(5), Some(seen)))
        );
        (mailboxes, device)
    }

    #[test]
    fn a_registered_device_is_passed_on_what_anybody_sends_it() {
        let (mut mailboxes, _) = registered();
        let message = message(1452);
        assert_eq!(
            mailboxes.take(&to(1, &message), place(99), START),
            Verdict::Pass { message: &message, to: place(5) }
        );
        assert_eq!(mailboxes.take(&to(2, &message), place(99), START), Verdict::Drop, "nobody's mailbox");
    }

    #[test]
    fn who_has_not_registered_or_not_lately_gets_nothing() {
        let mut mailboxes = Mailboxes::default();
        mailboxes.open(&session(1), destination(1), None);
        assert_eq!(mailboxes.take(&to(1, &message(40)), place(99), START), Verdict::Drop);
        let (mut mailboxes, mut device) = registered();
        let late = START.plus_millis(REGISTERED_MILLIS + 1);
        assert_eq!(mailboxes.take(&to(1, &message(40)), place(99), late), Verdict::Drop);
        mailboxes.take(&device.register(late), place(5), late);
        assert!(matches!(mailboxes.take(&to(1, &message(40)), place(99), late), Verdict::Pass { .. }));
    }

    #[test]
    fn a_repeated_or_forged_registration_moves_nobody_and_is_not_answered() {
        let (mut mailboxes, mut device) = registered();
        let [soon, later] = [1_000, 2_000].map(|millis| START.plus_millis(millis));
        let held_back = device.register(soon);
        mailboxes.take(&device.register(soon), place(6), soon);
        assert_eq!(mailboxes.take(&held_back, place(66), later), Verdict::Drop, "an older one");
        let mut forged = device.register(later);
        forged[42] ^= 1;
        assert_eq!(mailboxes.take(&forged, place(66), later), Verdict::Drop);
        assert_eq!(
            mailboxes.take(&registrar(2).register(later), place(66), later),
            Verdict::Drop,
            "no session"
        );
        let message = message(40);
        assert!(matches!(
            mailboxes.take(&to(1, &message), place(99), START),
            Verdict::Pass { to, .. } if to == place(6)
        ));
    }

    #[test]
    fn only_a_move_or_another_session_is_news() {
        let (mut mailboxes, mut device) = registered();
        let mut now = START;
        let mut told = |port, millis| {
            now = now.plus_millis(millis);
            match mailboxes.take(&device.register(now), place(port), now) {
                Verdict::Answer { seen, .. } => Some(seen.map(|seen| seen.endpoint)),
                Verdict::Drop | Verdict::Pass { .. } => None,
            }
        };
        let moved = [told(5, 1000), told(6, 1000), told(6, 1000)];
        assert_eq!(moved, [Some(None), Some(Some(place(6))), Some(None)]);
        assert_eq!(told(7, REGISTER_AGAIN_MILLIS - 1), None, "too soon");
        assert!(mailboxes.open(&session(3), destination(1), Some(1)));
        let later = START.plus_millis(10_000);
        let datagram = registrar(3).register(later);
        let again = mailboxes.take(&datagram, place(6), later);
        let seen = Seen { session: 3, endpoint: place(6) };
        assert!(matches!(again, Verdict::Answer { seen: Some(told), .. } if told == seen), "{again:?}");
    }

    #[test]
    fn a_new_session_of_a_device_keeps_its_mailbox_and_nobody_else_gets_it() {
        let (mut mailboxes, mut before) = registered();
        assert!(!mailboxes.open(&session(2), destination(1), None), "it is another device's");
        assert!(!mailboxes.open(&session(1), destination(2), None), "the id is taken");
        assert!(mailboxes.open(&session(3), destination(1), Some(1)));
        let message = message(40);
        let passed = Verdict::Pass { message: &message, to: place(5) };
        assert_eq!(mailboxes.take(&to(1, &message), place(99), START), passed);
        assert_eq!(mailboxes.take(&before.register(START), place(66), START), Verdict::Drop);
        assert!(mailboxes.open(&session(4), destination(4), Some(3)), "with another key");
        assert_eq!(mailboxes.take(&to(1, &message), place(99), START), Verdict::Drop);
    }

    #[test]
    fn a_mailbox_that_is_closed_is_nobodys() {
        let (mut mailboxes, mut before) = registered();
        mailboxes.close(1);
        assert_eq!(mailboxes.take(&to(1, &message(40)), place(99), START), Verdict::Drop);
        let later = START.plus_millis(REGISTER_AGAIN_MILLIS);
        assert_eq!(mailboxes.take(&before.register(later), place(5), later), Verdict::Drop);
        assert!(mailboxes.open(&session(2), destination(1), None), "another device's");
    }

    #[test]
    fn a_mailbox_is_passed_on_no_more_than_its_rate() {
        let (mut mailboxes, _) = registered();
        let datagram = to(1, &message(1024));
        let mut passed_at = |now: Moment| {
            let is_passed =
                |_: &i32| matches!(mailboxes.take(&datagram, place(99), now), Verdict::Pass { .. });
            (0..5000).filter(is_passed).count()
        };
        assert_eq!(passed_at(START), 1024, "the burst");
        assert_eq!(passed_at(START.plus_millis(10)), 160);
        assert_eq!(passed_at(START.plus_millis(60_000)), 1024);
    }

    proptest! {
        /// Whatever comes, in whatever order: what is sent goes to a registered place, and is no longer than what came.
        #[test]
        fn nothing_makes_a_relay_send_to_strangers_or_more_than_it_got(
            steps in proptest::collection::vec(
                (
                    prop_oneof![
                        proptest::collection::vec(any::<u8>(), 0..1700),
                        (1_u8..4, 28_usize..1510).prop_map(|(number, length)| to(number, &message(length))),
                        // A registration for a session there is, by somebody who has not its key.
                        (1_u64..3, any::<u64>()).prop_map(|(id, number)| {
                            wire::register(id, number, &session(9).datagram_key()).to_vec()
                        }),
                    ],
                    any::<u16>(),
                    0_u64..40_000,
                    proptest::option::weighted(0.2, 1_u64..4),
                ),
                1..60,
            ),
        ) {
            let mut mailboxes = Mailboxes::default();
            let mut devices = BTreeMap::new();
            for id in 1..3 {
                mailboxes.open(&session(id), destination(u8::try_from(id).expect("few")), None);
                devices.insert(id, registrar(id));
            }
            let mut genuine = std::collections::BTreeSet::new();
            let mut now = START;
            for (mut datagram, port, millis, registers) in steps {
                now = now.plus_millis(millis);
                if let Some(device) = registers.and_then(|id| devices.get_mut(&id)) {
                    datagram = device.register(now).to_vec();
                    genuine.insert(place(port));
                }
                match mailboxes.take(&datagram, place(port), now) {
                    Verdict::Drop => {}
                    Verdict::Answer { bytes, to, .. } => {
                        prop_assert!(to == place(port) && genuine.contains(&to));
                        prop_assert!(bytes.len() <= datagram.len());
                    }
                    Verdict::Pass { message, to } => {
                        prop_assert!(genuine.contains(&to));
                        prop_assert!(message.len() < datagram.len());
                    }
                }
            }
        }
    }
}

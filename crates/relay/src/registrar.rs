//! A device's side of registering. Pure: datagrams go through the port of its encrypted links, by whoever drives this.

use std::{fmt, net::SocketAddr};

use link::{DatagramKey, DatagramSession};
use model::{ClusterId, Moment};

use crate::wire::{self, Destination, Registration};

/// How often a device registers. Address translation forgets UDP that was answered after 30 s where it is most forgetful.
const REGISTER_MILLIS: u64 = 20_000;
/// How soon it tries again while there is no answer.
const RETRY_MILLIS: u64 = 2_000;

/// With which relay a device is to register, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Order {
    /// Where the relay is.
    pub relay: SocketAddr,
    /// Where the device thinks that others reach it.
    pub own: Option<SocketAddr>,
    /// What proves that it is this device.
    pub proof: Proof,
}

/// What proves a registration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Proof {
    /// To the relay of its cluster, which knows it.
    Session(DatagramSession),
    /// To the relay of the root, which does not.
    Lent(Lent),
}

/// What a device registers with the relay of the root by.
#[derive(Clone, PartialEq, Eq)]
pub struct Lent {
    /// Its cluster.
    pub cluster: ClusterId,
    /// Its mailbox.
    pub mailbox: Destination,
    /// Of this cluster and this mailbox. A secret: it is not shown by `Debug`.
    pub key: [u8; 32],
}

impl fmt::Debug for Lent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Lent({}, {:?}, key withheld)", self.cluster, self.mailbox)
    }
}

/// A device's registration with one relay.
#[derive(Debug)]
pub struct Registrar {
    order: Order,
    key: DatagramKey,
    /// That the relay of the root asked for last.
    challenge: u64,
    number: u64,
    /// Registrations since the last answer.
    unanswered: u32,
    /// When to register next.
    due: Moment,
    observed: Option<SocketAddr>,
}

impl Registrar {
    /// Nothing was sent yet; the first registration is due at once.
    #[must_use]
    pub fn new(order: Order) -> Self {
        let key = match &order.proof {
            Proof::Session(session) => session.datagram_key(),
            Proof::Lent(lent) => DatagramKey::new(&lent.key),
        };
        Self { order, key, challenge: 0, number: 0, unanswered: 0, due: Moment::default(), observed: None }
    }

    /// What it was made from.
    #[must_use]
    pub fn order(&self) -> &Order {
        &self.order
    }

    /// When the next registration is to be sent.
    #[must_use]
    pub fn due(&self) -> Moment {
        self.due
    }

    /// A registration, to be sent now. Numbers follow the steady clock of the device, so that those of a process that is
    /// started anew are above those of the one before.
    pub fn register(&mut self, now: Moment) -> Vec<u8> {
        self.number = (self.number + 1).max(now.0);
        self.due = now.plus_millis(RETRY_MILLIS);
        self.unanswered = self.unanswered.saturating_add(1);
        match &self.order.proof {
            Proof::Session(session) => wire::register(session.id, self.number, &self.key).to_vec(),
            Proof::Lent(Lent { cluster, mailbox, .. }) => {
                wire::enter(*cluster, *mailbox, self.challenge, self.number, &self.key).to_vec()
            }
        }
    }

    /// Takes what came to the port of the tunnel from `from`. Returns whether it was the relay's answer to the last
    /// registration and tells anything new.
    pub fn take(&mut self, datagram: &[u8], from: SocketAddr, now: Moment) -> bool {
        let Some(answer) = Registration::parse_answer(datagram) else { return false };
        if (from, answer.number) != (self.order.relay, self.number) || !answer.holds(&self.key) {
            return false;
        }
        match &self.order.proof {
            Proof::Session(session) if answer.session != session.id => return false,
            Proof::Session(_) => {}
            Proof::Lent(_) if answer.seen_at().is_none() => {
                // It does not count yet. A relay that says so of its newest challenge too is not asked without end.
                if std::mem::replace(&mut self.challenge, answer.session) != answer.session {
                    self.due = now;
                }
                return false;
            }
            Proof::Lent(_) => self.challenge = answer.session,
        }
        self.unanswered = 0;
        self.due = now.plus_millis(REGISTER_MILLIS);
        let observed = answer.seen_at();
        std::mem::replace(&mut self.observed, observed) != observed
    }

    /// How many registrations were sent since the last answer.
    pub(crate) fn unanswered(&self) -> u32 {
        self.unanswered
    }

    /// Where the relay sees this device, once it has said so.
    pub(crate) fn observed(&self) -> Option<SocketAddr> {
        self.observed
    }

    /// It does not register for a while: the next registration is due as soon as it does again.
    pub(crate) fn rest(&mut self) {
        (self.due, self.observed) = (Moment::default(), None);
    }

    /// Whether something between this device and the relay changes its address: then others reach it only while it keeps
    /// the way open.
    #[must_use]
    pub fn is_translated(&self) -> bool {
        // Beside its relay a device is seen at an address that only the two know.
        let observed = self.observed.filter(|observed| !observed.ip().is_loopback());
        observed.is_some() && observed != self.order.own
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::wire::REGISTRATION;

    const START: Moment = Moment(5_000_000);

    fn relay() -> SocketAddr {
        ([192, 0, 2, 1], 50105).into()
    }

    fn registrar() -> Registrar {
        let own = Some(([10, 0, 0, 2], 50103).into());
        let proof = Proof::Session(DatagramSession { id: 7, key: [7; 32] });
        Registrar::new(Order { relay: relay(), own, proof })
    }

    fn answer(registrar: &Registrar, seen_at: &str) -> [u8; REGISTRATION] {
        wire::registered(7, registrar.number, seen_at.parse().expect("an address"), &registrar.key)
    }

    #[test]
    fn it_registers_again_soon_until_it_is_answered_and_then_every_twenty_seconds() {
        let mut registrar = registrar();
        assert!(registrar.due() <= START);
        registrar.register(START);
        assert_eq!(registrar.due(), START.plus_millis(RETRY_MILLIS));
        let bytes = answer(&registrar, "198.51.100.7:4000");
        assert!(registrar.take(&bytes, relay(), START));
        assert_eq!(registrar.due(), START.plus_millis(REGISTER_MILLIS));
        assert!(!registrar.take(&bytes, relay(), START), "nothing new");
    }

    #[test]
    fn only_the_relays_answer_to_the_last_registration_counts() {
        let mut registrar = registrar();
        registrar.register(START);
        let old = answer(&registrar, "198.51.100.7:4000");
        registrar.register(START);
        let right = answer(&registrar, "198.51.100.7:4000");
        let mut forged = right;
        forged[20] ^= 1;
        assert!(!registrar.take(&old, relay(), START) && !registrar.take(&forged, relay(), START));
        assert!(!registrar.take(&right, ([192, 0, 2, 9], 50105).into(), START));
        assert!(!registrar.is_translated());
        assert!(registrar.take(&right, relay(), START) && registrar.is_translated());
    }

    #[test]
    fn it_registers_at_once_with_the_challenge_it_is_told_and_only_once() {
        let lent = Lent {
            cluster: ClusterId::new(Uuid::from_u128(1)),
            mailbox: Destination::of(&[1; 32]),
            key: [7; 32],
        };
        let mut registrar = Registrar::new(Order { relay: relay(), own: None, proof: Proof::Lent(lent) });
        for due in [START, START.plus_millis(RETRY_MILLIS)] {
            registrar.register(START);
            let again = wire::entered(5, registrar.number, None, &registrar.key);
            assert!(!registrar.take(&again, relay(), START));
            assert_eq!((registrar.due(), registrar.challenge), (due, 5));
        }
        assert_eq!((registrar.unanswered(), registrar.observed()), (2, None), "it is not registered");
        registrar.register(START);
        let place = ([198, 51, 100, 7], 4000).into();
        let bytes = wire::entered(6, registrar.number, Some(place), &registrar.key);
        assert!(registrar.take(&bytes, relay(), START));
        assert_eq!((registrar.unanswered(), registrar.observed(), registrar.challenge), (0, Some(place), 6));
        assert_eq!(registrar.due(), START.plus_millis(REGISTER_MILLIS));
    }

    #[test]
    fn a_device_seen_at_its_own_address_or_beside_its_relay_is_not_translated() {
        for (seen_at, translated) in
            [("10.0.0.2:50103", false), ("127.0.0.1:50103", false), ("10.0.0.2:1024", true)]
        {
            let mut registrar = registrar();
            registrar.register(START);
            let bytes = answer(&registrar, seen_at);
            registrar.take(&bytes, relay(), START);
            assert_eq!(registrar.is_translated(), translated, "{seen_at}");
        }
    }

    #[test]
    fn a_process_that_is_started_anew_goes_on_with_higher_numbers() {
        let (mut before, mut after) = (registrar(), registrar());
        for _ in 0..3 {
            before.register(START);
        }
        after.register(START.plus_millis(10));
        assert!(after.number > before.number);
    }
}

//! The door of `fuzz/` to a relay and to a device that registers with it.

use std::{collections::BTreeSet, net::SocketAddr};

use link::{DatagramKey, DatagramSession};
use model::{ClusterId, Moment};
use uuid::Uuid;

use crate::{
    ClusterKey, Destination, Lent, Order, Proof, Registrar, RootSecret, forward_prefix,
    mailboxes::{Mailboxes, Verdict},
    tenants::Tenants,
    wire::{Registration, Request},
};

const START: Moment = Moment(1_000_000);
const MAILBOXES: u8 = 2;

fn session(number: u8) -> DatagramSession {
    DatagramSession { id: number.into(), key: [number; 32] }
}

/// Takes in what came, each with a number that says what is done with it: left as it is, put behind a genuine prefix, or
/// a genuine registration of either kind in its place, altered or not. A device hears what the relay answers, and what came as it is.
///
/// # Panics
/// When the relay sends to somebody who has not registered, or more than it got; when the device believes somebody else.
pub fn take<'data>(datagrams: impl Iterator<Item = (u8, &'data [u8])>) {
    let relay = SocketAddr::from(([192, 0, 2, 1], 50105));
    let cluster = ClusterId::new(Uuid::from_u128(1));
    let lent: ClusterKey = RootSecret([1; 32]).lend(cluster);
    let mut mailboxes = Mailboxes::new(Tenants::new(7));
    mailboxes.tenants.admit(cluster, lent.clone());
    let mut devices: Vec<Registrar> = (0..MAILBOXES)
        .map(|number| {
            let session = session(number);
            assert!(mailboxes.open(&session, Destination::of(&[number; 32]), None));
            Registrar::new(Order { relay, own: None, proof: Proof::Session(session) })
        })
        .collect();
    // Mailboxes of their own, which only the key of the cluster leads to.
    let mailbox = |number: u8| Destination::of(&[100 + number; 32]);
    devices.extend((0..MAILBOXES).map(|number| {
        let mailbox = mailbox(number);
        let proof = Proof::Lent(Lent { cluster, mailbox, key: lent.of_mailbox(mailbox) });
        Registrar::new(Order { relay, own: None, proof })
    }));
    // Whoever fuzzes sees what is compared, tags too, and can make some that hold.
    let holds = |registration: &Registration<'_>| {
        let mut sessions = (0..MAILBOXES).map(session);
        let mut keys = (0..MAILBOXES).map(|number| DatagramKey::new(&lent.of_mailbox(mailbox(number))));
        sessions
            .any(|session| session.id == registration.session && registration.holds(&session.datagram_key()))
            || keys.any(|key| registration.holds(&key))
    };
    let enters = |datagram: &[u8]| match Request::parse(datagram) {
        Some(Request::Enter(entry)) => {
            entry.cluster == cluster && entry.holds(&DatagramKey::new(&lent.of_mailbox(entry.mailbox)))
        }
        Some(Request::Register(registration)) => holds(&registration),
        Some(Request::Forward { .. }) | None => false,
    };
    let mut registered = BTreeSet::new();
    let mut now = START;
    for (choice, bytes) in datagrams {
        now = now.plus_millis(300 * u64::from(choice >> 4));
        let from = SocketAddr::from(([198, 51, 100, 7], u16::from(choice)));
        let number = choice & 1;
        let is_lent = choice & 8 != 0;
        let device = &mut devices[usize::from(number + if is_lent { MAILBOXES } else { 0 })];
        let datagram = match choice >> 1 & 3 {
            0 => bytes.to_vec(),
            1 if is_lent => [&forward_prefix(mailbox(number)), bytes].concat(),
            1 => [&forward_prefix(Destination::of(&[number; 32])), bytes].concat(),
            2 => device.register(now),
            _ => {
                let mut forged = device.register(now);
                let at = bytes.first().map_or(0, |at| usize::from(*at) % forged.len());
                forged[at] ^= 1;
                forged
            }
        };
        if enters(&datagram) {
            registered.insert(from);
        }
        let answer = Registration::parse_answer(&datagram);
        assert!(!device.take(&datagram, relay, now) || answer.is_some_and(|answer| holds(&answer)));
        match mailboxes.take(&datagram, from, now) {
            Verdict::Drop => {}
            Verdict::Answer { bytes, to, .. } => {
                assert!(to == from && registered.contains(&to) && bytes.len() <= datagram.len());
                device.take(&bytes, relay, now);
            }
            Verdict::Pass { message, to } => {
                assert!(registered.contains(&to) && message.len() < datagram.len());
            }
        }
    }
}

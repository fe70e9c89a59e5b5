//! The door of `fuzz/` to a relay and to a device that registers with it.

use std::{collections::BTreeSet, net::SocketAddr};

use link::DatagramSession;
use model::Moment;

use crate::{
    Destination, Order, Registrar, forward_prefix,
    mailboxes::{Mailboxes, Verdict},
    wire::{Registration, Request},
};

const START: Moment = Moment(1_000_000);
const MAILBOXES: u8 = 2;

fn session(number: u8) -> DatagramSession {
    DatagramSession { id: number.into(), key: [number; 32] }
}

/// Takes in what came, each with a number that says what is done with it: left as it is, put behind a genuine prefix, or
/// a genuine registration in its place, altered or not. A device hears what the relay answers, and what came as it is.
///
/// # Panics
/// When the relay sends to somebody who has not registered, or more than it got; when the device believes somebody else.
pub fn take<'data>(datagrams: impl Iterator<Item = (u8, &'data [u8])>) {
    let relay = SocketAddr::from(([192, 0, 2, 1], 50105));
    let mut mailboxes = Mailboxes::default();
    let mut devices: Vec<Registrar> = (0..MAILBOXES)
        .map(|number| {
            let session = session(number);
            assert!(mailboxes.open(&session, Destination::of(&[number; 32]), None));
            Registrar::new(Order { relay, own: None, session })
        })
        .collect();
    // Whoever fuzzes sees what is compared, tags too, and can make some that hold.
    let holds = |registration: &Registration<'_>| {
        let mut sessions = (0..MAILBOXES).map(session);
        sessions
            .any(|session| session.id == registration.session && registration.holds(&session.datagram_key()))
    };
    let mut registered = BTreeSet::new();
    let mut now = START;
    for (choice, bytes) in datagrams {
        now = now.plus_millis(300 * u64::from(choice >> 4));
        let from = SocketAddr::from(([198, 51, 100, 7], u16::from(choice)));
        let number = choice & 1;
        let device = &mut devices[usize::from(number)];
        let datagram = match choice >> 1 & 3 {
            0 => bytes.to_vec(),
            1 => [&forward_prefix(Destination::of(&[number; 32])), bytes].concat(),
            2 => device.register(now).to_vec(),
            _ => {
                let mut forged = device.register(now);
                let at = bytes.first().map_or(0, |at| usize::from(*at) % forged.len());
                forged[at] ^= 1;
                forged.to_vec()
            }
        };
        if matches!(Request::parse(&datagram), Some(Request::Register(registration)) if holds(&registration))
        {
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

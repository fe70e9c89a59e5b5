//! The door of `fuzz/` to both ends of beats.

use std::{collections::HashMap, net::SocketAddr, time::Duration};

use liveness::Window;
use model::Load;
use tokio::sync::watch;

use super::{
    datagram::{self, Claim, Kind},
    listener::{Session, accept},
    sender::Beating,
};
use crate::DatagramSession;

const SESSION: DatagramSession = DatagramSession { id: 7, key: [7; 32] };

/// Takes datagrams in at both ends, each with a number: an even one leaves it as it is, an odd one makes it a beat or an
/// ask with the number it begins with.
///
/// # Panics
/// When a datagram is believed that is not of the session.
pub fn take_beats<'data>(datagrams: impl Iterator<Item = (u8, &'data [u8])>) {
    let key = SESSION.datagram_key();
    let fresh = Session { key: key.clone(), came: Window::EMPTY, address: None, asks: 0 };
    let mut sessions = HashMap::from([(SESSION.id, fresh)]);
    let (_interval, interval) = watch::channel(Duration::from_secs(1));
    let (_load, load) = watch::channel(Load::default());
    let mut beating = Beating::new(&SESSION, interval, load);
    for (choice, bytes) in datagrams {
        let from = Some(SocketAddr::from(([192, 0, 2, 1], choice.into())));
        let number = bytes.first_chunk().map_or(0, |number| u32::from_be_bytes(*number));
        let composed = |kind| datagram::compose(kind, SESSION.id, number, Load::default(), &key);
        let [beat, ask] = [Kind::Beat, Kind::Ask]
            .map(|kind| if choice % 2 == 1 { composed(kind).to_vec() } else { bytes.to_vec() });
        let genuine = |bytes, kind| Claim::parse(bytes).is_some_and(|claim| claim.holds(kind, &key));
        assert!(accept(&mut sessions, &beat, from).is_none() || genuine(&beat, Kind::Beat));
        assert!(!beating.is_new_ask(&ask) || genuine(&ask, Kind::Ask));
        assert!(accept(&mut sessions, &beat, from).is_none(), "a repeated one");
        assert!(!beating.is_new_ask(&ask), "a repeated one");
    }
}

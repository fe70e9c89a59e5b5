//! Why a peer is not let in, in a word for who looks for it in a log and a sentence for who reads it; and how often that
//! is said.

use std::{
    collections::BTreeMap,
    fmt, io,
    net::{IpAddr, SocketAddr},
    sync::{Mutex, PoisonError},
    time::Duration,
};

use model::Moment;
use rustls::{CertificateError, Error, PeerIncompatible};

/// Of one address and one reason a line is enough for so long: who is refused dials again every few seconds.
const QUIET_MILLIS: u64 = 60_000;
/// Addresses that are remembered for that; when there are more, the log says nothing of the others.
const REMEMBERED: usize = 1024;

/// What is wrong with a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// Its certificate is of another authority than this root's.
    Foreign,
    /// Its certificate is good for something else.
    Wrong,
    /// Its certificate has ended.
    Expired,
    /// Its certificate was revoked.
    Revoked,
    /// It does not speak TLS 1.3.
    OldTls,
    /// It was cut off, too slow, or speaks something else.
    Broken,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Foreign => "foreign",
            Self::Wrong => "wrong",
            Self::Expired => "expired",
            Self::Revoked => "revoked",
            Self::OldTls => "old TLS",
            Self::Broken => "broken",
        })
    }
}

/// Why a peer is not let in.
#[derive(Debug)]
pub(crate) struct Refusal {
    pub(crate) kind: Kind,
    pub(crate) detail: String,
}

impl From<io::Error> for Refusal {
    fn from(error: io::Error) -> Self {
        let detail = error.to_string();
        match error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) {
            Some(inner) => Self { kind: kind_of(inner), detail },
            None => Self { kind: Kind::Broken, detail },
        }
    }
}

#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "a foreign enum that grows; what is not of interest is told as it is"
)]
fn kind_of(error: &Error) -> Kind {
    match error {
        Error::InvalidCertificate(CertificateError::Revoked) => Kind::Revoked,
        Error::InvalidCertificate(CertificateError::Expired | CertificateError::ExpiredContext { .. }) => {
            Kind::Expired
        }
        Error::InvalidCertificate(CertificateError::UnknownIssuer | CertificateError::BadSignature) => {
            Kind::Foreign
        }
        // What `lineage.rs` says.
        Error::InvalidCertificate(_) | Error::General(_) => Kind::Wrong,
        Error::PeerIncompatible(PeerIncompatible::Tls12NotOfferedOrEnabled) => Kind::OldTls,
        _ => Kind::Broken,
    }
}

/// Says why peers are refused, not too often.
#[derive(Debug, Default)]
pub(crate) struct Told(Mutex<BTreeMap<(IpAddr, Kind), Moment>>);

impl Told {
    /// Tells the log, unless it was told of late.
    pub(crate) fn tell(&self, address: SocketAddr, refusal: &Refusal) {
        if self.is_news(address.ip(), refusal.kind, daemon::present().moment) {
            tracing::warn!(
                %address,
                reason = %refusal.kind,
                detail = refusal.detail,
                "a peer was refused; of this address and reason nothing more is said for {} s",
                Duration::from_millis(QUIET_MILLIS).as_secs()
            );
        }
    }

    fn is_news(&self, address: IpAddr, kind: Kind, now: Moment) -> bool {
        let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if told.len() >= REMEMBERED {
            told.retain(|_, at| now.millis_since(*at) < QUIET_MILLIS);
        }
        let key = (address.to_canonical(), kind);
        let quiet = told.get(&key).is_some_and(|at| now.millis_since(*at) < QUIET_MILLIS);
        let known = told.contains_key(&key);
        if quiet || (!known && told.len() >= REMEMBERED) {
            return false;
        }
        told.insert(key, now);
        true
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    #[test]
    fn of_one_address_and_reason_a_line_is_told_once_in_a_while() {
        let told = Told::default();
        let [here, there] = [1, 2].map(|last| IpAddr::V4(Ipv4Addr::new(192, 0, 2, last)));
        let at = |millis| Moment(1_000_000 + millis);
        assert!(told.is_news(here, Kind::Expired, at(0)));
        assert!(!told.is_news(here, Kind::Expired, at(QUIET_MILLIS - 1)));
        assert!(told.is_news(here, Kind::Revoked, at(1)) && told.is_news(there, Kind::Expired, at(1)));
        assert!(told.is_news(here, Kind::Expired, at(QUIET_MILLIS)));
    }

    #[test]
    fn a_flood_of_addresses_fills_neither_the_memory_nor_the_log() {
        let told = Told::default();
        let news = |now: u64| {
            let addresses = (0..5000_u32).map(|number| IpAddr::V4(Ipv4Addr::from(number)));
            addresses.filter(|address| told.is_news(*address, Kind::Broken, Moment(now))).count()
        };
        assert_eq!((news(1_000_000), news(1_000_001)), (REMEMBERED, 0));
        assert_eq!(told.0.lock().expect("not poisoned").len(), REMEMBERED);
        assert_eq!(news(1_000_000 + QUIET_MILLIS), REMEMBERED);
    }
}

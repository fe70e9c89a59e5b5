//! Certificates as those who issue them keep them, and when they are to be renewed. The certificates themselves are in
//! `crates/link`.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{ClusterId, Timestamp, WorkerId};

/// A certificate is renewed when at most so much of its life has passed: a third is left for a parent that is away.
const RENEWED_AT: (u64, u64) = (2, 3);
/// Up to this part of its life earlier, so that certificates of one day are not all renewed in one moment.
const SPREAD_OVER: u64 = 15;
/// Later than this part of its life, there must be something that keeps it from being renewed.
const OVERDUE_AT: (u64, u64) = (3, 4);

/// From when to when a certificate is good.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Lifetime {
    /// When it was issued, to the second.
    pub issued: Timestamp,
    /// When it ends.
    pub expires: Timestamp,
}

impl Lifetime {
    /// When to renew it. `spread` comes from outside and stays the same for one certificate: 0 is two thirds of its life,
    /// 100 some time before.
    #[must_use]
    pub const fn renew_at(self, spread: u8) -> Timestamp {
        let spread = if spread > 100 { 100 } else { spread as u64 };
        let earlier = self.length() / SPREAD_OVER / 100 * spread;
        Timestamp(self.after(RENEWED_AT).0.saturating_sub(earlier))
    }

    /// Whether it has ended.
    #[must_use]
    pub const fn has_ended(self, now: Timestamp) -> bool {
        now.0 >= self.expires.0
    }

    /// Whether it should have been renewed long since.
    #[must_use]
    pub const fn is_overdue(self, now: Timestamp) -> bool {
        now.0 >= self.after(OVERDUE_AT).0
    }

    /// How long it is good in all, in milliseconds.
    #[must_use]
    pub const fn length(self) -> u64 {
        self.expires.millis_since(self.issued)
    }

    const fn after(self, (part, of): (u64, u64)) -> Timestamp {
        self.issued.plus_millis(self.length() / of * part)
    }
}

/// Who has a certificate, and which of his.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Holder {
    /// A cluster, its own.
    Cluster(ClusterId),
    /// A cluster, the authority it is lent.
    Intermediate(ClusterId),
    /// A worker's NodeEngine.
    Worker(WorkerId),
    /// A worker's NetManager.
    Network(WorkerId),
}

impl Holder {
    /// Of which cluster it is; `None` of what is of a worker.
    #[must_use]
    pub const fn cluster(self) -> Option<ClusterId> {
        match self {
            Self::Cluster(cluster) | Self::Intermediate(cluster) => Some(cluster),
            Self::Worker(_) | Self::Network(_) => None,
        }
    }

    /// Of which worker it is; `None` of what is of a cluster.
    #[must_use]
    pub const fn worker(self) -> Option<WorkerId> {
        match self {
            Self::Worker(worker) | Self::Network(worker) => Some(worker),
            Self::Cluster(_) | Self::Intermediate(_) => None,
        }
    }
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cluster(id) => write!(f, "cluster/{id}"),
            Self::Intermediate(id) => write!(f, "intermediate/{id}"),
            Self::Worker(id) => write!(f, "worker/{id}"),
            Self::Network(id) => write!(f, "network/{id}"),
        }
    }
}

/// Why a certificate is not issued.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotIssued {
    /// Those there were are revoked.
    #[error(
        "its certificates were revoked; to let it in again before they would have ended, remove its identity files, the key \
         included, and join with a new token: it is another one then"
    )]
    Revoked,
    /// Its issuer does not know it, does so no more, or does not issue for such as it.
    #[error("it is not known here any more; remove its certificate and join again with a new token")]
    Unknown,
}

impl NotIssued {
    /// A stable code for programs.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Revoked => "revoked",
            Self::Unknown => "not_known",
        }
    }

    /// Whether somebody who may have certificates may have one in place of one that is shown: one that has ended is good
    /// only for somebody the issuer has not forgotten since.
    ///
    /// # Errors
    /// [`NotIssued::Unknown`] when not.
    pub const fn in_place_of(has_ended: bool, is_known: bool) -> Result<(), Self> {
        if has_ended && !is_known { Err(Self::Unknown) } else { Ok(()) }
    }
}

/// What an issuer keeps of the newest certificate of a holder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CertificateRecord {
    /// Its serial number, hexadecimal.
    pub serial: String,
    /// From when to when it is good.
    pub lifetime: Lifetime,
}

/// A certificate of a worker, as its cluster tells of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkerCertificate {
    /// Whose device.
    pub worker: WorkerId,
    /// Its name; empty of one that never connected.
    pub name: String,
    /// Whether it is the NetManager's and not the NodeEngine's.
    pub network: bool,
    /// What is known of it.
    pub record: CertificateRecord,
    /// Whether it was revoked.
    pub revoked: bool,
}

/// A worker whose certificates count no more, whatever they say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct RevokedWorker {
    /// Which one.
    pub worker: WorkerId,
    /// By then all of them have ended.
    pub until: Timestamp,
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIFETIME: Lifetime = Lifetime { issued: Timestamp(1000), expires: Timestamp(4000) };

    #[test]
    fn it_is_renewed_at_two_thirds_of_its_life_or_a_little_before() {
        assert_eq!(LIFETIME.renew_at(0), Timestamp(3000));
        assert_eq!(LIFETIME.renew_at(50), Timestamp(2900));
        assert_eq!([LIFETIME.renew_at(100), LIFETIME.renew_at(255)], [Timestamp(2800); 2]);
    }

    #[test]
    fn one_that_is_not_renewed_in_time_is_overdue_and_then_has_ended() {
        assert!(!LIFETIME.is_overdue(Timestamp(3249)) && LIFETIME.is_overdue(Timestamp(3250)));
        assert!(!LIFETIME.has_ended(Timestamp(3999)) && LIFETIME.has_ended(Timestamp(4000)));
    }

    #[test]
    fn a_lifetime_without_length_or_without_end_is_no_trouble() {
        let nothing = Lifetime { issued: Timestamp(7), expires: Timestamp(5) };
        assert_eq!((nothing.renew_at(100), nothing.has_ended(Timestamp(5))), (Timestamp(7), true));
        let endless = Lifetime { issued: Timestamp(0), expires: Timestamp(u64::MAX) };
        assert!(endless.renew_at(0) > endless.renew_at(100));
    }
}

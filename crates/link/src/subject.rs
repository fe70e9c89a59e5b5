//! What a certificate is for: a SPIFFE-style URI that spells out the path from the root.

use std::{fmt, str::FromStr};

use model::{ClusterId, WorkerId};
use uuid::Uuid;

/// The holder of a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Subject {
    /// The root itself.
    Root {
        /// The root's own id.
        root: Uuid,
    },
    /// A cluster orchestrator.
    Cluster {
        /// Under which root.
        root: Uuid,
        /// Which cluster.
        cluster: ClusterId,
    },
    /// A worker's NodeEngine.
    Worker {
        /// Under which root.
        root: Uuid,
        /// Of which cluster.
        cluster: ClusterId,
        /// Which worker.
        worker: WorkerId,
    },
    /// A worker's NetManager.
    Network {
        /// Under which root.
        root: Uuid,
        /// Of which cluster.
        cluster: ClusterId,
        /// Which worker.
        worker: WorkerId,
    },
}

impl Subject {
    /// The root it belongs to.
    #[must_use]
    pub const fn root(&self) -> Uuid {
        match self {
            Self::Root { root }
            | Self::Cluster { root, .. }
            | Self::Worker { root, .. }
            | Self::Network { root, .. } => *root,
        }
    }

    /// Whether `child` dials this one.
    #[must_use]
    pub fn is_parent_of(self, child: Self) -> bool {
        match (self, child) {
            (Self::Root { root }, Self::Cluster { root: of, .. }) => root == of,
            (
                Self::Cluster { root, cluster },
                Self::Worker { root: of_root, cluster: of, .. }
                | Self::Network { root: of_root, cluster: of, .. },
            ) => (root, cluster) == (of_root, of),
            (Self::Root { .. } | Self::Cluster { .. } | Self::Worker { .. } | Self::Network { .. }, _) => {
                false
            }
        }
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Root { root } => write!(f, "spiffe://mangrove/{root}"),
            Self::Cluster { root, cluster } => write!(f, "spiffe://mangrove/{root}/cluster/{cluster}"),
            Self::Worker { root, cluster, worker } => {
                write!(f, "spiffe://mangrove/{root}/cluster/{cluster}/worker/{worker}")
            }
            Self::Network { root, cluster, worker } => {
                write!(f, "spiffe://mangrove/{root}/cluster/{cluster}/worker/{worker}/network")
            }
        }
    }
}

/// A URI that names nobody here.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not the subject of a Mangrove certificate")]
pub struct SubjectError(String);

impl FromStr for Subject {
    type Err = SubjectError;

    fn from_str(text: &str) -> Result<Self, SubjectError> {
        let wrong = || SubjectError(text.to_owned());
        let path = text.strip_prefix("spiffe://mangrove/").ok_or_else(wrong)?;
        let parts: Vec<&str> = path.split('/').collect();
        let root = parts.first().and_then(|part| part.parse().ok()).ok_or_else(wrong)?;
        let cluster = |part: &str| part.parse::<ClusterId>().map_err(|_| wrong());
        let worker = |part: &str| part.parse::<WorkerId>().map_err(|_| wrong());
        match parts[1..] {
            [] => Ok(Self::Root { root }),
            ["cluster", c] => Ok(Self::Cluster { root, cluster: cluster(c)? }),
            ["cluster", c, "worker", w] => {
                Ok(Self::Worker { root, cluster: cluster(c)?, worker: worker(w)? })
            }
            ["cluster", c, "worker", w, "network"] => {
                Ok(Self::Network { root, cluster: cluster(c)?, worker: worker(w)? })
            }
            _ => Err(wrong()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subjects_survive_their_uri() {
        let root = Uuid::from_u128(1);
        let cluster = ClusterId::new(Uuid::from_u128(2));
        let worker = WorkerId::new(Uuid::from_u128(3));
        for subject in [
            Subject::Root { root },
            Subject::Cluster { root, cluster },
            Subject::Worker { root, cluster, worker },
            Subject::Network { root, cluster, worker },
        ] {
            assert_eq!(subject.to_string().parse(), Ok(subject));
        }
        assert!("spiffe://elsewhere/x".parse::<Subject>().is_err());
    }
}

//! Who may join: tokens, and the identities they buy.

use std::collections::BTreeMap;

use model::{ClusterId, Generation, SpentToken, Timestamp, TokenId, WorkerToken};
use serde::{Deserialize, Serialize};

use crate::{Change, Cluster, State};

/// What a token lets its holder become.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum JoinKind {
    /// A cluster of this name.
    Cluster {
        /// The label it will have.
        name: String,
    },
    /// A worker.
    Worker {
        /// Of this cluster only; `None` is of any.
        cluster: Option<ClusterId>,
    },
}

/// A join token as its issuer keeps it. Durable.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Token {
    /// Which one.
    pub id: TokenId,
    /// What it is for.
    pub kind: JoinKind,
    /// Hash of the secret; the secret itself is not kept.
    pub secret_hash: String,
    /// How often it may still be used.
    pub uses_left: u32,
    /// Until when.
    pub expires_at: Timestamp,
    /// Fingerprints of the keys that used it, and what they became: the same key asking again gets the same answer.
    pub used_by: Vec<(String, JoinedAs)>,
}

impl Token {
    /// The cluster whose workers alone it is for, if it is for such.
    #[must_use]
    pub const fn for_workers_of(&self) -> Option<ClusterId> {
        match &self.kind {
            JoinKind::Worker { cluster } => *cluster,
            JoinKind::Cluster { .. } => None,
        }
    }
}

/// What a key became.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JoinedAs {
    /// This cluster.
    Cluster(ClusterId),
    /// A worker. Which one is not kept here: its id follows from its key, and the root stores neither.
    Worker,
}

/// An enrolment that is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EnrolmentRejected {
    /// Unknown id or wrong secret; which of them is not said.
    #[error("the join token is not known here; create one with `mangrove token create`")]
    Unknown,
    /// Too late.
    #[error("the join token has expired; create another with `mangrove token create`")]
    Expired,
    /// Used up.
    #[error("the join token was used already; create another with `mangrove token create`")]
    Spent,
    /// A token for something else.
    #[error("the join token is for {0}; create the other kind with `mangrove token create`")]
    WrongKind(&'static str),
    /// A token for workers of another cluster.
    #[error(
        "the join token is for workers of another cluster; create one for this cluster with `mangrove token create --worker --for-cluster NAME`"
    )]
    OtherCluster,
    /// The certificates of that cluster count no more.
    #[error("the certificates of cluster `{0}` were revoked; create a token for another name")]
    Revoked(String),
}

impl EnrolmentRejected {
    /// A stable code for programs.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Unknown => "join_token_unknown",
            Self::Expired => "join_token_expired",
            Self::Spent => "join_token_spent",
            Self::WrongKind(_) => "join_token_of_other_kind",
            Self::OtherCluster => "join_token_of_other_cluster",
            Self::Revoked(_) => "revoked",
        }
    }
}

/// What an enrolling child shows.
#[derive(Debug, Clone, Copy)]
pub struct Claim<'a> {
    /// Which token.
    pub token: TokenId,
    /// Hash of the secret it knows.
    pub secret_hash: &'a str,
    /// Stands for the key it asks a certificate for, with this token only.
    pub key_fingerprint: &'a str,
}

impl State {
    /// Enrols a cluster. A token for the name of a cluster that joined before makes the holder that cluster: that is
    /// how a reinstalled one comes back.
    ///
    /// # Errors
    /// See [`EnrolmentRejected`].
    pub fn enrol_cluster(
        &self,
        claim: Claim<'_>,
        fresh: ClusterId,
        now: Timestamp,
    ) -> Result<(ClusterId, Vec<Change>), EnrolmentRejected> {
        let token = self.check(claim)?;
        let JoinKind::Cluster { name } = &token.kind else {
            return Err(EnrolmentRejected::WrongKind("workers"));
        };
        let existing = self.clusters().find(|cluster| cluster.name == *name);
        if existing.is_some_and(|cluster| self.revocation(cluster.id, None).is_some()) {
            return Err(EnrolmentRejected::Revoked(name.clone()));
        }
        if let Some(JoinedAs::Cluster(id)) = used(token, claim) {
            return Ok((id, Vec::new()));
        }
        usable(token, now)?;
        let cluster = existing.cloned().unwrap_or_else(|| Cluster {
            id: fresh,
            name: name.clone(),
            location: None,
            generation: Generation::default(),
        });
        let id = cluster.id;
        let spent = spend(token, claim, JoinedAs::Cluster(id));
        Ok((id, vec![Change::Cluster(id, Some(cluster)), Change::Token(token.id, Some(spent))]))
    }

    /// Lets a worker in that asked the cluster `cluster`.
    ///
    /// # Errors
    /// See [`EnrolmentRejected`].
    pub fn enrol_worker(
        &self,
        claim: Claim<'_>,
        cluster: ClusterId,
        now: Timestamp,
    ) -> Result<((), Vec<Change>), EnrolmentRejected> {
        let token = self.check(claim)?;
        let JoinKind::Worker { cluster: only } = &token.kind else {
            return Err(EnrolmentRejected::WrongKind("a cluster"));
        };
        if only.is_some_and(|only| only != cluster) {
            return Err(EnrolmentRejected::OtherCluster);
        }
        if used(token, claim) == Some(JoinedAs::Worker) {
            return Ok(((), Vec::new()));
        }
        usable(token, now)?;
        Ok(((), vec![Change::Token(token.id, Some(spend(token, claim, JoinedAs::Worker)))]))
    }

    /// Counts uses of tokens that a cluster made while this root was away.
    pub(crate) fn spend_all(&mut self, cluster: ClusterId, spent: Vec<SpentToken>) -> Vec<Change> {
        if spent.is_empty() {
            return Vec::new();
        }
        let mut changed: BTreeMap<TokenId, Token> = BTreeMap::new();
        for SpentToken { token: id, key_fingerprint } in &spent {
            let known = changed.get(id).or_else(|| self.tokens.get(id));
            // Only those of its own workers may be spent by a cluster; a token that was revoked needs no count.
            let Some(token) = known.filter(|token| token.for_workers_of() == Some(cluster)) else { continue };
            if token.used_by.iter().any(|(key, _)| key == key_fingerprint) {
                continue;
            }
            let mut token = token.clone();
            token.uses_left = token.uses_left.saturating_sub(1);
            token.used_by.push((key_fingerprint.clone(), JoinedAs::Worker));
            changed.insert(*id, token);
        }
        self.tokens_due.insert(cluster, spent);
        changed.into_iter().map(|(id, token)| Change::Token(id, Some(token))).collect()
    }

    /// The tokens a cluster may honour by itself.
    pub(crate) fn tokens_for(&self, cluster: ClusterId, now: Timestamp) -> Vec<WorkerToken> {
        self.tokens
            .values()
            .filter(|token| token.for_workers_of() == Some(cluster))
            .filter(|token| token.uses_left > 0 && token.expires_at > now)
            .map(|token| WorkerToken {
                id: token.id,
                secret_hash: token.secret_hash.clone(),
                uses_left: token.uses_left,
                expires_at: token.expires_at,
            })
            .collect()
    }

    fn check(&self, claim: Claim<'_>) -> Result<&Token, EnrolmentRejected> {
        let token = self.tokens.get(&claim.token).ok_or(EnrolmentRejected::Unknown)?;
        // Both are hashes of random secrets: how long a comparison takes tells nothing about either.
        if token.secret_hash == claim.secret_hash { Ok(token) } else { Err(EnrolmentRejected::Unknown) }
    }
}

fn used(token: &Token, claim: Claim<'_>) -> Option<JoinedAs> {
    token.used_by.iter().find(|(key, _)| key == claim.key_fingerprint).map(|(_, joined)| *joined)
}

fn usable(token: &Token, now: Timestamp) -> Result<(), EnrolmentRejected> {
    if now >= token.expires_at {
        Err(EnrolmentRejected::Expired)
    } else if token.uses_left == 0 {
        Err(EnrolmentRejected::Spent)
    } else {
        Ok(())
    }
}

fn spend(token: &Token, claim: Claim<'_>, joined: JoinedAs) -> Token {
    let mut token = token.clone();
    token.uses_left -= 1;
    token.used_by.push((claim.key_fingerprint.to_owned(), joined));
    token
}

//! Who may join while the root is away: tokens for workers of this cluster alone, which the root hands down.

use model::{SpentToken, Timestamp, TokenId, WorkerToken};

use crate::{Change, Enrolments, State};

/// What an enrolling worker shows.
#[derive(Debug, Clone, Copy)]
pub struct Claim<'a> {
    /// Which token.
    pub token: TokenId,
    /// Hash of the secret it knows.
    pub secret_hash: &'a str,
    /// Stands for the key it asks a certificate for, with this token only.
    pub key_fingerprint: &'a str,
}

/// Why a token is not honoured here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum EnrolmentRejected {
    /// The root may know it.
    #[error(
        "the join token is not for this cluster alone, so only the root can honour it; try again when the root is back"
    )]
    NotHere,
    /// Too late.
    #[error("the join token has expired; create another with `mangrove token create`")]
    Expired,
    /// Used up.
    #[error("the join token was used already; create another with `mangrove token create`")]
    Spent,
}

impl State {
    /// Takes on the tokens the root hands down; uses of tokens that are no longer among them are settled.
    #[must_use]
    pub fn honour(&self, tokens: Vec<WorkerToken>, settled: &[SpentToken]) -> Vec<Change> {
        let mut enrolments = Enrolments { tokens, spent: self.enrolments.spent.clone() };
        enrolments.spent.retain(|spent| !settled.contains(spent));
        if enrolments == self.enrolments { Vec::new() } else { vec![Change::Enrolments(enrolments)] }
    }

    /// Lets a worker in. The same key asking again gets the same answer and spends nothing.
    ///
    /// # Errors
    /// See [`EnrolmentRejected`].
    pub fn enrol(&self, claim: Claim<'_>, now: Timestamp) -> Result<((), Vec<Change>), EnrolmentRejected> {
        let known = self.enrolments.tokens.iter().find(|token| token.id == claim.token);
        // Both are hashes of random secrets: how long a comparison takes tells nothing about either.
        let token =
            known.filter(|token| token.secret_hash == claim.secret_hash).ok_or(EnrolmentRejected::NotHere)?;
        let spent = SpentToken { token: claim.token, key_fingerprint: claim.key_fingerprint.to_owned() };
        if self.enrolments.spent.contains(&spent) {
            return Ok(((), Vec::new()));
        }
        if now >= token.expires_at {
            return Err(EnrolmentRejected::Expired);
        }
        let used_here = self.enrolments.spent.iter().filter(|spent| spent.token == claim.token).count();
        if used_here >= token.uses_left as usize {
            return Err(EnrolmentRejected::Spent);
        }
        let mut enrolments = self.enrolments.clone();
        enrolments.spent.insert(spent);
        Ok(((), vec![Change::Enrolments(enrolments)]))
    }
}

//! Tokens whose signatures were checked lately. Checking one takes longer than the rest of a small request, and clients
//! send the same one again and again.
//!
//! What is remembered is what a token says and that its signature is right, which stays so. Whether it is of its time and
//! whether its login is still good is looked at each time, by whoever asks.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use daemon::Remembered;
use ring::digest::{SHA256, digest};

use super::keys::Claims;

/// Tokens of one generation, of which there are two: some two megabytes when full, for more logins than a root has users
/// at once.
const GENERATION: usize = 2048;

/// By the hash of the token, so that no token can be read from here.
type Kept = Remembered<[u8; 32], Arc<Claims>>;

/// See the module's description.
#[derive(Debug)]
pub(super) struct Checked(Mutex<Kept>);

impl Default for Checked {
    fn default() -> Self {
        Self(Mutex::new(Remembered::new(GENERATION)))
    }
}

impl Checked {
    /// What a token says: as remembered, or as `check` finds it. Nothing is remembered of what `check` refuses.
    pub(super) fn claims<E>(
        &self,
        token: &str,
        check: impl FnOnce() -> Result<Claims, E>,
    ) -> Result<Arc<Claims>, E> {
        let mut hash = [0; 32];
        hash.copy_from_slice(digest(&SHA256, token.as_bytes()).as_ref());
        let known = self.kept().get(&hash);
        if let Some(claims) = known {
            return Ok(claims);
        }
        // With nothing locked, so that nobody is kept waiting: two may check one token at once, and find the same.
        let claims = Arc::new(check()?);
        self.kept().put(hash, Arc::clone(&claims), 1);
        Ok(claims)
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use serde_json::json;

    use super::*;

    fn claims(name: &str) -> Claims {
        let claims = json!({
            "sub": name, "user": name, "user_id": "010101010101010101010101", "roles": [],
            "organization": "020202020202020202020202", "type": "access", "fresh": false,
            "iat": 1, "nbf": 1, "exp": 2, "jti": "", "session": "", "epoch": 0, "session_exp": 3,
        });
        serde_json::from_value(claims).expect("claims")
    }

    #[test]
    fn a_signature_is_checked_once_and_each_token_has_its_own_claims() {
        let checked = Checked::default();
        let checks = Cell::new(0);
        let ask = |token: &str| {
            let check = || {
                checks.set(checks.get() + 1);
                Ok::<_, ()>(claims(token))
            };
            checked.claims(token, check).expect("good")
        };
        let asked = ["a", "b", "a", "b"].map(|token| *ask(token) == claims(token));
        assert_eq!((asked, checks.get()), ([true; 4], 2));
    }

    #[test]
    fn what_is_refused_is_refused_again_and_fills_nothing() {
        let checked = Checked::default();
        for _ in 0..2 {
            assert_eq!(checked.claims("forged", || Err(())), Err(()));
        }
        assert_eq!(checked.kept().count(), 0);
    }
}

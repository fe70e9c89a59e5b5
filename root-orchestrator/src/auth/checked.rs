//! Tokens whose signatures were checked lately. Checking one takes longer than the rest of a small request, and clients
//! send the same one again and again.
//!
//! What is remembered is what a token says and that its signature is right, which stays so. Whether it is of its time and
//! whether its login is still good is looked at each time, by whoever asks.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use ring::digest::{SHA256, digest};

use super::keys::Claims;

/// Tokens of one generation; there are two. Some two megabytes when full, and more logins than a root has users at once.
const GENERATION: usize = 2048;

/// By the hash of the token, so that no token can be read from here.
type Generation = HashMap<[u8; 32], Arc<Claims>>;

/// See the module's description. What was not asked for while a generation filled up is forgotten with the one before.
#[derive(Debug, Default)]
pub(super) struct Checked {
    generations: Mutex<[Generation; 2]>,
}

impl Checked {
    /// What a token says: as remembered, or as `check` finds it. Nothing is remembered of what `check` refuses.
    pub(super) fn claims<E>(
        &self,
        token: &str,
        check: impl FnOnce() -> Result<Claims, E>,
    ) -> Result<Arc<Claims>, E> {
        let mut key = [0; 32];
        key.copy_from_slice(digest(&SHA256, token.as_bytes()).as_ref());
        if let Some(claims) = self.find(&key) {
            return Ok(claims);
        }
        // With nothing locked: others are not kept waiting. Two may check the same token at once, and find the same.
        let claims = Arc::new(check()?);
        self.remember(key, Arc::clone(&claims));
        Ok(claims)
    }

    fn find(&self, key: &[u8; 32]) -> Option<Arc<Claims>> {
        let older = {
            let [young, old] = &mut *self.generations.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(claims) = young.get(key) {
                return Some(Arc::clone(claims));
            }
            old.remove(key)?
        };
        self.remember(*key, Arc::clone(&older));
        Some(older)
    }

    fn remember(&self, key: [u8; 32], claims: Arc<Claims>) {
        let [young, old] = &mut *self.generations.lock().unwrap_or_else(PoisonError::into_inner);
        if young.len() >= GENERATION {
            *old = std::mem::take(young);
        }
        young.insert(key, claims);
    }

    #[cfg(test)]
    fn count(&self) -> usize {
        self.generations.lock().expect("nobody panicked").iter().map(HashMap::len).sum()
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
    fn what_is_refused_is_refused_again() {
        let checked = Checked::default();
        for _ in 0..2 {
            assert_eq!(checked.claims("forged", || Err(())), Err(()));
        }
        assert_eq!(checked.count(), 0, "who has no token fills nothing");
    }

    #[test]
    fn however_many_tokens_there_are_only_so_many_are_remembered_those_in_use_first() {
        let checked = Checked::default();
        let remembered = |token: &str| checked.claims(token, || Err(())).is_ok();
        let show = |token: &str| checked.claims(token, || Ok::<_, ()>(claims(token))).map(drop);
        show("in use").expect("good");
        for number in 0..3 * GENERATION {
            show(&number.to_string()).expect("good");
            assert!(remembered("in use"), "after {number}");
        }
        assert!(checked.count() <= 2 * GENERATION, "{}", checked.count());
        assert!(!remembered("0"));
    }
}

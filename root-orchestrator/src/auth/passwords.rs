//! Passwords: kept as argon2id hashes, made and checked two at a time.

use std::sync::Arc;

use argon2::{
    Algorithm, Argon2, Params, PasswordHasher, PasswordVerifier, Version, password_hash::phc::PasswordHash,
};
use tokio::sync::Semaphore;

/// OWASP's parameters for little memory (7 MiB, five passes): a small root must not be pushed into swap by logins.
const MEMORY_KIBIBYTES: u32 = 7 * 1024;
const PASSES: u32 = 5;
/// Hashes being made or checked at once; others wait. Bounds memory, and leaves a core for the clusters.
const CONCURRENT: usize = 2;

/// The hash of no password: costs as much to check as a real one and never matches.
const NOBODY: &str =
    "$argon2id$v=19$m=7168,t=5,p=1$bm9ib2R5bm9ib2R5$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

/// Checks and hashes away from the threads that serve.
#[derive(Debug)]
pub(crate) struct Passwords {
    places: Arc<Semaphore>,
}

impl Passwords {
    pub(super) fn new() -> Self {
        Self { places: Arc::new(Semaphore::new(CONCURRENT)) }
    }

    /// Whether it is the password of that hash. Without one it costs as much and is not, so that names cannot be told by
    /// the time it takes.
    pub(crate) async fn matches(&self, password: String, hash: Option<String>) -> bool {
        let hash = hash.unwrap_or_else(|| NOBODY.to_owned());
        self.apart(move || verify(&password, &hash)).await.unwrap_or(false)
    }

    /// The hash that is kept of a password.
    ///
    /// # Errors
    /// When the machine has no memory or no random bytes left.
    pub(crate) async fn hash(&self, password: String) -> anyhow::Result<String> {
        self.apart(move || hash(&password)).await?
    }

    async fn apart<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> anyhow::Result<T> {
        let place = Arc::clone(&self.places).acquire_owned().await?;
        let done = tokio::task::spawn_blocking(move || {
            let done = work();
            drop(place);
            done
        });
        Ok(done.await?)
    }
}

/// The hash that is kept of a password, made on this thread.
///
/// # Errors
/// See [`Passwords::hash`].
pub(super) fn hash(password: &str) -> anyhow::Result<String> {
    let hash = hasher().hash_password(password.as_bytes());
    Ok(hash.map_err(|error| anyhow::anyhow!("hash a password: {error}"))?.to_string())
}

fn hasher() -> Argon2<'static> {
    let params = Params::new(MEMORY_KIBIBYTES, PASSES, 1, None).expect("constant parameters in range");
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
}

fn verify(password: &str, hash: &str) -> bool {
    PasswordHash::new(hash).is_ok_and(|hash| hasher().verify_password(password.as_bytes(), &hash).is_ok())
}

//! Users of an identity provider: whether what it says of one is said to us and for now (`claims.rs`), what that makes
//! of them here (`grants.rs`, `users.rs`), and when its keys are fetched again (`keys.rs`). What it says is fetched and its
//! signature checked in the shell, `root-orchestrator/src/oidc`.

mod claims;
mod grants;
mod keys;
mod users;

pub use claims::{ClaimError, Claims, Expected, LEEWAY_SECONDS, OLDEST_SECONDS};
pub use grants::{Grant, GrantError, granted};
pub use keys::{FETCH_AGAIN_MILLIS, KEYS_LAST_MILLIS, KeysAge};
pub use users::{
    API_TOKEN_REST_MILLIS, Confirmed, NoGrant, OfProvider, ProviderIdentity, ProviderLogin, ProviderToken,
};

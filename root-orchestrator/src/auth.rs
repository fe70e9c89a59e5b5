//! Users and their tokens.
//!
//! Passwords are kept as argon2id hashes. A login answers with a short access token and a long refresh token, both
//! JWTs signed with a key that stays in the store.

use std::{collections::BTreeMap, sync::Arc};

use argon2::{
    Algorithm, Argon2, Params, PasswordHasher, PasswordVerifier, Version, password_hash::phc::PasswordHash,
};
use jsonwebtoken::{DecodingKey, EncodingKey, Header, Validation, decode, encode, errors::ErrorKind};
use model::{OrganizationId, UserId};
use serde::{Deserialize, Serialize};
use store::{Store, put};
use tokio::sync::{RwLock, Semaphore};

use crate::documents::Settings;

const USERS: &str = "users";
const ADMIN: &str = "Admin";
/// The organisation every user is in so far; what clients of Oakestra name at login.
pub(crate) const ROOT_ORGANIZATION: &str = "root";
/// All roles of Oakestra's users.
const ALL_ROLES: [&str; 4] =
    ["Admin", "Organization_Admin", "Application_Provider", "Infrastructure_Provider"];
const ACCESS_SECONDS: u64 = 600;
const REFRESH_SECONDS: u64 = 30 * 86_400;
/// OWASP's parameters for little memory (7 MiB, five passes): a small root must not be pushed into swap by logins.
const MEMORY_KIBIBYTES: u32 = 7 * 1024;
const PASSES: u32 = 5;
/// Logins being checked at once; others wait. Bounds memory, and leaves a core for the clusters.
const CONCURRENT_CHECKS: usize = 2;

/// A user as stored.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct User {
    id: UserId,
    name: String,
    password_hash: String,
    roles: Vec<String>,
}

/// Who makes a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Caller {
    pub(crate) id: UserId,
    pub(crate) name: String,
    /// For which organisation.
    pub(crate) organization: OrganizationId,
    pub(crate) roles: Vec<String>,
}

impl Caller {
    pub(crate) fn is_admin(&self) -> bool {
        self.roles.iter().any(|role| role == "Admin")
    }
}

/// What a login is answered with.
#[derive(Debug, Clone, Serialize, utoipa::ToSchema)]
pub(crate) struct TokenPair {
    /// Access token: send it as `Authorization: Bearer …`. Valid for ten minutes.
    pub(crate) token: String,
    /// Refresh token: buys access tokens at `/api/auth/refresh`. Valid for thirty days.
    pub(crate) refresh_token: String,
}

/// Why a token or password does not do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum AuthError {
    #[error("wrong user name or password")]
    Credentials,
    #[error("there is no organisation of that name; leave `organization_name` out")]
    Organization,
    #[error("Missing Authorization Header; log in at /api/auth/login and send `Authorization: Bearer TOKEN`")]
    Missing,
    #[error("the token is not valid; log in again")]
    Invalid,
    #[error("Token has expired; log in again or use the refresh token")]
    Expired,
    #[error("this needs {0} token")]
    WrongType(&'static str),
}

#[derive(Debug, Serialize, Deserialize)]
struct Claims {
    sub: String,
    user: String,
    roles: Vec<String>,
    organization: String,
    #[serde(rename = "type")]
    kind: String,
    fresh: bool,
    iat: u64,
    nbf: u64,
    exp: u64,
    jti: String,
}

const ACCESS: &str = "access";
const REFRESH: &str = "refresh";

/// Everybody who may log in.
pub(crate) struct Users {
    users: RwLock<BTreeMap<String, User>>,
    organization: OrganizationId,
    encoding: EncodingKey,
    decoding: DecodingKey,
    checks: Arc<Semaphore>,
}

impl Users {
    /// Reads the users; the first start makes `Admin`.
    pub(crate) async fn open(
        store: Arc<dyn Store>,
        settings: &Settings,
        admin_password: Option<String>,
    ) -> anyhow::Result<Self> {
        let mut users = BTreeMap::new();
        for document in store.list(USERS).await? {
            let user: User = store::decode(&document)?;
            users.insert(user.name.clone(), user);
        }
        if users.is_empty() {
            let admin = first_user(admin_password)?;
            store.commit(vec![put(USERS, admin.id, &admin)]).await?;
            users.insert(admin.name.clone(), admin);
        }
        Ok(Self {
            users: RwLock::new(users),
            organization: settings.organization,
            encoding: EncodingKey::from_secret(settings.token_key.as_bytes()),
            decoding: DecodingKey::from_secret(settings.token_key.as_bytes()),
            checks: Arc::new(Semaphore::new(CONCURRENT_CHECKS)),
        })
    }

    pub(crate) async fn log_in(
        &self,
        name: &str,
        password: String,
        organization: Option<&str>,
    ) -> Result<TokenPair, AuthError> {
        if organization.is_some_and(|organization| organization != ROOT_ORGANIZATION) {
            return Err(AuthError::Organization);
        }
        let user = self.users.read().await.get(name).cloned();
        // An unknown name costs as much as a wrong password, so that names cannot be told by the time it takes.
        let hash = user.as_ref().map_or_else(|| NOBODY.to_owned(), |user| user.password_hash.clone());
        let place = Arc::clone(&self.checks).acquire_owned().await.map_err(|_| AuthError::Invalid)?;
        let matches = tokio::task::spawn_blocking(move || {
            let matches = verify(&password, &hash);
            drop(place);
            matches
        });
        match (matches.await, user) {
            (Ok(true), Some(user)) => Ok(TokenPair {
                token: self.sign(&user, ACCESS, ACCESS_SECONDS),
                refresh_token: self.sign(&user, REFRESH, REFRESH_SECONDS),
            }),
            _ => Err(AuthError::Credentials),
        }
    }

    /// A new access token. Roles are read anew, so that what was taken away stays away.
    pub(crate) async fn refresh(&self, header: Option<&str>) -> Result<String, AuthError> {
        let claims = self.claims(header, REFRESH)?;
        let users = self.users.read().await;
        let user = users.get(&claims.sub).ok_or(AuthError::Invalid)?;
        Ok(self.sign(user, ACCESS, ACCESS_SECONDS))
    }

    /// Who sends this `Authorization` header.
    pub(crate) async fn caller(&self, header: Option<&str>) -> Result<Caller, AuthError> {
        let claims = self.claims(header, ACCESS)?;
        let users = self.users.read().await;
        let user = users.get(&claims.sub).ok_or(AuthError::Invalid)?;
        Ok(Caller {
            id: user.id,
            name: user.name.clone(),
            organization: self.organization,
            roles: user.roles.clone(),
        })
    }

    fn claims(&self, header: Option<&str>, kind: &'static str) -> Result<Claims, AuthError> {
        let token = header.and_then(|header| header.strip_prefix("Bearer ")).ok_or(AuthError::Missing)?;
        let validation = Validation { validate_nbf: true, ..Validation::default() };
        let claims = decode::<Claims>(token, &self.decoding, &validation)
            .map_err(|error| {
                let expired = matches!(error.kind(), ErrorKind::ExpiredSignature);
                if expired { AuthError::Expired } else { AuthError::Invalid }
            })?
            .claims;
        if claims.kind == kind {
            Ok(claims)
        } else {
            Err(AuthError::WrongType(if kind == ACCESS { "an access" } else { "a refresh" }))
        }
    }

    fn sign(&self, user: &User, kind: &str, seconds: u64) -> String {
        let now = daemon::now().0 / 1000;
        let claims = Claims {
            sub: user.name.clone(),
            user: user.name.clone(),
            roles: user.roles.clone(),
            organization: self.organization.to_string(),
            kind: kind.to_owned(),
            fresh: false,
            iat: now,
            nbf: now,
            exp: now + seconds,
            jti: daemon::random_hex::<16>(),
        };
        encode(&Header::default(), &claims, &self.encoding)
            .expect("claims of texts and numbers can be signed")
    }
}

/// The hash of no password: costs as much to check as a real one and never matches.
const NOBODY: &str =
    "$argon2id$v=19$m=7168,t=5,p=1$bm9ib2R5bm9ib2R5$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

fn hasher() -> Argon2<'static> {
    let params = Params::new(MEMORY_KIBIBYTES, PASSES, 1, None).expect("constant parameters in range");
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
}

fn verify(password: &str, hash: &str) -> bool {
    PasswordHash::new(hash).is_ok_and(|hash| hasher().verify_password(password.as_bytes(), &hash).is_ok())
}

fn first_user(password: Option<String>) -> anyhow::Result<User> {
    let given = password.filter(|password| !password.is_empty());
    let password = given.clone().unwrap_or_else(daemon::random_hex::<12>);
    let hash = hasher()
        .hash_password(password.as_bytes())
        .map_err(|error| anyhow::anyhow!("hash the first password: {error}"))?;
    match given.as_deref() {
        None => tracing::warn!(
            user = ADMIN,
            password,
            "first start: this password is shown once; log in with it, or start anew with MANGROVE_ADMIN_PASSWORD"
        ),
        Some(ADMIN) => tracing::warn!(
            "the password of `Admin` is `Admin`, which everybody knows; keep the API on loopback"
        ),
        Some(_) => {}
    }
    Ok(User {
        id: daemon::fresh_user_id(),
        name: ADMIN.to_owned(),
        password_hash: hash.to_string(),
        roles: ALL_ROLES.map(str::to_owned).to_vec(),
    })
}

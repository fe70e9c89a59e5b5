//! Who is asking: logins, their tokens, and API tokens. What they are good for is decided in the brain
//! (`core/src/sessions.rs`, `core/src/access.rs`).
//!
//! A login answers with a short access token and a long refresh token, both JWTs signed with a key that stays in the
//! store (`keys.rs`). An API token is a secret of which a hash is kept.

pub(crate) mod beginning;
mod checked;
mod keys;
mod passwords;
mod provider;

use std::{
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use control::Stopping;
use link::secret_hash;
use model::{ClusterId, OrganizationId, TokenId, UserId};
use root_core::{
    Session, State, Throttle, User,
    access::{Kind, Of, Rights, Verb, Verdict, may, may_somewhere, usual_owner},
};
use serde::Serialize;

use crate::{audit::Audited, oidc::Oidc};
use keys::{Claims, Purpose, Subject};

pub(crate) use beginning::ROOT_ORGANIZATION;
pub(crate) use keys::Keys;
pub(crate) use passwords::Passwords;
pub(crate) use provider::LoginError;

/// Begins an API token.
const API_TOKEN: &str = "mga1";

/// Who makes a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Caller {
    pub(crate) id: UserId,
    pub(crate) name: String,
    /// For which organisation.
    pub(crate) organization: OrganizationId,
    /// What the caller may do.
    pub(crate) rights: Rights,
    /// The API token it is made by, if not by a login.
    pub(crate) api_token: Option<TokenId>,
}

impl Caller {
    fn new(user: &User, rights: Rights, api_token: Option<TokenId>) -> Self {
        Self { id: user.id, name: user.name.clone(), organization: rights.organization, rights, api_token }
    }

    /// Whether the caller may do that to something of `of`.
    pub(crate) fn may(&self, verb: Verb, kind: Kind, of: Of) -> Verdict {
        may(&self.rights, verb, kind, of)
    }

    /// Whether the caller may do that to something at all; see [`may_somewhere`].
    pub(crate) fn may_somewhere(&self, verb: Verb, kind: Kind) -> Verdict {
        may_somewhere(&self.rights, verb, kind)
    }

    /// Whether the caller may look at that cluster.
    pub(crate) fn sees(&self, cluster: ClusterId) -> bool {
        self.may(Verb::Get, Kind::Cluster, Of::Cluster(cluster)) == Verdict::Allowed
    }

    /// The same as [`Self::may`] without naming whose: of the caller's organisation, or of the platform, or the caller's own.
    pub(crate) fn may_usually(&self, verb: Verb, kind: Kind) -> Verdict {
        self.may(verb, kind, usual_owner(&self.rights, kind))
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
    #[error("wrong user name or password, or not a member of the organisation")]
    Credentials,
    #[error("there is no organisation of that name; leave `organization_name` out for `root`")]
    Organization,
    #[error("too many wrong passwords for this user from here; try again in {seconds} seconds")]
    TooMany { seconds: u64 },
    #[error("Missing Authorization Header; log in at /api/auth/login and send `Authorization: Bearer TOKEN`")]
    Missing,
    #[error("the token is not valid; log in again")]
    Invalid,
    #[error("Token has expired; log in again or use the refresh token")]
    Expired,
    #[error("this needs {0} token")]
    WrongType(&'static str),
    #[error("this needs a login; an API token cannot do it")]
    NeedsLogin,
    #[error(transparent)]
    Stopping(#[from] Stopping),
}

/// Who wants to log in, and from where.
#[derive(Debug)]
pub(crate) struct Attempt {
    pub(crate) name: String,
    pub(crate) password: String,
    /// `root` if none is named.
    pub(crate) organization: Option<String>,
    pub(crate) from: IpAddr,
}

/// See the module's description.
pub(crate) struct Authentication {
    keys: Keys,
    pub(crate) passwords: Passwords,
    throttle: Mutex<Throttle>,
    oidc: Option<Oidc>,
    /// Held while the identity provider is asked about a login; see [`provider`].
    asking: [tokio::sync::Mutex<()>; provider::ASKED_AT_ONCE],
}

impl Authentication {
    pub(crate) fn new(keys: Keys, oidc: Option<Oidc>) -> Self {
        let (throttle, asking) = (Mutex::default(), Default::default());
        Self { keys, passwords: Passwords::new(), throttle, oidc, asking }
    }

    /// What others check access tokens by.
    pub(crate) fn public_keys(&self) -> jsonwebtoken::jwk::JwkSet {
        self.keys.public()
    }

    pub(crate) async fn log_in(&self, brain: &Audited, attempt: Attempt) -> Result<TokenPair, AuthError> {
        let Attempt { name, password, organization, from } = attempt;
        let organization = organization.unwrap_or_else(|| ROOT_ORGANIZATION.to_owned());
        let (user, organization) = {
            let state = brain.read().await;
            let organization = state.organization_named(&organization).ok_or(AuthError::Organization)?;
            (state.user_named(&name).cloned(), organization.id)
        };
        brain.describe(|call| {
            call.is_routine = true;
            call.organization = Some(organization);
            // What is not a name may be a password that was put in its place.
            call.parameters.extend(user.iter().map(|user| ("username".to_owned(), user.name.clone())));
        });
        self.check_password(&name, password, user.as_ref(), from).await?;
        let user = user.ok_or(AuthError::Credentials)?;
        let session =
            Session { id: daemon::random_hex::<16>(), user: user.id, organization, epoch: user.epoch };
        let state = brain.read().await;
        self.pair(brain, &state, session)
    }

    /// Whether that is the user's password; who was wrong too often from there has to wait.
    pub(crate) async fn check_password(
        &self,
        name: &str,
        password: String,
        user: Option<&User>,
        from: IpAddr,
    ) -> Result<(), AuthError> {
        let now = daemon::present().moment;
        let admitted = self.throttle().admit(name, from, now);
        admitted.map_err(|millis| AuthError::TooMany { seconds: millis.div_ceil(1000) })?;
        // Users of an identity provider have none.
        let hash = user.map(|user| user.password_hash.clone()).filter(|hash| !hash.is_empty());
        let matches = self.passwords.matches(password, hash).await;
        let mut throttle = self.throttle();
        if matches {
            throttle.succeeded(name, from);
            Ok(())
        } else {
            throttle.failed(name, from, daemon::present().moment);
            Err(AuthError::Credentials)
        }
    }

    /// A new access token. Roles are read anew, of users of an identity provider there, so that what was taken away stays
    /// away.
    pub(crate) async fn refresh(&self, brain: &Audited, header: Option<&str>) -> Result<String, LoginError> {
        let claims = self.claims_for(header, Purpose::Refresh)?;
        brain.describe(|call| call.is_routine = true);
        self.confirm(brain, &claims.session()).await?;
        let state = brain.read().await;
        let (subject, rights) = subject(&state, claims.session()).ok_or(AuthError::Invalid)?;
        if let Some(user) = state.user(rights.user) {
            brain.is_of(user, &rights, None);
        }
        let subject = Subject { ends: Some(claims.session_ends()), ..subject };
        Ok(self.keys.sign(&subject, Purpose::Access))
    }

    /// Ends the login a token is of, by its access token or its refresh token.
    pub(crate) async fn log_out(&self, brain: &Audited, header: Option<&str>) -> Result<(), AuthError> {
        let token = bearer(header)?;
        if token.starts_with(API_TOKEN) {
            self.caller(brain, header).await?;
            return Err(AuthError::NeedsLogin);
        }
        let claims = self.keys.check(token)?;
        {
            let state = brain.read().await;
            let rights = state.resume(&claims.session());
            if let Some((user, rights)) = rights.and_then(|rights| Some((state.user(rights.user)?, rights))) {
                brain.is_of(user, &rights, None);
            }
        }
        let ended = brain.ask(move |state, now| {
            // What is ended or revoked already stays so, and needs no document.
            let session = claims.session();
            let changes = match state.resume(&session) {
                Some(_) => state.end_session(session.id, claims.session_ends(), now.date),
                None => Vec::new(),
            };
            Ok::<_, std::convert::Infallible>(((), changes))
        });
        ended.await?.unwrap_or_else(|never| match never {});
        Ok(())
    }

    /// Who sends this `Authorization` header.
    pub(crate) async fn caller(&self, brain: &Audited, header: Option<&str>) -> Result<Caller, AuthError> {
        let token = bearer(header)?;
        if token.starts_with(API_TOKEN) {
            let (id, secret) = split_api_token(token).ok_or(AuthError::Invalid)?;
            let state = brain.read().await;
            let rights =
                state.token_rights(id, &secret_hash(secret), daemon::now()).ok_or(AuthError::Invalid)?;
            let user = state.user(rights.user).ok_or(AuthError::Invalid)?;
            brain.is_of(user, &rights, Some(id));
            return Ok(Caller::new(user, rights, Some(id)));
        }
        let claims = self.claims_for(header, Purpose::Access)?;
        let state = brain.read().await;
        let rights = state.resume(&claims.session()).ok_or(AuthError::Invalid)?;
        let user = state.user(rights.user).ok_or(AuthError::Invalid)?;
        brain.is_of(user, &rights, None);
        Ok(Caller::new(user, rights, None))
    }

    fn claims_for(&self, header: Option<&str>, purpose: Purpose) -> Result<Arc<Claims>, AuthError> {
        let claims = self.keys.check(bearer(header)?)?;
        if claims.purpose() == purpose {
            return Ok(claims);
        }
        Err(AuthError::WrongType(match purpose {
            Purpose::Access => "an access",
            Purpose::Refresh => "a refresh",
        }))
    }

    fn throttle(&self) -> MutexGuard<'_, Throttle> {
        self.throttle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A new API token: the text to hand over, and the hash to keep.
pub(crate) fn new_api_token(id: TokenId) -> (String, String) {
    let secret = daemon::random_hex::<32>();
    let hash = secret_hash(&secret);
    (format!("{API_TOKEN}.{id}.{secret}"), hash)
}

fn split_api_token(token: &str) -> Option<(TokenId, &str)> {
    let (id, secret) = token.strip_prefix(API_TOKEN)?.strip_prefix('.')?.split_once('.')?;
    Some((id.parse().ok()?, secret))
}

fn bearer(header: Option<&str>) -> Result<&str, AuthError> {
    header.and_then(|header| header.strip_prefix("Bearer ")).ok_or(AuthError::Missing)
}

/// Whom the tokens of a login are signed for, and what it is good for; `None` when it is good no more.
fn subject(state: &State, session: Session) -> Option<(Subject<'_>, Rights)> {
    let rights = state.resume(&session)?;
    let roles = rights.roles.iter().map(ToString::to_string).collect();
    Some((Subject { name: &state.user(session.user)?.name, roles, session, ends: None }, rights))
}

//! Logins at an identity provider: what its word about somebody becomes here, and that it is asked again whenever such a
//! login is refreshed. How it is asked is in `oidc/`, what follows is decided in the brain (`core/src/oidc`).

use root_core::{
    Session, User,
    oidc::{NoGrant, ProviderLogin},
};

use super::{AuthError, Authentication, Purpose, TokenPair, keys::REFRESH_SECONDS};
use crate::{
    api::date,
    audit::Audited,
    oidc::{LoggedIn, Oidc, OidcError},
};

/// Logins asked about at once; one login by one after another, as providers give out their tokens once.
pub(super) const ASKED_AT_ONCE: usize = 16;

/// Why nobody is logged in, or no longer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LoginError {
    #[error(transparent)]
    Auth(#[from] AuthError),
    #[error(transparent)]
    Oidc(#[from] OidcError),
    #[error(transparent)]
    NoGrant(#[from] NoGrant),
}

impl Authentication {
    /// The identity provider, if there is one.
    pub(crate) fn oidc(&self) -> Result<&Oidc, OidcError> {
        self.oidc.as_ref().ok_or(OidcError::NotConfigured)
    }

    /// The tokens for somebody the provider has just confirmed. A user who is new is made.
    pub(crate) async fn log_in_confirmed(
        &self,
        brain: &Audited,
        logged_in: LoggedIn,
    ) -> Result<TokenPair, LoginError> {
        let LoggedIn { confirmed, organization, token } = logged_in;
        let id = daemon::random_hex::<16>();
        let token = self.oidc()?.sealed_for(&id, token);
        let fresh = User {
            id: daemon::fresh_user_id(),
            name: String::new(),
            email: String::new(),
            created_at: date(daemon::now()),
            password_hash: String::new(),
            epoch: 0,
            reset: None,
            provider: None,
        };
        brain.describe(|call| call.is_routine = true);
        let (session, is_new) = brain
            .ask(move |state, now| {
                let is_new = state.user_of_provider(&confirmed.identity).is_none();
                let organization = organization.as_deref();
                let (session, mut changes) =
                    state.log_in_confirmed(&confirmed, organization, id, &fresh, now.date);
                if let Ok(session) = &session {
                    let login = ProviderLogin {
                        id: session.id.clone(),
                        user: session.user,
                        token,
                        asked_at: now.date,
                        expires_at: now.date.plus_millis(REFRESH_SECONDS * 1000),
                    };
                    changes.extend(state.keep_provider_login(login, now.date));
                }
                Ok::<_, std::convert::Infallible>(((session, is_new), changes))
            })
            .await
            .map_err(AuthError::from)?
            .unwrap_or_else(|never| match never {});
        let session = session?;
        let state = brain.read().await;
        if is_new {
            let name = state.user(session.user).map_or("", |user| user.name.as_str());
            tracing::info!(user = name, "somebody logged in at the identity provider for the first time");
        }
        Ok(self.pair(brain, &state, session)?)
    }

    /// Asks the provider whether the user of a login is still who it was, and what the user is given now. Nothing is asked
    /// about users who log in here.
    pub(super) async fn confirm(&self, brain: &Audited, session: &Session) -> Result<(), LoginError> {
        let identity = {
            let state = brain.read().await;
            let rights = state.resume(session).ok_or(AuthError::Invalid)?;
            let user = state.user(session.user).ok_or(AuthError::Invalid)?;
            brain.is_of(user, &rights, None);
            match &user.provider {
                Some(provider) => provider.identity.clone(),
                None => return Ok(()),
            }
        };
        // A provider that is asked no more vouches for nobody.
        let oidc = self.oidc.as_ref().filter(|oidc| oidc.is_of(&identity)).ok_or(AuthError::Invalid)?;
        let came_at = daemon::now();
        let place = session.id.bytes().fold(0, |sum, byte| sum + usize::from(byte)) % ASKED_AT_ONCE;
        let _one_by_one = self.asking[place].lock().await;
        let login = brain.read().await.provider_login(&session.id).cloned().ok_or(AuthError::Invalid)?;
        if login.asked_at > came_at {
            // By another who came with the same login meanwhile.
            return Ok(());
        }
        match oidc.ask_again(&session.id, &identity, &login.token).await {
            Ok((confirmed, token)) => {
                let confirming = brain.ask(move |state, now| {
                    let login = ProviderLogin { token, asked_at: now.date, ..login };
                    Ok::<_, std::convert::Infallible>(((), state.confirm(&login, &confirmed, now.date)))
                });
                confirming.await.map_err(AuthError::from)?.unwrap_or_else(|never| match never {});
                Ok(())
            }
            Err(error @ (OidcError::Refused(_) | OidcError::Token(_) | OidcError::Silent)) => {
                tracing::warn!(subject = identity.subject, %error, "a login ends: its user is not confirmed");
                let (id, ends) = (session.id.clone(), login.expires_at);
                let ending = brain.ask(move |state, now| {
                    Ok::<_, std::convert::Infallible>(((), state.end_session(id, ends, now.date)))
                });
                ending.await.map_err(AuthError::from)?.unwrap_or_else(|never| match never {});
                Err(AuthError::Invalid.into())
            }
            Err(error) => Err(error.into()),
        }
    }

    /// The tokens of a login that begins.
    pub(super) fn pair(
        &self,
        brain: &Audited,
        state: &root_core::State,
        session: Session,
    ) -> Result<TokenPair, AuthError> {
        let (subject, rights) = super::subject(state, session).ok_or(AuthError::Credentials)?;
        if let Some(user) = state.user(rights.user) {
            brain.is_of(user, &rights, None);
        }
        Ok(TokenPair {
            token: self.keys.sign(&subject, Purpose::Access),
            refresh_token: self.keys.sign(&subject, Purpose::Refresh),
        })
    }
}

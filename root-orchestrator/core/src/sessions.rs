//! Which logins and API tokens are still good, and what ends them.

use std::collections::BTreeSet;

use model::{OrganizationId, Timestamp, TokenId, UserId};

use crate::{
    Change, State,
    access::{Rights, Scope, may_lend},
    membership::PeopleRejected,
    oidc::API_TOKEN_REST_MILLIS,
    people::{ApiToken, EndedSession, PeopleChange, User},
};

/// API tokens one user may have: more are forgotten ones.
pub(crate) const MAX_API_TOKENS: usize = 100;

/// A login, as the tokens signed for it tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    /// The `jti` of its refresh token.
    pub id: String,
    /// Who.
    pub user: UserId,
    /// For which organisation.
    pub organization: OrganizationId,
    /// [`User::epoch`] at the login.
    pub epoch: u32,
}

/// An API token to be made.
#[derive(Debug, Clone)]
pub struct NewApiToken {
    /// An id nobody has.
    pub id: TokenId,
    /// For people.
    pub name: String,
    /// What it is limited to; `None` is all its user may.
    pub scopes: Option<BTreeSet<Scope>>,
    /// SHA-256 of its secret.
    pub secret_hash: String,
    /// It is of no use from then on.
    pub expires_at: Timestamp,
}

impl State {
    /// What a login is good for now; `None` when it is good no more.
    #[must_use]
    pub fn resume(&self, session: &Session) -> Option<Rights> {
        let user = self.user(session.user)?;
        let ended = user.epoch != session.epoch || self.people.ended.contains_key(&session.id);
        if ended { None } else { self.rights(user.id, session.organization) }
    }

    /// Ends a login: its tokens are good no more. Those that have expired meanwhile are forgotten.
    #[must_use]
    pub fn end_session(&self, id: String, expires_at: Timestamp, now: Timestamp) -> Vec<Change> {
        let expired = self.people.ended.values().filter(|ended| ended.expires_at <= now);
        let forgotten = expired.map(|ended| PeopleChange::EndedSession(ended.id.clone(), None));
        let ended = EndedSession { id: id.clone(), expires_at };
        let at_provider = self.provider_login(&id).map(|_| PeopleChange::ProviderLogin(id.clone(), None));
        let changes = forgotten.chain(at_provider).chain([PeopleChange::EndedSession(id, Some(ended))]);
        changes.map(Change::People).collect()
    }

    /// What an API token is good for now; `None` when there is none of that id and secret, or it is good no more.
    #[must_use]
    pub fn token_rights(&self, id: TokenId, secret_hash: &str, now: Timestamp) -> Option<Rights> {
        let token = self.people.tokens.get(&id)?;
        if token.secret_hash != secret_hash || token.expires_at <= now {
            return None;
        }
        let provider = self.user(token.user)?.provider.as_ref();
        let rests = |confirmed: Timestamp| confirmed.plus_millis(API_TOKEN_REST_MILLIS) <= now;
        if provider.is_some_and(|provider| rests(provider.confirmed_at)) {
            return None;
        }
        let rights = self.rights(token.user, token.organization)?;
        Some(Rights { scopes: token.scopes.clone(), ..rights })
    }

    /// Makes an API token for who asks. Those of the user that have expired are forgotten.
    ///
    /// # Errors
    /// When a scope is more than who asks may do, or the user has too many.
    pub fn create_api_token(
        &self,
        by: &Rights,
        wanted: NewApiToken,
        now: Timestamp,
    ) -> Result<Vec<Change>, PeopleRejected> {
        for scope in wanted.scopes.iter().flatten() {
            if !may_lend(by, *scope) {
                return Err(PeopleRejected::MoreThanHeld(format!("the scope `{scope}`")));
            }
        }
        let (expired, good): (Vec<&ApiToken>, Vec<&ApiToken>) =
            self.api_tokens_of(by.user).partition(|token| token.expires_at <= now);
        if good.len() >= MAX_API_TOKENS {
            return Err(PeopleRejected::TooManyTokens);
        }
        let token = ApiToken {
            id: wanted.id,
            user: by.user,
            organization: by.organization,
            name: wanted.name,
            scopes: wanted.scopes,
            secret_hash: wanted.secret_hash,
            created: now,
            expires_at: wanted.expires_at,
        };
        let forgotten = expired.into_iter().map(|token| PeopleChange::ApiToken(token.id, None));
        let changes = forgotten.chain([PeopleChange::ApiToken(token.id, Some(token))]);
        Ok(changes.map(Change::People).collect())
    }

    /// Makes an API token useless at once.
    ///
    /// # Errors
    /// When it is none of who asks.
    pub fn revoke_api_token(&self, by: &Rights, id: TokenId) -> Result<Vec<Change>, PeopleRejected> {
        if self.api_tokens_of(by.user).any(|token| token.id == id) {
            Ok(vec![Change::People(PeopleChange::ApiToken(id, None))])
        } else {
            Err(PeopleRejected::NoToken(id))
        }
    }

    /// The user with another password: no login and no API token from before is good any more, and no reset.
    pub(crate) fn with_password(&self, user: &User, password_hash: String) -> Vec<Change> {
        let changed = User { password_hash, epoch: user.epoch.wrapping_add(1), reset: None, ..user.clone() };
        let mut changes = self.without_tokens(user.id);
        changes.push(Change::People(PeopleChange::User(user.id, Some(changed))));
        changes
    }

    pub(crate) fn without_tokens(&self, user: UserId) -> Vec<Change> {
        let tokens = self.api_tokens_of(user).map(|token| PeopleChange::ApiToken(token.id, None));
        tokens.map(Change::People).collect()
    }
}

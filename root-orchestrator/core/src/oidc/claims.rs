//! What an identity provider says of a user. The signature was checked before; here, whether it was said to us, now, and
//! for the login it is used for.

use model::Timestamp;
use serde_json::{Map, Value};

use super::ProviderIdentity;

/// How far the clocks of provider and root may be apart: devices that ask for the time stay well within it.
pub const LEEWAY_SECONDS: u64 = 60;
/// An ID token is looked at as soon as it was issued; one that is older was kept by somebody.
pub const OLDEST_SECONDS: u64 = 600;
/// As the standard limits it.
const LONGEST_SUBJECT: usize = 255;

/// An ID token that is genuine and does not count.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ClaimError {
    /// A claim that must be there.
    #[error("the claim `{0}` is missing or not of its type")]
    Missing(&'static str),
    /// Another provider.
    #[error("it is of the issuer {0:?}, and not of the one that is configured")]
    Issuer(String),
    /// Made for somebody else.
    #[error("it was issued for another client")]
    Audience,
    /// Made for us and others, and handed to another.
    #[error("it was handed to another client")]
    AuthorizedParty,
    /// Its time is over.
    #[error("it has expired")]
    Expired,
    /// Its time has not come.
    #[error("it is of the future; is the clock of the root or of the provider wrong?")]
    Future,
    /// Kept by somebody and sent later.
    #[error("it was issued more than ten minutes ago")]
    Old,
    /// Of another login.
    #[error("it belongs to another login")]
    Nonce,
    /// Another user than the rest is about.
    #[error("it is about another user")]
    Subject,
}

/// What an ID token must say.
#[derive(Debug, Clone, Copy)]
pub struct Expected<'a> {
    /// The provider.
    pub issuer: &'a str,
    /// Who we are to it.
    pub client_id: &'a str,
    /// What this login was begun with; `None` where nothing was sent along.
    pub nonce: Option<&'a str>,
    /// What time it is.
    pub now: Timestamp,
}

/// What is said of a user, by name.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Claims(Map<String, Value>);

impl Claims {
    /// Claims as they were read.
    #[must_use]
    pub const fn new(claims: Map<String, Value>) -> Self {
        Self(claims)
    }

    /// Checks that an ID token counts here and now; who it is about.
    ///
    /// # Errors
    /// The first reason why it does not.
    pub fn check(&self, expected: &Expected<'_>) -> Result<ProviderIdentity, ClaimError> {
        let issuer = self.text("iss")?;
        if issuer != expected.issuer {
            return Err(ClaimError::Issuer(issuer.chars().take(LONGEST_SUBJECT).collect()));
        }
        self.check_audience(expected.client_id)?;
        self.check_times(expected.now)?;
        if let Some(nonce) = expected.nonce
            && self.text("nonce")? != nonce
        {
            return Err(ClaimError::Nonce);
        }
        Ok(ProviderIdentity { issuer: issuer.to_owned(), subject: self.subject()?.to_owned() })
    }

    /// Takes on what the provider says elsewhere of the same user.
    ///
    /// # Errors
    /// When it is about somebody else, or does not say about whom.
    pub fn with(mut self, more: Self) -> Result<Self, ClaimError> {
        if more.subject()? != self.subject()? {
            return Err(ClaimError::Subject);
        }
        // What was signed counts more.
        for (name, value) in more.0 {
            self.0.entry(name).or_insert(value);
        }
        Ok(self)
    }

    /// Who they are about, in the words of the provider.
    ///
    /// # Errors
    /// When that is missing, or no text that could be one.
    pub fn subject(&self) -> Result<&str, ClaimError> {
        let subject = self.text("sub")?;
        if subject.is_empty() || subject.len() > LONGEST_SUBJECT {
            return Err(ClaimError::Missing("sub"));
        }
        Ok(subject)
    }

    /// A claim that is a text.
    ///
    /// # Errors
    /// When there is none, or it is something else.
    pub fn text(&self, name: &'static str) -> Result<&str, ClaimError> {
        self.0.get(name).and_then(Value::as_str).ok_or(ClaimError::Missing(name))
    }

    /// A claim by its name, else by its path with dots, as in `realm_access.roles`.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<&Value> {
        self.0.get(name).or_else(|| {
            let mut parts = name.split('.');
            let first = self.0.get(parts.next()?)?;
            parts.try_fold(first, |value, part| value.get(part))
        })
    }

    fn check_audience(&self, client_id: &str) -> Result<(), ClaimError> {
        let others = match self.0.get("aud") {
            Some(Value::String(audience)) if audience == client_id => false,
            Some(Value::String(_)) => return Err(ClaimError::Audience),
            Some(Value::Array(all)) => {
                let all: Option<Vec<&str>> = all.iter().map(Value::as_str).collect();
                let all = all.ok_or(ClaimError::Missing("aud"))?;
                if !all.contains(&client_id) {
                    return Err(ClaimError::Audience);
                }
                all.iter().any(|audience| *audience != client_id)
            }
            Some(Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_)) | None => {
                return Err(ClaimError::Missing("aud"));
            }
        };
        match self.0.get("azp") {
            // Of several it must say whom it was handed to.
            None if others => Err(ClaimError::AuthorizedParty),
            None => Ok(()),
            Some(party) if party.as_str() == Some(client_id) => Ok(()),
            Some(_) => Err(ClaimError::AuthorizedParty),
        }
    }

    fn check_times(&self, now: Timestamp) -> Result<(), ClaimError> {
        let now = now.0 / 1000;
        let latest = now.saturating_add(LEEWAY_SECONDS);
        let (expires, issued) = (self.seconds("exp")?, self.seconds("iat")?);
        if expires.saturating_add(LEEWAY_SECONDS) <= now {
            return Err(ClaimError::Expired);
        }
        if issued > latest {
            return Err(ClaimError::Future);
        }
        if self.0.contains_key("nbf") && self.seconds("nbf")? > latest {
            return Err(ClaimError::Future);
        }
        if issued.saturating_add(OLDEST_SECONDS + LEEWAY_SECONDS) < now {
            return Err(ClaimError::Old);
        }
        Ok(())
    }

    /// A date, in seconds since 1970. Some write it with a fraction.
    fn seconds(&self, name: &'static str) -> Result<u64, ClaimError> {
        let value = self.0.get(name).ok_or(ClaimError::Missing(name))?;
        let whole = value.as_u64().or_else(|| {
            let seconds = value.as_f64().filter(|seconds| (0.0..1e12).contains(seconds))?;
            format!("{:.0}", seconds.floor()).parse().ok()
        });
        whole.ok_or(ClaimError::Missing(name))
    }
}

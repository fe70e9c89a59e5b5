//! Logging in at an identity provider (OpenID Connect): the flow for browsers, the one for devices, and asking again
//! whenever a login is refreshed.
//!
//! ```text
//!   browser ── begin ──► redirect to the provider, with a sealed cookie     http.rs      bounded requests
//!   browser ── callback with a code ──► tokens ──► ID token checked         provider.rs  its keys and tokens
//!   mangrove ── device ──► URL and code;  polls ──► the same                id_token.rs  signatures
//! ```
//!
//! Nothing is kept of logins under way: what is needed travels with them, sealed. What becomes of a user who is confirmed
//! is decided in the brain (`core/src/oidc`).

mod config;
mod http;
mod id_token;
mod provider;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use data_encoding::BASE64URL_NOPAD;
use form_urlencoded::Serializer;
use link::SecretValue;
use ring::digest;
use root_core::oidc::{ClaimError, Claims, Confirmed, Grant, ProviderIdentity, ProviderToken, granted};
use serde::{Deserialize, Serialize};

pub use config::OidcConfig;
use http::HttpError;
use id_token::IdTokenError;
use provider::{Provider, Tokens};

use crate::vault::Vault;

/// Who begins to log in has so long to finish.
const LOGIN_MILLIS: u64 = 600_000;
/// Polls are so far apart where the provider does not say, by the standard.
const POLL_SECONDS: u64 = 5;
const DEVICE_GRANT: &str = "urn:ietf:params:oauth:grant-type:device_code";
/// Keeps what is sealed for one purpose from being used for another.
const FOR_BROWSER: &str = "login in a browser";
const FOR_DEVICE: &str = "login of a device";

/// Why nobody is logged in.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OidcError {
    #[error(
        "this root knows no identity provider; log in with name and password, or ask its operator to set --oidc-issuer"
    )]
    NotConfigured,
    #[error(
        "this root does not know where the provider sends browsers back to; its operator says so by --oidc-redirect-url"
    )]
    NoRedirect,
    #[error("the identity provider offers no login for devices; log in by a browser at /api/auth/oidc/login")]
    NoDevices,
    #[error("this login was begun elsewhere or too long ago; begin again")]
    Begun,
    #[error("the login is not finished at the identity provider")]
    Pending,
    #[error("the login is not finished at the identity provider; ask less often")]
    SlowDown,
    #[error("the identity provider refuses: {0}")]
    Refused(String),
    #[error(
        "the identity provider does not take this root for its client; its operator finds the reason in the log"
    )]
    Client,
    #[error("what the identity provider says does not count: {0}")]
    Token(#[from] IdTokenError),
    #[error("the identity provider says nothing about who logs in; ask its operator")]
    Silent,
    #[error("the identity provider could not be reached a moment ago; try again in some seconds")]
    Resting,
    #[error("the identity provider cannot be asked; try again later")]
    Http(#[from] HttpError),
}

/// A login in a browser that was begun.
#[derive(Debug)]
pub(crate) struct Begun {
    /// Where the browser is sent.
    pub(crate) address: String,
    /// What it comes back with: that the same browser began it, and what was asked.
    pub(crate) cookie: String,
    /// Whether the cookie travels over TLS only.
    pub(crate) is_secure: bool,
}

/// What comes back with a browser.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct Returned {
    /// Buys the tokens of the provider.
    code: Option<String>,
    /// What the login was begun with.
    state: Option<String>,
    /// Which provider it is.
    iss: Option<String>,
    /// Why nobody logged in.
    error: Option<String>,
    /// The same in words.
    error_description: Option<String>,
}

/// What a person does elsewhere so that a device is logged in.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct DeviceLogin {
    /// Ask with this whether it is done, at `/api/auth/oidc/device/token`.
    device_code: String,
    /// To be typed there.
    #[schema(example = "WDJB-MJHT")]
    user_code: String,
    /// Where to go.
    verification_uri: String,
    /// The same with the code in it.
    #[serde(skip_serializing_if = "Option::is_none")]
    verification_uri_complete: Option<String>,
    /// Seconds until it is too late.
    expires_in: u64,
    /// Seconds between two questions.
    interval: u64,
}

/// What a provider answers a device.
#[derive(Deserialize)]
struct DeviceAnswer {
    device_code: String,
    user_code: String,
    verification_uri: String,
    verification_uri_complete: Option<String>,
    expires_in: u64,
    interval: Option<u64>,
}

/// What a login under way needs, sealed and given away.
#[derive(Serialize, Deserialize)]
struct Underway {
    /// The state of a browser's login, the code of a device's.
    code: String,
    nonce: String,
    verifier: String,
    organization: Option<String>,
    ends: u64,
}

/// Somebody the provider has confirmed, and what it is asked with the next time.
#[derive(Debug)]
pub(crate) struct LoggedIn {
    pub(crate) confirmed: Confirmed,
    pub(crate) organization: Option<String>,
    pub(crate) token: ProviderToken,
}

/// See the module's description.
pub(crate) struct Oidc {
    provider: Provider,
    redirect: Option<String>,
    username_claim: String,
    grants: Vec<Grant>,
    vault: Arc<Vault>,
}

impl Oidc {
    /// `None` when no provider is configured.
    ///
    /// # Errors
    /// When what is configured cannot be used.
    pub(crate) fn new(config: &OidcConfig, vault: Arc<Vault>) -> anyhow::Result<Option<Self>> {
        let (Some(issuer), Some(client_id)) = (&config.oidc_issuer, &config.oidc_client_id) else {
            return Ok(None);
        };
        let provider = Provider::new(issuer, client_id, config)?;
        if config.oidc_grants.is_empty() {
            tracing::warn!("nobody can log in at the identity provider: --oidc-grant gives nobody anything");
        }
        Ok(Some(Self {
            provider,
            redirect: config.oidc_redirect_url.clone(),
            username_claim: config.oidc_username_claim.clone(),
            grants: config.oidc_grants.clone(),
            vault,
        }))
    }

    /// Whether the provider is that one.
    pub(crate) fn is_of(&self, identity: &ProviderIdentity) -> bool {
        self.provider.issuer == identity.issuer
    }

    /// Begins a login in a browser.
    pub(crate) async fn begin(&self, organization: Option<String>) -> Result<Begun, OidcError> {
        let redirect = self.redirect.as_deref().ok_or(OidcError::NoRedirect)?;
        let discovery = self.provider.discovery().await?;
        let underway = Underway::new(daemon::random_hex::<16>(), organization);
        let challenge = digest::digest(&digest::SHA256, underway.verifier.as_bytes());
        let challenge = BASE64URL_NOPAD.encode(challenge.as_ref());
        let scopes = self.provider.scopes(&discovery);
        let mut query = Serializer::new(String::new());
        query.extend_pairs([
            ("response_type", "code"),
            ("client_id", self.provider.client_id.as_str()),
            ("redirect_uri", redirect),
            ("scope", scopes.as_str()),
            ("state", underway.code.as_str()),
            ("nonce", underway.nonce.as_str()),
            ("code_challenge", challenge.as_str()),
            ("code_challenge_method", "S256"),
        ]);
        if scopes.split(' ').any(|scope| scope == "offline_access") {
            // By the standard it is given to nobody else.
            query.append_pair("prompt", "consent");
        }
        let endpoint = &discovery.authorization_endpoint;
        self.provider.http.address(endpoint).map_err(HttpError::from)?;
        let separator = if endpoint.contains('?') { '&' } else { '?' };
        Ok(Begun {
            address: format!("{endpoint}{separator}{}", query.finish()),
            cookie: self.seal(FOR_BROWSER, &underway),
            is_secure: redirect.starts_with("https://"),
        })
    }

    /// Finishes a login in a browser that came back.
    pub(crate) async fn finish(&self, cookie: &str, returned: Returned) -> Result<LoggedIn, OidcError> {
        let redirect = self.redirect.as_deref().ok_or(OidcError::NoRedirect)?;
        let underway = self.open(FOR_BROWSER, cookie)?;
        let is_other_issuer = returned.iss.is_some_and(|issuer| issuer != self.provider.issuer);
        if returned.state.as_ref() != Some(&underway.code) || is_other_issuer {
            return Err(OidcError::Begun);
        }
        if let Some(error) = returned.error {
            let reason = returned.error_description.unwrap_or(error);
            return Err(OidcError::Refused(reason.chars().filter(|it| !it.is_control()).collect()));
        }
        let code = returned.code.ok_or(OidcError::Begun)?;
        let grant = [
            ("grant_type", "authorization_code"),
            ("code", code.as_str()),
            ("redirect_uri", redirect),
            ("code_verifier", underway.verifier.as_str()),
        ];
        self.logged_in(self.provider.tokens(&grant).await?, Some(&underway.nonce), underway.organization)
            .await
    }

    /// Begins a login of a device, which a person finishes elsewhere.
    pub(crate) async fn begin_device(&self, organization: Option<String>) -> Result<DeviceLogin, OidcError> {
        let discovery = self.provider.discovery().await?;
        let address = discovery.device_authorization_endpoint.as_ref().ok_or(OidcError::NoDevices)?;
        let scope = self.provider.scopes(&discovery);
        let mut fields = vec![("scope", scope.as_str())];
        if scope.split(' ').any(|scope| scope == "offline_access") {
            fields.push(("prompt", "consent"));
        }
        let answer: DeviceAnswer = self.provider.ask(&discovery, address, &fields).await?;
        let underway = Underway::new(answer.device_code, organization);
        Ok(DeviceLogin {
            device_code: self.seal(FOR_DEVICE, &underway),
            user_code: answer.user_code,
            verification_uri: answer.verification_uri,
            verification_uri_complete: answer.verification_uri_complete,
            expires_in: answer.expires_in.min(LOGIN_MILLIS / 1000),
            interval: answer.interval.unwrap_or(POLL_SECONDS).max(1),
        })
    }

    /// Asks whether a person has finished the login of a device.
    pub(crate) async fn finish_device(&self, device_code: &str) -> Result<LoggedIn, OidcError> {
        let underway = self.open(FOR_DEVICE, device_code)?;
        let grant = [("grant_type", DEVICE_GRANT), ("device_code", underway.code.as_str())];
        self.logged_in(self.provider.tokens(&grant).await?, None, underway.organization).await
    }

    /// Asks the provider anew about a user, by what it gave at the login `id` or the last time.
    pub(crate) async fn ask_again(
        &self,
        id: &str,
        identity: &ProviderIdentity,
        token: &ProviderToken,
    ) -> Result<(Confirmed, ProviderToken), OidcError> {
        let (claims, token) = match token {
            ProviderToken::Refresh(sealed) => {
                let before = self.open_token(id, sealed)?;
                let grant = [("grant_type", "refresh_token"), ("refresh_token", before.as_str())];
                let tokens = self.provider.tokens(&grant).await?;
                let claims = self.claims(&tokens, None).await?;
                let token = tokens.refresh_token.as_deref().unwrap_or(&before);
                (claims, ProviderToken::Refresh(self.seal_token(id, token)))
            }
            ProviderToken::Access(sealed) => {
                let access = self.open_token(id, sealed)?;
                (self.provider.user(&access).await?.ok_or(OidcError::Silent)?, token.clone())
            }
        };
        if claims.subject().ok() != Some(identity.subject.as_str()) {
            return Err(IdTokenError::from(ClaimError::Subject).into());
        }
        Ok((self.confirmed(identity.clone(), &claims), token))
    }

    /// What the provider is asked with, as it is stored for a login.
    pub(crate) fn sealed_for(&self, id: &str, token: ProviderToken) -> ProviderToken {
        match token {
            ProviderToken::Refresh(text) => ProviderToken::Refresh(self.seal_token(id, &text)),
            ProviderToken::Access(text) => ProviderToken::Access(self.seal_token(id, &text)),
        }
    }

    async fn logged_in(
        &self,
        tokens: Tokens,
        nonce: Option<&str>,
        organization: Option<String>,
    ) -> Result<LoggedIn, OidcError> {
        let id_token = tokens.id_token.as_deref().ok_or(OidcError::Silent)?;
        let (identity, claims) = self.provider.check(id_token, nonce).await?;
        let claims = match self.provider.user(&tokens.access_token).await? {
            Some(more) => claims.with(more).map_err(IdTokenError::from)?,
            None => claims,
        };
        let token = match tokens.refresh_token {
            Some(token) => ProviderToken::Refresh(token),
            None => ProviderToken::Access(tokens.access_token),
        };
        Ok(LoggedIn { confirmed: self.confirmed(identity, &claims), organization, token })
    }

    /// All that the provider says with tokens, of which one for the user's identity may be among them.
    async fn claims(&self, tokens: &Tokens, nonce: Option<&str>) -> Result<Claims, OidcError> {
        let signed = match &tokens.id_token {
            Some(id_token) => Some(self.provider.check(id_token, nonce).await?.1),
            None => None,
        };
        match (signed, self.provider.user(&tokens.access_token).await?) {
            (Some(signed), Some(more)) => Ok(signed.with(more).map_err(IdTokenError::from)?),
            (Some(claims), None) | (None, Some(claims)) => Ok(claims),
            (None, None) => Err(OidcError::Silent),
        }
    }

    fn confirmed(&self, identity: ProviderIdentity, claims: &Claims) -> Confirmed {
        let text = |name: &str| claims.find(name).and_then(|said| said.as_str()).map(str::to_owned);
        Confirmed {
            name: text(&self.username_claim).unwrap_or_else(|| identity.subject.clone()),
            email: text("email").unwrap_or_default(),
            given: granted(&self.grants, claims),
            identity,
        }
    }

    fn seal(&self, purpose: &str, underway: &Underway) -> String {
        let text = serde_json::to_vec(underway).expect("texts and a number serialise to JSON");
        BASE64URL_NOPAD.encode(&self.vault.seal_for(purpose, &SecretValue::new(text)).0)
    }

    fn open(&self, purpose: &str, sealed: &str) -> Result<Underway, OidcError> {
        let opened = BASE64URL_NOPAD.decode(sealed.as_bytes()).ok();
        let opened = opened.and_then(|sealed| self.vault.unseal_for(purpose, &model::Sealed(sealed)));
        let underway: Option<Underway> = opened.and_then(|text| serde_json::from_slice(text.reveal()).ok());
        underway.filter(|underway| daemon::now().0 < underway.ends).ok_or(OidcError::Begun)
    }

    fn seal_token(&self, id: &str, token: &str) -> String {
        let token = SecretValue::new(token.as_bytes().to_vec());
        BASE64URL_NOPAD.encode(&self.vault.seal_for(&format!("token of the login {id}"), &token).0)
    }

    /// What cannot be opened, because it is under another key, is as if it had expired.
    fn open_token(&self, id: &str, sealed: &str) -> Result<String, OidcError> {
        let opened = BASE64URL_NOPAD.decode(sealed.as_bytes()).ok().and_then(|sealed| {
            self.vault.unseal_for(&format!("token of the login {id}"), &model::Sealed(sealed))
        });
        let text = opened.and_then(|text| String::from_utf8(text.reveal().to_vec()).ok());
        text.ok_or_else(|| OidcError::Refused("its token cannot be opened any more".to_owned()))
    }
}

impl Underway {
    fn new(code: String, organization: Option<String>) -> Self {
        Self {
            code,
            nonce: daemon::random_hex::<16>(),
            verifier: daemon::random_hex::<32>(),
            organization,
            ends: daemon::now().0.saturating_add(LOGIN_MILLIS),
        }
    }
}

//! The identity provider: what it says of itself, its keys, and what it is asked for.

use std::{fs, sync::Arc};

use anyhow::{Context, ensure};
use data_encoding::BASE64;
use form_urlencoded::{Serializer, byte_serialize};
use jsonwebtoken::jwk::Jwk;
use model::Moment;
use root_core::oidc::{Claims, Expected, KeysAge, ProviderIdentity};
use serde::Deserialize;
use serde_json::{Map, Value};
use tokio::sync::Mutex;
use zeroize::Zeroizing;

use super::{
    OidcConfig, OidcError,
    http::{Answer, Http, HttpError, Sent},
    id_token::{IdToken, IdTokenError, allowed_algorithms, read_keys},
};

/// Below the issuer, by the standard.
const DISCOVERY: &str = "/.well-known/openid-configuration";
/// Of what a provider says about an error, so much is passed on.
const LONGEST_REASON: usize = 200;

/// What a provider says of itself, as far as it matters here.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Discovery {
    issuer: String,
    pub(super) authorization_endpoint: String,
    token_endpoint: String,
    jwks_uri: String,
    userinfo_endpoint: Option<String>,
    pub(super) device_authorization_endpoint: Option<String>,
    id_token_signing_alg_values_supported: Option<Vec<String>>,
    token_endpoint_auth_methods_supported: Option<Vec<String>>,
    scopes_supported: Option<Vec<String>>,
}

/// What the provider hands out.
#[derive(Deserialize)]
pub(super) struct Tokens {
    pub(super) id_token: Option<String>,
    pub(super) access_token: String,
    pub(super) refresh_token: Option<String>,
}

/// Why the provider hands out nothing, in its words.
#[derive(Debug, Deserialize)]
struct Refusal {
    error: String,
    error_description: Option<String>,
}

#[derive(Default)]
struct Known {
    discovery: Option<Arc<Discovery>>,
    keys: Arc<Vec<Jwk>>,
    age: KeysAge,
}

/// See the module's description.
pub(super) struct Provider {
    pub(super) http: Http,
    pub(super) issuer: String,
    pub(super) client_id: String,
    secret: Option<Zeroizing<String>>,
    scopes: Option<String>,
    /// Held while it is fetched, so that it is fetched once; that takes ten seconds at most.
    known: Mutex<Known>,
}

impl Provider {
    pub(super) fn new(issuer: &str, client_id: &str, config: &OidcConfig) -> anyhow::Result<Self> {
        let http = Http::new(config.oidc_ca_file.as_deref(), config.oidc_allow_http)?;
        http.address(issuer).context("use what --oidc-issuer says")?;
        ensure!(
            http.has_authorities || issuer.starts_with("http://"),
            "this system has no certificates of authorities to check the provider's by: install them (ca-certificates), or \
             name a file by --oidc-ca-file"
        );
        let secret = match &config.oidc_client_secret_file {
            Some(path) => {
                let text = fs::read_to_string(path).map(Zeroizing::new);
                let text = text.with_context(|| format!("read the client secret in {}", path.display()))?;
                Some(Zeroizing::new(text.trim().to_owned()))
            }
            None => None,
        };
        Ok(Self {
            http,
            issuer: issuer.to_owned(),
            client_id: client_id.to_owned(),
            secret,
            scopes: config.oidc_scopes.clone(),
            known: Mutex::default(),
        })
    }

    /// What the provider says of itself.
    pub(super) async fn discovery(&self) -> Result<Arc<Discovery>, OidcError> {
        let mut known = self.known.lock().await;
        self.fetch_if_needed(&mut known, true, daemon::present().moment).await
    }

    /// What it is asked for.
    pub(super) fn scopes(&self, discovery: &Discovery) -> String {
        self.scopes.clone().unwrap_or_else(|| {
            let known = discovery.scopes_supported.as_deref().unwrap_or_default();
            let more = ["email", "groups", "offline_access"];
            let more = more.into_iter().filter(|scope| known.iter().any(|one| one == scope));
            ["openid", "profile"].into_iter().chain(more).collect::<Vec<_>>().join(" ")
        })
    }

    /// What a genuine ID token says that counts now, and of whom. When the key or the algorithm is not
    /// known, the provider is asked first.
    pub(super) async fn check(
        &self,
        id_token: &str,
        nonce: Option<&str>,
    ) -> Result<(ProviderIdentity, Claims), OidcError> {
        let (discovery, keys) = {
            let mut known = self.known.lock().await;
            let now = daemon::present().moment;
            let before = self.fetch_if_needed(&mut known, true, now).await?;
            let is_known = match IdToken::read(id_token, &before.allowed()) {
                Ok(token) => token.key_in(&known.keys).is_some(),
                // It may sign otherwise since it was asked.
                Err(IdTokenError::Algorithm) => false,
                Err(error) => return Err(error.into()),
            };
            (self.fetch_if_needed(&mut known, is_known, now).await?, Arc::clone(&known.keys))
        };
        let token = IdToken::read(id_token, &discovery.allowed())?;
        let claims = token.claims(token.key_in(&keys).ok_or(IdTokenError::UnknownKey)?)?;
        let expected =
            Expected { issuer: &self.issuer, client_id: &self.client_id, nonce, now: daemon::now() };
        let identity = claims.check(&expected).map_err(IdTokenError::from)?;
        Ok((identity, claims))
    }

    /// Asks for tokens.
    pub(super) async fn tokens(&self, grant: &[(&str, &str)]) -> Result<Tokens, OidcError> {
        let discovery = self.discovery().await?;
        self.ask(&discovery, &discovery.token_endpoint, grant).await
    }

    /// Asks for something as the client this root is; with a good answer.
    pub(super) async fn ask<T: serde::de::DeserializeOwned>(
        &self,
        discovery: &Discovery,
        address: &str,
        fields: &[(&str, &str)],
    ) -> Result<T, OidcError> {
        let answer = self.post(discovery, address, fields).await?;
        if answer.status.is_success() { Ok(answer.json()?) } else { Err(refused(&answer)) }
    }

    /// What the provider says of the user an access token is of; nothing where there is nobody to ask.
    pub(super) async fn user(&self, access_token: &str) -> Result<Option<Claims>, OidcError> {
        let discovery = self.discovery().await?;
        let Some(address) = &discovery.userinfo_endpoint else { return Ok(None) };
        let authorization = Some(format!("Bearer {access_token}"));
        let answer = self.http.send(address, Sent { authorization, form: None }).await?;
        if matches!(answer.status.as_u16(), 401 | 403) {
            return Err(OidcError::Refused("it knows the user no more".to_owned()));
        }
        Ok(Some(Claims::new(answer.json::<Map<String, Value>>()?)))
    }

    /// Fetches what the provider says of itself, and its keys, when it is time or the key that is needed is missing.
    async fn fetch_if_needed(
        &self,
        known: &mut Known,
        has_needed_key: bool,
        now: Moment,
    ) -> Result<Arc<Discovery>, OidcError> {
        if known.age.must_fetch(has_needed_key, now) {
            known.age.trying(now);
            match self.fetch().await {
                Ok((discovery, keys)) => {
                    known.discovery = Some(Arc::new(discovery));
                    known.keys = Arc::new(keys);
                    known.age.fetched(now);
                }
                // What is known is believed until it is too old.
                Err(error) if known.age.are_good(now) => {
                    tracing::warn!(error = %daemon::chain(&error), "keys of the identity provider are not fetched");
                }
                Err(error) => return Err(error),
            }
        }
        let discovery = known.discovery.as_ref().filter(|_| known.age.are_good(now));
        discovery.cloned().ok_or(OidcError::Resting)
    }

    async fn fetch(&self) -> Result<(Discovery, Vec<Jwk>), OidcError> {
        let address = format!("{}{DISCOVERY}", self.issuer.trim_end_matches('/'));
        let answer = self.http.send(&address, Sent::default()).await?;
        let discovery: Discovery = answer.json()?;
        if discovery.issuer != self.issuer {
            let problem = format!("it is the issuer {:?}, and not {:?}", discovery.issuer, self.issuer);
            return Err(HttpError::Incomprehensible { host: answer.host, problem }.into());
        }
        let keys: Value = self.http.send(&discovery.jwks_uri, Sent::default()).await?.json()?;
        Ok((discovery, read_keys(&keys)))
    }

    async fn post(
        &self,
        discovery: &Discovery,
        address: &str,
        fields: &[(&str, &str)],
    ) -> Result<Answer, OidcError> {
        Ok(self.http.send(address, self.form(discovery, fields)).await?)
    }

    /// With what shows that it is this root that asks.
    fn form(&self, discovery: &Discovery, fields: &[(&str, &str)]) -> Sent {
        let mut form = Serializer::new(String::new());
        form.extend_pairs(fields).append_pair("client_id", &self.client_id);
        let mut authorization = None;
        if let Some(secret) = &self.secret {
            if discovery.takes_secret_in_header() {
                let encoded = |text: &str| byte_serialize(text.as_bytes()).collect::<String>();
                let pair = format!("{}:{}", encoded(&self.client_id), encoded(secret));
                authorization = Some(format!("Basic {}", BASE64.encode(pair.as_bytes())));
            } else {
                form.append_pair("client_secret", secret);
            }
        }
        Sent { authorization, form: Some(form.finish()) }
    }
}

impl Discovery {
    fn allowed(&self) -> Vec<jsonwebtoken::Algorithm> {
        allowed_algorithms(self.id_token_signing_alg_values_supported.as_deref())
    }

    /// The usual way, also where nothing is said of it.
    fn takes_secret_in_header(&self) -> bool {
        let methods = self.token_endpoint_auth_methods_supported.as_ref();
        methods.is_none_or(|methods| methods.iter().any(|method| method == "client_secret_basic"))
    }
}

fn refused(answer: &Answer) -> OidcError {
    let Ok(refusal) = answer.any_json::<Refusal>() else {
        return HttpError::Status { host: answer.host.clone(), status: answer.status.as_u16() }.into();
    };
    match refusal.error.as_str() {
        "authorization_pending" => OidcError::Pending,
        "slow_down" => OidcError::SlowDown,
        "expired_token" => OidcError::Begun,
        // It takes us for nobody: who logs in can do nothing about it.
        "invalid_client" | "unauthorized_client" => {
            tracing::error!(
                reason = refusal.error,
                "the identity provider refuses this root; check client id and secret"
            );
            OidcError::Client
        }
        _ => {
            let text = refusal.error_description.unwrap_or(refusal.error);
            OidcError::Refused(text.chars().filter(|it| !it.is_control()).take(LONGEST_REASON).collect())
        }
    }
}

#[cfg(test)]
mod tests {
    use root_core::oidc::FETCH_AGAIN_MILLIS;
    use serde_json::json;

    use super::{super::tests::saying, *};

    /// What comes of a provider that says it is that issuer; without it, the one it is asked as.
    async fn discovered(issuer: Option<&str>) -> Result<(), OidcError> {
        let said = |address: &str| {
            json!({
                "issuer": issuer.unwrap_or(address), "authorization_endpoint": address, "token_endpoint": address,
                "jwks_uri": address, "keys": [],
            })
        };
        let address = saying(said).await;
        let config = OidcConfig { oidc_allow_http: true, ..OidcConfig::default() };
        let provider = Provider::new(&address, "mangrove", &config).expect("usable");
        provider.discovery().await.map(drop)
    }

    #[tokio::test]
    async fn a_provider_may_sign_by_another_algorithm_than_before() {
        let said = |address: &str| {
            json!({
                "issuer": address, "authorization_endpoint": address, "token_endpoint": address, "jwks_uri": address,
                "id_token_signing_alg_values_supported": ["EdDSA"], "keys": [],
            })
        };
        let config = OidcConfig { oidc_allow_http: true, ..OidcConfig::default() };
        let provider = Provider::new(&saying(said).await, "mangrove", &config).expect("usable");
        let now = provider.discovery().await.expect("it answers");
        {
            let mut known = provider.known.lock().await;
            let before = Some(vec!["RS256".to_owned()]);
            known.discovery = Some(Arc::new(Discovery {
                id_token_signing_alg_values_supported: before,
                ..Discovery::clone(&now)
            }));
            known.age.trying(Moment(daemon::present().moment.0.saturating_sub(FETCH_AGAIN_MILLIS)));
        }
        let part = |text: &str| data_encoding::BASE64URL_NOPAD.encode(text.as_bytes());
        let token = format!("{}.{}.{}", part(r#"{"alg":"EdDSA","kid":"one"}"#), part("{}"), part("signed"));
        let refused = provider.check(&token, None).await.expect_err("the key is not published");
        assert!(matches!(refused, OidcError::Token(IdTokenError::UnknownKey)), "{refused}");
    }

    #[tokio::test]
    async fn a_provider_is_who_it_is_asked_as() {
        discovered(None).await.expect("it is");
        let other = discovered(Some("https://other.example")).await.expect_err("it is another");
        assert!(matches!(other, OidcError::Http(HttpError::Incomprehensible { .. })), "{other}");
    }
}

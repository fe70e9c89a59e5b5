//! What is kept of logins under way, and what an identity provider that is there once may say.

use rustls::{ServerConfig, crypto::ring, pki_types::PrivateKeyDer};
use serde_json::json;
use store::{History, SqliteStore};
use tempfile::{NamedTempFile, TempDir};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpListener,
};
use tokio_rustls::TlsAcceptor;

use super::*;
use crate::vault::SecretsKeyConfig;

/// Nobody is there.
const ISSUER: &str = "http://127.0.0.1:1";

/// The address of somebody who says the same whatever is asked. It may depend on the address.
pub(super) async fn saying(said: impl FnOnce(&str) -> serde_json::Value) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = format!("http://{}", listener.local_addr().expect("bound"));
    let said = said(&address).to_string();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            say(stream, &said).await;
        }
    });
    address
}

async fn say(mut stream: impl AsyncRead + AsyncWrite + Unpin, said: &str) {
    let _asked = stream.read(&mut [0; 4096]).await;
    let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{said}", said.len());
    drop(stream.write_all(answer.as_bytes()).await);
}

/// The same over TLS, by a certificate for `name` that vouches for itself, and a file with that.
pub(super) async fn saying_over_tls(
    name: &str,
    said: impl FnOnce(&str) -> serde_json::Value,
) -> (String, NamedTempFile) {
    let made = rcgen::generate_simple_self_signed([name.to_owned()]).expect("made");
    let file = NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), made.cert.pem()).expect("written");
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).expect("a key");
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("known")
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .expect("a pair");
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = format!("https://{}", listener.local_addr().expect("bound"));
    let said = said(&address).to_string();
    tokio::spawn(async move {
        let acceptor = TlsAcceptor::from(Arc::new(config));
        while let Ok((stream, _)) = listener.accept().await {
            if let Ok(stream) = acceptor.accept(stream).await {
                say(stream, &said).await;
            }
        }
    });
    (address, file)
}

async fn oidc() -> (TempDir, Oidc) {
    oidc_of(ISSUER).await
}

async fn oidc_of(issuer: &str) -> (TempDir, Oidc) {
    let config = OidcConfig { oidc_allow_http: true, ..OidcConfig::default() };
    let (parent, oidc) = oidc_with(issuer, config).await;
    (parent, oidc.expect("usable"))
}

async fn oidc_with(issuer: &str, config: OidcConfig) -> (TempDir, anyhow::Result<Oidc>) {
    let parent = tempfile::tempdir().expect("a directory");
    let directory = daemon::StateDirectory::open(parent.path()).expect("usable");
    let store = SqliteStore::open(&parent.path().join("store.sqlite"), History::USUAL).expect("a store");
    let vault = Vault::open(&SecretsKeyConfig::default(), &directory, &store).await.expect("a new key");
    let config = OidcConfig {
        oidc_issuer: Some(issuer.to_owned()),
        oidc_client_id: Some("mangrove".to_owned()),
        oidc_redirect_url: Some("https://root.example/api/auth/oidc/callback".to_owned()),
        ..config
    };
    let oidc = Oidc::new(&config, Arc::new(vault)).map(|oidc| oidc.expect("a provider"));
    (parent, oidc)
}

fn underway() -> Underway {
    Underway::new("begun".to_owned(), None)
}

#[tokio::test]
async fn a_login_goes_on_as_what_it_was_begun_and_not_too_late() {
    let (_parent, oidc) = oidc().await;
    let sealed = oidc.seal(FOR_BROWSER, &underway());
    assert_eq!(oidc.open(FOR_BROWSER, &sealed).map(|it| it.code).ok().as_deref(), Some("begun"));
    assert!(matches!(oidc.open(FOR_DEVICE, &sealed), Err(OidcError::Begun)));
    let ended = oidc.seal(FOR_BROWSER, &Underway { ends: daemon::now().0, ..underway() });
    assert!(matches!(oidc.open(FOR_BROWSER, &ended), Err(OidcError::Begun)));
}

#[tokio::test]
async fn a_browser_comes_back_from_where_it_was_sent_with_what_it_was_sent_with() {
    let (_parent, oidc) = oidc().await;
    let cookie = oidc.seal(FOR_BROWSER, &underway());
    for (state, issuer, is_its) in [
        (Some("begun"), None, true),
        (Some("begun"), Some(ISSUER), true),
        (Some("begun"), Some("https://other.example"), false),
        (Some("another"), None, false),
        (None, None, false),
    ] {
        let returned = Returned {
            code: Some("code".to_owned()),
            state: state.map(str::to_owned),
            iss: issuer.map(str::to_owned),
            error: None,
            error_description: None,
        };
        // Who is believed so far is asked about at the provider.
        let refused = oidc.finish(&cookie, returned).await.expect_err("there is no provider");
        let is_asked = matches!(refused, OidcError::Http(_) | OidcError::Resting);
        let is_refused = matches!(refused, OidcError::Begun);
        assert_eq!((is_asked, is_refused), (is_its, !is_its), "{state:?} {issuer:?}: {refused}");
    }
}

#[tokio::test]
async fn who_is_asked_about_again_is_who_logged_in() {
    let said = |address: &str| {
        json!({
            "issuer": address, "authorization_endpoint": address, "token_endpoint": address, "jwks_uri": address,
            "userinfo_endpoint": address, "keys": [], "access_token": "access", "sub": "kim",
        })
    };
    let issuer = saying(said).await;
    let (_parent, oidc) = oidc_of(&issuer).await;
    let identity = |subject: &str| ProviderIdentity { issuer: issuer.clone(), subject: subject.to_owned() };
    for token in [ProviderToken::Refresh("token".to_owned()), ProviderToken::Access("token".to_owned())] {
        let token = oidc.sealed_for("one", token);
        let (confirmed, _) = oidc.ask_again("one", &identity("kim"), &token).await.expect("it is kim");
        assert_eq!(confirmed.identity, identity("kim"));
        let other = oidc.ask_again("one", &identity("max"), &token).await.expect_err("it is not max");
        assert!(matches!(other, OidcError::Token(IdTokenError::Claim(ClaimError::Subject))), "{other}");
    }
}

#[tokio::test]
async fn a_provider_at_https_is_asked_if_the_authorities_that_were_given_vouch_for_it() {
    let said = |address: &str| {
        json!({
            "issuer": address, "authorization_endpoint": format!("{address}/authorize"), "token_endpoint": address,
            "jwks_uri": address,
        })
    };
    let (issuer, own) = saying_over_tls("127.0.0.1", said).await;
    let trusting = |file: &NamedTempFile| OidcConfig {
        oidc_ca_file: Some(file.path().to_owned()),
        ..OidcConfig::default()
    };
    let (_parent, oidc) = oidc_with(&issuer, trusting(&own)).await;
    let begun = oidc.expect("usable").begin(None).await.expect("it is believed");
    assert!(begun.address.starts_with(&format!("{issuer}/authorize?")), "{}", begun.address);
    assert!(begun.is_secure, "the browser comes back by https");

    let (_, other) = saying_over_tls("127.0.0.1", said).await;
    let (_parent, oidc) = oidc_with(&issuer, trusting(&other)).await;
    let refused = oidc.expect("usable").begin(None).await.expect_err("nobody vouches for it");
    assert!(matches!(refused, OidcError::Http(HttpError::Unreachable { .. })), "{refused}");

    let (_parent, plain) = oidc_with(ISSUER, OidcConfig::default()).await;
    let refused = plain.map(|_| ()).expect_err("that takes --oidc-allow-http");
    assert_eq!(refused.to_string(), "use what --oidc-issuer says");
}

#[tokio::test]
async fn what_the_provider_is_asked_with_is_of_one_login() {
    let (_parent, oidc) = oidc().await;
    let sealed = oidc.seal_token("one", "refresh");
    assert_eq!(oidc.open_token("one", &sealed).ok().as_deref(), Some("refresh"));
    assert!(matches!(oidc.open_token("two", &sealed), Err(OidcError::Refused(_))));
}

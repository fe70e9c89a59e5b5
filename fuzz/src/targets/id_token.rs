//! What an identity provider, or somebody in its place, may send: keys, and tokens that are signed by one of them or not.

// Without all of the root, which takes minutes to build.
#[path = "../../../root-orchestrator/src/oidc/id_token.rs"]
mod id_token;

use std::sync::LazyLock;

use id_token::{IdToken, IdTokenError, allowed_algorithms, read_keys};
use jsonwebtoken::{Algorithm, EncodingKey, Header, jwk::Jwk};
use model::Timestamp;
use root_core::oidc::{Claims, Expected, Grant, LEEWAY_SECONDS, granted};
use serde_json::{Map, Value};

use crate::shared;

const ISSUER: &str = "https://id.example";
const CLIENT: &str = "mangrove";
const NOW: u64 = 1_000_000;
const EXPECTED: Expected<'_> =
    Expected { issuer: ISSUER, client_id: CLIENT, nonce: Some("once"), now: Timestamp(NOW * 1000) };

/// The key of the provider, with its public half.
static PROVIDER: LazyLock<(EncodingKey, Jwk)> = LazyLock::new(|| {
    let key = EncodingKey::from_ec_der(&daemon::fresh_signing_key());
    let public = Jwk::from_encoding_key(&key, Algorithm::ES256).expect("a key");
    (key, public)
});

pub(crate) fn take(data: &[u8]) {
    let (key, public) = &*PROVIDER;
    let allowed = allowed_algorithms(Some(&["RS256", "ES256", "EdDSA", "HS256", "none"].map(str::to_owned)));
    for (choice, bytes) in shared::parts(data) {
        let text = String::from_utf8_lossy(bytes);
        match choice % 3 {
            // A token as it comes, by keys as they come: it may bring none of its own.
            0 => assert!(read(&text, &allowed, &[public.clone()]).is_err(), "nobody has the key"),
            1 => {
                let Ok(set) = serde_json::from_str::<Value>(&text) else { continue };
                let keys = read_keys(&set);
                let token = sign(&Map::new(), key);
                let read = read(&token, &allowed, &keys);
                assert!(read.is_err(), "none of these is the key");
            }
            _ => {
                let Ok(claims) = serde_json::from_str::<Map<String, Value>>(&text) else { continue };
                // Of a number with many digits the last may be another when it is written and read again.
                let again = serde_json::to_string(&claims).and_then(|text| serde_json::from_str(&text));
                if again.ok().as_ref() != Some(&claims) {
                    continue;
                }
                let said = match read(&sign(&claims, key), &allowed, &[public.clone()]) {
                    Err(IdTokenError::Content) => continue,
                    said => said.expect("it is signed"),
                };
                assert_eq!(said, Claims::new(claims.clone()));
                judge(&said, &claims);
            }
        }
    }
}

fn sign(claims: &Map<String, Value>, key: &EncodingKey) -> String {
    jsonwebtoken::encode(&Header::new(Algorithm::ES256), claims, key).expect("it can be signed")
}

fn read(text: &str, allowed: &[Algorithm], keys: &[Jwk]) -> Result<Claims, IdTokenError> {
    let token = IdToken::read(text, allowed)?;
    token.claims(token.key_in(keys).ok_or(IdTokenError::UnknownKey)?)
}

/// What counts says all that it must.
fn judge(said: &Claims, claims: &Map<String, Value>) {
    let grants = ["groups=a:root:Admin", "a.b=a:root:Admin", "email=a:root:Admin"];
    let grants = grants.map(|grant| grant.parse::<Grant>().expect("a grant"));
    if !granted(&grants, said).is_empty() {
        assert!(claims.values().any(|value| value.to_string().contains("\"a\"")), "nothing comes of nothing");
    }
    let Ok(identity) = said.check(&EXPECTED) else { return };
    assert_eq!((identity.issuer.as_str(), Some(identity.subject.as_str())), (ISSUER, claims["sub"].as_str()));
    assert_eq!((claims["iss"].as_str(), claims["nonce"].as_str()), (Some(ISSUER), Some("once")));
    let audience = &claims["aud"];
    let of_several = audience.as_array().is_some_and(|all| all.iter().any(|one| one == CLIENT));
    assert!(*audience == CLIENT || of_several);
    assert!(claims["exp"].as_f64().is_some_and(|expires| expires > (NOW - LEEWAY_SECONDS) as f64 - 1.0));
    assert!(claims["iat"].as_f64().is_some_and(|issued| issued < (NOW + LEEWAY_SECONDS) as f64 + 1.0));
}

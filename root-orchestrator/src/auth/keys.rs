//! The key that signs the tokens of logins, and what is written into them. Others check tokens by the public half, which
//! is served at `/.well-known/jwks.json`.

use std::sync::Arc;

use anyhow::Context;
use data_encoding::HEXLOWER;
use jsonwebtoken::{
    Algorithm, DecodingKey, EncodingKey, Header, Validation, decode, encode,
    jwk::{Jwk, JwkSet, PublicKeyUse, ThumbprintHash},
};
use model::{OrganizationId, UserId};
use root_core::Session;
use serde::{Deserialize, Serialize};

use super::{AuthError, checked::Checked};

const ACCESS_SECONDS: u64 = 600;
pub(super) const REFRESH_SECONDS: u64 = 30 * 86_400;
/// By how much the clocks of two roots may differ.
const LEEWAY_SECONDS: u64 = 60;

/// What a token is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Purpose {
    /// Everything but the next.
    Access,
    /// Getting access tokens.
    Refresh,
}

/// What is written into a token. The roles are for clients to read; what counts is what the user may when it is used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Claims {
    sub: String,
    user: String,
    user_id: UserId,
    roles: Vec<String>,
    organization: OrganizationId,
    #[serde(rename = "type")]
    purpose: Purpose,
    fresh: bool,
    iat: u64,
    nbf: u64,
    exp: u64,
    jti: String,
    /// The `jti` of the refresh token of this login.
    session: String,
    /// Counts the passwords of the user.
    epoch: u32,
    /// When the refresh token of this login expires.
    session_exp: u64,
}

impl Claims {
    pub(super) fn session(&self) -> Session {
        Session {
            id: self.session.clone(),
            user: self.user_id,
            organization: self.organization,
            epoch: self.epoch,
        }
    }

    /// When nothing of this login is good any more, in milliseconds.
    pub(super) const fn session_ends(&self) -> model::Timestamp {
        model::Timestamp(self.session_exp.saturating_mul(1000))
    }

    pub(super) const fn purpose(&self) -> Purpose {
        self.purpose
    }

    const fn of_its_time(&self, now: u64) -> Result<(), AuthError> {
        if self.exp.saturating_add(LEEWAY_SECONDS) < now {
            return Err(AuthError::Expired);
        }
        if self.nbf > now.saturating_add(LEEWAY_SECONDS) {
            return Err(AuthError::Invalid);
        }
        Ok(())
    }
}

/// The login a token is signed for.
#[derive(Debug)]
pub(super) struct Subject<'a> {
    pub(super) name: &'a str,
    pub(super) roles: Vec<String>,
    pub(super) session: Session,
    /// See [`Claims::session_ends`]; for a new login not known yet.
    pub(super) ends: Option<model::Timestamp>,
}

/// See the module's description.
pub(crate) struct Keys {
    encoding: EncodingKey,
    decoding: DecodingKey,
    public: Jwk,
    checked: Checked,
}

impl Keys {
    /// The key as it is kept: PKCS#8, in hexadecimal digits.
    pub(crate) fn open(kept: &str) -> anyhow::Result<Self> {
        let der =
            HEXLOWER.decode(kept.as_bytes()).context("read the hexadecimal digits of the signing key")?;
        let encoding = EncodingKey::from_ec_der(&der);
        let mut public =
            Jwk::from_encoding_key(&encoding, Algorithm::ES256).context("read the signing key")?;
        public.common.key_id = Some(public.thumbprint(ThumbprintHash::SHA256).context("name the key")?);
        public.common.public_key_use = Some(PublicKeyUse::Signature);
        let decoding = DecodingKey::from_jwk(&public).context("read the public key")?;
        Ok(Self { encoding, decoding, public, checked: Checked::default() })
    }

    /// A new key as it is kept.
    pub(crate) fn generate() -> String {
        HEXLOWER.encode(&daemon::fresh_signing_key())
    }

    /// What others check tokens by.
    pub(crate) fn public(&self) -> JwkSet {
        JwkSet { keys: vec![self.public.clone()] }
    }

    pub(super) fn sign(&self, subject: &Subject<'_>, purpose: Purpose) -> String {
        let now = daemon::now().0 / 1000;
        let (lasts, jti) = match purpose {
            Purpose::Access => (ACCESS_SECONDS, daemon::random_hex::<16>()),
            Purpose::Refresh => (REFRESH_SECONDS, subject.session.id.clone()),
        };
        let claims = Claims {
            sub: subject.name.to_owned(),
            user: subject.name.to_owned(),
            user_id: subject.session.user,
            roles: subject.roles.clone(),
            organization: subject.session.organization,
            purpose,
            fresh: false,
            iat: now,
            nbf: now,
            exp: now + lasts,
            jti,
            session: subject.session.id.clone(),
            epoch: subject.session.epoch,
            session_exp: subject.ends.map_or(now + REFRESH_SECONDS, |ends| ends.0 / 1000),
        };
        let header = Header { kid: self.public.common.key_id.clone(), ..Header::new(Algorithm::ES256) };
        encode(&header, &claims, &self.encoding).expect("claims of texts and numbers can be signed")
    }

    /// What a token says, if this key signed it and it is of its time.
    pub(super) fn check(&self, token: &str) -> Result<Arc<Claims>, AuthError> {
        self.check_at(token, daemon::now().0 / 1000)
    }

    /// As [`Self::check`], at `now` in seconds.
    fn check_at(&self, token: &str, now: u64) -> Result<Arc<Claims>, AuthError> {
        let claims = self.checked.claims(token, || self.signed_claims(token))?;
        claims.of_its_time(now)?;
        Ok(claims)
    }

    /// What a token of any time says, if this key signed it.
    fn signed_claims(&self, token: &str) -> Result<Claims, AuthError> {
        // No other algorithm: what is not signed at all, or by what everybody can read, is nobody's word.
        let mut validation = Validation::new(Algorithm::ES256);
        // That it is of its time has to hold whenever it is shown: see `check_at`.
        validation.validate_exp = false;
        let checked = decode::<Claims>(token, &self.decoding, &validation);
        checked.map(|checked| checked.claims).map_err(|_| AuthError::Invalid)
    }
}

#[cfg(test)]
mod tests {
    use data_encoding::BASE64URL_NOPAD;
    use serde_json::{Value, json};

    use super::*;

    fn keys() -> Keys {
        Keys::open(&Keys::generate()).expect("a key")
    }

    fn session() -> Session {
        Session {
            id: "session".to_owned(),
            user: UserId::from_bytes([1; 12]),
            organization: OrganizationId::from_bytes([2; 12]),
            epoch: 3,
        }
    }

    fn signed(keys: &Keys, purpose: Purpose) -> String {
        let subject =
            Subject { name: "bob", roles: vec!["Admin".to_owned()], session: session(), ends: None };
        keys.sign(&subject, purpose)
    }

    fn claims(token: &str) -> Value {
        let middle = token.split('.').nth(1).expect("three parts");
        let bytes = BASE64URL_NOPAD.decode(middle.as_bytes()).expect("base64");
        serde_json::from_slice(&bytes).expect("JSON")
    }

    /// The claims under another header, with that signature.
    fn forged(claims: &Value, header: &Value, signature: &[u8]) -> String {
        let part = |value: &Value| BASE64URL_NOPAD.encode(value.to_string().as_bytes());
        format!("{}.{}.{}", part(header), part(claims), BASE64URL_NOPAD.encode(signature))
    }

    #[test]
    fn what_is_signed_is_read_again() {
        let kept = Keys::generate();
        let token = signed(&Keys::open(&kept).expect("a key"), Purpose::Refresh);
        let claims = Keys::open(&kept).expect("the same key").check(&token).expect("its own");
        assert_eq!((claims.session(), claims.purpose()), (session(), Purpose::Refresh));
        assert_eq!(claims.jti, "session", "ending a login ends its refresh token");
        assert_eq!(claims.session_exp, claims.exp);
    }

    #[test]
    fn clients_of_oakestra_find_what_they_read() {
        let claims = claims(&signed(&keys(), Purpose::Access));
        assert_eq!(claims["sub"], "bob");
        assert_eq!(claims["user"], "bob");
        assert_eq!(claims["roles"], json!(["Admin"]));
        assert_eq!(claims["organization"], "020202020202020202020202");
        assert_eq!(claims["type"], "access");
        assert_eq!(claims["exp"].as_u64(), claims["iat"].as_u64().map(|at| at + 600));
    }

    #[test]
    fn what_another_key_has_signed_is_refused() {
        let token = signed(&keys(), Purpose::Access);
        assert_eq!(keys().check(&token), Err(AuthError::Invalid));
    }

    #[test]
    fn what_is_not_signed_or_by_another_algorithm_is_refused() {
        let keys = keys();
        let token = signed(&keys, Purpose::Access);
        let claims = claims(&token);
        for algorithm in ["none", "None", "NONE"] {
            let header = json!({"typ": "JWT", "alg": algorithm});
            assert_eq!(keys.check(&forged(&claims, &header, b"")), Err(AuthError::Invalid), "{algorithm}");
        }
        // A secret everybody can read: the public key.
        let public = serde_json::to_value(keys.public()).expect("it serialises");
        let point = ["x", "y"].map(|half| {
            let half = public["keys"][0][half].as_str().expect("a coordinate");
            BASE64URL_NOPAD.decode(half.as_bytes()).expect("base64")
        });
        for secret in [[&[4][..], &point[0], &point[1]].concat(), point[0].clone()] {
            let by_public = encode(&Header::default(), &claims, &EncodingKey::from_secret(&secret));
            let by_public = by_public.expect("it can be signed");
            assert_eq!(keys.check(&by_public), Err(AuthError::Invalid));
        }
        let (kept, signature) = token.rsplit_once('.').expect("three parts");
        assert_eq!(keys.check(&format!("{kept}.")), Err(AuthError::Invalid));
        let mut other = claims.clone();
        other["sub"] = json!("Admin");
        let signature = BASE64URL_NOPAD.decode(signature.as_bytes()).expect("base64");
        let header = json!({"typ": "JWT", "alg": "ES256"});
        assert_eq!(keys.check(&forged(&other, &header, &signature)), Err(AuthError::Invalid));
    }

    #[test]
    fn what_is_not_of_its_time_is_refused_as_that_also_when_it_was_shown_before() {
        let keys = keys();
        let token = signed(&keys, Purpose::Access);
        let claims = keys.check(&token).expect("its own");
        let at = |now: u64| keys.check_at(&token, now).map(drop);
        assert_eq!(at(claims.exp + LEEWAY_SECONDS), Ok(()));
        assert_eq!(at(claims.exp + LEEWAY_SECONDS + 1), Err(AuthError::Expired));
        assert_eq!(at(claims.nbf - LEEWAY_SECONDS - 1), Err(AuthError::Invalid));
        assert_eq!(at(claims.exp), Ok(()));
    }

    #[test]
    fn others_are_shown_the_public_half_alone() {
        let keys = keys();
        let set = serde_json::to_value(keys.public()).expect("it serialises");
        let key = set["keys"][0].as_object().expect("a key");
        let fields: Vec<&str> = key.keys().map(String::as_str).collect();
        let mut wanted = vec!["alg", "crv", "kid", "kty", "use", "x", "y"];
        wanted.sort_unstable();
        let mut fields = fields;
        fields.sort_unstable();
        assert_eq!(fields, wanted);
        assert_eq!(
            (&key["alg"], &key["crv"], &key["use"]),
            (&json!("ES256"), &json!("P-256"), &json!("sig"))
        );
        let named = jsonwebtoken::decode_header(signed(&keys, Purpose::Access)).expect("a header").kid;
        assert_eq!(named.as_deref(), key["kid"].as_str());
    }
}

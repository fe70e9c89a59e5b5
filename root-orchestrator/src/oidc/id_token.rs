//! Whether an ID token is genuine: signed by a key of the provider, by an algorithm that is meant for signing by one who
//! alone can. What it says is judged in the brain (`core/src/oidc/claims.rs`).

use jsonwebtoken::{
    Algorithm, DecodingKey, Validation,
    errors::ErrorKind,
    jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyAlgorithm, PublicKeyUse},
};
use root_core::oidc::{ClaimError, Claims};
use serde_json::{Map, Value};

/// Some providers write every group into it.
const LONGEST: usize = 32 << 10;
/// A modulus of 2048 bits, as base64 has it; shorter ones have been factored.
const SHORTEST_MODULUS: usize = 342;
/// A provider has a few, and more are no help.
const MOST_KEYS: usize = 64;

/// An ID token that is nobody's word, or says what it must not.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum IdTokenError {
    #[error("it is no token that is signed by a known algorithm")]
    Malformed,
    #[error("it is not signed by an algorithm that the provider says it uses, of RS256, ES256 and EdDSA")]
    Algorithm,
    #[error("it is signed by a key that the provider does not publish")]
    UnknownKey,
    #[error("its signature is wrong")]
    Signature,
    #[error("what it says is no object, or a claim of the standard is not of its type")]
    Content,
    #[error(transparent)]
    Claim(#[from] ClaimError),
}

/// The algorithms that may be used with a provider that names these. Without any, the one all of them must know.
pub(crate) fn allowed_algorithms(named: Option<&[String]>) -> Vec<Algorithm> {
    let known = [("RS256", Algorithm::RS256), ("ES256", Algorithm::ES256), ("EdDSA", Algorithm::EdDSA)];
    match named {
        None => vec![Algorithm::RS256],
        Some(named) => {
            let is_named = |name: &str| named.iter().any(|given| given == name);
            known.into_iter().filter(|(name, _)| is_named(name)).map(|(_, algorithm)| algorithm).collect()
        }
    }
}

/// Those of a set of keys that can be understood: a new kind of key must not make the others useless.
pub(crate) fn read_keys(set: &Value) -> Vec<Jwk> {
    let keys = set["keys"].as_array().into_iter().flatten().take(MOST_KEYS);
    keys.filter_map(|key| serde_json::from_value(key.clone()).ok()).collect()
}

/// An ID token of which the form alone was looked at.
#[derive(Debug)]
pub(crate) struct IdToken<'a> {
    text: &'a str,
    algorithm: Algorithm,
    key_id: Option<String>,
}

impl<'a> IdToken<'a> {
    /// Refuses what no key needs be fetched for.
    pub(crate) fn read(text: &'a str, allowed: &[Algorithm]) -> Result<Self, IdTokenError> {
        if text.len() > LONGEST {
            return Err(IdTokenError::Malformed);
        }
        // `none` is none of the algorithms that can be read.
        let header = jsonwebtoken::decode_header(text).map_err(|_| IdTokenError::Malformed)?;
        // What it says is critical would have to be understood, and nothing is.
        if header.crit.is_some() {
            return Err(IdTokenError::Malformed);
        }
        if !allowed.contains(&header.alg) {
            return Err(IdTokenError::Algorithm);
        }
        Ok(Self { text, algorithm: header.alg, key_id: header.kid })
    }

    /// The key that it must be signed by; `None` when it is not among these, or there are several it could be.
    pub(crate) fn key_in<'k>(&self, keys: &'k [Jwk]) -> Option<&'k Jwk> {
        let named = |key: &&Jwk| self.key_id.is_none() || key.common.key_id == self.key_id;
        let mut fitting = keys.iter().filter(named).filter(|key| fits(key, self.algorithm));
        let found = fitting.next()?;
        if fitting.next().is_some() { None } else { Some(found) }
    }

    /// What it says, if that key signed it.
    pub(crate) fn claims(&self, key: &Jwk) -> Result<Claims, IdTokenError> {
        let key = DecodingKey::from_jwk(key).map_err(|_| IdTokenError::UnknownKey)?;
        let mut validation = Validation::new(self.algorithm);
        // All of that is the brain's, which can be told what time it is.
        validation.required_spec_claims.clear();
        validation.validate_exp = false;
        validation.validate_aud = false;
        let token = jsonwebtoken::decode::<Map<String, Value>>(self.text, &key, &validation);
        let token = token.map_err(|error| {
            if matches!(error.kind(), ErrorKind::InvalidSignature) {
                IdTokenError::Signature
            } else if matches!(error.kind(), ErrorKind::Json(_)) {
                // The signature was checked before it was read.
                IdTokenError::Content
            } else {
                IdTokenError::Malformed
            }
        })?;
        Ok(Claims::new(token.claims))
    }
}

/// Whether a key is one for that algorithm, by its kind and by what its owner says of it.
fn fits(key: &Jwk, algorithm: Algorithm) -> bool {
    let is_for_signing = matches!(key.common.public_key_use, None | Some(PublicKeyUse::Signature));
    let (is_kind, name) = match (&key.algorithm, algorithm) {
        (AlgorithmParameters::RSA(key), Algorithm::RS256) => {
            (key.n.len() >= SHORTEST_MODULUS, KeyAlgorithm::RS256)
        }
        (AlgorithmParameters::EllipticCurve(key), Algorithm::ES256) => {
            (key.curve == EllipticCurve::P256, KeyAlgorithm::ES256)
        }
        (AlgorithmParameters::OctetKeyPair(key), Algorithm::EdDSA) => {
            (key.curve == EllipticCurve::Ed25519, KeyAlgorithm::EdDSA)
        }
        _ => return false,
    };
    is_kind && is_for_signing && key.common.key_algorithm.is_none_or(|said| said == name)
}

#[cfg(test)]
mod tests {
    use data_encoding::BASE64URL_NOPAD;
    use jsonwebtoken::{EncodingKey, Header, encode};
    use model::Timestamp;
    use ring::signature::{Ed25519KeyPair, KeyPair as _};
    use root_core::oidc::Expected;
    use serde_json::json;

    use super::*;

    const ALLOWED: [Algorithm; 2] = [Algorithm::ES256, Algorithm::EdDSA];

    /// A key of a provider, with its public half as it is published.
    struct Signer {
        key: EncodingKey,
        algorithm: Algorithm,
        public: Jwk,
    }

    impl Signer {
        fn new(algorithm: Algorithm, key_id: &str) -> Self {
            let (key, mut public) =
                if algorithm == Algorithm::EdDSA { edwards(key_id.as_bytes()[0]) } else { elliptic() };
            public.common.key_id = Some(key_id.to_owned());
            Self { key, algorithm, public }
        }

        fn sign(&self, claims: &Value) -> String {
            let header = Header { kid: self.public.common.key_id.clone(), ..Header::new(self.algorithm) };
            encode(&header, claims, &self.key).expect("it can be signed")
        }
    }

    fn elliptic() -> (EncodingKey, Jwk) {
        let key = EncodingKey::from_ec_der(&daemon::fresh_signing_key());
        let public = Jwk::from_encoding_key(&key, Algorithm::ES256).expect("a key");
        (key, public)
    }

    fn edwards(seed: u8) -> (EncodingKey, Jwk) {
        let seed = [seed; 32];
        let pair = Ed25519KeyPair::from_seed_unchecked(&seed).expect("any 32 bytes are one");
        let x = BASE64URL_NOPAD.encode(pair.public_key().as_ref());
        let public = json!({"kty": "OKP", "crv": "Ed25519", "x": x});
        let head = [0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20];
        let key = EncodingKey::from_ed_der(&[&head[..], &seed].concat());
        (key, serde_json::from_value(public).expect("a key"))
    }

    fn said() -> Value {
        json!({"iss": "https://id.example", "sub": "kim", "aud": "mangrove", "iat": 1000, "exp": 1600})
    }

    /// What is done with a token, at a good time.
    fn check(token: &str, keys: &[Jwk]) -> Result<String, IdTokenError> {
        let token = IdToken::read(token, &ALLOWED)?;
        let claims = token.claims(token.key_in(keys).ok_or(IdTokenError::UnknownKey)?)?;
        let now = Timestamp(1_001_000);
        let expected = Expected { issuer: "https://id.example", client_id: "mangrove", nonce: None, now };
        Ok(claims.check(&expected)?.subject)
    }

    fn forged(header: &Value, claims: &Value, signature: &[u8]) -> String {
        let part = |value: &Value| BASE64URL_NOPAD.encode(value.to_string().as_bytes());
        format!("{}.{}.{}", part(header), part(claims), BASE64URL_NOPAD.encode(signature))
    }

    #[test]
    fn what_a_key_of_the_provider_signed_is_believed() {
        for algorithm in ALLOWED {
            let signer = Signer::new(algorithm, "one");
            let other = Signer::new(algorithm, "two");
            let keys = [other.public, signer.public.clone()];
            assert_eq!(check(&signer.sign(&said()), &keys), Ok("kim".to_owned()));
            // What it says is looked at as well.
            let mut elsewhere = said();
            elsewhere["aud"] = json!("another");
            let refused = check(&signer.sign(&elsewhere), &keys);
            assert_eq!(refused, Err(IdTokenError::Claim(ClaimError::Audience)));
        }
    }

    #[test]
    fn what_nobody_signed_is_refused_whatever_it_is_called() {
        let signer = Signer::new(Algorithm::ES256, "one");
        for algorithm in ["none", "None", "NONE", "nOnE", ""] {
            let header = json!({"typ": "JWT", "alg": algorithm, "kid": "one"});
            for signature in [&b""[..], b"x"] {
                let token = forged(&header, &said(), signature);
                assert_eq!(
                    check(&token, std::slice::from_ref(&signer.public)),
                    Err(IdTokenError::Malformed),
                    "{algorithm}"
                );
            }
        }
    }

    #[test]
    fn a_claim_of_another_type_is_told_from_a_token_of_another_form() {
        let signer = Signer::new(Algorithm::ES256, "one");
        let mut odd = said();
        odd["sub"] = json!(["kim"]);
        let keys = [signer.public.clone()];
        assert_eq!(check(&signer.sign(&odd), &keys), Err(IdTokenError::Content));
        assert_eq!(check(&signer.sign(&json!([])), &keys), Err(IdTokenError::Content));
    }

    #[test]
    fn what_is_longer_than_any_token_is_not_looked_at() {
        let signer = Signer::new(Algorithm::ES256, "one");
        let mut long = said();
        long["groups"] = json!("g".repeat(LONGEST));
        let keys = [signer.public.clone()];
        assert_eq!(check(&signer.sign(&long), &keys), Err(IdTokenError::Malformed));
    }

    #[test]
    fn a_secret_everybody_can_read_signs_nothing() {
        let signer = Signer::new(Algorithm::ES256, "one");
        let public = serde_json::to_vec(&signer.public).expect("it serialises");
        for algorithm in [Algorithm::HS256, Algorithm::HS384, Algorithm::HS512] {
            let header = Header { kid: Some("one".to_owned()), ..Header::new(algorithm) };
            let token =
                encode(&header, &said(), &EncodingKey::from_secret(&public)).expect("it can be signed");
            assert_eq!(check(&token, std::slice::from_ref(&signer.public)), Err(IdTokenError::Algorithm));
        }
    }

    #[test]
    fn an_algorithm_the_provider_does_not_name_is_refused() {
        let signer = Signer::new(Algorithm::ES256, "one");
        let token = signer.sign(&said());
        let rsa_only = allowed_algorithms(None);
        assert_eq!(rsa_only, [Algorithm::RS256]);
        assert_eq!(IdToken::read(&token, &rsa_only).map(drop), Err(IdTokenError::Algorithm));
        let named = ["none", "HS256", "PS256", "RS256", "ES256"].map(str::to_owned);
        assert_eq!(allowed_algorithms(Some(&named)), [Algorithm::RS256, Algorithm::ES256]);
    }

    #[test]
    fn another_signature_or_other_claims_under_it_are_refused() {
        let (signer, stranger) = (Signer::new(Algorithm::ES256, "one"), Signer::new(Algorithm::ES256, "one"));
        let keys = [signer.public.clone()];
        assert_eq!(check(&stranger.sign(&said()), &keys), Err(IdTokenError::Signature));
        let token = signer.sign(&said());
        let signature = token.rsplit('.').next().expect("three parts");
        let signature = BASE64URL_NOPAD.decode(signature.as_bytes()).expect("base64");
        let mut other = said();
        other["sub"] = json!("eve");
        let header = json!({"alg": "ES256", "kid": "one"});
        assert_eq!(check(&forged(&header, &other, &signature), &keys), Err(IdTokenError::Signature));
        let critical = json!({"alg": "ES256", "kid": "one", "crit": ["b64"], "b64": false});
        assert_eq!(check(&forged(&critical, &said(), &signature), &keys), Err(IdTokenError::Malformed));
        // Also not by a key that comes along.
        let brought = json!({"alg": "ES256", "kid": "one", "jwk": stranger.public});
        assert_eq!(check(&forged(&brought, &said(), &signature), &keys), Err(IdTokenError::Signature));
    }

    #[test]
    fn a_key_serves_for_what_it_was_made_for_alone() {
        let signer = Signer::new(Algorithm::ES256, "one");
        let token = signer.sign(&said());
        let with = |change: fn(&mut Jwk)| {
            let mut key = signer.public.clone();
            change(&mut key);
            check(&token, &[key])
        };
        assert_eq!(with(|_| ()), Ok("kim".to_owned()));
        let unknown = Err(IdTokenError::UnknownKey);
        assert_eq!(with(|key| key.common.key_id = Some("rotated".to_owned())), unknown);
        assert_eq!(with(|key| key.common.public_key_use = Some(PublicKeyUse::Encryption)), unknown);
        assert_eq!(with(|key| key.common.key_algorithm = Some(KeyAlgorithm::ES384)), unknown);
        // Without a name any could be meant, and one must be.
        let unnamed = encode(&Header::new(Algorithm::ES256), &said(), &signer.key).expect("it can be signed");
        let other = Signer::new(Algorithm::ES256, "two").public;
        let edwards = Signer::new(Algorithm::EdDSA, "three").public;
        assert_eq!(check(&unnamed, &[signer.public.clone(), edwards]), Ok("kim".to_owned()));
        assert_eq!(check(&unnamed, &[signer.public.clone(), other]), unknown);
    }

    #[test]
    fn keys_that_cannot_be_understood_leave_the_others() {
        let signer = Signer::new(Algorithm::ES256, "one");
        let set = json!({"keys": [
            {"kty": "new", "kid": "zero"}, 7, {"kty": "EC", "crv": "P-999", "x": "", "y": ""}, signer.public,
        ]});
        assert_eq!(check(&signer.sign(&said()), &read_keys(&set)), Ok("kim".to_owned()));
        assert_eq!(read_keys(&json!({"keys": "none"})), []);
        let short = json!({"keys": [{"kty": "RSA", "n": "AQAB".repeat(42), "e": "AQAB"}]});
        let short = read_keys(&short);
        assert!(!fits(&short[0], Algorithm::RS256), "a modulus of 1008 bits");
        let long = json!({"keys": [{"kty": "RSA", "n": "AQAB".repeat(86), "e": "AQAB"}]});
        assert!(fits(&read_keys(&long)[0], Algorithm::RS256));
    }
}

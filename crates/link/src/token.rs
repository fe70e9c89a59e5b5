//! Join tokens: `mgv1.<id>.<secret>.<ca-pin>`.
//!
//! The pin is the SHA-256 of the CA certificate; whoever joins checks it against the certificate chain it is shown
//! before it sends anything, so a token cannot be given to a stranger. The issuer keeps only a hash of the secret.

use std::{fmt, str::FromStr};

use data_encoding::HEXLOWER;
use model::TokenId;
use ring::{
    digest,
    rand::{SecureRandom, SystemRandom},
};
use zeroize::Zeroizing;

const PREFIX: &str = "mgv1";

/// A token as its holder has it. Shown in full only by [`JoinToken::reveal`].
#[derive(Clone)]
pub struct JoinToken {
    id: TokenId,
    secret: Zeroizing<String>,
    ca_pin: [u8; 32],
}

impl JoinToken {
    /// A token with a fresh secret of 256 bits.
    #[must_use]
    pub fn generate(id: TokenId, ca_pin: [u8; 32]) -> Self {
        let mut secret = [0; 32];
        SystemRandom::new()
            .fill(&mut secret)
            .expect("the kernel gives random bytes on every supported system");
        Self { id, secret: Zeroizing::new(HEXLOWER.encode(&secret)), ca_pin }
    }

    /// Which token.
    #[must_use]
    pub const fn id(&self) -> TokenId {
        self.id
    }

    /// What proves it. Never logged.
    #[must_use]
    pub fn secret(&self) -> &str {
        &self.secret
    }

    /// SHA-256 of the DER form of the CA certificate.
    #[must_use]
    pub const fn ca_pin(&self) -> &[u8; 32] {
        &self.ca_pin
    }

    /// The text to hand over.
    #[must_use]
    pub fn reveal(&self) -> String {
        format!("{PREFIX}.{}.{}.{}", self.id, self.secret(), HEXLOWER.encode(&self.ca_pin))
    }
}

impl fmt::Debug for JoinToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "JoinToken({}, secret withheld)", self.id)
    }
}

/// A text that is not a join token. Does not repeat the text: it may be a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "not a join token: expected `mgv1.<id>.<secret>.<ca-pin>` as printed by `mangrove token create`; {0}"
)]
pub struct TokenError(&'static str);

impl FromStr for JoinToken {
    type Err = TokenError;

    fn from_str(text: &str) -> Result<Self, TokenError> {
        let parts: Vec<&str> = text.trim().split('.').collect();
        let [prefix, id, secret, pin] = parts[..] else {
            return Err(TokenError("it must have four parts joined by dots"));
        };
        if prefix != PREFIX {
            return Err(TokenError("it must begin with `mgv1`"));
        }
        let id = id.parse().map_err(|_| TokenError("its id is not a UUID"))?;
        if secret.len() != 64 || HEXLOWER.decode(secret.as_bytes()).is_err() {
            return Err(TokenError("its secret is not 64 hexadecimal digits"));
        }
        let pin = HEXLOWER.decode(pin.as_bytes()).ok().and_then(|bytes| bytes.try_into().ok());
        let ca_pin = pin.ok_or(TokenError("its CA pin is not 64 hexadecimal digits"))?;
        Ok(Self { id, secret: Zeroizing::new(secret.to_owned()), ca_pin })
    }
}

/// What the issuer keeps of a secret. The secret has 256 random bits, so one round of SHA-256 is enough.
#[must_use]
pub fn secret_hash(secret: &str) -> String {
    HEXLOWER.encode(digest::digest(&digest::SHA256, secret.as_bytes()).as_ref())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_survives_its_text_and_hides_its_secret() {
        let id = "00000000-0000-0000-0000-000000000001".parse().expect("a UUID");
        let token = JoinToken::generate(id, [7; 32]);
        let read: JoinToken = token.reveal().parse().expect("its own text");
        assert_eq!((read.id(), read.secret(), read.ca_pin()), (token.id(), token.secret(), token.ca_pin()));
        assert!(!format!("{token:?}").contains(token.secret()));
    }

    #[test]
    fn what_is_not_a_token_is_refused_without_repeating_it() {
        for text in ["", "hello", "mgv1.a.b.c", "mgv2.00000000-0000-0000-0000-000000000001.x.y"] {
            let error = text.parse::<JoinToken>().expect_err("not a token").to_string();
            assert!(text.is_empty() || !error.contains(text), "{error}");
        }
    }
}

//! Secrets as every tier knows them: which version a service uses and how, and the value sealed for one daemon.
//!
//! Nobody but the root, and the daemon a value is sealed for, can open it; how, `crates/link` says (`sealing.rs`).

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::SecretVersionId;

/// Where instances find a secret whose service does not say where.
pub const SECRETS_DIRECTORY: &str = "/run/secrets";

/// A secret that instances of a service are given.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecretUse {
    /// Its name, for people.
    pub name: String,
    /// Which version of it, for as long as the revision exists.
    pub version: SecretVersionId,
    /// How they are given it.
    pub target: SecretTarget,
}

/// How an instance is given a secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SecretTarget {
    /// As a file in memory that it may only read.
    File {
        /// Absolute path inside the instance.
        path: String,
        /// Permission bits.
        mode: u32,
    },
    /// As a variable of this name, which the container engine shows to whoever may ask it.
    Variable(String),
}

/// The credentials that the image of a service is fetched with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImagePullSecret {
    /// The name of the secret, for people.
    pub name: String,
    /// Which version of it.
    pub version: SecretVersionId,
}

/// What the value of a secret of kind registry says, as JSON.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RegistryCredentials {
    /// Host of the registry, with its port if it has one; images of others are fetched without.
    pub server: String,
    /// Who logs in.
    pub username: String,
    /// By what.
    pub password: String,
}

impl fmt::Debug for RegistryCredentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RegistryCredentials({})", self.server)
    }
}

/// The value of a secret as only one daemon can open it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Sealed(pub Vec<u8>);

impl fmt::Debug for Sealed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sealed({} bytes)", self.0.len())
    }
}

impl From<Sealed> for String {
    fn from(sealed: Sealed) -> Self {
        data_encoding::BASE64.encode(&sealed.0)
    }
}

impl TryFrom<String> for Sealed {
    type Error = data_encoding::DecodeError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        data_encoding::BASE64.decode(text.as_bytes()).map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_value_is_printed() {
        let credentials = RegistryCredentials {
            server: "registry.example".to_owned(),
            username: "robot".to_owned(),
            password: "hunter2".to_owned(),
        };
        assert_eq!(format!("{credentials:?}"), "RegistryCredentials(registry.example)");
        assert_eq!(format!("{:?}", Sealed(vec![1, 2, 3])), "Sealed(3 bytes)");
    }

    #[test]
    fn what_is_sealed_survives_its_text_form() {
        let sealed = Sealed((0..=255).collect());
        assert_eq!(Sealed::try_from(String::from(sealed.clone())), Ok(sealed));
    }
}

//! The secrets of services, and their values sealed for who receives them.

use std::collections::BTreeMap;

use model::{ImagePullSecret, Sealed, SecretTarget, SecretUse, SecretVersionId};

use super::{WireError, parse, required};
use crate::v1::{self, secret_use::Target};

pub(super) fn to_wire(secrets: &BTreeMap<SecretVersionId, Sealed>) -> Vec<v1::SealedSecret> {
    let written = secrets
        .iter()
        .map(|(version, sealed)| v1::SealedSecret { version: version.to_string(), sealed: sealed.0.clone() });
    written.collect()
}

pub(super) fn from_wire(wire: Vec<v1::SealedSecret>) -> Result<BTreeMap<SecretVersionId, Sealed>, WireError> {
    let read = |secret: v1::SealedSecret| {
        Ok((parse("assignment.secrets.version", &secret.version)?, Sealed(secret.sealed)))
    };
    wire.into_iter().map(read).collect()
}

impl From<&SecretUse> for v1::SecretUse {
    fn from(secret: &SecretUse) -> Self {
        let target = match &secret.target {
            SecretTarget::File { path, mode } => {
                Target::File(v1::SecretFile { path: path.clone(), mode: *mode })
            }
            SecretTarget::Variable(name) => Target::Variable(name.clone()),
        };
        Self { name: secret.name.clone(), version: secret.version.to_string(), target: Some(target) }
    }
}

impl TryFrom<v1::SecretUse> for SecretUse {
    type Error = WireError;

    fn try_from(wire: v1::SecretUse) -> Result<Self, WireError> {
        let target = match required("secret.target", wire.target)? {
            Target::File(file) => SecretTarget::File { path: file.path, mode: file.mode },
            Target::Variable(name) => SecretTarget::Variable(name),
        };
        Ok(Self { name: wire.name, version: parse("secret.version", &wire.version)?, target })
    }
}

impl From<&ImagePullSecret> for v1::ImagePullSecret {
    fn from(secret: &ImagePullSecret) -> Self {
        Self { name: secret.name.clone(), version: secret.version.to_string() }
    }
}

impl TryFrom<v1::ImagePullSecret> for ImagePullSecret {
    type Error = WireError;

    fn try_from(wire: v1::ImagePullSecret) -> Result<Self, WireError> {
        Ok(Self { name: wire.name, version: parse("image_pull_secret.version", &wire.version)? })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use model::{Assignment, SecretId, ServiceSpec};

    use super::*;

    fn version(number: u32) -> SecretVersionId {
        SecretVersionId { secret: SecretId::from_bytes([3; 12]), number }
    }

    #[test]
    fn what_a_service_says_of_secrets_survives_the_wire() {
        let mut spec = ServiceSpec::container("image");
        spec.secrets = vec![
            SecretUse {
                name: "database".to_owned(),
                version: version(1),
                target: SecretTarget::File { path: "/run/secrets/database".to_owned(), mode: 0o400 },
            },
            SecretUse {
                name: "token".to_owned(),
                version: version(2),
                target: SecretTarget::Variable("TOKEN".to_owned()),
            },
        ];
        spec.image_pull_secret = Some(ImagePullSecret { name: "registry".to_owned(), version: version(3) });
        assert_eq!(ServiceSpec::try_from(v1::ServiceSpec::from(&spec)), Ok(spec));
    }

    #[test]
    fn sealed_values_survive_the_wire() {
        let secrets =
            Arc::new(BTreeMap::from([(version(1), Sealed(vec![1, 2])), (version(2), Sealed(vec![]))]));
        let assignment = Assignment { secrets, ..Assignment::default() };
        assert_eq!(Assignment::try_from(v1::Assignment::from(&assignment)), Ok(assignment));
    }

    #[test]
    fn a_secret_of_no_version_or_without_a_target_names_the_field() {
        let wire = v1::SecretUse { name: "a".to_owned(), version: "1".to_owned(), target: None };
        let error = SecretUse::try_from(wire.clone()).expect_err("no target").to_string();
        assert!(error.contains("secret.target is missing"), "{error}");
        let wire = v1::SecretUse { target: Some(Target::Variable("A".to_owned())), ..wire };
        let error = SecretUse::try_from(wire).expect_err("no version").to_string();
        assert!(error.contains("secret.version"), "{error}");
    }
}

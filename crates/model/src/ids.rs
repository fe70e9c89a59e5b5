//! Typed identifiers. Names are labels and IP addresses prove nothing; only these identify.
//!
//! Applications, services and users carry 24 hexadecimal digits, the form clients of Oakestra's API expect;
//! clusters and workers carry UUIDs that their daemons keep in their state directory.

use std::{fmt, marker::PhantomData, ops::RangeInclusive, str::FromStr};

use data_encoding::{HEXLOWER, HEXLOWER_PERMISSIVE};
use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{self, Visitor},
};
use uuid::Uuid;

/// A text that is not an id of the kind asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a {kind} id: expected {expected}")]
pub struct IdError {
    kind: &'static str,
    text: String,
    expected: &'static str,
}

/// Reads a text where it is: ids are most of what is read at a start, and each is let go of at once.
struct Text<T>(PhantomData<T>);

impl<T: FromStr<Err = IdError>> Visitor<'_> for Text<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an id")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<T, E> {
        text.parse().map_err(E::custom)
    }
}

/// Written and read as its text.
macro_rules! as_text {
    ($name:ident) => {
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                deserializer.deserialize_str(Text(PhantomData))
            }
        }
    };
}

macro_rules! object_id {
    ($(#[$doc:meta])* $name:ident, $kind:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name([u8; 12]);

        as_text!($name);

        impl $name {
            /// Wraps twelve bytes chosen by the caller, who guarantees they are unique.
            #[must_use]
            pub const fn from_bytes(bytes: [u8; 12]) -> Self {
                Self(bytes)
            }

            /// The twelve bytes.
            #[must_use]
            pub const fn to_bytes(self) -> [u8; 12] {
                self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let mut digits = [0; 24];
                HEXLOWER.encode_mut(&self.0, &mut digits);
                f.write_str(str::from_utf8(&digits).map_err(|_| fmt::Error)?)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self)
            }
        }

        impl FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, IdError> {
                let wrong =
                    || IdError { kind: $kind, text: text.to_owned(), expected: "24 hexadecimal digits" };
                let mut bytes = [0; 12];
                if text.len() != 24 || HEXLOWER_PERMISSIVE.decode_mut(text.as_bytes(), &mut bytes).is_err() {
                    return Err(wrong());
                }
                Ok(Self(bytes))
            }
        }
    };
}

macro_rules! uuid_id {
    ($(#[$doc:meta])* $name:ident, $kind:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(Uuid);

        impl $name {
            /// Wraps a UUID chosen by the caller.
            #[must_use]
            pub const fn new(id: Uuid) -> Self {
                Self(id)
            }

            /// The UUID itself.
            #[must_use]
            pub const fn as_uuid(&self) -> &Uuid {
                &self.0
            }

            /// The id as a number, for compact arrays of candidates.
            #[must_use]
            pub const fn as_u128(&self) -> u128 {
                self.0.as_u128()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.0)
            }
        }

        impl FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, IdError> {
                Uuid::parse_str(text).map(Self).map_err(|_| IdError {
                    kind: $kind,
                    text: text.to_owned(),
                    expected: "a UUID",
                })
            }
        }
    };
}

macro_rules! numbered_id {
    ($(#[$doc:meta])* $name:ident, $kind:literal, $expected:literal, $(#[$of_doc:meta])* $of:ident: $of_id:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name {
            $(#[$of_doc])*
            pub $of: $of_id,
            /// Counts from 1 in the order of the changes.
            pub number: u32,
        }

        as_text!($name);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}@{}", self.$of, self.number)
            }
        }

        impl FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, IdError> {
                let wrong =
                    || IdError { kind: $kind, text: text.to_owned(), expected: $expected };
                let ($of, number) = text.split_once('@').ok_or_else(wrong)?;
                Ok(Self { $of: $of.parse()?, number: number.parse().map_err(|_| wrong())? })
            }
        }
    };
}

object_id!(
    /// One application of one user.
    ApplicationId,
    "application"
);
object_id!(
    /// One service (microservice) of one application.
    ServiceId,
    "service"
);
object_id!(
    /// One person or robot that may log in.
    UserId,
    "user"
);
object_id!(
    /// One organisation: whose people share its applications and secrets.
    OrganizationId,
    "organisation"
);
object_id!(
    /// One secret of an organisation.
    SecretId,
    "secret"
);
object_id!(
    /// One hook of an organisation: who is told of changes.
    HookId,
    "hook"
);
object_id!(
    /// One type of custom resources of an organisation.
    ResourceTypeId,
    "resource type"
);
object_id!(
    /// One custom resource of a type.
    ResourceId,
    "custom resource"
);
uuid_id!(
    /// One cluster orchestrator, for the life of its state directory.
    ClusterId,
    "cluster"
);
uuid_id!(
    /// One worker device, for the life of its state directory.
    WorkerId,
    "worker"
);
uuid_id!(
    /// One join token.
    TokenId,
    "token"
);

/// One copy of a service: the `number`th that was ever asked for. Numbers are never reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct InstanceId {
    /// The service it is a copy of.
    pub service: ServiceId,
    /// Counts from 0 in the order of the requests.
    pub number: u32,
}

impl InstanceId {
    /// The ids of all instances of a service, for a range in an ordered map or set.
    #[must_use]
    pub const fn all_of(service: ServiceId) -> RangeInclusive<Self> {
        Self { service, number: 0 }..=Self { service, number: u32::MAX }
    }
}

numbered_id!(
    /// One revision of a service: what its specification was at some time.
    RevisionId,
    "revision",
    "a service id, `@` and a number",
    /// The service.
    service: ServiceId
);
numbered_id!(
    /// One version of a secret: what its value was at some time.
    SecretVersionId,
    "version of a secret",
    "a secret id, `@` and a number",
    /// The secret.
    secret: SecretId
);

impl fmt::Display for InstanceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.service, self.number)
    }
}

impl FromStr for InstanceId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let wrong = || IdError {
            kind: "instance",
            text: text.to_owned(),
            expected: "a service id, `/` and a number",
        };
        let (service, number) = text.split_once('/').ok_or_else(wrong)?;
        Ok(Self { service: service.parse()?, number: number.parse().map_err(|_| wrong())? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_survive_their_text_form() {
        let id = ServiceId::from_bytes([0xab; 12]);
        assert_eq!(id.to_string().parse(), Ok(id));
        let instance = InstanceId { service: id, number: 7 };
        assert_eq!(instance.to_string().parse(), Ok(instance));
        let revision = RevisionId { service: id, number: 3 };
        assert_eq!(revision.to_string().parse(), Ok(revision));
    }

    #[test]
    fn a_wrong_id_says_what_was_expected() {
        let error = "xyz".parse::<ServiceId>().expect_err("three letters are no id");
        assert_eq!(error.to_string(), "`xyz` is not a service id: expected 24 hexadecimal digits");
    }

    #[test]
    fn non_ascii_text_of_the_right_length_is_refused() {
        assert!("éééééééééééé".parse::<ServiceId>().is_err());
    }
}

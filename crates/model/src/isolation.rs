//! Which instances may connect to which. Decided here and nowhere else; told in `cluster-orchestrator/core/src/network.rs`,
//! carried out in `net-manager/core/src/isolation.rs`.

use std::{collections::BTreeSet, fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::ServiceNames;

/// Names an application.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ApplicationName {
    /// Its name.
    pub name: String,
    /// Its namespace.
    pub namespace: String,
}

impl fmt::Display for ApplicationName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.name, self.namespace)
    }
}

impl From<&ServiceNames> for ApplicationName {
    fn from(names: &ServiceNames) -> Self {
        Self { name: names.application.clone(), namespace: names.application_namespace.clone() }
    }
}

/// Somebody a service lets connect to it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum AllowedCaller {
    /// Every application.
    Everybody,
    /// One application.
    Application(ApplicationName),
}

impl fmt::Display for AllowedCaller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Everybody => f.write_str("*"),
            Self::Application(name) => name.fmt(f),
        }
    }
}

/// A text that names nobody.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` names no caller: expected `application.namespace`, both of letters and digits, or `*`")]
pub struct AllowedCallerError(String);

impl FromStr for AllowedCaller {
    type Err = AllowedCallerError;

    fn from_str(text: &str) -> Result<Self, AllowedCallerError> {
        if text == "*" {
            return Ok(Self::Everybody);
        }
        let is_name = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_alphanumeric());
        match text.split_once('.') {
            Some((name, namespace)) if is_name(name) && is_name(namespace) => {
                Ok(Self::Application(ApplicationName {
                    name: name.to_owned(),
                    namespace: namespace.to_owned(),
                }))
            }
            Some(_) | None => Err(AllowedCallerError(text.to_owned())),
        }
    }
}

impl TryFrom<String> for AllowedCaller {
    type Error = AllowedCallerError;

    fn try_from(text: String) -> Result<Self, AllowedCallerError> {
        text.parse()
    }
}

impl From<AllowedCaller> for String {
    fn from(caller: AllowedCaller) -> Self {
        caller.to_string()
    }
}

/// Whom a service lets connect to it beside its own application.
pub type AllowedCallers = BTreeSet<AllowedCaller>;

/// Whether instances of `caller` may connect to those of a service of `callee` that allows `allowed`.
#[must_use]
pub fn may_connect(caller: &ApplicationName, callee: &ApplicationName, allowed: &AllowedCallers) -> bool {
    caller == callee
        || allowed.iter().any(|one| match one {
            AllowedCaller::Everybody => true,
            AllowedCaller::Application(name) => name == caller,
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn application(name: &str, namespace: &str) -> ApplicationName {
        ApplicationName { name: name.to_owned(), namespace: namespace.to_owned() }
    }

    fn allowed(texts: &[&str]) -> AllowedCallers {
        texts.iter().map(|text| text.parse().expect("a caller")).collect()
    }

    #[test]
    fn applications_are_apart_unless_a_service_allows_one() {
        let (shop, till) = (application("shop", "prod"), application("till", "prod"));
        assert!(may_connect(&shop, &shop, &allowed(&[])), "its own");
        assert!(!may_connect(&till, &shop, &allowed(&[])));
        assert!(may_connect(&till, &shop, &allowed(&["bank.prod", "till.prod"])));
        assert!(!may_connect(&till, &shop, &allowed(&["till.test", "shop.prod"])), "another namespace");
        assert!(may_connect(&till, &shop, &allowed(&["*"])));
    }

    #[test]
    fn a_caller_is_written_as_it_is_read() {
        for text in ["*", "shop.prod"] {
            assert_eq!(text.parse::<AllowedCaller>().map(|caller| caller.to_string()), Ok(text.to_owned()));
        }
        for text in ["", "shop", "shop.", ".prod", "shop.prod.web", "*.prod", "sh op.prod", "**"] {
            assert_eq!(text.parse::<AllowedCaller>(), Err(AllowedCallerError(text.to_owned())), "{text}");
        }
    }
}

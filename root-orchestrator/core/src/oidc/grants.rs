//! What the operator of a root gives to whom, by what the identity provider says of them. Who is given nothing has no
//! rights.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    str::FromStr,
};

use serde_json::Value;

use super::Claims;
use crate::access::Role;

/// Roles in an organisation, for everybody with that value of that claim.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    claim: String,
    value: String,
    organization: String,
    roles: BTreeSet<Role>,
}

/// A text that is no grant.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GrantError {
    /// Something is missing.
    #[error("it must be CLAIM=VALUE:ORGANIZATION:ROLE[,ROLE…], as in groups=operators:root:Admin")]
    Shape,
    /// A role nobody can have.
    #[error(
        "there is no role {0:?}; there are Admin, Organization_Admin, Application_Provider, \
             Infrastructure_Provider, and Infrastructure_Provider@ID with the id of a cluster"
    )]
    Role(String),
}

impl FromStr for Grant {
    type Err = GrantError;

    fn from_str(text: &str) -> Result<Self, GrantError> {
        let (claim, rest) = text.trim().split_once('=').ok_or(GrantError::Shape)?;
        // Values may have colons, as those of many directories do; names of organisations and roles have none.
        let (rest, roles) = rest.rsplit_once(':').ok_or(GrantError::Shape)?;
        let (value, organization) = rest.rsplit_once(':').ok_or(GrantError::Shape)?;
        if claim.is_empty() || value.is_empty() || organization.is_empty() {
            return Err(GrantError::Shape);
        }
        let role = |text: &str| text.parse().map_err(|_| GrantError::Role(text.to_owned()));
        Ok(Self {
            claim: claim.to_owned(),
            value: value.to_owned(),
            organization: organization.to_owned(),
            roles: roles.split(',').map(role).collect::<Result<_, _>>()?,
        })
    }
}

impl fmt::Display for Grant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let roles: Vec<String> = self.roles.iter().map(ToString::to_string).collect();
        write!(f, "{}={}:{}:{}", self.claim, self.value, self.organization, roles.join(","))
    }
}

impl Grant {
    fn is_for(&self, claims: &Claims) -> bool {
        // Whoever can write any address into a profile must not become another.
        if self.claim == "email" && claims.find("email_verified") != Some(&Value::Bool(true)) {
            return false;
        }
        claims.find(&self.claim).is_some_and(|said| says(said, &self.value))
    }
}

fn says(said: &Value, value: &str) -> bool {
    match said {
        Value::String(text) => text == value,
        Value::Bool(truth) => truth.to_string() == value,
        Value::Array(all) => all.iter().any(|one| one.as_str() == Some(value)),
        Value::Null | Value::Number(_) | Value::Object(_) => false,
    }
}

/// What somebody of whom that is said is given: roles by the name of the organisation.
#[must_use]
pub fn granted(grants: &[Grant], claims: &Claims) -> BTreeMap<String, BTreeSet<Role>> {
    let mut given: BTreeMap<String, BTreeSet<Role>> = BTreeMap::new();
    for grant in grants.iter().filter(|grant| grant.is_for(claims)) {
        given.entry(grant.organization.clone()).or_default().extend(&grant.roles);
    }
    given
}

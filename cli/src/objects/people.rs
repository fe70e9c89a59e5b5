//! Users, organisations and API tokens.

use serde::Deserialize;
use serde_json::Value;

use super::or_default;

/// An id as documents of MongoDB have it.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Oid {
    #[serde(rename = "$oid")]
    pub(crate) oid: String,
}

/// A user.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct User {
    #[serde(rename = "_id")]
    pub(crate) id: Oid,
    pub(crate) name: String,
    #[serde(default, deserialize_with = "or_default")]
    pub(crate) email: String,
    #[serde(default, deserialize_with = "or_default")]
    pub(crate) created_at: String,
    #[serde(default, deserialize_with = "or_default")]
    pub(crate) roles: Vec<String>,
}

/// An organisation; its members are sent back as they came.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Organization {
    #[serde(rename = "_id")]
    pub(crate) id: Oid,
    pub(crate) name: String,
    #[serde(rename = "member", default, deserialize_with = "or_default")]
    pub(crate) members: Vec<Value>,
}

/// An API token, without its secret.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct ApiToken {
    pub(crate) id: String,
    pub(crate) name: String,
    #[serde(default)]
    pub(crate) scopes: Option<Vec<String>>,
    #[serde(default, deserialize_with = "or_default")]
    pub(crate) expires_at: String,
}

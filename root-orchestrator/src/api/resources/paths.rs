//! What the paths of objects say.

use serde::Deserialize;
use utoipa::IntoParams;

use super::read::Place;

/// A kind, in one namespace.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
pub(in crate::api) struct InNamespace {
    /// Such as `example.com`
    group: String,
    /// Such as `v1`
    version: String,
    /// Name of the organisation
    namespace: String,
    /// Such as `widgets`
    plural: String,
}

impl From<InNamespace> for Place {
    fn from(path: InNamespace) -> Self {
        let InNamespace { group, version, namespace, plural } = path;
        Self { group, version, namespace: Some(namespace), plural }
    }
}

/// A kind, in all namespaces or in none.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
pub(in crate::api) struct OfPlatform {
    /// Such as `example.com`
    group: String,
    /// Such as `v1`
    version: String,
    /// Such as `widgets`
    plural: String,
}

impl From<OfPlatform> for Place {
    fn from(path: OfPlatform) -> Self {
        let OfPlatform { group, version, plural } = path;
        Self { group, version, namespace: None, plural }
    }
}

/// Which one of a kind.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
pub(in crate::api) struct Named {
    /// Name of the object
    pub(super) name: String,
}

//! What users are shown: the documents of the API, in the shapes clients of Oakestra's API read.
//!
//! People are in `people.rs`, services and revisions are in `service.rs`, instances in `instance.rs`, clusters and workers in `cluster.rs`.

mod cluster;
mod instance;
mod people;
mod service;

use jiff::Timestamp as Date;
use model::{ServiceId, Timestamp};
use root_core::{Application, Cluster, State};
use serde::Serialize;
use utoipa::ToSchema;

pub(crate) use cluster::{ClusterView, WorkerView, cluster, worker};
pub(crate) use instance::lost_with_its_cluster;
pub(crate) use people::{
    ApiTokenView, OrganizationView, QuotaView, UserView, api_token, organization, quota, user,
};
pub(crate) use service::{RevisionView, ServiceView, revisions, service};

/// An id in the form of a MongoDB document.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct Oid {
    /// 24 hexadecimal digits.
    #[serde(rename = "$oid")]
    oid: String,
}

impl Oid {
    fn of(id: impl ToString) -> Self {
        Self { oid: id.to_string() }
    }
}

/// An application.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct ApplicationView {
    _id: Oid,
    #[serde(rename = "applicationID")]
    application_id: String,
    application_name: String,
    application_namespace: String,
    application_desc: String,
    /// Ids of its services.
    microservices: Vec<String>,
    /// Name of the user who made it.
    #[serde(rename = "userId")]
    user_id: String,
    /// Name of the organisation it belongs to.
    organization: String,
}

pub(crate) fn application(state: &State, application: &Application) -> ApplicationView {
    ApplicationView {
        _id: Oid::of(application.id),
        application_id: application.id.to_string(),
        application_name: application.name.clone(),
        application_namespace: application.namespace.clone(),
        application_desc: application.description.clone(),
        microservices: state.services_of(application.id).map(|service| service.id.to_string()).collect(),
        user_id: application.owner.clone(),
        organization: state
            .organization(application.organization)
            .map(|organization| organization.name.clone())
            .unwrap_or_default(),
    }
}

/// One point of a curve.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct Sample {
    value: String,
    timestamp: String,
}

fn location(cluster: Option<&Cluster>) -> String {
    cluster.and_then(|cluster| cluster.location).map(|location| location.to_string()).unwrap_or_default()
}

fn seconds(at: Timestamp) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "milliseconds of this era fit a double exactly")]
    let millis = at.0 as f64;
    millis / 1000.0
}

/// RFC 3339 in UTC.
pub(crate) fn rfc3339(at: Timestamp) -> String {
    let date = i64::try_from(at.0).ok().and_then(|millis| Date::from_millisecond(millis).ok());
    date.map(|date| date.to_string()).unwrap_or_default()
}

/// The date as clients of Oakestra write it, in UTC: `dd/MM/yyyy HH:mm`.
pub(crate) fn date(at: Timestamp) -> String {
    let date = i64::try_from(at.0).ok().and_then(|millis| Date::from_millisecond(millis).ok());
    date.map(|date| date.strftime("%d/%m/%Y %H:%M").to_string()).unwrap_or_default()
}

/// The document that says a service is gone.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Deleted {
    pub(crate) id: ServiceId,
}

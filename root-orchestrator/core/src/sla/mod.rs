//! SLA v2.0, Oakestra's deployment descriptor: JSON text to applications and services.
//!
//! ```text
//!   text ──json──► Value ──fields + read──► known, typed fields ──service──► model::ServiceSpec
//! ```
//!
//! Nothing a user wrote is dropped in silence: a field is honoured, kept, set by the root, or refused by name with
//! what to do ([`fields`] says which). All problems of a document are told at once. Whether an application exists and
//! whose it is, is for the caller.

mod change;
mod constraints;
mod error;
pub mod fields;
mod json;
mod placement;
mod policy;
mod read;
mod reference;
mod secrets;
mod service;
#[cfg(test)]
mod tests;

use std::{collections::BTreeSet, net::Ipv4Addr};

use model::{AllowedCallers, ServiceSpec};
use serde_json::{Map, Value};

pub use change::{Shown, SlaChange, parse_change, parse_service};
pub use error::{SlaError, SlaErrorCode, SlaErrors};
pub use placement::{Placement, parse_placement};
pub use reference::reference;
pub use secrets::{SecretWishes, is_secret_name};

use crate::UpdatePolicy;
use error::{Problems, problem, shown};
use read::{Fields, child, found};

/// The only version of the format that is understood.
pub const VERSION: &str = "v2.0";

/// Room for three services with all the files they may add, and still one message between daemons.
pub const MAX_BODY_BYTES: usize = 4 << 20;
/// Letters and digits in the name or namespace of an application or service, as in Oakestra.
pub const MAX_NAME_LENGTH: usize = 30;
/// Applications in one document.
pub const MAX_APPLICATIONS: usize = 100;
/// Services in one application of a document.
pub const MAX_SERVICES: usize = 1000;
/// Entries of any other list.
pub const MAX_LIST_ENTRIES: usize = 1000;
/// Characters of a string that is neither a name nor a file: more than any path or description needs.
pub const MAX_TEXT_LENGTH: usize = 4096;
/// Bytes of one argument or variable: Linux starts no process with a longer one.
pub const MAX_ENTRY_BYTES: usize = (128 << 10) - 1;
/// Characters of an image reference: a repository (255), a tag (128) and a digest, with their separators.
pub const MAX_IMAGE_LENGTH: usize = 512;
/// Instances one service may be scaled to: each is a document that travels and is stored.
pub const MAX_INSTANCES: u32 = 10_000;
/// Content of all files added to one service: they travel and are stored with every assignment.
pub const MAX_ADDED_FILES_BYTES: usize = 1 << 20;
/// Letters of the name of a secret: that of a file in a directory.
pub const MAX_SECRET_NAME_LENGTH: usize = 63;
/// Bytes of a secret: keys, passwords and certificates; what is larger is data.
pub const MAX_SECRET_BYTES: usize = 64 << 10;

/// A whole document, accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sla {
    /// `customerID` as sent. It proves nothing: the owner is who is logged in.
    pub customer: Option<String>,
    /// At least one, with distinct (name, namespace).
    pub applications: Vec<SlaApplication>,
}

/// One application of a document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SlaApplication {
    /// `applicationID` as sent, unchecked: which application to add the services to. `None` for a new one.
    pub id: Option<String>,
    /// `application_name`.
    pub name: String,
    /// `application_namespace`.
    pub namespace: String,
    /// `application_desc`; empty when there is none.
    pub description: String,
    /// With distinct (name, namespace).
    pub services: Vec<SlaService>,
}

/// One service of an application.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SlaService {
    /// `microservice_name`.
    pub name: String,
    /// `microservice_namespace`.
    pub namespace: String,
    /// What each instance needs, as every tier understands it.
    pub spec: ServiceSpec,
    /// The secrets that `spec` is to have.
    pub secrets: SecretWishes,
    /// How instances of an older revision give way.
    pub update: UpdatePolicy,
    /// `allowed_callers`: who may connect to its instances beside its own application.
    pub allowed_callers: AllowedCallers,
    /// `addresses.rr_ip`: an address of the plan that is to spread connections over the instances in turn.
    pub round_robin: Option<Ipv4Addr>,
    /// The fields as they were sent, without those that the root sets.
    pub document: Map<String, Value>,
}

/// Parses an SLA from JSON text.
///
/// # Errors
/// All problems of the document, each with its place; text that is not JSON has one, with line and column.
pub fn parse(body: &[u8]) -> Result<Sla, SlaErrors> {
    parse_value(&value(body)?)
}

/// The JSON value a body is, if it is one and not too large.
fn value(body: &[u8]) -> Result<Value, SlaError> {
    if body.len() > MAX_BODY_BYTES {
        let is_wrong = format!("must have at most {MAX_BODY_BYTES} bytes, but has {}", body.len());
        return Err(problem(SlaErrorCode::TooLarge, "", &is_wrong));
    }
    json::parse(body)
        .map_err(|error| problem(SlaErrorCode::InvalidJson, "", &format!("is not valid JSON: {error}")))
}

/// Parses an SLA that has been JSON text before; fields given twice can no longer be told.
///
/// # Errors
/// All problems of the document, each with its place.
pub fn parse_value(document: &Value) -> Result<Sla, SlaErrors> {
    let Value::Object(object) = document else {
        let is_wrong = format!("must be a JSON object, but is {}", found(document));
        return Err(problem(SlaErrorCode::WrongType, "", &is_wrong).into());
    };
    refuse_other_versions(object)?;
    let mut problems = Problems::default();
    let fields = Fields::read(&fields::DOCUMENT, "", object, &mut problems);
    let applications: Vec<SlaApplication> = fields
        .objects("applications")
        .into_iter()
        .map(|(path, object)| application(&path, object, &mut problems))
        .collect();
    if fields.has("applications") && applications.is_empty() {
        problems.add(
            SlaErrorCode::InvalidValue,
            "applications",
            "is empty: describe at least one application",
        );
    }
    let names = applications.iter().map(|application| (&*application.name, &*application.namespace));
    refuse_duplicates("applications", "application", names, &mut problems);
    let customer = fields.has("customerID").then(|| fields.text("customerID").to_owned());
    problems.into_result(Sla { customer, applications })
}

/// What else is wrong with a document of another version cannot be told.
fn refuse_other_versions(object: &Map<String, Value>) -> Result<(), SlaError> {
    let refuse = |code, is_wrong: String| Err(problem(code, "sla_version", &is_wrong));
    match object.get("sla_version") {
        Some(Value::String(version)) if version == VERSION => Ok(()),
        None | Some(Value::Null) => {
            refuse(SlaErrorCode::MissingField, format!("is missing: write \"{VERSION}\""))
        }
        Some(Value::String(version)) => refuse(
            SlaErrorCode::UnsupportedVersion,
            format!("must be \"{VERSION}\", but is \"{}\", which is not supported", shown(version)),
        ),
        Some(other @ (Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_))) => refuse(
            SlaErrorCode::WrongType,
            format!("must be the string \"{VERSION}\", but is {}", found(other)),
        ),
    }
}

fn application(path: &str, object: &Map<String, Value>, problems: &mut Problems) -> SlaApplication {
    let fields = Fields::read(&fields::APPLICATION, path, object, problems);
    let services: Vec<SlaService> = fields
        .objects("microservices")
        .into_iter()
        .map(|(path, object)| service::service(&path, object, problems))
        .collect();
    let names = services.iter().map(|service| (&*service.name, &*service.namespace));
    refuse_duplicates(&child(path, "microservices"), "microservice", names, problems);
    SlaApplication {
        id: Some(fields.text("applicationID")).filter(|id| !id.is_empty()).map(str::to_owned),
        name: fields.text("application_name").to_owned(),
        namespace: fields.text("application_namespace").to_owned(),
        description: fields.text("application_desc").to_owned(),
        services,
    }
}

/// Notes every entry of the list at `path` whose (name, namespace) an earlier one has.
fn refuse_duplicates<'a>(
    path: &str,
    noun: &str,
    names: impl Iterator<Item = (&'a str, &'a str)>,
    problems: &mut Problems,
) {
    let mut seen = BTreeSet::new();
    for (index, (name, namespace)) in names.enumerate() {
        // Names that were refused read as empty and are no duplicates of each other.
        if name.is_empty() || namespace.is_empty() || seen.insert((name, namespace)) {
            continue;
        }
        let place = child(&read::item(path, index), &format!("{noun}_name"));
        let is_wrong = format!("is a second {noun} `{name}` in the namespace `{namespace}`: rename one");
        problems.add(SlaErrorCode::Duplicate, &place, &is_wrong);
    }
}

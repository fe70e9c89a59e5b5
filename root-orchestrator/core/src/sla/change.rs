//! The body that changes a service: its object as in `microservices`, or a whole SLA with nothing else in it.

use serde_json::{Map, Value};

use super::{
    SlaApplication, SlaErrorCode, SlaErrors, SlaService,
    error::{Problems, problem},
    parse_value,
    read::found,
    service, value,
};

/// What the root shows of the service beside what its user sent; a client that sends it back asks for nothing by it.
#[derive(Debug, Clone, Copy)]
pub struct Shown<'a> {
    /// `microserviceID`.
    pub id: &'a str,
    /// `image`.
    pub image: &'a str,
}

/// What a service shall be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SlaChange {
    /// The application, by name and namespace, if the document says one.
    pub application: Option<(String, String)>,
    /// The service.
    pub service: SlaService,
}

/// Parses the body of a change.
///
/// # Errors
/// As [`super::parse`]; and when a whole SLA has not exactly one service.
pub fn parse_change(body: &[u8], shown: Shown<'_>) -> Result<SlaChange, SlaErrors> {
    let mut document = value(body)?;
    let Value::Object(object) = &mut document else {
        let is_wrong = format!("must be a JSON object, but is {}", found(&document));
        return Err(problem(SlaErrorCode::WrongType, "", &is_wrong).into());
    };
    if object.contains_key("sla_version") || object.contains_key("applications") {
        return only_service(&mut document, shown);
    }
    forget_what_is_shown(object, shown);
    let mut problems = Problems::default();
    let service = service::service("", object, &mut problems);
    problems.into_result(SlaChange { application: None, service })
}

/// Parses a service as it is in `microservices`, which has been JSON text before and is at `path` in its document.
///
/// # Errors
/// All its problems, each with its place.
pub fn parse_service(path: &str, object: &Map<String, Value>) -> Result<SlaService, SlaErrors> {
    let mut problems = Problems::default();
    let service = service::service(path, object, &mut problems);
    problems.into_result(service)
}

fn only_service(document: &mut Value, shown: Shown<'_>) -> Result<SlaChange, SlaErrors> {
    let sent = document.pointer_mut("/applications/0/microservices/0").and_then(Value::as_object_mut);
    if let Some(sent) = sent {
        forget_what_is_shown(sent, shown);
    }
    let applications = parse_value(document)?.applications;
    let services: usize = applications.iter().map(|application| application.services.len()).sum();
    let too_many = || {
        let is_wrong = format!(
            "must be one application with one microservice, the one to change, but has {} and {services}",
            applications.len()
        );
        SlaErrors::from(problem(SlaErrorCode::InvalidValue, "applications", &is_wrong))
    };
    match &applications[..] {
        [SlaApplication { name, namespace, services, .. }] => match &services[..] {
            [service] => Ok(SlaChange {
                application: Some((name.clone(), namespace.clone())),
                service: service.clone(),
            }),
            _ => Err(too_many()),
        },
        _ => Err(too_many()),
    }
}

fn forget_what_is_shown(object: &mut Map<String, Value>, shown: Shown<'_>) {
    let text =
        |object: &Map<String, Value>, name| object.get(name).and_then(Value::as_str).map(str::to_owned);
    if text(object, "microserviceID").as_deref() == Some(shown.id) {
        object.remove("microserviceID");
    }
    let has_code = text(object, "code").is_some_and(|code| !code.is_empty());
    if has_code && text(object, "image").as_deref() == Some(shown.image) {
        object.remove("image");
    }
}

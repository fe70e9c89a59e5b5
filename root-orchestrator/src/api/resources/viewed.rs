//! Writing what the REST API shows as objects: applications and services. What becomes of one is worked out as of any other
//! object (`write.rs`); what it says of what shall run is then understood, and refused, as the REST API does. What is noted
//! at it is kept beside that.

use ::resources::{
    Kind, Reason, Status, metadata,
    patch::Patch,
    status::{Cause, CauseKind, success},
};
use axum::http::StatusCode;
use model::{Now, OrganizationId};
use root_core::{
    Application, Author, Change, Notes, Rejected, Service, State as Truth, noted,
    sla::{self, SlaApplication, SlaErrorCode, SlaErrors, SlaService},
};
use serde_json::{Map, Value};

use super::{
    super::{applications::RandomIds, error::Error},
    Answer, Failure,
    answer::answered,
    rows,
    views::View,
    write::{ATTEMPTS, Wish, Writer, ensure_preconditions},
};

/// What one was when something was made of it.
#[derive(Debug, Clone, PartialEq)]
enum Before {
    Application(Application),
    Service(Service),
}

/// What one shall be.
#[derive(Debug, Clone)]
enum Wanted {
    Application(SlaApplication),
    /// Of an application of that name and namespace. A service that shall be what it is says nothing.
    Service(String, String, Option<Box<SlaService>>),
}

/// Why nothing was written.
#[derive(Debug)]
pub(super) enum Refused {
    /// It is not what it was; it is to be worked out again.
    Changed,
    /// There is one of that name.
    Exists,
    /// Something else.
    For(Status),
}

impl Refused {
    pub(super) fn of(kind: &Kind, name: &str, rejected: Rejected) -> Self {
        match rejected {
            Rejected::ApplicationExists { .. } | Rejected::ServiceExists { .. } => Self::Exists,
            Rejected::AddressTaken { .. }
            | Rejected::NoAddress { .. }
            | Rejected::QuotaExceeded { .. }
            | Rejected::NoApplication(_)
            | Rejected::NoService(_)
            | Rejected::NoRevision { .. }
            | Rejected::NotChangeable(_)
            | Rejected::NoSecret(_)
            | Rejected::NoSuchSecret { .. }
            | Rejected::SecretExists(_)
            | Rejected::SecretInUse { .. }
            | Rejected::OtherKind { .. }
            | Rejected::SecretGone(_)
            | Rejected::NoInstance { .. } => {
                let status = Status::from(Error::from(rejected));
                Self::For(Status { about: kind.about(name).into(), ..status })
            }
        }
    }
}

/// A wish for one of them that was understood.
#[derive(Debug, Clone)]
struct Understood {
    wanted: Wanted,
    notes: Notes,
    before: Option<Before>,
    author: Author,
}

impl Understood {
    /// What fulfils it.
    fn changes(self, state: &Truth, kind: &Kind, name: &str, now: Now) -> Result<Vec<Change>, Refused> {
        let Self { wanted, notes, before, author } = self;
        let organization = author.organization;
        let rejected = |rejected| Refused::of(kind, name, rejected);
        match (wanted, before) {
            (Wanted::Application(wanted), None) => {
                let made = state.create_applications(&author, vec![wanted], &mut RandomIds, now.date);
                Ok(noted(made.map_err(rejected)?.1, &notes))
            }
            (Wanted::Application(wanted), Some(before)) => {
                let is = state.applications().find(|it| before.is_application(it)).ok_or(Refused::Changed)?;
                Ok(state.rewrite_application(is, wanted.description, notes))
            }
            (Wanted::Service(application, namespace, wanted), None) => {
                let is_it = |it: &&Application| {
                    it.organization == organization && it.name == application && it.namespace == namespace
                };
                let found = state.applications().find(is_it);
                let found = found
                    .ok_or_else(|| rejected(Rejected::NoApplication(format!("{application}.{namespace}"))))?;
                let mut wanted: Vec<SlaService> = wanted.into_iter().map(|it| *it).collect();
                state.find_secrets(organization, &mut wanted).map_err(rejected)?;
                let made = state.add_services(found, wanted, &mut RandomIds, now.date);
                Ok(noted(made.map_err(rejected)?.1, &notes))
            }
            (Wanted::Service(_, _, mut wanted), Some(before)) => {
                let is = before.service(state).ok_or(Refused::Changed)?;
                state.find_secrets(organization, wanted.as_deref_mut()).map_err(rejected)?;
                state.rewrite_service(is, wanted.map(|it| *it), notes, now.date).map_err(rejected)
            }
        }
    }
}

impl Before {
    fn is_application(&self, is: &Application) -> bool {
        matches!(self, Self::Application(before) if before == is)
    }

    /// The service, if it is what it was.
    fn service<'a>(&self, state: &'a Truth) -> Option<&'a Service> {
        match self {
            Self::Service(before) => state.service(before.id).filter(|is| *is == before),
            Self::Application(_) => None,
        }
    }
}

impl Writer {
    /// One as it is now, and as it is shown.
    async fn viewed(&self, view: View) -> Option<(Before, Value)> {
        let state = self.context.brain.read().await;
        let (id, row) = view.named(&state, self.organization(), &self.name)?;
        let before = match view {
            View::Applications => Before::Application(state.application(id.parse().ok()?)?.clone()),
            View::Services => Before::Service(state.service(id.parse().ok()?)?.clone()),
            View::Instances | View::Clusters | View::Events => return None,
        };
        Some((before, self.served.shown(&row, &rows::namespaces(&state))))
    }

    pub(super) fn organization(&self) -> Option<OrganizationId> {
        self.whose.namespace().map(|(id, _)| id)
    }

    /// Works out what becomes of an application or a service, and makes it so.
    pub(super) async fn fulfil_view(mut self, view: View, wish: &Wish) -> Answer {
        for _ in 0..ATTEMPTS {
            let before = match wish {
                Wish::Create(_) => None,
                Wish::Replace(_) | Wish::Patch(_) => self.viewed(view).await,
            };
            let is_new = before.is_none();
            self.ensure_may_make(wish, is_new)?;
            let (before, shown) = before.unzip();
            let mut written = self.work_out(wish.clone(), shown.clone()).await?;
            let code = if is_new { StatusCode::CREATED } else { StatusCode::OK };
            if !is_new && !written.is_changed {
                return Ok(answered(
                    code,
                    &self.asked.form.one(self.kind(), written.object),
                    &written.warnings,
                ));
            }
            metadata::text(&written.object, "name").clone_into(&mut self.name);
            let (kind, name) = (self.kind().clone(), self.name.clone());
            let understood = self.understand(view, &written.object, before, shown.as_ref())?;
            let is_tried = self.asked.options.dry_run;
            let outcome = if is_tried {
                let state = self.context.brain.read().await;
                understood.changes(&state, &kind, &name, daemon::present()).map(drop)
            } else {
                let write =
                    move |state: &Truth, now: Now| Ok(((), understood.changes(state, &kind, &name, now)?));
                self.context.brain.ask(write).await?
            };
            let applies = matches!(wish, Wish::Patch(Patch::Apply(_)));
            match outcome {
                Ok(()) => {
                    forget_what_is_not_kept(&mut written.object);
                    let now = if is_tried { None } else { self.viewed(view).await };
                    let object = now.map_or(written.object, |(_, shown)| shown);
                    return Ok(answered(code, &self.asked.form.one(self.kind(), object), &written.warnings));
                }
                Err(Refused::Changed) => {}
                Err(Refused::Exists) if applies => {}
                Err(Refused::Exists) => {
                    return Err(Status::already_exists(self.kind().about(&self.name)).into());
                }
                Err(Refused::For(status)) => return Err(status.into()),
            }
        }
        Err(Status::modified(self.kind().about(&self.name)).into())
    }

    fn understand(
        &self,
        view: View,
        object: &Value,
        before: Option<Before>,
        shown: Option<&Value>,
    ) -> Result<Understood, Failure> {
        let about = || self.kind().about_fields(&self.name);
        let organization =
            self.organization().ok_or_else(|| Status::not_found(self.kind().about(&self.name)))?;
        let mut causes = unheeded(&object["metadata"]);
        let is_same = shown.is_some_and(|shown| shown["spec"] == object["spec"]);
        let wanted = match view {
            View::Applications => application(&self.name, &object["spec"]),
            View::Services => service(&self.name, &object["spec"], is_same),
            View::Instances | View::Clusters | View::Events => {
                let message = format!("{} are not written", self.kind().names.plural);
                return Err(Status::new(Reason::MethodNotAllowed, message).into());
            }
        };
        let notes = Notes::of(&object["metadata"]);
        let (wanted, notes) = match (wanted, notes) {
            (Ok(wanted), Ok(notes)) if causes.is_empty() => (wanted, notes),
            (wanted, notes) => {
                causes.extend(wanted.err().into_iter().flatten());
                causes.extend(notes.err().map(|why| Cause::invalid("metadata", why)));
                return Err(Status::invalid(about(), causes).into());
            }
        };
        let author = Author { organization, name: self.caller.name.clone() };
        Ok(Understood { wanted, notes, before, author })
    }

    /// Deletes what the REST API shows, as that does.
    pub(super) async fn delete_viewed(self, view: View) -> Answer {
        let about = || self.kind().about(&self.name);
        let of = self.organization();
        let row = view.named(&*self.context.brain.read().await, of, &self.name).map(|(_, row)| row);
        let row = row.ok_or_else(|| Status::not_found(about()))?;
        let shown = self.served.shown(&row, &rows::Namespaces::new());
        ensure_preconditions(self.kind(), &self.asked.options, &shown)?;
        let uid = metadata::text(&shown, "uid").to_owned();
        if !self.asked.options.dry_run {
            let (name, not_found, modified) =
                (self.name.clone(), Status::not_found(about()), Status::modified(about()));
            let (id, revision) = (uid.clone(), row.revision);
            let is_of_revision = self.asked.options.only_revision.is_some();
            let delete = move |state: &Truth, now: Now| {
                let found = view.named(state, of, &name).filter(|(is, _)| *is == id);
                let Some((id, row)) = found else { return Err(not_found) };
                if is_of_revision && row.revision != revision {
                    return Err(modified);
                }
                view.delete(state, &id, now.date).map(|changes| ((), changes)).ok_or(not_found)
            };
            self.context.brain.ask(delete).await??;
        }
        Ok(answered(StatusCode::OK, &success(&about(), &uid), &[]))
    }
}

/// Nothing counts what is wanted of an application or service, or knows when it was made.
fn forget_what_is_not_kept(object: &mut Value) {
    if let Some(metadata) = object["metadata"].as_object_mut() {
        metadata.remove("generation");
        metadata.remove("creationTimestamp");
    }
}

/// What of the metadata would mean nothing here.
fn unheeded(metadata: &Value) -> Vec<Cause> {
    let is_said = |field: &&str| metadata[*field].as_array().is_some_and(|list| !list.is_empty());
    let cause = |field: &str| {
        let message =
            "applications and services go as soon as they are deleted, and belong to nothing; leave it out";
        Cause::forbidden(format!("metadata.{field}"), message)
    };
    ["finalizers", "ownerReferences"]
        .iter()
        .filter(|field| is_said(field))
        .map(|field| cause(field))
        .collect()
}

/// The parts of the name of one, of which there must be so many.
fn names<'a, const MOST: usize>(name: &'a str, form: &str) -> Result<[&'a str; MOST], Vec<Cause>> {
    let parts: Vec<&str> = name.split('.').collect();
    <[&str; MOST]>::try_from(parts).map_err(|_| {
        let message = format!("Invalid value: \"{name}\": it is called {form}");
        vec![Cause::invalid("metadata.name", message)]
    })
}

/// What fields that repeat the name say, if that is something else.
fn others(spec: &Value, names: &[(&str, &str)]) -> Vec<Cause> {
    let says_other = |(field, name): &&(&str, &str)| {
        spec.get(*field).is_some_and(|said| !said.is_null() && said.as_str() != Some(*name))
    };
    let cause = |(field, name): &(&str, &str)| {
        Cause::invalid(
            format!("spec.{field}"),
            format!("it must be \"{name}\", as in metadata.name; or leave it out"),
        )
    };
    names.iter().filter(says_other).map(cause).collect()
}

fn application(name: &str, spec: &Value) -> Result<Wanted, Vec<Cause>> {
    let [name, namespace] = names(name, "name.namespace, as its application_name and application_namespace")?;
    let causes = others(spec, &[("name", name), ("namespace", namespace)]);
    if !causes.is_empty() {
        return Err(causes);
    }
    // In the form and with the limits of an SLA.
    let written = serde_json::json!({
        "sla_version": sla::VERSION,
        "applications": [{
            "application_name": name, "application_namespace": namespace,
            "application_desc": spec["description"], "microservices": [],
        }],
    });
    let mut read = sla::parse_value(&written).map_err(|errors| {
        let mut causes = causes_of(&errors);
        for cause in &mut causes {
            let field = cause.field.rsplit('.').next().unwrap_or_default();
            field_of_application(field).clone_into(&mut cause.field);
        }
        causes
    })?;
    read.applications.pop().map(Wanted::Application).ok_or_else(Vec::new)
}

/// Where an object says what an SLA says in a field of an application.
fn field_of_application(field: &str) -> &'static str {
    match field {
        "application_desc" => "spec.description",
        _ => "metadata.name",
    }
}

fn service(name: &str, spec: &Value, is_same: bool) -> Result<Wanted, Vec<Cause>> {
    let form = "application.namespace.service.namespace, as in its SLA";
    let [application, application_namespace, own, namespace] = names(name, form)?;
    if is_same {
        return Ok(Wanted::Service(application.to_owned(), application_namespace.to_owned(), None));
    }
    let of = format!("{application}.{application_namespace}");
    let names =
        [("application", of.as_str()), ("microservice_name", own), ("microservice_namespace", namespace)];
    let causes = others(spec, &names);
    if !causes.is_empty() {
        return Err(causes);
    }
    let mut fields: Map<String, Value> = spec.as_object().cloned().unwrap_or_default();
    fields.remove("application");
    for (field, name) in &names[1..] {
        fields.insert((*field).to_owned(), Value::from(*name));
    }
    let read = sla::parse_service("spec", &fields).map_err(|errors| causes_of(&errors))?;
    Ok(Wanted::Service(application.to_owned(), application_namespace.to_owned(), Some(Box::new(read))))
}

/// The problems of what is written as in an SLA, field by field.
fn causes_of(errors: &SlaErrors) -> Vec<Cause> {
    let cause = |error: &sla::SlaError| {
        let kind = match error.code {
            SlaErrorCode::MissingField => CauseKind::Required,
            SlaErrorCode::NotSupported => CauseKind::Forbidden,
            SlaErrorCode::InvalidJson
            | SlaErrorCode::UnsupportedVersion
            | SlaErrorCode::UnknownField
            | SlaErrorCode::WrongType
            | SlaErrorCode::InvalidValue
            | SlaErrorCode::Duplicate
            | SlaErrorCode::Conflict
            | SlaErrorCode::TooLarge => CauseKind::Invalid,
        };
        // The field is named beside it.
        let message = error.message.strip_prefix(&format!("`{}` ", error.path)).unwrap_or(&error.message);
        Cause { kind, field: error.path.clone(), message: message.to_owned() }
    };
    errors.iter().map(cause).collect()
}

//! What becomes of an object when somebody creates, replaces, patches or applies it: fields nobody described go, those
//! left out are filled in, what only the root writes stays, and what is wrong is refused field by field.

use serde_json::{Map, Value, json};

use crate::{
    DEEPEST, is_too_deep,
    kind::Kind,
    managed::{self, Manager, Operation},
    metadata,
    patch::Patch,
    protobuf,
    status::{Cause, Reason, Status},
};

/// What becomes of fields that nobody described.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum FieldValidation {
    /// They are left out.
    Ignore,
    /// They are left out, and the caller is warned.
    #[default]
    Warn,
    /// The object is refused.
    Strict,
}

/// Which part of an object is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// All but its status, if that is written by itself.
    Main,
    /// The status alone.
    Status,
}

/// Who writes an object of a kind, how and when.
#[derive(Debug, Clone)]
pub struct Writing<'a> {
    /// Of which kind.
    pub kind: &'a Kind,
    /// Who is said to own what is written.
    pub manager: &'a str,
    /// When, in the form of RFC 3339 with seconds.
    pub now: &'a str,
    /// What becomes of unknown fields.
    pub validation: FieldValidation,
    /// What is written.
    pub part: Part,
}

/// What an object is named, where it is asked for.
#[derive(Debug, Clone, Copy)]
pub struct Place<'a> {
    /// Its namespace, of a kind that has them.
    pub namespace: Option<&'a str>,
    /// Its name; empty if the object says it.
    pub name: &'a str,
}

/// An object as it is to be stored.
#[derive(Debug, Clone, PartialEq)]
pub struct Written {
    /// All of it.
    pub object: Value,
    /// What the caller should know.
    pub warnings: Vec<String>,
    /// Not if it is what it was.
    pub is_changed: bool,
}

impl Written {
    /// Whether it goes now that nobody has to agree any more.
    #[must_use]
    pub fn is_gone(&self) -> bool {
        metadata::is_terminating(&self.object) && metadata::finalizers(&self.object).next().is_none()
    }
}

impl Writing<'_> {
    /// Makes a new object, with an id and, behind `generateName`, a suffix that nobody has.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn create(
        &self,
        mut object: Value,
        place: Place<'_>,
        uid: &str,
        suffix: &str,
    ) -> Result<Written, Status> {
        self.ensure_kind(&object)?;
        if object["metadata"]["resourceVersion"].as_str().is_some_and(|text| !text.is_empty()) {
            return Err(Status::bad_request("resourceVersion should not be set on objects to be created"));
        }
        if let Some(metadata) = metadata::fields(&mut object) {
            let begin = metadata.get("generateName").and_then(Value::as_str).unwrap_or_default();
            let is_named = metadata.get("name").and_then(Value::as_str).is_some_and(|name| !name.is_empty());
            if !is_named && !begin.is_empty() {
                let name = format!("{begin}{suffix}");
                metadata.insert("name".to_owned(), Value::from(name));
            }
        }
        self.ensure_place(&mut object, place)?;
        metadata::keep(&mut object, None);
        if let Some(metadata) = metadata::fields(&mut object) {
            metadata.remove("resourceVersion");
            metadata.insert("uid".to_owned(), Value::from(uid));
            metadata.insert("generation".to_owned(), Value::from(1));
            metadata.insert("creationTimestamp".to_owned(), Value::from(self.now));
        }
        if self.kind.has_status
            && let Some(fields) = object.as_object_mut()
        {
            fields.remove("status");
        }
        let mut written = self.judge(object, None)?;
        self.note(None, &mut written.object);
        Ok(written)
    }

    /// Replaces an object. What it was has the revision and the namespace with which it is shown.
    ///
    /// # Errors
    /// What is wrong with the new one, or that it is not made of what is there.
    pub fn update(&self, before: &Value, object: Value) -> Result<Written, Status> {
        self.ensure_kind(&object)?;
        if metadata::text(&object, "resourceVersion").is_empty() {
            let name = metadata::text(before, "name");
            let cause = Cause::invalid("metadata.resourceVersion", "must be specified for an update");
            return Err(Status::invalid(self.kind.about_fields(name), vec![cause]));
        }
        self.replace(before, object, Operation::Update)
    }

    /// Changes an object.
    ///
    /// # Errors
    /// When the patch cannot be applied, or what is wrong with what comes of it.
    pub fn patch(&self, before: &Value, patch: &Patch) -> Result<Written, Status> {
        self.replace(before, patch.applied_to(before)?, Operation::Update)
    }

    /// Gives an object what its manager wants of it; makes it if it is not there.
    ///
    /// # Errors
    /// When others own what is wanted otherwise, unless `by_force`, or what is wrong with what comes of it.
    pub fn apply(
        &self,
        before: Option<&Value>,
        mut wanted: Value,
        place: Place<'_>,
        by_force: bool,
        uid: &str,
    ) -> Result<Written, Status> {
        if self.manager.is_empty() {
            return Err(Status::bad_request("fieldManager is required for apply patch"));
        }
        self.ensure_kind(&wanted)?;
        if !wanted["metadata"]["managedFields"].is_null() {
            return Err(Status::bad_request("metadata.managedFields must be nil"));
        }
        self.ensure_place(&mut wanted, place)?;
        self.only_own_part(&mut wanted);
        let live = before.cloned().unwrap_or_else(
            || json!({"apiVersion": wanted["apiVersion"], "kind": wanted["kind"], "metadata": {}}),
        );
        let about = self.kind.about(metadata::text(&wanted, "name"));
        // Unknown fields are nobody's.
        let unknown = self.unknown(&mut wanted)?;
        let (schema, api_version) = (self.kind.structure.raw(), self.kind.api_version());
        let manager = self.manager(Operation::Apply, &api_version);
        let merged = managed::apply(&live, &wanted, schema, manager, by_force, about)?;
        let mut written = match before {
            Some(before) => self.replace(before, merged, Operation::Apply)?,
            None => {
                let entries = merged["metadata"]["managedFields"].clone();
                let mut written = self.create(merged, place, uid, "")?;
                written.object["metadata"]["managedFields"] = entries;
                written
            }
        };
        written.warnings.extend(unknown);
        Ok(written)
    }

    /// Of what is applied to a part of an object only that part counts.
    fn only_own_part(&self, wanted: &mut Value) {
        let Some(fields) = wanted.as_object_mut().filter(|_| self.kind.has_status) else { return };
        match self.part {
            Part::Main => drop(fields.remove("status")),
            Part::Status => {
                fields
                    .retain(|name, _| ["apiVersion", "kind", "metadata", "status"].contains(&name.as_str()));
            }
        }
    }

    fn replace(&self, before: &Value, mut object: Value, operation: Operation) -> Result<Written, Status> {
        self.ensure_kind(&object)?;
        let (name, namespace) = (metadata::text(before, "name"), metadata::text(before, "namespace"));
        let namespace = Some(namespace).filter(|namespace| !namespace.is_empty());
        self.ensure_place(&mut object, Place { namespace, name })?;
        self.ensure_same(before, &object)?;
        metadata::keep(&mut object, Some(before));
        if let Some(metadata) = metadata::fields(&mut object) {
            metadata.insert("resourceVersion".to_owned(), before["metadata"]["resourceVersion"].clone());
        }
        if self.kind.has_status {
            match self.part {
                Part::Main => take_over(&mut object, before, "status"),
                Part::Status => {
                    let mut whole = before.clone();
                    take_over(&mut whole, &object, "status");
                    let managers = object["metadata"]["managedFields"].take();
                    if operation == Operation::Apply {
                        whole["metadata"]["managedFields"] = managers;
                    }
                    object = whole;
                }
            }
        }
        let Written { mut object, warnings, .. } = self.judge(object, Some(before))?;
        let causes = metadata::check_transition(before, &object);
        if !causes.is_empty() {
            return Err(Status::invalid(self.kind.about_fields(name), causes));
        }
        let is_same = managed::ownable(&object) == managed::ownable(before);
        if !is_same && is_another_generation(&object, before, self.kind) {
            let generation = before["metadata"]["generation"].as_u64().unwrap_or(0) + 1;
            object["metadata"]["generation"] = Value::from(generation);
        }
        let managers = |object: &Value| object["metadata"]["managedFields"].clone();
        let is_changed = !is_same || managers(&object) != managers(before);
        if operation == Operation::Update {
            if is_same && managers(&object).is_null() {
                return Ok(Written { object: before.clone(), warnings, is_changed: false });
            }
            self.note(Some(before), &mut object);
        }
        Ok(Written { object, warnings, is_changed })
    }

    fn ensure_kind(&self, object: &Value) -> Result<(), Status> {
        if !object.is_object() {
            return Err(Status::bad_request("the body must be an object"));
        }
        let is = (object["apiVersion"].as_str(), object["kind"].as_str());
        let api_version = self.kind.api_version();
        if is == (Some(&api_version), Some(&self.kind.names.kind)) {
            return Ok(());
        }
        Err(Status::bad_request(format!(
            "here objects have the apiVersion {api_version} and the kind {}, and not {} and {}",
            self.kind.names.kind,
            is.0.unwrap_or("none"),
            is.1.unwrap_or("none"),
        )))
    }

    fn ensure_place(&self, object: &mut Value, place: Place<'_>) -> Result<(), Status> {
        let Some(metadata) = metadata::fields(object) else {
            return Err(Status::bad_request("metadata must be an object"));
        };
        let is = |field: &str| metadata.get(field).and_then(Value::as_str).unwrap_or_default();
        if !place.name.is_empty() && !is("name").is_empty() && is("name") != place.name {
            let message = "the name of the object does not match the name on the URL";
            return Err(Status::bad_request(format!("{message} ({} and {})", is("name"), place.name)));
        }
        match place.namespace {
            Some(namespace) if !is("namespace").is_empty() && is("namespace") != namespace => {
                let message =
                    "the namespace of the provided object does not match the namespace sent on the request";
                return Err(Status::bad_request(format!("{message} ({} and {namespace})", is("namespace"))));
            }
            Some(namespace) => drop(metadata.insert("namespace".to_owned(), Value::from(namespace))),
            None => drop(metadata.remove("namespace")),
        }
        if !place.name.is_empty() {
            metadata.insert("name".to_owned(), Value::from(place.name));
        }
        Ok(())
    }

    /// Whether an object was made of what is there.
    fn ensure_same(&self, before: &Value, object: &Value) -> Result<(), Status> {
        let differs = |field: &str| {
            let wanted = metadata::text(object, field);
            !wanted.is_empty() && wanted != metadata::text(before, field)
        };
        let about = || self.kind.about(metadata::text(before, "name"));
        if differs("uid") {
            let (wanted, is) = (metadata::text(object, "uid"), metadata::text(before, "uid"));
            let why = format!("Precondition failed: UID in precondition: {wanted}, UID in object meta: {is}");
            return Err(Status::conflict(about(), &why));
        }
        if differs("resourceVersion") {
            return Err(Status::modified(about()));
        }
        Ok(())
    }

    /// Takes out fields that nobody described.
    fn unknown(&self, object: &mut Value) -> Result<Vec<String>, Status> {
        let mut unknown = self.kind.structure.prune(object);
        unknown.extend(metadata::prune(object));
        let told = unknown.iter().map(|field| format!("unknown field \"{field}\""));
        match self.validation {
            FieldValidation::Ignore => Ok(Vec::new()),
            FieldValidation::Warn => Ok(told.collect()),
            FieldValidation::Strict if unknown.is_empty() => Ok(Vec::new()),
            FieldValidation::Strict => {
                let told: Vec<String> = told.collect();
                let kind = &self.kind.names.kind;
                Err(Status::bad_request(format!(
                    "{kind} in version \"{}\" cannot be handled as a {kind}: strict decoding error: {}",
                    self.kind.version,
                    told.join(", ")
                )))
            }
        }
    }

    fn judge(&self, mut object: Value, before: Option<&Value>) -> Result<Written, Status> {
        if is_too_deep(&object) {
            let about = self.kind.about_fields(metadata::text(&object, "name"));
            let message = format!("values are nested deeper than {DEEPEST}");
            return Err(Status::invalid(about, vec![Cause::invalid("", message)]));
        }
        let warnings = self.unknown(&mut object)?;
        self.kind.structure.fill_in(&mut object);
        let mut causes = metadata::check(&object);
        causes.extend(self.kind.structure.check(&object));
        if causes.is_empty() {
            let is_changed = before != Some(&object);
            return Ok(Written { object, warnings, is_changed });
        }
        let about = self.kind.about_fields(metadata::text(&object, "name"));
        Err(Status::invalid(about, causes))
    }

    fn manager<'b>(&'b self, operation: Operation, api_version: &'b str) -> Manager<'b> {
        let subresource = (self.part == Part::Status).then_some("status");
        Manager { name: self.manager, operation, api_version, now: self.now, subresource }
    }

    fn note(&self, before: Option<&Value>, after: &mut Value) {
        let api_version = self.kind.api_version();
        let manager = self.manager(Operation::Update, &api_version);
        managed::note_update(before, after, self.kind.structure.raw(), manager);
    }
}

/// Gives an object a field as another has it.
fn take_over(object: &mut Value, from: &Value, field: &str) {
    let Some(fields) = object.as_object_mut() else { return };
    match from.get(field) {
        Some(value) => drop(fields.insert(field.to_owned(), value.clone())),
        None => drop(fields.remove(field)),
    }
}

/// Whether anything differs of which each change is another generation.
fn is_another_generation(one: &Value, other: &Value, kind: &Kind) -> bool {
    let counts = |name: &str| name != "metadata" && !(kind.has_status && name == "status");
    let names = |object: &Value| -> Vec<String> {
        object.as_object().into_iter().flat_map(Map::keys).filter(|name| counts(name)).cloned().collect()
    };
    names(one) != names(other) || names(one).iter().any(|name| one[name] != other[name])
}

/// The body of a request, as an object.
///
/// # Errors
/// When it is none.
pub fn read(content_type: Option<&str>, body: &[u8]) -> Result<Value, Status> {
    let of = content_type.map(|of| of.split(';').next().unwrap_or_default().trim());
    if of == Some(protobuf::CONTENT_TYPE) {
        return protobuf::read(body);
    }
    let is_json = of.is_none_or(|of| {
        of.is_empty() || of == "*/*" || of.ends_with("json") || of == "application/yaml" || of == "text/plain"
    });
    if !is_json {
        let message = format!("{} is not read here; send application/json", content_type.unwrap_or_default());
        return Err(Status::new(Reason::UnsupportedMediaType, message));
    }
    serde_json::from_slice(body)
        .map_err(|error| Status::bad_request(format!("the body is not JSON: {error}")))
}

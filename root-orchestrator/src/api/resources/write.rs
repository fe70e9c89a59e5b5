//! Writing objects: what becomes of one is worked out from what it is, and kept if it still is that.

use ::resources::{
    Kind, Reason, Status,
    definition::{self, Definition},
    kind::Verb,
    metadata,
    options::Options,
    patch::Patch,
    selector::Selector,
    status::success,
    write::{self, Part, Writing, Written},
};
use axum::http::StatusCode;
use bytes::Bytes;
use root_core::{Deleted, ObjectRejected, Organization, PeopleRejected, Quota, Seen, WorkflowKind};
use serde_json::Value;

use super::{
    super::{Context, error::Error, organizations},
    Answer, Failure,
    answer::{answered, rejected},
    asked::Asked,
    kinds::{self, Served, Source, Whose},
    read::Place,
    rows, scale, workflows,
};
use crate::auth::Caller;

/// Others may change an object while it is worked out what becomes of it; so often it is worked out again.
pub(super) const ATTEMPTS: usize = 5;

/// What is to become of an object.
#[derive(Debug, Clone)]
pub(super) enum Wish {
    Create(Value),
    Replace(Value),
    Patch(Patch),
}

/// A request that writes.
pub(super) struct Writer {
    pub(super) context: Context,
    pub(super) caller: Caller,
    pub(super) served: Served,
    pub(super) whose: Whose,
    pub(super) name: String,
    pub(super) asked: Asked,
    part: Part,
}

impl Writer {
    pub(super) async fn new(
        context: Context,
        caller: Caller,
        place: &Place,
        name: &str,
        asked: Asked,
        verb: Verb,
    ) -> Result<Self, Failure> {
        let (served, whose) = {
            let state = context.brain.read().await;
            let served = kinds::find(&state, &place.group, &place.version, &place.plural)?;
            let whose = served.admit(&state, &caller, verb, place.namespace.as_deref(), name)?;
            (served, whose)
        };
        if whose == Whose::All && verb != Verb::DeleteCollection {
            let message =
                format!("{} are of a namespace each; name it in the path", served.kind.names.plural);
            return Err(Status::bad_request(message).into());
        }
        context.brain.describe(|call| {
            call.organization = whose.namespace().map(|(id, _)| id).or(call.organization);
        });
        Ok(Self { context, caller, served, whose, name: name.to_owned(), asked, part: Part::Main })
    }

    /// The same for the status alone.
    fn of_status(mut self) -> Result<Self, Failure> {
        if self.served.workflow().is_some() {
            let message = format!("the status of {} is written by the root alone", self.kind().names.plural);
            return Err(Status::new(Reason::MethodNotAllowed, message).into());
        }
        if !self.served.kind.has_status {
            let message = format!("the status of {} is not written by itself", self.served.kind.names.plural);
            return Err(Status::new(Reason::NotFound, message).into());
        }
        self.part = Part::Status;
        Ok(self)
    }

    pub(super) fn kind(&self) -> &Kind {
        &self.served.kind
    }

    /// How what is written is worked out: by whom, at that time, and what becomes of unknown fields.
    pub(super) fn writing<'a>(&'a self, now: &'a str) -> Writing<'a> {
        Writing {
            kind: self.kind(),
            manager: self.asked.manager(),
            now,
            validation: self.asked.options.validation,
            part: self.part,
        }
    }

    /// The object as it is shown.
    pub(super) async fn shown(&self, name: &str) -> Option<Value> {
        self.seen(name).await.map(|(_, shown)| shown)
    }

    /// The object as it is now: as it was seen, and as it is shown.
    async fn seen(&self, name: &str) -> Option<(Seen, Value)> {
        let state = self.context.brain.read().await;
        let seen = state.object(&self.served.key(&self.whose, name))?.clone();
        let row = self.served.row(&state, &self.whose, name)?;
        Some((seen, self.served.shown(&row, &rows::namespaces(&state))))
    }

    /// Changes what is there, wherever it is.
    async fn fulfil_any(self, wish: &Wish) -> Answer {
        match self.served.source {
            Source::View(view) => self.fulfil_view(view, wish).await,
            Source::Objects | Source::Organizations => self.fulfil(wish).await,
        }
    }

    /// Works out what becomes of an object, and keeps it.
    async fn fulfil(&self, wish: &Wish) -> Answer {
        for _ in 0..ATTEMPTS {
            let before = match wish {
                Wish::Create(_) => None,
                Wish::Replace(_) | Wish::Patch(_) => self.seen(&self.name).await,
            };
            let is_new = before.is_none();
            self.ensure_may_make(wish, is_new)?;
            let shown = before.as_ref().map(|(_, shown)| shown.clone());
            let mut written = self.work_out(wish.clone(), shown).await?;
            let workflow = self.served.workflow();
            if let Some(of) = workflow {
                let organization = self.whose.namespace().map(|(id, _)| id);
                let state = self.context.brain.read().await;
                written.warnings.extend(workflows::warnings(&state, of, organization, &written.object));
            }
            let name = metadata::text(&written.object, "name").to_owned();
            let code = if is_new { StatusCode::CREATED } else { StatusCode::OK };
            if self.asked.options.dry_run || !written.is_changed {
                if is_new && self.seen(&name).await.is_some() {
                    return Err(Status::already_exists(self.kind().about(&name)).into());
                }
                let object = self.asked.form.one(self.kind(), written.object);
                return Ok(answered(code, &object, &written.warnings));
            }
            let key = self.served.key(&self.whose, &name);
            let stored = self.served.stored(written.object.clone());
            let asked = match before {
                None => self.context.brain.ask(move |state, _| state.create_object(key, stored)).await?,
                Some((seen, _)) if workflow == Some(WorkflowKind::Run) => {
                    let update =
                        move |state: &root_core::State, now| state.update_run(key, &seen, stored, now);
                    self.context.brain.ask(update).await?
                }
                Some((seen, _)) => {
                    self.context.brain.ask(move |state, _| state.update_object(key, &seen, stored)).await?
                }
            };
            let applies = matches!(wish, Wish::Patch(Patch::Apply(_)));
            match asked {
                Ok(()) => {
                    let object = match self.seen(&name).await {
                        Some((_, shown)) => shown,
                        None => written.object,
                    };
                    return Ok(answered(code, &self.asked.form.one(self.kind(), object), &written.warnings));
                }
                Err(ObjectRejected::Changed(_) | ObjectRejected::None(_)) => {}
                Err(ObjectRejected::Exists(_)) if applies => {}
                Err(refused) => return Err(rejected(self.kind(), &name, &refused).into()),
            }
        }
        Err(Status::modified(self.kind().about(&self.name)).into())
    }

    /// Whoever applies makes what is not there, and must be allowed to.
    pub(super) fn ensure_may_make(&self, wish: &Wish, is_new: bool) -> Result<(), Failure> {
        if !is_new {
            return Ok(());
        }
        match wish {
            Wish::Create(_) => Ok(()),
            Wish::Patch(Patch::Apply(_)) if self.part == Part::Main => {
                let of = self.whose.namespace().map(|(id, _)| id);
                match self.served.verdict(&self.caller, Verb::Create, of) {
                    root_core::access::Verdict::Allowed => Ok(()),
                    root_core::access::Verdict::Hidden => {
                        Err(Status::not_found(self.kind().about(&self.name)).into())
                    }
                    root_core::access::Verdict::Refused(refused) => {
                        Err(Status::forbidden(self.kind().about(&self.name), &refused.to_string()).into())
                    }
                }
            }
            Wish::Replace(_) | Wish::Patch(_) => Err(Status::not_found(self.kind().about(&self.name)).into()),
        }
    }

    /// What becomes of an object. Checking it may take a while, so it is not for the time of those who answer requests.
    pub(super) async fn work_out(&self, wish: Wish, before: Option<Value>) -> Result<Written, Failure> {
        let mut kind = self.served.kind.clone();
        // What the REST API shows has a status that nobody writes.
        kind.has_status |= matches!(self.served.source, Source::View(_));
        let part = self.part;
        let (name, namespace) = (self.name.clone(), self.whose.namespace().map(|(_, name)| name.to_owned()));
        let (manager, now) = (self.asked.manager().to_owned(), super::now());
        let (validation, force) = (self.asked.options.validation, self.asked.options.force);
        let named_manager = self.asked.options.manager.clone();
        let is_definition = self.served.kind.resource() == definition::RESOURCE;
        let workflow = self.served.workflow().map(|of| (of, self.context.hook_client.clone()));
        let uid = daemon::fresh_uuid().to_string();
        let work = move || {
            let suffix: String = daemon::random_hex::<3>().chars().take(metadata::SUFFIX_LENGTH).collect();
            let writing = Writing { kind: &kind, manager: &manager, now: &now, validation, part };
            let place = write::Place { namespace: namespace.as_deref(), name: &name };
            let mut written = match (wish, &before) {
                (Wish::Create(object), _) => writing.create(object, place, &uid, &suffix)?,
                (Wish::Patch(Patch::Apply(wanted)), before) => {
                    let writing = Writing { manager: &named_manager, ..writing };
                    writing.apply(before.as_ref(), wanted, place, force, &uid)?
                }
                (Wish::Replace(object), Some(before)) => writing.update(before, object)?,
                (Wish::Patch(patch), Some(before)) => writing.patch(before, &patch)?,
                (Wish::Replace(_) | Wish::Patch(_), None) => {
                    return Err(Status::not_found(kind.about(&name)));
                }
            };
            if is_definition && part == Part::Main {
                Definition::read(&written.object)?;
                if let Some(before) = &before {
                    Definition::ensure_same_kind(before, &written.object)?;
                }
                definition::establish(&mut written.object, &now);
            }
            if let Some((of, client)) = workflow {
                workflows::check(of, &kind, &written.object, before.as_ref(), daemon::now())?;
                workflows::ensure_callable(of, &kind, &written.object, &client)?;
            }
            Ok(written)
        };
        let worked_out = tokio::task::spawn_blocking(work).await;
        let stopping = |_| {
            Failure(Status::new(
                Reason::ServiceUnavailable,
                "the root is stopping; try again when it is back",
            ))
        };
        Ok(worked_out.map_err(stopping)??)
    }

    /// Deletes one object.
    async fn delete(&self, name: &str) -> Answer {
        let options = &self.asked.options;
        for _ in 0..ATTEMPTS {
            let about = || self.kind().about(name);
            let (seen, shown) = self.seen(name).await.ok_or_else(|| Status::not_found(about()))?;
            ensure_preconditions(self.kind(), options, &shown)?;
            let uid = metadata::text(&shown, "uid").to_owned();
            if options.dry_run {
                return Ok(answered(StatusCode::OK, &success(&about(), &uid), &[]));
            }
            let (key, propagation, now) =
                (self.served.key(&self.whose, name), options.propagation, super::now());
            let delete =
                move |state: &root_core::State, _| state.delete_object(&key, &seen, propagation, &now);
            match self.context.brain.ask(delete).await? {
                Ok(Deleted::Gone(_)) => return Ok(answered(StatusCode::OK, &success(&about(), &uid), &[])),
                Ok(Deleted::Going(_)) => {
                    let object = self.seen(name).await.map_or(shown, |(_, shown)| shown);
                    return Ok(answered(StatusCode::OK, &object, &[]));
                }
                Err(ObjectRejected::Changed(_)) => {}
                Err(refused) => return Err(rejected(self.kind(), name, &refused).into()),
            }
        }
        Err(Status::modified(self.kind().about(name)).into())
    }
}

pub(super) fn ensure_preconditions(kind: &Kind, options: &Options, object: &Value) -> Result<(), Status> {
    let wanted =
        [("UID", "uid", &options.uid), ("ResourceVersion", "resourceVersion", &options.only_revision)];
    for (word, field, wanted) in wanted {
        let is = metadata::text(object, field);
        if let Some(wanted) = wanted.as_ref().filter(|wanted| wanted.as_str() != is) {
            let why =
                format!("Precondition failed: {word} in precondition: {wanted}, {word} in object meta: {is}");
            return Err(Status::conflict(kind.about(metadata::text(object, "name")), &why));
        }
    }
    Ok(())
}

/// Makes an object.
pub(super) async fn create(
    context: Context,
    caller: Caller,
    place: Place,
    asked: Asked,
    body: Bytes,
) -> Answer {
    let writer = Writer::new(context, caller, &place, "", asked, Verb::Create).await?;
    let object = write::read(writer.asked.content_type.as_deref(), &body)?;
    match writer.served.source {
        Source::Objects if writer.served.workflow() == Some(WorkflowKind::Run) => {
            workflows::fire(&writer, object).await
        }
        Source::Objects => writer.fulfil(&Wish::Create(object)).await,
        Source::Organizations => create_organization(writer, object).await,
        Source::View(view) => writer.fulfil_view(view, &Wish::Create(object)).await,
    }
}

/// Replaces an object, or its status.
pub(super) async fn replace(
    context: Context,
    caller: Caller,
    place: Place,
    name: &str,
    part: Part,
    asked: Asked,
    body: Bytes,
) -> Answer {
    let writer = Writer::new(context, caller, &place, name, asked, Verb::Update).await?;
    let writer = if part == Part::Status { writer.of_status()? } else { writer };
    let object = write::read(writer.asked.content_type.as_deref(), &body)?;
    writer.fulfil_any(&Wish::Replace(object)).await
}

/// Changes an object, or its status.
pub(super) async fn patch(
    context: Context,
    caller: Caller,
    place: Place,
    name: &str,
    part: Part,
    asked: Asked,
    body: Bytes,
) -> Answer {
    let writer = Writer::new(context, caller, &place, name, asked, Verb::Patch).await?;
    let writer = if part == Part::Status { writer.of_status()? } else { writer };
    let patch = Patch::read(writer.asked.content_type.as_deref().unwrap_or_default(), &body)?;
    writer.fulfil_any(&Wish::Patch(patch)).await
}

/// Sets how many there shall be of what an object stands for: in place of what is there, or of some of it.
pub(super) async fn rescale(
    context: Context,
    caller: Caller,
    place: Place,
    name: &str,
    verb: Verb,
    asked: Asked,
    body: Bytes,
) -> Answer {
    let writer = Writer::new(context, caller, &place, name, asked, verb).await?;
    scale::ensure_scale(&writer.served)?;
    let content_type = writer.asked.content_type.as_deref();
    let wish = if verb == Verb::Patch {
        Wish::Patch(Patch::read(content_type.unwrap_or_default(), &body)?)
    } else {
        Wish::Replace(write::read(content_type, &body)?)
    };
    scale::write(writer, wish).await
}

/// Deletes an object.
pub(super) async fn delete(
    context: Context,
    caller: Caller,
    place: Place,
    name: &str,
    mut asked: Asked,
    body: Bytes,
) -> Answer {
    let content_type = asked.content_type.take();
    asked.options.read_deletion(content_type.as_deref(), &body)?;
    let writer = Writer::new(context, caller, &place, name, asked, Verb::Delete).await?;
    match writer.served.source {
        Source::Objects => writer.delete(name).await,
        Source::Organizations => delete_organization(writer).await,
        Source::View(view) => writer.delete_viewed(view).await,
    }
}

/// Deletes all objects that are selected, one after another.
pub(super) async fn delete_all(
    context: Context,
    caller: Caller,
    place: Place,
    mut asked: Asked,
    body: Bytes,
) -> Answer {
    let content_type = asked.content_type.take();
    asked.options.read_deletion(content_type.as_deref(), &body)?;
    let writer = Writer::new(context, caller, &place, "", asked, Verb::DeleteCollection).await?;
    let options = &writer.asked.options;
    let selector = Selector::read(writer.kind(), &options.label_selector, &options.field_selector)?;
    if writer.whose == Whose::All {
        let message = "name the namespace in the path: those of all are not deleted at once";
        return Err(Status::new(Reason::MethodNotAllowed, message).into());
    }
    let (objects, revision) = {
        let state = writer.context.brain.read().await;
        let namespaces = rows::namespaces(&state);
        let rows = writer.served.rows(&state).into_iter();
        let rows = rows.filter(|row| writer.served.shows(&writer.caller, &writer.whose, row.owner()));
        let objects = rows.map(|row| writer.served.shown(&row, &namespaces));
        (objects.filter(|object| selector.admits(object)).collect::<Vec<_>>(), state.revision())
    };
    for object in &objects {
        match writer.delete(metadata::text(object, "name")).await {
            Err(Failure(status)) if status.reason != Reason::NotFound => return Err(Failure(status)),
            // Somebody else was faster.
            Ok(_) | Err(_) => {}
        }
    }
    let metadata = serde_json::json!({"resourceVersion": revision.to_string()});
    Ok(answered(StatusCode::OK, &writer.asked.form.list(writer.kind(), objects, metadata), &[]))
}

async fn create_organization(writer: Writer, object: Value) -> Answer {
    let kind = writer.kind();
    let (uid, now) = (String::new(), super::now());
    let place = write::Place { namespace: None, name: "" };
    let Written { object, warnings, .. } = writer.writing(&now).create(object, place, &uid, "")?;
    let name = metadata::text(&object, "name").to_owned();
    organizations::check_name(&name)?;
    let organization = Organization {
        id: daemon::fresh_organization_id(),
        name: name.clone(),
        members: std::collections::BTreeMap::new(),
        quota: Quota::default(),
    };
    if writer.asked.options.dry_run {
        if writer.context.brain.read().await.organization_named(&name).is_some() {
            return Err(Status::already_exists(kind.about(&name)).into());
        }
        return Ok(answered(StatusCode::CREATED, &writer.asked.form.one(kind, object), &warnings));
    }
    let rights = writer.caller.rights.clone();
    let made = writer
        .context
        .brain
        .ask(move |state, _| Ok::<_, PeopleRejected>(((), state.create_organization(&rights, organization)?)))
        .await?;
    match made {
        Ok(()) => {}
        Err(PeopleRejected::OrganizationExists(_)) => {
            return Err(Status::already_exists(kind.about(&name)).into());
        }
        Err(other) => return Err(Error::from(other).into()),
    }
    let state = writer.context.brain.read().await;
    let row = writer.served.row(&state, &writer.whose, &name);
    let object = row.map_or(object, |row| writer.served.shown(&row, &rows::namespaces(&state)));
    Ok(answered(StatusCode::CREATED, &writer.asked.form.one(kind, object), &warnings))
}

async fn delete_organization(writer: Writer) -> Answer {
    let about = || writer.kind().about(&writer.name);
    let id = writer.context.brain.read().await.organization_named(&writer.name).map(|it| it.id);
    let id = id.ok_or_else(|| Status::not_found(about()))?;
    let options = &writer.asked.options;
    if options.uid.as_ref().is_some_and(|uid| *uid != id.to_string()) {
        return Err(Status::conflict(about(), "Precondition failed: it has another UID").into());
    }
    if !options.dry_run {
        let rights = writer.caller.rights.clone();
        let delete = move |state: &root_core::State, _| {
            Ok::<_, PeopleRejected>(((), state.delete_organization(&rights, id)?))
        };
        writer.context.brain.ask(delete).await?.map_err(Error::from)?;
    }
    Ok(answered(StatusCode::OK, &success(&about(), &id.to_string()), &[]))
}

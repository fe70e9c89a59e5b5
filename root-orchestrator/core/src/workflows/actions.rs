//! What happens when a task has ended: what the root does by itself is done here, in the commit that says that it is done, so
//! it is done once. What others are asked to do over HTTP is in `calls.rs`.
//!
//! Guarantee: an action reaches what belongs to the organisation of its task, and nothing else. What is of another is to it as
//! if it were not there.

use ::audit::Actor;
use ::resources::{
    definition::Definition,
    write::{FieldValidation, Part, Writing},
};
use model::{Now, OrganizationId};
use serde_json::Value;
use workflow::{Action, CallId, Fact, FireCause, rfc3339};

use super::objects::key;
use crate::{Call, Change, Object, ObjectKey, Service, State, WorkflowKind, events::About, reconcile::Plan};

/// Who is said to own a status that an action has set.
const MANAGER: &str = "mangrove-workflows";

impl State {
    /// Does what an action says, or has it done. What is refused is not tried again.
    pub(super) fn act(
        &mut self,
        plan: &mut Plan,
        id: CallId,
        namespace: &str,
        action: &Action,
        now: Now,
    ) -> Option<Fact> {
        let organization = namespace.parse().ok()?;
        let done = match action {
            Action::Webhook { .. } | Action::Plugin { .. } => {
                self.workflows.calls.wait(organization, id);
                return None;
            }
            Action::RestartService { name } => {
                self.own_service(organization, name).map(|service| self.restart(service, now.date).1)
            }
            Action::ScaleService { name, replicas } => {
                self.own_service(organization, name).and_then(|service| {
                    let scaled = self.scale(service, *replicas, now.date);
                    scaled.map(|(_, changes)| changes).map_err(|rejected| rejected.to_string())
                })
            }
            Action::RollbackService { name } => self.own_service(organization, name).and_then(|service| {
                let back = self.roll_back(service, None);
                back.map(|(_, changes)| changes).map_err(|rejected| rejected.to_string())
            }),
            Action::SetStatus { resource, name, status } => {
                self.with_set_status(organization, resource, name, status, now)
            }
            Action::WriteEvent { reason, message } => {
                let about = self.about_task(organization, &id);
                self.events.write(about, reason.clone().into(), false, message.clone());
                Ok(Vec::new())
            }
            // The engine starts it.
            Action::RunTask { .. } => Ok(Vec::new()),
        };
        match done {
            Ok(changes) => {
                let call = self.call_of(organization, &id, action);
                let record =
                    if changes.is_empty() { Vec::new() } else { self.record(call, &changes, now.date) };
                for change in changes.into_iter().chain(record) {
                    self.change(plan, change);
                }
                Some(Fact::Called(id, Ok(())))
            }
            Err(refused) => {
                let about = self.about_task(organization, &id);
                let message = format!("{} was refused: {refused}", action.kind());
                self.events.write(about, "ActionRefused".into(), true, message);
                Some(Fact::Refused(id, refused))
            }
        }
    }

    /// As what the changes of an action are recorded: with what made its run begin, if that was an event.
    fn call_of(&self, organization: OrganizationId, id: &CallId, action: &Action) -> Call {
        let run = id.task_run.run;
        let mut parameters =
            vec![("delivery", id.to_string()), ("run", run.to_string()), ("task", id.task_run.task.clone())];
        let cause = self.workflow().run(run).map(|run| &run.cause);
        if let Some(FireCause::Event { number: _, event, name }) = cause {
            parameters.extend([("event", event.clone()), ("about", name.clone())]);
        }
        Call {
            actor: Actor::Root,
            parameters: parameters.into_iter().map(|(name, value)| (name.to_owned(), value)).collect(),
            organization: Some(organization),
            ..Call::of_root(&format!("action {} of a task", action.kind()))
        }
    }

    fn about_task(&self, organization: OrganizationId, id: &CallId) -> About {
        About::Object(key(WorkflowKind::Task, Some(organization), &id.task_run.task))
    }

    /// A service of that name, as clients of the resource API see it.
    fn own_service(&self, organization: OrganizationId, name: &str) -> Result<&Service, String> {
        let application = name.split('.').next().unwrap_or_default();
        let namesakes = self.by_name.get(application).into_iter().flatten();
        let own = namesakes.filter(|id| {
            self.application(**id).is_some_and(|application| application.organization == organization)
        });
        let mut services = own.flat_map(|id| self.services_of(*id));
        let found = services.find(|service| service.written_names().to_string() == name);
        let service = found
            .ok_or_else(|| format!("there is no service `{name}`; name it as `kubectl get services` does"))?;
        if service.attempt.is_some() {
            return Err(format!("`{name}` is an attempt of a task, and runs once"));
        }
        Ok(service)
    }

    /// A custom resource with another status. It is judged here and not before: one status takes little time, and so it is set
    /// in the commit that says so.
    fn with_set_status(
        &self,
        organization: OrganizationId,
        resource: &str,
        name: &str,
        status: &Value,
        now: Now,
    ) -> Result<Vec<Change>, String> {
        let definition = self.definition(resource).ok_or_else(|| {
            format!("no kind `{resource}` is defined; write plural and group, as in sensors.example.com")
        })?;
        let key = ObjectKey {
            resource: resource.to_owned(),
            organization: Some(organization),
            name: name.to_owned(),
        };
        let seen = self.object(&key).ok_or_else(|| format!("there is no object `{name}` of {resource}"))?;
        let content = restated(definition, &seen.content, status, now)?;
        let Some(content) = content else { return Ok(Vec::new()) };
        let object = Object { key: key.clone(), content: std::sync::Arc::new(content) };
        self.ensure_object_room(&object, Some(seen)).map_err(|rejected| rejected.to_string())?;
        Ok(vec![Change::Object(key, Some(object))])
    }
}

/// An object with that status; nothing if it has it already.
fn restated(
    definition: &Definition,
    content: &Value,
    status: &Value,
    now: Now,
) -> Result<Option<Value>, String> {
    let stored = definition.kinds.iter().find(|kind| kind.version == definition.storage_version);
    let kind = stored.or_else(|| definition.kinds.first()).ok_or("no version of its kind is served")?;
    let date = rfc3339(now.date);
    let writing = Writing {
        kind,
        manager: MANAGER,
        now: &date,
        validation: FieldValidation::Strict,
        part: Part::Status,
    };
    // As it is shown: a write names what it was made of.
    let mut before = content.clone();
    before["apiVersion"] = Value::from(kind.api_version());
    before["metadata"]["resourceVersion"] = Value::from("0");
    let mut wanted = before.clone();
    wanted["status"] = status.clone();
    let written = writing.update(&before, wanted).map_err(|refused| refused.message)?;
    if !written.is_changed {
        return Ok(None);
    }
    let mut object = written.object;
    object["apiVersion"] = content["apiVersion"].clone();
    if let Some(metadata) = object["metadata"].as_object_mut() {
        metadata.remove("resourceVersion");
    }
    Ok(Some(object))
}

//! What users ask for: tasks, ignitors and runs of their organisation.

use model::{Now, OrganizationId};
use serde_json::Value;
use workflow::{CallIn, CalledIn, Cause, CauseReason, Ignitor, ObjectName, Rejected, Run, RunId, Workflow};

use super::objects::{read_ignitor, read_task};
use crate::{Change, ObjectKey, ObjectRejected, Seen, State};

/// Something that was understood.
#[derive(Debug, Clone, PartialEq)]
pub struct Accepted {
    /// What it is called.
    pub name: ObjectName,
    /// What is odd about it and may be right later.
    pub warnings: Vec<Cause>,
}

/// What may be asked of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RunWish {
    /// Stop all of it; one that is over is not.
    Cancel,
    /// Try again what failed in it; not while it is in progress, nor if nothing failed.
    Retry,
}

impl State {
    /// Tasks, ignitors and runs of all organisations. The namespace of each is the id of its organisation.
    #[must_use]
    pub const fn workflow(&self) -> &Workflow {
        &self.workflows.engine
    }

    /// Forgets all tasks, ignitors and runs of an organisation.
    pub(crate) fn remove_workflows(&self, organization: OrganizationId) -> Vec<Change> {
        ours(self.workflow().remove_namespace(&organization.to_string()))
    }

    /// Makes a task, or changes it.
    ///
    /// # Errors
    /// All that is wrong with the document.
    pub fn set_task(
        &self,
        organization: OrganizationId,
        document: &Value,
    ) -> Result<(Accepted, Vec<Change>), Vec<Cause>> {
        let spec = read_task(document)?;
        let name = named(organization, document)?;
        let warnings = self.workflow().warnings(&name.namespace, &name.name, &spec);
        let changes = ours(self.workflow().set_task(name.clone(), spec));
        Ok((Accepted { name, warnings }, changes))
    }

    /// What is odd about a task and may be right later; nothing if it is not one.
    #[must_use]
    pub fn warnings_of_task(&self, organization: OrganizationId, document: &Value) -> Vec<Cause> {
        let Some((name, spec)) = named(organization, document).ok().zip(read_task(document).ok()) else {
            return Vec::new();
        };
        self.workflow().warnings(&name.namespace, &name.name, &spec)
    }

    /// Forgets a task. What has begun goes on.
    #[must_use]
    pub fn remove_task(&self, organization: OrganizationId, name: &str) -> Vec<Change> {
        ours(self.workflow().remove_task(&own(organization, name)))
    }

    /// Makes an ignitor, or changes it.
    ///
    /// # Errors
    /// All that is wrong with the document.
    pub fn set_ignitor(
        &self,
        organization: OrganizationId,
        document: &Value,
        now: Now,
    ) -> Result<(Accepted, Vec<Change>), Vec<Cause>> {
        let name = named(organization, document)?;
        let before = self.workflow().ignitor(&name).map(|ignitor| &*ignitor.spec);
        let spec = read_ignitor(document, before, now.date)?;
        let changes = ours(self.workflow().set_ignitor(name.clone(), spec, now));
        Ok((Accepted { name, warnings: Vec::new() }, changes))
    }

    /// Forgets an ignitor. Its runs go on.
    #[must_use]
    pub fn remove_ignitor(&self, organization: OrganizationId, name: &str) -> Vec<Change> {
        ours(self.workflow().remove_ignitor(&own(organization, name)))
    }

    /// Has an ignitor fire.
    ///
    /// # Errors
    /// When there is none, or the data is not valid.
    pub fn fire(
        &self,
        organization: OrganizationId,
        name: &str,
        data: Option<String>,
        now: Now,
    ) -> Result<(RunId, Vec<Change>), Rejected> {
        let (run, changes) = self.workflow().fire(&own(organization, name), data, now)?;
        Ok((run, ours(changes)))
    }

    /// An ignitor of an organisation.
    #[must_use]
    pub fn ignitor_of(&self, organization: OrganizationId, name: &str) -> Option<&Ignitor> {
        self.workflow().ignitor(&own(organization, name))
    }

    /// Somebody outside calls an ignitor, and has proved to know its secret.
    ///
    /// # Errors
    /// When it takes no such call.
    pub fn call_in(
        &self,
        organization: OrganizationId,
        name: &str,
        call: CallIn,
        now: Now,
    ) -> Result<(CalledIn, Vec<Change>), Rejected> {
        let (came, changes) = self.workflow().call_in(&own(organization, name), call, now)?;
        Ok((came, ours(changes)))
    }

    /// A run of an organisation.
    ///
    /// # Errors
    /// When it has none of that number.
    pub fn run_of(&self, organization: OrganizationId, id: RunId) -> Result<&Run, Rejected> {
        let run = self.workflow().run(id).filter(|run| run.ignitor.namespace == organization.to_string());
        run.ok_or_else(|| Rejected::None { kind: "run", name: id.to_string() })
    }

    /// Does what is asked of a run.
    ///
    /// # Errors
    /// When there is none, or see [`RunWish`].
    pub fn ask_of_run(
        &self,
        organization: OrganizationId,
        id: RunId,
        wish: RunWish,
        now: Now,
    ) -> Result<Vec<Change>, Rejected> {
        self.run_of(organization, id)?;
        let changes = match wish {
            RunWish::Cancel => self.workflow().cancel(id, now),
            RunWish::Retry => self.workflow().retry(id, now),
        };
        changes.map(ours)
    }

    /// Gives the object of a run another content, made of what it was when it was `seen`, and does what that asks for:
    /// `spec.cancel` stops it, and a greater `spec.retries` has what failed in it tried again.
    ///
    /// # Errors
    /// When it is not that any more, or that cannot be done.
    pub fn update_run(
        &self,
        key: ObjectKey,
        seen: &Seen,
        content: Value,
        now: Now,
    ) -> Result<((), Vec<Change>), ObjectRejected> {
        let asks_to_cancel = |object: &Value| object["spec"]["cancel"] == true;
        let retries = |object: &Value| object["spec"]["retries"].as_u64().unwrap_or_default();
        let is_cancelled = asks_to_cancel(&content) && !asks_to_cancel(&seen.content);
        let is_retried = retries(&content) > retries(&seen.content);
        let run = key.organization.zip(key.name.parse().ok().map(RunId));
        let ((), mut changes) = self.update_object(key, seen, content)?;
        let retried = is_retried.then_some(RunWish::Retry);
        let wish = if is_cancelled { Some(RunWish::Cancel) } else { retried };
        if let (Some((organization, run)), Some(wish)) = (run, wish) {
            changes.extend(self.ask_of_run(organization, run, wish, now).map_err(ObjectRejected::Run)?);
        }
        Ok(((), changes))
    }

    /// Forgets a run that is over.
    ///
    /// # Errors
    /// When there is none, or it is in progress.
    pub fn remove_run(&self, organization: OrganizationId, id: RunId) -> Result<Vec<Change>, Rejected> {
        self.run_of(organization, id)?;
        self.workflow().remove_run(id).map(ours)
    }
}

fn own(organization: OrganizationId, name: &str) -> ObjectName {
    ObjectName::new(organization.to_string(), name)
}

fn named(organization: OrganizationId, document: &Value) -> Result<ObjectName, Vec<Cause>> {
    match document.pointer("/metadata/name").and_then(Value::as_str) {
        Some(name) if !name.is_empty() => Ok(own(organization, name)),
        Some(_) | None => Err(vec![Cause {
            field: "metadata.name".to_owned(),
            reason: CauseReason::Required,
            message: "is missing: say what it is called".to_owned(),
        }]),
    }
}

pub(super) fn ours(changes: Vec<workflow::Change>) -> Vec<Change> {
    changes.into_iter().map(Change::Workflow).collect()
}

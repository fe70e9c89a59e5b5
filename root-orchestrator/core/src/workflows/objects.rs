//! Tasks, ignitors and runs as objects of the resource API. Users write objects, and the engine takes them on here; how its
//! things are is written back into their status (`status.rs`).
//!
//! Guarantee: what the engine has of tasks and ignitors follows from their objects, so one that is kept is taken on whenever
//! the root ends. Runs are the engine's: it makes their objects.

use std::collections::BTreeMap;

use ::resources::metadata;
use model::{Now, OrganizationId, Timestamp};
use serde_json::Value;
use workflow::{Cause, CauseReason, IgnitorSpec, ObjectName, RunId, TaskSpec};

use super::{OurSchemas, placement::placement, status, triggers, wishes::ours};
use crate::{Change, Object, ObjectKey, State, reconcile::Plan};

/// The kinds of workflows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum WorkflowKind {
    /// What runs.
    Task,
    /// When something begins.
    Ignitor,
    /// What followed from one firing.
    Run,
    /// Who is asked to do what the root does not do by itself.
    Plugin,
}

impl WorkflowKind {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Task, Self::Ignitor, Self::Run, Self::Plugin];
    /// Their group.
    pub const GROUP: &'static str = "sirocco.cloud";
    /// Their version.
    pub const VERSION: &'static str = "v1alpha1";

    /// As it is in paths.
    #[must_use]
    pub const fn plural(self) -> &'static str {
        match self {
            Self::Task => "tasks",
            Self::Ignitor => "ignitors",
            Self::Run => "runs",
            Self::Plugin => "plugins",
        }
    }

    /// Plural and group, as in the keys of objects.
    #[must_use]
    pub fn resource(self) -> String {
        ::resources::kind::resource(self.plural(), Self::GROUP)
    }

    /// The kind of an object, if it is one of these.
    #[must_use]
    pub fn of(resource: &str) -> Option<Self> {
        let (plural, group) = resource.split_once('.')?;
        Self::ALL.into_iter().find(|kind| group == Self::GROUP && plural == kind.plural())
    }

    /// Looks at an object that is to take the place of `before`.
    ///
    /// # Errors
    /// All that is wrong with it.
    pub fn check(self, object: &Value, before: Option<&Value>, now: Timestamp) -> Result<(), Vec<Cause>> {
        match self {
            Self::Task => read_task(object).map(drop),
            Self::Ignitor => {
                let before = before.and_then(|before| IgnitorSpec::parse(before, None, Timestamp(0)).ok());
                read_ignitor(object, before.as_ref(), now).map(drop)
            }
            Self::Run => {
                let Some(before) = before else {
                    // Whoever applies one names it, and nothing would run.
                    return Err(vec![Cause {
                        field: "metadata.name".to_owned(),
                        reason: CauseReason::Invalid,
                        message: "runs are numbered by the root: create one without a name".to_owned(),
                    }]);
                };
                let is_other = |field: &&str| before["spec"][*field] != object["spec"][*field];
                let causes: Vec<Cause> = ["ignitor", "data"]
                    .into_iter()
                    .filter(is_other)
                    .map(|field| Cause {
                        field: format!("spec.{field}"),
                        reason: CauseReason::Invalid,
                        message: "cannot be changed: the run has begun with it".to_owned(),
                    })
                    .collect();
                if causes.is_empty() { Ok(()) } else { Err(causes) }
            }
            // What its schema says is all there is, but for where its URL leads.
            Self::Plugin => Ok(()),
        }
    }
}

/// What a document says of a task.
pub(super) fn read_task(document: &Value) -> Result<TaskSpec, Vec<Cause>> {
    let spec = TaskSpec::parse(document, &OurSchemas)?;
    placement(&spec)?;
    Ok(spec)
}

/// What a document that is to take the place of `before` says of an ignitor.
pub(super) fn read_ignitor(
    document: &Value,
    before: Option<&IgnitorSpec>,
    now: Timestamp,
) -> Result<IgnitorSpec, Vec<Cause>> {
    let spec = IgnitorSpec::parse(document, before, now)?;
    let unknown = (0..).zip(&spec.on).filter(|(_, selector)| !triggers::is_known(&selector.event));
    let causes: Vec<Cause> = unknown
        .map(|(index, selector): (usize, _)| Cause {
            field: format!("spec.on[{index}].event"),
            reason: CauseReason::Invalid,
            message: format!(
                "nothing is called \"{}\"; there are {}",
                selector.event.chars().take(60).collect::<String>(),
                triggers::known()
            ),
        })
        .collect();
    if causes.is_empty() { Ok(spec) } else { Err(causes) }
}

/// What is to be looked at, since something of it has changed.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Stirred {
    Task(ObjectName),
    Ignitor(ObjectName),
    Run(RunId),
}

/// What is remembered of the objects. Follows from them.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// Written or removed since they were last looked at.
    written: std::collections::BTreeSet<ObjectKey>,
    /// As which object and generation each was last taken on.
    taken_on: BTreeMap<ObjectKey, (String, i64)>,
    /// The objects of runs.
    runs: BTreeMap<RunId, ObjectKey>,
}

impl Seen {
    pub(super) fn take(&mut self, key: &ObjectKey, is_there: bool) {
        let Some(kind) = WorkflowKind::of(&key.resource) else { return };
        if let (WorkflowKind::Run, Ok(number)) = (kind, key.name.parse()) {
            match is_there {
                true => drop(self.runs.insert(RunId(number), key.clone())),
                false => drop(self.runs.remove(&RunId(number))),
            }
        }
        self.written.insert(key.clone());
    }
}

impl State {
    pub(crate) fn take_object(&mut self, key: ObjectKey, object: Option<Object>) {
        self.workflows.seen.take(&key, object.is_some());
        self.overhear_object(&key, object.as_ref());
        self.objects.take(key, object);
    }

    /// Has the engine take on what was written of tasks and ignitors.
    pub(super) fn take_on_objects(&mut self, plan: &mut Plan, now: Now) {
        for key in std::mem::take(&mut self.workflows.seen.written) {
            let Some((kind, organization)) = WorkflowKind::of(&key.resource).zip(key.organization) else {
                continue;
            };
            let was_there = self.is_in_the_engine(kind, organization, &key.name);
            for change in self.taken_on(kind, organization, &key, now) {
                self.change(plan, change);
            }
            if was_there != self.is_in_the_engine(kind, organization, &key.name) {
                self.stir_those_who_list(organization, &key.name);
            }
            self.stir(kind, organization, &key.name);
        }
    }

    fn is_in_the_engine(&self, kind: WorkflowKind, organization: OrganizationId, name: &str) -> bool {
        let name = ObjectName::new(organization.to_string(), name);
        match kind {
            WorkflowKind::Task => self.workflow().task(&name).is_some(),
            WorkflowKind::Ignitor => self.workflow().ignitor(&name).is_some(),
            WorkflowKind::Run | WorkflowKind::Plugin => false,
        }
    }

    fn taken_on(
        &mut self,
        kind: WorkflowKind,
        organization: OrganizationId,
        key: &ObjectKey,
        now: Now,
    ) -> Vec<Change> {
        let content = self.object(key).map(|seen| std::sync::Arc::clone(&seen.content));
        let Some(content) = content else {
            self.workflows.seen.taken_on.remove(key);
            return self.removed(kind, organization, &key.name);
        };
        let uid = metadata::text(&content, "uid").to_owned();
        let is = (uid, content["metadata"]["generation"].as_i64().unwrap_or_default());
        let before = self.workflows.seen.taken_on.insert(key.clone(), is.clone());
        if before.as_ref() == Some(&is) {
            return Vec::new();
        }
        // Another of the same name begins anew.
        let is_another = before.is_some_and(|(uid, _)| uid != is.0);
        let mut changes = if is_another { self.removed(kind, organization, &key.name) } else { Vec::new() };
        let name = ObjectName::new(organization.to_string(), &key.name);
        match kind {
            WorkflowKind::Task => {
                let known = self.workflow().task(&name).filter(|_| !is_another);
                // One that an older version had taken and this one does not stays as it is.
                if let Ok(spec) = read_task(&content)
                    && known.is_none_or(|known| *known.spec != spec)
                {
                    changes.extend(ours(self.workflow().set_task(name, spec)));
                }
            }
            WorkflowKind::Ignitor => {
                let known = self.workflow().ignitor(&name).filter(|_| !is_another);
                // Whether its date is past was asked when it was written.
                if let Ok(spec) = IgnitorSpec::parse(&content, None, Timestamp(0))
                    && known.is_none_or(|known| *known.spec != spec)
                {
                    changes.extend(ours(self.workflow().set_ignitor(name, spec, now)));
                }
            }
            WorkflowKind::Run | WorkflowKind::Plugin => {}
        }
        changes
    }

    /// What goes from the engine with an object.
    fn removed(&self, kind: WorkflowKind, organization: OrganizationId, name: &str) -> Vec<Change> {
        match kind {
            WorkflowKind::Task => self.remove_task(organization, name),
            WorkflowKind::Ignitor => self.remove_ignitor(organization, name),
            WorkflowKind::Run => {
                let run = name.parse().ok().map(RunId);
                run.and_then(|run| self.remove_run(organization, run).ok()).unwrap_or_default()
            }
            WorkflowKind::Plugin => Vec::new(),
        }
    }

    fn stir(&mut self, kind: WorkflowKind, organization: OrganizationId, name: &str) {
        let named = ObjectName::new(organization.to_string(), name);
        let stirred = match kind {
            WorkflowKind::Task => Stirred::Task(named),
            WorkflowKind::Ignitor => Stirred::Ignitor(named),
            WorkflowKind::Run => match name.parse() {
                Ok(number) => Stirred::Run(RunId(number)),
                Err(_) => return,
            },
            WorkflowKind::Plugin => return,
        };
        self.workflows.stirred.insert(stirred);
    }

    /// Those who wait for something are told of whether it is there.
    fn stir_those_who_list(&mut self, organization: OrganizationId, name: &str) {
        let namespace = organization.to_string();
        let lists = |spec: &TaskSpec| {
            [&spec.start_on_ignition, &spec.start_on_success, &spec.start_on_failure]
                .into_iter()
                .any(|names| names.contains(name))
        };
        let tasks = self.workflow().tasks();
        let concerned = tasks.filter(|task| task.name.namespace == namespace && lists(&task.spec));
        let concerned: Vec<Stirred> = concerned.map(|task| Stirred::Task(task.name.clone())).collect();
        self.workflows.stirred.extend(concerned);
    }

    /// Writes how things are into their objects.
    pub(crate) fn show_workflows(&mut self, plan: &mut Plan, now: Now) {
        self.look_for_obstacles();
        for stirred in std::mem::take(&mut self.workflows.stirred) {
            for change in self.shown(&stirred, now) {
                self.change(plan, change);
            }
        }
    }

    fn shown(&self, stirred: &Stirred, now: Now) -> Vec<Change> {
        match stirred {
            Stirred::Task(name) => {
                let Some(task) = self.workflow().task(name) else { return Vec::new() };
                let shown = |before: &Value| status::of_task(self.workflow(), task, before, now.date);
                self.with_status(WorkflowKind::Task, name, shown)
            }
            Stirred::Ignitor(name) => {
                let Some(ignitor) = self.workflow().ignitor(name) else { return Vec::new() };
                self.with_status(WorkflowKind::Ignitor, name, |before| status::of_ignitor(ignitor, before))
            }
            Stirred::Run(id) => match self.workflow().run(*id) {
                Some(run) => {
                    let organization = run.ignitor.namespace.parse().ok();
                    let key = key(WorkflowKind::Run, organization, &id.to_string());
                    let before = self.object(&key).map(|seen| &*seen.content);
                    let content = status::run(&self.workflows, run, before);
                    written(key, before, content)
                }
                None => match self.workflows.seen.runs.get(id) {
                    Some(key) => self.withdraw_object(key, &workflow::rfc3339(now.date)),
                    None => Vec::new(),
                },
            },
        }
    }

    fn with_status(
        &self,
        kind: WorkflowKind,
        name: &ObjectName,
        status: impl FnOnce(&Value) -> Value,
    ) -> Vec<Change> {
        let key = key(kind, name.namespace.parse().ok(), &name.name);
        let Some(before) = self.object(&key).map(|seen| &*seen.content) else { return Vec::new() };
        let mut content = before.clone();
        content["status"] = status(before);
        written(key, Some(before), content)
    }

    /// All of it is looked at: nobody knows what was still to be looked at when the process before this one ended.
    pub(super) fn stir_all(&mut self) {
        let engine = &self.workflows.engine;
        let tasks = engine.tasks().map(|task| Stirred::Task(task.name.clone()));
        let ignitors = engine.ignitors().map(|ignitor| Stirred::Ignitor(ignitor.name.clone()));
        let runs = engine.runs().map(|run| Stirred::Run(run.id));
        let forgotten = self.workflows.seen.runs.keys().map(|id| Stirred::Run(*id));
        let all: Vec<Stirred> = tasks.chain(ignitors).chain(runs).chain(forgotten).collect();
        self.workflows.stirred.extend(all);
    }
}

pub(super) fn key(kind: WorkflowKind, organization: Option<OrganizationId>, name: &str) -> ObjectKey {
    ObjectKey { resource: kind.resource(), organization, name: name.to_owned() }
}

fn written(key: ObjectKey, before: Option<&Value>, content: Value) -> Vec<Change> {
    if before == Some(&content) {
        return Vec::new();
    }
    let object = Object { key: key.clone(), content: std::sync::Arc::new(content) };
    vec![Change::Object(key, Some(object))]
}

//! What has happened, for the ignitors that wait for it: the events that clients are told of (`events.rs`), and that custom
//! resources are made, changed and deleted.
//!
//! Guarantee: the run that an event leads to is in the commit of what it tells of, so neither is there without the other. What
//! happens to attempts of tasks is no event here: their ends start tasks by themselves, and they would start themselves.

use std::collections::BTreeMap;

use model::{Now, OrganizationId};
use serde_json::Value;
use workflow::{Event, Fact};

use crate::{
    Change, Document, Notes, Object, ObjectKey, Service, State, WorkflowKind,
    events::{About, Noted},
    reconcile::Plan,
};

const RESOURCE_CREATED: &str = "resource.created";
const RESOURCE_CHANGED: &str = "resource.changed";
const RESOURCE_DELETED: &str = "resource.deleted";
/// Before the reason of an event that is about a task.
const OF_TASK: &str = "task.";
/// All that ignitors may wait for, but for what tasks write.
const KNOWN: [&str; 19] = [
    "instance.scheduled",
    "instance.started",
    "instance.completed",
    "instance.removed",
    "instance.restarted",
    "instance.failedScheduling",
    "instance.failed",
    "instance.dead",
    "instance.lost",
    "service.rolloutStarted",
    "service.rolloutFinished",
    "service.rolloutStalled",
    "service.rolledBack",
    "cluster.joined",
    "cluster.silent",
    "cluster.heard",
    RESOURCE_CREATED,
    RESOURCE_CHANGED,
    RESOURCE_DELETED,
];

/// Whether something of that kind happens.
pub(super) fn is_known(event: &str) -> bool {
    KNOWN.contains(&event) || event.strip_prefix(OF_TASK).is_some_and(|reason| !reason.is_empty())
}

/// All kinds, for people.
pub(super) fn known() -> String {
    format!("{} and {OF_TASK}REASON", KNOWN.join(", "))
}

impl State {
    /// Has ignitors fire that wait for what has happened since this was last asked; whether any did.
    pub(crate) fn fire_at_events(&mut self, plan: &mut Plan, now: Now) -> bool {
        let mut fired = false;
        for event in self.awaited_events(now) {
            let event = Event { number: self.workflow().next_event(), ..event };
            for change in self.workflows.engine.observe(Fact::Happened(event), now) {
                fired = true;
                self.change(plan, Change::Workflow(change));
            }
        }
        fired
    }

    fn awaited_events(&mut self, now: Now) -> Vec<Event> {
        let of_objects = std::mem::take(&mut self.workflows.happened);
        let noted = self.events.news();
        if !self.workflow().awaits_any() {
            return Vec::new();
        }
        let noted = noted.iter().filter_map(|noted| self.event_of(noted, now));
        let events = noted.chain(of_objects.into_iter().map(|event| Event { at: now.date, ..event }));
        events.filter(|event| self.workflow().awaits(&event.namespace, &event.event)).collect()
    }

    fn event_of(&self, noted: &Noted, now: Now) -> Option<Event> {
        let (organization, name) = self.involved(&noted.about)?;
        let own = |service: &Service| (service.attempt.is_none()).then(|| labels_of(&service.notes));
        let (kind, part_of, labels) = match &noted.about {
            About::Document(Document::Instance(id)) => {
                let service = self.services.get(&id.service)?;
                ("Instance", Some(service.written_names().to_string()), own(service)?)
            }
            About::Document(Document::Service(id)) => ("Service", None, own(self.services.get(id)?)?),
            About::Document(Document::Cluster(_)) => ("Cluster", None, BTreeMap::new()),
            About::Object(key) if WorkflowKind::of(&key.resource) == Some(WorkflowKind::Task) => {
                let task = self.object(key).map(|seen| texts(&seen.content["metadata"]["labels"]));
                ("Task", None, task.unwrap_or_default())
            }
            About::Document(Document::Application(_) | Document::Organization(_)) | About::Object(_) => {
                return None;
            }
        };
        Some(Event {
            number: 0,
            namespace: organization.to_string(),
            event: event_name(kind, &noted.reason),
            kind: kind.to_owned(),
            name,
            part_of,
            labels,
            message: noted.message.clone(),
            at: now.date,
        })
    }

    /// Notes what becomes of a custom resource. To be called before it is applied.
    pub(super) fn overhear_object(&mut self, key: &ObjectKey, after: Option<&Object>) {
        if !self.workflow().awaits_any() || self.definition(&key.resource).is_none() {
            return;
        }
        let Some(organization) = key.organization.or(self.root_organization) else { return };
        let before = self.object(key).map(|seen| &*seen.content);
        let after = after.map(|object| &*object.content);
        let (event, content) = match (before, after) {
            (None, Some(content)) => (RESOURCE_CREATED, content),
            (Some(before), Some(content)) if before != content => (RESOURCE_CHANGED, content),
            (Some(content), None) => (RESOURCE_DELETED, content),
            (Some(_), Some(_)) | (None, None) => return,
        };
        let happened = event_about(organization, event, key, content);
        self.workflows.happened.push(happened);
    }
}

fn event_about(organization: OrganizationId, event: &str, key: &ObjectKey, content: &Value) -> Event {
    Event {
        number: 0,
        namespace: organization.to_string(),
        event: event.to_owned(),
        kind: content["kind"].as_str().unwrap_or_default().to_owned(),
        name: key.name.clone(),
        part_of: None,
        labels: texts(&content["metadata"]["labels"]),
        message: String::new(),
        at: model::Timestamp(0),
    }
}

/// `instance.failedScheduling`; what tasks write stays as it is.
fn event_name(kind: &str, reason: &str) -> String {
    if kind == "Task" {
        return format!("{OF_TASK}{reason}");
    }
    let mut letters = reason.chars();
    let first = letters.next().map(|letter| letter.to_ascii_lowercase());
    format!("{}.{}{}", kind.to_lowercase(), first.map(String::from).unwrap_or_default(), letters.as_str())
}

fn labels_of(notes: &Notes) -> BTreeMap<String, String> {
    notes.fields().find(|(field, _)| *field == "labels").map(|(_, labels)| texts(labels)).unwrap_or_default()
}

fn texts(labels: &Value) -> BTreeMap<String, String> {
    let labels = labels.as_object().into_iter().flatten();
    labels.filter_map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned()))).collect()
}

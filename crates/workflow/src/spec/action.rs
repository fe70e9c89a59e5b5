//! What happens when a task has ended, besides the tasks that start.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{
    CauseReason, Causes, is_name,
    object::{Object, cut, shown, text},
};

/// Actions in one list.
const MOST_ACTIONS: usize = 16;
/// Bytes of a URL.
const MOST_URL_BYTES: usize = 2048;
/// Bytes of what a plugin is given, or a status is set to.
const MOST_VALUE_BYTES: usize = 64 << 10;
/// Bytes of the name of a service, which has four parts.
const MOST_SERVICE_BYTES: usize = 255;
/// Bytes of the message of an event: no more is kept.
const MOST_MESSAGE_BYTES: usize = 500;
/// Instances a service may be scaled to.
const MOST_REPLICAS: u32 = 10_000;

/// Something that is done when a task has ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Action {
    /// Tell a URL.
    #[serde(rename_all = "camelCase")]
    Webhook {
        /// Where.
        url: String,
        /// The secret of the organisation that it is signed with.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        secret: Option<String>,
    },
    /// Start a task of the same namespace in the same run, whatever it lists.
    RunTask {
        /// Which.
        name: String,
    },
    /// Replace the instances of a service by new ones.
    RestartService {
        /// Which.
        name: String,
    },
    /// Give a service so many instances.
    ScaleService {
        /// Which.
        name: String,
        /// How many.
        replicas: u32,
    },
    /// Take a service back to its revision before.
    RollbackService {
        /// Which.
        name: String,
    },
    /// Set the status of a custom resource.
    SetStatus {
        /// Plural and group of its kind, such as `sensors.example.com`.
        resource: String,
        /// Which.
        name: String,
        /// What to.
        status: Value,
    },
    /// Note an event about the task.
    WriteEvent {
        /// One word.
        reason: String,
        /// A sentence.
        message: String,
    },
    /// Ask a plugin.
    Plugin {
        /// The name it is registered with.
        name: String,
        /// What it is given besides what happened.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        with: Option<Value>,
    },
}

impl Action {
    /// What it is called where it is written.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Webhook { .. } => "webhook",
            Self::RunTask { .. } => "runTask",
            Self::RestartService { .. } => "restartService",
            Self::ScaleService { .. } => "scaleService",
            Self::RollbackService { .. } => "rollbackService",
            Self::SetStatus { .. } => "setStatus",
            Self::WriteEvent { .. } => "writeEvent",
            Self::Plugin { .. } => "plugin",
        }
    }
}

/// The actions of a list. A name alone is that of a plugin.
pub(super) fn actions(object: &mut Object<'_>, field: &'static str, causes: &mut Causes) -> Vec<Action> {
    let entries = object.list(field, MOST_ACTIONS, causes);
    entries.into_iter().filter_map(|(path, value)| action(&path, value, causes)).collect()
}

fn action(path: &str, value: &Value, causes: &mut Causes) -> Option<Action> {
    const KINDS: &str =
        "webhook, runTask, restartService, scaleService, rollbackService, setStatus, writeEvent or plugin";
    if value.is_string() {
        let name = text(path, value, usize::MAX, causes)?;
        if name.is_empty() || name.len() > MOST_SERVICE_BYTES {
            causes.invalid(path, &format!("must name a plugin by 1 to {MOST_SERVICE_BYTES} bytes"));
            return None;
        }
        return Some(Action::Plugin { name: name.to_owned(), with: None });
    }
    let Some(fields) = value.as_object() else {
        let message = format!("must be the name of a plugin or one of {KINDS}, but is {}", shown(value));
        causes.add(CauseReason::TypeInvalid, path, &message);
        return None;
    };
    let Some((kind, what)) = fields.iter().next().filter(|_| fields.len() == 1) else {
        causes.invalid(path, &format!("must have one field: {KINDS}"));
        return None;
    };
    let path = format!("{path}.{}", cut(kind));
    let read = match kind.as_str() {
        "webhook" => webhook,
        "runTask" => run_task,
        "restartService" | "scaleService" | "rollbackService" => service,
        "setStatus" => set_status,
        "writeEvent" => write_event,
        "plugin" => plugin,
        _ => {
            causes.add(CauseReason::Unknown, &path, &format!("is an unknown action; there are {KINDS}"));
            return None;
        }
    };
    let mut object = Object::of(&path, what, causes)?;
    let action = read(kind, &mut object, causes);
    object.finish(causes);
    action
}

fn webhook(_: &str, object: &mut Object<'_>, causes: &mut Causes) -> Option<Action> {
    let url = object.needed_text("url", MOST_URL_BYTES, "say where", causes);
    let secret = object.text("secret", MOST_SERVICE_BYTES, causes).map(str::to_owned);
    let url = url?;
    if !url.starts_with("https://") && !url.starts_with("http://") {
        causes.invalid(&object.path_of("url"), "must begin with https:// or http://");
        return None;
    }
    Some(Action::Webhook { url: url.to_owned(), secret })
}

fn run_task(_: &str, object: &mut Object<'_>, causes: &mut Causes) -> Option<Action> {
    let name = object.needed_text("name", usize::MAX, "say which task", causes)?;
    if !is_name(name) {
        causes.invalid(
            &object.path_of("name"),
            &format!("must be the name of a task, but is \"{}\"", cut(name)),
        );
        return None;
    }
    Some(Action::RunTask { name: name.to_owned() })
}

fn service(kind: &str, object: &mut Object<'_>, causes: &mut Causes) -> Option<Action> {
    let name = object.needed_text("name", MOST_SERVICE_BYTES, "say which service", causes).map(str::to_owned);
    match kind {
        "restartService" => Some(Action::RestartService { name: name? }),
        "rollbackService" => Some(Action::RollbackService { name: name? }),
        _ => {
            if !object.has("replicas") {
                causes.required(&object.path_of("replicas"), "say how many instances");
            }
            let replicas = object.number("replicas", 0..=MOST_REPLICAS, causes);
            Some(Action::ScaleService { name: name?, replicas: replicas? })
        }
    }
}

fn set_status(_: &str, object: &mut Object<'_>, causes: &mut Causes) -> Option<Action> {
    let resource =
        object.needed_text("resource", MOST_SERVICE_BYTES, "say which type", causes).map(str::to_owned);
    let name =
        object.needed_text("name", MOST_SERVICE_BYTES, "say which resource", causes).map(str::to_owned);
    if !object.has("status") {
        causes.required(&object.path_of("status"), "say what it becomes");
    }
    let status = bounded(object, "status", causes);
    Some(Action::SetStatus { resource: resource?, name: name?, status: status? })
}

fn write_event(_: &str, object: &mut Object<'_>, causes: &mut Causes) -> Option<Action> {
    let reason = object.needed_text("reason", 128, "say in a word what happened", causes).map(str::to_owned);
    let message = object.text("message", MOST_MESSAGE_BYTES, causes).unwrap_or_default().to_owned();
    Some(Action::WriteEvent { reason: reason?, message })
}

fn plugin(_: &str, object: &mut Object<'_>, causes: &mut Causes) -> Option<Action> {
    let name = object.needed_text("name", MOST_SERVICE_BYTES, "say which plugin", causes).map(str::to_owned);
    let with = bounded(object, "with", causes);
    Some(Action::Plugin { name: name?, with })
}

fn bounded(object: &mut Object<'_>, field: &'static str, causes: &mut Causes) -> Option<Value> {
    let value = object.take(field)?;
    let bytes = value.to_string().len();
    if bytes > MOST_VALUE_BYTES {
        let message = format!("must have at most {MOST_VALUE_BYTES} bytes as JSON, but has {bytes}");
        causes.add(CauseReason::TooLong, &object.path_of(field), &message);
        return None;
    }
    Some(value.clone())
}

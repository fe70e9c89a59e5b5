//! What has happened, as objects of the core group: `kubectl get events`, and what `kubectl describe` shows below.

use std::sync::Arc;

use ::resources::{
    Kind,
    kind::{Column, ColumnType, Names, Verb},
    structure::Structure,
};
use model::Timestamp;
use root_core::{About, Document, Event, State as Truth};
use serde_json::{Value, json};

use super::{super::rfc3339, rows::Row, views::GROUP};

/// The kind of events.
pub(super) fn kind() -> Kind {
    let text = |name: &str, path: &str| Column::new(name, ColumnType::Text, path);
    let selectable = ["name", "namespace", "kind", "uid"].map(|field| format!(".involvedObject.{field}"));
    let own = [".reason", ".type"].map(str::to_owned);
    Kind {
        group: String::new(),
        version: "v1".to_owned(),
        names: Names::of("Event", "events", &["ev"]),
        is_namespaced: true,
        verbs: Verb::READING.to_vec(),
        has_status: false,
        has_scale: false,
        columns: vec![
            Column::new("Last Seen", ColumnType::Date, ".lastTimestamp"),
            text("Type", ".type"),
            text("Reason", ".reason"),
            text("Object", ".involvedObject.name"),
            text("Message", ".message"),
            Column::wide("Count", ColumnType::Integer, ".count"),
        ],
        structure: Structure::open(),
        selectable: selectable.into_iter().chain(own).collect(),
    }
}

/// The name of an event, which no other has.
pub(super) fn name_of(event: &Event) -> String {
    format!("{}.{:x}", event.name, event.number)
}

/// What an event is about, without its name.
fn involved(state: &Truth, about: &About) -> Value {
    let (kind, id) = match about {
        About::Document(Document::Instance(id)) => ("Instance", id.to_string()),
        About::Document(Document::Service(id)) => ("Service", id.to_string()),
        About::Document(Document::Cluster(id)) => ("Cluster", id.to_string()),
        About::Document(Document::Application(id)) => ("Application", id.to_string()),
        About::Document(Document::Organization(id)) => ("Namespace", id.to_string()),
        About::Object(key) => {
            let content = state.object(key).map(|seen| &*seen.content);
            let field = |path| content.and_then(|content| content.pointer(path)).cloned();
            let kind = || json!(key.resource.split('.').next());
            return json!({
                "apiVersion": field("/apiVersion"), "kind": field("/kind").unwrap_or_else(kind),
                "uid": field("/metadata/uid"),
            });
        }
    };
    json!({"apiVersion": format!("{GROUP}/v1"), "kind": kind, "uid": id})
}

/// An event.
pub(super) fn row(state: &Truth, event: &Event) -> Row {
    let mut involved = involved(state, &event.about);
    involved["name"] = json!(event.name);
    if involved["kind"] != "Cluster" && involved["kind"] != "Namespace" {
        involved["namespace"] = json!(state.organization(event.organization).map(|it| it.name.as_str()));
    }
    let name = name_of(event);
    let [first, last] = [event.first, event.last].map(|at| rfc3339(Timestamp(at.0 / 1000 * 1000)));
    let content = json!({
        "apiVersion": "v1", "kind": "Event",
        "metadata": {"name": name, "uid": name, "creationTimestamp": first},
        "involvedObject": involved, "reason": event.reason, "message": event.message,
        "type": if event.is_warning { "Warning" } else { "Normal" },
        "firstTimestamp": first, "lastTimestamp": last, "eventTime": null, "count": event.count,
        "source": {"component": "root-orchestrator"}, "reportingComponent": "root-orchestrator",
        "reportingInstance": "",
    });
    let revision = event.revision.unwrap_or_else(|| state.revision());
    Row { organization: Some(event.organization), cluster: None, name, content: Arc::new(content), revision }
}

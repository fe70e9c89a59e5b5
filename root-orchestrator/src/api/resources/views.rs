//! Applications, services, instances and clusters as objects: the documents of the REST API, shown to clients of Kubernetes.

use std::{collections::BTreeMap, sync::Arc};

use ::resources::{
    Kind,
    kind::{Column, ColumnType, Names, Verb},
    structure::Structure,
};
use model::{InstanceId, Now, OrganizationId, Timestamp};
use root_core::{Application, Change, Cluster, Document, Notes, Service, State as Truth, access};
use serde_json::{Value, json};

use super::{super::views, happened, rows::Row};
use crate::documents::{APPLICATIONS, CLUSTERS, INSTANCES, SERVICES};

/// The group of what the root has by itself.
pub(super) const GROUP: &str = "mangrove.io";
const VERSION: &str = "v1";

/// What is shown as objects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum View {
    Applications,
    Services,
    Instances,
    Clusters,
    Events,
}

impl View {
    pub(super) const ALL: [Self; 5] =
        [Self::Applications, Self::Services, Self::Instances, Self::Clusters, Self::Events];

    /// As what its objects count where it is decided who may do what.
    pub(super) const fn access(self) -> access::Kind {
        match self {
            Self::Applications => access::Kind::Application,
            Self::Services | Self::Instances | Self::Events => access::Kind::Service,
            Self::Clusters => access::Kind::Cluster,
        }
    }

    /// The kind of its objects.
    pub(super) fn kind(self) -> Kind {
        if self == Self::Events {
            return happened::kind();
        }
        let text = |name: &str, path: &str| Column::new(name, ColumnType::Text, path);
        let wide = |name: &str, path: &str| Column::wide(name, ColumnType::Text, path);
        let number = |name: &str, path: &str| Column::new(name, ColumnType::Integer, path);
        let (names, columns, description) = match self {
            Self::Applications => (
                Names::of("Application", "applications", &["app", "apps"]),
                vec![text("Owner", ".status.owner"), wide("Description", ".spec.description")],
                "What is deployed together: a name, a namespace and services.",
            ),
            Self::Services => (
                Names::of("Service", "services", &["svc"]),
                vec![
                    text("Status", ".status.phase"),
                    number("Revision", ".status.revision"),
                    number("Instances", ".status.instances"),
                    number("Ready", ".status.ready"),
                    wide("Image", ".status.image"),
                ],
                "A service of an application; its spec is that of the SLA.",
            ),
            Self::Instances => (
                Names::of("Instance", "instances", &["inst"]),
                vec![
                    text("Status", ".status.phase"),
                    number("Revision", ".spec.revision"),
                    number("Restarts", ".status.restarts"),
                    text("Address", ".status.address"),
                    wide("Detail", ".status.detail"),
                ],
                "One instance of a service.",
            ),
            Self::Clusters => (
                Names::of("Cluster", "clusters", &[]),
                vec![
                    Column::new("Active", ColumnType::Boolean, ".status.active"),
                    number("Workers", ".status.workers"),
                    number("CPU", ".status.free.cpu_millicores"),
                    number("Memory", ".status.free.memory_mb"),
                ],
                "A cluster, as sums over its workers.",
            ),
            Self::Events => (Names::default(), Vec::new(), ""),
        };
        let schema = json!({
            "type": "object", "description": description,
            "properties": {
                "spec": self.spec(),
                "status": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
            },
        });
        let categories = if self == Self::Clusters { Vec::new() } else { vec!["all".to_owned()] };
        let names = Names { categories, ..names };
        let mut verbs = Verb::READING.to_vec();
        match self {
            Self::Applications | Self::Services => {
                verbs.extend([Verb::Create, Verb::Update, Verb::Patch, Verb::Delete]);
            }
            Self::Instances => verbs.push(Verb::Delete),
            Self::Clusters | Self::Events => {}
        }
        Kind {
            group: GROUP.to_owned(),
            version: VERSION.to_owned(),
            names,
            is_namespaced: self != Self::Clusters,
            verbs,
            has_status: false,
            has_scale: self == Self::Services,
            columns,
            structure: Structure::read(&schema, "").unwrap_or_else(|_| Structure::open()),
            selectable: Vec::new(),
        }
    }

    /// What the specification of one may have.
    fn spec(self) -> Value {
        match self {
            Self::Applications => json!({
                "type": "object",
                "properties": {
                    "name": {"type": "string", "description": "The first part of its name."},
                    "namespace": {"type": "string", "description": "The second part of its name."},
                    "description": {"type": "string", "description": "For people."},
                },
            }),
            // Its fields are those of the SLA, and judged as such.
            Self::Services | Self::Instances | Self::Clusters | Self::Events => {
                json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true})
            }
        }
    }

    /// All of them, by the ids of their documents.
    pub(super) fn rows(self, state: &Truth) -> BTreeMap<String, Row> {
        let now = daemon::present();
        match self {
            Self::Applications => {
                state.applications().map(|it| (it.id.to_string(), application(state, it))).collect()
            }
            Self::Services => {
                let row = |it: &Service| Some((it.id.to_string(), service(state, it, now)?));
                state.services().filter_map(row).collect()
            }
            Self::Instances => state.services().flat_map(|it| instances(state, it, now)).collect(),
            Self::Clusters => {
                state.clusters().map(|it| (it.id.to_string(), cluster(state, it, now))).collect()
            }
            Self::Events => {
                state.events().map(|it| (happened::name_of(it), happened::row(state, it))).collect()
            }
        }
    }

    /// One of them by the id of its document.
    pub(super) fn row(self, state: &Truth, id: &str) -> Option<Row> {
        let now = daemon::present();
        match self {
            Self::Applications => Some(application(state, state.application(id.parse().ok()?)?)),
            Self::Services => service(state, state.service(id.parse().ok()?)?, now),
            Self::Instances => {
                let instance: InstanceId = id.parse().ok()?;
                instances(state, state.service(instance.service)?, now).remove(id)
            }
            Self::Clusters => Some(cluster(state, state.cluster(id.parse().ok()?)?, now)),
            Self::Events => {
                let event = state.events().find(|it| happened::name_of(it) == id)?;
                Some(happened::row(state, event))
            }
        }
    }

    /// One of them by its name; the id of its document too.
    pub(super) fn named(
        self,
        state: &Truth,
        of: Option<OrganizationId>,
        name: &str,
    ) -> Option<(String, Row)> {
        let service_named = |name: &str| {
            state.services().find(|it| it.written_names().to_string() == name && owner(state, it) == of)
        };
        let id = match self {
            Self::Applications => {
                let is_it = |it: &&Application| Some(it.organization) == of && name_of(it) == name;
                state.applications().find(is_it)?.id.to_string()
            }
            Self::Services => service_named(name)?.id.to_string(),
            Self::Instances => {
                let (service, number) = name.rsplit_once('-')?;
                InstanceId { service: service_named(service)?.id, number: number.parse().ok()? }.to_string()
            }
            Self::Clusters => state.clusters().find(|it| it.name == name)?.id.to_string(),
            Self::Events => name.to_owned(),
        };
        let row = self.row(state, &id).filter(|row| row.organization == of || self == Self::Clusters);
        row.map(|row| (id, row))
    }

    /// What deletes one of them; nothing if it is not there, or cannot be deleted here.
    pub(super) fn delete(self, state: &Truth, id: &str, now: Timestamp) -> Option<Vec<Change>> {
        match self {
            Self::Applications => {
                let application = state.application(id.parse().ok()?)?;
                Some(state.delete_application(application, now))
            }
            Self::Services => Some(state.delete_service(state.service(id.parse().ok()?)?, now)),
            Self::Instances => {
                let InstanceId { service, number } = id.parse().ok()?;
                state.undeploy(service, number, now).ok()
            }
            Self::Clusters | Self::Events => None,
        }
    }

    /// Which of them a change of a document may have changed.
    pub(super) fn touched(self, collection: &str, key: &str) -> Option<String> {
        match (self, collection) {
            (Self::Applications, APPLICATIONS)
            | (Self::Services, SERVICES)
            | (Self::Instances, INSTANCES)
            | (Self::Clusters, CLUSTERS) => Some(key.to_owned()),
            (Self::Services, INSTANCES) => key.split_once('/').map(|(service, _)| service.to_owned()),
            _ => None,
        }
    }
}

fn name_of(application: &Application) -> String {
    format!("{}.{}", application.name, application.namespace)
}

fn owner(state: &Truth, service: &Service) -> Option<OrganizationId> {
    state.application(service.application).map(|application| application.organization)
}

/// With what is noted at it.
fn noted(row: Row, notes: &Notes) -> Row {
    if notes.is_empty() {
        return row;
    }
    let mut content = Arc::unwrap_or_clone(row.content);
    for (field, value) in notes.fields() {
        content["metadata"][field] = value.clone();
    }
    Row { content: Arc::new(content), ..row }
}

fn row(
    organization: Option<OrganizationId>,
    kind: &str,
    id: &str,
    name: String,
    revision: u64,
    parts: [Value; 2],
) -> Row {
    let [spec, status] = parts;
    let content = json!({
        "apiVersion": format!("{GROUP}/{VERSION}"), "kind": kind, "metadata": {"name": name, "uid": id},
        "spec": spec, "status": status,
    });
    Row { organization, cluster: None, name, content: Arc::new(content), revision }
}

fn application(state: &Truth, application: &Application) -> Row {
    let revision = state.written(&Document::Application(application.id));
    let spec = json!({
        "name": application.name, "namespace": application.namespace, "description": application.description,
    });
    let parts = [spec, json!({"owner": application.owner})];
    let id = application.id.to_string();
    let row = row(Some(application.organization), "Application", &id, name_of(application), revision, parts);
    noted(row, &application.notes)
}

/// A service as the REST API shows it.
fn shown(state: &Truth, service: &Service, now: Now) -> Value {
    serde_json::to_value(views::service(state, service, &BTreeMap::new(), now)).unwrap_or_default()
}

fn service(state: &Truth, service: &Service, now: Now) -> Option<Row> {
    let organization = owner(state, service)?;
    let shown = shown(state, service, now);
    let instances = shown["instance_list"].as_array().map_or(&[][..], Vec::as_slice);
    let ready = instances.iter().filter(|instance| instance["ready"] == true).count();
    let mut spec = service.current().document.clone();
    spec.insert(
        "application".to_owned(),
        Value::from(format!("{}.{}", text(&shown["app_name"]), text(&shown["app_ns"]))),
    );
    let mut status = json!({
        "phase": shown["status"], "detail": shown["status_detail"], "revision": service.revision,
        "instances": instances.len(), "ready": ready, "addresses": shown["service_ip_list"],
        "image": service.spec().image,
    });
    if shown["rollout"].is_object() {
        status["rollout"] = shown["rollout"].clone();
    }
    let own = state.written(&Document::Service(service.id));
    let of_instances = state.instances_of(service.id).map(|it| state.written(&Document::Instance(it.id)));
    let revision = of_instances.fold(own, u64::max);
    let parts = [Value::Object(spec), status];
    let name = service.written_names().to_string();
    let row = row(Some(organization), "Service", &service.id.to_string(), name, revision, parts);
    Some(noted(row, &service.notes))
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// The instances of a service.
fn instances(state: &Truth, service: &Service, now: Now) -> BTreeMap<String, Row> {
    let organization = owner(state, service);
    let shown = shown(state, service, now);
    let listed = shown["instance_list"].as_array().map_or(&[][..], Vec::as_slice);
    let name = service.written_names().to_string();
    let one = |(instance, shown): (&root_core::Instance, &Value)| {
        let id = instance.id.to_string();
        let cluster =
            instance.cluster().and_then(|id| state.cluster(id)).map(|cluster| cluster.name.as_str());
        let spec = json!({"service": name, "number": instance.id.number, "revision": instance.revision});
        let status = json!({
            "phase": shown["status"], "detail": shown["status_detail"], "ready": shown["ready"],
            "since": shown["since"], "restarts": shown["restarts"], "cluster": cluster,
            "address": shown["instance_ip"], "ports": shown["ports"], "publishedAt": shown["published_at"],
            "reason": shown["reason"],
        });
        let revision = state.written(&Document::Instance(instance.id));
        let name = format!("{name}-{}", instance.id.number);
        let row = row(organization, "Instance", &id, name, revision, [spec, status]);
        (id, row)
    };
    organization.map(|_| state.instances_of(service.id).zip(listed).map(one).collect()).unwrap_or_default()
}

fn cluster(state: &Truth, cluster: &Cluster, now: Now) -> Row {
    let shown = serde_json::to_value(views::cluster(state, cluster, now.date)).unwrap_or_default();
    let status = json!({
        "active": shown["active"], "workers": shown["active_nodes"], "free": shown["free"],
        "allocatable": shown["allocatable"], "architectures": shown["architectures"],
        "location": shown["cluster_location"],
    });
    let revision = state.written(&Document::Cluster(cluster.id));
    let name = cluster.name.clone();
    let row = row(None, "Cluster", &cluster.id.to_string(), name, revision, [json!({}), status]);
    Row { cluster: Some(cluster.id), ..row }
}

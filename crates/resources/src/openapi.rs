//! The descriptions of kinds by which clients explain them and know what the root can do with them: OpenAPI 3, one document
//! for each version of a group.

use serde_json::{Map, Value, json};

use crate::{
    catalog::Catalog,
    kind::{Kind, Verb, api_version},
    status::Status,
};

/// What is at `/openapi/v3`: where the documents are. `version_of` names what a document is like now, so that clients know
/// when theirs is old.
#[must_use]
pub fn index(catalog: &Catalog, version_of: impl Fn(&Value) -> String) -> Value {
    let mut paths = Map::new();
    for path in catalog.paths() {
        let (group, version) = group_and_version(&path).unwrap_or_default();
        let Ok(document) = document(catalog, group, version) else { continue };
        let url = format!("/openapi/v3/{path}?hash={}", version_of(&document));
        paths.insert(path, json!({"serverRelativeURL": url}));
    }
    json!({"paths": paths})
}

/// Group and version of a path such as `apis/example.com/v1` or `api/v1`.
#[must_use]
pub fn group_and_version(path: &str) -> Option<(&str, &str)> {
    let mut parts = path.trim_matches('/').split('/');
    let found = match (parts.next()?, parts.next()?) {
        ("api", version) => ("", version),
        ("apis", group) => (group, parts.next()?),
        _ => return None,
    };
    parts.next().is_none().then_some(found)
}

/// The description of one version of a group.
///
/// # Errors
/// When there is no such version.
pub fn document(catalog: &Catalog, group: &str, version: &str) -> Result<Value, Status> {
    // Refuses what is not there in the usual words.
    catalog.resource_list(group, version)?;
    let (mut paths, mut schemas) = (Map::new(), Map::new());
    for kind in catalog.of_version(group, version) {
        describe_paths(kind, &mut paths);
        schemas.insert(schema_name(kind), schema(kind));
        schemas.insert(format!("{}List", schema_name(kind)), list_schema(kind));
    }
    schemas.insert(META.to_owned(), meta_schema());
    schemas.insert(LIST_META.to_owned(), json!({"type": "object", "description": "The metadata of a list."}));
    Ok(json!({
        "openapi": "3.0.0",
        "info": {"title": "Mangrove resources", "version": "v1"},
        "paths": paths,
        "components": {"schemas": schemas},
    }))
}

const META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta";
const LIST_META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.ListMeta";

fn reference(name: &str) -> Value {
    json!({"$ref": format!("#/components/schemas/{name}")})
}

/// The group backwards, as names of schemas are written.
fn schema_name(kind: &Kind) -> String {
    let mut parts: Vec<&str> = kind.group.split('.').filter(|part| !part.is_empty()).rev().collect();
    if parts.is_empty() {
        parts.push("core");
    }
    parts.extend([kind.version.as_str(), kind.names.kind.as_str()]);
    parts.join(".")
}

fn named(kind: &Kind, name: &str) -> Value {
    json!({"group": kind.group, "version": kind.version, "kind": name})
}

fn schema(kind: &Kind) -> Value {
    let mut schema = kind.structure.description().clone();
    let properties = schema.as_object_mut().map(|schema| {
        schema.insert("x-kubernetes-group-version-kind".to_owned(), json!([named(kind, &kind.names.kind)]));
        schema.entry("properties").or_insert_with(|| json!({}))
    });
    if let Some(properties) = properties {
        properties["apiVersion"] = json!({"type": "string", "description": "Group and version of the kind."});
        properties["kind"] = json!({"type": "string", "description": "The kind of the object."});
        properties["metadata"] = json!({
            "description": "What every object has: its name, labels and the like.",
            "allOf": [reference(META)],
            "default": {},
        });
    }
    schema
}

fn list_schema(kind: &Kind) -> Value {
    json!({
        "type": "object",
        "description": format!("A list of {}.", kind.names.plural),
        "required": ["items"],
        "properties": {
            "apiVersion": {"type": "string"}, "kind": {"type": "string"},
            "metadata": {"allOf": [reference(LIST_META)]},
            "items": {"type": "array", "items": reference(&schema_name(kind))},
        },
        "x-kubernetes-group-version-kind": [named(kind, &kind.names.list_kind)],
    })
}

fn meta_schema() -> Value {
    let text = |description: &str| json!({"type": "string", "description": description});
    let texts = |description: &str| json!({"type": "object", "additionalProperties": {"type": "string"}, "description": description});
    let date =
        |description: &str| json!({"type": "string", "format": "date-time", "description": description});
    json!({
        "type": "object",
        "description": "What every object has.",
        "properties": {
            "name": text("Unique among the objects of its kind in its namespace."),
            "generateName": text("The beginning of a name that the root completes."),
            "namespace": text("The organisation it belongs to."),
            "uid": text("No other object ever has it."),
            "resourceVersion": text("The revision at which it became what it is."),
            "generation": {"type": "integer", "format": "int64", "description": "Counts changes of what is wanted."},
            "creationTimestamp": date("When it was made."),
            "deletionTimestamp": date("When somebody asked for it to go."),
            "labels": texts("What it can be selected by."),
            "annotations": texts("What programs and people note at it."),
            "finalizers": {
                "type": "array", "items": {"type": "string"},
                "description": "Who has to agree before it goes.", "x-kubernetes-list-type": "set",
            },
            "ownerReferences": {
                "type": "array", "items": {"type": "object"}, "description": "What it belongs to, and goes with.",
            },
            "managedFields": {
                "type": "array", "items": {"type": "object"}, "description": "Who owns which of its fields.",
            },
        },
    })
}

/// Where objects of a kind are.
fn base(kind: &Kind) -> String {
    let root = if kind.group.is_empty() { "/api".to_owned() } else { "/apis".to_owned() };
    let place = if kind.is_namespaced { "/namespaces/{namespace}" } else { "" };
    format!("{root}/{}{place}/{}", api_version(&kind.group, &kind.version), kind.names.plural)
}

fn describe_paths(kind: &Kind, paths: &mut Map<String, Value>) {
    let base = base(kind);
    let mut all = Map::new();
    let mut one = Map::new();
    for verb in &kind.verbs {
        let (method, action, of) = match verb {
            Verb::List => ("get", "list", &mut all),
            Verb::Create => ("post", "post", &mut all),
            Verb::DeleteCollection => ("delete", "deletecollection", &mut all),
            Verb::Get => ("get", "get", &mut one),
            Verb::Update => ("put", "put", &mut one),
            Verb::Patch => ("patch", "patch", &mut one),
            Verb::Delete => ("delete", "delete", &mut one),
            Verb::Watch => continue,
        };
        of.insert(method.to_owned(), operation(kind, *verb, action));
    }
    for (path, methods) in [(base.clone(), all), (format!("{base}/{{name}}"), one)] {
        if !methods.is_empty() {
            paths.insert(path, Value::Object(methods));
        }
    }
}

fn operation(kind: &Kind, verb: Verb, action: &str) -> Value {
    let parameter = |name: &str, kind: &str| json!({"name": name, "in": "query", "schema": {"type": kind, "uniqueItems": true}});
    let mut parameters = Vec::new();
    if kind.is_namespaced {
        parameters
            .push(json!({"name": "namespace", "in": "path", "required": true, "schema": {"type": "string"}}));
    }
    if !matches!(verb, Verb::List | Verb::Create | Verb::DeleteCollection) {
        parameters
            .push(json!({"name": "name", "in": "path", "required": true, "schema": {"type": "string"}}));
    }
    if !Verb::READING.contains(&verb) {
        parameters.push(parameter("dryRun", "string"));
    }
    if matches!(verb, Verb::Create | Verb::Update | Verb::Patch) {
        parameters.push(parameter("fieldManager", "string"));
        parameters.push(parameter("fieldValidation", "string"));
    }
    if verb == Verb::Patch {
        parameters.push(parameter("force", "boolean"));
    }
    let answer = if verb == Verb::List { format!("{}List", schema_name(kind)) } else { schema_name(kind) };
    json!({
        "operationId": format!("{action}{}", kind.names.kind),
        "parameters": parameters,
        "responses": {"200": {"description": "OK", "content": {"application/json": {"schema": reference(&answer)}}}},
        "x-kubernetes-action": action,
        "x-kubernetes-group-version-kind": named(kind, &kind.names.kind),
    })
}

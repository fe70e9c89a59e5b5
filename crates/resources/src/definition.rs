//! Definitions of kinds by users: `CustomResourceDefinition`, and the kinds that follow from one.

use serde_json::{Value, json};

use crate::{
    catalog::by_version,
    kind::{Column, ColumnType, Kind, Names, Verb},
    metadata, path,
    status::{Cause, Status},
    structure::Structure,
};

/// The group of definitions.
pub const GROUP: &str = "apiextensions.k8s.io";
/// What kinds of definitions are called in one word.
pub const RESOURCE: &str = "customresourcedefinitions.apiextensions.k8s.io";
/// Groups in which the root has kinds by itself.
const TAKEN: [&str; 4] = ["mangrove.io", "sirocco.cloud", GROUP, "k8s.io"];
/// Bytes of a definition, as JSON.
pub const MAX_BYTES: usize = 1024 * 1024;

/// A definition that was understood.
#[derive(Debug, Clone)]
pub struct Definition {
    /// The kind in each version that is served, the preferred one first.
    pub kinds: Vec<Kind>,
    /// The version in which objects are stored.
    pub storage_version: String,
}

/// The kind of definitions.
///
/// # Panics
/// Never: the schema is a constant.
#[must_use]
pub fn kind() -> Kind {
    let column = Column::new("Created At", ColumnType::Text, ".metadata.creationTimestamp");
    Kind {
        group: GROUP.to_owned(),
        version: "v1".to_owned(),
        names: Names {
            categories: vec!["api-extensions".to_owned()],
            ..Names::of("CustomResourceDefinition", "customresourcedefinitions", &["crd", "crds"])
        },
        is_namespaced: false,
        verbs: Verb::ALL.to_vec(),
        has_status: true,
        has_scale: false,
        columns: vec![Column { format: "date-time".to_owned(), ..column }],
        structure: Structure::read(&schema(), "").expect("a schema that is a constant"),
        selectable: Vec::new(),
    }
}

fn schema() -> Value {
    let text = json!({"type": "string"});
    let texts = json!({"type": "array", "items": text});
    let names = json!({
        "type": "object",
        "description": "How the kind is called.",
        "required": ["plural", "kind"],
        "properties": {
            "plural": {"type": "string", "description": "In paths, such as `widgets`."},
            "singular": text, "kind": {"type": "string", "description": "In objects, such as `Widget`."},
            "listKind": text, "shortNames": texts, "categories": texts,
        },
    });
    let column = json!({
        "type": "object",
        "required": ["name", "type", "jsonPath"],
        "properties": {
            "name": text, "type": {"type": "string", "enum": ["string", "integer", "number", "boolean", "date"]},
            "format": text, "description": text, "priority": {"type": "integer"},
            "jsonPath": {"type": "string", "description": "Where the value is, such as `.spec.size`."},
        },
    });
    let version = json!({
        "type": "object",
        "required": ["name", "served", "storage"],
        "properties": {
            "name": text,
            "served": {"type": "boolean", "description": "Whether objects are shown in it."},
            "storage": {"type": "boolean", "description": "Whether objects are stored in it; one is."},
            "deprecated": {"type": "boolean"}, "deprecationWarning": text,
            "schema": {
                "type": "object",
                "description": "What objects must be: a structural schema.",
                "properties": {
                    "openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
                },
            },
            "subresources": {
                "type": "object",
                "properties": {
                    "status": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
                    "scale": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
                },
            },
            "additionalPrinterColumns": {"type": "array", "items": column},
            "selectableFields": {
                "type": "array",
                "items": {"type": "object", "required": ["jsonPath"], "properties": {"jsonPath": text}},
            },
        },
    });
    json!({
        "type": "object",
        "description": "A kind of objects that is not built in.",
        "required": ["spec"],
        "properties": {
            "spec": {
                "type": "object",
                "required": ["group", "names", "scope", "versions"],
                "properties": {
                    "group": {"type": "string", "description": "A domain of yours, such as `example.com`."},
                    "names": names,
                    "scope": {
                        "type": "string", "enum": ["Namespaced", "Cluster"],
                        "description": "Whether its objects belong to an organisation each, or to the platform.",
                    },
                    "versions": {"type": "array", "minItems": 1, "items": version},
                    "preserveUnknownFields": {"type": "boolean", "enum": [false]},
                    "conversion": {
                        "type": "object",
                        "properties": {"strategy": {"type": "string", "enum": ["None"]}},
                    },
                },
            },
            "status": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
        },
    })
}

impl Definition {
    /// Understands a definition.
    ///
    /// # Errors
    /// What in it cannot be, field by field.
    pub fn read(object: &Value) -> Result<Self, Status> {
        let name = metadata::text(object, "name");
        let mut causes = Vec::new();
        let spec = &object["spec"];
        judge_names(name, spec, &mut causes);
        let versions = spec["versions"].as_array().map_or(&[][..], Vec::as_slice);
        judge_versions(versions, &mut causes);
        let mut kinds = Vec::new();
        for (index, version) in versions.iter().enumerate() {
            let at = format!("spec.versions[{index}]");
            if let Some(kind) = kind_of(spec, version, &at, &mut causes)
                && version["served"] == true
            {
                kinds.push(kind);
            }
        }
        if !causes.is_empty() {
            return Err(Status::invalid(kind().about_fields(name), causes));
        }
        kinds.sort_by(|one, other| by_version(&one.version, &other.version));
        let stored = versions.iter().find(|version| version["storage"] == true);
        let storage_version = stored.map_or("", |version| text(&version["name"])).to_owned();
        Ok(Self { kinds, storage_version })
    }

    /// Whether what cannot change is as it was; else its objects would be of another kind.
    ///
    /// # Errors
    /// What differs.
    pub fn ensure_same_kind(before: &Value, after: &Value) -> Result<(), Status> {
        let mut causes = Vec::new();
        for field in ["group", "scope"] {
            if before["spec"][field] != after["spec"][field] {
                causes.push(Cause::invalid(format!("spec.{field}"), "field is immutable"));
            }
        }
        for field in ["plural", "kind"] {
            if before["spec"]["names"][field] != after["spec"]["names"][field] {
                causes.push(Cause::invalid(format!("spec.names.{field}"), "field is immutable"));
            }
        }
        let stored = before["status"]["storedVersions"].as_array().into_iter().flatten();
        let names = after["spec"]["versions"].as_array();
        let has = |name: &Value| {
            names.is_some_and(|versions| versions.iter().any(|version| version["name"] == *name))
        };
        for name in stored.filter(|name| !has(name)) {
            let message = format!("{name} is in status.storedVersions: objects may be stored in it");
            causes.push(Cause::invalid("spec.versions", message));
        }
        if causes.is_empty() {
            return Ok(());
        }
        Err(Status::invalid(kind().about_fields(metadata::text(after, "name")), causes))
    }
}

/// Puts in what is meant by names that were left out, and the status: a definition is in force as soon as it is stored.
pub fn establish(object: &mut Value, now: &str) {
    let names = object["spec"]["names"].clone();
    let (plural, kind) = (text(&names["plural"]).to_owned(), text(&names["kind"]).to_owned());
    let accepted = &mut object["spec"]["names"];
    if text(&names["singular"]).is_empty() {
        accepted["singular"] = Value::from(kind.to_lowercase());
    }
    if text(&names["listKind"]).is_empty() {
        accepted["listKind"] = Value::from(format!("{kind}List"));
    }
    let accepted = accepted.clone();
    if object["spec"]["conversion"]["strategy"].is_null() {
        object["spec"]["conversion"] = json!({"strategy": "None"});
    }
    let mut stored: Vec<Value> = object["status"]["storedVersions"].as_array().cloned().unwrap_or_default();
    for version in object["spec"]["versions"].as_array().into_iter().flatten() {
        if version["storage"] == true && !stored.contains(&version["name"]) {
            stored.push(version["name"].clone());
        }
    }
    let before = object["status"]["conditions"][0]["lastTransitionTime"].as_str().unwrap_or(now).to_owned();
    let condition = |kind: &str, reason: &str, message: String| {
        json!({
            "type": kind, "status": "True", "reason": reason, "message": message, "lastTransitionTime": before,
        })
    };
    object["status"] = json!({
        "acceptedNames": accepted,
        "storedVersions": stored,
        "conditions": [
            condition("NamesAccepted", "NoConflicts", "no conflicts found".to_owned()),
            condition("Established", "InitialNamesAccepted", format!("{plural} are served")),
        ],
    });
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn judge_names(name: &str, spec: &Value, causes: &mut Vec<Cause>) {
    let group = text(&spec["group"]);
    let plural = text(&spec["names"]["plural"]);
    if !group.contains('.') || metadata::check_name(group).is_err() {
        causes.push(Cause::invalid("spec.group", "it must be a domain with a dot, such as example.com"));
    }
    if TAKEN.iter().any(|taken| group == *taken || group.ends_with(&format!(".{taken}"))) {
        causes.push(Cause::forbidden(
            "spec.group",
            "the root has its own kinds there; choose a domain of yours",
        ));
    }
    if name != format!("{plural}.{group}") {
        let message = format!("must be spec.names.plural+\".\"+spec.group, which is {plural}.{group}");
        causes.push(Cause::invalid("metadata.name", message));
    }
    let words = [("plural", plural), ("singular", text(&spec["names"]["singular"]))];
    let short =
        spec["names"]["shortNames"].as_array().into_iter().flatten().map(|name| ("shortNames", text(name)));
    for (field, word) in words.into_iter().chain(short) {
        let is_left_out = word.is_empty() && field == "singular";
        if !is_left_out && !metadata::is_dns_label(word) {
            let message = format!("`{word}` must be lower case letters, digits and `-`");
            causes.push(Cause::invalid(format!("spec.names.{field}"), message));
        }
    }
    if !metadata::is_dns_label(&text(&spec["names"]["kind"]).to_lowercase()) {
        causes.push(Cause::invalid("spec.names.kind", "it must be letters and digits, such as Widget"));
    }
}

fn judge_versions(versions: &[Value], causes: &mut Vec<Cause>) {
    let stored = versions.iter().filter(|version| version["storage"] == true).count();
    if stored != 1 {
        let message = format!("must have exactly one version marked as storage version, and has {stored}");
        causes.push(Cause::invalid("spec.versions", message));
    }
    if !versions.iter().any(|version| version["served"] == true) {
        causes.push(Cause::invalid("spec.versions", "must have at least one version that is served"));
    }
    for (index, version) in versions.iter().enumerate() {
        let name = text(&version["name"]);
        let at = format!("spec.versions[{index}]");
        if !metadata::is_dns_label(name) {
            causes.push(Cause::invalid(format!("{at}.name"), "it must be a name such as v1 or v1beta1"));
        }
        if versions[..index].iter().any(|other| text(&other["name"]) == name) {
            causes.push(Cause::invalid(format!("{at}.name"), "there is a version of that name already"));
        }
        if !version["subresources"]["scale"].is_null() {
            let message = "it is not supported; leave it out";
            causes.push(Cause::forbidden(format!("{at}.subresources.scale"), message));
        }
    }
}

fn kind_of(spec: &Value, version: &Value, at: &str, causes: &mut Vec<Cause>) -> Option<Kind> {
    let field = format!("{at}.schema.openAPIV3Schema");
    let schema = &version["schema"]["openAPIV3Schema"];
    let structure = if schema.is_object() {
        Structure::read(schema, &field)
    } else {
        Err(vec![Cause::required(field, "schemas are required")])
    };
    let structure = structure.map_err(|found| causes.extend(found)).ok();
    let columns = columns(version, at, causes);
    let selectable = version["selectableFields"].as_array().into_iter().flatten();
    let selectable: Vec<String> = selectable.map(|it| text(&it["jsonPath"]).to_owned()).collect();
    if let Some(wrong) = selectable.iter().find(|path| !path::is_path(path)) {
        causes.push(Cause::invalid(
            format!("{at}.selectableFields"),
            format!("`{wrong}` is no path such as .spec.size"),
        ));
    }
    let names = &spec["names"];
    let kind = text(&names["kind"]);
    let or =
        |value: &Value, usual: String| if text(value).is_empty() { usual } else { text(value).to_owned() };
    let texts = |value: &Value| -> Vec<String> {
        value.as_array().into_iter().flatten().map(|it| text(it).to_owned()).collect()
    };
    Some(Kind {
        group: text(&spec["group"]).to_owned(),
        version: text(&version["name"]).to_owned(),
        names: Names {
            plural: text(&names["plural"]).to_owned(),
            singular: or(&names["singular"], kind.to_lowercase()),
            kind: kind.to_owned(),
            list_kind: or(&names["listKind"], format!("{kind}List")),
            short_names: texts(&names["shortNames"]),
            categories: texts(&names["categories"]),
        },
        is_namespaced: spec["scope"] == "Namespaced",
        verbs: Verb::ALL.to_vec(),
        has_status: version["subresources"]["status"].is_object(),
        has_scale: false,
        columns,
        structure: structure?,
        selectable,
    })
}

/// Those it says; without any, the age.
fn columns(version: &Value, at: &str, causes: &mut Vec<Cause>) -> Vec<Column> {
    let Some(said) = version["additionalPrinterColumns"].as_array() else { return vec![Column::age()] };
    let mut columns = Vec::new();
    for (index, column) in said.iter().enumerate() {
        let path = text(&column["jsonPath"]);
        if !path::is_path(path) {
            let at = format!("{at}.additionalPrinterColumns[{index}].jsonPath");
            let message = format!(
                "`{path}` is no path such as .spec.size or .status.conditions[?(@.type==\"Ready\")].status"
            );
            causes.push(Cause::invalid(at, message));
        }
        let word = text(&column["type"]);
        let kind = ColumnType::ALL.into_iter().find(|(known, _)| *known == word).map(|(_, kind)| kind);
        columns.push(Column {
            name: text(&column["name"]).to_owned(),
            kind: kind.unwrap_or(ColumnType::Text),
            format: text(&column["format"]).to_owned(),
            description: text(&column["description"]).to_owned(),
            priority: column["priority"].as_i64().unwrap_or(0),
            path: path.to_owned(),
        });
    }
    columns
}

//! What clients are shown: tables, lists of kinds, descriptions, errors.

use serde_json::{Value, json};

use crate::{
    age,
    catalog::Catalog,
    definition, openapi, path,
    status::{About, Cause, Reason, Status},
    table::{Include, table},
};

use super::{LATER, kind, widget};

fn catalog() -> Catalog {
    Catalog::of([kind(), definition::kind()])
}

#[test]
fn a_table_has_the_columns_of_its_kind() {
    let mut one = widget("one", json!({"size": 3, "color": "red"}));
    one["metadata"]["uid"] = json!("uid-1");
    let two = widget("two", json!({"size": "many"}));
    let shown = table(&kind(), [&one, &two], json!({"resourceVersion": "9"}), Include::Metadata, LATER);
    let headings: Vec<(&Value, &Value)> = shown["columnDefinitions"]
        .as_array()
        .expect("columns")
        .iter()
        .map(|column| (&column["name"], &column["priority"]))
        .collect();
    assert_eq!(
        headings,
        [(&json!("Name"), &json!(0)), (&json!("Size"), &json!(0)), (&json!("Color"), &json!(1))]
    );
    assert_eq!(shown["rows"][0]["cells"], json!(["one", 3, "red"]));
    assert_eq!(
        shown["rows"][1]["cells"],
        json!(["two", null, null]),
        "what is no number is not shown as one"
    );
    let part =
        json!({"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": one["metadata"]});
    assert_eq!(shown["rows"][0]["object"], part);
    let whole = table(&kind(), [&one], json!({}), Include::Object, LATER);
    assert_eq!(whole["rows"][0]["object"], one);
}

#[test]
fn ages_are_told_in_what_matters_of_them() {
    let ages = [
        ("2026-11-22T12:04:55Z", "5s"),
        ("2026-11-22T12:03:00.500Z", "2m"),
        ("2026-11-22T12:01:30Z", "3m30s"),
        ("2026-11-22T11:35:00Z", "30m"),
        ("2026-11-22T07:00:00Z", "5h5m"),
        ("2026-11-21T12:05:00Z", "24h"),
        ("2026-11-19T11:05:00Z", "3d1h"),
        ("2026-10-23T12:05:00Z", "30d"),
        ("2022-11-23T12:05:00Z", "4y"),
        ("2026-11-22T12:06:00Z", "<invalid>"),
        ("soon", "<unknown>"),
    ];
    for (since, shown) in ages {
        assert_eq!(age::between(since, LATER), shown, "{since}");
    }
    assert_eq!(age::seconds("2024-02-29T00:00:00Z"), Some(1_709_164_800));
}

#[test]
fn paths_lead_where_columns_say() {
    let object = json!({
        "spec": {"a.b": 1, "list": [{"n": "x"}, {"n": "y"}]},
        "status": {"conditions": [{"type": "Ready", "status": "True"}, {"type": "Other", "status": "False"}]},
    });
    let found = |path: &str| -> Vec<String> {
        path::find(&object, path).into_iter().map(ToString::to_string).collect()
    };
    assert_eq!(found(".spec.a\\.b"), ["1"]);
    assert_eq!(found(".spec['a.b']"), ["1"]);
    assert_eq!(found(".spec.list[*].n"), ["\"x\"", "\"y\""]);
    assert_eq!(found(".spec.list[1].n"), ["\"y\""]);
    assert_eq!(found(".status.conditions[?(@.type==\"Ready\")].status"), ["\"True\""]);
    assert_eq!(found(".spec.none.further"), [""; 0]);
    for wrong in ["spec", ".spec..a", ".a[", ".a[x]", ""] {
        assert!(!path::is_path(wrong), "{wrong}");
    }
}

#[test]
fn clients_find_groups_versions_and_kinds() {
    let catalog = catalog();
    let groups = catalog.group_list();
    let names: Vec<&Value> =
        groups["groups"].as_array().expect("a list").iter().map(|it| &it["name"]).collect();
    assert_eq!(names, ["apiextensions.k8s.io", "example.com"]);
    assert_eq!(
        catalog.group("example.com").expect("there")["preferredVersion"]["groupVersion"],
        "example.com/v1"
    );
    let resources = catalog.resource_list("example.com", "v1").expect("there");
    assert_eq!(
        resources["resources"],
        json!([
            {
                "name": "widgets", "singularName": "widget", "namespaced": true, "kind": "Widget", "shortNames": ["wd"],
                "verbs": ["delete", "deletecollection", "get", "list", "patch", "create", "update", "watch"],
            },
            {
                "name": "widgets/status", "singularName": "", "namespaced": true, "kind": "Widget",
                "verbs": ["get", "patch", "update"],
            },
        ])
    );
    assert_eq!(catalog.group("none.example").expect_err("none").reason, Reason::NotFound);
    assert!(catalog.resource_list("example.com", "v2").is_err());
    assert!(catalog.find("example.com", "v1", "gadgets").is_err());
    assert_eq!(catalog.find("example.com", "v1", "widgets").expect("there").names.kind, "Widget");
}

#[test]
fn one_document_tells_of_all_kinds() {
    let all = catalog().aggregated(false);
    assert_eq!(all["kind"], "APIGroupDiscoveryList");
    let widget = &all["items"][1]["versions"][0]["resources"][0];
    assert_eq!(
        *widget,
        json!({
            "resource": "widgets", "singularResource": "widget", "scope": "Namespaced", "shortNames": ["wd"],
            "responseKind": {"group": "example.com", "version": "v1", "kind": "Widget"},
            "verbs": ["delete", "deletecollection", "get", "list", "patch", "create", "update", "watch"],
            "subresources": [{
                "subresource": "status", "verbs": ["get", "patch", "update"],
                "responseKind": {"group": "example.com", "version": "v1", "kind": "Widget"},
            }],
        })
    );
}

#[test]
fn descriptions_name_the_kind_and_its_options() {
    let index = openapi::index(&catalog(), |document| document.to_string().len().to_string());
    let paths: Vec<&String> = index["paths"].as_object().expect("paths").keys().collect();
    assert_eq!(paths, ["apis/apiextensions.k8s.io/v1", "apis/example.com/v1"]);
    let document = openapi::document(&catalog(), "example.com", "v1").expect("there");
    let widget = &document["components"]["schemas"]["com.example.v1.Widget"];
    let named = json!({"group": "example.com", "version": "v1", "kind": "Widget"});
    assert_eq!(widget["x-kubernetes-group-version-kind"], json!([named]));
    assert_eq!(widget["properties"]["spec"]["properties"]["size"]["type"], "integer");
    let patch = &document["paths"]["/apis/example.com/v1/namespaces/{namespace}/widgets/{name}"]["patch"];
    assert_eq!(patch["x-kubernetes-group-version-kind"], named);
    let parameters = patch["parameters"].as_array().expect("a list");
    let names: Vec<&Value> = parameters.iter().map(|parameter| &parameter["name"]).collect();
    assert_eq!(names, ["namespace", "name", "dryRun", "fieldManager", "fieldValidation", "force"]);
    assert!(openapi::document(&catalog(), "example.com", "v9").is_err());
    assert_eq!(openapi::group_and_version("api/v1"), Some(("", "v1")));
    assert_eq!(openapi::group_and_version("apis/a.b/v1/more"), None);
}

#[test]
fn a_failure_says_what_where_and_why() {
    let about = About { group: "example.com".into(), kind: "Widget".into(), name: "one".into() };
    let causes = vec![
        Cause::invalid("spec.size", "it must be at least 1"),
        Cause::required("spec.color", "it is required"),
    ];
    assert_eq!(
        Status::invalid(about.clone(), causes).to_value(),
        json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "reason": "Invalid", "code": 422,
            "message": "Widget.example.com \"one\" is invalid: [spec.size: it must be at least 1, spec.color: it is required]",
            "details": {
                "name": "one", "group": "example.com", "kind": "Widget",
                "causes": [
                    {"reason": "FieldValueInvalid", "message": "it must be at least 1", "field": "spec.size"},
                    {"reason": "FieldValueRequired", "message": "it is required", "field": "spec.color"},
                ],
            },
        })
    );
    assert_eq!(Status::not_found(about).to_string(), "Widget.example.com \"one\" not found");
}

//! Definitions of kinds, and what they cannot be.

use serde_json::{Value, json};

use crate::{
    definition::{self, Definition},
    kind::ColumnType,
};

use super::{LATER, NOW, definition};

fn refused(change: impl FnOnce(&mut Value)) -> Vec<String> {
    let mut wanted = definition();
    change(&mut wanted);
    let refused = Definition::read(&wanted).expect_err("it is refused");
    refused.causes.into_iter().map(|cause| cause.field).collect()
}

#[test]
fn a_kind_follows_from_a_definition() {
    let read = Definition::read(&definition()).expect("sound");
    let kind = &read.kinds[0];
    assert_eq!((kind.api_version().as_str(), read.storage_version.as_str()), ("example.com/v1", "v1"));
    assert_eq!((kind.names.singular.as_str(), kind.names.list_kind.as_str()), ("widget", "WidgetList"));
    assert!(kind.is_namespaced && kind.has_status);
    let columns: Vec<(&str, ColumnType, i64)> =
        kind.columns.iter().map(|column| (column.name.as_str(), column.kind, column.priority)).collect();
    assert_eq!(columns, [("Size", ColumnType::Integer, 0), ("Color", ColumnType::Text, 1)]);
}

#[test]
fn the_newest_stable_version_is_preferred() {
    let mut wanted = definition();
    let version = |name: &str, served: bool| {
        let mut version = definition()["spec"]["versions"][0].clone();
        version["name"] = json!(name);
        version["served"] = json!(served);
        version["storage"] = json!(name == "v1beta2");
        version
    };
    let names =
        [("v1alpha1", true), ("v1beta2", true), ("v2", true), ("v10", true), ("v11", false), ("old", true)];
    wanted["spec"]["versions"] = names.map(|(name, served)| version(name, served)).into_iter().collect();
    let read = Definition::read(&wanted).expect("sound");
    let versions: Vec<&str> = read.kinds.iter().map(|kind| kind.version.as_str()).collect();
    assert_eq!(versions, ["v10", "v2", "v1beta2", "v1alpha1", "old"]);
    assert_eq!(read.storage_version, "v1beta2");
}

#[test]
fn what_cannot_be_is_refused_by_field() {
    assert_eq!(refused(|it| it["metadata"]["name"] = json!("gadgets.example.com")), ["metadata.name"]);
    assert_eq!(refused(|it| it["spec"]["names"]["shortNames"] = json!(["W D"])), ["spec.names.shortNames"]);
    assert_eq!(refused(|it| it["spec"]["versions"][0]["storage"] = json!(false)), ["spec.versions"]);
    assert_eq!(refused(|it| it["spec"]["versions"][0]["served"] = json!(false)), ["spec.versions"]);
    assert_eq!(
        refused(|it| it["spec"]["versions"][0]["schema"] = Value::Null),
        ["spec.versions[0].schema.openAPIV3Schema"]
    );
    assert_eq!(
        refused(|it| it["spec"]["versions"][0]["additionalPrinterColumns"][0]["jsonPath"] = json!("spec")),
        ["spec.versions[0].additionalPrinterColumns[0].jsonPath"]
    );
    assert_eq!(
        refused(|it| it["spec"]["versions"][0]["subresources"]["scale"] = json!({})),
        ["spec.versions[0].subresources.scale"]
    );
    let of_the_root = refused(|it| {
        it["spec"]["group"] = json!("mangrove.io");
        it["metadata"]["name"] = json!("widgets.mangrove.io");
    });
    assert_eq!(of_the_root, ["spec.group"]);
}

#[test]
fn a_definition_is_in_force_with_the_names_it_means() {
    let mut made = definition();
    definition::establish(&mut made, NOW);
    assert_eq!(made["status"]["acceptedNames"]["listKind"], "WidgetList");
    assert_eq!(made["status"]["storedVersions"], json!(["v1"]));
    assert_eq!(made["status"]["conditions"][1]["type"], "Established");
    let before = made.clone();
    definition::establish(&mut made, LATER);
    assert_eq!(made, before, "it is in force since then");
    let mut moved = made.clone();
    moved["spec"]["versions"][0]["name"] = json!("v2");
    let refused = Definition::ensure_same_kind(&made, &moved).expect_err("v1 is stored");
    assert_eq!(refused.causes[0].field, "spec.versions");
    moved = made.clone();
    moved["spec"]["scope"] = json!("Cluster");
    let refused = Definition::ensure_same_kind(&made, &moved).expect_err("it is another kind");
    assert_eq!(refused.causes[0].field, "spec.scope");
}

#[test]
fn definitions_are_objects_of_a_kind_themselves() {
    let kind = definition::kind();
    let mut object = definition();
    assert_eq!(kind.structure.prune(&mut object), [""; 0]);
    assert_eq!(object, definition(), "schemas are kept as they are");
    assert_eq!(kind.structure.check(&object), []);
}

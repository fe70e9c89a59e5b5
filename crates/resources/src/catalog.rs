//! All kinds there are, and the documents by which clients find them.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::{
    kind::{Kind, Verb, api_version},
    scale,
    status::{Reason, Status},
};

/// See the module's description.
#[derive(Debug, Clone, Default)]
pub struct Catalog {
    /// By group and plural; of each the versions, the preferred one first.
    kinds: BTreeMap<(String, String), Vec<Kind>>,
}

impl Catalog {
    /// A catalog of these. Of one kind's versions the first is preferred.
    pub fn of(kinds: impl IntoIterator<Item = Kind>) -> Self {
        let mut catalog = Self::default();
        for kind in kinds {
            let key = (kind.group.clone(), kind.names.plural.clone());
            catalog.kinds.entry(key).or_default().push(kind);
        }
        catalog
    }

    /// The kind of a path.
    ///
    /// # Errors
    /// When there is none.
    pub fn find(&self, group: &str, version: &str, plural: &str) -> Result<&Kind, Status> {
        let versions = self.kinds.get(&(group.to_owned(), plural.to_owned()));
        let found = versions.and_then(|kinds| kinds.iter().find(|kind| kind.version == version));
        found.ok_or_else(|| nothing_here(&format!("{}, {plural}", api_version(group, version))))
    }

    /// The preferred version of a kind.
    #[must_use]
    pub fn preferred(&self, group: &str, plural: &str) -> Option<&Kind> {
        self.kinds.get(&(group.to_owned(), plural.to_owned()))?.first()
    }

    /// All kinds in all versions.
    pub fn kinds(&self) -> impl Iterator<Item = &Kind> {
        self.kinds.values().flatten()
    }

    /// The groups with names, and their versions, the preferred one first.
    fn groups(&self) -> BTreeMap<&str, Vec<&str>> {
        let mut groups: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for kind in self.kinds().filter(|kind| !kind.group.is_empty()) {
            let versions = groups.entry(&kind.group).or_default();
            if !versions.contains(&kind.version.as_str()) {
                versions.push(&kind.version);
            }
        }
        groups.values_mut().for_each(|versions| versions.sort_by(|one, other| by_version(one, other)));
        groups
    }

    /// All groups and versions, as paths name them: `api/v1`, `apis/example.com/v1`.
    #[must_use]
    pub fn paths(&self) -> Vec<String> {
        let core =
            self.kinds().filter(|kind| kind.group.is_empty()).map(|kind| format!("api/{}", kind.version));
        let mut paths: Vec<String> = core.collect();
        paths.dedup();
        for (group, versions) in self.groups() {
            paths.extend(versions.iter().map(|version| format!("apis/{group}/{version}")));
        }
        paths
    }

    /// What is at `/api`.
    #[must_use]
    pub fn core_versions() -> Value {
        json!({"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": []})
    }

    /// What is at `/apis`.
    #[must_use]
    pub fn group_list(&self) -> Value {
        let groups = self.groups();
        let groups: Vec<Value> =
            groups.iter().map(|(group, versions)| group_value(group, versions)).collect();
        json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups})
    }

    /// What is at `/apis/<group>`.
    ///
    /// # Errors
    /// When there is no such group.
    pub fn group(&self, group: &str) -> Result<Value, Status> {
        let groups = self.groups();
        let versions = groups.get(group).ok_or_else(|| nothing_here(group))?;
        let mut value = group_value(group, versions);
        value["kind"] = Value::from("APIGroup");
        value["apiVersion"] = Value::from("v1");
        Ok(value)
    }

    /// What is at `/api/v1` and `/apis/<group>/<version>`.
    ///
    /// # Errors
    /// When there is no such version of the group.
    pub fn resource_list(&self, group: &str, version: &str) -> Result<Value, Status> {
        let mut resources = Vec::new();
        for kind in self.of_version(group, version) {
            resources.push(resource_value(kind));
            if kind.has_status {
                resources.push(json!({
                    "name": format!("{}/status", kind.names.plural), "singularName": "",
                    "namespaced": kind.is_namespaced, "kind": kind.names.kind, "verbs": part_verbs(kind),
                }));
            }
            if kind.has_scale {
                resources.push(json!({
                    "name": format!("{}/scale", kind.names.plural), "singularName": "",
                    "namespaced": kind.is_namespaced, "group": scale::GROUP, "version": scale::VERSION,
                    "kind": scale::KIND, "verbs": part_verbs(kind),
                }));
            }
        }
        let api_version = api_version(group, version);
        if resources.is_empty() {
            return Err(nothing_here(&api_version));
        }
        Ok(json!({
            "kind": "APIResourceList", "apiVersion": "v1", "groupVersion": api_version, "resources": resources,
        }))
    }

    /// Kinds of one version of a group.
    pub fn of_version<'a>(&'a self, group: &'a str, version: &'a str) -> impl Iterator<Item = &'a Kind> {
        self.kinds().filter(move |kind| kind.group == group && kind.version == version)
    }

    /// All of it in one document, for clients that ask for that at `/api` (`is_core`) and `/apis`.
    #[must_use]
    pub fn aggregated(&self, is_core: bool) -> Value {
        let groups = if is_core { BTreeMap::from([("", vec!["v1"])]) } else { self.groups() };
        let items: Vec<Value> = groups
            .iter()
            .map(|(group, versions)| {
                let versions: Vec<Value> = versions
                    .iter()
                    .map(|version| {
                        let resources: Vec<Value> = self.of_version(group, version).map(discovered).collect();
                        json!({"version": version, "resources": resources, "freshness": "Current"})
                    })
                    .collect();
                let mut item = json!({"metadata": {"creationTimestamp": null}, "versions": versions});
                if !group.is_empty() {
                    item["metadata"]["name"] = Value::from(*group);
                }
                item
            })
            .collect();
        json!({"kind": "APIGroupDiscoveryList", "apiVersion": "apidiscovery.k8s.io/v2", "metadata": {}, "items": items})
    }
}

fn nothing_here(what: &str) -> Status {
    let message = format!(
        "the server could not find the requested resource ({what}); `kubectl api-resources` lists what there is"
    );
    Status::new(Reason::NotFound, message)
}

fn group_value(group: &str, versions: &[&str]) -> Value {
    let version = |version: &&str| json!({"groupVersion": format!("{group}/{version}"), "version": version});
    let versions: Vec<Value> = versions.iter().map(version).collect();
    json!({"name": group, "versions": versions, "preferredVersion": versions[0]})
}

fn verbs(kind: &Kind) -> Vec<&'static str> {
    kind.verbs.iter().map(|verb| verb.as_str()).collect()
}

/// Of a part written by itself: looked at and changed like its object, neither made nor removed.
fn part_verbs(kind: &Kind) -> Vec<&'static str> {
    let wanted = |verb: &&Verb| matches!(verb, Verb::Get | Verb::Patch | Verb::Update);
    kind.verbs.iter().filter(wanted).map(|verb| verb.as_str()).collect()
}

fn resource_value(kind: &Kind) -> Value {
    let names = &kind.names;
    let mut value = json!({
        "name": names.plural, "singularName": names.singular, "namespaced": kind.is_namespaced,
        "kind": names.kind, "verbs": verbs(kind),
    });
    if !names.short_names.is_empty() {
        value["shortNames"] = json!(names.short_names);
    }
    if !names.categories.is_empty() {
        value["categories"] = json!(names.categories);
    }
    value
}

fn discovered(kind: &Kind) -> Value {
    let names = &kind.names;
    let response = json!({"group": kind.group, "version": kind.version, "kind": names.kind});
    let mut value = json!({
        "resource": names.plural, "responseKind": response, "singularResource": names.singular,
        "scope": if kind.is_namespaced { "Namespaced" } else { "Cluster" }, "verbs": verbs(kind),
    });
    if !names.short_names.is_empty() {
        value["shortNames"] = json!(names.short_names);
    }
    if !names.categories.is_empty() {
        value["categories"] = json!(names.categories);
    }
    let part = |name: &str, response: Value| json!({"subresource": name, "responseKind": response, "verbs": part_verbs(kind)});
    let mut parts = Vec::new();
    if kind.has_status {
        parts.push(part("status", response));
    }
    if kind.has_scale {
        let response = json!({"group": scale::GROUP, "version": scale::VERSION, "kind": scale::KIND});
        parts.push(part("scale", response));
    }
    if !parts.is_empty() {
        value["subresources"] = Value::Array(parts);
    }
    value
}

/// The stable ones first, then beta, then alpha; higher numbers first; others after them by name.
pub(crate) fn by_version(one: &str, other: &str) -> std::cmp::Ordering {
    match (rank(one), rank(other)) {
        (Some(one), Some(other)) => other.cmp(&one),
        (Some(_), None) => std::cmp::Ordering::Less,
        (None, Some(_)) => std::cmp::Ordering::Greater,
        (None, None) => one.cmp(other),
    }
}

fn rank(version: &str) -> Option<(u8, u64, u64)> {
    let rest = version.strip_prefix('v')?;
    let end = rest.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(rest.len());
    let major = rest[..end].parse().ok()?;
    let (level, minor) = match &rest[end..] {
        "" => (2, ""),
        rest => match (rest.strip_prefix("beta"), rest.strip_prefix("alpha")) {
            (Some(minor), _) => (1, minor),
            (None, Some(minor)) => (0, minor),
            (None, None) => return None,
        },
    };
    let minor = if level == 2 { 0 } else { minor.parse().ok()? };
    Some((level, major, minor))
}

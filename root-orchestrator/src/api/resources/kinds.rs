//! All kinds there are: one table of those that are built in, and the definitions of users. Each says where its objects
//! are, and as what they count where it is decided who may do what.

use std::sync::LazyLock;

use ::resources::{
    Catalog, Kind, Reason, Status, definition,
    kind::{Column, ColumnType, Names, Verb, resource},
    structure::Structure,
};
use model::OrganizationId;
use root_core::{
    State as Truth, WorkflowKind,
    access::{self, Of, Verdict},
};
use serde_json::json;

use super::{super::workers, answer::about_namespace, views::View, workflows};
use crate::auth::Caller;

/// Where the objects of a kind are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Source {
    /// They are documents of their own.
    Objects,
    /// They are organisations.
    Organizations,
    /// They are what the REST API shows.
    View(View),
}

/// A kind, with what the root has to know of it.
#[derive(Debug, Clone)]
pub(super) struct Served {
    pub(super) kind: Kind,
    pub(super) source: Source,
    /// As what its objects count.
    pub(super) access: access::Kind,
    /// The version in which they are stored.
    storage_version: String,
}

/// Whose objects a request is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Whose {
    /// Those of a kind that has no namespaces.
    Platform,
    /// Those of one organisation.
    Organization(OrganizationId, String),
    /// Those of all organisations the caller may look at.
    All,
}

impl Whose {
    /// The organisation and its name, if it is one.
    pub(super) fn namespace(&self) -> Option<(OrganizationId, &str)> {
        match self {
            Self::Organization(id, name) => Some((*id, name)),
            Self::Platform | Self::All => None,
        }
    }
}

/// The kinds that are built in. More kinds are more lines here.
static BUILT_IN: LazyLock<Vec<Served>> = LazyLock::new(|| {
    let served = |kind: Kind, source, access| {
        let storage_version = kind.version.clone();
        Served { kind, source, access, storage_version }
    };
    let mut kinds = vec![
        served(definition::kind(), Source::Objects, access::Kind::ResourceDefinition),
        served(namespaces(), Source::Organizations, access::Kind::Organization),
    ];
    // They have containers run, as services do.
    kinds.extend(workflows::kinds().map(|(_, kind)| served(kind, Source::Objects, access::Kind::Service)));
    kinds.extend(View::ALL.map(|view| served(view.kind(), Source::View(view), view.access())));
    kinds
});

fn namespaces() -> Kind {
    let schema = json!({
        "type": "object",
        "description": "An organisation, whose members share its objects.",
        "properties": {
            "spec": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
            "status": {
                "type": "object",
                "properties": {"phase": {"type": "string", "description": "Active."}},
            },
        },
    });
    Kind {
        group: String::new(),
        version: "v1".to_owned(),
        names: Names::of("Namespace", "namespaces", &["ns"]),
        is_namespaced: false,
        verbs: vec![Verb::Create, Verb::Delete, Verb::Get, Verb::List, Verb::Watch],
        has_status: false,
        has_scale: false,
        columns: vec![Column::new("Status", ColumnType::Text, ".status.phase"), Column::age()],
        structure: Structure::read(&schema, "").unwrap_or_else(|_| Structure::open()),
        selectable: Vec::new(),
    }
}

/// Of a definition, in one of its versions.
fn defined(definition: &definition::Definition, kind: &Kind) -> Served {
    Served {
        kind: kind.clone(),
        source: Source::Objects,
        access: access::Kind::CustomResource,
        storage_version: definition.storage_version.clone(),
    }
}

/// All kinds in all versions.
pub(super) fn catalog(state: &Truth) -> Catalog {
    let built_in = BUILT_IN.iter().map(|served| served.kind.clone());
    let defined = state.definitions().flat_map(|definition| definition.kinds.iter().cloned());
    Catalog::of(built_in.chain(defined))
}

/// The kind of a path.
pub(super) fn find(state: &Truth, group: &str, version: &str, plural: &str) -> Result<Served, Status> {
    let is_it = |kind: &Kind| kind.group == group && kind.version == version && kind.names.plural == plural;
    if let Some(served) = BUILT_IN.iter().find(|served| is_it(&served.kind)) {
        return Ok(served.clone());
    }
    let definition = state.definition(&resource(plural, group));
    let found = definition.and_then(|definition| {
        definition.kinds.iter().find(|kind| is_it(kind)).map(|kind| defined(definition, kind))
    });
    found.ok_or_else(|| {
        let message = format!(
            "the server could not find the requested resource ({plural} in {group}/{version}); `kubectl api-resources` \
             lists what there is"
        );
        Status::new(Reason::NotFound, message)
    })
}

/// A kind in its preferred version, by group and plural.
pub(super) fn preferred(state: &Truth, group: &str, plural: &str) -> Option<Served> {
    let is_it = |served: &&Served| served.kind.group == group && served.kind.names.plural == plural;
    let built_in = BUILT_IN.iter().find(is_it).cloned();
    built_in.or_else(|| {
        let definition = state.definition(&resource(plural, group))?;
        definition.kinds.first().map(|kind| defined(definition, kind))
    })
}

/// All kinds in their preferred versions.
pub(super) fn all(state: &Truth) -> Vec<Served> {
    let defined = state.definitions().filter_map(|it| it.kinds.first().map(|kind| defined(it, kind)));
    BUILT_IN.iter().cloned().chain(defined).collect()
}

/// As what a verb counts where it is decided who may do what.
pub(super) const fn counted(verb: Verb) -> access::Verb {
    match verb {
        Verb::Get | Verb::List | Verb::Watch => access::Verb::Get,
        Verb::Create => access::Verb::Create,
        Verb::Update | Verb::Patch => access::Verb::Update,
        Verb::Delete | Verb::DeleteCollection => access::Verb::Delete,
    }
}

impl Served {
    /// Which kind of workflows it is, if it is one.
    pub(super) fn workflow(&self) -> Option<WorkflowKind> {
        WorkflowKind::of(&self.kind.resource())
    }

    /// The version in which its objects are stored, as they say it.
    pub(super) fn stored_api_version(&self) -> String {
        ::resources::kind::api_version(&self.kind.group, &self.storage_version)
    }

    /// Whether the caller may do that, to objects of the organisation, or of nobody alone.
    pub(super) fn verdict(&self, caller: &Caller, verb: Verb, of: Option<OrganizationId>) -> Verdict {
        match of {
            Some(organization) => caller.may(counted(verb), self.access, Of::Organization(organization)),
            None => caller.may(counted(verb), self.access, Of::Platform),
        }
    }

    /// Whether the caller may do that at all: to the object of that name, if one is named.
    fn usual_verdict(&self, state: &Truth, caller: &Caller, verb: Verb, name: &str) -> Verdict {
        if self.kind.is_namespaced || self.source == Source::Organizations {
            caller.may_usually(counted(verb), self.access)
        } else if self.source == Source::View(View::Clusters) {
            match name {
                "" => caller.may_somewhere(counted(verb), self.access),
                name => {
                    let of = workers::owner(&workers::find(state, name));
                    caller.may(counted(verb), self.access, of)
                }
            }
        } else {
            self.verdict(caller, verb, None)
        }
    }

    /// Whose objects a path is about, if the caller may do that to them. What belongs to another organisation is not there.
    pub(super) fn admit(
        &self,
        state: &Truth,
        caller: &Caller,
        verb: Verb,
        namespace: Option<&str>,
        name: &str,
    ) -> Result<Whose, Status> {
        let kind = &self.kind;
        let usually = || match self.usual_verdict(state, caller, verb, name) {
            Verdict::Allowed => Ok(()),
            Verdict::Hidden => Err(Status::forbidden(kind.about(name), "it is another organisation's")),
            Verdict::Refused(refused) => Err(Status::forbidden(kind.about(name), &refused.to_string())),
        };
        let whose = match (kind.is_namespaced, namespace) {
            (true, Some(namespace)) => {
                let organization = state.organization_named(namespace);
                match organization.map(|it| self.verdict(caller, verb, Some(it.id))) {
                    Some(Verdict::Allowed) => {}
                    Some(Verdict::Refused(refused)) => {
                        return Err(Status::forbidden(kind.about(name), &refused.to_string()));
                    }
                    Some(Verdict::Hidden) | None => {
                        // Who may not do that to anything is told so, and learns nothing of what there is.
                        usually()?;
                        return Err(Status::not_found(about_namespace(namespace)));
                    }
                }
                organization.map_or(Whose::All, |it| Whose::Organization(it.id, it.name.clone()))
            }
            (true, None) => {
                usually()?;
                Whose::All
            }
            (false, None) => {
                usually()?;
                Whose::Platform
            }
            (false, Some(_)) => {
                let message = format!("{} have no namespaces", kind.names.plural);
                return Err(Status::new(Reason::NotFound, message));
            }
        };
        if kind.has(verb) {
            return Ok(whose);
        }
        let message = format!("{} cannot be {}: there is no such verb", kind.names.plural, past(verb));
        Err(Status::new(Reason::MethodNotAllowed, message))
    }
}

const fn past(verb: Verb) -> &'static str {
    match verb {
        Verb::Get => "looked at",
        Verb::List => "listed",
        Verb::Watch => "watched",
        Verb::Create => "created",
        Verb::Update => "replaced",
        Verb::Patch => "patched",
        Verb::Delete => "deleted",
        Verb::DeleteCollection => "deleted all at once",
    }
}

//! Records of who changed what, as the root tells of them.

use serde::Deserialize;

use super::or_default;

/// One record, as far as a table shows it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(crate) struct AuditRecord {
    pub(crate) sequence: u64,
    #[serde(default, deserialize_with = "or_default")]
    pub(crate) time: String,
    #[serde(default, deserialize_with = "or_default")]
    pub(crate) actor: AuditActor,
    #[serde(default, deserialize_with = "or_default")]
    pub(crate) from: String,
    #[serde(default, deserialize_with = "or_default")]
    pub(crate) action: String,
    #[serde(default, deserialize_with = "or_default")]
    pub(crate) result: String,
    #[serde(default, deserialize_with = "or_default")]
    pub(crate) error: String,
    #[serde(default, deserialize_with = "or_default")]
    pub(crate) request: String,
    #[serde(default, deserialize_with = "or_default")]
    pub(crate) objects: Vec<AuditObject>,
    #[serde(default, deserialize_with = "or_default")]
    pub(crate) more: u64,
    #[serde(default, deserialize_with = "or_default")]
    pub(crate) repeated: Option<AuditRepeated>,
}

/// Who called.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
pub(crate) struct AuditActor {
    #[serde(default, deserialize_with = "or_default")]
    kind: String,
    #[serde(default, deserialize_with = "or_default")]
    name: String,
    #[serde(default, deserialize_with = "or_default")]
    id: String,
}

/// What was changed.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(crate) struct AuditObject {
    #[serde(default, deserialize_with = "or_default")]
    kind: String,
    #[serde(default, deserialize_with = "or_default")]
    id: String,
    #[serde(default, deserialize_with = "or_default")]
    name: String,
}

/// How often the same happened again.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(crate) struct AuditRepeated {
    #[serde(default, deserialize_with = "or_default")]
    times: u64,
}

impl AuditRecord {
    /// Who called, in a word.
    pub(crate) fn who(&self) -> String {
        let AuditActor { kind, name, id } = &self.actor;
        match (name.is_empty(), id.is_empty()) {
            (false, _) => name.clone(),
            (true, false) => format!("{kind} {id}"),
            (true, true) => kind.clone(),
        }
    }

    /// How it ended: `done`, or the code of the error.
    pub(crate) fn end(&self) -> String {
        let end = if self.error.is_empty() { &self.result } else { &self.error };
        match &self.repeated {
            Some(AuditRepeated { times }) => format!("{end}, {times} times more"),
            None => end.clone(),
        }
    }

    /// What was changed, by kinds and names.
    pub(crate) fn changed(&self) -> String {
        let named = |object: &AuditObject| {
            let name = if object.name.is_empty() { &object.id } else { &object.name };
            format!("{} {name}", object.kind)
        };
        let mut parts: Vec<String> = self.objects.iter().map(named).collect();
        if self.more > 0 {
            parts.push(format!("{} more", self.more));
        }
        parts.join(", ")
    }
}

//! What clients of the resource API note at applications and services: labels, annotations, and who owns which field.
//! They change nothing of what runs.

use std::sync::Arc;

use model::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::{Application, Change, MAX_OBJECT_BYTES, Rejected, Service, State, sla::SlaService};

/// The metadata of an object that is kept; everything else in it follows from the document.
const KEPT: [&str; 3] = ["labels", "annotations", "managedFields"];

/// See the module's description. Part of a document; shared by all copies of it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Notes(Option<Arc<Map<String, Value>>>);

impl Notes {
    /// What is to be kept of the metadata of an object.
    ///
    /// # Errors
    /// When that is too large; the text says how large it may be.
    pub fn of(metadata: &Value) -> Result<Self, String> {
        let is_there = |value: &&Value| value.as_object().is_none_or(|map| !map.is_empty());
        let kept = |name: &str| Some((name.to_owned(), metadata.get(name).filter(is_there)?.clone()));
        let notes: Map<String, Value> = KEPT.into_iter().filter_map(kept).collect();
        if notes.is_empty() {
            return Ok(Self(None));
        }
        let notes = Value::Object(notes);
        let bytes = notes.to_string().len();
        if bytes > MAX_OBJECT_BYTES {
            return Err(format!(
                "labels, annotations and managed fields have {bytes} bytes, and may have {MAX_OBJECT_BYTES}; note less, or \
                 apply with --server-side, which keeps no copy of the whole in an annotation"
            ));
        }
        let Value::Object(notes) = notes else { return Ok(Self(None)) };
        Ok(Self(Some(Arc::new(notes))))
    }

    /// Whether nothing is noted.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// What is noted, by the fields of the metadata.
    pub fn fields(&self) -> impl Iterator<Item = (&String, &Value)> {
        self.0.iter().flat_map(|notes| notes.iter())
    }
}

impl State {
    /// Gives a service notes and, if that is wanted, makes something else of it, as [`State::update`] does.
    ///
    /// # Errors
    /// As that.
    pub fn rewrite_service(
        &self,
        service: &Service,
        wanted: Option<SlaService>,
        notes: Notes,
        now: Timestamp,
    ) -> Result<Vec<Change>, Rejected> {
        let changes = match wanted {
            Some(wanted) => self.update(service, wanted, now)?.1,
            None => Vec::new(),
        };
        if !changes.is_empty() {
            return Ok(noted(changes, &notes));
        }
        if service.notes == notes {
            return Ok(Vec::new());
        }
        Ok(vec![Change::Service(service.id, Some(Service { notes, ..service.clone() }))])
    }

    /// Gives an application notes and a description.
    #[must_use]
    pub fn rewrite_application(
        &self,
        application: &Application,
        description: String,
        notes: Notes,
    ) -> Vec<Change> {
        let rewritten = Application { description, notes, ..application.clone() };
        if rewritten == *application {
            return Vec::new();
        }
        vec![Change::Application(application.id, Some(rewritten))]
    }
}

/// The same changes with notes at the applications and services they are of.
#[must_use]
pub fn noted(changes: Vec<Change>, notes: &Notes) -> Vec<Change> {
    let mut changes = changes;
    for change in &mut changes {
        if let Change::Application(_, Some(application)) = change {
            application.notes = notes.clone();
        } else if let Change::Service(_, Some(service)) = change {
            service.notes = notes.clone();
        }
    }
    changes
}

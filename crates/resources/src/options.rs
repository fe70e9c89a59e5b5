//! What a request says behind the question mark, and in the body of a deletion.

use serde_json::Value;

use crate::{
    status::Status,
    write::{self, FieldValidation},
};

/// What becomes of what belongs to an object that is deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Propagation {
    /// It goes too, after it.
    Background,
    /// It goes too, and before it.
    Foreground,
    /// It stays, and belongs to nobody.
    Orphan,
}

/// The options of all requests. What was not said is as it is by default.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Options {
    /// Which labels.
    pub label_selector: String,
    /// Which fields.
    pub field_selector: String,
    /// How many at once.
    pub limit: Option<usize>,
    /// Where the list goes on.
    pub continues: String,
    /// Whether changes are told.
    pub watch: bool,
    /// Whether revisions are told while nothing changes.
    pub bookmarks: bool,
    /// Whether a watch begins with what there is.
    pub initial_events: bool,
    /// As of, or after which revision; none and 0 are the newest.
    pub revision: Option<u64>,
    /// Whether that revision is meant exactly.
    pub is_exact: bool,
    /// After how many seconds a watch ends.
    pub timeout_seconds: Option<u64>,
    /// Whether nothing is kept of what would be done.
    pub dry_run: bool,
    /// Who is said to own what is written.
    pub manager: String,
    /// What becomes of unknown fields.
    pub validation: FieldValidation,
    /// Whether what others own is taken.
    pub force: bool,
    /// What becomes of dependents.
    pub propagation: Option<Propagation>,
    /// Only the object of that id is deleted.
    pub uid: Option<String>,
    /// Only the object of that revision is deleted.
    pub only_revision: Option<String>,
}

impl Options {
    /// Understands a query.
    ///
    /// # Errors
    /// Which parameter is not what it must be.
    pub fn read<'a>(query: impl Iterator<Item = (&'a str, &'a str)>) -> Result<Self, Status> {
        let mut options = Self::default();
        for (name, value) in query {
            options.take(name, value)?;
        }
        if options.is_exact && options.revision.is_none() {
            return Err(wrong("resourceVersionMatch", "it says how resourceVersion is meant; give that too"));
        }
        Ok(options)
    }

    fn take(&mut self, name: &str, value: &str) -> Result<(), Status> {
        match name {
            "labelSelector" => value.clone_into(&mut self.label_selector),
            "fieldSelector" => value.clone_into(&mut self.field_selector),
            "continue" => value.clone_into(&mut self.continues),
            "limit" => {
                self.limit = number(name, value)?.and_then(|it| usize::try_from(it).ok()).filter(|it| *it > 0)
            }
            "watch" => self.watch = flag(name, value)?,
            "allowWatchBookmarks" => self.bookmarks = flag(name, value)?,
            "sendInitialEvents" => self.initial_events = flag(name, value)?,
            "resourceVersion" => self.revision = number(name, value)?.filter(|revision| *revision > 0),
            "resourceVersionMatch" => {
                self.is_exact = match value {
                    "Exact" => true,
                    "NotOlderThan" | "" => false,
                    _ => return Err(wrong(name, "it is Exact or NotOlderThan")),
                }
            }
            "timeoutSeconds" => self.timeout_seconds = number(name, value)?.filter(|seconds| *seconds > 0),
            "dryRun" => {
                self.dry_run = match value {
                    "All" => true,
                    "" => false,
                    _ => return Err(wrong(name, "it is All, or left out")),
                }
            }
            "fieldManager" => {
                if value.chars().count() > 128 {
                    return Err(wrong(name, "it has at most 128 characters"));
                }
                value.clone_into(&mut self.manager);
            }
            "fieldValidation" => {
                self.validation = match value {
                    "Ignore" => FieldValidation::Ignore,
                    "Warn" | "" => FieldValidation::Warn,
                    "Strict" => FieldValidation::Strict,
                    _ => return Err(wrong(name, "it is Ignore, Warn or Strict")),
                }
            }
            "force" => self.force = flag(name, value)?,
            "propagationPolicy" => self.propagation = propagation(value)?,
            "orphanDependents" => {
                self.propagation =
                    Some(if flag(name, value)? { Propagation::Orphan } else { Propagation::Background });
            }
            // What others ask for beside: how it is printed, how long one waits.
            _ => {}
        }
        Ok(())
    }

    /// Understands the body of a deletion, if there is one.
    ///
    /// # Errors
    /// Which field is not what it must be.
    pub fn read_deletion(&mut self, content_type: Option<&str>, body: &[u8]) -> Result<(), Status> {
        if body.is_empty() {
            return Ok(());
        }
        let said = write::read(content_type, body)?;
        if said["dryRun"].as_array().is_some_and(|words| !words.is_empty()) {
            self.dry_run = true;
        }
        if let Some(word) = said["propagationPolicy"].as_str() {
            self.propagation = propagation(word)?;
        }
        if let Some(orphans) = said["orphanDependents"].as_bool() {
            self.propagation = Some(if orphans { Propagation::Orphan } else { Propagation::Background });
        }
        let text = |value: &Value| value.as_str().map(str::to_owned);
        self.uid = text(&said["preconditions"]["uid"]);
        self.only_revision = text(&said["preconditions"]["resourceVersion"]);
        Ok(())
    }
}

fn propagation(word: &str) -> Result<Option<Propagation>, Status> {
    match word {
        "" => Ok(None),
        "Background" => Ok(Some(Propagation::Background)),
        "Foreground" => Ok(Some(Propagation::Foreground)),
        "Orphan" => Ok(Some(Propagation::Orphan)),
        _ => Err(wrong("propagationPolicy", "it is Background, Foreground or Orphan")),
    }
}

fn flag(name: &str, value: &str) -> Result<bool, Status> {
    match value {
        "true" | "1" | "" => Ok(true),
        "false" | "0" => Ok(false),
        _ => Err(wrong(name, "it is true or false")),
    }
}

fn number(name: &str, value: &str) -> Result<Option<u64>, Status> {
    if value.is_empty() {
        return Ok(None);
    }
    value.parse().map(Some).map_err(|_| wrong(name, "it is a whole number, not below 0"))
}

fn wrong(name: &str, what: &str) -> Status {
    Status::bad_request(format!("the parameter `{name}` is not valid: {what}"))
}

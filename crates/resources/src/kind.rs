//! What a kind of objects is: its names, what can be done with it, what is printed of it and what its objects must be.

use crate::{status::About, structure::Structure};

/// What can be done with objects of a kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verb {
    /// Look at one.
    Get,
    /// Look at all.
    List,
    /// Be told of changes.
    Watch,
    /// Make one.
    Create,
    /// Replace one.
    Update,
    /// Change one.
    Patch,
    /// Remove one.
    Delete,
    /// Remove all that are selected.
    DeleteCollection,
}

impl Verb {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Delete,
        Self::DeleteCollection,
        Self::Get,
        Self::List,
        Self::Patch,
        Self::Create,
        Self::Update,
        Self::Watch,
    ];
    /// Those that change nothing.
    pub const READING: [Self; 3] = [Self::Get, Self::List, Self::Watch];

    /// Its word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::List => "list",
            Self::Watch => "watch",
            Self::Create => "create",
            Self::Update => "update",
            Self::Patch => "patch",
            Self::Delete => "delete",
            Self::DeleteCollection => "deletecollection",
        }
    }

    /// The verb of a word.
    #[must_use]
    pub fn named(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|verb| verb.as_str() == word)
    }
}

/// What a column holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ColumnType {
    /// Any text.
    Text,
    /// A whole number.
    Integer,
    /// A number.
    Number,
    /// True or false.
    Boolean,
    /// A time, shown as how long ago it was.
    Date,
}

impl ColumnType {
    /// All of them with their words.
    pub const ALL: [(&'static str, Self); 5] = [
        ("string", Self::Text),
        ("integer", Self::Integer),
        ("number", Self::Number),
        ("boolean", Self::Boolean),
        ("date", Self::Date),
    ];

    /// Its word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        Self::ALL.into_iter().find(|(_, this)| *this == self).map_or("string", |(word, _)| word)
    }
}

/// What is printed of an object beside its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    /// Its heading.
    pub name: String,
    /// What it holds.
    pub kind: ColumnType,
    /// For programs, such as `date-time`.
    pub format: String,
    /// For people.
    pub description: String,
    /// Columns above 0 are shown in wide tables only.
    pub priority: i64,
    /// Where the value is, such as `.spec.size`.
    pub path: String,
}

impl Column {
    /// A column that is always shown.
    #[must_use]
    pub fn new(name: &str, kind: ColumnType, path: &str) -> Self {
        Self {
            name: name.to_owned(),
            kind,
            format: String::new(),
            description: String::new(),
            priority: 0,
            path: path.to_owned(),
        }
    }

    /// The same in wide tables only.
    #[must_use]
    pub fn wide(name: &str, kind: ColumnType, path: &str) -> Self {
        Self { priority: 1, ..Self::new(name, kind, path) }
    }

    /// How long there has been such an object.
    #[must_use]
    pub fn age() -> Self {
        Self::new("Age", ColumnType::Date, ".metadata.creationTimestamp")
    }
}

/// How a kind is called.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Names {
    /// In paths, such as `widgets`.
    pub plural: String,
    /// Such as `widget`.
    pub singular: String,
    /// In objects, such as `Widget`.
    pub kind: String,
    /// Of lists, such as `WidgetList`.
    pub list_kind: String,
    /// For people who type, such as `wd`.
    pub short_names: Vec<String>,
    /// What it is listed with, such as `all`.
    pub categories: Vec<String>,
}

impl Names {
    /// The usual names of a kind.
    #[must_use]
    pub fn of(kind: &str, plural: &str, short_names: &[&str]) -> Self {
        Self {
            plural: plural.to_owned(),
            singular: kind.to_lowercase(),
            kind: kind.to_owned(),
            list_kind: format!("{kind}List"),
            short_names: short_names.iter().map(|&name| name.to_owned()).collect(),
            categories: Vec::new(),
        }
    }
}

/// A kind in one of its versions.
#[derive(Debug, Clone)]
pub struct Kind {
    /// Whose kinds it is among; empty for the core group.
    pub group: String,
    /// Such as `v1`.
    pub version: String,
    /// How it is called.
    pub names: Names,
    /// Whether its objects are of a namespace each.
    pub is_namespaced: bool,
    /// What can be done with them.
    pub verbs: Vec<Verb>,
    /// Whether the status is written by itself, at `/status`.
    pub has_status: bool,
    /// Whether how many there are of what one stands for is written by itself, at `/scale`.
    pub has_scale: bool,
    /// What is printed of them.
    pub columns: Vec<Column>,
    /// What they must be.
    pub structure: Structure,
    /// What may be selected by beside name and namespace, such as `.spec.size`.
    pub selectable: Vec<String>,
}

impl Kind {
    /// Group and version as in objects, such as `example.com/v1`.
    #[must_use]
    pub fn api_version(&self) -> String {
        api_version(&self.group, &self.version)
    }

    /// Plural and group, which no other kind has, such as `widgets.example.com`.
    #[must_use]
    pub fn resource(&self) -> String {
        resource(&self.names.plural, &self.group)
    }

    /// Whether that can be done with its objects.
    #[must_use]
    pub fn has(&self, verb: Verb) -> bool {
        self.verbs.contains(&verb)
    }

    /// An object for errors.
    #[must_use]
    pub fn about(&self, name: &str) -> About {
        About { group: self.group.clone(), kind: self.names.plural.clone(), name: name.to_owned() }
    }

    /// The same where its fields are judged.
    #[must_use]
    pub fn about_fields(&self, name: &str) -> About {
        About { kind: self.names.kind.clone(), ..self.about(name) }
    }
}

/// Group and version in one.
#[must_use]
pub fn api_version(group: &str, version: &str) -> String {
    if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") }
}

/// Plural and group in one.
#[must_use]
pub fn resource(plural: &str, group: &str) -> String {
    if group.is_empty() { plural.to_owned() } else { format!("{plural}.{group}") }
}

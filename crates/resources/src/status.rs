//! What a request that fails is answered with: the `Status` object of Kubernetes, with its causes and their field paths.

use serde_json::{Value, json};

/// Why a request fails, in a word for programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// The request cannot be understood.
    BadRequest,
    /// Nobody knows who asks.
    Unauthorized,
    /// Who asks may not do that.
    Forbidden,
    /// There is no such object, kind or path.
    NotFound,
    /// There is an object of that name.
    AlreadyExists,
    /// The object is not what the caller takes it for, or another manager owns a field.
    Conflict,
    /// The revision asked for is no longer kept.
    Expired,
    /// A field is not what it must be.
    Invalid,
    /// The kind does not have that verb.
    MethodNotAllowed,
    /// No form of answer is acceptable to the client.
    NotAcceptable,
    /// The body is of a form that is not read here.
    UnsupportedMediaType,
    /// The body is too large.
    RequestEntityTooLarge,
    /// The root stops, or cannot do it now.
    ServiceUnavailable,
    /// The revision asked for does not exist yet.
    Timeout,
    /// A fault of the root.
    InternalError,
}

impl Reason {
    /// The status of HTTP it goes with.
    #[must_use]
    pub const fn code(self) -> u16 {
        match self {
            Self::BadRequest => 400,
            Self::Unauthorized => 401,
            Self::Forbidden => 403,
            Self::NotFound => 404,
            Self::MethodNotAllowed => 405,
            Self::NotAcceptable => 406,
            Self::AlreadyExists | Self::Conflict => 409,
            Self::Expired => 410,
            Self::RequestEntityTooLarge => 413,
            Self::UnsupportedMediaType => 415,
            Self::Invalid => 422,
            Self::InternalError => 500,
            Self::ServiceUnavailable => 503,
            Self::Timeout => 504,
        }
    }

    /// The word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::BadRequest => "BadRequest",
            Self::Unauthorized => "Unauthorized",
            Self::Forbidden => "Forbidden",
            Self::NotFound => "NotFound",
            Self::AlreadyExists => "AlreadyExists",
            Self::Conflict => "Conflict",
            Self::Expired => "Expired",
            Self::Invalid => "Invalid",
            Self::MethodNotAllowed => "MethodNotAllowed",
            Self::NotAcceptable => "NotAcceptable",
            Self::UnsupportedMediaType => "UnsupportedMediaType",
            Self::RequestEntityTooLarge => "RequestEntityTooLarge",
            Self::ServiceUnavailable => "ServiceUnavailable",
            Self::Timeout => "Timeout",
            Self::InternalError => "InternalError",
        }
    }
}

/// What is wrong with one field, in a word for programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CauseKind {
    /// Its value is not what it must be.
    Invalid,
    /// It is missing.
    Required,
    /// It may not be set, or not changed.
    Forbidden,
    /// Another manager owns it.
    ManagerConflict,
}

impl CauseKind {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Invalid => "FieldValueInvalid",
            Self::Required => "FieldValueRequired",
            Self::Forbidden => "FieldValueForbidden",
            Self::ManagerConflict => "FieldManagerConflict",
        }
    }
}

/// What is wrong with one field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cause {
    /// In a word.
    pub kind: CauseKind,
    /// Which field, such as `spec.ports[2].name`.
    pub field: String,
    /// In words.
    pub message: String,
}

impl Cause {
    /// A value that is not what it must be.
    #[must_use]
    pub fn invalid(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self { kind: CauseKind::Invalid, field: field.into(), message: message.into() }
    }

    /// A field that is missing.
    #[must_use]
    pub fn required(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self { kind: CauseKind::Required, field: field.into(), message: message.into() }
    }

    /// A field that may not be so.
    #[must_use]
    pub fn forbidden(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self { kind: CauseKind::Forbidden, field: field.into(), message: message.into() }
    }
}

/// Of what a request is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct About {
    /// The group of its kind.
    pub group: String,
    /// Its plural, or of what is invalid its kind.
    pub kind: String,
    /// Its name; empty for all.
    pub name: String,
}

impl About {
    fn qualified(&self) -> String {
        if self.group.is_empty() { self.kind.clone() } else { format!("{}.{}", self.kind, self.group) }
    }
}

/// Why a request fails.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Status {
    /// In a word.
    pub reason: Reason,
    /// What, where, why and what to do.
    pub message: String,
    /// Of what it is.
    pub about: Box<About>,
    /// Field by field.
    pub causes: Vec<Cause>,
}

impl Status {
    /// One with nothing but a reason and words.
    #[must_use]
    pub fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self { reason, message: message.into(), about: Box::default(), causes: Vec::new() }
    }

    /// A request that cannot be understood.
    #[must_use]
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::new(Reason::BadRequest, message)
    }

    /// There is no object of that name.
    #[must_use]
    pub fn not_found(about: About) -> Self {
        let message = format!("{} \"{}\" not found", about.qualified(), about.name);
        Self { about: about.into(), ..Self::new(Reason::NotFound, message) }
    }

    /// There is one already.
    #[must_use]
    pub fn already_exists(about: About) -> Self {
        let message = format!("{} \"{}\" already exists", about.qualified(), about.name);
        Self { about: about.into(), ..Self::new(Reason::AlreadyExists, message) }
    }

    /// The object is not what the caller takes it for.
    #[must_use]
    pub fn conflict(about: About, why: &str) -> Self {
        let message =
            format!("Operation cannot be fulfilled on {} \"{}\": {why}", about.qualified(), about.name);
        Self { about: about.into(), ..Self::new(Reason::Conflict, message) }
    }

    /// Somebody else has changed it.
    #[must_use]
    pub fn modified(about: About) -> Self {
        Self::conflict(
            about,
            "the object has been modified; please apply your changes to the latest version and try again",
        )
    }

    /// Who asks may not do that.
    #[must_use]
    pub fn forbidden(about: About, why: &str) -> Self {
        let named = if about.name.is_empty() { String::new() } else { format!(" \"{}\"", about.name) };
        let message = format!("{}{named} is forbidden: {why}", about.qualified());
        Self { about: about.into(), ..Self::new(Reason::Forbidden, message) }
    }

    /// Fields are not what they must be. `about` names the kind, not the plural.
    #[must_use]
    pub fn invalid(about: About, causes: Vec<Cause>) -> Self {
        let shown: Vec<String> =
            causes.iter().map(|cause| format!("{}: {}", cause.field, cause.message)).collect();
        let shown =
            if let [only] = shown.as_slice() { only.clone() } else { format!("[{}]", shown.join(", ")) };
        let message = format!("{} \"{}\" is invalid: {shown}", about.qualified(), about.name);
        Self { about: about.into(), causes, ..Self::new(Reason::Invalid, message) }
    }

    /// As it is sent.
    #[must_use]
    pub fn to_value(&self) -> Value {
        let mut details = serde_json::Map::new();
        let About { group, kind, name } = &*self.about;
        for (field, text) in [("name", name), ("group", group), ("kind", kind)] {
            if !text.is_empty() {
                details.insert(field.to_owned(), Value::from(text.as_str()));
            }
        }
        if !self.causes.is_empty() {
            let cause = |cause: &Cause| json!({"reason": cause.kind.as_str(), "message": cause.message, "field": cause.field});
            details.insert("causes".to_owned(), self.causes.iter().map(cause).collect());
        }
        let mut status = json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "message": self.message, "reason": self.reason.as_str(), "code": self.reason.code(),
        });
        if !details.is_empty() {
            status["details"] = Value::Object(details);
        }
        status
    }
}

/// What a deletion that leaves nothing is answered with.
#[must_use]
pub fn success(about: &About, uid: &str) -> Value {
    json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success",
        "details": {"name": about.name, "group": about.group, "kind": about.kind, "uid": uid},
    })
}

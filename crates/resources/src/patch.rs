//! Patches: what is to change of an object, in the forms in which clients send it.

use serde_json::Value;

use crate::status::{Reason, Status};

/// A patch that was understood.
#[derive(Debug, Clone)]
pub enum Patch {
    /// Step by step (RFC 6902).
    Json(json_patch::Patch),
    /// What shall be there (RFC 7396). A strategic patch is taken for one: nothing says how lists would be merged.
    Merge(Value),
    /// What a manager wants of the object, see [`crate::write::Writing::apply`].
    Apply(Value),
}

/// The types of patches, as `Content-Type` names them.
pub const TYPES: [&str; 4] = [
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
    "application/apply-patch+yaml",
];

impl Patch {
    /// Understands a patch of a content type.
    ///
    /// # Errors
    /// When there is no such type, or it is not what its type says.
    pub fn read(content_type: &str, body: &[u8]) -> Result<Self, Status> {
        let unreadable = |error: serde_json::Error| {
            Status::bad_request(format!("the patch is not what {content_type} says: {error}"))
        };
        let object = |body| -> Result<Value, Status> {
            let value: Value = serde_json::from_slice(body).map_err(unreadable)?;
            if value.is_object() {
                return Ok(value);
            }
            Err(Status::bad_request("the patch must be an object"))
        };
        match content_type.split(';').next().unwrap_or_default().trim() {
            "application/json-patch+json" => serde_json::from_slice(body).map(Self::Json).map_err(unreadable),
            "application/merge-patch+json" | "application/strategic-merge-patch+json" => {
                object(body).map(Self::Merge)
            }
            // JSON is YAML too, and what clients send.
            "application/apply-patch+yaml" => object(body).map(Self::Apply).map_err(|status| Status {
                message: format!("{}; write what is applied as JSON, which is YAML too", status.message),
                ..status
            }),
            other => Err(Status::new(
                Reason::UnsupportedMediaType,
                format!("`{other}` is no type of patches; they are {}", TYPES.join(", ")),
            )),
        }
    }

    /// What comes of an object by it. What is applied is put in as a merge; see [`crate::write::Writing::apply`].
    ///
    /// # Errors
    /// When a step cannot be done.
    pub(crate) fn applied_to(&self, object: &Value) -> Result<Value, Status> {
        let mut patched = object.clone();
        match self {
            Self::Json(patch) => json_patch::patch(&mut patched, patch).map_err(|error| {
                Status::new(
                    Reason::Invalid,
                    format!("the server rejected our request: the patch cannot be applied: {error}"),
                )
            })?,
            Self::Merge(patch) | Self::Apply(patch) => json_patch::merge(&mut patched, patch),
        }
        Ok(patched)
    }
}

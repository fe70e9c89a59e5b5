//! Patches: what is to change of an object, in the forms in which clients send it.

use serde_json::Value;

use crate::status::{Reason, Status};

/// Steps of one patch: each may nest an object deeper.
const MOST_STEPS: usize = 1000;
/// Bytes of what comes of a patch that copies: twice what the largest object may have.
const MOST_BYTES: usize = 2 * 1024 * 1024;

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
            Self::Json(patch) => apply_steps(&mut patched, patch)?,
            Self::Merge(patch) | Self::Apply(patch) => json_patch::merge(&mut patched, patch),
        }
        Ok(patched)
    }
}

/// Step by step: an object may not become many times what it was by being copied into itself.
fn apply_steps(object: &mut Value, patch: &json_patch::Patch) -> Result<(), Status> {
    if patch.len() > MOST_STEPS {
        let message = format!("the patch has {} steps, and may have {MOST_STEPS}", patch.len());
        return Err(Status::new(Reason::RequestEntityTooLarge, message));
    }
    for step in patch.iter() {
        if holds_as_there_is_nothing(object, step) {
            continue;
        }
        json_patch::patch(object, std::slice::from_ref(step)).map_err(|error| {
            let message = format!("the server rejected our request: the patch cannot be applied: {error}");
            Status::new(Reason::Invalid, message)
        })?;
        let is_copy = matches!(step, json_patch::PatchOperation::Copy(_));
        if is_copy && object.to_string().len() > MOST_BYTES {
            let message = format!("by the patch the object has more than {MOST_BYTES} bytes");
            return Err(Status::new(Reason::RequestEntityTooLarge, message));
        }
    }
    Ok(())
}

/// A test for null says that a field is not there, as it does to Kubernetes: how clients add the first entry of a list. The
/// RFC has no such test.
fn holds_as_there_is_nothing(object: &Value, step: &json_patch::PatchOperation) -> bool {
    let json_patch::PatchOperation::Test(test) = step else { return false };
    let holder = test.path.parent().and_then(|holder| object.pointer(holder.as_str()));
    test.value.is_null()
        && holder.is_some_and(Value::is_object)
        && object.pointer(test.path.as_str()).is_none()
}

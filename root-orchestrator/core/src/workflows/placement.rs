//! Where a task may run: as a service says it, which is what an attempt becomes.

use serde_json::Map;
use workflow::{Cause, CauseReason, TaskSpec};

use crate::sla::{Placement, SlaError, SlaErrorCode, parse_placement};

const PATH: &str = "spec.placement";

/// What a task says of where it may run.
pub(super) fn placement(spec: &TaskSpec) -> Result<Placement, Vec<Cause>> {
    let nothing = Map::new();
    let said = spec.placement.as_ref().and_then(|placement| placement.as_object()).unwrap_or(&nothing);
    parse_placement(PATH, said).map_err(|errors| errors.iter().map(cause).collect())
}

/// A problem in the words of resources, where the place stands apart from the message.
fn cause(error: &SlaError) -> Cause {
    let message = error.message.strip_prefix(&format!("`{}` ", error.path)).unwrap_or(&error.message);
    let reason = match error.code {
        SlaErrorCode::UnknownField => CauseReason::Unknown,
        SlaErrorCode::MissingField => CauseReason::Required,
        SlaErrorCode::WrongType => CauseReason::TypeInvalid,
        SlaErrorCode::Duplicate => CauseReason::Duplicate,
        SlaErrorCode::NotSupported => CauseReason::NotSupported,
        SlaErrorCode::TooLarge => CauseReason::TooLong,
        SlaErrorCode::InvalidJson
        | SlaErrorCode::UnsupportedVersion
        | SlaErrorCode::InvalidValue
        | SlaErrorCode::Conflict => CauseReason::Invalid,
    };
    Cause { field: error.path.clone(), reason, message: message.to_owned() }
}

//! The resource API, which clients of Kubernetes speak: what there is is found in `discovery.rs`, objects are read in `read.rs`,
//! watched in `watch.rs` and written in `write.rs`; `kinds.rs` says where the objects of each kind are and who may do what with
//! them. `workflows.rs` says what tasks, ignitors and runs are. `views.rs` shows what has a form of its own in the REST API,
//! `viewed.rs` writes it, and `scale.rs` how many instances there shall be; `happened.rs` shows what has
//! happened. What becomes of objects is worked out in `crates/resources`. The routes are in `platform.rs`, `namespaced.rs` and
//! `core.rs`, what their paths say in `paths.rs`; who may do what is asked in `reviews.rs`.

mod answer;
mod asked;
mod core;
mod discovery;
mod happened;
mod kinds;
mod list;
mod namespaced;
mod paths;
mod platform;
mod read;
mod reviews;
mod rows;
mod scale;
mod viewed;
mod views;
mod watch;
mod workflows;
mod write;

use utoipa_axum::{router::OpenApiRouter, routes};

use super::{Context, Shared, State, error::Error};
use crate::auth::Caller;
use answer::Failure;

/// What handlers return.
type Answer = Result<axum::response::Response, Failure>;
/// Who asks, or why that is not known.
type Asking = Result<Caller, Error>;

/// The routes with their description.
pub(super) fn routes() -> OpenApiRouter<Context> {
    OpenApiRouter::new()
        .routes(routes!(discovery::core_versions))
        .routes(routes!(discovery::groups))
        .routes(routes!(discovery::group))
        .routes(routes!(discovery::kinds_of))
        .routes(routes!(discovery::core_kinds))
        .routes(routes!(discovery::version))
        .routes(routes!(discovery::descriptions))
        .routes(routes!(discovery::description))
        .routes(routes!(discovery::core_description))
        .routes(routes!(reviews::may_i))
        .routes(routes!(reviews::what_may_i))
        .routes(routes!(reviews::who_am_i))
        .routes(routes!(core::list, core::create))
        .routes(routes!(core::get, core::delete))
        .routes(routes!(core::list_all_events))
        .routes(routes!(core::list_events))
        .routes(routes!(core::get_event))
        .routes(routes!(platform::list, platform::create, platform::delete_all))
        .routes(routes!(platform::get, platform::replace, platform::patch, platform::delete))
        .routes(routes!(platform::get_status, platform::replace_status, platform::patch_status))
        .routes(routes!(namespaced::list, namespaced::create, namespaced::delete_all))
        .routes(routes!(namespaced::get, namespaced::replace, namespaced::patch, namespaced::delete))
        .routes(routes!(namespaced::get_status, namespaced::replace_status, namespaced::patch_status))
        .routes(routes!(namespaced::get_scale, namespaced::replace_scale, namespaced::patch_scale))
}

/// The present, as objects have it: to the second.
fn now() -> String {
    let now = daemon::now();
    super::rfc3339(model::Timestamp(now.0 / 1000 * 1000))
}

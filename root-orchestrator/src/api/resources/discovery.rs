//! How clients find what there is: kinds, their descriptions, and the version they take the root for.

use ::resources::{Catalog, openapi};
use axum::{
    Json,
    http::{HeaderMap, HeaderValue, header},
    response::{IntoResponse, Response},
};
use serde_json::{Value, json};

use super::{
    super::Path, Answer, Asking, Context, Shared, State, answer::Answers, asked::wants_aggregated, kinds,
};

async fn catalog(context: &Context) -> Catalog {
    kinds::catalog(&*context.brain.read().await)
}

/// All kinds in one document, as a client wants it.
fn aggregated(mut document: Value, version: &str) -> Response {
    document["apiVersion"] = Value::from(format!("apidiscovery.k8s.io/{version}"));
    let form = format!("application/json;g=apidiscovery.k8s.io;v={version};as=APIGroupDiscoveryList");
    let mut response = Json(document).into_response();
    if let Ok(value) = HeaderValue::from_str(&form) {
        response.headers_mut().insert(header::CONTENT_TYPE, value);
    }
    response
}

/// List the versions of the core group
#[utoipa::path(get, path = "/api", tag = "resources", responses(Answers))]
pub(in crate::api) async fn core_versions(
    State(context): Shared,
    caller: Asking,
    headers: HeaderMap,
) -> Answer {
    caller?;
    Ok(match wants_aggregated(&headers) {
        Some(version) => aggregated(catalog(&context).await.aggregated(true), version),
        None => Json(Catalog::core_versions()).into_response(),
    })
}

/// List the groups of kinds
#[utoipa::path(get, path = "/apis", tag = "resources", responses(Answers))]
pub(in crate::api) async fn groups(State(context): Shared, caller: Asking, headers: HeaderMap) -> Answer {
    caller?;
    let catalog = catalog(&context).await;
    Ok(match wants_aggregated(&headers) {
        Some(version) => aggregated(catalog.aggregated(false), version),
        None => Json(catalog.group_list()).into_response(),
    })
}

/// Show a group of kinds
#[utoipa::path(get, path = "/apis/{group}", tag = "resources",
    params(("group" = String, Path, description = "Such as `example.com`")), responses(Answers))]
pub(in crate::api) async fn group(
    State(context): Shared,
    caller: Asking,
    Path(group): Path<String>,
) -> Answer {
    caller?;
    Ok(Json(catalog(&context).await.group(&group)?).into_response())
}

/// List the kinds of a version of a group
#[utoipa::path(get, path = "/apis/{group}/{version}", tag = "resources",
    params(("group" = String, Path, description = "Such as `example.com`"), ("version" = String, Path, description = "Such as `v1`")),
    responses(Answers))]
pub(in crate::api) async fn kinds_of(
    State(context): Shared,
    caller: Asking,
    Path((group, version)): Path<(String, String)>,
) -> Answer {
    caller?;
    Ok(Json(catalog(&context).await.resource_list(&group, &version)?).into_response())
}

/// List the kinds of the core group
#[utoipa::path(get, path = "/api/v1", tag = "resources", responses(Answers))]
pub(in crate::api) async fn core_kinds(State(context): Shared, caller: Asking) -> Answer {
    caller?;
    Ok(Json(catalog(&context).await.resource_list("", "v1")?).into_response())
}

/// Say which version of Kubernetes clients may take the root for
#[utoipa::path(get, path = "/version", tag = "resources", security(()), responses(Answers))]
pub(in crate::api) async fn version() -> Json<Value> {
    let own = env!("CARGO_PKG_VERSION");
    Json(json!({
        "major": "1", "minor": "32", "gitVersion": format!("v1.32.0+mangrove-{own}"), "gitCommit": "",
        "gitTreeState": "clean", "buildDate": "1970-01-01T00:00:00Z", "goVersion": "", "compiler": "rustc",
        "platform": format!("{}/{}", std::env::consts::OS, std::env::consts::ARCH),
    }))
}

/// Say where the descriptions of kinds are
#[utoipa::path(get, path = "/openapi/v3", tag = "resources", responses(Answers))]
pub(in crate::api) async fn descriptions(State(context): Shared, caller: Asking) -> Answer {
    caller?;
    let name = |document: &Value| {
        let digest = ring::digest::digest(&ring::digest::SHA256, document.to_string().as_bytes());
        data_encoding::HEXUPPER.encode(digest.as_ref())
    };
    Ok(Json(openapi::index(&catalog(&context).await, name)).into_response())
}

/// Describe the kinds of a version of a group
#[utoipa::path(get, path = "/openapi/v3/apis/{group}/{version}", tag = "resources",
    params(("group" = String, Path, description = "Such as `example.com`"), ("version" = String, Path, description = "Such as `v1`")),
    responses(Answers))]
pub(in crate::api) async fn description(
    State(context): Shared,
    caller: Asking,
    Path((group, version)): Path<(String, String)>,
) -> Answer {
    caller?;
    Ok(Json(openapi::document(&catalog(&context).await, &group, &version)?).into_response())
}

/// Describe the kinds of the core group
#[utoipa::path(get, path = "/openapi/v3/api/v1", tag = "resources", responses(Answers))]
pub(in crate::api) async fn core_description(State(context): Shared, caller: Asking) -> Answer {
    caller?;
    Ok(Json(openapi::document(&catalog(&context).await, "", "v1")?).into_response())
}

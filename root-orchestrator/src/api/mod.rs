//! The REST API on port 10000: Oakestra's paths and shapes, documented by OpenAPI 3.1 generated from the handlers.
//!
//! Both `/path` and `/path/` are answered without a redirect, and any origin may ask: tokens travel in a header, never
//! in a cookie.

mod applications;
mod auth;
mod changes;
mod clusters;
mod error;
mod logs;
mod secrets;
mod services;
mod tokens;
mod views;
mod watch;
mod workers;

use std::sync::Arc;

use axum::{
    Router,
    extract::{DefaultBodyLimit, FromRequestParts, State, rejection::BytesRejection},
    http::{HeaderMap, Method, header, request::Parts},
};
use bytes::Bytes;
use root_core::sla::MAX_BODY_BYTES;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tower::Layer;
use tower_http::{
    cors::{AllowHeaders, AllowOrigin, CorsLayer},
    normalize_path::NormalizePathLayer,
};
use utoipa::{
    Modify, OpenApi,
    openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme},
};
use utoipa_axum::{router::OpenApiRouter, routes};
use utoipa_swagger_ui::SwaggerUi;

use crate::{Brain, auth::Caller, auth::Users, links::Links, surroundings::Watch, vault::Vault};
use error::Error;

/// What every handler can reach.
#[derive(Clone)]
pub(crate) struct Context {
    pub(crate) brain: Brain,
    pub(crate) links: Arc<Links>,
    pub(crate) users: Arc<Users>,
    pub(crate) watch: Watch,
    pub(crate) vault: Arc<Vault>,
    pub(crate) ca_pin: [u8; 32],
}

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Mangrove root API",
        description = "Deploy applications onto clusters of devices. Compatible with Oakestra's root API."
    ),
    modifiers(&BearerToken),
    security(("bearer" = []))
)]
struct Description;

struct BearerToken;

impl Modify for BearerToken {
    fn modify(&self, openapi: &mut utoipa::openapi::OpenApi) {
        let scheme = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).bearer_format("JWT").build();
        let components = openapi.components.get_or_insert_default();
        components.add_security_scheme("bearer", SecurityScheme::Http(scheme));
    }
}

/// The routes with their description.
fn described() -> OpenApiRouter<Context> {
    OpenApiRouter::with_openapi(Description::openapi())
        .routes(routes!(auth::log_in))
        .routes(routes!(auth::refresh))
        .routes(routes!(applications::list))
        .routes(routes!(applications::create))
        .routes(routes!(applications::get, applications::delete))
        // The list of one user's applications shares its path's shape with nothing else.
        .routes(routes!(applications::list_of_user))
        .routes(routes!(services::list, services::create))
        .routes(routes!(services::list_of_application))
        .routes(routes!(services::get, changes::update, services::delete))
        .routes(routes!(changes::deploy))
        .routes(routes!(changes::undeploy))
        .routes(routes!(changes::scale))
        .routes(routes!(changes::roll_back))
        .routes(routes!(changes::list_revisions))
        .routes(routes!(logs::read))
        .routes(routes!(watch::watch))
        .routes(routes!(clusters::list))
        .routes(routes!(clusters::list_active))
        .routes(routes!(workers::list))
        .routes(routes!(workers::cordon))
        .routes(routes!(workers::uncordon))
        .routes(routes!(workers::drain))
        .routes(routes!(workers::forget))
        .routes(routes!(workers::rebalance))
        .routes(routes!(tokens::list, tokens::create))
        .routes(routes!(tokens::revoke))
        .routes(routes!(secrets::list, secrets::create))
        .routes(routes!(secrets::rotate, secrets::delete))
}

/// Everything that is served.
pub(crate) fn router(context: Context) -> Router {
    let (api, description) = described().split_for_parts();
    let api = api
        .fallback(error::no_such_path)
        .method_not_allowed_fallback(error::no_such_method)
        .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
        .with_state(context);
    // Outside: its relative links need the slash at the end that the API does without.
    let page = SwaggerUi::new("/api/docs").url("/docs/openapi.json", description);
    Router::new()
        .merge(page)
        .fallback_service(NormalizePathLayer::trim_trailing_slash().layer(api))
        .layer(cors())
}

fn cors() -> CorsLayer {
    CorsLayer::new()
        .allow_origin(AllowOrigin::mirror_request())
        .allow_headers(AllowHeaders::mirror_request())
        .allow_methods([
            Method::DELETE,
            Method::GET,
            Method::HEAD,
            Method::OPTIONS,
            Method::PATCH,
            Method::POST,
            Method::PUT,
        ])
}

/// Serves until `shutdown`; requests under way may finish unless they follow something.
pub(crate) async fn serve(
    listener: TcpListener,
    router: Router,
    shutdown: CancellationToken,
) -> std::io::Result<()> {
    tokio::select! {
        served = axum::serve(listener, router) => served,
        // Watchers and log readers would hold the end back for ever; they reconnect.
        () = shutdown.cancelled() => Ok(()),
    }
}

fn authorization(headers: &HeaderMap) -> Option<&str> {
    headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok())
}

impl FromRequestParts<Context> for Caller {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, context: &Context) -> Result<Self, Error> {
        Ok(context.users.caller(authorization(&parts.headers)).await?)
    }
}

impl Caller {
    /// Refuses everybody else.
    fn must_be_admin(&self) -> Result<(), Error> {
        if self.is_admin() { Ok(()) } else { Err(Error::forbidden()) }
    }
}

/// The body of a request, with a refusal in our own words.
pub(crate) type Body = Result<Bytes, BytesRejection>;

/// What handlers take.
pub(crate) type Shared = State<Context>;

//! The REST API on port 10000: Oakestra's paths and shapes, documented by OpenAPI 3.1 generated from the handlers.
//!
//! Both `/path` and `/path/` are answered without a redirect, and any origin may ask: tokens travel in a header, never
//! in a cookie. The one cookie there is ties a login under way to its browser (`oidc.rs`).

mod api_tokens;
mod applications;
mod audit;
mod auth;
mod body;
mod calls;
mod certificates;
mod changes;
mod clusters;
mod custom_resources;
mod error;
mod hooks;
mod ignitors;
mod logs;
mod metrics;
mod oidc;
mod organizations;
mod resources;
mod secrets;
mod serve;
mod services;
mod tls;
mod tokens;
mod users;
mod views;
mod watch;
mod workers;

use std::sync::Arc;

use axum::{
    Router,
    extract::{self, DefaultBodyLimit, FromRequestParts},
    http::{HeaderMap, Method, header, request::Parts},
    middleware,
};
use link::{Authority, Identity};
use model::{ClusterId, OrganizationId};
use root_core::{
    State as Truth,
    access::{Kind, Of, Role, Verb, Verdict},
    sla::MAX_BODY_BYTES,
};
use serde::de::DeserializeOwned;
use store::Store;
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

use crate::{
    Brain, audit::Audited, auth::Authentication, auth::Caller, hooks::Client, links::Links,
    surroundings::Watch, vault::Vault,
};
use body::Body;
pub(crate) use calls::State;
use error::Error;
pub(crate) use ignitors::Callers;
pub(crate) use serve::serve;
pub use tls::ApiTlsConfig;
pub(crate) use tls::Transport;
pub(crate) use views::{date, rfc3339};

/// What every handler can reach.
#[derive(Clone)]
pub(crate) struct Context {
    /// For the request that is being answered.
    pub(crate) brain: Audited,
    /// Where records are read.
    pub(crate) store: Arc<dyn Store>,
    pub(crate) links: Arc<Links>,
    pub(crate) authentication: Arc<Authentication>,
    pub(crate) watch: Watch,
    pub(crate) vault: Arc<Vault>,
    pub(crate) hook_client: Client,
    /// Those who call ignitors.
    pub(crate) callers: Arc<Callers>,
    pub(crate) ca_pin: [u8; 32],
    pub(crate) authority: Arc<Authority>,
    /// The root's own certificate, and what time it is where certificates are judged.
    pub(crate) own: tokio::sync::watch::Receiver<Identity>,
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
        .routes(routes!(auth::log_out))
        .routes(routes!(auth::can_i))
        .routes(routes!(auth::public_keys))
        .routes(routes!(oidc::begin))
        .routes(routes!(oidc::finish))
        .routes(routes!(oidc::begin_device))
        .routes(routes!(oidc::finish_device))
        .routes(routes!(api_tokens::list, api_tokens::create))
        .routes(routes!(api_tokens::revoke))
        .routes(routes!(users::register))
        .routes(routes!(users::no_mail, users::redeem_reset))
        .routes(routes!(users::get, users::change_password, users::update, users::delete))
        .routes(routes!(users::offer_reset))
        .routes(routes!(users::list))
        .routes(routes!(users::list_of_organization))
        .routes(routes!(users::permissions))
        .routes(routes!(organizations::list, organizations::create))
        .routes(routes!(organizations::update, organizations::delete))
        .routes(routes!(organizations::get_quota, organizations::set_quota))
        .routes(routes!(applications::list))
        .routes(routes!(applications::create))
        .routes(routes!(applications::get, applications::update, applications::delete))
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
        .routes(routes!(hooks::list, hooks::create))
        .routes(routes!(hooks::get, hooks::update, hooks::delete))
        .routes(routes!(ignitors::call))
        .routes(routes!(custom_resources::list_types, custom_resources::create_type))
        .routes(routes!(custom_resources::list, custom_resources::create, custom_resources::delete_type))
        .routes(routes!(custom_resources::get, custom_resources::update, custom_resources::delete))
        .routes(routes!(certificates::list))
        .routes(routes!(certificates::revoke))
        .routes(routes!(certificates::list_of_workers))
        .routes(routes!(certificates::revoke_of_worker))
        .routes(routes!(metrics::read))
        .routes(routes!(audit::list))
        .routes(routes!(audit::export))
        .routes(routes!(audit::verify))
        .merge(resources::routes())
}

/// Everything that is served.
pub(crate) fn router(context: Context, brain: Brain) -> Router {
    let (api, description) = described().split_for_parts();
    let api = api
        .fallback(error::no_such_path)
        .method_not_allowed_fallback(error::no_such_method)
        .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
        .layer(middleware::from_fn_with_state(brain, calls::accompany))
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
        .expose_headers([calls::REQUEST_ID.clone()])
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

fn authorization(headers: &HeaderMap) -> Option<&str> {
    headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok())
}

impl FromRequestParts<Context> for Caller {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, context: &Context) -> Result<Self, Error> {
        let brain = calls::audited(parts)?;
        Ok(context.authentication.caller(&brain, authorization(&parts.headers)).await?)
    }
}

impl Caller {
    /// Refuses who may not do that in the caller's organisation, to the platform or to what is the caller's own: whose a
    /// resource of that kind is.
    fn must(&self, verb: Verb, kind: Kind) -> Result<(), Error> {
        permit(self.may_usually(verb, kind))
    }

    /// Refuses who may not do that to anything, neither as by [`Self::must`] nor at a single cluster. Whoever is let
    /// through must still be asked about by [`Self::must_of`].
    fn must_somewhere(&self, verb: Verb, kind: Kind) -> Result<(), Error> {
        permit(self.may_somewhere(verb, kind))
    }

    /// Refuses who may not do that to something of `of`.
    fn must_of(&self, verb: Verb, kind: Kind, of: Of) -> Result<(), Error> {
        permit(self.may(verb, kind, of))
    }

    /// The cluster of that name or id, unless the caller may not do that to something of it. Whoever may do it only at others
    /// is not told whether there is such a cluster.
    fn must_at(&self, state: &Truth, verb: Verb, kind: Kind, cluster: &str) -> Result<ClusterId, Error> {
        let found = workers::find(state, cluster);
        self.must_of(verb, kind, workers::owner(&found))?;
        found
    }

    /// Refuses everybody but administrators of the platform.
    fn must_be_admin(&self) -> Result<(), Error> {
        if self.rights.is_platform_admin() && self.rights.holds(Role::Admin) {
            return Ok(());
        }
        Err(Error::forbidden(
            "You have not enough permissions! This takes the role Admin in the organisation `root`.",
        ))
    }

    /// A document of an organisation, unless the caller may not do that to it. One of another organisation is answered
    /// as one that is not there.
    fn must_for<T>(
        &self,
        verb: Verb,
        kind: Kind,
        found: Option<(T, OrganizationId)>,
        absent: impl FnOnce() -> Error,
    ) -> Result<T, Error> {
        let verdict = |organization| self.may(verb, kind, Of::Organization(organization));
        match found.map(|(found, organization)| (found, verdict(organization))) {
            Some((found, Verdict::Allowed)) => Ok(found),
            Some((_, Verdict::Refused(refused))) => Err(Error::forbidden(refused.to_string())),
            Some((_, Verdict::Hidden)) | None => {
                // Who may not do that to anything is told so, and learns nothing of what there is.
                self.must(verb, kind)?;
                Err(absent())
            }
        }
    }
}

fn permit(verdict: Verdict) -> Result<(), Error> {
    match verdict {
        Verdict::Allowed => Ok(()),
        Verdict::Hidden => Err(Error::forbidden("it is another organisation's")),
        Verdict::Refused(refused) => Err(Error::forbidden(refused.to_string())),
    }
}

/// The parts of a path. One that cannot be read leads nowhere.
#[derive(Debug)]
pub(crate) struct Path<T>(pub(crate) T);

impl<T: DeserializeOwned + Send> FromRequestParts<Context> for Path<T> {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, context: &Context) -> Result<Self, Error> {
        match extract::Path::from_request_parts(parts, context).await {
            Ok(extract::Path(path)) => Ok(Self(path)),
            Err(_) => Err(error::no_such_path(parts.uri.clone()).await),
        }
    }
}

/// What handlers take.
pub(crate) type Shared = State<Context>;

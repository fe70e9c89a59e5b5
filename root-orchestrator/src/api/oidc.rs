//! Logging in at an identity provider: what browsers are sent through, and what devices ask.

use axum::{
    Json,
    extract::{Query, rejection::QueryRejection},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Deserialize;

use super::{
    Body, Shared, State, body,
    error::{Error, ErrorBody},
};
use crate::{
    auth::TokenPair,
    oidc::{Begun, DeviceLogin, Returned},
};

/// Ties a login to the browser that began it; sealed, and of no use by itself.
const COOKIE: &str = "mangrove_oidc";
/// Seconds it lasts, which is as long as what is sealed in it.
const COOKIE_SECONDS: u32 = 600;

/// To what to log in.
#[derive(Debug, Default, Deserialize, utoipa::ToSchema, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct Wanted {
    /// The organisation; if not given `root`, or the first one the user is given something in.
    organization_name: Option<String>,
}

impl Wanted {
    fn organization(self) -> Option<String> {
        self.organization_name.filter(|name| !name.is_empty())
    }
}

/// Which login is asked about.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
pub(crate) struct DeviceQuestion {
    /// From `/api/auth/oidc/device`.
    device_code: String,
}

/// Begin to log in at the identity provider, in a browser
#[utoipa::path(get, path = "/api/auth/oidc/login", tag = "auth", params(Wanted), security(()), responses(
    (status = 303, description = "To the identity provider"),
    (status = 404, description = "No identity provider is configured", body = ErrorBody),
    (status = 409, description = "Only devices can log in there", body = ErrorBody),
    (status = 422, description = "A query that cannot be read", body = ErrorBody),
    (status = 502, description = "The identity provider gives no good answer", body = ErrorBody),
))]
pub(super) async fn begin(
    State(context): Shared,
    wanted: Result<Query<Wanted>, QueryRejection>,
) -> Result<Response, Error> {
    let oidc = context.authentication.oidc()?;
    let Query(wanted) = wanted.map_err(|rejection| Error::bad_field("query", rejection.body_text()))?;
    let Begun { address, cookie, is_secure } = oidc.begin(wanted.organization()).await?;
    let headers =
        [(header::LOCATION, address), (header::SET_COOKIE, set(&cookie, COOKIE_SECONDS, is_secure))];
    Ok(unseen((StatusCode::SEE_OTHER, headers).into_response()))
}

/// Finish a login in a browser that the identity provider sent back
#[utoipa::path(get, path = "/api/auth/oidc/callback", tag = "auth", params(Returned), security(()), responses(
    (status = 200, body = TokenPair),
    (status = 400, description = "This browser began no such login, or too long ago", body = ErrorBody),
    (status = 401, description = "What the provider says does not count", body = ErrorBody),
    (status = 403, description = "Refused by the provider, or no grant is for this user", body = ErrorBody),
    (status = 404, description = "No identity provider is configured", body = ErrorBody),
    (status = 409, description = "Only devices can log in there", body = ErrorBody),
    (status = 422, description = "A query that cannot be read", body = ErrorBody),
    (status = 502, description = "The identity provider gives no good answer", body = ErrorBody),
))]
pub(super) async fn finish(
    State(context): Shared,
    headers: HeaderMap,
    returned: Result<Query<Returned>, QueryRejection>,
) -> Result<Response, Error> {
    let oidc = context.authentication.oidc()?;
    let Query(returned) = returned.map_err(|rejection| Error::bad_field("query", rejection.body_text()))?;
    let logged_in = oidc.finish(cookie(&headers).unwrap_or_default(), returned).await?;
    let pair = context.authentication.log_in_confirmed(&context.brain, logged_in).await?;
    let forget = [(header::SET_COOKIE, set("", 0, false))];
    Ok(unseen((forget, Json(pair)).into_response()))
}

/// Begin to log in a device, for which a person goes to the identity provider
#[utoipa::path(post, path = "/api/auth/oidc/device", tag = "auth", request_body = Wanted, security(()), responses(
    (status = 200, body = DeviceLogin),
    (status = 400, description = "Not JSON", body = ErrorBody),
    (status = 403, description = "Refused by the provider", body = ErrorBody),
    (status = 404, description = "No identity provider is configured", body = ErrorBody),
    (status = 409, description = "The provider has no login for devices", body = ErrorBody),
    (status = 422, description = "A field of the wrong type", body = ErrorBody),
    (status = 502, description = "The identity provider gives no good answer", body = ErrorBody),
))]
pub(super) async fn begin_device(State(context): Shared, body: Body) -> Result<Json<DeviceLogin>, Error> {
    let oidc = context.authentication.oidc()?;
    let wanted: Wanted = body::parse(&body?)?;
    Ok(Json(oidc.begin_device(wanted.organization()).await?))
}

/// Ask whether a person has logged in a device; not more often than every `interval` seconds
#[utoipa::path(post, path = "/api/auth/oidc/device/token", tag = "auth", request_body = DeviceQuestion,
    security(()), responses(
    (status = 200, body = TokenPair),
    (status = 400, description = "`authorization_pending`: not yet; `slow_down`: not yet, and ask less often; \
        `login_not_begun`: too late, or never begun", body = ErrorBody),
    (status = 401, description = "What the provider says does not count", body = ErrorBody),
    (status = 403, description = "Refused by the provider, or no grant is for this user", body = ErrorBody),
    (status = 404, description = "No identity provider is configured", body = ErrorBody),
    (status = 422, description = "A field is missing", body = ErrorBody),
    (status = 502, description = "The identity provider gives no good answer", body = ErrorBody),
))]
pub(super) async fn finish_device(State(context): Shared, body: Body) -> Result<Response, Error> {
    let oidc = context.authentication.oidc()?;
    let question: DeviceQuestion = body::parse_unshown(&body?, "an object with `device_code`")?;
    let logged_in = oidc.finish_device(&question.device_code).await?;
    let pair = context.authentication.log_in_confirmed(&context.brain, logged_in).await?;
    Ok(unseen(Json(pair).into_response()))
}

fn set(value: &str, seconds: u32, is_secure: bool) -> String {
    let secure = if is_secure { "; Secure" } else { "" };
    // `Lax`, as it comes back with a link of another site.
    format!("{COOKIE}={value}; Path=/api/auth/oidc; Max-Age={seconds}; HttpOnly; SameSite=Lax{secure}")
}

fn cookie(headers: &HeaderMap) -> Option<&str> {
    let all = headers.get_all(header::COOKIE).into_iter().filter_map(|value| value.to_str().ok());
    let mut pairs = all.flat_map(|value| value.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.find(|(name, _)| *name == COOKIE).map(|(_, value)| value)
}

/// Neither kept by browsers and proxies nor told to whom a page leads.
fn unseen(mut response: Response) -> Response {
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cookie_goes_back_to_the_root_alone_and_no_page_reads_it() {
        let expected = "mangrove_oidc=x; Path=/api/auth/oidc; Max-Age=600; HttpOnly; SameSite=Lax";
        assert_eq!(set("x", COOKIE_SECONDS, false), expected);
        assert_eq!(set("x", COOKIE_SECONDS, true), format!("{expected}; Secure"));
    }
}

//! Logging in.

use axum::{
    Json,
    extract::State,
    http::{HeaderMap, StatusCode},
};
use serde::{Deserialize, Serialize};

use super::{
    Body, Shared, authorization,
    error::{Error, ErrorBody},
};
use crate::auth::TokenPair;

/// Who wants to log in.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
pub(crate) struct Login {
    #[schema(example = "Admin")]
    username: String,
    password: String,
    /// `root` or nothing.
    organization_name: Option<String>,
}

/// A new access token.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct AccessToken {
    token: String,
}

/// Log in with name and password
#[utoipa::path(post, path = "/api/auth/login", tag = "auth", request_body = Login, security(()), responses(
    (status = 200, body = TokenPair),
    (status = 400, description = "The body is not JSON", body = ErrorBody),
    (status = 401, description = "Wrong name or password", body = ErrorBody),
    (status = 404, description = "No such organisation", body = ErrorBody),
    (status = 422, description = "A field is missing", body = ErrorBody),
))]
pub(super) async fn log_in(State(context): Shared, body: Body) -> Result<Json<TokenPair>, Error> {
    let login: Login = parse(&body?)?;
    let organization = login.organization_name.as_deref().filter(|name| !name.is_empty());
    Ok(Json(context.users.log_in(&login.username, login.password, organization).await?))
}

/// Get a new access token with the refresh token as bearer
#[utoipa::path(post, path = "/api/auth/refresh", tag = "auth", responses(
    (status = 200, body = AccessToken),
    (status = 401, description = "The token is missing, expired or not valid", body = ErrorBody),
    (status = 422, description = "Not a refresh token", body = ErrorBody),
))]
pub(super) async fn refresh(State(context): Shared, headers: HeaderMap) -> Result<Json<AccessToken>, Error> {
    let token = context.users.refresh(authorization(&headers)).await?;
    Ok(Json(AccessToken { token }))
}

/// Reads a small JSON body; the error names the field.
pub(super) fn parse<T: serde::de::DeserializeOwned>(body: &[u8]) -> Result<T, Error> {
    serde_json::from_slice(body).map_err(|error| {
        let message = format!("the body is not what is expected here: {error}");
        match error.classify() {
            serde_json::error::Category::Data => {
                Error::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid_value", message)
            }
            serde_json::error::Category::Io
            | serde_json::error::Category::Syntax
            | serde_json::error::Category::Eof => {
                Error::new(StatusCode::BAD_REQUEST, "invalid_json", message)
            }
        }
    })
}

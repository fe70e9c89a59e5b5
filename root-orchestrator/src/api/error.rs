//! The one place that turns what went wrong into an HTTP answer.
//!
//! Every answer of 400 and above is `{"code": 404, "status": "Not Found", "error": "no_application", "message": "…"}`:
//! the first two as Oakestra sends them, `error` a stable code, `message` what, where, why and what to do.

use ::resources::{Reason, Status, status::Cause};
use axum::{
    Json,
    extract::rejection::BytesRejection,
    http::{HeaderValue, Method, StatusCode, Uri, header},
    response::{IntoResponse, Response},
};
use control::Stopping;
use root_core::{
    HookRejected, PeopleRejected, Rejected, ResourceRejected, SchemaProblem,
    sla::{SlaErrorCode, SlaErrors},
};
use serde::Serialize;

use super::serve::BodyError;
use crate::{
    auth::{AuthError, LoginError},
    links::AskError,
    oidc::OidcError,
};

/// What a failed request is answered with.
#[derive(Debug, Clone, Serialize, utoipa::ToSchema)]
pub(crate) struct ErrorBody {
    /// The HTTP status code.
    #[schema(example = 404)]
    pub(crate) code: u16,
    /// The HTTP reason phrase.
    #[schema(example = "Not Found")]
    pub(crate) status: String,
    /// A stable code for programs.
    #[schema(example = "no_application")]
    pub(crate) error: String,
    /// What is wrong, where, and what to do.
    pub(crate) message: String,
    /// The problems of a document one by one, when there is one.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) problems: Vec<Problem>,
    /// The id of the request, as in the header `X-Request-Id`, in logs and in records.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) request_id: Option<String>,
}

/// One problem of a document.
#[derive(Debug, Clone, Serialize, utoipa::ToSchema)]
pub(crate) struct Problem {
    /// A stable code for programs.
    error: String,
    /// Where in the document.
    #[schema(example = "applications[0].microservices[1].port")]
    field: String,
    /// What is wrong.
    message: String,
}

/// Why a request is refused.
#[derive(Debug)]
pub(crate) struct Error {
    status: StatusCode,
    code: &'static str,
    message: String,
    problems: Vec<Problem>,
    /// Seconds after which it is worth trying again, if that is known.
    retry_after: Option<u64>,
}

impl Error {
    pub(crate) fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into(), problems: Vec::new(), retry_after: None }
    }

    /// Says after how many seconds it is worth trying again.
    pub(crate) fn retry_after(self, seconds: u64) -> Self {
        Self { retry_after: Some(seconds), ..self }
    }

    pub(crate) fn no_application(id: &str) -> Self {
        Rejected::NoApplication(id.to_owned()).into()
    }

    pub(crate) fn no_service(id: &str) -> Self {
        Rejected::NoService(id.to_owned()).into()
    }

    pub(crate) fn no_cluster(name: &str) -> Self {
        let message = format!("there is no cluster `{name}`; list them with `mangrove get clusters`");
        Self::new(StatusCode::NOT_FOUND, "no_cluster", message)
    }

    pub(crate) fn forbidden(why: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, "forbidden", why)
    }

    pub(crate) fn bad_field(field: &str, message: impl Into<String>) -> Self {
        let message = message.into();
        let problem =
            Problem { error: "invalid_value".to_owned(), field: field.to_owned(), message: message.clone() };
        Self {
            problems: vec![problem],
            ..Self::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid_value", message)
        }
    }
}

/// The same for clients of Kubernetes.
impl From<Error> for Status {
    fn from(error: Error) -> Self {
        let reason = match error.status {
            StatusCode::UNAUTHORIZED => Reason::Unauthorized,
            StatusCode::FORBIDDEN => Reason::Forbidden,
            StatusCode::NOT_FOUND => Reason::NotFound,
            StatusCode::METHOD_NOT_ALLOWED => Reason::MethodNotAllowed,
            StatusCode::CONFLICT => Reason::Conflict,
            StatusCode::PAYLOAD_TOO_LARGE => Reason::RequestEntityTooLarge,
            StatusCode::UNPROCESSABLE_ENTITY => Reason::Invalid,
            StatusCode::SERVICE_UNAVAILABLE => Reason::ServiceUnavailable,
            status if status.is_client_error() => Reason::BadRequest,
            _ => Reason::InternalError,
        };
        let cause = |problem: Problem| Cause::invalid(problem.field, problem.message);
        let causes = error.problems.into_iter().map(cause).collect();
        Self { causes, ..Self::new(reason, error.message) }
    }
}

impl IntoResponse for Error {
    fn into_response(self) -> Response {
        let body = ErrorBody {
            code: self.status.as_u16(),
            status: self.status.canonical_reason().unwrap_or_default().to_owned(),
            error: self.code.to_owned(),
            message: self.message,
            problems: self.problems,
            request_id: None,
        };
        let mut response = (self.status, Json(&body)).into_response();
        // For who knows the id of the request, and records how it ended.
        response.extensions_mut().insert(body);
        if matches!(self.status, StatusCode::PAYLOAD_TOO_LARGE | StatusCode::REQUEST_TIMEOUT) {
            // The rest of the body is not read, so nothing more can be asked over this connection.
            response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        if let Some(seconds) = self.retry_after {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}

impl From<Rejected> for Error {
    fn from(rejected: Rejected) -> Self {
        let (status, code) = match rejected {
            Rejected::ApplicationExists { .. } => (StatusCode::CONFLICT, "application_exists"),
            Rejected::ServiceExists { .. } => (StatusCode::CONFLICT, "service_exists"),
            Rejected::NoApplication(_) => (StatusCode::NOT_FOUND, "no_application"),
            Rejected::NoService(_) => (StatusCode::NOT_FOUND, "no_service"),
            Rejected::QuotaExceeded { .. } => (StatusCode::CONFLICT, "quota_exceeded"),
            Rejected::NoInstance { .. } => (StatusCode::NOT_FOUND, "no_instance"),
            Rejected::NoRevision { .. } => (StatusCode::NOT_FOUND, "no_revision"),
            Rejected::NotChangeable(_) => (StatusCode::CONFLICT, "not_changeable"),
            Rejected::AddressTaken { .. } => (StatusCode::CONFLICT, "address_taken"),
            Rejected::NoSecret(_) => (StatusCode::NOT_FOUND, "no_secret"),
            Rejected::NoSuchSecret { .. } => (StatusCode::UNPROCESSABLE_ENTITY, "no_secret"),
            Rejected::SecretExists(_) => (StatusCode::CONFLICT, "secret_exists"),
            Rejected::SecretInUse { .. } => (StatusCode::CONFLICT, "secret_in_use"),
            Rejected::OtherKind { .. } => (StatusCode::UNPROCESSABLE_ENTITY, "wrong_secret_kind"),
            Rejected::SecretGone(_) => (StatusCode::CONFLICT, "secret_gone"),
            Rejected::NoAddress { .. } => (StatusCode::INSUFFICIENT_STORAGE, "no_address"),
        };
        Self::new(status, code, rejected.to_string())
    }
}

impl From<PeopleRejected> for Error {
    fn from(rejected: PeopleRejected) -> Self {
        let (status, code) = match rejected {
            PeopleRejected::UserExists(_) => (StatusCode::CONFLICT, "user_exists"),
            PeopleRejected::OrganizationExists(_) => (StatusCode::CONFLICT, "organization_exists"),
            PeopleRejected::NoUser(_) => (StatusCode::NOT_FOUND, "no_user"),
            PeopleRejected::NoOrganization(_) => (StatusCode::NOT_FOUND, "no_organization"),
            PeopleRejected::NoToken(_) => (StatusCode::NOT_FOUND, "no_api_token"),
            PeopleRejected::Forbidden(_) => (StatusCode::FORBIDDEN, "forbidden"),
            PeopleRejected::MoreThanHeld(_) => (StatusCode::FORBIDDEN, "more_than_held"),
            PeopleRejected::BeyondReach(_) => (StatusCode::FORBIDDEN, "beyond_reach"),
            PeopleRejected::OfProvider(_) => (StatusCode::CONFLICT, "of_provider"),
            PeopleRejected::LastAdmin => (StatusCode::CONFLICT, "last_admin"),
            PeopleRejected::RootStays => (StatusCode::CONFLICT, "root_stays"),
            PeopleRejected::HasApplications(_) => (StatusCode::CONFLICT, "organization_not_empty"),
            PeopleRejected::NoSuchMember(_) => return Self::bad_field("member", rejected.to_string()),
            PeopleRejected::ResetInvalid => (StatusCode::BAD_REQUEST, "reset_invalid"),
            PeopleRejected::ResetExpired => (StatusCode::BAD_REQUEST, "reset_expired"),
            PeopleRejected::TooManyTokens => (StatusCode::CONFLICT, "too_many_tokens"),
        };
        Self::new(status, code, rejected.to_string())
    }
}

impl From<HookRejected> for Error {
    fn from(rejected: HookRejected) -> Self {
        let (status, code) = match &rejected {
            HookRejected::Field { field, message } => return Self::bad_field(field, message.clone()),
            HookRejected::NameTaken(_) | HookRejected::Duplicate(_) => (StatusCode::CONFLICT, "hook_exists"),
            HookRejected::TooMany => (StatusCode::CONFLICT, "too_many_hooks"),
            HookRejected::OfThePlatform => (StatusCode::FORBIDDEN, "forbidden"),
            HookRejected::None(_) => (StatusCode::NOT_FOUND, "no_hook"),
        };
        Self::new(status, code, rejected.to_string())
    }
}

impl From<ResourceRejected> for Error {
    fn from(rejected: ResourceRejected) -> Self {
        let message = rejected.to_string();
        let (status, code) = match rejected {
            ResourceRejected::Type(SchemaProblem { field, message }) => {
                return Self::bad_field(&field, message);
            }
            ResourceRejected::Invalid(problems) => {
                let problem = |it: SchemaProblem| Problem {
                    error: "invalid_value".to_owned(),
                    field: it.field,
                    message: it.message,
                };
                let problems = problems.into_iter().map(problem).collect();
                return Self { problems, ..Self::new(StatusCode::BAD_REQUEST, "invalid_value", message) };
            }
            ResourceRejected::TypeExists(_) => (StatusCode::CONFLICT, "resource_type_exists"),
            ResourceRejected::NoType(_) => (StatusCode::NOT_FOUND, "no_resource_type"),
            ResourceRejected::NoResource { .. } => (StatusCode::NOT_FOUND, "no_resource"),
            ResourceRejected::Changed => (StatusCode::CONFLICT, "changed_meanwhile"),
            ResourceRejected::TooMuch(_) => (StatusCode::CONFLICT, "too_many_resources"),
        };
        Self::new(status, code, message)
    }
}

impl From<AskError> for Error {
    fn from(error: AskError) -> Self {
        let (status, code) = match error {
            AskError::NotConnected => (StatusCode::SERVICE_UNAVAILABLE, "cluster_not_connected"),
            AskError::NoAnswer => (StatusCode::GATEWAY_TIMEOUT, "cluster_no_answer"),
        };
        Self::new(status, code, error.to_string())
    }
}

impl From<SlaErrors> for Error {
    fn from(errors: SlaErrors) -> Self {
        let first = errors.first();
        let status = match first.code {
            SlaErrorCode::InvalidJson => StatusCode::BAD_REQUEST,
            SlaErrorCode::TooLarge if first.path.is_empty() => StatusCode::PAYLOAD_TOO_LARGE,
            SlaErrorCode::TooLarge
            | SlaErrorCode::UnsupportedVersion
            | SlaErrorCode::UnknownField
            | SlaErrorCode::MissingField
            | SlaErrorCode::WrongType
            | SlaErrorCode::InvalidValue
            | SlaErrorCode::Duplicate
            | SlaErrorCode::Conflict
            | SlaErrorCode::NotSupported => StatusCode::UNPROCESSABLE_ENTITY,
        };
        let problems = errors
            .iter()
            .map(|problem| Problem {
                error: problem.code.as_str().to_owned(),
                field: problem.path.clone(),
                message: problem.message.clone(),
            })
            .collect();
        Self { problems, ..Self::new(status, first.code.as_str(), errors.to_string()) }
    }
}

impl From<AuthError> for Error {
    fn from(error: AuthError) -> Self {
        let (status, code) = match error {
            AuthError::Credentials => (StatusCode::UNAUTHORIZED, "wrong_credentials"),
            AuthError::Organization => (StatusCode::NOT_FOUND, "no_organization"),
            AuthError::Missing => (StatusCode::UNAUTHORIZED, "no_token"),
            AuthError::Invalid => (StatusCode::UNAUTHORIZED, "invalid_token"),
            AuthError::Expired => (StatusCode::UNAUTHORIZED, "expired_token"),
            AuthError::WrongType(_) => (StatusCode::UNPROCESSABLE_ENTITY, "wrong_token_type"),
            AuthError::NeedsLogin => (StatusCode::FORBIDDEN, "needs_login"),
            AuthError::TooMany { seconds } => {
                let refused =
                    Self::new(StatusCode::TOO_MANY_REQUESTS, "too_many_attempts", error.to_string());
                return refused.retry_after(seconds);
            }
            AuthError::Stopping(stopping) => return stopping.into(),
        };
        Self::new(status, code, error.to_string())
    }
}

impl From<LoginError> for Error {
    fn from(error: LoginError) -> Self {
        match error {
            LoginError::Auth(error) => error.into(),
            LoginError::Oidc(error) => error.into(),
            LoginError::NoGrant(no_grant) => {
                Self::new(StatusCode::FORBIDDEN, "no_grant", no_grant.to_string())
            }
        }
    }
}

impl From<OidcError> for Error {
    fn from(error: OidcError) -> Self {
        let (status, code) = match &error {
            OidcError::NotConfigured => (StatusCode::NOT_FOUND, "no_identity_provider"),
            OidcError::NoRedirect => (StatusCode::CONFLICT, "no_redirect_url"),
            OidcError::NoDevices => (StatusCode::CONFLICT, "no_device_login"),
            OidcError::Begun => (StatusCode::BAD_REQUEST, "login_not_begun"),
            OidcError::Pending => (StatusCode::BAD_REQUEST, "authorization_pending"),
            OidcError::SlowDown => (StatusCode::BAD_REQUEST, "slow_down"),
            OidcError::Refused(_) => (StatusCode::FORBIDDEN, "refused_by_provider"),
            OidcError::Token(_) => {
                tracing::warn!(%error, "an ID token is refused");
                (StatusCode::UNAUTHORIZED, "invalid_id_token")
            }
            OidcError::Client | OidcError::Silent | OidcError::Resting | OidcError::Http(_) => {
                tracing::warn!(error = %daemon::chain(&error), "the identity provider gives no good answer");
                (StatusCode::BAD_GATEWAY, "no_answer_of_provider")
            }
        };
        Self::new(status, code, error.to_string())
    }
}

impl From<BytesRejection> for Error {
    fn from(rejection: BytesRejection) -> Self {
        let status = rejection.status();
        if status == StatusCode::PAYLOAD_TOO_LARGE {
            let limit = root_core::sla::MAX_BODY_BYTES;
            let message = format!("the body has more than {limit} bytes; split the document");
            return Self::new(status, "too_large", message);
        }
        if BodyError::is_late(&rejection) {
            let message = "the body was not there in time, and is waited for no longer; send it again, or over a faster link";
            return Self::new(StatusCode::REQUEST_TIMEOUT, "body_too_late", message);
        }
        Self::new(status, "unreadable_body", rejection.body_text())
    }
}

impl From<Stopping> for Error {
    fn from(stopping: Stopping) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "stopping", stopping.to_string())
    }
}

pub(super) async fn no_such_path(uri: Uri) -> Error {
    let message = format!("there is nothing at {}; see /api/docs for what there is", uri.path());
    Error::new(StatusCode::NOT_FOUND, "no_such_path", message)
}

pub(super) async fn no_such_method(method: Method, uri: Uri) -> Error {
    let message = format!("{method} is not possible at {}; see /api/docs for what is", uri.path());
    Error::new(StatusCode::METHOD_NOT_ALLOWED, "no_such_method", message)
}

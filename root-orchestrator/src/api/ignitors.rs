//! Calls from outside that make ignitors fire. Nobody logs in for them: a caller proves to know the ignitor's secret by the
//! signature of the call. Whether one counts is decided in `crates/workflow`.

use std::{
    net::{IpAddr, SocketAddr},
    sync::{Mutex, MutexGuard, PoisonError},
};

use axum::{
    Json,
    extract::ConnectInfo,
    http::{HeaderMap, StatusCode},
};
use model::{OrganizationId, Timestamp};
use root_core::Throttle;
use serde::Serialize;
use workflow::{CallIn, CalledIn, MAX_DATA_BYTES, Rejected};

use super::{
    Body, Context, Path, Shared, State,
    error::{Error, ErrorBody},
};
use crate::hooks::{DELIVERY, SIGNATURE, TIMESTAMP, is_signed};

/// Shorter secrets can be guessed from a signature.
const LEAST_SECRET_BYTES: usize = 16;

/// Slows down who calls without knowing a secret.
#[derive(Debug, Default)]
pub(crate) struct Callers(Mutex<Throttle>);

impl Callers {
    fn throttle(&self) -> MutexGuard<'_, Throttle> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn admit(&self, ignitor: &str, from: IpAddr) -> Result<(), Error> {
        let admitted = self.throttle().admit(ignitor, from, daemon::present().moment);
        admitted.map_err(|millis| {
            let seconds = millis.div_ceil(1000);
            let message = format!("too many calls with a wrong signature; try again in {seconds} s");
            Error::new(StatusCode::TOO_MANY_REQUESTS, "too_many_attempts", message).retry_after(seconds)
        })
    }

    fn failed(&self, ignitor: &str, from: IpAddr) {
        self.throttle().failed(ignitor, from, daemon::present().moment);
    }
}

/// What came of a call.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct CallView {
    /// `began`: a run. `known`: this delivery was taken before. `skipped`: runs are in progress, and what overlaps is
    /// skipped.
    #[schema(example = "began")]
    outcome: &'static str,
    /// The number of the run that began.
    #[schema(example = "7")]
    run: Option<String>,
}

/// Have an ignitor fire
///
/// The body, at most 4096 bytes of text, takes the place of the ignitor's data; an empty one does not. The header
/// `Mangrove-Signature` is `v2=` and the hexadecimal HMAC-SHA256 of `Mangrove-Delivery`, `.`, `Mangrove-Timestamp`, `.` and
/// the body under the secret that the ignitor names. A delivery counts once.
#[utoipa::path(post, path = "/api/v1/ignitors/{organization}/{ignitor}/calls", tag = "ignitors", security(()),
    params(
        ("organization" = String, Path, description = "Name of the organisation"),
        ("ignitor" = String, Path, description = "Name of the ignitor"),
        ("Mangrove-Delivery" = Option<String>, Header, description = "From 1 to 128 bytes; the same when the call is made again"),
        ("Mangrove-Timestamp" = Option<String>, Header, description = "When it was signed, in seconds since 1970; at most five minutes ago"),
        ("Mangrove-Signature" = Option<String>, Header, description = "See above"),
    ),
    request_body(content = String, content_type = "text/plain"),
    responses(
        (status = 200, description = "It was taken before, or skipped", body = CallView),
        (status = 202, description = "A run began", body = CallView),
        (status = 400, description = "The body cannot be read", body = ErrorBody),
        (status = 401, description = "It is not signed as it must be, or there is no such ignitor", body = ErrorBody),
        (status = 409, description = "The ignitor is suspended", body = ErrorBody),
        (status = 413, description = "Too large", body = ErrorBody),
        (status = 422, description = "The delivery or the body is not valid", body = ErrorBody),
        (status = 429, description = "Too many calls; `Retry-After` says when to try again", body = ErrorBody),
    ))]
pub(super) async fn call(
    State(context): Shared,
    ConnectInfo(from): ConnectInfo<SocketAddr>,
    Path((organization, ignitor)): Path<(String, String)>,
    headers: HeaderMap,
    body: Body,
) -> Result<(StatusCode, Json<CallView>), Error> {
    // Those who call whenever something happens do so all the time.
    context.brain.describe(|call| call.is_routine = true);
    let body = body?;
    if body.len() > MAX_DATA_BYTES {
        let message = format!("the body may have {MAX_DATA_BYTES} bytes, but has {}", body.len());
        return Err(Error::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", message));
    }
    let account = format!("{organization}/{ignitor}");
    context.callers.admit(&account, from.ip())?;
    let Some(proven) = prove(&context, &organization, &ignitor, &headers, &body).await else {
        context.callers.failed(&account, from.ip());
        return Err(not_signed());
    };
    let Proven { organization, delivery, signed } = proven;
    context.brain.describe(|call| call.organization = Some(organization));
    let data = String::from_utf8(body.to_vec());
    let data = data.map_err(|_| Error::bad_field("body", "the body must be text in UTF-8"))?;
    let call = CallIn { delivery, data: Some(data).filter(|data| !data.is_empty()), signed };
    let came = context.brain.ask(move |state, now| state.call_in(organization, &ignitor, call, now)).await?;
    Ok(match came.map_err(refused)? {
        CalledIn::Began(run) => {
            (StatusCode::ACCEPTED, Json(CallView { outcome: "began", run: Some(run.to_string()) }))
        }
        CalledIn::Known => (StatusCode::OK, Json(CallView { outcome: "known", run: None })),
        CalledIn::Skipped => (StatusCode::OK, Json(CallView { outcome: "skipped", run: None })),
    })
}

/// Of a call by who knows the secret.
struct Proven {
    organization: OrganizationId,
    delivery: String,
    signed: Timestamp,
}

/// Whoever does not know the secret is not told what there is.
async fn prove(
    context: &Context,
    organization: &str,
    ignitor: &str,
    headers: &HeaderMap,
    body: &[u8],
) -> Option<Proven> {
    let header = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let (delivery, timestamp, signature) = (header(DELIVERY)?, header(TIMESTAMP)?, header(SIGNATURE)?);
    let seconds: u64 = timestamp.parse().ok()?;
    let (organization, version, envelope) = {
        let state = context.brain.read().await;
        let organization = state.organization_named(organization)?.id;
        let webhook = state.ignitor_of(organization, ignitor)?.spec.webhook.as_ref()?;
        let version = state.signing_secret(organization, &webhook.secret);
        let version =
            version.inspect_err(|why| tracing::warn!(ignitor, why, "an ignitor cannot be called")).ok()?;
        (organization, version, state.envelope(version)?.clone())
    };
    let secret = context.vault.unseal(version, &envelope)?;
    if secret.reveal().len() < LEAST_SECRET_BYTES {
        tracing::warn!(
            ignitor,
            "an ignitor cannot be called: its secret has fewer than {LEAST_SECRET_BYTES} bytes"
        );
        return None;
    }
    let is_genuine = is_signed(&secret, signature, delivery, timestamp, body);
    let signed = Timestamp(seconds.saturating_mul(1000));
    is_genuine.then(|| Proven { organization, delivery: delivery.to_owned(), signed })
}

fn not_signed() -> Error {
    let message = "the call is not signed as this ignitor wants it, or there is no such ignitor that takes calls; see \
                   docs/workflows.md for the headers Mangrove-Delivery, -Timestamp and -Signature";
    Error::new(StatusCode::UNAUTHORIZED, "not_signed", message)
}

fn refused(rejected: Rejected) -> Error {
    let message = rejected.to_string();
    let (status, code) = match rejected {
        Rejected::Data(_) => (StatusCode::UNPROCESSABLE_ENTITY, "invalid_value"),
        Rejected::Stale { .. } => (StatusCode::UNAUTHORIZED, "stale_signature"),
        Rejected::Suspended(_) => (StatusCode::CONFLICT, "ignitor_suspended"),
        Rejected::TooManyCalls { seconds, .. } => {
            let error = Error::new(StatusCode::TOO_MANY_REQUESTS, "too_many_calls", message);
            return error.retry_after(seconds);
        }
        // It was changed since the signature was looked at.
        Rejected::None { .. } | Rejected::NoWebhook(_) => return not_signed(),
        Rejected::Over(_) | Rejected::InProgress(_) | Rejected::NothingFailed(_) => {
            (StatusCode::CONFLICT, "conflict")
        }
    };
    Error::new(status, code, message)
}

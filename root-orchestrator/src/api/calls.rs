//! What accompanies each request: its id, and, if it may change something, the record of how it ended.

use std::{collections::BTreeMap, net::SocketAddr};

use audit::{Actor, Outcome};
use axum::{
    body::Body,
    extract::{self, ConnectInfo, FromRequestParts, MatchedPath, Request},
    http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header, request::Parts},
    middleware::Next,
    response::{IntoResponse, Response},
};
use root_core::Call;
use tracing::Instrument;

use super::{
    Context,
    error::{Error, ErrorBody},
};
use crate::{Brain, audit::Audited};

/// Names a request in its answer, in logs and in records.
pub(super) static REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// A UUID has 36 and a trace 32.
const LONGEST_ID: usize = 64;
/// Of what kind an error is, in answers that have no [`ErrorBody`].
#[derive(Debug, Clone, Copy)]
pub(super) struct ErrorWord(pub(super) &'static str);

/// Of parameters in paths. Ids and names are shorter, and what is longer may be a token that was put there by mistake.
const LONGEST_PARAMETER: usize = 64;
/// Reads as if it changed nothing, as browsers are sent there, and logs somebody in.
const LOGS_IN: &str = "/api/auth/oidc/callback";
const NOT_SHOWN: &str = "(not shown)";
/// The root keeps neither name nor id of a worker, so neither do its records.
const WORKER: &str = "worker";

/// Gives a request an id and answers with it; records it if it changes something, or would have.
pub(super) async fn accompany(
    extract::State(brain): extract::State<Brain>,
    mut request: Request,
    next: Next,
) -> Response {
    let id = request_id(request.headers());
    let route = request.extensions().get::<MatchedPath>().cloned();
    let call = call_of(&request, route.as_ref(), &id);
    let audited = Audited::new(brain, call);
    request.extensions_mut().insert(audited.clone());
    // What leads nowhere changes nothing.
    if !route.is_some_and(|route| may_change(request.method(), route.as_str())) {
        let span = tracing::debug_span!("request", id);
        return with_id(next.run(request).instrument(span).await, &id);
    }
    let span = tracing::info_span!("request", id);
    let recorded = async move {
        let response = next.run(request).await;
        let response = match audited.ended(outcome_of(&response)).await {
            Ok(()) => response,
            Err(stopping) => Error::from(stopping).into_response(),
        };
        with_id(response, &id)
    };
    // It goes on if the caller hangs up: nobody shall stay out of the records by that.
    match tokio::spawn(recorded.instrument(span)).await {
        Ok(response) => response,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(_) => Error::from(control::Stopping).into_response(),
        },
    }
}

/// Of the API's methods those that do not only read, and the one route that does more than it seems to. Other methods have
/// no route, and might be of any length.
fn may_change(method: &Method, route: &str) -> bool {
    [Method::POST, Method::PUT, Method::PATCH, Method::DELETE].contains(method)
        || (*method == Method::GET && route == LOGS_IN)
}

/// The brain for the request that is being answered.
pub(super) fn audited(parts: &Parts) -> Result<Audited, Error> {
    parts.extensions.get().cloned().ok_or_else(|| {
        let message = "the root has lost track of the request; this is a fault of the root, please report it";
        Error::new(StatusCode::INTERNAL_SERVER_ERROR, "untracked", message)
    })
}

/// What handlers take: all they can reach, with a brain that records what this request changes.
#[derive(Debug)]
pub(crate) struct State<T>(pub(crate) T);

impl FromRequestParts<Context> for State<Context> {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, context: &Context) -> Result<Self, Error> {
        Ok(Self(Context { brain: audited(parts)?, ..context.clone() }))
    }
}

/// That of the caller, if it is one, else a new one.
fn request_id(headers: &HeaderMap) -> String {
    let is_sane = |id: &&str| {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:".contains(&byte);
        (1..=LONGEST_ID).contains(&id.len()) && id.bytes().all(allowed)
    };
    let given = headers.get(&REQUEST_ID).and_then(|id| id.to_str().ok()).filter(is_sane);
    given.map_or_else(|| daemon::fresh_uuid().simple().to_string(), str::to_owned)
}

fn call_of(request: &Request, route: Option<&MatchedPath>, id: &str) -> Call {
    let route = route.map_or("", MatchedPath::as_str);
    let from = request.extensions().get::<ConnectInfo<SocketAddr>>();
    let is_recorded = may_change(request.method(), route);
    Call {
        request: Some(id.to_owned()),
        actor: Actor::Anonymous,
        from: from.map(|ConnectInfo(address)| address.ip().to_canonical()),
        action: if is_recorded { format!("{} {route}", request.method()) } else { format!("read {route}") },
        parameters: if is_recorded { parameters(route, request.uri().path()) } else { BTreeMap::new() },
        organization: None,
        is_routine: false,
    }
}

/// The parameters of a path by their names.
fn parameters(route: &str, path: &str) -> BTreeMap<String, String> {
    let named = |(name, given): (&str, &str)| {
        let name = name.strip_prefix('{')?.strip_suffix('}')?;
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.@+%~:".contains(&byte);
        let is_shown = name != WORKER && given.len() <= LONGEST_PARAMETER && given.bytes().all(allowed);
        Some((name.to_owned(), if is_shown { given } else { NOT_SHOWN }.to_owned()))
    };
    route.split('/').zip(path.split('/')).filter_map(named).collect()
}

fn outcome_of(response: &Response) -> Outcome {
    let status = response.status();
    let body = response.extensions().get::<ErrorBody>().map(|body| body.error.as_str());
    let word = response.extensions().get::<ErrorWord>().map(|word| word.0);
    let error = body.or(word).unwrap_or("other").to_owned();
    let code = Some(status.as_u16());
    if status.is_server_error() {
        Outcome::Failed { error, status: code }
    } else if status.is_client_error() {
        Outcome::Refused { error, status: code }
    } else {
        Outcome::Done
    }
}

fn with_id(mut response: Response, id: &str) -> Response {
    if let Some(mut body) = response.extensions_mut().remove::<ErrorBody>() {
        body.request_id = Some(id.to_owned());
        // Texts serialise to JSON; if they did not, the answer would be what it was.
        if let Ok(text) = serde_json::to_vec(&body) {
            response.headers_mut().remove(header::CONTENT_LENGTH);
            *response.body_mut() = Body::from(text);
        }
    }
    if let Ok(value) = HeaderValue::from_str(id) {
        response.headers_mut().insert(REQUEST_ID.clone(), value);
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id_for(given: &str) -> String {
        let mut headers = HeaderMap::new();
        headers.insert(REQUEST_ID.clone(), HeaderValue::from_bytes(given.as_bytes()).expect("a header"));
        request_id(&headers)
    }

    #[test]
    fn an_id_is_taken_over_if_it_is_one() {
        for good in ["a", "7f9c:1-_.Z", &"x".repeat(64)] {
            assert_eq!(id_for(good), good);
        }
        for bad in ["", "a b", "<script>", "é", "a\"b", &"x".repeat(65)] {
            let made = id_for(bad);
            assert!(made.len() == 32 && made.bytes().all(|byte| byte.is_ascii_hexdigit()), "{bad}: {made}");
        }
        assert_ne!(id_for(""), id_for(""), "each is its own");
    }

    #[test]
    fn parameters_are_shown_by_their_names_unless_they_may_be_secrets() {
        let shown = |path: &str| parameters("/api/service/{id}/instance/{number}", path);
        let of = |id: &str, number: &str| {
            BTreeMap::from([("id".to_owned(), id.to_owned()), ("number".to_owned(), number.to_owned())])
        };
        assert_eq!(shown("/api/service/5af/instance/-1"), of("5af", "-1"));
        let token = format!("mga1.{}.{}", "0".repeat(36), "f".repeat(64));
        assert_eq!(shown(&format!("/api/service/{token}/instance/<b>")), of(NOT_SHOWN, NOT_SHOWN));
        let on_worker = parameters("/api/cluster/{id}/worker/{worker}", "/api/cluster/one/worker/device");
        assert_eq!(on_worker["worker"], NOT_SHOWN, "the root knows no worker");
    }
}

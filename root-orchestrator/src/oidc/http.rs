//! Requests to the identity provider: over TLS, one connection each, as they are rare. What it takes and what it gives is
//! bounded; a redirect is followed nowhere.

use std::{path::Path, sync::Arc, time::Duration};

use axum::http::{Method, Request, StatusCode, Uri, header};
use bytes::Bytes;
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use rustls::{ClientConfig, pki_types::ServerName};
use tokio::sync::Semaphore;

use crate::outward::{Answered, ExchangeError, Outward, Target, exchange};

/// For all of a request. Who logs in waits for three of them at most.
const DEADLINE: Duration = Duration::from_secs(10);
/// Keys and documents of providers have a few KiB.
const LARGEST_ANSWER: usize = 256 << 10;
/// Requests under way: anybody may begin a login, and the provider must not be flooded from here.
const AT_ONCE: usize = 16;

/// An address that may not be asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is no address of a provider: it must begin with https://, or, with --oidc-allow-http, lead to this machine by http://"
)]
pub(crate) struct AddressError(String);

/// A request that had no good answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HttpError {
    #[error(transparent)]
    Address(#[from] AddressError),
    #[error("{0} did not answer in time")]
    Late(String),
    #[error("{host} cannot be reached")]
    Unreachable { host: String, source: std::io::Error },
    #[error("{host} does not speak HTTP as it should")]
    Broken { host: String, source: hyper::Error },
    #[error("{0} answers with too much, or not to its end")]
    Body(String),
    #[error("{host} answers with status {status}")]
    Status { host: String, status: u16 },
    #[error("{host} answers what cannot be understood: {problem}")]
    Incomprehensible { host: String, problem: String },
}

/// What came back, whatever its status.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) body: Bytes,
    pub(super) host: String,
}

impl Answer {
    /// The body of a good answer.
    pub(super) fn json<T: serde::de::DeserializeOwned>(&self) -> Result<T, HttpError> {
        if !self.status.is_success() {
            return Err(HttpError::Status { host: self.host.clone(), status: self.status.as_u16() });
        }
        self.any_json()
    }

    pub(super) fn any_json<T: serde::de::DeserializeOwned>(&self) -> Result<T, HttpError> {
        serde_json::from_slice(&self.body).map_err(|error| HttpError::Incomprehensible {
            host: self.host.clone(),
            problem: error.to_string(),
        })
    }
}

/// What is sent.
#[derive(Debug, Default)]
pub(super) struct Sent {
    pub(super) authorization: Option<String>,
    /// Posted as a form; without one it is a GET.
    pub(super) form: Option<String>,
}

/// See the module's description.
pub(super) struct Http {
    tls: Arc<ClientConfig>,
    allow_http: bool,
    /// Whether anybody is believed to vouch for others.
    pub(super) has_authorities: bool,
    places: Semaphore,
    deadline: Duration,
}

impl Http {
    /// Trusts the authorities in `ca_file` alone, else those of the system.
    pub(super) fn new(ca_file: Option<&Path>, allow_http: bool) -> anyhow::Result<Self> {
        let Outward { tls, has_authorities } = Outward::trusting(ca_file)?;
        let places = Semaphore::new(AT_ONCE);
        Ok(Self { tls, allow_http, has_authorities, places, deadline: DEADLINE })
    }

    /// An address that may be asked.
    pub(super) fn address(&self, text: &str) -> Result<Uri, AddressError> {
        let wrong = || AddressError(text.chars().take(200).collect());
        let uri: Uri = text.parse().map_err(|_| wrong())?;
        let host = uri.host().ok_or_else(wrong)?;
        let has_user = uri.authority().is_some_and(|authority| authority.as_str().contains('@'));
        let may = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => self.allow_http && is_loopback(host),
            Some(_) | None => false,
        };
        if may && !has_user { Ok(uri) } else { Err(wrong()) }
    }

    pub(super) async fn send(&self, address: &str, sent: Sent) -> Result<Answer, HttpError> {
        let uri = self.address(address)?;
        let host = uri.host().unwrap_or_default().to_owned();
        let sending = async {
            let _place = self.places.acquire().await;
            self.exchange(&uri, &host, sent).await
        };
        match tokio::time::timeout(self.deadline, sending).await {
            Ok(answered) => answered,
            Err(_) => Err(HttpError::Late(host)),
        }
    }

    async fn exchange(&self, uri: &Uri, host: &str, sent: Sent) -> Result<Answer, HttpError> {
        let is_tls = uri.scheme_str() == Some("https");
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        let port = uri.port_u16().unwrap_or(if is_tls { 443 } else { 80 });
        let name = if is_tls {
            Some(ServerName::try_from(bare.to_owned()).map_err(|_| AddressError(host.to_owned()))?)
        } else {
            None
        };
        let request = request(uri, sent).map_err(|_| HttpError::Incomprehensible {
            host: host.to_owned(),
            problem: "what it gave cannot be sent back to it".to_owned(),
        })?;
        let answered = exchange(&self.tls, Target { address: (bare, port), name }, request).await;
        let Answered { response, connection: _connection } = answered.map_err(|error| match error {
            ExchangeError::Connect(source) | ExchangeError::Tls(source) => {
                HttpError::Unreachable { host: host.to_owned(), source }
            }
            ExchangeError::Http(source) => HttpError::Broken { host: host.to_owned(), source },
        })?;
        let status = response.status();
        let body = Limited::new(response.into_body(), LARGEST_ANSWER).collect().await.map_err(|error| {
            let is_large = error.downcast_ref::<LengthLimitError>().is_some();
            tracing::debug!(host, is_large, %error, "an answer of the identity provider is given up");
            HttpError::Body(host.to_owned())
        })?;
        Ok(Answer { status, body: body.to_bytes(), host: host.to_owned() })
    }
}

fn request(uri: &Uri, sent: Sent) -> Result<Request<Full<Bytes>>, axum::http::Error> {
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    let method = if sent.form.is_some() { Method::POST } else { Method::GET };
    let mut request = Request::builder()
        .method(method)
        .uri(path)
        .header(header::HOST, uri.authority().map_or("", |authority| authority.as_str()))
        .header(header::ACCEPT, "application/json")
        .header(header::USER_AGENT, concat!("mangrove/", env!("CARGO_PKG_VERSION")));
    if let Some(authorization) = &sent.authorization {
        request = request.header(header::AUTHORIZATION, authorization);
    }
    if sent.form.is_some() {
        request = request.header(header::CONTENT_TYPE, "application/x-www-form-urlencoded");
    }
    request.body(Full::from(sent.form.unwrap_or_default()))
}

fn is_loopback(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    bare == "localhost" || bare.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use tempfile::NamedTempFile;
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
    };

    use super::{super::tests::saying_over_tls, *};

    /// What comes of asking somebody who answers so, and what was asked.
    async fn ask(answer: Vec<u8>, sent: Sent, deadline: Duration) -> (Result<Answer, HttpError>, String) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = format!("http://{}/token?a=b", listener.local_addr().expect("bound"));
        let answering = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.expect("a connection");
            let mut asked = vec![0; 4096];
            let length = stream.read(&mut asked).await.expect("a request");
            // Who asks may have had enough.
            drop(stream.write_all(&answer).await);
            // Silent and there until the other side goes.
            drop(stream.read(&mut [0; 1]).await);
            String::from_utf8_lossy(&asked[..length]).into_owned()
        });
        let http = Http { deadline, ..Http::new(None, true).expect("usable") };
        let answered = http.send(&address, sent).await;
        (answered, answering.await.expect("it ends"))
    }

    fn answer(head: &str, length: usize) -> Vec<u8> {
        let mut answer = format!("HTTP/1.1 {head}\r\nContent-Length: {length}\r\n\r\n").into_bytes();
        answer.resize(answer.len() + length, b' ');
        answer
    }

    #[tokio::test]
    async fn a_form_is_posted_and_what_comes_back_is_taken_whole_or_not() {
        let form = || Sent { authorization: Some("Basic eA==".to_owned()), form: Some("c=d".to_owned()) };
        let (good, asked) = ask(answer("200 OK", LARGEST_ANSWER), form(), DEADLINE).await;
        assert_eq!(good.map(|answer| answer.body.len()).ok(), Some(LARGEST_ANSWER));
        let lines: Vec<&str> = asked.lines().collect();
        assert_eq!((lines[0], lines.last()), ("POST /token?a=b HTTP/1.1", Some(&"c=d")));
        assert!(lines.contains(&"authorization: Basic eA=="), "{asked}");
        let (large, _) = ask(answer("200 OK", LARGEST_ANSWER + 1), form(), DEADLINE).await;
        assert!(matches!(large, Err(HttpError::Body(_))), "{large:?}");
    }

    #[tokio::test]
    async fn a_redirect_leads_nowhere() {
        let elsewhere = answer("302 Found\r\nLocation: http://127.0.0.1:1/", 0);
        let (answered, asked) = ask(elsewhere, Sent::default(), DEADLINE).await;
        let answered = answered.expect("an answer");
        assert!(matches!(answered.json::<()>(), Err(HttpError::Status { status: 302, .. })));
        assert!(asked.starts_with("GET /token?a=b HTTP/1.1"), "{asked}");
    }

    #[tokio::test]
    async fn who_does_not_answer_in_time_is_given_up() {
        for answer in [Vec::new(), answer("200 OK\r\nX: y", 9)[..40].to_vec()] {
            let (answered, _) = ask(answer, Sent::default(), Duration::from_millis(50)).await;
            assert!(matches!(answered, Err(HttpError::Late(_))), "{answered:?}");
        }
    }

    #[tokio::test]
    async fn what_cannot_be_a_header_is_not_sent() {
        let sent = Sent { authorization: Some("Bearer a\nb".to_owned()), form: None };
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = format!("http://{}/", listener.local_addr().expect("bound"));
        let answered = Http::new(None, true).expect("usable").send(&address, sent).await;
        assert!(matches!(answered, Err(HttpError::Incomprehensible { .. })), "{answered:?}");
    }

    #[tokio::test]
    async fn a_provider_at_https_is_believed_if_an_authority_in_the_file_vouches_for_its_name() {
        let said = |_: &str| json!({});
        let (address, own) = saying_over_tls("127.0.0.1", said).await;
        let (named, for_name) = saying_over_tls("localhost", said).await;
        let ask = async |address: &str, believed: &NamedTempFile| {
            let http = Http::new(Some(believed.path()), false).expect("usable");
            http.send(address, Sent::default()).await
        };
        let by_name = named.replace("127.0.0.1", "localhost");
        for (address, believed) in [(&address, &own), (&by_name, &for_name)] {
            let answered = ask(address, believed).await;
            assert_eq!(answered.expect("it is believed").body.as_ref(), b"{}", "{address}");
        }
        // Another authority, and one that vouches for somebody else.
        for (address, believed) in [(&address, &for_name), (&named, &for_name)] {
            let refused = ask(address, believed).await.expect_err("nobody vouches for it");
            assert!(matches!(refused, HttpError::Unreachable { .. }), "{address}: {refused}");
        }
        // Who is believed is believed at https alone.
        let plain = address.replace("https:", "http:");
        let refused = ask(&plain, &own).await.expect_err("it is not encrypted");
        assert!(matches!(refused, HttpError::Address(_)), "{refused}");
    }

    #[test]
    fn only_what_is_encrypted_or_stays_on_this_machine_is_asked() {
        let may =
            |allow_http: bool, text: &str| Http::new(None, allow_http).expect("usable").address(text).is_ok();
        for text in ["https://id.example", "https://id.example:8443/realms/x", "https://[::1]/"] {
            assert!(may(false, text), "{text}");
        }
        for text in ["http://127.0.0.1:9000", "http://localhost/x", "http://[::1]:1"] {
            assert!(!may(false, text), "{text}");
            assert!(may(true, text), "{text}");
        }
        for text in ["http://id.example", "ftp://127.0.0.1", "file:///etc/passwd", "https://a@b", "/x", ""] {
            assert!(!may(true, text), "{text}");
        }
    }
}

//! Speaks HTTP with the root: adds the login, refreshes it once when it has expired, and turns every answer
//! into JSON or an [`Error`].

use std::{
    net::IpAddr,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use data_encoding::BASE64URL_NOPAD;
use reqwest::{Method, RequestBuilder, Response, StatusCode, Url};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    config::{ConfigFile, SavedLogin},
    error::Error,
    tls,
};

const DEFAULT_ROOT: &str = "http://127.0.0.1:10000";
const ENCRYPTED: &str = "https://";
/// How rustls begins to say that it does not believe who answers.
const NOT_BELIEVED: &str = "invalid peer certificate";
/// A root that is there answers a SYN within a round trip; 5 s allows for two lost ones.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// The slowest answer is a login, whose password hash takes a small device about a second.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// A root and the login to it.
#[derive(Debug)]
pub(crate) struct Client {
    http: reqwest::Client,
    root: String,
    config: ConfigFile,
    login: Mutex<SavedLogin>,
}

impl Client {
    /// A client of `root`, else of the root last logged in to, else of the default one. Sends the saved login
    /// only to the root it is for.
    pub(crate) fn of_saved_login(root: Option<&str>, config: ConfigFile) -> Result<Self, Error> {
        let saved = config.load()?;
        Self::new(root, config, saved)
    }

    /// The same without relying on the saved login being readable, so that it can be replaced.
    pub(crate) fn for_login(root: Option<&str>, config: ConfigFile) -> Result<Self, Error> {
        let saved = config.load().unwrap_or_default();
        Self::new(root, config, saved)
    }

    fn new(root: Option<&str>, config: ConfigFile, saved: SavedLogin) -> Result<Self, Error> {
        let known = if saved.root.is_empty() { DEFAULT_ROOT } else { &saved.root };
        let (root, is_loopback) =
            root_address(root.filter(|given| !given.trim().is_empty()).unwrap_or(known))?;
        let mut builder = reqwest::Client::builder()
            .user_agent(concat!("mangrove/", env!("CARGO_PKG_VERSION")))
            .tls_backend_preconfigured(
                tls::config(root.starts_with(ENCRYPTED))
                    .map_err(|error| Error::Unreachable { root: root.clone(), cause: error.to_string() })?,
            )
            .connect_timeout(CONNECT_TIMEOUT);
        if is_loopback {
            // No proxy can lead to this machine's own loopback.
            builder = builder.no_proxy();
        }
        let http = builder.build().map_err(|error| unreachable(&root, &error))?;
        let login = if saved.root == root { saved } else { SavedLogin::default() };
        Ok(Self { http, root, config, login: Mutex::new(login) })
    }

    /// The base address of the root, without a slash at its end.
    pub(crate) fn root(&self) -> &str {
        &self.root
    }

    /// Who is logged in, if somebody is.
    pub(crate) fn username(&self) -> Option<String> {
        Some(self.login().username.clone()).filter(|name| !name.is_empty())
    }

    /// The organisation that is logged in to; `None` is `root`.
    pub(crate) fn organization(&self) -> Option<String> {
        self.login().organization.clone()
    }

    /// Logs in, to `root` if no organisation is named, and saves the login.
    pub(crate) async fn log_in(
        &self,
        username: &str,
        password: &str,
        organization: Option<&str>,
    ) -> Result<(), Error> {
        let path = "/api/auth/login";
        let mut login = json!({"username": username, "password": password});
        if let Some(organization) = organization {
            login["organization_name"] = json!(organization);
        }
        let request = self.request(Method::POST, path).timeout(ANSWER_TIMEOUT).json(&login);
        let answer = match self.answer(request, &Method::POST, path).await {
            Ok(answer) => answer,
            Err(Error::Refused { status: 401, message, .. }) => {
                let (root, username) = (self.root.clone(), username.to_owned());
                return Err(Error::LoginRefused { root, username, message });
            }
            Err(error) => return Err(error),
        };
        self.remember_pair(&answer, path, username.to_owned(), organization)
    }

    /// Begins a login at the identity provider of the root, which a person finishes in a browser.
    pub(crate) async fn begin_device_login(&self, organization: Option<&str>) -> Result<DeviceLogin, Error> {
        let path = "/api/auth/oidc/device";
        let wanted = json!({"organization_name": organization});
        let request = self.request(Method::POST, path).timeout(ANSWER_TIMEOUT).json(&wanted);
        let answer = self.answer(request, &Method::POST, path).await?;
        serde_json::from_value(answer).map_err(|error| Error::Incomprehensible {
            root: self.root.clone(),
            request: format!("POST {path}"),
            detail: error.to_string(),
        })
    }

    /// Saves the login if a person has finished it; else the refusal says `authorization_pending`.
    pub(crate) async fn finish_device_login(
        &self,
        device_code: &str,
        organization: Option<&str>,
    ) -> Result<(), Error> {
        let path = "/api/auth/oidc/device/token";
        let question = json!({"device_code": device_code});
        let request = self.request(Method::POST, path).timeout(ANSWER_TIMEOUT).json(&question);
        let answer = self.answer(request, &Method::POST, path).await?;
        let username = answer["token"].as_str().and_then(user_of).unwrap_or_default();
        self.remember_pair(&answer, path, username, organization)
    }

    fn remember_pair(
        &self,
        answer: &Value,
        path: &str,
        username: String,
        organization: Option<&str>,
    ) -> Result<(), Error> {
        let token = |name: &str| self.field(answer, name, &format!("POST {path}")).map(str::to_owned);
        self.remember(SavedLogin {
            root: self.root.clone(),
            username,
            organization: organization.map(str::to_owned),
            token: Some(token("token")?),
            refresh_token: Some(token("refresh_token")?),
        })
    }

    /// Ends the login that a refresh token is of. One that is good no more has ended already.
    pub(crate) async fn log_out(&self, refresh_token: &str) -> Result<(), Error> {
        let path = "/api/auth/logout";
        let request = self.request(Method::POST, path).timeout(ANSWER_TIMEOUT).bearer_auth(refresh_token);
        match self.answer(request, &Method::POST, path).await {
            Ok(_) | Err(Error::Refused { status: 401, .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// A text in an answer to `request`, which is of no use without it.
    pub(crate) fn field<'a>(&self, answer: &'a Value, name: &str, request: &str) -> Result<&'a str, Error> {
        answer[name].as_str().ok_or_else(|| Error::Incomprehensible {
            root: self.root.clone(),
            request: request.to_owned(),
            detail: format!("there is no `{name}` in it"),
        })
    }

    /// `GET path` as JSON.
    pub(crate) async fn get(&self, path: &str) -> Result<Value, Error> {
        self.call(Method::GET, path, None).await
    }

    /// `POST path` as JSON, with `body` unless it is `None`.
    pub(crate) async fn post(&self, path: &str, body: Option<&Value>) -> Result<Value, Error> {
        self.call(Method::POST, path, body).await
    }

    /// `PUT path` as JSON.
    pub(crate) async fn put(&self, path: &str, body: &Value) -> Result<Value, Error> {
        self.call(Method::PUT, path, Some(body)).await
    }

    /// `PUT path` as JSON, by nobody in particular.
    pub(crate) async fn put_openly(&self, path: &str, body: &Value) -> Result<Value, Error> {
        let request = self.request(Method::PUT, path).timeout(ANSWER_TIMEOUT).json(body);
        self.answer(request, &Method::PUT, path).await
    }

    /// `PATCH path` as JSON.
    pub(crate) async fn patch(&self, path: &str, body: &Value) -> Result<Value, Error> {
        self.call(Method::PATCH, path, Some(body)).await
    }

    /// `DELETE path` as JSON; null where there is nothing to say.
    pub(crate) async fn delete(&self, path: &str) -> Result<Value, Error> {
        self.call(Method::DELETE, path, None).await
    }

    /// `GET path` as a stream that may last for ever. The headers have arrived and are good.
    pub(crate) async fn stream(&self, path: &str) -> Result<Stream, Error> {
        let response = self.authorised(Method::GET, path, None, None).await?;
        Ok(Stream { response, root: self.root.clone(), request: format!("GET {path}") })
    }

    async fn call(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Value, Error> {
        let response = self.authorised(method.clone(), path, body, Some(ANSWER_TIMEOUT)).await?;
        self.json(response, &format!("{method} {path}")).await
    }

    /// Sends with the access token; on a 401 buys a new one and sends once more. The answer is a good one.
    async fn authorised(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
        timeout: Option<Duration>,
    ) -> Result<Response, Error> {
        let build = || {
            let mut request = self.request(method.clone(), path);
            if let Some(token) = &self.login().token {
                request = request.bearer_auth(token);
            }
            if let Some(body) = body {
                request = request.json(body);
            }
            if let Some(timeout) = timeout {
                request = request.timeout(timeout);
            }
            request
        };
        let first = self.send(build()).await?;
        if first.status() != StatusCode::UNAUTHORIZED {
            return self.good(first, &method, path).await;
        }
        self.refresh().await?;
        let second = self.send(build()).await?;
        if second.status() == StatusCode::UNAUTHORIZED {
            return Err(Error::LoginExpired { root: self.root.clone() });
        }
        self.good(second, &method, path).await
    }

    async fn refresh(&self) -> Result<(), Error> {
        let mut login = self.login().clone();
        let Some(refresh_token) = &login.refresh_token else {
            return Err(Error::NotLoggedIn { root: self.root.clone() });
        };
        let path = "/api/auth/refresh";
        let request = self
            .request(Method::POST, path)
            .timeout(ANSWER_TIMEOUT)
            .bearer_auth(refresh_token)
            .json(&json!({}));
        let answer = match self.answer(request, &Method::POST, path).await {
            Ok(answer) => answer,
            // Expired, of another root's key, or of a user who is gone.
            Err(Error::Refused { status: 401 | 403 | 404 | 422, .. }) => {
                return Err(Error::LoginExpired { root: self.root.clone() });
            }
            Err(error) => return Err(error),
        };
        login.token = answer["token"].as_str().map(str::to_owned);
        self.remember(login)
    }

    fn remember(&self, login: SavedLogin) -> Result<(), Error> {
        self.config.save(&login)?;
        *self.login() = login;
        Ok(())
    }

    fn login(&self) -> MutexGuard<'_, SavedLogin> {
        self.login.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.http.request(method, format!("{}{path}", self.root))
    }

    async fn answer(&self, request: RequestBuilder, method: &Method, path: &str) -> Result<Value, Error> {
        let response = self.send(request).await?;
        let response = self.good(response, method, path).await?;
        self.json(response, &format!("{method} {path}")).await
    }

    async fn send(&self, request: RequestBuilder) -> Result<Response, Error> {
        request.send().await.map_err(|error| unreachable(&self.root, &error))
    }

    async fn good(&self, response: Response, method: &Method, path: &str) -> Result<Response, Error> {
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let text = response.text().await.unwrap_or_default();
        let message = error_message(&text)
            .unwrap_or_else(|| status.canonical_reason().unwrap_or("no reason given").to_owned());
        let code = decode(&text).ok().and_then(|body| body["error"].as_str().map(str::to_owned));
        // Queries are for machines; the path tells the user enough.
        let path = path.split('?').next().unwrap_or(path);
        Err(Error::Refused {
            request: format!("{method} {path}"),
            status: status.as_u16(),
            code: code.unwrap_or_default(),
            message,
        })
    }

    async fn json(&self, response: Response, request: &str) -> Result<Value, Error> {
        if response.status() == StatusCode::NO_CONTENT {
            return Ok(Value::Null);
        }
        let text = response.text().await.map_err(|error| Error::Unfinished {
            root: self.root.clone(),
            request: request.to_owned(),
            cause: innermost(&error),
        })?;
        decode(&text).map_err(|error| Error::Incomprehensible {
            root: self.root.clone(),
            request: request.to_owned(),
            detail: format!("it is not JSON ({error})"),
        })
    }
}

/// What a person does in a browser so that this command is logged in.
#[derive(Debug, Deserialize)]
pub(crate) struct DeviceLogin {
    pub(crate) device_code: String,
    pub(crate) user_code: String,
    pub(crate) verification_uri: String,
    pub(crate) verification_uri_complete: Option<String>,
    /// Seconds.
    pub(crate) expires_in: u64,
    /// Seconds between two questions.
    pub(crate) interval: u64,
}

/// The body of an answer, chunk by chunk.
#[derive(Debug)]
pub(crate) struct Stream {
    response: Response,
    root: String,
    request: String,
}

impl Stream {
    /// The error for an answer whose content makes no sense.
    pub(crate) fn nonsense(&self, detail: String) -> Error {
        Error::Incomprehensible { root: self.root.clone(), request: self.request.clone(), detail }
    }

    /// The next chunk; `None` once the root has ended it. Safe to drop while waiting.
    pub(crate) async fn chunk(&mut self) -> Result<Option<Vec<u8>>, Error> {
        match self.response.chunk().await {
            Ok(chunk) => Ok(chunk.map(Into::into)),
            Err(error) => Err(Error::Unfinished {
                root: self.root.clone(),
                request: self.request.clone(),
                cause: innermost(&error),
            }),
        }
    }
}

/// `name` as one part of a path, whatever is in it; `None` when it would lead elsewhere.
pub(crate) fn path_segment(name: &str) -> Option<String> {
    let mut url = Url::parse("http://root").expect("a constant URL");
    url.path_segments_mut().expect("http has paths").push(name);
    let segment = url.path().trim_start_matches('/');
    Some(segment.to_owned()).filter(|segment| !segment.is_empty())
}

/// A path with parameters behind it, whatever is in them.
pub(crate) fn with_query(path: &str, pairs: &[(&str, String)]) -> String {
    let mut url = Url::parse("http://root").expect("a constant URL");
    url.query_pairs_mut().extend_pairs(pairs);
    match url.query() {
        Some(query) if !query.is_empty() => format!("{path}?{query}"),
        Some(_) | None => path.to_owned(),
    }
}

/// JSON, or JSON inside a JSON string as five families of the API may answer.
fn decode(text: &str) -> Result<Value, serde_json::Error> {
    let value: Value = serde_json::from_str(text)?;
    if let Value::String(inner) = &value
        && let Ok(decoded @ (Value::Array(_) | Value::Object(_))) = serde_json::from_str(inner)
    {
        return Ok(decoded);
    }
    Ok(value)
}

/// Whom an access token is for, as it says. It is the root's to check.
fn user_of(token: &str) -> Option<String> {
    let claims = BASE64URL_NOPAD.decode(token.split('.').nth(1)?.as_bytes()).ok()?;
    let claims: Value = serde_json::from_slice(&claims).ok()?;
    claims["sub"].as_str().map(str::to_owned)
}

fn error_message(body: &str) -> Option<String> {
    let body = decode(body).ok()?;
    let message = ["message", "msg"].iter().find_map(|key| body[*key].as_str())?;
    Some(message.trim().to_owned()).filter(|message| !message.is_empty())
}

/// Completes and checks the address of a root; also whether it is this machine's loopback.
fn root_address(given: &str) -> Result<(String, bool), Error> {
    let wrong = |problem| Error::RootAddress { given: given.to_owned(), problem };
    let given = given.trim();
    let complete = if given.contains("://") { given.to_owned() } else { format!("http://{given}") };
    let url = Url::parse(&complete).map_err(|_| wrong("it is not a URL"))?;
    if !["http", "https"].contains(&url.scheme()) {
        return Err(wrong("it does not begin with http:// or https://"));
    }
    let host = url.host_str().ok_or_else(|| wrong("it names no host"))?;
    if url.query().is_some() || url.fragment().is_some() || !url.username().is_empty() {
        return Err(wrong("it must hold nothing but scheme, host, port and path"));
    }
    let ip = host.trim_matches(['[', ']']).parse::<IpAddr>();
    let is_loopback = host == "localhost" || ip.is_ok_and(|ip| ip.is_loopback());
    Ok((url.as_str().trim_end_matches('/').to_owned(), is_loopback))
}

fn unreachable(root: &str, error: &reqwest::Error) -> Error {
    let cause = if error.is_timeout() { "no answer in time".to_owned() } else { innermost(error) };
    let root = root.to_owned();
    if cause.starts_with(NOT_BELIEVED) {
        Error::NotBelieved { root, cause }
    } else {
        Error::Unreachable { root, cause }
    }
}

/// The cause at the bottom: the layers above it only say that a request failed.
fn innermost(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_may_be_encoded_once_or_twice() {
        assert_eq!(decode(r#"[{"a":1}]"#).unwrap(), json!([{"a": 1}]));
        assert_eq!(decode(r#""[{\"a\":1}]""#).unwrap(), json!([{"a": 1}]));
        assert_eq!(decode(r#""ok""#).unwrap(), json!("ok"));
        assert_eq!(decode(r#""12""#).unwrap(), json!("12"));
    }

    #[test]
    fn the_address_of_a_root_is_completed() {
        let address = |text| root_address(text).map_err(|error| error.to_string());
        assert_eq!(address("http://[::1]:10000/"), Ok(("http://[::1]:10000".to_owned(), true)));
        assert_eq!(address("edge.example:10000"), Ok(("http://edge.example:10000".to_owned(), false)));
        assert_eq!(address("localhost:1"), Ok(("http://localhost:1".to_owned(), true)));
        assert_eq!(address("http://edge/mangrove/"), Ok(("http://edge/mangrove".to_owned(), false)));
        assert_eq!(address("https://edge:10000"), Ok(("https://edge:10000".to_owned(), false)));
        for text in ["ftp://edge", "http://", "http://a:b@edge", "http://edge?x", "a b"] {
            assert!(address(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_name_stays_one_part_of_a_path() {
        assert_eq!(path_segment("edge-1.local").as_deref(), Some("edge-1.local"));
        assert_eq!(path_segment("a/b?c d%").as_deref(), Some("a%2Fb%3Fc%20d%25"));
        for elsewhere in ["", ".", ".."] {
            assert_eq!(path_segment(elsewhere), None, "{elsewhere}");
        }
    }

    #[test]
    fn the_message_of_an_error_is_found_in_every_shape() {
        assert_eq!(error_message(r#"{"message":"no","code":404}"#).as_deref(), Some("no"));
        assert_eq!(error_message(r#"{"msg":"Token has expired"}"#).as_deref(), Some("Token has expired"));
        assert_eq!(error_message(r#"{"code":404}"#), None);
        assert_eq!(error_message("<html>"), None);
    }
}

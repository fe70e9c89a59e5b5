//! HTTP/1.1 with JSON over one kept connection, by TCP or a unix socket: how benchmarks speak to the root and to
//! container engines alike, so that neither side of a comparison pays for its client.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
pub(crate) use hyper::Method;
use hyper::{
    Request, Response, StatusCode,
    body::Incoming,
    client::conn::http1::{self, SendRequest},
    header,
};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpStream, UnixStream},
    time::timeout,
};

/// Longer than any answer takes that is worth measuring; an engine stops a container within ten seconds.
const ANSWERED_WITHIN: Duration = Duration::from_secs(30);

/// Where a server listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Address {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

/// What is sent along with a request.
#[derive(Debug, Clone)]
pub(crate) enum Body {
    Empty,
    Json(Value),
    /// A merge patch.
    Patch(Value),
    Tar(Vec<u8>),
}

/// One kept connection.
#[derive(Debug)]
pub(crate) struct Connection {
    address: Address,
    bearer: Option<String>,
    sender: SendRequest<Full<Bytes>>,
}

impl Connection {
    /// # Errors
    /// Nobody listens there.
    pub(crate) async fn open(address: Address, bearer: Option<String>) -> Result<Self> {
        let sender = dial(&address).await?;
        Ok(Self { address, bearer, sender })
    }

    /// The JSON of a successful answer; null if it has no body.
    ///
    /// # Errors
    /// There is no answer in time, or it is no success: the error has the answer's text.
    pub(crate) async fn ask(&mut self, method: Method, path: &str, body: Body) -> Result<Value> {
        let asked = format!("{method} {path}");
        let (status, body) = self.answer(method, path, body).await?;
        read_json(status, &body).context(asked)
    }

    /// The body of a successful answer to a GET, as it came.
    ///
    /// # Errors
    /// As [`Connection::ask`].
    pub(crate) async fn fetch(&mut self, path: &str) -> Result<Bytes> {
        let (status, body) = self.answer(Method::GET, path, Body::Empty).await?;
        ensure!(status.is_success(), "GET {path} is answered with {status}");
        Ok(body)
    }

    async fn answer(&mut self, method: Method, path: &str, body: Body) -> Result<(StatusCode, Bytes)> {
        let asked = format!("{method} {path}");
        let answering = async {
            let response = self.send(method, path, body).await?;
            let status = response.status();
            let body = response.into_body().collect().await.context("read the answer")?.to_bytes();
            Ok::<_, anyhow::Error>((status, body))
        };
        let answer = timeout(ANSWERED_WITHIN, answering).await;
        let answer = answer.map_err(|_| anyhow::anyhow!("no answer within {} s", ANSWERED_WITHIN.as_secs()));
        answer.and_then(|answer| answer).context(asked)
    }

    /// The body of a successful answer while it goes on; the connection is used up by it.
    ///
    /// # Errors
    /// As [`Connection::ask`].
    pub(crate) async fn follow(mut self, path: &str) -> Result<Incoming> {
        let response = timeout(ANSWERED_WITHIN, self.send(Method::GET, path, Body::Empty)).await??;
        ensure!(response.status() == StatusCode::OK, "GET {path} is answered with {}", response.status());
        // Hyper ends a connection when nobody can send on it any more and no answer is being read.
        Ok(response.into_body())
    }

    async fn send(&mut self, method: Method, path: &str, body: Body) -> Result<Response<Incoming>> {
        let mut request = Request::builder().method(method).uri(path).header(header::HOST, self.host());
        if let Some(bearer) = &self.bearer {
            request = request.header(header::AUTHORIZATION, format!("Bearer {bearer}"));
        }
        let request = match body {
            Body::Empty => request.body(Full::default()),
            Body::Json(value) => request
                .header(header::CONTENT_TYPE, "application/json")
                .body(Full::new(value.to_string().into())),
            Body::Patch(value) => request
                .header(header::CONTENT_TYPE, "application/merge-patch+json")
                .body(Full::new(value.to_string().into())),
            Body::Tar(tar) => {
                request.header(header::CONTENT_TYPE, "application/x-tar").body(Full::new(tar.into()))
            }
        };
        let request = request.context("make a request")?;
        if self.sender.ready().await.is_err() {
            // Nothing was asked for so long that the server hung up.
            self.sender = dial(&self.address).await?;
        }
        self.sender.send_request(request).await.context("send the request")
    }

    fn host(&self) -> String {
        match &self.address {
            Address::Tcp(address) => address.to_string(),
            Address::Unix(_) => "localhost".to_owned(),
        }
    }
}

impl Address {
    /// `unix:///path`, as engines' clients name it.
    pub(crate) fn unix(path: &Path) -> String {
        format!("unix://{}", path.display())
    }
}

async fn dial(address: &Address) -> Result<SendRequest<Full<Bytes>>> {
    match address {
        Address::Tcp(to) => {
            let stream = TcpStream::connect(to).await.with_context(|| format!("connect to {to}"))?;
            stream.set_nodelay(true).context("send small requests at once")?;
            shake_hands(stream).await
        }
        Address::Unix(path) => {
            let stream = UnixStream::connect(path).await;
            shake_hands(stream.with_context(|| format!("connect to {}", path.display()))?).await
        }
    }
}

async fn shake_hands<S>(stream: S) -> Result<SendRequest<Full<Bytes>>>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.context("begin to speak HTTP")?;
    // Its error reaches whoever waits for an answer.
    tokio::spawn(async move { drop(connection.await) });
    Ok(sender)
}

fn read_json(status: StatusCode, body: &[u8]) -> Result<Value> {
    let text = String::from_utf8_lossy(body);
    if !status.is_success() {
        bail!("{status}: {}", text.trim());
    }
    if body.is_empty() {
        return Ok(Value::Null);
    }
    // An engine tells the steps of an import as one document after another.
    let mut last = Value::Null;
    for document in serde_json::Deserializer::from_slice(body).into_iter() {
        last = document.with_context(|| format!("read `{}` as JSON", text.trim()))?;
    }
    Ok(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_json_or_nothing_and_a_refusal_keeps_its_words() {
        let read = |status, body: &str| read_json(status, body.as_bytes()).map_err(|error| error.to_string());
        assert_eq!(read(StatusCode::NO_CONTENT, ""), Ok(Value::Null));
        assert_eq!(read(StatusCode::OK, "{\"a\":1}\n{\"b\":2}\n"), Ok(serde_json::json!({"b": 2})));
        assert_eq!(
            read(StatusCode::CONFLICT, "the name is taken\n"),
            Err("409 Conflict: the name is taken".to_owned())
        );
    }
}

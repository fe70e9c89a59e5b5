//! Somebody who is told by hooks: a small HTTP server that keeps what it was sent and answers as it is told to.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use serde_json::Value;
use testkit::wait_until;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpListener,
};
use tokio_rustls::TlsAcceptor;
use tokio_util::task::AbortOnDropHandle;

/// One request.
#[derive(Debug, Clone)]
pub(super) struct Told {
    /// Their names in small letters.
    pub(super) headers: BTreeMap<String, String>,
    /// As it was sent.
    pub(super) text: String,
    pub(super) body: Value,
}

/// What is answered.
#[derive(Debug, Clone)]
pub(super) enum Reply {
    /// This status, with this header.
    With(u16, String),
    /// Nothing, and the connection stays open.
    Never,
}

/// Dropped, nobody is there any more.
pub(super) struct Receiver {
    pub(super) address: SocketAddr,
    told: Arc<Mutex<Vec<Told>>>,
    reply: Arc<Mutex<Reply>>,
    _serving: AbortOnDropHandle<()>,
}

impl Receiver {
    pub(super) async fn start() -> Self {
        Self::start_at("127.0.0.1:0".parse().expect("an address"), None).await
    }

    pub(super) async fn start_at(address: SocketAddr, tls: Option<TlsAcceptor>) -> Self {
        let listener = wait_until("a port to be free", async || {
            TcpListener::bind(address).await.map_err(|error| error.to_string())
        })
        .await;
        let address = listener.local_addr().expect("bound");
        let told = Arc::<Mutex<Vec<Told>>>::default();
        let reply = Arc::new(Mutex::new(Reply::With(200, String::new())));
        let (seen, answer) = (Arc::clone(&told), Arc::clone(&reply));
        let serving = tokio::spawn(async move {
            let mut open = Vec::new();
            while let Ok((stream, _)) = listener.accept().await {
                let (seen, answer, tls) = (Arc::clone(&seen), Arc::clone(&answer), tls.clone());
                let serving = tokio::spawn(async move {
                    match tls {
                        None => serve(stream, &seen, &answer).await,
                        // A caller that does not trust it is not served.
                        Some(tls) => match tls.accept(stream).await {
                            Ok(stream) => serve(stream, &seen, &answer).await,
                            Err(_) => None,
                        },
                    }
                });
                open.push(AbortOnDropHandle::new(serving));
            }
        });
        Self { address, told, reply, _serving: AbortOnDropHandle::new(serving) }
    }

    pub(super) fn url(&self) -> String {
        format!("http://{}/told", self.address)
    }

    pub(super) fn reply(&self, reply: Reply) {
        *self.reply.lock().expect("nobody panics with it") = reply;
    }

    pub(super) fn told(&self) -> Vec<Told> {
        self.told.lock().expect("nobody panics with it").clone()
    }

    /// Waits until it was sent so many; all of them.
    pub(super) async fn wait_for(&self, count: usize) -> Vec<Told> {
        wait_until("the receiver to be told", async || {
            let told = self.told();
            if told.len() >= count { Ok(told) } else { Err(format!("{} of {count}", told.len())) }
        })
        .await
    }
}

/// Reads one request and answers it. `None` when it breaks off.
async fn serve(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    told: &Mutex<Vec<Told>>,
    reply: &Mutex<Reply>,
) -> Option<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    let head = String::from_utf8(head).ok()?;
    let fields = head.lines().filter_map(|line| line.split_once(": "));
    let headers: BTreeMap<String, String> =
        fields.map(|(name, value)| (name.to_lowercase(), value.to_owned())).collect();
    let mut body = vec![0; headers.get("content-length")?.parse().ok()?];
    stream.read_exact(&mut body).await.ok()?;
    let text = String::from_utf8(body).ok()?;
    let body = serde_json::from_str(&text).ok()?;
    told.lock().expect("nobody panics with it").push(Told { headers, text, body });
    let answer = reply.lock().expect("nobody panics with it").clone();
    match answer {
        Reply::With(status, header) => {
            let answer = format!("HTTP/1.1 {status} told\r\ncontent-length: 0\r\n{header}\r\n");
            stream.write_all(answer.as_bytes()).await.ok()?;
            stream.shutdown().await.ok()
        }
        Reply::Never => std::future::pending().await,
    }
}

//! NetManager's side: finds the engine's process or starts it, and asks it.

use std::{
    error::Error,
    io, mem,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Stdio,
    sync::Arc,
    time::Duration,
};

use anyhow::Context as _;
use daemon::StateDirectory;
use relay::Order;
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::UnixStream,
    process::{Child, Command},
    sync::{Notify, watch},
    task::JoinHandle,
    time::{sleep, timeout},
};
use tunnel::PrivateKey;

use super::{EncryptedLink, KEY_FILE, Peers, Reply, Request, SOCKET};

/// The engine answers in a millisecond; setting thousands of peers takes some more.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);
/// A new engine has its socket after some milliseconds.
const START_WITHIN: Duration = Duration::from_secs(3);
const LOOK_AGAIN: Duration = Duration::from_millis(10);
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The key of this device's end of encrypted links; makes it if there is none.
///
/// # Errors
/// When the state directory cannot be used.
pub fn own_key(directory: &StateDirectory) -> anyhow::Result<PrivateKey> {
    if let Some(text) = directory.read_file(KEY_FILE).context("read the tunnel's key")? {
        let text = String::from_utf8(text).context("understand the tunnel's key")?;
        return text.parse().context("understand the tunnel's key; remove it to get another");
    }
    let key = PrivateKey::generate();
    directory.replace_file(KEY_FILE, key.to_base64().as_bytes()).context("keep the tunnel's key")?;
    Ok(key)
}

/// A way to the engine, made when it is needed.
#[derive(Debug)]
pub struct Client {
    state_directory: PathBuf,
    port: u16,
    /// The relays to register with, one of each kind, for an engine that is started anew.
    relays: Vec<Order>,
    connection: Option<BufReader<UnixStream>>,
    broken: Arc<Notify>,
    /// Listens to the engine until its end.
    watch: Option<JoinHandle<()>>,
    /// Where the relay of the root sees this device, while the engine says that it is reached by that.
    at_root: watch::Sender<Option<SocketAddr>>,
}

impl Client {
    /// A way to the engine of this device, which is to use that port.
    #[must_use]
    pub fn new(directory: &StateDirectory, port: u16) -> Self {
        Self::at(directory.path(), port)
    }

    /// A way to an engine that may be there, for ending it.
    #[must_use]
    pub fn to_running(state_directory: &Path) -> Self {
        Self::at(state_directory, 0)
    }

    fn at(state_directory: &Path, port: u16) -> Self {
        let state_directory = state_directory.to_owned();
        Self {
            state_directory,
            port,
            relays: Vec::new(),
            connection: None,
            broken: Arc::default(),
            watch: None,
            at_root: watch::Sender::default(),
        }
    }

    /// Where the relay of the root sees this device, while it is reached by that.
    #[must_use]
    pub fn at_root(&self) -> watch::Receiver<Option<SocketAddr>> {
        self.at_root.subscribe()
    }

    pub(super) fn broken(&self) -> Arc<Notify> {
        Arc::clone(&self.broken)
    }

    /// What a running engine has; nothing when there is none, as it is started for the first peer only.
    pub(super) async fn peers(&mut self) -> Peers {
        match self.find().await {
            Ok(peers) => peers,
            Err(error) => {
                tracing::debug!(error, "there is no engine of encrypted links");
                Peers::new()
            }
        }
    }

    /// Without peers there is no engine.
    pub(super) async fn set(&mut self, peers: &Peers) -> Result<(), Box<dyn Error + Send + Sync>> {
        if peers.is_empty() {
            self.stop().await;
            return Ok(());
        }
        if self.find().await.is_err() {
            self.start_anew().await?;
            for order in self.relays.clone() {
                self.register(&order).await;
            }
        }
        let all = peers.iter().map(|(key, peer)| (*key, peer.clone())).collect();
        match self.ask(&Request::Set(all)).await? {
            Reply::Done => Ok(()),
            Reply::Refused(reason) => Err(reason.into()),
            Reply::Hello { .. } | Reply::Links(_) | Reply::AtRoot(_) => {
                Err("the engine answered another question".into())
            }
        }
    }

    /// A running engine registers with this relay, and so does each that is started.
    pub(super) async fn use_relay(&mut self, order: Order) {
        if self.connection.is_some() || self.connect().await.is_ok() {
            self.register(&order).await;
        }
        let kind = mem::discriminant(&order.proof);
        self.relays.retain(|known| mem::discriminant(&known.proof) != kind);
        self.relays.push(order);
    }

    async fn register(&mut self, order: &Order) {
        match self.ask(&Request::register(order)).await {
            Ok(Reply::Done) => {}
            Ok(Reply::Hello { .. } | Reply::Links(_) | Reply::AtRoot(_) | Reply::Refused(_)) => {
                tracing::warn!("the engine of encrypted links does not register with the relay");
            }
            Err(error) => {
                tracing::warn!(%error, "the engine of encrypted links cannot be told of the relay");
            }
        }
    }

    /// How they fare; nothing when there is no engine.
    pub(super) async fn links(&mut self) -> Vec<EncryptedLink> {
        if self.connection.is_none() && self.connect().await.is_err() {
            return Vec::new();
        }
        match self.ask(&Request::Links).await {
            Ok(Reply::Links(links)) => links,
            Ok(Reply::Hello { .. } | Reply::AtRoot(_) | Reply::Done | Reply::Refused(_)) | Err(_) => {
                Vec::new()
            }
        }
    }

    /// Holds a connection that says by which relay this device is reached, and ends with the engine.
    fn watch(&mut self) {
        if self.watch.as_ref().is_some_and(|watch| !watch.is_finished()) {
            return;
        }
        let (path, broken) = (self.state_directory.join(SOCKET), Arc::clone(&self.broken));
        let at_root = self.at_root.clone();
        self.watch = Some(tokio::spawn(async move {
            let ended = follow(&path, &at_root).await;
            tracing::debug!(?ended, "the engine of encrypted links has gone");
            at_root.send_replace(None);
            broken.notify_one();
        }));
    }

    /// Ends an engine that is there.
    pub async fn stop(&mut self) {
        if let Some(watch) = self.watch.take() {
            watch.abort();
            self.at_root.send_replace(None);
        }
        if self.connection.is_none() && self.connect().await.is_err() {
            return;
        }
        if let Err(error) = self.ask(&Request::Stop).await {
            tracing::debug!(%error, "the engine of encrypted links did not confirm its end");
        }
        self.connection = None;
    }

    /// An engine of this version on our port.
    async fn find(&mut self) -> Result<Peers, Box<dyn Error + Send + Sync>> {
        if self.connection.is_none() {
            self.connect().await?;
        }
        match self.ask(&Request::Hello).await? {
            Reply::Hello { version, port, peers } if version == VERSION && port == self.port => {
                self.watch();
                Ok(peers.into_iter().collect())
            }
            Reply::Hello { version, port, .. } => {
                tracing::info!(version, port, "the engine of encrypted links is replaced");
                self.stop().await;
                Err("it is another one".into())
            }
            Reply::Links(_) | Reply::AtRoot(_) | Reply::Done | Reply::Refused(_) => {
                Err("the engine answered another question".into())
            }
        }
    }

    async fn start_anew(&mut self) -> anyhow::Result<()> {
        let mut child = self.start()?;
        let started = timeout(START_WITHIN, async {
            while self.find().await.is_err() {
                self.connection = None;
                sleep(LOOK_AGAIN).await;
                // The interface of an engine that was killed may be in the way for a moment.
                if child.try_wait().context("look after the engine of encrypted links")?.is_some() {
                    child = self.start()?;
                }
            }
            anyhow::Ok(())
        });
        let started = started.await;
        tokio::spawn(async move {
            match child.wait().await {
                Ok(status) => tracing::info!(%status, "the engine of encrypted links has ended"),
                Err(error) => tracing::debug!(%error, "the engine of encrypted links cannot be waited for"),
            }
        });
        started.context("wait for the engine of encrypted links; the log says why it does not start")?
    }

    /// In a process group of its own: what ends this one does not end it.
    fn start(&self) -> anyhow::Result<Child> {
        let program = std::env::current_exe().context("find this program")?;
        Command::new(program)
            .arg("tunnel")
            .arg("--state-dir")
            .arg(&self.state_directory)
            .arg("--tunnel-port")
            .arg(self.port.to_string())
            .stdin(Stdio::null())
            .process_group(0)
            .kill_on_drop(false)
            .spawn()
            .context("start the engine of encrypted links")
    }

    async fn connect(&mut self) -> io::Result<()> {
        let stream = UnixStream::connect(self.state_directory.join(SOCKET)).await?;
        self.connection = Some(BufReader::new(stream));
        Ok(())
    }

    async fn ask(&mut self, request: &Request) -> Result<Reply, Box<dyn Error + Send + Sync>> {
        // Taken, so that an answer that comes too late is not taken for that to the next question.
        let mut connection = self.connection.take().ok_or("the engine of encrypted links is not there")?;
        let mut text = serde_json::to_vec(request)?;
        text.push(b'\n');
        let mut answer = String::new();
        timeout(ANSWER_WITHIN, async {
            connection.write_all(&text).await?;
            connection.read_line(&mut answer).await
        })
        .await??;
        let reply = serde_json::from_str(&answer)?;
        self.connection = Some(connection);
        Ok(reply)
    }
}

/// Hands on what the engine says, until it is gone.
async fn follow(path: &Path, at_root: &watch::Sender<Option<SocketAddr>>) -> io::Result<()> {
    let mut stream = UnixStream::connect(path).await?;
    let mut text = serde_json::to_vec(&Request::Follow)?;
    text.push(b'\n');
    stream.write_all(&text).await?;
    let mut lines = BufReader::new(stream).lines();
    while let Some(line) = lines.next_line().await? {
        if let Reply::AtRoot(place) = serde_json::from_str(&line)? {
            at_root.send_replace(place);
        }
    }
    Ok(())
}

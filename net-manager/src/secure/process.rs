//! The process of the engine, `NetManager tunnel`: serves one NetManager after the other over a socket that only root
//! reaches, and keeps what it was last told while there is none.

use std::{num::NonZeroUsize, path::Path, sync::Arc, thread};

use anyhow::Context;
use link::DatagramSession;
use relay::{Lent, Order, Proof};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines},
    net::{
        UnixListener, UnixStream,
        unix::{OwnedReadHalf, OwnedWriteHalf},
    },
};
use tokio_util::sync::CancellationToken;
use tunnel::PrivateKey;

use super::{Engine, KEY_FILE, Peers, Reply, Request, SOCKET};

/// Runs the engine on `port` with the key of the state directory, until it is told to end.
///
/// # Errors
/// When there is no key, the interface cannot be made, or the port is taken.
pub async fn serve(state_directory: &Path, port: u16, shutdown: CancellationToken) -> anyhow::Result<()> {
    let key = std::fs::read_to_string(state_directory.join(KEY_FILE)).context("read the tunnel's key")?;
    let key: PrivateKey = key.parse().context("understand the tunnel's key")?;
    // A queue is two threads, and takes some megabytes. One peer has one at a time.
    let processors = thread::available_parallelism().map_or(1, NonZeroUsize::get);
    let queues = NonZeroUsize::new(processors.div_ceil(2).min(4));
    let engine = Engine::start(key, port, queues).context("start the engine of encrypted links")?;
    let path = state_directory.join(SOCKET);
    // Whoever left it is gone: two engines cannot have the interface.
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(error).context("remove the socket of the engine before");
        }
        Ok(()) | Err(_) => {}
    }
    let listener = UnixListener::bind(&path).context("make the engine's socket")?;
    tracing::info!(port, "encrypted links can be made");
    let engine = Arc::new(engine);
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return Ok(()),
            accepted = listener.accept() => {
                let (stream, _) = accepted.context("accept NetManager")?;
                tokio::spawn(attend(stream, Arc::clone(&engine), shutdown.clone()));
            }
        }
    }
}

async fn attend(stream: UnixStream, engine: Arc<Engine>, shutdown: CancellationToken) {
    let (reader, mut writer) = stream.into_split();
    let mut lines = BufReader::new(reader).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        let reply = match serde_json::from_str(&line) {
            Ok(Request::Hello) => {
                let peers = engine.peers().into_iter().collect();
                let version = env!("CARGO_PKG_VERSION").to_owned();
                Reply::Hello { version, port: engine.port(), peers }
            }
            Ok(Request::Set(wanted)) => {
                let wanted: Peers = wanted.into_iter().collect();
                match engine.set(&wanted) {
                    Ok(()) => Reply::Done,
                    Err(error) => Reply::Refused(daemon::chain(&error).to_string()),
                }
            }
            Ok(Request::Register { relay, own, session, key }) => {
                let proof = Proof::Session(DatagramSession { id: session, key });
                engine.use_relay(Order { relay, own, proof });
                Reply::Done
            }
            Ok(Request::RegisterAtRoot { relay, own, cluster, key }) => {
                let proof = Proof::Lent(Lent { cluster, mailbox: engine.mailbox(), key });
                engine.use_relay(Order { relay, own, proof });
                Reply::Done
            }
            Ok(Request::Follow) => return follow(lines, writer, &engine).await,
            Ok(Request::Links) => Reply::Links(engine.links()),
            Ok(Request::Stop) => {
                tracing::info!("told to end");
                shutdown.cancel();
                Reply::Done
            }
            Err(error) => Reply::Refused(error.to_string()),
        };
        if !send(&mut writer, &reply).await {
            return;
        }
    }
}

/// Tells by which relay this device is reached, until whoever listens hangs up.
async fn follow(mut lines: Lines<BufReader<OwnedReadHalf>>, mut writer: OwnedWriteHalf, engine: &Engine) {
    let mut at_root = engine.at_root();
    at_root.mark_changed();
    loop {
        tokio::select! {
            changed = at_root.changed() => {
                let reply = Reply::AtRoot(*at_root.borrow_and_update());
                if changed.is_err() || !send(&mut writer, &reply).await {
                    return;
                }
            }
            _hung_up = lines.next_line() => return,
        }
    }
}

/// False when nobody listens any more.
async fn send(writer: &mut OwnedWriteHalf, reply: &Reply) -> bool {
    let Ok(mut text) = serde_json::to_vec(reply) else { return false };
    text.push(b'\n');
    writer.write_all(&text).await.is_ok()
}

//! A way to the server on which one message is lost, or held back.

use std::{net::SocketAddr, sync::Arc};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::watch,
};
use tokio_util::task::AbortOnDropHandle;

/// What happens to the next message that is an insertion into this collection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// It does not arrive, and its connection is lost.
    LoseRequest(&'static str),
    /// It arrives, and its connection is lost before the answer.
    LoseAnswer(&'static str),
    /// It waits until it is released.
    Hold(&'static str),
}

/// How far the fault has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Progress {
    Idle,
    Waiting(Fault),
    Held,
    Released,
    /// A message that was held has arrived and was answered.
    Arrived,
}

/// Passes everything on but what a fault is for.
pub(crate) struct Relay {
    pub(crate) address: SocketAddr,
    progress: Arc<watch::Sender<Progress>>,
    _serving: AbortOnDropHandle<()>,
}

impl Relay {
    pub(crate) async fn to(server: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("bound");
        let progress = Arc::new(watch::Sender::new(Progress::Idle));
        let (server, shared) = (server.to_owned(), Arc::clone(&progress));
        let serving = AbortOnDropHandle::new(tokio::spawn(async move {
            let mut passing = tokio::task::JoinSet::new();
            loop {
                let (client, _) = listener.accept().await.expect("it listens");
                let (server, progress) = (server.clone(), Arc::clone(&shared));
                passing.spawn(async move { drop(pass(client, &server, &progress).await) });
            }
        }));
        Self { address, progress, _serving: serving }
    }

    /// From now on, once.
    pub(crate) fn expect(&self, fault: Fault) {
        self.progress.send_replace(Progress::Waiting(fault));
    }

    pub(crate) fn release(&self) {
        self.progress.send_replace(Progress::Released);
    }

    pub(crate) async fn has_come_to(&self, progress: Progress) {
        self.progress.subscribe().wait_for(|now| *now == progress).await.expect("it is there");
    }
}

/// One connection: a request, its answer, and so on.
async fn pass(
    mut client: TcpStream,
    server: &str,
    progress: &watch::Sender<Progress>,
) -> std::io::Result<()> {
    let mut server = TcpStream::connect(server).await?;
    loop {
        let request = message(&mut client).await?;
        let mut held = false;
        match fault_of(&request, progress) {
            None => {}
            Some(Fault::LoseRequest(_)) => return Ok(()),
            Some(Fault::LoseAnswer(_)) => {
                server.write_all(&request).await?;
                message(&mut server).await?;
                return Ok(());
            }
            Some(Fault::Hold(_)) => {
                held = true;
                let mut released = progress.subscribe();
                released.wait_for(|now| *now == Progress::Released).await.map_err(std::io::Error::other)?;
            }
        }
        server.write_all(&request).await?;
        let answer = message(&mut server).await?;
        if held {
            progress.send_replace(Progress::Arrived);
        }
        client.write_all(&answer).await?;
    }
}

/// The fault that is for this request; it is for no other then.
fn fault_of(request: &[u8], progress: &watch::Sender<Progress>) -> Option<Fault> {
    let mut mine = None;
    progress.send_if_modified(|now| {
        let Progress::Waiting(fault) = *now else { return false };
        let (Fault::LoseRequest(collection) | Fault::LoseAnswer(collection) | Fault::Hold(collection)) =
            fault;
        if !inserts_into(request, collection) {
            return false;
        }
        mine = Some(fault);
        *now = if matches!(fault, Fault::Hold(_)) { Progress::Held } else { Progress::Idle };
        true
    });
    mine
}

/// Whether a command begins like an insertion into a collection: a text, named `insert`, in BSON.
fn inserts_into(request: &[u8], collection: &str) -> bool {
    let length = u32::try_from(collection.len() + 1).expect("short").to_le_bytes();
    let begins = [b"\x02insert\0", &length[..], collection.as_bytes(), b"\0"].concat();
    request.windows(begins.len()).any(|window| window == begins)
}

/// One message of the wire protocol: it begins with its length.
async fn message(from: &mut TcpStream) -> std::io::Result<Vec<u8>> {
    let mut length = [0; 4];
    from.read_exact(&mut length).await?;
    let mut message = vec![0; usize::try_from(u32::from_le_bytes(length)).expect("an address")];
    message[..4].copy_from_slice(&length);
    from.read_exact(&mut message[4..]).await?;
    Ok(message)
}

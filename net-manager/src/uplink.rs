//! The way up: this NetManager's identity, the lease that comes over its one connection to the cluster, and what it says
//! there of the relay its device is reached by.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
};

use anyhow::Context;
use daemon::StateDirectory;
use link::{
    Backoff, DatagramSession, Dial, Dialled, Identity, KeyPair, Subject, dial_to, must_renew, renewal_spread,
};
use model::{
    ClusterId, Lifetime, NetworkLease, NetworkNews, Reach, RelayLoan, RelayOffer, Timestamp, TunnelEnd,
    WorkerId,
};
use proto::{NetworkMessage, NetworkReader, v1::cluster_link_client::ClusterLinkClient};
use relay::{Destination, Lent, Order, Proof};
use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

const REGISTRATION_FILE: &str = "registration.json";
/// A device that calls 20 000 services is told some 4 MB when it connects.
const LARGEST_MESSAGE: usize = 64 << 20;
/// Of ranges for documentation (RFC 5737 and 3849), to which packets take the default route.
const ANYWHERE: [IpAddr; 2] =
    [IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)), IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1))];

/// What the uplink tells the service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UplinkEvent {
    /// The cluster answers.
    Connected,
    /// The cluster lends these ranges.
    Lease(NetworkLease),
    /// The cluster tells of services and devices.
    News(NetworkNews),
    /// There is a relay for this device: the cluster's, or the root's.
    Relay(Order),
    /// The cluster does not answer, and why.
    Disconnected(String),
}

/// Whose network this is, as NodeEngine says it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Registration {
    /// This worker.
    pub worker_id: WorkerId,
    /// Its cluster.
    pub cluster_id: ClusterId,
    /// Where the cluster is reached, `host:port`.
    pub cluster_address: String,
    /// The root above it, a UUID.
    pub root_id: String,
    /// The root's CA certificate as PEM.
    pub ca_certificate: String,
}

/// What NodeEngine gets for a registration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Registered {
    /// Whether there is a certificate already.
    pub certified: bool,
    /// The request the cluster should sign; `None` when there is a certificate that need not be renewed yet.
    pub certificate_request: Option<String>,
}

/// Why a registration or a certificate is not taken.
#[derive(Debug, thiserror::Error)]
pub enum UplinkError {
    /// It is for somebody else.
    #[error(
        "this NetManager belongs to worker {held}, not to {asked}; if the device was joined anew, \
         stop NetManager, remove its state directory and start it again"
    )]
    OtherWorker {
        /// Whose it is.
        held: WorkerId,
        /// Who asks.
        asked: WorkerId,
    },
    /// There is no registration yet.
    #[error("there is no registration that the certificate could be for; POST /register first")]
    NotRegistered,
    /// The certificate is not for this worker's NetManager.
    #[error("the certificate is for {found}, expected {expected}")]
    OtherSubject {
        /// Whom it names.
        found: Subject,
        /// Whom it should name.
        expected: Subject,
    },
    /// A part of the message cannot be read.
    #[error("{what} is not usable: {problem}")]
    Unusable {
        /// Which part.
        what: &'static str,
        /// What is wrong with it.
        problem: String,
    },
    /// The state directory refused.
    #[error(transparent)]
    State(#[from] anyhow::Error),
}

/// How far the uplink has come.
#[derive(Debug, Clone, Default)]
struct Progress {
    registration: Option<Registration>,
    identity: Option<Arc<Identity>>,
}

/// A cheap handle. The connection itself is kept by [`Uplink::run`].
#[derive(Debug, Clone)]
pub struct Uplink {
    state: Arc<StateDirectory>,
    progress: Arc<watch::Sender<Progress>>,
    /// Registrations and certificates come one at a time, each with its files.
    turn: Arc<Mutex<()>>,
    cluster_host: Option<String>,
    underlay: Option<IpAddr>,
    tunnel: Option<TunnelEnd>,
    at_root: watch::Receiver<Option<SocketAddr>>,
    /// The cluster says that the certificate has ended, whatever the clock here shows.
    doubted: Arc<AtomicBool>,
    spread: u8,
}

impl Uplink {
    /// Goes on where the state directory says it was. `cluster_host` takes the place of the host NodeEngine names,
    /// `underlay` that of the address this device speaks to the cluster from; `tunnel` is its end of encrypted links, and
    /// `at_root` where the relay of the root sees that, while it is reached by it.
    ///
    /// # Errors
    /// When the files are there and cannot be used.
    pub fn open(
        state: Arc<StateDirectory>,
        cluster_host: Option<String>,
        underlay: Option<IpAddr>,
        tunnel: Option<TunnelEnd>,
        at_root: watch::Receiver<Option<SocketAddr>>,
    ) -> anyhow::Result<Self> {
        let registration = state
            .read_file(REGISTRATION_FILE)
            .context("read the registration")?
            .map(|content| {
                serde_json::from_slice(&content)
                    .context("parse the registration; remove registration.json to register again")
            })
            .transpose()?;
        let identity = Identity::load(&state).context("read the identity of this NetManager")?.map(Arc::new);
        let progress = watch::Sender::new(Progress { registration, identity });
        Ok(Self {
            state,
            progress: Arc::new(progress),
            turn: Arc::new(Mutex::new(())),
            cluster_host,
            underlay,
            tunnel,
            at_root,
            doubted: Arc::default(),
            spread: renewal_spread(),
        })
    }

    /// The registration, once there is one.
    #[must_use]
    pub fn registration(&self) -> Option<Registration> {
        self.progress.borrow().registration.clone()
    }

    /// Whether there is a certificate.
    #[must_use]
    pub fn is_certified(&self) -> bool {
        self.progress.borrow().identity.is_some()
    }

    /// From when to when the certificate is good, and what time it is.
    #[must_use]
    pub fn lifetime(&self) -> Option<(Lifetime, Timestamp)> {
        let progress = self.progress.borrow();
        let identity = progress.identity.as_ref()?;
        Some((identity.lifetime(), identity.now()))
    }

    /// Keeps whose network this is, and makes a key if there is none. The same worker may register again, also with
    /// another address of its cluster.
    ///
    /// # Errors
    /// When this NetManager is another worker's, or files cannot be written.
    pub fn register(&self, registration: Registration) -> Result<Registered, UplinkError> {
        let _turn = self.turn.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        expected_subject(&registration)?;
        let held = self.registration();
        if let Some(held) = held.as_ref().filter(|held| held.worker_id != registration.worker_id) {
            return Err(UplinkError::OtherWorker { held: held.worker_id, asked: registration.worker_id });
        }
        if held.as_ref() != Some(&registration) {
            let content = serde_json::to_vec_pretty(&registration).context("write the registration")?;
            self.state.replace_file(REGISTRATION_FILE, &content).context("keep the registration")?;
        }
        let expected = expected_subject(&registration)?;
        let identity = self.progress.borrow().identity.clone().filter(|it| it.subject() == expected);
        let certified = identity.is_some();
        let is_fresh = identity.is_some_and(|identity| {
            identity.now() < identity.lifetime().renew_at(self.spread)
                && !self.doubted.load(Ordering::Relaxed)
        });
        let certificate_request = if is_fresh { None } else { Some(self.certificate_request()?) };
        self.progress.send_if_modified(|progress| {
            let changed = progress.registration.as_ref() != Some(&registration);
            progress.registration = Some(registration);
            if !certified {
                progress.identity = None;
            }
            changed
        });
        Ok(Registered { certified, certificate_request })
    }

    fn certificate_request(&self) -> Result<String, UplinkError> {
        let key = KeyPair::load_or_generate(&self.state).context("make the key of this NetManager")?;
        Ok(key.certificate_request().context("make the certificate request of this NetManager")?)
    }

    /// Takes the certificate the cluster signed. A connection in use goes on with the one before.
    ///
    /// # Errors
    /// When it does not fit the key or the registration, or files cannot be written.
    pub fn certify(&self, certificate_chain: &str) -> Result<(), UplinkError> {
        let _turn = self.turn.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let registration = self.registration().ok_or(UplinkError::NotRegistered)?;
        let expected = expected_subject(&registration)?;
        let key = KeyPair::load_or_generate(&self.state).context("read the key of this NetManager")?;
        let identity =
            Identity::new(&key, certificate_chain, &registration.ca_certificate).map_err(|error| {
                UplinkError::Unusable { what: "the certificate", problem: daemon::chain(&error).to_string() }
            })?;
        if identity.subject() != expected {
            return Err(UplinkError::OtherSubject { found: identity.subject(), expected });
        }
        Identity::save(&self.state, certificate_chain, &registration.ca_certificate)
            .context("keep the certificate")?;
        self.doubted.store(false, Ordering::Relaxed);
        self.progress.send_if_modified(|progress| {
            let renewed = progress.identity.as_ref().is_some_and(|held| held.subject() == expected);
            progress.identity = Some(Arc::new(identity));
            !renewed
        });
        Ok(())
    }

    /// Keeps a connection to the cluster as soon as there is a certificate, and tells what comes of it, until
    /// `shutdown`.
    pub async fn run(self, events: mpsc::Sender<UplinkEvent>, shutdown: CancellationToken) {
        let mut progress = self.progress.subscribe();
        let mut backoff = Backoff::default();
        loop {
            let current = progress.borrow_and_update().clone();
            let next = async {
                let (Some(registration), Some(identity)) = (&current.registration, &current.identity) else {
                    return std::future::pending().await;
                };
                let address = self.dialled_address(registration);
                let session = Session {
                    address: &address,
                    registration,
                    identity,
                    underlay: self.underlay,
                    tunnel: self.tunnel,
                    at_root: self.at_root.clone(),
                    doubted: &self.doubted,
                };
                let ended = match session.follow(&events, &mut backoff).await {
                    Ok(()) => format!("the cluster at {address} closed the connection"),
                    Err(error) => format!("{error:#}"),
                };
                if events.send(UplinkEvent::Disconnected(ended)).await.is_ok() {
                    tokio::time::sleep(backoff.wait()).await;
                }
            };
            tokio::select! {
                () = shutdown.cancelled() => return,
                _ = progress.changed() => backoff.reset(),
                () = next => {}
            }
        }
    }

    fn dialled_address(&self, registration: &Registration) -> String {
        match (&self.cluster_host, registration.cluster_address.rsplit_once(':')) {
            (Some(host), Some((_, port))) if host.parse::<Ipv6Addr>().is_ok() => format!("[{host}]:{port}"),
            (Some(host), Some((_, port))) => format!("{host}:{port}"),
            (Some(_), None) | (None, _) => registration.cluster_address.clone(),
        }
    }
}

fn expected_subject(registration: &Registration) -> Result<Subject, UplinkError> {
    let root = registration.root_id.parse().map_err(|_| UplinkError::Unusable {
        what: "root_id",
        problem: format!("`{}` is not a UUID", registration.root_id),
    })?;
    Ok(Subject::Network { root, cluster: registration.cluster_id, worker: registration.worker_id })
}

/// All that is needed for one connection.
struct Session<'a> {
    address: &'a str,
    registration: &'a Registration,
    identity: &'a Identity,
    underlay: Option<IpAddr>,
    tunnel: Option<TunnelEnd>,
    at_root: watch::Receiver<Option<SocketAddr>>,
    doubted: &'a AtomicBool,
}

impl Session<'_> {
    /// Connects, hands on what the cluster tells, and tells it by which relay this device is reached, until the connection
    /// ends.
    async fn follow(self, events: &mpsc::Sender<UplinkEvent>, backoff: &mut Backoff) -> anyhow::Result<()> {
        let Self { address, registration, identity, underlay, tunnel, mut at_root, doubted } = self;
        let cluster = Subject::Cluster { root: identity.subject().root(), cluster: registration.cluster_id };
        let Dialled { channel, address: reached } = dial_to(address, Dial::As(identity, cluster)).await?;
        let underlay = underlay.or_else(|| own_address_towards(reached));
        let reach = underlay.map(|address| Reach { address, tunnel, observed: None, at_root: None });
        let own = reach.and_then(|reach| Some(SocketAddr::new(reach.address, reach.tunnel?.port)));
        let hello = proto::network_hello(env!("CARGO_PKG_VERSION"), reach.as_ref());
        // What was said over another connection may be another's.
        at_root.mark_changed();
        let (sender, receiver) = mpsc::channel(1);
        sender.send(hello).await.context("greet the cluster")?;
        let outbound = tokio_stream::wrappers::ReceiverStream::new(receiver);
        let mut inbound = ClusterLinkClient::new(channel)
            .max_decoding_message_size(LARGEST_MESSAGE)
            .connect_network(outbound)
            .await
            .map_err(|status| {
                doubted.fetch_or(must_renew(&status), Ordering::Relaxed);
                anyhow::anyhow!("the cluster at {address} refused: {}", status.message())
            })?
            .into_inner();
        backoff.reset();
        tracing::info!(address, "connected to the cluster");
        events.send(UplinkEvent::Connected).await.context("hand on")?;
        let mut reader = NetworkReader::default();
        loop {
            let message = tokio::select! {
                message = inbound.message() => message,
                Ok(()) = at_root.changed() => {
                    let mailbox = proto::network_mailbox(*at_root.borrow_and_update());
                    sender.send(mailbox).await.context("tell the cluster by which relay this device is reached")?;
                    continue;
                }
            };
            let message = message.map_err(|status| {
                anyhow::anyhow!("the connection to the cluster at {address} broke: {}", status.message())
            })?;
            let Some(message) = message else { return Ok(()) };
            let NetworkMessage { lease, news, relay, root_relay } =
                reader.read(message).context("read what the cluster tells")?;
            if let Some(lease) = lease {
                events.send(UplinkEvent::Lease(lease)).await.context("hand on")?;
            }
            if !news.is_empty() {
                events.send(UplinkEvent::News(news)).await.context("hand on")?;
            }
            if let Some(RelayOffer { address, port, session: id, key }) = relay {
                let relay = SocketAddr::new(address.unwrap_or_else(|| reached.ip().to_canonical()), port);
                let order = Order { relay, own, proof: Proof::Session(DatagramSession { id, key }) };
                events.send(UplinkEvent::Relay(order)).await.context("hand on")?;
            }
            if let (Some(RelayLoan { address, port, key }), Some(end)) = (root_relay, tunnel) {
                let relay = SocketAddr::new(address.unwrap_or_else(|| reached.ip().to_canonical()), port);
                let (cluster, mailbox) = (registration.cluster_id, Destination::of(&end.key.0));
                let order = Order { relay, own, proof: Proof::Lent(Lent { cluster, mailbox, key }) };
                events.send(UplinkEvent::Relay(order)).await.context("hand on")?;
            }
        }
    }
}

/// The address packets to `peer` leave from; where the cluster is on this very device, the one packets to anywhere leave
/// from. Nothing is sent.
fn own_address_towards(peer: SocketAddr) -> Option<IpAddr> {
    let towards = |peer: SocketAddr| {
        let any =
            if peer.is_ipv4() { IpAddr::V4(Ipv4Addr::UNSPECIFIED) } else { Ipv6Addr::UNSPECIFIED.into() };
        let socket = UdpSocket::bind((any, 0)).ok()?;
        socket.connect(peer).ok()?;
        Some(socket.local_addr().ok()?.ip())
            .filter(|address| !address.is_loopback() && !address.is_unspecified())
    };
    towards(peer).or_else(|| ANYWHERE.into_iter().find_map(|anywhere| towards((anywhere, 9).into())))
}

//! From a registration to a lease, against a cluster that does nothing but lend.

use std::{path::Path, sync::Arc, time::Duration};

use daemon::StateDirectory;
use link::{Authority, Identity, KeyPair, Revocations, Subject, require_peer, serve};
use model::{ClusterId, NetworkLease, Timestamp, WorkerId};
use net_manager::uplink::{Registration, Uplink, UplinkError, UplinkEvent};
use proto::v1::{
    Certificate, CertificateRequest, ClusterToNetwork, ClusterToWorker, NetworkToCluster, WorkerToCluster,
    cluster_link_server::{ClusterLink, ClusterLinkServer},
};
use tokio::{
    net::TcpListener,
    sync::{mpsc, watch},
};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};
use uuid::Uuid;

const ROOT: Uuid = Uuid::from_u128(1);
const CLUSTER: ClusterId = ClusterId::new(Uuid::from_u128(2));
const WORKER: WorkerId = WorkerId::new(Uuid::from_u128(3));

fn network_subject() -> Subject {
    Subject::Network { root: ROOT, cluster: CLUSTER, worker: WORKER }
}

fn lease() -> NetworkLease {
    NetworkLease {
        v4: vec!["10.18.0.64/26".parse().expect("a network")],
        v6: vec!["fc00::100/120".parse().expect("a network")],
    }
}

/// Lends one subnet to whoever shows the NetManager's certificate, and hangs up when told.
struct Lender {
    hang_up: CancellationToken,
}

#[tonic::async_trait]
impl ClusterLink for Lender {
    type ConnectWorkerStream = ReceiverStream<Result<ClusterToWorker, Status>>;
    type ConnectNetworkStream = ReceiverStream<Result<ClusterToNetwork, Status>>;

    async fn connect_worker(
        &self,
        _: Request<Streaming<WorkerToCluster>>,
    ) -> Result<Response<Self::ConnectWorkerStream>, Status> {
        Err(Status::unimplemented("not in this test"))
    }

    async fn connect_network(
        &self,
        request: Request<Streaming<NetworkToCluster>>,
    ) -> Result<Response<Self::ConnectNetworkStream>, Status> {
        if require_peer(&request)? != network_subject() {
            return Err(Status::permission_denied("somebody else"));
        }
        let (sender, receiver) = mpsc::channel(2);
        let hang_up = self.hang_up.clone();
        tokio::spawn(async move {
            let hello = request.into_inner().message().await.expect("a stream").expect("a greeting");
            assert_eq!(hello.version, env!("CARGO_PKG_VERSION"));
            for lease in [None, Some((&lease()).into())] {
                sender
                    .send(Ok(ClusterToNetwork { lease, ..ClusterToNetwork::default() }))
                    .await
                    .expect("it listens");
            }
            hang_up.cancelled().await;
        });
        Ok(Response::new(ReceiverStream::new(receiver)))
    }

    async fn certify_network(&self, _: Request<CertificateRequest>) -> Result<Response<Certificate>, Status> {
        Err(Status::unimplemented("not in this test"))
    }
}

struct World {
    directory: tempfile::TempDir,
    authority: Authority,
    identity: Identity,
}

impl World {
    fn new() -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let state = |name| StateDirectory::open(&directory.path().join(name)).expect("a directory");
        let authority = Authority::load_or_create(&state("root"), ROOT, daemon::now()).expect("an authority");
        let key = KeyPair::load_or_generate(&state("cluster")).expect("a key");
        let request = key.certificate_request().expect("a request");
        let subject = Subject::Cluster { root: ROOT, cluster: CLUSTER };
        let certificate = authority.certify(&request, subject, daemon::now()).expect("a certificate");
        let identity = Identity::new(&key, &certificate, authority.certificate_pem()).expect("an identity");
        Self { directory, authority, identity }
    }

    fn uplink(&self) -> Uplink {
        let path: &Path = &self.directory.path().join("network");
        let state = Arc::new(StateDirectory::open(path).expect("a directory"));
        let at_root = watch::Sender::default().subscribe();
        Uplink::open(state, None, None, None, at_root).expect("an uplink")
    }

    fn registration(&self, port: u16) -> Registration {
        Registration {
            worker_id: WORKER,
            cluster_id: CLUSTER,
            cluster_address: format!("127.0.0.1:{port}"),
            root_id: ROOT.to_string(),
            ca_certificate: self.authority.certificate_pem().to_owned(),
        }
    }

    /// Registers and has the request signed for `subject`.
    fn certificate(&self, uplink: &Uplink, port: u16, subject: Subject) -> String {
        let registered = uplink.register(self.registration(port)).expect("registered");
        let request = registered.certificate_request.expect("there is no certificate yet");
        self.authority.certify(&request, subject, daemon::now()).expect("a certificate")
    }

    async fn serve(&self, listener: TcpListener, shutdown: CancellationToken) {
        let identity = watch::channel(self.identity.clone()).1;
        let lender = ClusterLinkServer::new(Lender { hang_up: shutdown.clone() });
        let routes = |mut server: tonic::transport::Server| server.add_service(lender);
        serve(listener, identity, Revocations::default(), || {}, routes, shutdown).await.expect("served");
    }
}

async fn next(events: &mut mpsc::Receiver<UplinkEvent>) -> UplinkEvent {
    let deadline = Duration::from_secs(10);
    tokio::time::timeout(deadline, events.recv()).await.expect("an event in time").expect("the uplink runs")
}

#[tokio::test]
async fn a_certified_network_manager_gets_its_lease_and_tells_when_the_cluster_goes() {
    let world = World::new();
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let port = listener.local_addr().expect("an address").port();
    let (cluster_ends, shutdown) = (CancellationToken::new(), CancellationToken::new());
    let uplink = world.uplink();
    let (sender, mut events) = mpsc::channel(8);
    let running = tokio::spawn(uplink.clone().run(sender, shutdown.clone()));

    let test = async {
        let certificate = world.certificate(&uplink, port, network_subject());
        uplink.certify(&certificate).expect("its certificate");
        assert_eq!(next(&mut events).await, UplinkEvent::Connected);
        assert_eq!(next(&mut events).await, UplinkEvent::Lease(lease()));
        cluster_ends.cancel();
        assert!(matches!(next(&mut events).await, UplinkEvent::Disconnected(_)));
    };
    let ((), ()) = tokio::join!(world.serve(listener, cluster_ends.clone()), test);
    shutdown.cancel();
    running.await.expect("no panic");
}

#[tokio::test]
async fn a_certificate_that_is_due_is_asked_for_anew_and_the_connection_goes_on() {
    let world = World::new();
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let port = listener.local_addr().expect("an address").port();
    let (cluster_ends, shutdown) = (CancellationToken::new(), CancellationToken::new());
    let uplink = world.uplink();
    let (sender, mut events) = mpsc::channel(8);
    let running = tokio::spawn(uplink.clone().run(sender, shutdown.clone()));
    let sign = |request: &str, days_ago: u64| {
        let at = Timestamp(daemon::now().0 - days_ago * 86_400_000);
        world.authority.certify(request, network_subject(), at).expect("a certificate")
    };

    let test = async {
        let registered = uplink.register(world.registration(port)).expect("registered");
        let request = registered.certificate_request.expect("there is no certificate yet");
        // Of a year.
        uplink.certify(&sign(&request, 300)).expect("its certificate");
        assert_eq!(next(&mut events).await, UplinkEvent::Connected);
        assert_eq!(next(&mut events).await, UplinkEvent::Lease(lease()));
        let registered = uplink.register(world.registration(port)).expect("registered");
        let request = registered.certificate_request.expect("it should be renewed");
        assert!(registered.certified, "it is good meanwhile");
        uplink.certify(&sign(&request, 0)).expect("the new one");
        let registered = uplink.register(world.registration(port)).expect("registered");
        assert_eq!((registered.certified, registered.certificate_request), (true, None));
        let quiet = tokio::time::timeout(Duration::from_millis(300), events.recv()).await;
        assert!(quiet.is_err(), "nothing happens to the connection: {quiet:?}");
        cluster_ends.cancel();
    };
    let ((), ()) = tokio::join!(world.serve(listener, cluster_ends.clone()), test);
    shutdown.cancel();
    running.await.expect("no panic");
}

#[tokio::test]
async fn one_that_has_ended_is_asked_for_anew_whatever_the_clock_shows() {
    let world = World::new();
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let port = listener.local_addr().expect("an address").port();
    let (cluster_ends, shutdown) = (CancellationToken::new(), CancellationToken::new());
    let uplink = world.uplink();
    let (sender, mut events) = mpsc::channel(8);
    let running = tokio::spawn(uplink.clone().run(sender, shutdown.clone()));
    let test = async {
        let request = uplink.register(world.registration(port)).expect("registered").certificate_request;
        let two_years_ago = Timestamp(daemon::now().0 - 730 * 86_400_000);
        let old = world
            .authority
            .certify(&request.expect("there is none yet"), network_subject(), two_years_ago)
            .expect("a certificate");
        uplink.certify(&old).expect("its certificate");
        let UplinkEvent::Disconnected(reason) = next(&mut events).await else { panic!("it is refused") };
        assert!(reason.contains("must be renewed first"), "{reason}");
        assert!(uplink.register(world.registration(port)).expect("registered").certificate_request.is_some());
        cluster_ends.cancel();
    };
    let ((), ()) = tokio::join!(world.serve(listener, cluster_ends.clone()), test);
    shutdown.cancel();
    running.await.expect("no panic");
}

#[tokio::test]
async fn a_restart_needs_no_new_registration() {
    let world = World::new();
    let uplink = world.uplink();
    let certificate = world.certificate(&uplink, 1, network_subject());
    uplink.certify(&certificate).expect("its certificate");
    drop(uplink);

    let uplink = world.uplink();
    assert!(uplink.is_certified());
    assert_eq!(uplink.registration(), Some(world.registration(1)));
    let again = uplink.register(world.registration(2)).expect("the same worker");
    assert_eq!((again.certified, again.certificate_request), (true, None));
    assert_eq!(uplink.registration(), Some(world.registration(2)), "the cluster moved");
}

#[tokio::test]
async fn a_certificate_for_somebody_else_is_refused() {
    let world = World::new();
    let uplink = world.uplink();
    let engine = Subject::Worker { root: ROOT, cluster: CLUSTER, worker: WORKER };
    let certificate = world.certificate(&uplink, 1, engine);
    let error = uplink.certify(&certificate).expect_err("NodeEngine's certificate");
    assert!(matches!(error, UplinkError::OtherSubject { found, .. } if found == engine), "{error}");
    assert!(!uplink.is_certified());
}

#[tokio::test]
async fn a_cluster_that_is_not_there_is_told_with_its_address() {
    let world = World::new();
    let nobody = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = nobody.local_addr().expect("an address");
    drop(nobody);
    let uplink = world.uplink();
    let certificate = world.certificate(&uplink, address.port(), network_subject());
    uplink.certify(&certificate).expect("its certificate");
    let (sender, mut events) = mpsc::channel(8);
    let shutdown = CancellationToken::new();
    let running = tokio::spawn(uplink.run(sender, shutdown.clone()));
    let UplinkEvent::Disconnected(reason) = next(&mut events).await else { panic!("nobody is there") };
    assert!(reason.starts_with(&format!("{address} cannot be reached: ")), "{reason}");
    shutdown.cancel();
    running.await.expect("no panic");
}

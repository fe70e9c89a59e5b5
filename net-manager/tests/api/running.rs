//! A NetManager that runs over a datapath that is only remembered, and who asks it.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv6Addr, SocketAddr},
    sync::{Arc, Mutex},
    time::Duration,
};

use daemon::RecentLines;
use model::{CallableService, InstanceId, NetworkLease, NetworkNews, PortMapping, ServiceNames};
use net_core::{Echo, Effect, Namespace, ObservedKernel, RoundTrip, Signs};
use net_manager::{
    Config,
    config::NetworkConfig,
    datapath::{Datapath, DatapathError, PortInUse},
    secure::EncryptedLink,
    uplink::UplinkEvent,
};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::mpsc,
    task::JoinHandle,
};
use tokio_util::sync::CancellationToken;

pub(crate) const SERVICE: &str = "0102030405060708090a0b0c";
pub(crate) const WORKER: &str = "00000000-0000-0000-0000-000000000001";
pub(crate) const CLUSTER: &str = "00000000-0000-0000-0000-000000000002";
pub(crate) const ROOT: &str = "00000000-0000-0000-0000-000000000003";

/// Remembers what the kernel would hold.
#[derive(Debug, Clone, Default)]
pub(crate) struct Remembered {
    pub(crate) kernel: Arc<Mutex<ObservedKernel>>,
    /// How often its elements were changed.
    pub(crate) changes: Arc<Mutex<u32>>,
    /// A port some program listens on.
    pub(crate) busy: Option<u16>,
    pub(crate) refuses: Arc<Mutex<bool>>,
    /// How many are connected to whoever is asked about.
    pub(crate) connected: Arc<Mutex<u32>>,
    /// The inode of the device's own network namespace, if it is one of these tests.
    pub(crate) own: Option<u64>,
    /// An instance whose cable cannot be laid.
    pub(crate) hopeless: Option<u32>,
    /// How soon the devices at these addresses answer echoes.
    pub(crate) echoes: BTreeMap<Ipv6Addr, RoundTrip>,
}

impl Datapath for Remembered {
    async fn observe(&mut self) -> Result<ObservedKernel, DatapathError> {
        Ok(self.kernel.lock().expect("no panic").clone())
    }

    async fn apply(&mut self, effect: &Effect) -> Result<(), DatapathError> {
        let hopeless =
            matches!(effect, Effect::CreateLink(plan) if Some(plan.instance.number) == self.hopeless);
        if hopeless || *self.refuses.lock().expect("no panic") {
            return Err(DatapathError {
                action: "change anything".to_owned(),
                source: "it is a test".into(),
            });
        }
        *self.changes.lock().expect("no panic") += u32::from(matches!(effect, Effect::ChangeElements { .. }));
        self.kernel.lock().expect("no panic").after(effect);
        Ok(())
    }

    async fn use_relay(&mut self, _: relay::Order) {}

    async fn connections(&mut self, _: &BTreeSet<IpAddr>) -> Result<u32, DatapathError> {
        Ok(*self.connected.lock().expect("no panic"))
    }

    fn has_passages(&self) -> bool {
        true
    }

    fn is_devices_own(&self, namespace: &Namespace) -> bool {
        self.own == Some(namespace.inode)
    }

    async fn encrypted(&mut self) -> Vec<EncryptedLink> {
        Vec::new()
    }

    async fn in_kernel(&mut self) -> Vec<EncryptedLink> {
        Vec::new()
    }

    async fn signs(&mut self) -> Signs {
        Signs::default()
    }

    fn echo(&self, echo: Echo) -> impl Future<Output = Option<RoundTrip>> + Send + 'static {
        std::future::ready(self.echoes.get(&echo.to).copied())
    }

    fn reserve_ports(&mut self, _: InstanceId, ports: &[PortMapping]) -> Result<(), PortInUse> {
        match ports.iter().find(|port| Some(port.host) == self.busy) {
            Some(port) => Err(PortInUse { port: *port }),
            None => Ok(()),
        }
    }

    fn release_ports(&mut self, _: InstanceId) {}
}

pub(crate) struct Daemon {
    pub(crate) address: SocketAddr,
    pub(crate) key: String,
    pub(crate) leases: mpsc::Sender<UplinkEvent>,
    pub(crate) log: RecentLines,
    pub(crate) shutdown: CancellationToken,
    pub(crate) task: JoinHandle<anyhow::Result<()>>,
}

impl Daemon {
    pub(crate) async fn start(directory: &tempfile::TempDir, datapath: Remembered) -> Self {
        let local_key = directory.path().join("run/key");
        let (leases, uplink_source) = mpsc::channel(4);
        let log = RecentLines::default();
        let config = Config {
            network: NetworkConfig::default(),
            state_directory: directory.path().join("state"),
            local_key: local_key.clone(),
            log: log.clone(),
            uplink_source: Some(uplink_source),
            resolvers: None,
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let shutdown = CancellationToken::new();
        let task = tokio::spawn(net_manager::run_with(config, listener, shutdown.clone(), datapath));
        let mut daemon = Self { address, key: String::new(), leases, log, shutdown, task };
        daemon.get("/status").await;
        daemon.key = net_manager::local_key::read(&local_key).expect("a key");
        daemon
    }

    pub(crate) async fn stop(self) {
        self.shutdown.cancel();
        self.task.await.expect("no panic").expect("an orderly end");
    }

    pub(crate) async fn call(&self, method: &str, path: &str, body: Option<Value>) -> (u16, Value) {
        self.call_with(&self.key, method, path, body).await
    }

    pub(crate) async fn call_with(
        &self,
        key: &str,
        method: &str,
        path: &str,
        body: Option<Value>,
    ) -> (u16, Value) {
        let body = body.map(|body| body.to_string()).unwrap_or_default();
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer {key}\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        let mut stream = TcpStream::connect(self.address).await.expect("it listens");
        stream.write_all(request.as_bytes()).await.expect("sent");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.expect("an answer");
        let (head, body) = answer.split_once("\r\n\r\n").expect("HTTP");
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
        (status, serde_json::from_str(body).unwrap_or_else(|error| panic!("{answer}: {error}")))
    }

    pub(crate) async fn get(&self, path: &str) -> Value {
        self.call("GET", path, None).await.1
    }

    pub(crate) async fn lend(&self) {
        let lease = NetworkLease {
            v4: vec!["10.18.0.0/26".parse().expect("a network")],
            v6: vec!["fc00::/120".parse().expect("a network")],
        };
        self.leases.send(UplinkEvent::Lease(lease)).await.expect("it listens");
        self.wait_for_state("ready").await;
    }

    pub(crate) async fn wait_for_state(&self, state: &str) {
        let mut last = Value::Null;
        for _ in 0..200 {
            last = self.get("/status").await;
            if last["state"] == state {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("the state never was {state}: {last}");
    }

    /// The cluster tells of the service all instances are of.
    pub(crate) async fn tell(&self) {
        let service = CallableService {
            names: names().into(),
            addresses: Default::default(),
            allowed_callers: Default::default(),
            instances: Vec::new(),
        };
        let services = BTreeMap::from([(SERVICE.parse().expect("an id"), Some(service.into()))]);
        let news = NetworkNews { whole: true, services, ..NetworkNews::default() };
        self.leases.send(UplinkEvent::News(news)).await.expect("it listens");
    }

    /// Attaches instance 0 with the address it keeps.
    pub(crate) async fn attach_stable(&self) -> (u16, Value) {
        let body = json!({
            "generation": 1, "network_namespace": "/proc/self/ns/net", "ports": [], "address": "10.30.0.7",
        });
        self.call("PUT", &format!("/instances/{SERVICE}/0"), Some(body)).await
    }

    pub(crate) async fn attach(&self, number: u32, ports: &[&str]) -> (u16, Value) {
        let body = json!({"generation": 1, "network_namespace": "/proc/self/ns/net", "ports": ports});
        self.call("PUT", &format!("/instances/{SERVICE}/{number}"), Some(body)).await
    }
}

pub(crate) fn registration(worker: &str) -> Value {
    json!({
        "worker_id": worker, "cluster_id": CLUSTER, "cluster_address": "cluster.example:10100",
        "root_id": ROOT, "ca_certificate": "-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n",
    })
}

/// The names of the service all instances are of.
pub(crate) fn names() -> ServiceNames {
    ServiceNames {
        application: "shop".to_owned(),
        application_namespace: "prod".to_owned(),
        service: "web".to_owned(),
        service_namespace: "front".to_owned(),
    }
}

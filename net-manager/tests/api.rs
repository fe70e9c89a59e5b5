//! The local API as NodeEngine uses it, over a datapath that is only remembered.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    sync::{Arc, Mutex},
    time::Duration,
};

use daemon::RecentLines;
use model::{CallableService, InstanceId, NetworkLease, NetworkNews, PortMapping, ServiceNames};
use net_core::{Effect, Element, ObservedKernel};
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

const SERVICE: &str = "0102030405060708090a0b0c";
const WORKER: &str = "00000000-0000-0000-0000-000000000001";
const CLUSTER: &str = "00000000-0000-0000-0000-000000000002";
const ROOT: &str = "00000000-0000-0000-0000-000000000003";

/// Remembers what the kernel would hold.
#[derive(Debug, Clone, Default)]
struct Remembered {
    kernel: Arc<Mutex<ObservedKernel>>,
    /// A port some program listens on.
    busy: Option<u16>,
    refuses: Arc<Mutex<bool>>,
    /// How many are connected to whoever is asked about.
    connected: Arc<Mutex<u32>>,
    /// An instance whose cable cannot be laid.
    hopeless: Option<u32>,
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
        self.kernel.lock().expect("no panic").after(effect);
        Ok(())
    }

    async fn use_relay(&mut self, _: relay::Order) {}

    async fn connections(&mut self, _: &BTreeSet<IpAddr>) -> Result<u32, DatapathError> {
        Ok(*self.connected.lock().expect("no panic"))
    }

    async fn encrypted(&mut self) -> Vec<EncryptedLink> {
        Vec::new()
    }

    fn reserve_ports(&mut self, _: InstanceId, ports: &[PortMapping]) -> Result<(), PortInUse> {
        match ports.iter().find(|port| Some(port.host) == self.busy) {
            Some(port) => Err(PortInUse { port: *port }),
            None => Ok(()),
        }
    }

    fn release_ports(&mut self, _: InstanceId) {}
}

struct Daemon {
    address: SocketAddr,
    key: String,
    leases: mpsc::Sender<UplinkEvent>,
    log: RecentLines,
    shutdown: CancellationToken,
    task: JoinHandle<anyhow::Result<()>>,
}

impl Daemon {
    async fn start(directory: &tempfile::TempDir, datapath: Remembered) -> Self {
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

    async fn stop(self) {
        self.shutdown.cancel();
        self.task.await.expect("no panic").expect("an orderly end");
    }

    async fn call(&self, method: &str, path: &str, body: Option<Value>) -> (u16, Value) {
        self.call_with(&self.key, method, path, body).await
    }

    async fn call_with(&self, key: &str, method: &str, path: &str, body: Option<Value>) -> (u16, Value) {
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

    async fn get(&self, path: &str) -> Value {
        self.call("GET", path, None).await.1
    }

    async fn lend(&self) {
        let lease = NetworkLease {
            v4: vec!["10.18.0.0/26".parse().expect("a network")],
            v6: vec!["fc00::/120".parse().expect("a network")],
        };
        self.leases.send(UplinkEvent::Lease(lease)).await.expect("it listens");
        self.wait_for_state("ready").await;
    }

    async fn wait_for_state(&self, state: &str) {
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
    async fn tell(&self) {
        let names = ServiceNames {
            application: "shop".to_owned(),
            application_namespace: "prod".to_owned(),
            service: "web".to_owned(),
            service_namespace: "front".to_owned(),
        };
        let service = CallableService {
            names: names.into(),
            addresses: Default::default(),
            allowed_callers: Default::default(),
            instances: Vec::new(),
        };
        let services = BTreeMap::from([(SERVICE.parse().expect("an id"), Some(service.into()))]);
        let news = NetworkNews { whole: true, services, peers: BTreeMap::new() };
        self.leases.send(UplinkEvent::News(news)).await.expect("it listens");
    }

    /// Attaches instance 0 with the address it keeps.
    async fn attach_stable(&self) -> (u16, Value) {
        let body = json!({
            "generation": 1, "network_namespace": "/proc/self/ns/net", "ports": [], "address": "10.30.0.7",
        });
        self.call("PUT", &format!("/instances/{SERVICE}/0"), Some(body)).await
    }

    async fn attach(&self, number: u32, ports: &[&str]) -> (u16, Value) {
        let body = json!({"generation": 1, "network_namespace": "/proc/self/ns/net", "ports": ports});
        self.call("PUT", &format!("/instances/{SERVICE}/{number}"), Some(body)).await
    }
}

fn registration(worker: &str) -> Value {
    json!({
        "worker_id": worker, "cluster_id": CLUSTER, "cluster_address": "cluster.example:10100",
        "root_id": ROOT, "ca_certificate": "-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n",
    })
}

#[tokio::test]
async fn instances_are_attached_listed_and_detached() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let datapath = Remembered::default();
    let daemon = Daemon::start(&directory, datapath.clone()).await;
    daemon.lend().await;

    let attached = (200, json!({"addresses": ["10.18.0.2", "fc00::2"]}));
    assert_eq!(daemon.attach(0, &["8080:80/tcp"]).await, attached);
    assert_eq!(daemon.attach(0, &["8080:80/tcp"]).await, attached);
    assert_eq!(
        daemon.get("/instances").await,
        json!([{"id": format!("{SERVICE}/0"), "generation": 1, "addresses": ["10.18.0.2", "fc00::2"],
                "ports": ["8080:80/tcp"]}])
    );
    assert_eq!(datapath.kernel.lock().expect("no panic").links.len(), 1);

    let path = format!("/instances/{SERVICE}/0");
    assert_eq!(daemon.call("DELETE", &path, None).await, (200, json!({})));
    assert_eq!(daemon.call("DELETE", &path, None).await, (200, json!({})));
    assert_eq!(datapath.kernel.lock().expect("no panic").links, BTreeMap::new());
    daemon.stop().await;
}

#[tokio::test]
async fn an_instance_that_was_restarted_gets_a_new_cable_although_its_namespace_has_the_old_inode() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let datapath = Remembered::default();
    let daemon = Daemon::start(&directory, datapath.clone()).await;
    daemon.lend().await;
    assert_eq!(daemon.attach(0, &[]).await.0, 200);
    // The cable goes with the namespace it led into.
    datapath.kernel.lock().expect("no panic").links.clear();
    let path = format!("/proc/{}/ns/net", std::process::id());
    let body = json!({"generation": 1, "network_namespace": path, "ports": []});
    let attached = daemon.call("PUT", &format!("/instances/{SERVICE}/0"), Some(body)).await;
    assert_eq!(attached.0, 200);
    assert_eq!(datapath.kernel.lock().expect("no panic").links.len(), 1);
    daemon.stop().await;
}

#[tokio::test]
async fn a_restart_needs_no_cluster() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let datapath = Remembered::default();
    let daemon = Daemon::start(&directory, datapath.clone()).await;
    daemon.lend().await;
    daemon.attach(0, &["8080:80"]).await;
    let before = datapath.kernel.lock().expect("no panic").clone();
    daemon.stop().await;

    // A kernel that refuses everything shows that nothing is asked of it.
    *datapath.refuses.lock().expect("no panic") = true;
    let daemon = Daemon::start(&directory, datapath.clone()).await;
    assert_eq!(
        daemon.get("/status").await,
        json!({"state": "ready", "detail": "", "worker_id": null, "subnet_v4": "10.18.0.0/26",
               "subnet_v6": "fc00::/120", "instances": 1})
    );
    assert_eq!(daemon.attach(0, &["8080:80"]).await.0, 200);
    assert_eq!(*datapath.kernel.lock().expect("no panic"), before);
    daemon.stop().await;
}

#[tokio::test]
async fn refusals_carry_a_code_and_what_to_do() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let daemon = Daemon::start(&directory, Remembered { busy: Some(22), ..Remembered::default() }).await;
    let (status, refusal) = daemon.attach(0, &[]).await;
    assert_eq!((status, &refusal["code"]), (503, &json!("no_subnet")));
    let message = refusal["message"].as_str().expect("a sentence");
    assert!(message.starts_with("bad network received: this worker has no subnet"), "{message}");

    daemon.lend().await;
    daemon.attach(0, &["8080:80"]).await;
    assert_eq!(
        daemon.attach(1, &["8080:8080"]).await,
        (
            409,
            json!({"code": "port_conflict", "message": format!(
                "port 8080/tcp of this device is taken by instance {SERVICE}/0; use another port or remove that instance"
            )})
        )
    );
    assert_eq!(daemon.attach(1, &["22"]).await.1["code"], "port_conflict");
    assert_eq!(daemon.attach(1, &["x"]).await.1["code"], "invalid");
    let body = json!({"generation": 1, "network_namespace": "/proc/0/ns/net"});
    let path = format!("/instances/{SERVICE}/1");
    assert_eq!(daemon.call("PUT", &path, Some(body)).await.1["code"], "no_namespace");
    assert_eq!(daemon.call("PUT", "/instances/x/1", Some(json!({}))).await.0, 400);
    assert_eq!(daemon.call("GET", "/nowhere", None).await.1["code"], "not_found");
    assert_eq!(daemon.get("/instances").await.as_array().map(Vec::len), Some(1), "a refusal changes nothing");
    daemon.stop().await;
}

#[tokio::test]
async fn a_kernel_that_refuses_is_told_and_tried_again() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let datapath = Remembered::default();
    let daemon = Daemon::start(&directory, datapath.clone()).await;
    daemon.lend().await;
    *datapath.refuses.lock().expect("no panic") = true;
    assert_eq!(
        daemon.attach(0, &[]).await,
        (
            500,
            json!({"code": "kernel", "message": "the kernel refused: cannot change anything: it is a test"})
        )
    );
    *datapath.refuses.lock().expect("no panic") = false;
    assert_eq!(daemon.attach(0, &[]).await.0, 200);
    assert_eq!(datapath.kernel.lock().expect("no panic").links.len(), 1);
    daemon.stop().await;
}

#[tokio::test]
async fn an_instance_that_cannot_be_attached_does_not_keep_others_from_it() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let daemon = Daemon::start(&directory, Remembered { hopeless: Some(0), ..Remembered::default() }).await;
    daemon.lend().await;
    assert_eq!(daemon.attach(0, &[]).await.0, 500);
    assert_eq!(daemon.attach(1, &[]).await, (200, json!({"addresses": ["10.18.0.3", "fc00::3"]})));
    assert_eq!(daemon.attach(0, &[]).await.0, 500);
    daemon.stop().await;
}

#[tokio::test]
async fn only_the_status_is_told_without_the_key() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let daemon = Daemon::start(&directory, Remembered::default()).await;
    assert_eq!(daemon.call_with("", "GET", "/status", None).await.0, 200);
    let instance = format!("/instances/{SERVICE}/0");
    let drain = format!("{instance}/drain");
    let guarded = [
        ("GET", "/instances"),
        ("POST", "/register"),
        ("POST", "/certificate"),
        ("PUT", instance.as_str()),
        ("DELETE", instance.as_str()),
        ("POST", drain.as_str()),
        ("GET", "/logs"),
    ];
    for (method, path) in guarded {
        for key in ["", "wrong", &daemon.key[1..]] {
            let (status, refusal) = daemon.call_with(key, method, path, None).await;
            assert_eq!((status, &refusal["code"]), (401, &json!("unauthorized")), "{method} {path}");
        }
    }
    daemon.stop().await;
}

#[tokio::test]
async fn a_worker_registers_as_often_as_it_likes_and_another_one_is_refused() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let daemon = Daemon::start(&directory, Remembered::default()).await;
    assert_eq!(daemon.get("/status").await["state"], "waiting_for_node_engine");
    assert_eq!(
        daemon.call("POST", "/certificate", Some(json!({"certificate_chain": "x"}))).await.1["code"],
        "not_registered"
    );

    let (status, answer) = daemon.call("POST", "/register", Some(registration(WORKER))).await;
    assert_eq!((status, &answer["certified"]), (200, &json!(false)));
    let request = answer["certificate_request"].as_str().expect("a request");
    assert!(request.starts_with("-----BEGIN CERTIFICATE REQUEST-----"), "{request}");
    assert_eq!(daemon.call("POST", "/register", Some(registration(WORKER))).await.0, 200);
    let status = daemon.get("/status").await;
    assert_eq!((&status["state"], &status["worker_id"]), (&json!("waiting_for_certificate"), &json!(WORKER)));

    let (status, refusal) = daemon.call("POST", "/register", Some(registration(ROOT))).await;
    assert_eq!((status, &refusal["code"]), (409, &json!("other_worker")));
    let (status, refusal) =
        daemon.call("POST", "/certificate", Some(json!({"certificate_chain": "x"}))).await;
    assert_eq!((status, &refusal["code"]), (400, &json!("invalid")));
    daemon.stop().await;
}

#[tokio::test]
async fn a_worker_that_loses_its_cluster_stays_ready() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let daemon = Daemon::start(&directory, Remembered::default()).await;
    daemon.leases.send(UplinkEvent::Connected).await.expect("it listens");
    daemon.wait_for_state("waiting_for_subnet").await;
    daemon.lend().await;
    daemon.leases.send(UplinkEvent::Disconnected("the cable is out".to_owned())).await.expect("it listens");
    for _ in 0..200 {
        let status = daemon.get("/status").await;
        assert_eq!(status["state"], "ready");
        if status["detail"] == "cut off from the cluster, instances keep running: the cable is out" {
            return daemon.stop().await;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("the status never told");
}

#[tokio::test]
async fn an_instance_begins_when_the_cluster_has_told_of_its_application() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let datapath = Remembered::default();
    let daemon = Daemon::start(&directory, datapath.clone()).await;
    daemon.lend().await;
    let mut attaching = Box::pin(daemon.attach_stable());
    let early = tokio::time::timeout(Duration::from_millis(300), &mut attaching).await;
    assert!(early.is_err(), "{early:?}");
    assert_eq!(datapath.kernel.lock().expect("no panic").links.len(), 1, "all else is done meanwhile");
    assert_eq!(daemon.attach(1, &[]).await.0, 200, "and for others");
    let told = tokio::time::Instant::now();
    daemon.tell().await;
    assert_eq!(attaching.as_mut().await.0, 200);
    drop(attaching);
    assert!(told.elapsed() < Duration::from_secs(1), "{:?}", told.elapsed());
    assert_eq!(daemon.attach_stable().await.0, 200);
    daemon.stop().await;
}

#[tokio::test]
async fn an_instance_begins_although_nobody_tells_of_its_application() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let daemon = Daemon::start(&directory, Remembered::default()).await;
    daemon.lend().await;
    let begun = tokio::time::Instant::now();
    assert_eq!(daemon.attach_stable().await.0, 200);
    let waited = begun.elapsed();
    assert!((Duration::from_secs(2)..Duration::from_secs(6)).contains(&waited), "{waited:?}");
    daemon.stop().await;
}

#[tokio::test]
async fn connections_to_an_instance_that_goes_are_counted() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let datapath = Remembered::default();
    let daemon = Daemon::start(&directory, datapath.clone()).await;
    daemon.lend().await;
    daemon.attach(0, &["8080:80"]).await;
    let ports = |datapath: &Remembered| {
        let kernel = datapath.kernel.lock().expect("no panic");
        kernel.elements.iter().filter(|element| matches!(element, Element::Port { .. })).count()
    };
    assert_eq!(ports(&datapath), 2, "one of each family");
    *datapath.connected.lock().expect("no panic") = 3;
    let path = format!("/instances/{SERVICE}/0/drain");
    assert_eq!(daemon.call("POST", &path, None).await, (200, json!({"connections": 3})));
    assert_eq!(ports(&datapath), 0);
    daemon.stop().await;
}

#[tokio::test]
async fn the_log_is_shown_and_followed() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let daemon = Daemon::start(&directory, Remembered::default()).await;
    daemon.log.keep("one");
    daemon.log.keep("two");
    let (port, key) = (daemon.address.port(), directory.path().join("run/key"));
    let show = |follow: bool, key: PathBuf| {
        tokio::task::spawn_blocking(move || {
            let mut shown = Vec::new();
            net_manager::show_logs(port, &key, follow, &mut shown)
                .map(|()| String::from_utf8(shown).expect("text"))
                .map_err(|error| format!("{error:#}"))
        })
    };
    assert_eq!(show(false, key.clone()).await.expect("no panic"), Ok("one\ntwo\n".to_owned()));
    let nowhere = show(false, PathBuf::from("/nonexistent/key")).await.expect("no panic");
    let needs_root = nowhere.expect_err("no key");
    assert!(needs_root.starts_with("show the log, which needs root: local key"), "{needs_root}");

    let following = show(true, key.clone());
    tokio::time::sleep(Duration::from_millis(200)).await;
    daemon.log.keep("three");
    tokio::time::sleep(Duration::from_millis(200)).await;
    daemon.stop().await;
    let followed = following.await.expect("no panic").expect("it ends with the daemon");
    assert_eq!(followed, "one\ntwo\nthree\n");

    let gone = show(false, key).await.expect("no panic").expect_err("nobody answers");
    assert!(gone.starts_with("only a running NetManager tells its last lines"), "{gone}");
    assert!(gone.contains(&format!("no NetManager answers on 127.0.0.1:{port}; start it")), "{gone}");
}

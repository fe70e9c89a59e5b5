//! Networks for instances, from the NetManager of this device over its local HTTP interface.

pub mod fake;

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::PathBuf,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use futures_util::{FutureExt, future::BoxFuture};
use http_body_util::{BodyExt, Full};
use hyper::{Method, Request, StatusCode, body::Bytes, client::conn::http1::SendRequest, header};
use hyper_util::rt::TokioIo;
use model::{Generation, InstanceId, PortMapping};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use tokio::net::TcpStream;

/// NetManager answers in milliseconds; one that takes this long is not there.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);
/// As many idle connections as starts run at once on a common device.
const IDLE_CONNECTIONS: usize = 4;

/// Gives instances their networks. Every call may be repeated.
pub trait InstanceNetwork: Send + Sync + fmt::Debug + 'static {
    /// Attaches a network namespace and returns the instance's addresses.
    fn attach(&self, attachment: Attachment) -> BoxFuture<'_, Result<Vec<IpAddr>, NetworkError>>;

    /// Takes the ports of the device from an instance that goes, for new connections, and counts those to it.
    fn drain(&self, instance: InstanceId) -> BoxFuture<'_, Result<u32, NetworkError>>;

    /// Releases the addresses and ports of an instance.
    fn detach(&self, instance: InstanceId) -> BoxFuture<'_, Result<(), NetworkError>>;

    /// How NetManager fares.
    fn status(&self) -> BoxFuture<'_, Result<NetworkStatus, NetworkError>>;
}

/// An instance whose process waits for its network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attachment {
    /// Which instance.
    pub instance: InstanceId,
    /// Which placement of it.
    pub generation: Generation,
    /// Path of its network namespace.
    pub network_namespace: String,
    /// Ports of the device that lead to it.
    pub ports: Vec<PortMapping>,
    /// The address it keeps wherever it runs.
    pub address: Option<Ipv4Addr>,
}

/// What NetManager says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(default)]
pub struct NetworkStatus {
    /// One word.
    pub state: String,
    /// One sentence.
    pub detail: String,
    /// The worker it was registered for.
    pub worker_id: Option<String>,
    /// The subnet its instances live in.
    pub subnet_v4: Option<String>,
    /// The same for IPv6.
    pub subnet_v6: Option<String>,
    /// How many instances it serves.
    pub instances: serde_json::Value,
}

/// Who NetManager is to be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Registration {
    /// The worker it serves.
    pub worker_id: String,
    /// The cluster it dials.
    pub cluster_id: String,
    /// Where: `host:port`.
    pub cluster_address: String,
    /// The root whose certificates count.
    pub root_id: String,
    /// That root's certificate, PEM.
    pub ca_certificate: String,
}

/// NetManager's answer to a registration.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Registered {
    /// It has a certificate that fits.
    pub certified: bool,
    /// If not, the request for one, PEM.
    #[serde(default)]
    pub certificate_request: Option<String>,
}

/// Why there is no network.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NetworkError {
    /// NetManager said no.
    #[error("{message}")]
    Refused {
        /// Its stable code, such as `port_conflict` or `no_subnet`.
        code: String,
        /// Why, for a person.
        message: String,
    },
    /// The key to its interface cannot be read.
    #[error("the key to NetManager, {}, cannot be read: {reason}; is NetManager running, and NodeEngine root?", path.display())]
    Key {
        /// Where it should be.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// It does not answer, or nonsense.
    #[error("NetManager at {address} does not answer: {reason}; is it running?")]
    Unreachable {
        /// Where.
        address: SocketAddr,
        /// Why.
        reason: String,
    },
}

/// Talks to the NetManager of this device over connections that are kept open.
#[derive(Debug)]
pub struct NetManagerClient {
    address: SocketAddr,
    key_file: PathBuf,
    idle: Mutex<Vec<SendRequest<Full<Bytes>>>>,
}

impl NetManagerClient {
    /// The NetManager at a port of the loopback interface. Its key is read anew for each request, so it may be
    /// restarted with another.
    #[must_use]
    pub const fn new(port: u16, key_file: PathBuf) -> Self {
        Self {
            address: SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port),
            key_file,
            idle: Mutex::new(Vec::new()),
        }
    }

    /// Tells NetManager who it is.
    ///
    /// # Errors
    /// It says no or does not answer.
    pub async fn register(&self, registration: &Registration) -> Result<Registered, NetworkError> {
        self.call(Method::POST, "/register", Some(registration)).await
    }

    /// Hands NetManager the certificate it asked for.
    ///
    /// # Errors
    /// It says no or does not answer.
    pub async fn install_certificate(&self, certificate_chain: &str) -> Result<(), NetworkError> {
        let body = serde_json::json!({ "certificate_chain": certificate_chain });
        self.call::<serde_json::Value>(Method::POST, "/certificate", Some(&body)).await.map(drop)
    }

    async fn call<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Option<&(impl Serialize + Sync)>,
    ) -> Result<T, NetworkError> {
        let body = body.map(serde_json::to_vec).transpose().expect("these types have string keys only");
        let body = Bytes::from(body.unwrap_or_default());
        let answer = tokio::time::timeout(ANSWER_WITHIN, self.exchange(&method, path, &body)).await;
        let (status, content) = answer.unwrap_or_else(|_| {
            Err(self.unreachable(format!("no answer within {} s", ANSWER_WITHIN.as_secs())))
        })?;
        if status.is_success() {
            return serde_json::from_slice(&content).map_err(|error| {
                self.unreachable(format!("its answer to {method} {path} makes no sense: {error}"))
            });
        }
        Err(refusal(status, &content))
    }

    /// One request and its answer, over a kept connection if one still works.
    async fn exchange(
        &self,
        method: &Method,
        path: &str,
        body: &Bytes,
    ) -> Result<(StatusCode, Bytes), NetworkError> {
        while let Some(connection) = self.take_idle() {
            // Every request may be repeated, so a connection that broke meanwhile costs only the attempt.
            if let Ok(answer) = self.send(connection, method, path, body).await? {
                return Ok(answer);
            }
        }
        let connection = self.connect().await.map_err(|error| self.unreachable(error))?;
        self.send(connection, method, path, body).await?.map_err(|error| self.unreachable(error.to_string()))
    }

    async fn send(
        &self,
        mut connection: SendRequest<Full<Bytes>>,
        method: &Method,
        path: &str,
        body: &Bytes,
    ) -> Result<Result<(StatusCode, Bytes), hyper::Error>, NetworkError> {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, self.address.to_string())
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::AUTHORIZATION, format!("Bearer {}", self.key(path)?))
            .body(Full::new(body.clone()))
            .map_err(|error| self.unreachable(error.to_string()))?;
        let exchange = async {
            let response = connection.send_request(request).await?;
            let status = response.status();
            Ok((status, response.into_body().collect().await?.to_bytes()))
        };
        let answer = exchange.await;
        if answer.is_ok() {
            self.keep(connection);
        }
        Ok(answer)
    }

    async fn connect(&self) -> Result<SendRequest<Full<Bytes>>, String> {
        let stream = TcpStream::connect(self.address).await.map_err(|error| error.to_string())?;
        stream.set_nodelay(true).map_err(|error| error.to_string())?;
        let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|error| error.to_string())?;
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a connection to NetManager broke");
            }
        });
        Ok(sender)
    }

    fn key(&self, path: &str) -> Result<String, NetworkError> {
        if path == "/status" {
            return Ok(String::new());
        }
        let key = std::fs::read_to_string(&self.key_file);
        key.map(|key| key.trim().to_owned())
            .map_err(|error| NetworkError::Key { path: self.key_file.clone(), reason: error.to_string() })
    }

    fn take_idle(&self) -> Option<SendRequest<Full<Bytes>>> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.retain(|connection| !connection.is_closed());
        idle.pop()
    }

    fn keep(&self, connection: SendRequest<Full<Bytes>>) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < IDLE_CONNECTIONS {
            idle.push(connection);
        }
    }

    fn unreachable(&self, reason: impl Into<String>) -> NetworkError {
        NetworkError::Unreachable { address: self.address, reason: reason.into() }
    }
}

fn refusal(status: StatusCode, content: &[u8]) -> NetworkError {
    #[derive(Deserialize)]
    struct Refusal {
        code: String,
        message: String,
    }
    match serde_json::from_slice::<Refusal>(content) {
        Ok(Refusal { code, message }) => NetworkError::Refused { code, message },
        Err(_) => NetworkError::Refused {
            code: status.as_u16().to_string(),
            message: format!("NetManager answered {status}: {}", String::from_utf8_lossy(content).trim()),
        },
    }
}

impl InstanceNetwork for NetManagerClient {
    fn attach(&self, attachment: Attachment) -> BoxFuture<'_, Result<Vec<IpAddr>, NetworkError>> {
        #[derive(Deserialize)]
        struct Attached {
            addresses: Vec<IpAddr>,
        }
        async move {
            let path = path_of(attachment.instance);
            let body = serde_json::json!({
                "generation": attachment.generation,
                "network_namespace": attachment.network_namespace,
                "ports": attachment.ports.iter().map(ToString::to_string).collect::<Vec<_>>(),
                "address": attachment.address,
            });
            let attached: Attached = self.call(Method::PUT, &path, Some(&body)).await?;
            Ok(attached.addresses)
        }
        .boxed()
    }

    fn drain(&self, instance: InstanceId) -> BoxFuture<'_, Result<u32, NetworkError>> {
        #[derive(Deserialize)]
        struct Draining {
            connections: u32,
        }
        async move {
            let path = format!("{}/drain", path_of(instance));
            let draining: Draining = self.call(Method::POST, &path, None::<&()>).await?;
            Ok(draining.connections)
        }
        .boxed()
    }

    fn detach(&self, instance: InstanceId) -> BoxFuture<'_, Result<(), NetworkError>> {
        async move {
            let path = path_of(instance);
            self.call::<serde_json::Value>(Method::DELETE, &path, None::<&()>).await.map(drop)
        }
        .boxed()
    }

    fn status(&self) -> BoxFuture<'_, Result<NetworkStatus, NetworkError>> {
        self.call(Method::GET, "/status", None::<&()>).boxed()
    }
}

fn path_of(instance: InstanceId) -> String {
    format!("/instances/{}/{}", instance.service, instance.number)
}

#[cfg(test)]
mod tests {
    use model::ServiceId;
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
    };

    use super::*;

    fn attachment() -> Attachment {
        Attachment {
            instance: InstanceId { service: ServiceId::from_bytes([0xab; 12]), number: 3 },
            generation: Generation(2),
            network_namespace: "/proc/7/ns/net".to_owned(),
            address: Some(Ipv4Addr::new(10, 30, 0, 7)),
            ports: PortMapping::parse_list("8080:80").expect("well formed"),
        }
    }

    /// Answers each connection with the given answers in turn, then closes it; returns the requests.
    async fn serve(listener: TcpListener, connections: Vec<Vec<&'static str>>) -> Vec<String> {
        let mut requests = Vec::new();
        for answers in connections {
            let (mut stream, _) = listener.accept().await.expect("a connection");
            for answer in answers {
                let mut request = vec![0; 4096];
                let length = stream.read(&mut request).await.expect("a request");
                requests.push(String::from_utf8_lossy(&request[..length]).into_owned());
                let answer = format!("HTTP/1.1 {answer}");
                stream.write_all(answer.as_bytes()).await.expect("the client listens");
            }
        }
        requests
    }

    async fn client(directory: &std::path::Path) -> (NetManagerClient, TcpListener) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let key_file = directory.join("key");
        std::fs::write(&key_file, "secret\n").expect("writable");
        (NetManagerClient::new(listener.local_addr().expect("bound").port(), key_file), listener)
    }

    #[tokio::test]
    async fn requests_share_a_connection_and_survive_its_end() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let (client, listener) = client(directory.path()).await;
        let addresses =
            "200 OK\r\ncontent-length: 41\r\n\r\n{\"addresses\":[\"10.18.0.2\",\"fc00::2\"]}   \n";
        let nothing = "200 OK\r\ncontent-length: 2\r\n\r\n{}";
        let three = "200 OK\r\ncontent-length: 17\r\n\r\n{\"connections\":3}";
        let server = tokio::spawn(serve(listener, vec![vec![addresses, three, nothing], vec![nothing]]));
        let attached = client.attach(attachment()).await.expect("addresses");
        assert_eq!(attached, ["10.18.0.2".parse::<IpAddr>().expect("v4"), "fc00::2".parse().expect("v6")]);
        assert_eq!(client.drain(attachment().instance).await, Ok(3));
        client.detach(attachment().instance).await.expect("over the same connection");
        client.detach(attachment().instance).await.expect("over a new connection");
        let requests = server.await.expect("all were served");
        assert!(
            requests[0].starts_with("PUT /instances/abababababababababababab/3 HTTP/1.1"),
            "{}",
            requests[0]
        );
        assert!(requests[0].contains("authorization: Bearer secret\r\n"), "{}", requests[0]);
        let body = r#"{"address":"10.30.0.7","generation":2,"network_namespace":"/proc/7/ns/net","ports":["8080:80/tcp"]}"#;
        assert!(requests[0].ends_with(body), "{}", requests[0]);
        assert!(requests[1].starts_with("POST /instances/abababababababababababab/3/drain HTTP/1.1"));
        assert!(requests[2].starts_with("DELETE /instances/abababababababababababab/3 HTTP/1.1"));
    }

    #[tokio::test]
    async fn a_refusal_carries_its_code_and_reason() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let (client, listener) = client(directory.path()).await;
        let answer = "409 Conflict\r\ncontent-length: 48\r\n\r\n{\"code\":\"port_conflict\",\"message\":\"80 is taken\"} ";
        tokio::spawn(serve(listener, vec![vec![answer]]));
        let refused = NetworkError::Refused { code: "port_conflict".into(), message: "80 is taken".into() };
        assert_eq!(client.attach(attachment()).await, Err(refused));
    }

    #[tokio::test]
    async fn an_absent_net_manager_is_named() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let (client, listener) = client(directory.path()).await;
        let address = listener.local_addr().expect("bound");
        drop(listener);
        let error = client.status().await.expect_err("nobody listens");
        assert!(
            error.to_string().starts_with(&format!("NetManager at {address} does not answer: ")),
            "{error}"
        );
    }
}

//! What a certificate opens, and that it opens nothing else: every method of the protocol at the ports for daemons by
//! every kind of certificate, against the table in `methods.txt`; and every route of the API, of which no certificate
//! opens one. Methods are read from the protocol and routes from the live description, so that a new one without an entry
//! fails the test.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    sync::Arc,
};

use hyper_util::rt::TokioIo;
use rustls::{
    ClientConfig, DigitallySignedStruct, Error, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, ring},
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject},
};
use testkit::{Root, wait_until};
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream};
use tonic::{
    Code, Request,
    body::Body,
    client::Grpc,
    transport::{Channel, Endpoint, Uri},
};
use tower::{Service, ServiceExt, service_fn};

use super::routes::routes;

const TABLE: &str = include_str!("methods.txt");
/// Tests run in the folder of their package. Where that was when they were built may be another place.
const PROTOCOL: &str = "../proto/mangrove/v1";
const CALLERS: [&str; 6] = ["none", "foreign", "cluster", "worker", "revoked-cluster", "revoked-worker"];
const PORTS: [&str; 2] = ["root", "cluster"];

/// A method at a port.
type Call = (String, String);

/// What callers get, in the order of [`CALLERS`].
fn table() -> BTreeMap<Call, Vec<String>> {
    let lines = TABLE.lines().filter(|line| !line.starts_with('#') && !line.trim().is_empty());
    let read = |line: &str| {
        let mut words = line.split_whitespace().map(str::to_owned);
        let call = (words.next().expect("a port"), words.next().expect("a method"));
        let answers: Vec<String> = words.collect();
        assert_eq!(answers.len(), CALLERS.len(), "{line}");
        (call, answers)
    };
    lines.map(read).collect()
}

/// Every method of the protocol, as it is called.
fn methods() -> Vec<String> {
    let files = std::fs::read_dir(PROTOCOL).expect("the protocol is there");
    let mut methods = Vec::new();
    for file in files {
        let text = std::fs::read_to_string(file.expect("listed").path()).expect("readable");
        let mut service = "";
        for line in text.lines() {
            let mut words = line.split([' ', '(']).filter(|word| !word.is_empty());
            match (words.next(), words.next()) {
                (Some("service"), Some(name)) => service = name,
                (Some("rpc"), Some(name)) => methods.push(format!("{service}/{name}")),
                _ => {}
            }
        }
    }
    methods.sort();
    methods
}

/// A root with a cluster that has a worker, and others that were revoked or are of another root.
struct Fleet {
    root: Root,
    _others: (Root, Vec<testkit::Worker>, Vec<testkit::Cluster>),
    /// State directories by caller.
    states: BTreeMap<&'static str, PathBuf>,
    /// Addresses by port.
    ports: BTreeMap<&'static str, String>,
}

impl Fleet {
    async fn start() -> Self {
        let (root, strange) = (Root::start().await, Root::start().await);
        let (one, two) = (root.cluster("one").await, root.cluster("two").await);
        let foreign = strange.cluster("one").await;
        let good = one.worker(&root.api, "good").await;
        let stolen = one.worker(&root.api, "stolen").await;
        let states = [
            ("foreign", foreign.state()),
            ("cluster", one.state()),
            ("worker", good.state()),
            ("revoked-cluster", two.state()),
            ("revoked-worker", stolen.state()),
        ];
        let ports = [("root", root.cluster_address()), ("cluster", one.worker_address())];
        root.api.delete("/api/cluster/one/certificates/stolen").await.ok();
        root.api.delete("/api/certificates/two").await.ok();
        let (states, ports) = (states.into(), BTreeMap::from(ports));
        let fleet =
            Self { root, _others: (strange, vec![good, stolen], vec![one, two, foreign]), states, ports };
        for (port, caller) in [("root", "revoked-cluster"), ("cluster", "revoked-worker")] {
            wait_until(&format!("{caller} to be refused"), async || {
                match fleet.call(port, caller, "Enrolment/Renew").await {
                    answer if answer == "refused" => Ok(()),
                    answer => Err(answer),
                }
            })
            .await;
        }
        fleet
    }

    async fn dial(&self, port: &str, caller: &str) -> Result<Channel, tonic::transport::Error> {
        dial(&self.ports[port], self.states.get(caller).map(PathBuf::as_path)).await
    }

    /// What a method answers to an empty message.
    async fn call(&self, port: &str, caller: &str, method: &str) -> String {
        let Ok(channel) = self.dial(port, caller).await else { return "refused".to_owned() };
        let mut client = Grpc::new(channel);
        if client.ready().await.is_err() {
            return "refused".to_owned();
        }
        let path = format!("/mangrove.v1.{method}").parse().expect("a path");
        let said = Request::new(tokio_stream::once(()));
        let answered = client.streaming(said, path, tonic_prost::ProstCodec::<(), ()>::default()).await;
        let status = match answered {
            Ok(response) => match response.into_inner().message().await {
                Ok(_) => return "answered".to_owned(),
                Err(status) => status,
            },
            Err(status) => status,
        };
        let words = [
            (Code::Unauthenticated, "nobody"),
            (Code::PermissionDenied, "denied"),
            (Code::InvalidArgument, "let-in"),
            (Code::Unimplemented, "nothing"),
            // Of the connection.
            (Code::Unknown, "refused"),
            (Code::Unavailable, "refused"),
            (Code::Cancelled, "refused"),
        ];
        let word = words.iter().find(|(code, _)| *code == status.code()).map(|(_, word)| (*word).to_owned());
        word.unwrap_or_else(|| format!("{:?}:{}", status.code(), status.message()))
    }
}

#[tokio::test]
async fn every_method_is_for_whom_the_table_says() {
    let fleet = Fleet::start().await;
    let mut table = table();
    let mut wrong = Vec::new();
    for port in PORTS {
        for method in methods() {
            let Some(wanted) = table.remove(&(port.to_owned(), method.clone())) else {
                wrong.push(format!("{method} at the port of the {port} is not in the table"));
                continue;
            };
            let mut seen = Vec::new();
            for caller in CALLERS {
                seen.push(fleet.call(port, caller, &method).await);
            }
            if seen != wanted {
                wrong
                    .push(format!("{method} at the port of the {port} answers {seen:?}, and not {wanted:?}"));
            }
        }
    }
    wrong.extend(table.keys().map(|(port, method)| format!("{port} {method} is in the table only")));
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test]
async fn no_certificate_opens_a_route_of_the_api() {
    let fleet = Fleet::start().await;
    // Its port takes no certificates: it does not speak TLS. One that does is tried in `routes.rs`.
    let api = fleet.root.api.base().trim_start_matches("http://").to_owned();
    for caller in ["none", "cluster", "worker"] {
        let dialled = connect(&api, fleet.states.get(caller).map(PathBuf::as_path)).await;
        assert!(dialled.is_err(), "{caller}");
    }
    // The ports that take them have no routes, not even for the administrator.
    let admin = format!("Bearer {}", fleet.root.api.bearer());
    let routes = routes(&fleet.root.api).await;
    assert!(!routes.is_empty());
    for (port, caller) in [("root", "cluster"), ("root", "none"), ("cluster", "worker"), ("cluster", "none")]
    {
        let mut channel = fleet.dial(port, caller).await.expect("let in");
        let mut answers = BTreeSet::new();
        for (method, path) in &routes {
            let request = tonic::codegen::http::Request::builder()
                .method(method.as_str())
                .uri(path.replace(['{', '}'], ""));
            let request = request.header("authorization", &admin).body(Body::empty()).expect("a request");
            let answer = channel.ready().await.expect("connected").call(request).await.expect("an answer");
            let status =
                answer.headers().get("grpc-status").map(|status| status.to_str().expect("a text").to_owned());
            answers.insert((answer.status().as_u16(), status));
        }
        let nothing_there = (200, Some((Code::Unimplemented as i32).to_string()));
        assert_eq!(answers, BTreeSet::from([nothing_there]), "{caller} at the port of the {port}");
    }
}

/// Dials a port for daemons with the certificate in a state directory, whoever is there.
async fn dial(address: &str, state: Option<&Path>) -> Result<Channel, tonic::transport::Error> {
    let (address, state) = (address.to_owned(), state.map(Path::to_owned));
    let connector = service_fn(move |_: Uri| {
        let (address, state) = (address.clone(), state.clone());
        async move { connect(&address, state.as_deref()).await.map(TokioIo::new) }
    });
    Endpoint::from_static("http://port.mangrove").connect_with_connector(connector).await
}

async fn connect(address: &str, state: Option<&Path>) -> std::io::Result<TlsStream<TcpStream>> {
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("TLS 1.3")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(WhoeverIsThere(ring::default_provider())));
    let mut config = match state {
        Some(state) => {
            let chain = CertificateDer::pem_file_iter(state.join("identity.pem")).expect("a certificate");
            let chain = chain.map(|certificate| certificate.expect("readable")).collect();
            let key = PrivateKeyDer::from_pem_file(state.join("identity.key")).expect("a key");
            config.with_client_auth_cert(chain, key).expect("a pair")
        }
        None => config.with_no_client_auth(),
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    let stream = TcpStream::connect(address).await?;
    let name = ServerName::try_from("port.mangrove").expect("a name");
    TlsConnector::from(Arc::new(config)).connect(name, stream).await
}

/// Believes everybody: here the other side is tried.
#[derive(Debug)]
struct WhoeverIsThere(CryptoProvider);

impl ServerCertVerifier for WhoeverIsThere {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

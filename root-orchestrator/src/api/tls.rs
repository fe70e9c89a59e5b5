//! TLS of the REST API. The certificate is one of any authority that clients believe, in two files; it has nothing to do
//! with those of daemons. The files are looked at when somebody connects: whoever renews them need not tell the root.

use std::{
    fs,
    net::SocketAddr,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use anyhow::{Context, ensure};
use clap::Args;
use rustls::{
    ServerConfig,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};
use tokio_rustls::TlsAcceptor;

/// HTTP/1.1, the only protocol of the API.
const ALPN: &[u8] = b"http/1.1";

/// How the REST API is reached.
#[derive(Debug, Clone, Default, Args)]
pub struct ApiTlsConfig {
    /// File with the certificate of the REST API and those between it and its authority, as PEM; the API then speaks TLS
    /// only. Read again when it changes.
    #[arg(long, env = "MANGROVE_API_CERTIFICATE", value_name = "FILE", requires = "api_key")]
    pub api_certificate: Option<PathBuf>,

    /// File with the key of that certificate, as PEM. Read again when it changes.
    #[arg(long, env = "MANGROVE_API_KEY", value_name = "FILE", requires = "api_certificate")]
    pub api_key: Option<PathBuf>,

    /// Without a certificate, let the REST API be plain HTTP on an address that others reach: something in front of it
    /// speaks TLS, or nobody else is on that network.
    #[arg(long, env = "MANGROVE_API_PLAIN")]
    pub api_plain: bool,
}

/// What is spoken on the port.
#[derive(Debug)]
pub(crate) enum Transport {
    Plain,
    Tls(Arc<Tls>),
}

impl Transport {
    /// What was configured for a port that is bound to `address`.
    ///
    /// # Errors
    /// When others could read passwords there, or the certificate cannot be used.
    pub(crate) fn open(config: &ApiTlsConfig, address: SocketAddr) -> anyhow::Result<Self> {
        if let (Some(certificate), Some(key)) = (&config.api_certificate, &config.api_key) {
            let files = Files { certificate: certificate.clone(), key: key.clone() };
            return Ok(Self::Tls(Arc::new(Tls::open(files)?)));
        }
        ensure!(
            config.api_plain || address.ip().to_canonical().is_loopback(),
            "the API would be plain HTTP on {address}, where passwords and tokens can be read on their way; \
             pass --api-certificate and --api-key, or listen on 127.0.0.1, or pass --api-plain if something in front of it \
             speaks TLS"
        );
        Ok(Self::Plain)
    }
}

#[derive(Debug)]
struct Files {
    certificate: PathBuf,
    key: PathBuf,
}

/// By what a file that was changed or replaced is told from the one before; `None` when it cannot be looked at.
type Stamp = Option<(u64, i64, i64, u64)>;

/// The certificate that is shown.
#[derive(Debug)]
pub(crate) struct Tls {
    shown: Mutex<Shown>,
    files: Files,
}

#[derive(Debug)]
struct Shown {
    /// Of both files, before they were read last.
    stamps: [Stamp; 2],
    config: Arc<ServerConfig>,
}

impl Tls {
    fn open(files: Files) -> anyhow::Result<Self> {
        let shown = Shown { stamps: files.stamps(), config: Arc::new(files.read()?) };
        Ok(Self { shown: Mutex::new(shown), files })
    }

    /// What the next client is met by.
    pub(super) async fn acceptor(self: Arc<Self>) -> TlsAcceptor {
        let this = Arc::clone(&self);
        // Files may be far away.
        let newest = tokio::task::spawn_blocking(move || this.newest()).await;
        TlsAcceptor::from(newest.unwrap_or_else(|_| self.shown().config.clone()))
    }

    /// The certificate as it is in the files. One that cannot be used leaves the one before in place.
    fn newest(&self) -> Arc<ServerConfig> {
        let stamps = self.files.stamps();
        let mut shown = self.shown();
        if shown.stamps != stamps {
            match self.files.read() {
                Ok(config) => {
                    shown.config = Arc::new(config);
                    tracing::info!(file = %self.files.certificate.display(), "the API shows its new certificate");
                }
                // The first of two files may have been replaced and the second not yet.
                Err(error) => {
                    let error = format!("{error:#}");
                    tracing::warn!(error, "the API goes on with the certificate it had");
                }
            }
            shown.stamps = stamps;
        }
        Arc::clone(&shown.config)
    }

    fn shown(&self) -> std::sync::MutexGuard<'_, Shown> {
        self.shown.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Files {
    fn stamps(&self) -> [Stamp; 2] {
        [&self.certificate, &self.key].map(|path| stamp(path))
    }

    fn read(&self) -> anyhow::Result<ServerConfig> {
        let Self { certificate, key } = self;
        let (named, key_named) = (certificate.display(), key.display());
        let chain = CertificateDer::pem_file_iter(certificate)
            .and_then(Iterator::collect::<Result<Vec<_>, _>>)
            .with_context(|| format!("read the certificate of the API from {named} (--api-certificate)"))?;
        ensure!(!chain.is_empty(), "{named} (--api-certificate) has no certificate: expected PEM");
        let key = PrivateKeyDer::from_pem_file(key)
            .with_context(|| format!("read the key of the API from {key_named} (--api-key)"))?;
        let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .with_context(|| format!("show the certificate in {named} with the key in {key_named}"))?;
        config.alpn_protocols = vec![ALPN.to_vec()];
        Ok(config)
    }
}

fn stamp(path: &Path) -> Stamp {
    let about = fs::metadata(path).ok()?;
    Some((about.ino(), about.mtime(), about.mtime_nsec(), about.len()))
}

#[cfg(test)]
mod tests {
    use std::{net::Ipv4Addr, time::Duration};

    use axum::{Router, extract::ConnectInfo, routing::get};
    use rustls::{ClientConfig, RootCertStore, pki_types::ServerName};
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::{TcpListener, TcpStream},
        time::timeout,
    };
    use tokio_rustls::{TlsConnector, client::TlsStream};
    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::api::serve::{Patience, serve_patiently};

    const NAME: &str = "root.example";

    /// Two files, with what is in them now.
    struct Given {
        directory: tempfile::TempDir,
        certificate: CertificateDer<'static>,
    }

    impl Given {
        fn new() -> Self {
            let directory = tempfile::tempdir().expect("a directory");
            let mut given = Self { directory, certificate: CertificateDer::from(Vec::new()) };
            given.renew();
            given
        }

        /// Puts another certificate with another key in their place.
        fn renew(&mut self) {
            let made = rcgen::generate_simple_self_signed([NAME.to_owned()]).expect("made");
            self.replace("api.pem", &made.cert.pem());
            self.replace("api.key", &made.signing_key.serialize_pem());
            self.certificate = made.cert.der().clone();
        }

        /// As those do it who renew certificates: readers see the old file or the new one.
        fn replace(&self, name: &str, content: &str) {
            let new = self.path("new");
            fs::write(&new, content).expect("written");
            fs::rename(&new, self.path(name)).expect("replaced");
        }

        fn path(&self, name: &str) -> PathBuf {
            self.directory.path().join(name)
        }

        fn config(&self) -> ApiTlsConfig {
            ApiTlsConfig {
                api_certificate: Some(self.path("api.pem")),
                api_key: Some(self.path("api.key")),
                api_plain: false,
            }
        }
    }

    /// An API with one answer, until the test ends; its port.
    async fn serving(config: &ApiTlsConfig) -> SocketAddr {
        serving_with(config, Patience::default()).await
    }

    async fn serving_with(config: &ApiTlsConfig, patience: Patience) -> SocketAddr {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        let transport = Transport::open(config, address).expect("usable");
        let who = |ConnectInfo(from): ConnectInfo<SocketAddr>| async move { format!("hello {}", from.ip()) };
        let router = Router::new().route("/", get(who));
        let shutdown = CancellationToken::new();
        tokio::spawn(serve_patiently(listener, transport, router, shutdown, patience));
        address
    }

    async fn connect(
        address: SocketAddr,
        trusted: &CertificateDer<'static>,
    ) -> std::io::Result<TlsStream<TcpStream>> {
        let mut roots = RootCertStore::empty();
        roots.add(trusted.clone()).expect("a certificate");
        let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("known")
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![b"h2".to_vec(), ALPN.to_vec()];
        let stream = TcpStream::connect(address).await.expect("it listens");
        let name = ServerName::try_from(NAME).expect("a name");
        TlsConnector::from(Arc::new(config)).connect(name, stream).await
    }

    /// The whole answer to one request, the last of its connection.
    async fn ask(stream: &mut (impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin)) -> String {
        let request = "GET / HTTP/1.1\r\nhost: root.example\r\nconnection: close\r\n\r\n";
        stream.write_all(request.as_bytes()).await.expect("sent");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.expect("it is closed in good order");
        answer
    }

    #[tokio::test]
    async fn with_a_certificate_the_api_speaks_tls_and_knows_who_connects() {
        let given = Given::new();
        let address = serving(&given.config()).await;
        let mut stream = connect(address, &given.certificate).await.expect("trusted");
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(ALPN), "nothing else is promised");
        let answer = ask(&mut stream).await;
        assert!(answer.starts_with("HTTP/1.1 200 OK") && answer.ends_with("hello 127.0.0.1"), "{answer}");
        let other = Given::new();
        assert!(connect(address, &other.certificate).await.is_err(), "it is not another's");
    }

    #[tokio::test]
    async fn who_begins_no_handshake_in_time_loses_the_place() {
        let given = Given::new();
        let handshake = Duration::from_millis(200);
        let address = serving_with(&given.config(), Patience { handshake, ..Patience::default() }).await;
        for beginning in [&b""[..], &[22, 3, 1]] {
            let mut stream = TcpStream::connect(address).await.expect("it listens");
            stream.write_all(beginning).await.expect("sent");
            let closed = timeout(Duration::from_secs(20), stream.read(&mut [0])).await.expect("it is closed");
            assert_eq!(closed.ok(), Some(0), "{beginning:?}");
        }
    }

    #[tokio::test]
    async fn who_speaks_plain_http_to_it_is_told_what_to_do() {
        let given = Given::new();
        let address = serving(&given.config()).await;
        let mut stream = TcpStream::connect(address).await.expect("it listens");
        let answer = ask(&mut stream).await;
        assert!(answer.starts_with("HTTP/1.1 400") && answer.contains("put https:// before it"), "{answer}");
    }

    #[tokio::test]
    async fn a_renewed_certificate_is_shown_to_whoever_comes_next_and_a_damaged_one_to_nobody() {
        let mut given = Given::new();
        let address = serving(&given.config()).await;
        let before = given.certificate.clone();
        let mut standing = connect(address, &before).await.expect("trusted");

        given.renew();
        connect(address, &given.certificate).await.expect("the new one is shown");
        assert!(connect(address, &before).await.is_err(), "and the old one no more");
        ask(&mut standing).await;

        // Half of a renewal: the certificate is there, and its key is not yet.
        let other = Given::new();
        given.replace("api.pem", &fs::read_to_string(other.path("api.pem")).expect("there"));
        connect(address, &given.certificate).await.expect("the one before is still shown");
        given.replace("api.key", &fs::read_to_string(other.path("api.key")).expect("there"));
        connect(address, &other.certificate).await.expect("both are there");
        for file in ["api.pem", "api.key"] {
            fs::remove_file(given.path(file)).expect("there");
        }
        connect(address, &other.certificate).await.expect("it is kept");
    }

    #[test]
    fn plain_http_is_for_loopback_alone_unless_that_is_wanted() {
        let open = |config: &ApiTlsConfig, address: &str| {
            let address = address.parse().expect("an address");
            Transport::open(config, address).map(drop).map_err(|error| error.to_string())
        };
        let usual = ApiTlsConfig::default();
        for address in ["127.0.0.1:1", "127.8.0.1:1", "[::1]:1", "[::ffff:127.0.0.1]:1"] {
            assert_eq!(open(&usual, address), Ok(()), "{address}");
        }
        for address in ["0.0.0.0:1", "[::]:1", "192.0.2.1:1"] {
            let refused = open(&usual, address).expect_err("others would read passwords");
            assert!(refused.contains(address) && refused.contains("--api-plain"), "{refused}");
            let wanted = ApiTlsConfig { api_plain: true, ..ApiTlsConfig::default() };
            assert_eq!(open(&wanted, address), Ok(()), "{address}");
            assert_eq!(open(&Given::new().config(), address), Ok(()), "{address}");
        }
    }

    #[test]
    fn a_certificate_that_cannot_be_used_is_refused_at_the_start_with_its_name() {
        let refusal = |config: &ApiTlsConfig| {
            let error = Transport::open(config, ([127, 0, 0, 1], 1).into()).expect_err("unusable");
            format!("{error:#}")
        };
        let (given, other) = (Given::new(), Given::new());
        let mixed = ApiTlsConfig { api_key: other.config().api_key, ..given.config() };
        assert!(refusal(&mixed).starts_with("show the certificate in "), "{}", refusal(&mixed));
        let absent = ApiTlsConfig { api_certificate: Some(given.path("absent")), ..given.config() };
        assert!(refusal(&absent).contains("absent (--api-certificate)"), "{}", refusal(&absent));
        given.replace("api.pem", "no certificate");
        assert!(refusal(&given.config()).contains("has no certificate"), "{}", refusal(&given.config()));
        given.replace("api.key", "no key");
        let other = ApiTlsConfig { api_certificate: other.config().api_certificate, ..given.config() };
        assert!(refusal(&other).contains("api.key (--api-key)"), "{}", refusal(&other));
    }
}

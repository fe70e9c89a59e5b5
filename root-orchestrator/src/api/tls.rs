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

    /// Let the REST API be plain HTTP on an address that others reach: something in front of it speaks TLS, or nobody else
    /// is on that network.
    #[arg(long, env = "MANGROVE_API_PLAIN", conflicts_with = "api_certificate")]
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

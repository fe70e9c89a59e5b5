//! Requests by HTTP to those that are no daemons: receivers of hooks and an identity provider. Over TLS they are believed if
//! an authority vouches for them, of the system or of a file. Who may be asked is judged by who asks.

use std::{io, path::Path, sync::Arc};

use anyhow::{Context, ensure};
use bytes::Bytes;
use http_body_util::Full;
use hyper::{Request, Response, body::Incoming, client::conn::http1};
use hyper_util::rt::TokioIo;
use rustls::{
    ClientConfig, RootCertStore,
    crypto::ring,
    pki_types::{CertificateDer, ServerName, pem::PemObject},
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpStream, ToSocketAddrs},
};
use tokio_rustls::TlsConnector;
use tokio_util::task::AbortOnDropHandle;

/// What TLS is spoken by.
pub(crate) struct Outward {
    pub(crate) tls: Arc<ClientConfig>,
    /// Whether anybody is believed to vouch for others. A system may trust nobody.
    pub(crate) has_authorities: bool,
}

impl Outward {
    /// Trusts the authorities in `ca_file` alone, else those of the system.
    ///
    /// # Errors
    /// When the file cannot be read, holds none, or one that is damaged.
    pub(crate) fn trusting(ca_file: Option<&Path>) -> anyhow::Result<Self> {
        // Those of a system are many, and some of them odd.
        let roots = authorities(ca_file, || rustls_native_certs::load_native_certs().certs)?;
        let has_authorities = !roots.is_empty();
        let tls = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .context("set up TLS")?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Self { tls: Arc::new(tls), has_authorities })
    }
}

/// Where a request goes.
#[derive(Debug)]
pub(crate) struct Target<A> {
    pub(crate) address: A,
    /// As whom it must be vouched for; without a name it is not encrypted.
    pub(crate) name: Option<ServerName<'static>>,
}

/// A request that came to nothing.
#[derive(Debug)]
pub(crate) enum ExchangeError {
    Connect(io::Error),
    Tls(io::Error),
    Http(hyper::Error),
}

/// What came back.
#[derive(Debug)]
pub(crate) struct Answered {
    pub(crate) response: Response<Incoming>,
    /// To be kept while the body is read. Its own errors are those of the request.
    pub(crate) connection: AbortOnDropHandle<hyper::Result<()>>,
}

/// Sends a request over a connection of its own. Redirects are not followed, and it takes as long as it takes.
pub(crate) async fn exchange(
    tls: &Arc<ClientConfig>,
    to: Target<impl ToSocketAddrs>,
    request: Request<Full<Bytes>>,
) -> Result<Answered, ExchangeError> {
    let stream = TcpStream::connect(to.address).await.map_err(ExchangeError::Connect)?;
    let Some(name) = to.name else {
        return exchange_over(stream, request).await.map_err(ExchangeError::Http);
    };
    let connector = TlsConnector::from(Arc::clone(tls));
    let stream = connector.connect(name, stream).await.map_err(ExchangeError::Tls)?;
    exchange_over(stream, request).await.map_err(ExchangeError::Http)
}

async fn exchange_over(
    stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    request: Request<Full<Bytes>>,
) -> hyper::Result<Answered> {
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let connection = AbortOnDropHandle::new(tokio::spawn(connection));
    Ok(Answered { response: sender.send_request(request).await?, connection })
}

fn authorities(
    ca_file: Option<&Path>,
    of_system: impl FnOnce() -> Vec<CertificateDer<'static>>,
) -> anyhow::Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    match ca_file {
        Some(path) => {
            let shown = path.display();
            let read = || format!("read the certificates of authorities in {shown}");
            for certificate in CertificateDer::pem_file_iter(path).with_context(read)? {
                roots.add(certificate.with_context(read)?).with_context(read)?;
            }
            ensure!(!roots.is_empty(), "{shown} has no certificate of an authority in it: expected PEM");
        }
        None => {
            roots.add_parsable_certificates(of_system());
        }
    }
    Ok(roots)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn authority() -> rcgen::Certificate {
        rcgen::generate_simple_self_signed(["id.example".to_owned()]).expect("made").cert
    }

    #[test]
    fn a_file_takes_the_place_of_the_authorities_of_the_system() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("authorities.pem");
        let (own, other) = (authority(), authority());
        let of_system =
            || vec![other.der().clone(), CertificateDer::from(b"odd".to_vec()), authority().der().clone()];
        std::fs::write(&path, own.pem()).expect("writable");
        assert_eq!(authorities(Some(&path), of_system).expect("usable").len(), 1);
        assert_eq!(authorities(None, of_system).expect("usable").len(), 2, "what is odd is left out");

        for (content, why) in [
            (String::new(), "no certificate of an authority in it"),
            (own.pem().replace("MII", "odd"), "read the certificates of authorities in"),
        ] {
            std::fs::write(&path, content).expect("writable");
            let error = authorities(Some(&path), of_system).expect_err(why).to_string();
            assert!(error.contains(why) && error.contains("authorities.pem"), "{error}");
        }
        std::fs::remove_file(&path).expect("it was there");
        assert!(authorities(Some(&path), of_system).is_err());
    }
}

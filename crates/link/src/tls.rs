//! TLS 1.3 between daemons: certificates are checked against the root's CA and by the subject they name, never by a
//! host name, because children reach parents under whatever address works. Which authority may vouch for whom is decided
//! in `lineage.rs`.

use std::sync::Arc;

use rustls::{
    ClientConfig, DigitallySignedStruct, DistinguishedName, Error, RootCertStore, ServerConfig,
    SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, WebPkiSupportedAlgorithms, ring, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime},
    server::danger::ClientCertVerifier,
};
use x509_parser::{extensions::GeneralName, prelude::FromDer};

use crate::{
    Identity, Revocations, Subject,
    authority::pin_of,
    clock::Clock,
    lineage::{ChildVerifier, verify_parent},
    record::lifetime_of,
};

/// HTTP/2, the only protocol spoken over these connections.
const ALPN: &[u8] = b"h2";

/// The single URI name of a certificate; `None` when it has none or several.
pub(crate) fn subject_of(certificate: &CertificateDer<'_>) -> Option<String> {
    let (_, certificate) = x509_parser::certificate::X509Certificate::from_der(certificate).ok()?;
    let names = certificate.subject_alternative_name().ok()??;
    match names.value.general_names[..] {
        [GeneralName::URI(uri)] => Some(uri.to_owned()),
        _ => None,
    }
}

/// Whom a certificate names, if it names somebody of Mangrove.
pub(crate) fn named_by(certificate: &CertificateDer<'_>) -> Option<Subject> {
    subject_of(certificate)?.parse().ok()
}

pub(crate) fn to_pem(certificate: &CertificateDer<'_>) -> String {
    let body = data_encoding::BASE64.encode(certificate);
    let lines: Vec<&str> =
        body.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).expect("base64 is ASCII")).collect();
    format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", lines.join("\n"))
}

/// Only suites with SHA-256, which processors have instructions for: hashing with SHA-384 was a fourteenth of the time of
/// a handshake.
fn provider() -> Arc<CryptoProvider> {
    use ring::cipher_suite::{TLS13_AES_128_GCM_SHA256, TLS13_CHACHA20_POLY1305_SHA256};
    let cipher_suites = vec![TLS13_AES_128_GCM_SHA256, TLS13_CHACHA20_POLY1305_SHA256];
    Arc::new(CryptoProvider { cipher_suites, ..ring::default_provider() })
}

fn roots(authority: &CertificateDer<'static>) -> Result<RootCertStore, Error> {
    let mut roots = RootCertStore::empty();
    roots.add(authority.clone())?;
    Ok(roots)
}

/// For a parent's port: shows `identity`, asks for a certificate of a child that is not revoked, and serves those without
/// one too (they may enrol, nothing else).
pub(crate) fn server_config(identity: &Identity, revocations: &Revocations) -> Result<ServerConfig, Error> {
    let verifier: Arc<dyn ClientCertVerifier> = Arc::new(ChildVerifier::new(
        identity.subject(),
        revocations.clone(),
        roots(identity.authority())?,
        provider(),
    )?);
    let clock: Arc<Clock> = Arc::clone(identity.clock());
    let mut config = ServerConfig::builder_with_details(provider(), clock)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_client_cert_verifier(verifier)
        .with_single_cert(identity.chain().to_vec(), identity.key())?;
    config.alpn_protocols = vec![ALPN.to_vec()];
    // Resumed sessions would skip the check of the certificate; links live long, so they would save little.
    config.send_tls13_tickets = 0;
    Ok(config)
}

/// For a child that has an identity: shows it and accepts only the parent it names.
pub(crate) fn client_config(identity: &Identity, parent: Subject) -> Result<ClientConfig, Error> {
    let clock = Arc::clone(identity.clock());
    let trust = Trust::Authority(roots(identity.authority())?);
    let verifier = ParentVerifier::new(trust, Expected::Exactly(parent), Arc::clone(&clock));
    let mut config = ClientConfig::builder_with_details(provider(), clock)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_client_auth_cert(identity.own_chain().to_vec(), identity.key())?;
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.resumption = rustls::client::Resumption::disabled();
    Ok(config)
}

/// For a child that has only a token: accepts a parent whose authority has the token's pin.
pub(crate) fn joining_config(ca_pin: [u8; 32]) -> Result<ClientConfig, Error> {
    let clock = Arc::<Clock>::default();
    let verifier = ParentVerifier::new(Trust::Pin(ca_pin), Expected::AnyParent, Arc::clone(&clock));
    let mut config = ClientConfig::builder_with_details(provider(), clock)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.resumption = rustls::client::Resumption::disabled();
    Ok(config)
}

#[derive(Debug)]
enum Trust {
    Authority(RootCertStore),
    Pin([u8; 32]),
}

#[derive(Debug)]
enum Expected {
    Exactly(Subject),
    AnyParent,
}

impl Expected {
    fn accepts(&self, subject: Subject) -> bool {
        match (self, subject) {
            (Self::Exactly(expected), found) => *expected == found,
            (Self::AnyParent, Subject::Root { .. } | Subject::Cluster { .. }) => true,
            // A worker's certificate must not let it pose as a parent.
            (Self::AnyParent, Subject::Worker { .. } | Subject::Network { .. }) => false,
        }
    }
}

#[derive(Debug)]
struct ParentVerifier {
    trust: Trust,
    expected: Expected,
    /// Told of what a good certificate vouches for.
    clock: Arc<Clock>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl ParentVerifier {
    fn new(trust: Trust, expected: Expected, clock: Arc<Clock>) -> Self {
        Self {
            trust,
            expected,
            clock,
            algorithms: ring::default_provider().signature_verification_algorithms,
        }
    }
}

impl ServerCertVerifier for ParentVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let pinned;
        let trusted = match &self.trust {
            Trust::Authority(roots) => roots,
            Trust::Pin(pin) => {
                let authority =
                    intermediates.iter().find(|shown| pin_of(shown) == *pin).ok_or_else(|| {
                        Error::General(
                            "the peer's certificate authority is not the one the join token names; \
                         check the address, or create a new token"
                                .to_owned(),
                        )
                    })?;
                pinned = roots(&authority.clone().into_owned())?;
                &pinned
            }
        };
        verify_parent(end_entity, intermediates, trusted, now, self.algorithms.all)?;
        match named_by(end_entity) {
            Some(subject) if self.expected.accepts(subject) => {
                if let Some(lifetime) = lifetime_of(end_entity) {
                    self.clock.vouched(lifetime.issued);
                }
                Ok(ServerCertVerified::assertion())
            }
            Some(subject) => {
                Err(Error::General(format!("the peer is {subject}, which was not expected here")))
            }
            None => Err(Error::General("the peer's certificate names nobody of Mangrove".to_owned())),
        }
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::General("TLS 1.2 is not spoken".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }

    fn root_hint_subjects(&self) -> Option<&[DistinguishedName]> {
        None
    }
}

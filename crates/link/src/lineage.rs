//! Who may vouch for whom. A certificate is either signed by the root's authority, or by the intermediate of a cluster,
//! which that authority signed; the latter holds only for the workers of that very cluster and their NetManagers.
//!
//! The handshake's own check would accept any path through any certificate that was shown. Here the path is fixed: the
//! certificate directly under the root's authority, or through exactly the certificate shown after it.

use std::sync::Arc;

use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, RootCertStore, SignatureScheme,
    client::{danger::HandshakeSignatureValid, verify_server_cert_signed_by_trust_anchor},
    crypto::CryptoProvider,
    pki_types::{CertificateDer, SignatureVerificationAlgorithm, UnixTime},
    server::{
        ParsedCertificate, WebPkiClientVerifier,
        danger::{ClientCertVerified, ClientCertVerifier},
    },
};

use crate::{Subject, tls::subject_of};

/// Whether an intermediate of `signer` is good for `subject`.
pub(crate) fn may_vouch(signer: Subject, subject: Subject) -> bool {
    let Subject::Cluster { root, cluster } = signer else { return false };
    match subject {
        Subject::Worker { root: of_root, cluster: of_cluster, .. }
        | Subject::Network { root: of_root, cluster: of_cluster, .. } => {
            (of_root, of_cluster) == (root, cluster)
        }
        Subject::Root { .. } | Subject::Cluster { .. } => false,
    }
}

/// Checks a certificate directly under the root's authority or, failing that, through the one shown after it. `verify`
/// checks a path with exactly the intermediates it is given.
fn verify_lineage<T>(
    end_entity: &CertificateDer<'_>,
    shown: &[CertificateDer<'_>],
    mut verify: impl FnMut(&[CertificateDer<'_>]) -> Result<T, Error>,
) -> Result<T, Error> {
    let direct = match verify(&[]) {
        Ok(verified) => return Ok(verified),
        Err(error) => error,
    };
    // Only where the signer is not known can another certificate help.
    if !matches!(direct, Error::InvalidCertificate(CertificateError::UnknownIssuer)) {
        return Err(direct);
    }
    let Some(intermediate) = shown.first() else { return Err(direct) };
    let verified = verify(std::slice::from_ref(intermediate))?;
    let parsed = |certificate| subject_of(certificate).and_then(|uri| uri.parse::<Subject>().ok());
    match (parsed(intermediate), parsed(end_entity)) {
        (Some(signer), Some(subject)) if may_vouch(signer, subject) => Ok(verified),
        (Some(signer), Some(subject)) => {
            Err(Error::General(format!("the authority of {signer} may not vouch for {subject}")))
        }
        (None, _) | (_, None) => {
            Err(Error::General("a certificate of the chain names nobody of Mangrove".to_owned()))
        }
    }
}

/// Checks the certificate of a parent against `trusted`.
pub(crate) fn verify_parent(
    end_entity: &CertificateDer<'_>,
    shown: &[CertificateDer<'_>],
    trusted: &RootCertStore,
    now: UnixTime,
    algorithms: &[&dyn SignatureVerificationAlgorithm],
) -> Result<(), Error> {
    let parsed = ParsedCertificate::try_from(end_entity)?;
    verify_lineage(end_entity, shown, |intermediates| {
        verify_server_cert_signed_by_trust_anchor(&parsed, trusted, intermediates, now, algorithms)
    })
}

/// Checks the certificates of children. Those without one are let in too: they may enrol, nothing else.
#[derive(Debug)]
pub(crate) struct ChildVerifier {
    paths: Arc<dyn ClientCertVerifier>,
}

impl ChildVerifier {
    pub(crate) fn new(trusted: RootCertStore, provider: Arc<CryptoProvider>) -> Result<Self, Error> {
        let paths = WebPkiClientVerifier::builder_with_provider(Arc::new(trusted), provider)
            .allow_unauthenticated()
            .build()
            .map_err(|error| Error::General(error.to_string()))?;
        Ok(Self { paths })
    }
}

impl ClientCertVerifier for ChildVerifier {
    fn offer_client_auth(&self) -> bool {
        self.paths.offer_client_auth()
    }

    fn client_auth_mandatory(&self) -> bool {
        self.paths.client_auth_mandatory()
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.paths.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        verify_lineage(end_entity, intermediates, |path| self.paths.verify_client_cert(end_entity, path, now))
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
        self.paths.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.paths.supported_verify_schemes()
    }
}

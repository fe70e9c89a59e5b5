//! Who may vouch for whom. A certificate is either signed by the root's authority, or by the intermediate of a cluster,
//! which that authority signed; the latter holds only for the workers of that very cluster and their NetManagers.
//!
//! The handshake's own check would accept any path through any certificate that was shown. Here the path is fixed: the
//! certificate directly under the root's authority, or through exactly the certificate shown after it.
//!
//! A certificate is never too new: it proves that it is no earlier than when it was issued, so a clock that is behind is not
//! believed against it. One that has ended still proves who asks for another, and nothing else.

use std::{sync::Arc, time::Duration};

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

use crate::{
    Revocations, Subject,
    clock::unix_time,
    record::lifetime_of,
    tls::{named_by, subject_of},
};

/// Whether an intermediate of `signer` is good for `subject`.
pub(crate) fn may_vouch(signer: Subject, subject: Subject) -> bool {
    matches!(signer, Subject::Cluster { .. }) && signer.is_parent_of(subject)
}

/// Checks a certificate directly under the root's authority or, failing that, through the one shown after it. `verify`
/// checks a path with exactly the intermediates it is given.
fn verify_lineage<T>(
    end_entity: &CertificateDer<'_>,
    shown: &[CertificateDer<'_>],
    now: UnixTime,
    verify: impl Fn(&[CertificateDer<'_>], UnixTime) -> Result<T, Error>,
) -> Result<T, Error> {
    let issued = [Some(end_entity), shown.first()].into_iter().flatten().filter_map(lifetime_of);
    let latest = issued.map(|lifetime| unix_time(lifetime.issued).as_secs()).max().unwrap_or_default();
    let now = UnixTime::since_unix_epoch(Duration::from_secs(now.as_secs().max(latest)));
    let direct = match verify(&[], now) {
        Ok(verified) => return Ok(verified),
        Err(error) => error,
    };
    // Only where the signer is not known can another certificate help.
    if !matches!(direct, Error::InvalidCertificate(CertificateError::UnknownIssuer)) {
        return Err(direct);
    }
    let Some(intermediate) = shown.first() else { return Err(direct) };
    let verified = verify(std::slice::from_ref(intermediate), now)?;
    match (named_by(intermediate), named_by(end_entity)) {
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
    verify_lineage(end_entity, shown, now, |intermediates, now| {
        verify_server_cert_signed_by_trust_anchor(&parsed, trusted, intermediates, now, algorithms)
    })
}

/// Checks the certificates of the children of `parent`. Those without one are let in too: they may enrol, nothing else.
/// So are those whose certificate has ended: they may renew it.
#[derive(Debug)]
pub(crate) struct ChildVerifier {
    parent: Subject,
    revocations: Revocations,
    paths: Arc<dyn ClientCertVerifier>,
}

impl ChildVerifier {
    pub(crate) fn new(
        parent: Subject,
        revocations: Revocations,
        trusted: RootCertStore,
        provider: Arc<CryptoProvider>,
    ) -> Result<Self, Error> {
        let paths = WebPkiClientVerifier::builder_with_provider(Arc::new(trusted), provider)
            .allow_unauthenticated()
            .build()
            .map_err(|error| Error::General(error.to_string()))?;
        Ok(Self { parent, revocations, paths })
    }

    /// Whether somebody with a good certificate belongs here.
    fn admit(&self, end_entity: &CertificateDer<'_>) -> Result<(), Error> {
        let nobody = || Error::General("its certificate names nobody of Mangrove".to_owned());
        let subject = subject_of(end_entity).ok_or_else(nobody)?;
        let subject: Subject = subject.parse().map_err(|_| nobody())?;
        if !self.parent.is_parent_of(subject) {
            return Err(Error::General(format!("it is {subject}, which is no child of {}", self.parent)));
        }
        if self.revocations.covers(subject) {
            return Err(CertificateError::Revoked.into());
        }
        Ok(())
    }
}

const fn has_ended(error: &Error) -> bool {
    matches!(
        error,
        Error::InvalidCertificate(CertificateError::Expired | CertificateError::ExpiredContext { .. })
    )
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
        let verify = |now| {
            verify_lineage(end_entity, intermediates, now, |path, now| {
                self.paths.verify_client_cert(end_entity, path, now)
            })
        };
        let verified = match (verify(now), lifetime_of(end_entity)) {
            // Was it good as long as it lasted? Who shows it is told apart by `server.rs`.
            (Err(error), Some(lifetime)) if has_ended(&error) => verify(unix_time(lifetime.expires))?,
            (verified, _) => verified?,
        };
        self.admit(end_entity)?;
        Ok(verified)
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

//! The authority a cluster is lent by the root (`authority.rs`), so that it can enrol workers while the root is away.
//! What it may sign is checked by whoever meets the certificate, in `lineage.rs`.

use daemon::StateDirectory;
use model::{ClusterId, Lifetime, Span, Timestamp};
use rcgen::{Issuer, KeyPair as SigningKey, PublicKeyData};
use rustls::pki_types::{CertificateDer, pem::PemObject};
use uuid::Uuid;
use x509_parser::{certificate::X509Certificate, prelude::FromDer};

use crate::{
    AuthorityError, Identity, IdentityError, KeyPair, Subject, authority, lineage, record::lifetime_of, tls,
};

const KEY_FILE: &str = "intermediate.key";
const CERTIFICATE_FILE: &str = "intermediate.pem";

/// Signs for the workers of one cluster and their NetManagers. Its key is made by the cluster and never leaves it.
#[derive(Debug)]
pub struct Intermediate {
    issuer: Issuer<'static, SigningKey>,
    certificate_pem: String,
    root: Uuid,
    cluster: ClusterId,
    lifetime: Lifetime,
}

impl Intermediate {
    /// What to have signed by [`Authority::certify_intermediate`](crate::Authority::certify_intermediate): a request
    /// (PEM) for the key of the state directory, made and kept if there is none. For renewal the key stays the same.
    ///
    /// # Errors
    /// When the key file cannot be used.
    pub fn request(state: &StateDirectory) -> Result<String, IdentityError> {
        KeyPair::load_or_generate_as(KEY_FILE, state)?.certificate_request()
    }

    /// Keeps a signed certificate durably beside its key. `owner` is the cluster's identity.
    ///
    /// # Errors
    /// When it is not an intermediate for this key and this cluster, or the file system refuses. The one before is kept.
    pub fn install(
        state: &StateDirectory,
        owner: &Identity,
        certificate_pem: &str,
    ) -> Result<Self, IdentityError> {
        let intermediate = Self::from_pem(state, certificate_pem)?;
        if intermediate.subject() != owner.subject() {
            return Err(invalid(format!(
                "it is for {}, this is {}",
                intermediate.subject(),
                owner.subject()
            )));
        }
        state
            .replace_file(CERTIFICATE_FILE, certificate_pem.as_bytes())
            .map_err(|source| IdentityError::File { file: CERTIFICATE_FILE, source })?;
        Ok(intermediate)
    }

    /// What the state directory holds; `None` when there is none yet, or only that of a cluster this was before.
    ///
    /// # Errors
    /// When files are there and cannot be used.
    pub fn load(state: &StateDirectory, owner: &Identity) -> Result<Option<Self>, IdentityError> {
        let file = |source| IdentityError::File { file: CERTIFICATE_FILE, source };
        let Some(pem) = state.read_file(CERTIFICATE_FILE).map_err(file)? else { return Ok(None) };
        let pem = String::from_utf8(pem).map_err(invalid)?;
        let intermediate = Self::from_pem(state, &pem)?;
        Ok((intermediate.subject() == owner.subject()).then_some(intermediate))
    }

    fn from_pem(state: &StateDirectory, certificate_pem: &str) -> Result<Self, IdentityError> {
        let key = KeyPair::load_or_generate_as(KEY_FILE, state)?.0;
        let der = CertificateDer::from_pem_slice(certificate_pem.as_bytes()).map_err(invalid)?;
        let (_, parsed) = X509Certificate::from_der(&der).map_err(invalid)?;
        if parsed.public_key().raw != key.subject_public_key_info() {
            return Err(invalid("it is for another key"));
        }
        if !parsed.is_ca() {
            return Err(invalid("it may not sign"));
        }
        let lifetime = lifetime_of(&der).ok_or_else(|| invalid("it has no lifetime"))?;
        let subject = tls::subject_of(&der).ok_or_else(|| invalid("it has no single URI name"))?.parse()?;
        let Subject::Cluster { root, cluster } = subject else {
            return Err(invalid(format!("it is for {subject}, which is no cluster")));
        };
        let issuer = Issuer::from_ca_cert_der(&der, key).map_err(invalid)?;
        let certificate_pem = tls::to_pem(&der);
        Ok(Self { issuer, certificate_pem, root, cluster, lifetime })
    }

    /// A chain (PEM) for the key of a request: the certificate, then this authority's. It lasts for `life` and ends no
    /// later than this authority. Whatever the request asks for beyond its key is ignored.
    ///
    /// # Errors
    /// When `subject` is not a worker of this cluster or its NetManager, when this authority has expired, or when the
    /// request is not one or its signature does not hold.
    pub fn certify(
        &self,
        request_pem: &str,
        subject: Subject,
        life: Span,
        now: Timestamp,
    ) -> Result<String, AuthorityError> {
        if !lineage::may_vouch(self.subject(), subject) {
            return Err(AuthorityError::NotEntitled { subject, signer: "the authority of a cluster" });
        }
        if self.lifetime.has_ended(now) {
            return Err(AuthorityError::Damaged {
                what: "intermediate certificate",
                problem: "it has expired; it is renewed when the root is connected".to_owned(),
            });
        }
        let end = now.plus_millis(life.as_millis()).min(self.lifetime.expires);
        let leaf = authority::sign(request_pem, authority::leaf(subject, now, end)?, &self.issuer)?;
        Ok(format!("{}\n{}", leaf.trim_end(), self.certificate_pem))
    }

    /// The cluster it belongs to.
    #[must_use]
    pub const fn subject(&self) -> Subject {
        Subject::Cluster { root: self.root, cluster: self.cluster }
    }

    /// From when to when it is good; all it has signed ends with it.
    #[must_use]
    pub const fn lifetime(&self) -> Lifetime {
        self.lifetime
    }

    /// What it signs with, as PEM.
    #[must_use]
    pub fn certificate_pem(&self) -> &str {
        &self.certificate_pem
    }
}

fn invalid(problem: impl ToString) -> IdentityError {
    IdentityError::Invalid { what: "the intermediate certificate", problem: problem.to_string() }
}

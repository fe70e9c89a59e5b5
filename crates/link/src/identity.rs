//! A daemon's key and certificate, and where they are kept.

use std::{io, sync::Arc};

use daemon::StateDirectory;
use model::{CertificateRecord, Lifetime, Timestamp};
use rcgen::PKCS_ECDSA_P256_SHA256;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, pem::PemObject};
use zeroize::Zeroizing;

use crate::{
    Subject, SubjectError,
    clock::Clock,
    record::{key_of, record_in},
    tls,
};

const KEY_FILE: &str = "identity.key";
const CERTIFICATE_FILE: &str = "identity.pem";
const CA_FILE: &str = "ca.pem";

/// Keys or certificates that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// A file of the state directory.
    #[error("identity file {file} cannot be read or written")]
    File {
        /// Which one.
        file: &'static str,
        /// Why.
        source: io::Error,
    },
    /// Not what it should be.
    #[error("{what} is not usable: {problem}; remove the identity files and join again")]
    Invalid {
        /// Key, certificate, …
        what: &'static str,
        /// Why.
        problem: String,
    },
    /// A certificate for somebody else.
    #[error("the certificate has no subject of ours")]
    Subject(#[from] SubjectError),
}

pub(crate) fn invalid(what: &'static str, problem: impl ToString) -> IdentityError {
    IdentityError::Invalid { what, problem: problem.to_string() }
}

/// A private key and nothing else yet. It never leaves the device.
#[derive(Debug)]
pub struct KeyPair(pub(crate) rcgen::KeyPair);

impl KeyPair {
    /// The key of the state directory, made (ECDSA P-256) and kept if there is none, so that joining again after a
    /// lost answer asks with the same key.
    ///
    /// # Errors
    /// When the file cannot be used.
    pub fn load_or_generate(state: &StateDirectory) -> Result<Self, IdentityError> {
        Self::load_or_generate_as(KEY_FILE, state)
    }

    pub(crate) fn load_or_generate_as(
        name: &'static str,
        state: &StateDirectory,
    ) -> Result<Self, IdentityError> {
        let file = |source| IdentityError::File { file: name, source };
        if let Some(pem) = state.read_file(name).map_err(file)? {
            let pem = Zeroizing::new(String::from_utf8(pem).map_err(|error| invalid("the key", error))?);
            return rcgen::KeyPair::from_pem(&pem).map(Self).map_err(|error| invalid("the key", error));
        }
        let key = rcgen::KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)
            .map_err(|error| invalid("a new key", error))?;
        let pem = Zeroizing::new(key.serialize_pem());
        state.replace_file(name, pem.as_bytes()).map_err(file)?;
        Ok(Self(key))
    }

    /// A certificate request (PEM) for this key. It names nobody: the authority says who the holder is.
    ///
    /// # Errors
    /// When signing fails.
    pub fn certificate_request(&self) -> Result<String, IdentityError> {
        rcgen::CertificateParams::default()
            .serialize_request(&self.0)
            .and_then(|request| request.pem())
            .map_err(|error| invalid("a certificate request", error))
    }
}

/// A key with its certificate, the intermediate authority that signed it if one did, and the root's authority.
#[derive(Debug, Clone)]
pub struct Identity {
    subject: Subject,
    chain: Vec<CertificateDer<'static>>,
    authority: CertificateDer<'static>,
    key: Arc<PrivateKeyDer<'static>>,
    record: CertificateRecord,
    clock: Arc<Clock>,
}

impl Identity {
    /// Puts the parts together. `certificate_pem` may be a chain: the certificate first, then the intermediate that
    /// signed it, as [`Intermediate::certify`](crate::Intermediate::certify) returns them.
    ///
    /// # Errors
    /// When a part is not what it should be.
    pub fn new(key: &KeyPair, certificate_pem: &str, ca_pem: &str) -> Result<Self, IdentityError> {
        let mut chain = CertificateDer::pem_slice_iter(certificate_pem.as_bytes())
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| invalid("the certificate", error))?;
        let certificate = chain.first().ok_or_else(|| invalid("the certificate", "it is missing"))?;
        let authority = CertificateDer::from_pem_slice(ca_pem.as_bytes())
            .map_err(|error| invalid("the CA certificate", error))?;
        let record =
            record_in(certificate).ok_or_else(|| invalid("the certificate", "it is no certificate"))?;
        let subject = tls::subject_of(certificate)
            .ok_or_else(|| invalid("the certificate", "it has no single URI name"))?
            .parse()?;
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.0.serialize_der()));
        // The authority is shown last so that a joining child can check it against its pin.
        chain.retain(|shown| *shown != authority);
        chain.push(authority.clone());
        let clock = Clock::default();
        clock.vouched(record.lifetime.issued);
        Ok(Self { subject, chain, authority, key: Arc::new(key), record, clock: Arc::new(clock) })
    }

    /// Keeps the certificates beside the key of the same state directory.
    ///
    /// # Errors
    /// When the file system refuses.
    pub fn save(state: &StateDirectory, certificate_pem: &str, ca_pem: &str) -> Result<(), IdentityError> {
        let write = |name, content: &str| {
            state
                .replace_file(name, content.as_bytes())
                .map_err(|source| IdentityError::File { file: name, source })
        };
        write(CA_FILE, ca_pem)?;
        write(CERTIFICATE_FILE, certificate_pem)
    }

    /// What the state directory holds; `None` when this daemon has not joined yet.
    ///
    /// # Errors
    /// When files are there and cannot be used.
    pub fn load(state: &StateDirectory) -> Result<Option<Self>, IdentityError> {
        let read = |name| {
            let content =
                state.read_file(name).map_err(|source| IdentityError::File { file: name, source })?;
            content.map(String::from_utf8).transpose().map_err(|error| invalid(name, error))
        };
        let (Some(certificate), Some(ca)) = (read(CERTIFICATE_FILE)?, read(CA_FILE)?) else {
            return Ok(None);
        };
        let key = KeyPair::load_or_generate(state)?;
        let clock = Clock::open(state).map_err(|source| IdentityError::File { file: "clock", source })?;
        let identity = Self::new(&key, &certificate, &ca)?;
        clock.vouched(identity.lifetime().issued);
        Ok(Some(Self { clock: Arc::new(clock), ..identity }))
    }

    /// The same with another certificate, which may be a chain, for the same key.
    ///
    /// # Errors
    /// When the certificate is not one, or is for somebody else or another key.
    pub fn renewed(&self, key: &KeyPair, certificate_pem: &str) -> Result<Self, IdentityError> {
        let renewed = Self::new(key, certificate_pem, &self.authority_pem())?;
        if renewed.subject != self.subject {
            let problem = format!("it is for {}, this is {}", renewed.subject, self.subject);
            return Err(invalid("the new certificate", problem));
        }
        let same_key = renewed.chain.first().map(key_of) == self.chain.first().map(key_of);
        if !same_key {
            return Err(invalid("the new certificate", "it is for another key"));
        }
        self.clock.vouched(renewed.lifetime().issued);
        Ok(Self { clock: Arc::clone(&self.clock), ..renewed })
    }

    /// From when to when its certificate is good.
    #[must_use]
    pub const fn lifetime(&self) -> Lifetime {
        self.record.lifetime
    }

    /// The same with the serial number.
    #[must_use]
    pub const fn record(&self) -> &CertificateRecord {
        &self.record
    }

    /// What time it is where certificates are judged and issued: never before that of the build, nor before the issue of a
    /// certificate that was found to be good, whatever the clock of the device shows.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    pub(crate) const fn clock(&self) -> &Arc<Clock> {
        &self.clock
    }

    /// Who this is.
    #[must_use]
    pub const fn subject(&self) -> Subject {
        self.subject
    }

    /// The CA certificate as PEM, to hand to somebody who should trust the same root.
    #[must_use]
    pub fn authority_pem(&self) -> String {
        tls::to_pem(&self.authority)
    }

    /// The certificate, the intermediate if there is one, the root's authority.
    pub(crate) fn chain(&self) -> &[CertificateDer<'static>] {
        &self.chain
    }

    /// The chain without the authority, which a parent has.
    pub(crate) fn own_chain(&self) -> &[CertificateDer<'static>] {
        &self.chain[..self.chain.len() - 1]
    }

    pub(crate) const fn authority(&self) -> &CertificateDer<'static> {
        &self.authority
    }

    pub(crate) fn key(&self) -> PrivateKeyDer<'static> {
        self.key.clone_key()
    }
}

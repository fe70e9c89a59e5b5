//! The root's certificate authority. What a cluster signs with while the root is away is in `intermediate.rs`.

use daemon::StateDirectory;
use data_encoding::HEXLOWER;
use model::{CertificateRecord, Span, Timestamp};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair as SigningKey, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256,
    PublicKeyData, SanType, SerialNumber,
};
use ring::digest;
use rustls::pki_types::{CertificateDer, pem::PemObject};
use uuid::Uuid;
use x509_parser::time::ASN1Time;
use zeroize::Zeroizing;

use crate::{Subject, record::record_in};

const KEY_FILE: &str = "authority.key";
const CERTIFICATE_FILE: &str = "authority.pem";
/// The authority outlives every device it signs for; replacing it is a planned act.
const AUTHORITY_DAYS: u64 = 3650;
/// A cluster that is away from its root longer than a third of this stops being one: four months.
const LIFE_DAYS: u32 = 365;
const DAY_SECONDS: u32 = 86_400;
/// Dates in certificates are whole seconds.
const SHORTEST_LIFE: Span = Span::from_secs(2);

/// An authority that cannot be used, or a request it does not sign.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    /// A file of the state directory.
    #[error("authority file {file} cannot be read or written")]
    File {
        /// Which one.
        file: &'static str,
        /// Why.
        source: std::io::Error,
    },
    /// Key or certificate are damaged.
    #[error("the authority's {what} is damaged: {problem}; restore it from a backup")]
    Damaged {
        /// Which part.
        what: &'static str,
        /// Why.
        problem: String,
    },
    /// Not a certificate request, or not signed by its own key.
    #[error("the certificate request is not valid: {0}")]
    Request(String),
    /// Nobody this authority may sign for.
    #[error("{signer} does not sign for {subject}")]
    NotEntitled {
        /// For whom.
        subject: Subject,
        /// Which kind of authority.
        signer: &'static str,
    },
    /// Signing failed.
    #[error("signing failed: {0}")]
    Signing(String),
}

/// Signs certificates. Its key lives in the root's state directory only.
#[derive(Debug)]
pub struct Authority {
    issuer: Issuer<'static, SigningKey>,
    certificate_pem: String,
    pin: [u8; 32],
    record: CertificateRecord,
    life: Span,
}

/// How long certificates are to last, as a person sets it.
///
/// # Errors
/// When it is no span of time, or shorter than dates in certificates are precise.
pub fn certificate_life(text: &str) -> Result<Span, String> {
    let life: Span = text.parse().map_err(|error: model::SpanError| error.to_string())?;
    if life >= SHORTEST_LIFE {
        return Ok(life);
    }
    Err(format!("certificates must last {SHORTEST_LIFE} at least, not {life}"))
}

impl Authority {
    /// Loads the authority, making it at the first start.
    ///
    /// # Errors
    /// When its files cannot be used. A damaged authority is never replaced silently.
    pub fn load_or_create(
        state: &StateDirectory,
        root: Uuid,
        now: Timestamp,
    ) -> Result<Self, AuthorityError> {
        let read = |name: &'static str| {
            state
                .read_file(name)
                .map_err(|source| AuthorityError::File { file: name, source })?
                .map(String::from_utf8)
                .transpose()
                .map_err(|error| AuthorityError::Damaged { what: name, problem: error.to_string() })
        };
        match (read(KEY_FILE)?.map(Zeroizing::new), read(CERTIFICATE_FILE)?) {
            (Some(key), Some(certificate)) => Self::from_pem(&key, certificate),
            (None, Some(_)) => Err(AuthorityError::Damaged { what: "key", problem: "it is missing".into() }),
            // A key without a certificate is a first start that was interrupted: nothing was signed with it.
            (None | Some(_), None) => Self::create(state, root, now),
        }
    }

    fn create(state: &StateDirectory, root: Uuid, now: Timestamp) -> Result<Self, AuthorityError> {
        let signing = |error: rcgen::Error| AuthorityError::Signing(error.to_string());
        let key = SigningKey::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(signing)?;
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.distinguished_name = name(&format!("Mangrove root {root}"));
        validity(&mut params, now, now.plus_millis(AUTHORITY_DAYS * 86_400_000))?;
        let certificate_pem = params.self_signed(&key).map_err(signing)?.pem();
        let key_pem = Zeroizing::new(key.serialize_pem());
        let write = |name, content: &str| {
            state
                .replace_file(name, content.as_bytes())
                .map_err(|source| AuthorityError::File { file: name, source })
        };
        write(KEY_FILE, &key_pem)?;
        write(CERTIFICATE_FILE, &certificate_pem)?;
        Self::from_pem(&key_pem, certificate_pem)
    }

    fn from_pem(key_pem: &str, certificate_pem: String) -> Result<Self, AuthorityError> {
        let damaged = |what, problem: String| AuthorityError::Damaged { what, problem };
        let key = SigningKey::from_pem(key_pem).map_err(|error| damaged("key", error.to_string()))?;
        let der = CertificateDer::from_pem_slice(certificate_pem.as_bytes())
            .map_err(|error| damaged("certificate", error.to_string()))?;
        let pin = pin_of(&der);
        let record =
            record_in(&der).ok_or_else(|| damaged("certificate", "it is no certificate".to_owned()))?;
        let issuer =
            Issuer::from_ca_cert_der(&der, key).map_err(|error| damaged("certificate", error.to_string()))?;
        Ok(Self { issuer, certificate_pem, pin, record, life: Span::from_secs(LIFE_DAYS * DAY_SECONDS) })
    }

    /// Signs for so long from now on; a year unless told.
    #[must_use]
    pub fn lasting(self, life: Span) -> Self {
        Self { life, ..self }
    }

    /// Its own certificate.
    #[must_use]
    pub const fn record(&self) -> &CertificateRecord {
        &self.record
    }

    /// How long what is signed now lasts.
    #[must_use]
    pub const fn life(&self) -> Span {
        self.life
    }

    /// SHA-256 of the certificate, for join tokens.
    #[must_use]
    pub const fn pin(&self) -> [u8; 32] {
        self.pin
    }

    /// The certificate as PEM.
    #[must_use]
    pub fn certificate_pem(&self) -> &str {
        &self.certificate_pem
    }

    /// A certificate (PEM) for the key of a request. Whatever the request asks for beyond its key is ignored.
    ///
    /// # Errors
    /// When the request is not one or its signature does not hold.
    pub fn certify(
        &self,
        request_pem: &str,
        subject: Subject,
        now: Timestamp,
    ) -> Result<String, AuthorityError> {
        sign(request_pem, leaf(subject, now, self.end(now))?, &self.issuer)
    }

    /// A certificate (PEM) with which a cluster may sign for its workers and their NetManagers, and for nobody else:
    /// whoever checks certificates holds it to that. It signs no further authorities.
    ///
    /// # Errors
    /// When `subject` is not a cluster, or the request is not one or its signature does not hold.
    pub fn certify_intermediate(
        &self,
        request_pem: &str,
        subject: Subject,
        now: Timestamp,
    ) -> Result<String, AuthorityError> {
        let Subject::Cluster { cluster, .. } = subject else {
            return Err(AuthorityError::NotEntitled { subject, signer: "an intermediate authority" });
        };
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        params.distinguished_name = name(&format!("Mangrove cluster {cluster}"));
        params.subject_alt_names = vec![uri_of(subject)?];
        params.use_authority_key_identifier_extension = true;
        validity(&mut params, now, self.end(now))?;
        sign(request_pem, params, &self.issuer)
    }

    const fn end(&self, now: Timestamp) -> Timestamp {
        now.plus_millis(self.life.as_millis())
    }
}

/// What a certificate for a daemon says.
pub(crate) fn leaf(
    subject: Subject,
    now: Timestamp,
    end: Timestamp,
) -> Result<CertificateParams, AuthorityError> {
    let mut params = CertificateParams::default();
    params.distinguished_name = name("Mangrove");
    params.subject_alt_names = vec![uri_of(subject)?];
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    params.use_authority_key_identifier_extension = true;
    validity(&mut params, now, end)?;
    Ok(params)
}

/// Signs `params` for the key of the request, whose own wishes are ignored.
pub(crate) fn sign(
    request_pem: &str,
    params: CertificateParams,
    issuer: &Issuer<'_, SigningKey>,
) -> Result<String, AuthorityError> {
    let mut request = CertificateSigningRequestParams::from_pem(request_pem)
        .map_err(|error| AuthorityError::Request(error.to_string()))?;
    request.params = params;
    request.params.serial_number = Some(serial_number());
    let certificate =
        request.signed_by(issuer).map_err(|error| AuthorityError::Signing(error.to_string()))?;
    Ok(certificate.pem())
}

/// A number that no other certificate has: by it a person names one.
fn serial_number() -> SerialNumber {
    let mut bytes = daemon::fresh_uuid().into_bytes();
    // Neither a sign nor zeros to leave out: it is always as long.
    bytes[0] = (bytes[0] & 0x3f) | 0x40;
    SerialNumber::from_slice(&bytes)
}

/// What tells one key from another in a request (hexadecimal SHA-256 of the public key), so that the same key asking
/// again is recognised.
///
/// # Errors
/// When the request is not one.
pub fn key_fingerprint(request_pem: &str) -> Result<String, AuthorityError> {
    let request = CertificateSigningRequestParams::from_pem(request_pem)
        .map_err(|error| AuthorityError::Request(error.to_string()))?;
    Ok(HEXLOWER.encode(digest::digest(&digest::SHA256, request.public_key.der_bytes()).as_ref()))
}

/// The same of the key with its algorithm, as certificates have it (`record.rs`).
pub(crate) fn whole_key_of(request_pem: &str) -> Result<[u8; 32], AuthorityError> {
    let request = CertificateSigningRequestParams::from_pem(request_pem)
        .map_err(|error| AuthorityError::Request(error.to_string()))?;
    let hash = digest::digest(&digest::SHA256, &request.public_key.subject_public_key_info());
    Ok(hash.as_ref().try_into().expect("SHA-256 has 32 bytes"))
}

/// The UUID of the device whose key has this fingerprint ([`key_fingerprint`]), of the kind for own schemes (version 8):
/// whoever enrols a device finds the same id, and nobody need keep it.
///
/// # Panics
/// When the text is not a fingerprint.
#[must_use]
pub fn device_uuid(fingerprint: &str) -> Uuid {
    let digits = fingerprint.get(..32).and_then(|half| u128::from_str_radix(half, 16).ok());
    let digits = digits.expect("a fingerprint is 64 hexadecimal digits");
    uuid::Builder::from_custom_bytes(digits.to_be_bytes()).into_uuid()
}

/// SHA-256 of a certificate.
pub(crate) fn pin_of(certificate: &CertificateDer<'_>) -> [u8; 32] {
    let hash = digest::digest(&digest::SHA256, certificate);
    hash.as_ref().try_into().expect("SHA-256 has 32 bytes")
}

fn name(common_name: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, common_name);
    name
}

fn uri_of(subject: Subject) -> Result<SanType, AuthorityError> {
    let uri = subject.to_string().try_into();
    uri.map(SanType::URI).map_err(|error: rcgen::Error| AuthorityError::Signing(error.to_string()))
}

fn validity(params: &mut CertificateParams, now: Timestamp, end: Timestamp) -> Result<(), AuthorityError> {
    // By way of the date `x509-parser` makes of seconds, which is the one `rcgen` takes.
    let date = |at: Timestamp| {
        let seconds = i64::try_from(at.0 / 1000).unwrap_or(i64::MAX);
        ASN1Time::from_timestamp(seconds)
            .map_err(|error| AuthorityError::Signing(format!("the clock shows no usable date: {error}")))
    };
    // Not before that: whoever meets it with a clock that is behind is not troubled by it, see `lineage.rs`.
    params.not_before = date(now)?.to_datetime();
    params.not_after = date(end)?.to_datetime();
    Ok(())
}

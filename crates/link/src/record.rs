//! What is read from a certificate that is there: its serial number, its lifetime, its key.

use data_encoding::HEXLOWER;
use model::{CertificateRecord, Lifetime, Timestamp};
use ring::digest;
use rustls::pki_types::{CertificateDer, pem::PemObject};
use x509_parser::{certificate::X509Certificate, prelude::FromDer, time::ASN1Time};

use crate::IdentityError;

/// What its issuer keeps of a certificate (PEM; the first of a chain).
///
/// # Errors
/// When it is none.
pub fn record_of(certificate_pem: &str) -> Result<CertificateRecord, IdentityError> {
    let invalid =
        |problem: String| IdentityError::Invalid { what: "the certificate that was issued", problem };
    let der = CertificateDer::from_pem_slice(certificate_pem.as_bytes())
        .map_err(|error| invalid(error.to_string()))?;
    record_in(&der).ok_or_else(|| invalid("it is no certificate".to_owned()))
}

/// The same; `None` of what is no certificate.
pub(crate) fn record_in(certificate: &CertificateDer<'_>) -> Option<CertificateRecord> {
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    Some(CertificateRecord { serial: HEXLOWER.encode(parsed.raw_serial()), lifetime: lifetime(&parsed) })
}

/// From when to when a certificate is good; `None` of what is none.
pub(crate) fn lifetime_of(certificate: &CertificateDer<'_>) -> Option<Lifetime> {
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    Some(lifetime(&parsed))
}

/// Tells one key from another: the SHA-256 of the public key with its algorithm.
pub(crate) fn key_of(certificate: &CertificateDer<'_>) -> Option<[u8; 32]> {
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    digest::digest(&digest::SHA256, parsed.public_key().raw).as_ref().try_into().ok()
}

fn lifetime(certificate: &X509Certificate<'_>) -> Lifetime {
    let date = |at: ASN1Time| Timestamp(u64::try_from(at.timestamp()).unwrap_or(0).saturating_mul(1000));
    let validity = certificate.validity();
    Lifetime { issued: date(validity.not_before), expires: date(validity.not_after) }
}

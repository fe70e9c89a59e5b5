//! Certificates of workers, as clusters tell of them, and workers whose certificates count no more.

use model::{CertificateRecord, Lifetime, RevokedWorker, Timestamp, WorkerCertificate};

use super::{WireError, parse};
use crate::v1;

impl From<&WorkerCertificate> for v1::WorkerCertificate {
    fn from(certificate: &WorkerCertificate) -> Self {
        let CertificateRecord { serial, lifetime } = &certificate.record;
        Self {
            worker: certificate.worker.to_string(),
            name: certificate.name.clone(),
            network: certificate.network,
            serial: serial.clone(),
            issued_at_unix_millis: lifetime.issued.0,
            expires_at_unix_millis: lifetime.expires.0,
            revoked: certificate.revoked,
        }
    }
}

impl TryFrom<v1::WorkerCertificate> for WorkerCertificate {
    type Error = WireError;

    fn try_from(wire: v1::WorkerCertificate) -> Result<Self, WireError> {
        let lifetime = Lifetime {
            issued: Timestamp(wire.issued_at_unix_millis),
            expires: Timestamp(wire.expires_at_unix_millis),
        };
        Ok(Self {
            worker: parse("certificate.worker", &wire.worker)?,
            name: wire.name,
            network: wire.network,
            record: CertificateRecord { serial: wire.serial, lifetime },
            revoked: wire.revoked,
        })
    }
}

impl From<&RevokedWorker> for v1::RevokedWorker {
    fn from(revoked: &RevokedWorker) -> Self {
        Self { worker: revoked.worker.to_string(), until_unix_millis: revoked.until.0 }
    }
}

impl TryFrom<v1::RevokedWorker> for RevokedWorker {
    type Error = WireError;

    fn try_from(wire: v1::RevokedWorker) -> Result<Self, WireError> {
        let worker = parse("revoked.worker", &wire.worker)?;
        Ok(Self { worker, until: Timestamp(wire.until_unix_millis) })
    }
}

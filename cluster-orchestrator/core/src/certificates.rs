//! Certificates of workers and their NetManagers: what was issued, and whose count no more, as the root says. Known without
//! the root too: certificates are renewed by this cluster alone.

use std::collections::BTreeMap;

use model::{CertificateRecord, Holder, NotIssued, RevokedWorker, Timestamp, WorkerCertificate, WorkerId};

use crate::{Change, State};

/// Workers whose certificates count no more, and when the last of them has ended.
pub type RevokedWorkers = BTreeMap<WorkerId, Timestamp>;

impl State {
    /// The root says whose certificates count no more. Of those it does not name any more nothing good is left, and
    /// nothing is known from now on.
    #[must_use]
    pub fn revoke(&self, workers: &[RevokedWorker]) -> Vec<Change> {
        let named: RevokedWorkers = workers.iter().map(|one| (one.worker, one.until)).collect();
        if named == self.revoked {
            return Vec::new();
        }
        let over = self.revoked.keys().filter(|worker| !named.contains_key(worker));
        let forgotten = over.flat_map(|worker| self.forget_certificates(*worker));
        let mut changes: Vec<Change> = forgotten.collect();
        changes.push(Change::Revoked(named));
        changes
    }

    /// Whose certificates count no more.
    pub fn revoked(&self) -> impl Iterator<Item = WorkerId> {
        self.revoked.keys().copied()
    }

    /// Whether a worker that asks with a token may have a certificate.
    ///
    /// # Errors
    /// When its certificates were revoked.
    pub fn may_certify(&self, worker: WorkerId) -> Result<(), NotIssued> {
        if self.revoked.contains_key(&worker) { Err(NotIssued::Revoked) } else { Ok(()) }
    }

    /// Whether a worker or its NetManager may have a certificate in place of one that it shows, which may have ended.
    ///
    /// # Errors
    /// See [`NotIssued`].
    pub fn may_renew(&self, holder: Holder, has_ended: bool) -> Result<(), NotIssued> {
        let worker = holder.worker().ok_or(NotIssued::Unknown)?;
        self.may_certify(worker)?;
        let is_known = self.certificates.contains_key(&holder) || self.workers.contains_key(&worker);
        NotIssued::in_place_of(has_ended, is_known)
    }

    /// Notes what was issued.
    ///
    /// # Errors
    /// When its certificates were revoked meanwhile: then it must not be handed over.
    pub fn certified(
        &self,
        holder: Holder,
        record: CertificateRecord,
    ) -> Result<((), Vec<Change>), NotIssued> {
        // Others are the root's.
        self.may_certify(holder.worker().ok_or(NotIssued::Unknown)?)?;
        Ok(((), vec![Change::Certificate(holder, Some(record))]))
    }

    /// Every certificate of a worker, by worker.
    #[must_use]
    pub fn certificates(&self) -> Vec<WorkerCertificate> {
        let listed = self.certificates.iter().filter_map(|(holder, record)| {
            let (worker, network) = (holder.worker()?, matches!(holder, Holder::Network(_)));
            let name = self.workers.get(&worker).map(|known| known.inventory.name.clone());
            let revoked = self.revoked.contains_key(&worker);
            let record = record.clone();
            Some(WorkerCertificate { worker, name: name.unwrap_or_default(), network, record, revoked })
        });
        let mut listed: Vec<WorkerCertificate> = listed.collect();
        listed.sort_by_key(|certificate| (certificate.worker, certificate.network));
        listed
    }

    /// As if it had never had any: one that has ended is not renewed.
    pub(crate) fn forget_certificates(&self, worker: WorkerId) -> Vec<Change> {
        let holders = [Holder::Worker(worker), Holder::Network(worker)].into_iter();
        let held = holders.filter(|holder| self.certificates.contains_key(holder));
        held.map(|holder| Change::Certificate(holder, None)).collect()
    }

    /// Whoever is revoked is cut off, and lost when that has lasted: beats do not show any more that it lives.
    pub(crate) fn apply_revoked(&mut self, revoked: RevokedWorkers) {
        for worker in revoked.keys().filter(|worker| !self.revoked.contains_key(worker)) {
            self.contacts.cut_off(*worker);
            // Its mailbox at the relay is closed as soon as its NetManager is gone.
            self.networks.forgotten(*worker);
        }
        self.revoked = revoked;
    }
}

//! Certificates of clusters, and whose count no more. Of workers the root knows only the ids of those that a person has
//! revoked: it must tell their cluster, at once or when that is back.

use model::{CertificateRecord, ClusterId, Holder, NotIssued, Now, RevokedWorker, Timestamp, WorkerId};
use serde::{Deserialize, Serialize};

use crate::{Change, State, reconcile::Plan};

/// When to look whether revocations are over: they last for months, and the date may be set meanwhile.
const LOOK_AGAIN_MILLIS: u64 = 3_600_000;

/// Whose certificates count no more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct RevokedId {
    /// A cluster.
    pub cluster: ClusterId,
    /// A worker of it, and not the cluster itself.
    pub worker: Option<WorkerId>,
}

/// A tombstone: it stays until no certificate is left that it could be shown against. Durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Revocation {
    /// Whose.
    pub id: RevokedId,
    /// Since when.
    pub at: Timestamp,
    /// By then every certificate has ended.
    pub until: Timestamp,
}

impl State {
    /// Lets nobody in any more who shows a certificate of a cluster, or of one of its workers. `lifetime_millis` is how long
    /// certificates last that are issued now. Again, it changes nothing.
    ///
    /// # Errors
    /// When there is no such cluster. Whether it has such a worker only the cluster knows.
    pub fn revoke(
        &self,
        id: RevokedId,
        lifetime_millis: u64,
        now: Timestamp,
    ) -> Result<(Revocation, Vec<Change>), NotIssued> {
        if !self.clusters.contains_key(&id.cluster) {
            return Err(NotIssued::Unknown);
        }
        if let Some(before) = self.revocations.get(&id) {
            return Ok((*before, Vec::new()));
        }
        // A worker's certificate ends with the authority of its cluster, if not before.
        let issued = [Holder::Cluster(id.cluster), Holder::Intermediate(id.cluster)];
        let ends = issued.iter().filter_map(|holder| self.certificates.get(holder));
        let last = ends.map(|record| record.lifetime.expires).max().unwrap_or_default();
        let until = last.max(now.plus_millis(lifetime_millis));
        let revocation = Revocation { id, at: now, until };
        Ok((revocation, vec![Change::Revocation(id, Some(revocation))]))
    }

    /// Whether a cluster may have a certificate.
    ///
    /// # Errors
    /// See [`NotIssued`].
    pub fn may_certify(&self, cluster: ClusterId) -> Result<(), NotIssued> {
        if self.revocation(cluster, None).is_some() {
            return Err(NotIssued::Revoked);
        }
        if self.clusters.contains_key(&cluster) { Ok(()) } else { Err(NotIssued::Unknown) }
    }

    /// Whether a cluster may have a certificate in place of one that it shows, which may have ended.
    ///
    /// # Errors
    /// See [`NotIssued`]. One that has ended is only good for a cluster whose certificates were never revoked since.
    pub fn may_renew(&self, cluster: ClusterId, has_ended: bool) -> Result<(), NotIssued> {
        self.may_certify(cluster)?;
        NotIssued::in_place_of(has_ended, self.certificates.contains_key(&Holder::Cluster(cluster)))
    }

    /// Notes what a cluster was issued.
    ///
    /// # Errors
    /// As [`State::may_certify`]: then it must not be handed over.
    pub fn certified(
        &self,
        holder: Holder,
        record: CertificateRecord,
    ) -> Result<((), Vec<Change>), NotIssued> {
        // The root keeps nothing of a worker.
        self.may_certify(holder.cluster().ok_or(NotIssued::Unknown)?)?;
        Ok(((), vec![Change::Certificate(holder, Some(record))]))
    }

    /// Why and since when certificates count no more, of a cluster or of one of its workers.
    #[must_use]
    pub fn revocation(&self, cluster: ClusterId, worker: Option<WorkerId>) -> Option<&Revocation> {
        self.revocations.get(&RevokedId { cluster, worker })
    }

    /// All that are in force.
    pub fn revocations(&self) -> impl Iterator<Item = &Revocation> {
        self.revocations.values()
    }

    /// The newest certificates that clusters were issued.
    pub fn certificates(&self) -> impl Iterator<Item = (Holder, &CertificateRecord)> {
        self.certificates.iter().map(|(holder, record)| (*holder, record))
    }

    /// What a cluster is told.
    pub(crate) fn revoked_workers(&self, cluster: ClusterId) -> Vec<RevokedWorker> {
        let of_it = self.revocations.values().filter(|revocation| revocation.id.cluster == cluster);
        of_it
            .filter_map(|revocation| {
                Some(RevokedWorker { worker: revocation.id.worker?, until: revocation.until })
            })
            .collect()
    }

    /// Forgets those whose last certificate has ended, and with a cluster what it was issued: whoever still has it must join
    /// anew.
    pub(crate) fn end_revocations(&mut self, plan: &mut Plan, now: Now) {
        let over: Vec<RevokedId> = self
            .revocations
            .values()
            .filter(|revocation| revocation.until <= now.date)
            .map(|revocation| revocation.id)
            .collect();
        for id in over {
            self.change(plan, Change::Revocation(id, None));
            if id.worker.is_none() {
                self.change(plan, Change::Certificate(Holder::Cluster(id.cluster), None));
                self.change(plan, Change::Certificate(Holder::Intermediate(id.cluster), None));
            }
        }
        if !self.revocations.is_empty() {
            let next = self.revocations.values().map(|revocation| revocation.until.millis_since(now.date));
            let left = next.min().unwrap_or_default().min(LOOK_AGAIN_MILLIS);
            plan.wake(now.moment.plus_millis(left));
        }
    }
}

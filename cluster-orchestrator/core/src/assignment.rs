//! Assignments: what the root wants, taken on whole or not at all, and what follows from it for each worker.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use model::{
    AssignedInstance, Assignment, Desired, Generation, InstanceId, InstanceReport, Now, Phase, Resources,
    RevisionId, Tenure, Timestamp,
};

use crate::{Change, Held, Instance, State, Worker};

/// An assignment that is not newer than the one held.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("assignment {offered} is not newer than {held}, which is held")]
pub struct Stale {
    /// What came.
    pub offered: Generation,
    /// What is there.
    pub held: Generation,
}

impl State {
    /// The whole of what a worker should have. Secrets are sealed for this cluster still: who sends it seals them anew.
    #[must_use]
    pub fn assignment(&self, worker: &Worker) -> Assignment {
        let copies = self.on_worker(worker.id).filter_map(|instance| {
            let (generation, desired) = instance.tenure.told(worker.id, instance.desired)?;
            Some(AssignedInstance {
                id: instance.id,
                revision: instance.revision,
                generation,
                desired,
                address: instance.address,
            })
        });
        let instances: Vec<AssignedInstance> = copies.collect();
        let services: BTreeMap<_, _> = instances
            .iter()
            .filter_map(|instance| {
                let id = instance.revision_id();
                self.held.services.get(&id).map(|service| (id, service.clone()))
            })
            .collect();
        let network = self.lease_of(worker.id);
        let assignment = Assignment {
            generation: worker.generation,
            services,
            instances,
            network,
            ..Assignment::default()
        };
        let sealed = |version| Some((version, self.held.secrets.get(&version)?.clone()));
        let secrets = assignment.secret_versions().into_iter().filter_map(sealed).collect();
        Assignment { secrets: Arc::new(secrets), ..assignment }
    }

    /// Takes on an assignment of the root.
    ///
    /// Guarantees: an instance that runs and is missing from it is kept (only a tombstone removes); one that was
    /// never started here, or is confirmed gone, is forgotten.
    ///
    /// # Errors
    /// When it is not newer than what is held.
    pub fn take_on(&self, assignment: Assignment, now: Now) -> Result<Vec<Change>, Stale> {
        if assignment.generation <= self.held.generation {
            return Err(Stale { offered: assignment.generation, held: self.held.generation });
        }
        let mut changes = self.compare(assignment.instances, now.date);
        let forgotten =
            |change: &Change| if let Change::Instance(id, None) = change { Some(*id) } else { None };
        let forgotten: BTreeSet<InstanceId> = changes.iter().filter_map(forgotten).collect();
        // A copy that is listed may be of a revision whose tombstone alone is listed, without its specification.
        let is_used = |id: &RevisionId| {
            let copies = self.instances.range(InstanceId::all_of(id.service));
            let mut copies = copies.filter(|(copy, _)| !forgotten.contains(copy));
            copies.any(|(_, instance)| instance.revision == id.number)
        };
        let mut services = assignment.services;
        let mut listed = services.keys().peekable();
        let missing = self.held.services.iter().filter(|(id, _)| {
            while listed.next_if(|listed| listed < id).is_some() {}
            listed.peek() != Some(id) && is_used(id)
        });
        let kept: Vec<_> = missing.map(|(id, service)| (*id, service.clone())).collect();
        let needed = kept.iter().flat_map(|(_, service)| service.spec.secret_versions());
        let needed: Vec<_> =
            needed.filter_map(|version| Some((version, self.held.secrets.get(&version)?.clone()))).collect();
        let mut secrets = assignment.secrets;
        if !needed.is_empty() {
            Arc::make_mut(&mut secrets).extend(needed);
        }
        services.extend(kept);
        if let Some(blocks) = assignment.network
            && blocks != *self.subnets.blocks()
        {
            changes.push(Change::Blocks(blocks));
        }
        // First, so that instances are never applied before the services they are copies of.
        let held = Held { generation: assignment.generation, services: services.into(), secrets };
        changes.insert(0, Change::Held(held));
        Ok(changes)
    }

    /// What is wanted and what is there, walked side by side: both are in order of their ids, and most is as it was.
    fn compare(&self, mut wanted: Vec<AssignedInstance>, now: Timestamp) -> Vec<Change> {
        wanted.sort_by_key(|instance| instance.id);
        wanted.dedup_by_key(|instance| instance.id);
        let mut changes = Vec::new();
        let mut known = self.instances.values().peekable();
        for instance in wanted {
            while let Some(absent) = known.next_if(|known| known.id < instance.id) {
                changes.extend(unlisted(absent));
            }
            let known = known.next_if(|known| known.id == instance.id);
            changes.extend(want(known, instance, now));
        }
        changes.extend(known.filter_map(unlisted));
        changes
    }
}

/// An instance that is no longer listed: forgotten if nobody has it, kept otherwise.
fn unlisted(instance: &Instance) -> Option<Change> {
    if instance.tenure.is_vacant() {
        return Some(Change::Instance(instance.id, None));
    }
    let unlisted = || Instance { listed: false, ..instance.clone() };
    instance.listed.then(|| Change::Instance(instance.id, Some(unlisted())))
}

fn want(known: Option<&Instance>, wanted: AssignedInstance, now: Timestamp) -> Option<Change> {
    let instance = match known {
        Some(known) if known.generation > wanted.generation => return None,
        Some(known)
            if known.generation == wanted.generation
                && known.desired == wanted.desired
                && known.address == wanted.address
                && known.listed =>
        {
            return None;
        }
        // The same placement; a tombstone is never taken back within one.
        Some(known) if known.generation == wanted.generation => {
            let desired = known.desired.max(wanted.desired);
            Instance { desired, address: wanted.address, listed: true, ..known.clone() }
        }
        Some(_) | None => anew(known, wanted, now),
    };
    let report = match (instance.desired, instance.tenure.is_vacant()) {
        // Nothing to remove: it is confirmed at once.
        (Desired::Removed, true) => {
            InstanceReport::new(instance.id, instance.generation, Phase::Removed, now)
        }
        (Desired::Removed, false) => {
            let detail = String::new();
            let report = instance.report.clone();
            InstanceReport { phase: Phase::Undeploying, ready: false, detail, since: now, ..report }
        }
        (Desired::Running, _) => instance.report.clone(),
    };
    Some(Change::Instance(instance.id, Some(Instance { report, ..instance })))
}

/// A newer decision of the root: whatever copies there are of an older one must go.
fn anew(known: Option<&Instance>, wanted: AssignedInstance, now: Timestamp) -> Instance {
    let mut tenure = known.map_or_else(Tenure::default, |known| known.tenure.clone());
    tenure.take_back();
    tenure.settle();
    Instance {
        id: wanted.id,
        revision: wanted.revision,
        generation: wanted.generation,
        address: wanted.address,
        desired: wanted.desired,
        listed: true,
        tenure,
        reserved: known.map_or_else(Resources::default, |known| known.reserved),
        report: InstanceReport::new(wanted.id, wanted.generation, Phase::ClusterScheduled, now),
    }
}

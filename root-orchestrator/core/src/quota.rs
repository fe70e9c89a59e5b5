//! What the applications of an organisation may take together, counted in what is wanted: as many instances of the newest
//! revision of each service as there shall be, wherever they run and whether there is a place for them yet. While instances
//! give way to those of another revision there may be more for a while.

use model::{OrganizationId, Resources};
use serde::{Deserialize, Serialize};

use crate::{Rejected, Service, State};

/// Limits of an organisation; without one there is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Quota {
    /// Instances.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instances: Option<u64>,
    /// Whole processor cores.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vcpus: Option<u64>,
    /// Memory, in MiB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<u64>,
    /// Storage, in MiB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub storage: Option<u64>,
}

/// What is taken of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct QuotaUsage {
    /// Instances.
    pub instances: u64,
    /// Thousandths of processor cores.
    pub millicores: u64,
    /// Memory, in MiB.
    pub memory: u64,
    /// Storage, in MiB.
    pub storage: u64,
}

impl QuotaUsage {
    /// So many instances of which each takes that much.
    fn of(instances: u32, each: Resources) -> Self {
        let times = |amount: u32| u64::from(instances) * u64::from(amount);
        Self {
            instances: u64::from(instances),
            millicores: times(each.cpu.0),
            memory: times(each.memory.0),
            storage: times(each.storage.0),
        }
    }

    fn plus(self, other: Self) -> Self {
        Self {
            instances: self.instances + other.instances,
            millicores: self.millicores + other.millicores,
            memory: self.memory + other.memory,
            storage: self.storage + other.storage,
        }
    }

    /// Processor cores, rounded up.
    #[must_use]
    pub const fn vcpus(&self) -> u64 {
        self.millicores.div_ceil(1000)
    }
}

impl State {
    /// What the applications of an organisation take.
    #[must_use]
    pub fn quota_usage(&self, organization: OrganizationId) -> QuotaUsage {
        let applications = self.applications().filter(|one| one.organization == organization);
        let services = applications.flat_map(|application| self.services_of(application.id));
        services.fold(QuotaUsage::default(), |sum, service| sum.plus(self.taken_by(service)))
    }

    /// How many instances of a service there shall be.
    #[must_use]
    pub fn wanted_instances(&self, service: &Service) -> u32 {
        let live = || self.instances_of(service.id).filter(|instance| instance.is_live()).count();
        match &service.rollout {
            Some(rollout) => rollout.instances,
            None => u32::try_from(live()).unwrap_or(u32::MAX),
        }
    }

    fn taken_by(&self, service: &Service) -> QuotaUsage {
        QuotaUsage::of(self.wanted_instances(service), service.spec().resources)
    }

    /// Refuses that a service takes so many instances of that size, when it would be more of something than before and
    /// more than its organisation may have of it.
    pub(crate) fn within_quota(
        &self,
        service: &Service,
        instances: u32,
        each: Resources,
    ) -> Result<(), Rejected> {
        let organization = self.application(service.application).map(|application| application.organization);
        let Some(organization) = organization.and_then(|id| self.organization(id)) else { return Ok(()) };
        let quota = organization.quota;
        if quota == Quota::default() {
            // Adding up takes a look at all that an organisation has.
            return Ok(());
        }
        let (before, wanted) = (self.taken_by(service), QuotaUsage::of(instances, each));
        let all = self.quota_usage(organization.id);
        let checks = [
            ("instances", quota.instances, before.instances, wanted.instances, all.instances, 1),
            ("vcpus", quota.vcpus, before.millicores, wanted.millicores, all.millicores, 1000),
            ("MiB of memory", quota.memory, before.memory, wanted.memory, all.memory, 1),
            ("MiB of storage", quota.storage, before.storage, wanted.storage, all.storage, 1),
        ];
        for (what, limit, before, wanted, all, unit) in checks {
            let Some(limit) = limit.filter(|_| wanted > before) else { continue };
            let total = (all - before + wanted).div_ceil(unit);
            if total > limit {
                return Err(Rejected::QuotaExceeded { what, limit, total, over: total - limit });
            }
        }
        Ok(())
    }
}

//! One place an instance could go, in one cache line, and what is asked of it.

use model::{Capability, Resources};

/// What a candidate stands for; it decides the words of a refusal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CandidateKind {
    /// A cluster, as the root sees it.
    Cluster,
    /// A worker, as its cluster sees it.
    Worker,
}

/// What one instance needs of the place it runs at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Request {
    /// What will be reserved for it.
    pub resources: Resources,
    /// Bits of [`Capability::bit`], all of which are needed.
    pub(crate) capabilities: u64,
}

impl Request {
    /// A request for these amounts and all of these capabilities.
    #[must_use]
    pub fn new(resources: Resources, capabilities: &[Capability]) -> Self {
        Self { resources, capabilities: bits(capabilities) }
    }
}

/// One place an instance could go: exactly one cache line, so that a decision over many is one pass over memory.
///
/// Guarantees: what its largest worker has free is never more than what is free in all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C, align(64))]
pub struct Candidate {
    pub(crate) id: u128,
    pub(crate) free: Resources,
    pub(crate) largest: Resources,
    pub(crate) capabilities: u64,
    pub(crate) instances: u16,
    pub(crate) load_permille: u16,
    pub(crate) siblings: u8,
    pub(crate) flags: u8,
}

const _ONE_CACHE_LINE: () = assert!(size_of::<Candidate>() == 64);

impl Candidate {
    /// Bits of `flags` that exclude, in the order their reasons are given.
    pub(crate) const NOT_SELECTED: u8 = 1 << 0;
    pub(crate) const DISCONNECTED: u8 = 1 << 1;
    pub(crate) const CORDONED: u8 = 1 << 2;
    pub(crate) const EXCLUDING: u8 = Self::NOT_SELECTED | Self::DISCONNECTED | Self::CORDONED;
    /// Not a reason: marks a candidate that is one device.
    const ONE_WORKER: u8 = 1 << 7;

    /// A connected worker with `free` left to reserve and no capability. `id` is its [`model::WorkerId::as_u128`].
    #[must_use]
    pub const fn worker(id: u128, free: Resources) -> Self {
        Self {
            id,
            free,
            largest: free,
            capabilities: 0,
            instances: 0,
            load_permille: 0,
            siblings: 0,
            flags: Self::ONE_WORKER,
        }
    }

    /// A connected cluster with `free` left in all and no capability. `id` is its [`model::ClusterId::as_u128`],
    /// `largest` holds the most that any single worker has free, amount by amount (see [`crate::largest`]).
    #[must_use]
    pub fn cluster(id: u128, free: Resources, largest: Resources) -> Self {
        Self { largest: at_most(largest, free), flags: 0, ..Self::worker(id, free) }
    }

    /// The same candidate, able to do these things.
    #[must_use]
    pub fn with_capabilities(self, capabilities: &[Capability]) -> Self {
        Self { capabilities: bits(capabilities), ..self }
    }

    /// The same candidate, already holding that many instances (more than 65,535 count as 65,535).
    #[must_use]
    pub fn with_instances(self, instances: usize) -> Self {
        Self { instances: u16::try_from(instances).unwrap_or(u16::MAX), ..self }
    }

    /// The same candidate with its measured load, from 0 to 100.
    #[must_use]
    pub fn with_load_percent(mut self, percent: f32) -> Self {
        self.set_load_percent(percent);
        self
    }

    /// Notes its measured load, from 0 to 100; what is no number counts as full load.
    pub fn set_load_percent(&mut self, percent: f32) {
        let percent = if percent.is_nan() { 100.0 } else { percent.clamp(0.0, 100.0) };
        #[expect(clippy::cast_possible_truncation, reason = "0 to 1000 fits")]
        #[expect(clippy::cast_sign_loss, reason = "clamped to be positive")]
        let permille = (percent * 10.0) as u16;
        self.load_permille = permille;
    }

    /// Notes whether it is connected. Those who are not are rejected, whatever else they have.
    pub const fn set_connected(&mut self, connected: bool) {
        self.set_flag(Self::DISCONNECTED, !connected);
    }

    /// Notes whether it was cordoned: it keeps what it has and takes nothing new.
    pub const fn set_cordoned(&mut self, cordoned: bool) {
        self.set_flag(Self::CORDONED, cordoned);
    }

    /// Notes whether the names in the request allow it. Belongs to one request: set it again for the next.
    pub const fn set_selected(&mut self, selected: bool) {
        self.set_flag(Self::NOT_SELECTED, !selected);
    }

    /// Notes how many copies of the requested service it already holds, so that copies go to different places
    /// (more than 255 count as 255). Belongs to one request: set it again for the next.
    pub fn set_siblings(&mut self, siblings: usize) {
        self.siblings = u8::try_from(siblings).unwrap_or(u8::MAX);
    }

    /// What identifies it.
    #[must_use]
    pub const fn id(&self) -> u128 {
        self.id
    }

    /// What is left to reserve.
    #[must_use]
    pub const fn free(&self) -> Resources {
        self.free
    }

    /// The most that one worker of it has left, amount by amount.
    #[must_use]
    pub const fn largest(&self) -> Resources {
        self.largest
    }

    /// Its measured load in thousandths.
    #[must_use]
    pub const fn load_permille(&self) -> u16 {
        self.load_permille
    }

    /// Reserves `resources` for one more instance. Returns false, and changes nothing, if they are not free.
    ///
    /// A cluster's largest worker is lowered only as far as its sum demands: which of its workers will take the
    /// instance is not known here, and the cluster refuses what does not fit after all.
    #[must_use = "what was not reserved must not be placed"]
    pub fn reserve(&mut self, resources: &Resources) -> bool {
        if !self.largest.covers(resources) {
            return false;
        }
        self.free = self.free.minus(resources);
        self.largest = at_most(self.largest, self.free);
        self.instances = self.instances.saturating_add(1);
        true
    }

    /// Gives back what one instance had reserved. A cluster's largest worker stays: its next report tells.
    pub fn release(&mut self, resources: &Resources) {
        self.free = self.free.plus(resources);
        if self.flags & Self::ONE_WORKER != 0 {
            self.largest = self.free;
        }
        self.instances = self.instances.saturating_sub(1);
    }

    const fn set_flag(&mut self, flag: u8, on: bool) {
        if on {
            self.flags |= flag;
        } else {
            self.flags &= !flag;
        }
    }
}

fn bits(capabilities: &[Capability]) -> u64 {
    capabilities.iter().fold(0, |set, capability| set | capability.bit())
}

fn at_most(amounts: Resources, limit: Resources) -> Resources {
    Resources {
        cpu: amounts.cpu.min(limit.cpu),
        memory: amounts.memory.min(limit.memory),
        storage: amounts.storage.min(limit.storage),
        gpus: amounts.gpus.min(limit.gpus),
    }
}

#[cfg(test)]
mod tests {
    use model::{Mebibytes, Millicores};

    use super::*;

    fn resources(cpu: u32, memory: u32) -> Resources {
        Resources { cpu: Millicores(cpu), memory: Mebibytes(memory), ..Resources::default() }
    }

    #[test]
    fn a_worker_refuses_to_reserve_what_it_does_not_have() {
        let mut worker = Candidate::worker(1, resources(1000, 100));
        assert!(!worker.reserve(&resources(1000, 101)));
        assert_eq!(worker, Candidate::worker(1, resources(1000, 100)));
    }

    #[test]
    fn what_was_reserved_comes_back_on_release() {
        let before = Candidate::worker(1, resources(1000, 100));
        let mut worker = before;
        assert!(worker.reserve(&resources(600, 10)));
        assert_eq!((worker.free, worker.largest), (resources(400, 90), resources(400, 90)));
        worker.release(&resources(600, 10));
        assert_eq!(worker, before);
    }

    #[test]
    fn a_cluster_keeps_its_largest_worker_until_its_sum_is_smaller() {
        let mut cluster = Candidate::cluster(1, resources(2500, 100), resources(1000, 50));
        assert!(cluster.reserve(&resources(1000, 0)));
        assert_eq!(cluster.largest, resources(1000, 50));
        assert!(cluster.reserve(&resources(1000, 0)));
        assert_eq!((cluster.free, cluster.largest), (resources(500, 100), resources(500, 50)));
        assert!(!cluster.reserve(&resources(1000, 0)));
    }

    #[test]
    fn no_worker_of_a_cluster_is_larger_than_the_cluster() {
        let cluster = Candidate::cluster(1, resources(10, 10), resources(20, 5));
        assert_eq!(cluster.largest, resources(10, 5));
    }

    #[test]
    fn a_load_that_is_no_number_counts_as_full() {
        let worker = Candidate::worker(1, Resources::default());
        let loads = [f32::NAN, -1.0, 12.34, 400.0].map(|load| worker.with_load_percent(load).load_permille);
        assert_eq!(loads, [1000, 0, 123, 1000]);
    }
}

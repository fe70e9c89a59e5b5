//! One place an instance could go, in one cache line, and what is asked of it.

use std::fmt;

use model::{Capability, Resources, ServiceSpec, Virtualization};

use crate::lanes::Lanes;

/// What a candidate stands for; it decides the words of a refusal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CandidateKind {
    /// A cluster, as the root sees it.
    Cluster,
    /// A worker, as its cluster sees it.
    Worker,
}

/// What one instance needs of the place it runs at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Request {
    /// What will be reserved for it.
    pub resources: Resources,
    /// The obstacles that matter to it.
    pub(crate) of_interest: u64,
}

impl Request {
    /// A request for these amounts and all of these capabilities.
    #[must_use]
    pub fn new(resources: Resources, capabilities: &[Capability]) -> Self {
        let excluding = Obstacles::NOT_SELECTED | Obstacles::DISCONNECTED | Obstacles::CORDONED;
        Self { resources, of_interest: excluding | Obstacles::missing(capabilities) }
    }

    /// What one instance of a service needs.
    #[must_use]
    pub fn of_service(spec: &ServiceSpec) -> Self {
        let capability = match spec.virtualization {
            Virtualization::Container => Capability::Container,
        };
        Self::new(spec.resources, &[capability])
    }
}

/// One place an instance could go: exactly one cache line, so that a decision over many is one pass over memory.
///
/// Guarantees: what its largest worker has free is never more than what is free in all. Amounts above 67
/// thousand cores, 128 tebibytes of memory, two pebibytes of storage or four million graphics processors count as
/// that much.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(C, align(64))]
pub struct Candidate {
    pub(crate) id: u128,
    pub(crate) free: Lanes,
    pub(crate) largest: Lanes,
    /// See [`Obstacles`].
    pub(crate) obstacles: u64,
    /// See [`Standing`].
    pub(crate) standing: u64,
}

const _ONE_CACHE_LINE: () = assert!(size_of::<Candidate>() == 64);

/// Bits that stand between a candidate and a request, [`Obstacles::APART`] apart.
pub(crate) struct Obstacles;

impl Obstacles {
    /// So many bits from one to the next, and to the answers of [`Lanes`], for counting.
    pub(crate) const APART: u32 = 5;
    pub(crate) const NOT_SELECTED: u64 = 1 << 0;
    pub(crate) const DISCONNECTED: u64 = 1 << 5;
    pub(crate) const CORDONED: u64 = 1 << 10;
    /// One for each of [`Capability::ALL`], set while it is *missing*.
    pub(crate) const MISSING: [u64; Capability::ALL.len()] = {
        // What room there is around the answers of lanes.
        let places = [15, 20, 36, 41, 46];
        let mut missing = [0; Capability::ALL.len()];
        let mut index = 0;
        while index < missing.len() {
            missing[index] = 1 << places[index];
            index += 1;
        }
        missing
    };
    /// No obstacle: marks a candidate that is one device.
    const ONE_WORKER: u64 = 1 << 63;

    /// Those of being unable to do any of these.
    fn missing(capabilities: &[Capability]) -> u64 {
        let listed = Capability::ALL.into_iter().zip(Self::MISSING);
        listed.filter(|(capability, _)| capabilities.contains(capability)).map(|(_, missing)| missing).sum()
    }
}

/// What ranks a candidate besides its room, packed so that less is better: copies of the same service, a gap of
/// ones from which [`crate::score`] subtracts the room, instances, load.
pub(crate) struct Standing;

impl Standing {
    pub(crate) const SIBLINGS_SHIFT: u32 = 48;
    pub(crate) const ROOM_SHIFT: u32 = 32;
    const INSTANCES_SHIFT: u32 = 16;
    const BEST: u64 = 0xFFFF << Self::ROOM_SHIFT;

    const fn get(standing: u64, shift: u32) -> u16 {
        #[expect(clippy::cast_possible_truncation, reason = "the field is what is asked for")]
        let field = (standing >> shift) as u16;
        field
    }

    fn set(standing: &mut u64, shift: u32, field: u16) {
        *standing = *standing & !(0xFFFF << shift) | u64::from(field) << shift;
    }
}

impl Candidate {
    /// A connected worker with `free` left to reserve and no capability. `id` is its [`model::WorkerId::as_u128`].
    #[must_use]
    pub fn worker(id: u128, free: Resources) -> Self {
        let free = Lanes::pack(&free);
        let obstacles = Obstacles::missing(&Capability::ALL) | Obstacles::ONE_WORKER;
        Self { id, free, largest: free, obstacles, standing: Standing::BEST }
    }

    /// A connected cluster with `free` left in all and no capability. `id` is its [`model::ClusterId::as_u128`],
    /// `largest` holds the most that any single worker has free, amount by amount (see [`crate::largest`]).
    #[must_use]
    pub fn cluster(id: u128, free: Resources, largest: Resources) -> Self {
        let largest = Lanes::pack(&at_most(largest, free));
        Self { largest, obstacles: Obstacles::missing(&Capability::ALL), ..Self::worker(id, free) }
    }

    /// The same candidate, able to do these things.
    #[must_use]
    pub fn with_capabilities(mut self, capabilities: &[Capability]) -> Self {
        self.obstacles |= Obstacles::missing(&Capability::ALL);
        self.obstacles &= !Obstacles::missing(capabilities);
        self
    }

    /// The same candidate, already holding that many instances (more than 65,535 count as 65,535).
    #[must_use]
    pub fn with_instances(mut self, instances: usize) -> Self {
        self.set_instances(u16::try_from(instances).unwrap_or(u16::MAX));
        self
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
        Standing::set(&mut self.standing, 0, permille);
    }

    /// Notes whether it is connected. Those who are not are rejected, whatever else they have.
    pub const fn set_connected(&mut self, connected: bool) {
        self.set_obstacle(Obstacles::DISCONNECTED, !connected);
    }

    /// Notes whether it was cordoned: it keeps what it has and takes nothing new.
    pub const fn set_cordoned(&mut self, cordoned: bool) {
        self.set_obstacle(Obstacles::CORDONED, cordoned);
    }

    /// Notes whether the names in the request allow it. Belongs to one request: set it again for the next.
    pub const fn set_selected(&mut self, selected: bool) {
        self.set_obstacle(Obstacles::NOT_SELECTED, !selected);
    }

    /// Notes how many copies of the requested service it already holds, so that copies go to different places
    /// (more than 65,535 count as 65,535). Belongs to one request: set it again for the next.
    pub fn set_siblings(&mut self, siblings: usize) {
        let siblings = u16::try_from(siblings).unwrap_or(u16::MAX);
        Standing::set(&mut self.standing, Standing::SIBLINGS_SHIFT, siblings);
    }

    /// What identifies it.
    #[must_use]
    pub const fn id(&self) -> u128 {
        self.id
    }

    /// What is left to reserve.
    #[must_use]
    pub const fn free(&self) -> Resources {
        self.free.unpack()
    }

    /// The most that one worker of it has left, amount by amount.
    #[must_use]
    pub const fn largest(&self) -> Resources {
        self.largest.unpack()
    }

    /// Its measured load in thousandths.
    #[must_use]
    pub const fn load_permille(&self) -> u16 {
        Standing::get(self.standing, 0)
    }

    /// How many instances it holds.
    #[must_use]
    pub const fn instances(&self) -> u16 {
        Standing::get(self.standing, Standing::INSTANCES_SHIFT)
    }

    /// How many copies of the requested service it holds.
    #[must_use]
    pub const fn siblings(&self) -> u16 {
        Standing::get(self.standing, Standing::SIBLINGS_SHIFT)
    }

    /// Reserves `resources` for one more instance. Returns false, and changes nothing, if they are not free.
    ///
    /// A cluster's largest worker is lowered only as far as its sum demands: which of its workers will take the
    /// instance is not known here, and the cluster refuses what does not fit after all.
    #[must_use = "what was not reserved must not be placed"]
    pub fn reserve(&mut self, resources: &Resources) -> bool {
        let (free, largest) = (self.free(), self.largest());
        if !largest.covers(resources) {
            return false;
        }
        let left = free.minus(resources);
        self.free = Lanes::pack(&left);
        self.largest = Lanes::pack(&at_most(largest, left));
        self.set_instances(self.instances().saturating_add(1));
        true
    }

    /// Gives back what one instance had reserved. A cluster's largest worker stays: its next report tells.
    pub fn release(&mut self, resources: &Resources) {
        self.free = Lanes::pack(&self.free().plus(resources));
        if self.obstacles & Obstacles::ONE_WORKER != 0 {
            self.largest = self.free;
        }
        self.set_instances(self.instances().saturating_sub(1));
    }

    fn set_instances(&mut self, instances: u16) {
        Standing::set(&mut self.standing, Standing::INSTANCES_SHIFT, instances);
    }

    const fn set_obstacle(&mut self, obstacle: u64, stands: bool) {
        if stands {
            self.obstacles |= obstacle;
        } else {
            self.obstacles &= !obstacle;
        }
    }
}

impl fmt::Debug for Candidate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Candidate")
            .field("id", &self.id)
            .field("free", &self.free())
            .field("largest", &self.largest())
            .field("obstacles", &format_args!("{:#b}", self.obstacles))
            .field("siblings", &self.siblings())
            .field("instances", &self.instances())
            .field("load_permille", &self.load_permille())
            .finish()
    }
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
        assert_eq!((worker.free(), worker.largest()), (resources(400, 90), resources(400, 90)));
        worker.release(&resources(600, 10));
        assert_eq!(worker, before);
    }

    #[test]
    fn a_cluster_keeps_its_largest_worker_until_its_sum_is_smaller() {
        let mut cluster = Candidate::cluster(1, resources(2500, 100), resources(1000, 50));
        assert!(!cluster.reserve(&resources(1001, 0)));
        assert!(cluster.reserve(&resources(1000, 0)));
        assert_eq!(cluster.largest(), resources(1000, 50));
        assert!(cluster.reserve(&resources(1000, 0)));
        assert_eq!((cluster.free(), cluster.largest()), (resources(500, 100), resources(500, 50)));
        assert!(!cluster.reserve(&resources(1000, 0)));
    }

    #[test]
    fn no_worker_of_a_cluster_is_larger_than_the_cluster() {
        let cluster = Candidate::cluster(1, resources(10, 10), resources(20, 5));
        assert_eq!(cluster.largest(), resources(10, 5));
    }

    #[test]
    fn a_load_that_is_no_number_counts_as_full() {
        let worker = Candidate::worker(1, Resources::default());
        let loads = [f32::NAN, -1.0, 12.34, 400.0].map(|load| worker.with_load_percent(load).load_permille());
        assert_eq!(loads, [1000, 0, 123, 1000]);
    }
}

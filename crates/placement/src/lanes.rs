//! Four amounts in two machine words, compared all at once: what makes a decision about as fast as reading.
//!
//! Each amount has half a word and leaves room above it, so that one subtraction answers for both halves and no
//! half borrows from the other. The answer is one bit per amount. All four are in different places, so that the
//! answers of both words fit into one, with room for a small count at each:
//!
//! ```text
//!   word 0:  memory, 27 bits, answer in bit 59 │ processor time, 26 bits, answer in bit 26
//!   word 1:  gpus,   22 bits, answer in bit 54 │ storage,        31 bits, answer in bit 31
//! ```

use model::{Mebibytes, Millicores, Resources};

use crate::ResourceKind;

/// The four amounts of [`Resources`]; what exceeds [`most`] counts as that much.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Lanes(pub(crate) [u64; 2]);

impl Lanes {
    /// The answers of each word.
    pub(crate) const ANSWERS: [u64; 2] = [
        answer(ResourceKind::Cpu) | answer(ResourceKind::Memory),
        answer(ResourceKind::Storage) | answer(ResourceKind::Gpus),
    ];

    pub(crate) const fn pack(resources: &Resources) -> Self {
        let [cpu, memory] = [clipped(ResourceKind::Cpu, resources), clipped(ResourceKind::Memory, resources)];
        let [storage, gpus] =
            [clipped(ResourceKind::Storage, resources), clipped(ResourceKind::Gpus, resources)];
        Self([cpu | memory << 32, storage | gpus << 32])
    }

    pub(crate) const fn unpack(self) -> Resources {
        let [(cpu, memory), (storage, gpus)] = [split(self.0[0]), split(self.0[1])];
        Resources { cpu: Millicores(cpu), memory: Mebibytes(memory), storage: Mebibytes(storage), gpus }
    }

    /// Processor time and memory.
    pub(crate) const fn cpu_and_memory(self) -> (u32, u32) {
        split(self.0[0])
    }
}

/// A limit for each amount, prepared so that one subtraction per word tells which are below theirs.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits([u64; 2]);

impl Limits {
    pub(crate) fn pack(resources: &Resources) -> Self {
        let limit = |kind: ResourceKind| u64::from(kind.of(resources));
        Self([
            cpu_and_memory_limits(limit(ResourceKind::Cpu), limit(ResourceKind::Memory)),
            prepared(ResourceKind::Storage, limit(ResourceKind::Storage))
                | prepared(ResourceKind::Gpus, limit(ResourceKind::Gpus)) << 32,
        ])
    }

    /// The answer of each amount: set if it is below its limit. Noise in the other bits.
    #[inline(always)]
    pub(crate) const fn below(&self, lanes: &Lanes) -> [u64; 2] {
        [self.0[0] - lanes.0[0], self.0[1] - lanes.0[1]]
    }
}

/// The limits of the first word alone.
pub(crate) fn cpu_and_memory_limits(cpu: u64, memory: u64) -> u64 {
    prepared(ResourceKind::Cpu, cpu) | prepared(ResourceKind::Memory, memory) << 32
}

/// The most of a kind that counts: 67 thousand cores, 128 tebibytes of memory, two pebibytes of storage, four
/// million graphics processors.
pub(crate) const fn most(kind: ResourceKind) -> u32 {
    (1 << width(kind)) - 1
}

/// The bit that answers for an amount.
pub(crate) const fn answer(kind: ResourceKind) -> u64 {
    match kind {
        ResourceKind::Cpu | ResourceKind::Storage => 1 << width(kind),
        ResourceKind::Memory | ResourceKind::Gpus => 1 << (width(kind) + 32),
    }
}

const fn width(kind: ResourceKind) -> u32 {
    match kind {
        ResourceKind::Cpu => 26,
        ResourceKind::Storage => 31,
        ResourceKind::Gpus => 22,
        ResourceKind::Memory => 27,
    }
}

/// `limit + most - amount` reaches the answer if and only if the amount is below the limit, and is never negative.
/// A limit above the most is above every amount.
fn prepared(kind: ResourceKind, limit: u64) -> u64 {
    let most = u64::from(most(kind));
    limit.min(most + 1) + most
}

const fn clipped(kind: ResourceKind, resources: &Resources) -> u64 {
    let (amount, most) = (kind.of(resources), most(kind));
    if amount < most { amount as u64 } else { most as u64 }
}

#[expect(clippy::cast_possible_truncation, reason = "each half is what is asked for")]
const fn split(word: u64) -> (u32, u32) {
    (word as u32, (word >> 32) as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Around everything that could carry or borrow.
    fn edges(kind: ResourceKind) -> [u32; 7] {
        let most = most(kind);
        [0, 1, 2, most - 1, most, most + 1, u32::MAX]
    }

    #[test]
    fn an_amount_is_below_its_limit_whatever_its_neighbour_holds() {
        let of = |cpu: u32, memory: u32, storage: u32, gpus: u32| Resources {
            cpu: Millicores(cpu),
            memory: Mebibytes(memory),
            storage: Mebibytes(storage),
            gpus,
        };
        let each = |which: usize| {
            let [cpu, storage, gpus, memory] = ResourceKind::ALL.map(|kind| edges(kind)[which % 7]);
            let neighbour = (which / 7) % 7;
            let [_, _, other_gpus, other_memory] = ResourceKind::ALL.map(|kind| edges(kind)[neighbour]);
            [of(cpu, other_memory, storage, other_gpus), of(cpu, memory, storage, gpus)]
        };
        let all: Vec<Resources> = (0..49).flat_map(each).collect();
        for (amounts, limits) in
            all.iter().flat_map(|amounts| all.iter().map(move |limits| (amounts, limits)))
        {
            let lanes = Lanes::pack(amounts);
            let below = Limits::pack(limits).below(&lanes);
            let answers = below[0] & Lanes::ANSWERS[0] | below[1] & Lanes::ANSWERS[1];
            let held = lanes.unpack();
            let expected = ResourceKind::ALL.into_iter().filter(|kind| kind.of(&held) < kind.of(limits));
            assert_eq!(answers, expected.map(answer).sum::<u64>(), "{held:?} {limits:?}");
        }
    }
}

//! Quantities that carry their unit, and the counter truth is ordered by. Time is in `time.rs`.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Thousandths of a processor core.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Millicores(pub u32);

impl Millicores {
    /// Whole cores; more than about four million cores saturate.
    #[must_use]
    pub const fn from_cores(cores: u32) -> Self {
        Self(cores.saturating_mul(1000))
    }

    /// Whole cores, rounded down.
    #[must_use]
    pub const fn whole_cores(self) -> u32 {
        self.0 / 1000
    }
}

impl fmt::Display for Millicores {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_multiple_of(1000) {
            write!(f, "{}", self.0 / 1000)
        } else {
            write!(f, "{}", f64::from(self.0) / 1000.0)
        }
    }
}

/// 2²⁰ bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Mebibytes(pub u32);

impl Mebibytes {
    /// Bytes rounded down to whole mebibytes; more than four pebibytes saturate.
    #[must_use]
    pub fn from_bytes(bytes: u64) -> Self {
        Self(u32::try_from(bytes >> 20).unwrap_or(u32::MAX))
    }

    /// The amount in bytes.
    #[must_use]
    pub const fn bytes(self) -> u64 {
        (self.0 as u64) << 20
    }
}

impl fmt::Display for Mebibytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} MiB", self.0)
    }
}

/// What an instance reserves and what a worker has to give.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub struct Resources {
    /// Processor time.
    pub cpu: Millicores,
    /// Main memory.
    pub memory: Mebibytes,
    /// Disk space.
    pub storage: Mebibytes,
    /// Whole graphics processors.
    pub gpus: u32,
}

impl Resources {
    /// Whether every amount of `request` is available here.
    #[must_use]
    pub const fn covers(&self, request: &Self) -> bool {
        self.cpu.0 >= request.cpu.0
            && self.memory.0 >= request.memory.0
            && self.storage.0 >= request.storage.0
            && self.gpus >= request.gpus
    }

    /// The sum of both, saturating.
    #[must_use]
    pub const fn plus(&self, other: &Self) -> Self {
        Self {
            cpu: Millicores(self.cpu.0.saturating_add(other.cpu.0)),
            memory: Mebibytes(self.memory.0.saturating_add(other.memory.0)),
            storage: Mebibytes(self.storage.0.saturating_add(other.storage.0)),
            gpus: self.gpus.saturating_add(other.gpus),
        }
    }

    /// What is left after taking `other` away; never below zero.
    #[must_use]
    pub const fn minus(&self, other: &Self) -> Self {
        Self {
            cpu: Millicores(self.cpu.0.saturating_sub(other.cpu.0)),
            memory: Mebibytes(self.memory.0.saturating_sub(other.memory.0)),
            storage: Mebibytes(self.storage.0.saturating_sub(other.storage.0)),
            gpus: self.gpus.saturating_sub(other.gpus),
        }
    }

    /// The larger of both, amount by amount.
    #[must_use]
    pub fn max(&self, other: &Self) -> Self {
        Self {
            cpu: self.cpu.max(other.cpu),
            memory: self.memory.max(other.memory),
            storage: self.storage.max(other.storage),
            gpus: self.gpus.max(other.gpus),
        }
    }
}

/// Orders whole states of one subject: a receiver refuses anything older than what it has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Generation(pub u64);

impl Generation {
    /// Bits of an instance's generation that its cluster counts in; those above are the root's.
    const CLUSTER_BITS: u32 = 32;

    /// The generation after this one. For an instance: its cluster gave it to another worker.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }

    /// For an instance: the root gave it to another cluster. Greater than whatever the cluster before has counted to.
    #[must_use]
    pub const fn next_cluster(self) -> Self {
        Self(((self.0 >> Self::CLUSTER_BITS) + 1) << Self::CLUSTER_BITS)
    }

    /// For an instance: whether both are from the same decision of the root, whichever workers had it since.
    #[must_use]
    pub const fn same_cluster(self, other: Self) -> bool {
        self.0 >> Self::CLUSTER_BITS == other.0 >> Self::CLUSTER_BITS
    }
}

impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

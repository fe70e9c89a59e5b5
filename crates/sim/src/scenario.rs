//! What a simulation is given: its seed, its size, the faults it may draw and the deliberate mistake, if any.

use std::{collections::BTreeSet, fmt};

use crate::{invariants::Invariant, mutants::Mutant, queue::Millis, rng::Rng};

/// Everything a simulation follows from. The same scenario gives the same trace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scenario {
    /// Where all chance comes from.
    pub seed: u64,
    /// Worker devices, spread evenly over the clusters.
    pub workers: u32,
    /// Clusters.
    pub clusters: u32,
    /// Virtual minutes of load and faults; a quiet time follows in which everything must come to rest.
    pub minutes: u32,
    /// Instances wanted at most at one time.
    pub instances: u32,
    /// Virtual milliseconds in which time passes. With more than one, what happens at one moment happens cluster by
    /// cluster, and every delay is a multiple of it.
    pub step: u32,
    /// Applications belong to places, as those of many sites do: most to one, many to a region of ten, and some to none.
    /// Without, every application may be anywhere.
    pub places: bool,
    /// What may go wrong.
    pub faults: BTreeSet<Fault>,
    /// What is not judged, to see what else there is.
    pub ignored: BTreeSet<Invariant>,
    /// A deliberate mistake that some invariant must catch.
    pub mutant: Option<Mutant>,
}

/// One kind of thing that goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// Messages that never arrive, although their connection holds.
    Loss,
    /// Messages that arrive twice.
    Duplication,
    /// Two in a hundred messages take up to thirty seconds and are overtaken.
    Tails,
    /// Connections that break while both ends live.
    Resets,
    /// Workers cut off from their cluster.
    WorkerCut,
    /// Clusters cut off from the root.
    ClusterCut,
    /// Cuts of one direction only.
    OneWay,
    /// Outages too short to count.
    Blips,
    /// The root ends and starts again, also between commit and effects.
    RootCrash,
    /// A cluster orchestrator ends and starts again.
    ClusterCrash,
    /// A NodeEngine ends and starts again; its containers go on.
    NodeCrash,
    /// A device loses power and boots later, perhaps cut off.
    PowerCut,
    /// A whole site loses power.
    SiteLoss,
    /// Engines refuse, take long, or leave it open whether they did what they were asked.
    EngineTrouble,
    /// Containers end by themselves.
    Exits,
    /// Images have to be fetched, which takes long or fails.
    Pulls,
    /// Clocks are set an hour forth or back.
    ClockJumps,
    /// Reports about what is not theirs, assignments nobody made.
    Garbage,
    /// People cordon, drain and rebalance.
    Upkeep,
}

impl Fault {
    /// Every kind.
    pub const ALL: [Self; 19] = [
        Self::Loss,
        Self::Duplication,
        Self::Tails,
        Self::Resets,
        Self::WorkerCut,
        Self::ClusterCut,
        Self::OneWay,
        Self::Blips,
        Self::RootCrash,
        Self::ClusterCrash,
        Self::NodeCrash,
        Self::PowerCut,
        Self::SiteLoss,
        Self::EngineTrouble,
        Self::Exits,
        Self::Pulls,
        Self::ClockJumps,
        Self::Garbage,
        Self::Upkeep,
    ];

    /// Its name on the command line.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Loss => "loss",
            Self::Duplication => "duplication",
            Self::Tails => "tails",
            Self::Resets => "resets",
            Self::WorkerCut => "worker-cut",
            Self::ClusterCut => "cluster-cut",
            Self::OneWay => "one-way",
            Self::Blips => "blips",
            Self::RootCrash => "root-crash",
            Self::ClusterCrash => "cluster-crash",
            Self::NodeCrash => "node-crash",
            Self::PowerCut => "power-cut",
            Self::SiteLoss => "site-loss",
            Self::EngineTrouble => "engine-trouble",
            Self::Exits => "exits",
            Self::Pulls => "pulls",
            Self::ClockJumps => "clock-jumps",
            Self::Garbage => "garbage",
            Self::Upkeep => "upkeep",
        }
    }

    /// The kind of that name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|fault| fault.as_str() == name)
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Scenario {
    /// Twenty workers in three clusters: rare interleavings at a small price. Each seed leaves out some kinds of
    /// faults, as those that happen often hide what the others do.
    #[must_use]
    pub fn small(seed: u64) -> Self {
        let mut chance = Rng::new(!seed);
        let faults = Fault::ALL.into_iter().filter(|_| chance.per_mille(750)).collect();
        Self {
            seed,
            workers: 20,
            clusters: 3,
            minutes: 6,
            instances: 30,
            step: 1,
            places: false,
            faults,
            ignored: BTreeSet::new(),
            mutant: None,
        }
    }

    /// A thousand workers in ten clusters: what only shows in numbers.
    #[must_use]
    pub fn large(seed: u64) -> Self {
        Self { workers: 1000, clusters: 10, minutes: 2, instances: 120, ..Self::small(seed) }
    }

    /// Whether that kind of fault happens.
    pub(crate) fn has(&self, fault: Fault) -> bool {
        self.faults.contains(&fault)
    }

    /// Workers are so small that not everything finds room: what is refused for want of it is right.
    pub(crate) const fn is_tight(&self) -> bool {
        self.seed.is_multiple_of(4)
    }

    /// When load and faults end.
    pub(crate) fn quiet_from(&self) -> Millis {
        Millis::from(self.minutes) * 60_000
    }

    /// The command that runs it again with its log.
    #[must_use]
    pub fn command(&self) -> String {
        let Self { seed, workers, clusters, minutes, instances, step, .. } = self;
        let mut command = format!(
            "cargo xtask sim --seed {seed} --workers {workers} --clusters {clusters} --minutes {minutes} \
             --instances {instances}"
        );
        if *step > 1 {
            command.push_str(&format!(" --step {step}"));
        }
        if self.places {
            command.push_str(" --places");
        }
        for fault in Self::small(*seed).faults.difference(&self.faults) {
            command.push_str(&format!(" --without {fault}"));
        }
        for invariant in &self.ignored {
            command.push_str(&format!(" --ignore {invariant}"));
        }
        if let Some(mutant) = self.mutant {
            command.push_str(&format!(" --mutant {}", mutant.name()));
        }
        command
    }
}

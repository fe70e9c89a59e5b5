//! What is to happen to runs of tasks, and how it went.

use crate::stats::Times;

/// What is to happen. Everything follows from it.
#[derive(Debug, Clone)]
pub struct Runs {
    /// All chance.
    pub seed: u64,
    /// Runs that users ask for.
    pub runs: u64,
    /// Clusters that their tasks are placed on.
    pub clusters: u32,
    /// How often the root ends.
    pub ends: u32,
    /// A deliberate mistake.
    pub mistake: Option<RunsMistake>,
    /// Whether the root is timed; that costs a look at the clock for each turn.
    pub timed: bool,
}

/// Deliberate mistakes in what is around the brain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RunsMistake {
    /// Of the commit in which the root ends a part is written.
    TearCommits,
    /// Some commits are not written.
    ForgetCommits,
    /// A cluster that is told of an instance again sometimes starts it again.
    StartAgain,
}

/// How it went.
#[derive(Debug, Clone, Default)]
pub struct RunsOutcome {
    /// Runs in progress when the root ended for the first time.
    pub in_progress: u64,
    /// Runs there were in all: those nobody had an answer for were fired again.
    pub runs: u64,
    /// Starts of containers.
    pub starts: u64,
    /// Virtual milliseconds until all runs were over.
    pub took: u64,
    /// Turns of the root.
    pub turns: u64,
    /// How long the root took to take in and decide, if it is timed.
    pub root: Times,
    /// What is wrong: nothing, or the first of it.
    pub wrong: Vec<String>,
}

impl Runs {
    /// So many runs on twenty clusters, and one end of the root.
    #[must_use]
    pub const fn new(seed: u64, runs: u64) -> Self {
        Self { seed, runs, clusters: 20, ends: 1, mistake: None, timed: false }
    }
}

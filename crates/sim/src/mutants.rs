//! Deliberate mistakes, each of which some invariant must catch. All are made in the simulated shells and stores,
//! around the brains, not in them.

/// One deliberate mistake.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mutant {
    /// Workers confirm removals and stop nothing.
    NeverStop,
    /// A parent sends each assignment of a generation once, lost or not.
    SendOnce,
    /// A restarted cluster has forgotten what must go.
    ForgetTombstones,
    /// Effects go out before the commit, and a crash falls in between.
    EffectsBeforeCommit,
    /// One commit in many is not written.
    IgnoreCommit,
    /// Users are answered before the commit.
    AnswerBeforeCommit,
    /// A worker takes on old assignments as if they were new.
    ForceOldAssignments,
    /// Messages of old connections count as if they came over the newest.
    StaleSessions,
    /// Setting the date moves the steady time.
    ClockMovesMoment,
    /// An engine that is asked once sometimes makes two containers.
    DoubleStart,
    /// Tombstones are left out of what workers are told.
    NoTombstones,
    /// Some assignments arrive without one of their instances, and what they do not name is removed.
    AbsenceRemoves,
    /// Workers give no sign of life unless something changes.
    NoBeats,
    /// A NodeEngine that starts stops what it finds.
    AdoptNot,
    /// A worker forgets its assignment when the power fails.
    ForgetAssignment,
    /// A worker that loses its cluster stops everything.
    StopWhenCut,
    /// A restarted cluster has forgotten who has which subnet.
    ForgetSubnets,
    /// A cluster believes workers to be twice as large as they are.
    OversizedWorkers,
    /// A cluster answers whether a worker is cut off before it has told it everything.
    EchoAtOnce,
    /// A cluster tells each neighbour everything once, whatever connections there are after.
    NeighboursToldOnce,
    /// The root does not say whom services of other clusters let connect.
    HideCallers,
    /// Workers report once per connection.
    ReportOnce,
    /// Chance comes from outside the seed.
    OutsideChance,
}

impl Mutant {
    /// Every one.
    pub const ALL: [Self; 23] = [
        Self::NeverStop,
        Self::SendOnce,
        Self::ForgetTombstones,
        Self::EffectsBeforeCommit,
        Self::IgnoreCommit,
        Self::AnswerBeforeCommit,
        Self::ForceOldAssignments,
        Self::StaleSessions,
        Self::ClockMovesMoment,
        Self::DoubleStart,
        Self::NoTombstones,
        Self::AbsenceRemoves,
        Self::NoBeats,
        Self::AdoptNot,
        Self::ForgetAssignment,
        Self::StopWhenCut,
        Self::ForgetSubnets,
        Self::OversizedWorkers,
        Self::EchoAtOnce,
        Self::NeighboursToldOnce,
        Self::HideCallers,
        Self::ReportOnce,
        Self::OutsideChance,
    ];

    /// Its name on the command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::NeverStop => "never-stop",
            Self::SendOnce => "send-once",
            Self::ForgetTombstones => "forget-tombstones",
            Self::EffectsBeforeCommit => "effects-before-commit",
            Self::IgnoreCommit => "ignore-commit",
            Self::AnswerBeforeCommit => "answer-before-commit",
            Self::ForceOldAssignments => "force-old-assignments",
            Self::StaleSessions => "stale-sessions",
            Self::ClockMovesMoment => "clock-moves-moment",
            Self::DoubleStart => "double-start",
            Self::NoTombstones => "no-tombstones",
            Self::AbsenceRemoves => "absence-removes",
            Self::NoBeats => "no-beats",
            Self::AdoptNot => "adopt-not",
            Self::ForgetAssignment => "forget-assignment",
            Self::StopWhenCut => "stop-when-cut",
            Self::ForgetSubnets => "forget-subnets",
            Self::OversizedWorkers => "oversized-workers",
            Self::EchoAtOnce => "echo-at-once",
            Self::NeighboursToldOnce => "neighbours-told-once",
            Self::HideCallers => "hide-callers",
            Self::ReportOnce => "report-once",
            Self::OutsideChance => "outside-chance",
        }
    }

    /// The one of that name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|mutant| mutant.name() == name)
    }
}

//! How far back a store remembers.

use crate::Change;

/// How much of the change log is kept, at least: whole commits that are older are dropped now and then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct History {
    /// How many changes: a watcher may be away for that many before it must list again.
    pub changes: u64,
    /// How many bytes of documents they hold.
    pub bytes: u64,
}

impl History {
    /// For stores that are watched. Less than what the documents of a large system take themselves.
    pub const USUAL: Self = Self { changes: 20_000, bytes: 64 << 20 };
    /// For stores that nobody watches: no log is written, which saves writing each document twice.
    pub const NONE: Self = Self { changes: 0, bytes: 0 };

    /// Whether there is a log.
    pub(crate) fn is_kept(self) -> bool {
        self != Self::NONE
    }

    /// Whether so much is worth dropping something: a tenth more than is to be kept, so that it happens rarely.
    pub(crate) fn is_exceeded(self, kept: Size) -> bool {
        kept.changes > self.changes + self.changes / 10 || kept.bytes > self.bytes + self.bytes / 10
    }

    /// Whether so much at the new end of the log, without what is older, is enough.
    pub(crate) fn suffices(self, kept: Size) -> bool {
        kept.changes >= self.changes || kept.bytes >= self.bytes
    }
}

/// The size of a part of the log, or of all that was ever written to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Size {
    pub(crate) changes: u64,
    pub(crate) bytes: u64,
}

impl Size {
    /// With what a change adds.
    #[must_use]
    pub(crate) fn with(self, change: &Change) -> Self {
        let before = change.before.as_ref().map_or(0, |version| version.value.len());
        let bytes = before + change.value.as_ref().map_or(0, Vec::len);
        Self { changes: self.changes + 1, bytes: self.bytes + bytes as u64 }
    }

    /// What is between an earlier total and this.
    #[must_use]
    pub(crate) fn since(self, earlier: Self) -> Self {
        Self {
            changes: self.changes.saturating_sub(earlier.changes),
            bytes: self.bytes.saturating_sub(earlier.bytes),
        }
    }
}

/// Of changes in order the commits that make up at most `limit`, but at least one. The last commit given is whole.
pub(crate) fn whole_commits(mut changes: Vec<Change>, limit: usize) -> Vec<Change> {
    let mut kept = 0;
    for commit in changes.chunk_by(|one, next| one.revision == next.revision) {
        if kept > 0 && kept + commit.len() > limit {
            break;
        }
        kept += commit.len();
    }
    changes.truncate(kept);
    changes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_is_too_long_by_its_changes_or_by_their_bytes() {
        let history = History { changes: 100, bytes: 1000 };
        let exceeded = |changes, bytes| history.is_exceeded(Size { changes, bytes });
        assert_eq!([exceeded(110, 1100), exceeded(111, 0), exceeded(0, 1101)], [false, true, true]);
        let suffices = |changes, bytes| history.suffices(Size { changes, bytes });
        assert_eq!([suffices(99, 999), suffices(100, 0), suffices(0, 1000)], [false, true, true]);
    }
}

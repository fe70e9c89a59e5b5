//! What can go wrong with a store, and what to do about it.

use crate::Revision;

/// What can go wrong.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// A write did not find what it expected; nothing of its commit was written.
    #[error("{collection}/{key} was changed by someone else; read it again and repeat")]
    Conflict {
        /// Which kind.
        collection: String,
        /// Which document.
        key: String,
    },
    /// The changes asked for are older than the log goes back.
    #[error("changes after revision {} are no longer kept; the oldest is {}; list again", asked.0, oldest.0)]
    Compacted {
        /// Asked for.
        asked: Revision,
        /// The oldest revision that can be resumed from.
        oldest: Revision,
    },
    /// The revision asked for has not been committed.
    #[error("there is no revision {} yet; the newest is {}; ask for that, or wait", asked.0, newest.0)]
    Ahead {
        /// Asked for.
        asked: Revision,
        /// The newest there is.
        newest: Revision,
    },
    /// A stored document cannot be understood.
    #[error("stored document {collection}/{key} cannot be read")]
    Corrupt {
        /// Which kind.
        collection: String,
        /// Which document.
        key: String,
        /// Why.
        source: serde_json::Error,
    },
    /// Another writer opened this store; nothing of the commit was written.
    #[error(
        "another process has taken this store over, so this one may not write to it any more; let only one run"
    )]
    TakenOver,
    /// Another writer has this store and is alive.
    #[error(
        "the store is in use by {holder}; stop that one, or wait some seconds if it has just ended, and start this \
         again; or give another database"
    )]
    InUse {
        /// Who says it has it.
        holder: String,
    },
    /// A document is larger than the backend takes; nothing of the commit was written.
    #[error("{collection}/{key} has {bytes} bytes, and this store takes {limit} at most; make it smaller")]
    TooLarge {
        /// Which kind.
        collection: String,
        /// Which document.
        key: String,
        /// How large it is.
        bytes: usize,
        /// How large it may be.
        limit: usize,
    },
    /// What was given as the place of the store is none.
    #[error("the place of the store cannot be used: {0}")]
    Place(String),
    /// The store was made by a version that writes otherwise.
    #[error(
        "the store is of format {found}, and this version knows {known}; start the version that wrote it"
    )]
    Format {
        /// What the store says.
        found: i64,
        /// What is understood here.
        known: i64,
    },
    /// The backend did not answer in time, or not at all; whether the commit was written is not known.
    #[error("the store at {place} cannot be reached; check that it runs and that this machine reaches it")]
    Unreachable {
        /// Where it should be, without what it is entered with.
        place: String,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The backend failed; whether the commit was written is not known.
    #[error("the store failed")]
    Backend(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl StoreError {
    /// The same to tell several who wait for one outcome.
    pub(crate) fn again(&self) -> Self {
        match self {
            Self::TakenOver => Self::TakenOver,
            Self::Unreachable { place, source } => {
                Self::Unreachable { place: place.clone(), source: source.to_string().into() }
            }
            Self::TooLarge { collection, key, bytes, limit } => Self::TooLarge {
                collection: collection.clone(),
                key: key.clone(),
                bytes: *bytes,
                limit: *limit,
            },
            Self::Backend(source) => Self::Backend(daemon::chain(source.as_ref()).to_string().into()),
            Self::Conflict { .. }
            | Self::Compacted { .. }
            | Self::Ahead { .. }
            | Self::Corrupt { .. }
            | Self::InUse { .. }
            | Self::Place(_)
            | Self::Format { .. } => Self::Backend(self.to_string().into()),
        }
    }
}

//! When the keys of an identity provider are fetched again: it changes them without notice, and whoever sends tokens of
//! unknown keys must not be able to make us ask it all the time.

use model::Moment;

/// Keys are believed for so long: one that the provider has withdrawn counts no longer than that.
pub const KEYS_LAST_MILLIS: u64 = 600_000;
/// Between two fetches, whatever is sent.
pub const FETCH_AGAIN_MILLIS: u64 = 10_000;

/// When the keys were fetched, and when that was last tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct KeysAge {
    fetched: Option<Moment>,
    tried: Option<Moment>,
}

impl KeysAge {
    /// Whether to fetch them before they are used: there are none, or too old ones, or not the one that is needed; and
    /// that was not tried just now.
    #[must_use]
    pub fn must_fetch(&self, has_needed_key: bool, now: Moment) -> bool {
        let is_rested = self.tried.is_none_or(|tried| now.millis_since(tried) >= FETCH_AGAIN_MILLIS);
        is_rested && !(has_needed_key && self.are_good(now))
    }

    /// Whether those that were fetched are still believed.
    #[must_use]
    pub fn are_good(&self, now: Moment) -> bool {
        self.fetched.is_some_and(|fetched| now.millis_since(fetched) < KEYS_LAST_MILLIS)
    }

    /// They are being fetched.
    pub const fn trying(&mut self, now: Moment) {
        self.tried = Some(now);
    }

    /// They were fetched.
    pub const fn fetched(&mut self, now: Moment) {
        self.fetched = Some(now);
    }
}

//! The one place that reads the wall clock; everything else takes a `Timestamp`.

use std::time::{SystemTime, UNIX_EPOCH};

use model::Timestamp;

/// Now, by the system's clock. A clock before 1970 reads as 1970.
#[must_use]
pub fn now() -> Timestamp {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp(u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX))
}

//! The one place that reads the clocks; everything else takes a `Timestamp` or a `Now`.

use std::{
    sync::LazyLock,
    time::{Instant, SystemTime, UNIX_EPOCH},
};

use model::{Moment, Now, Timestamp};

/// Steady time begins here. Far enough from zero that a moment before the start can be named.
const FIRST_MOMENT: u64 = 3_600_000;

/// Now, by the system's clock. A clock before 1970 reads as 1970.
#[must_use]
pub fn now() -> Timestamp {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp(u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX))
}

/// Now, by the system's clock and by the steady one that nobody sets.
#[must_use]
pub fn present() -> Now {
    Now { date: now(), moment: moment_of(Instant::now()) }
}

/// When a moment will be, for timers.
#[must_use]
pub fn instant_of(moment: Moment) -> Instant {
    *START + std::time::Duration::from_millis(moment.0.saturating_sub(FIRST_MOMENT))
}

static START: LazyLock<Instant> = LazyLock::new(Instant::now);

fn moment_of(instant: Instant) -> Moment {
    let since_start =
        u64::try_from(instant.saturating_duration_since(*START).as_millis()).unwrap_or(u64::MAX);
    Moment(since_start.saturating_add(FIRST_MOMENT))
}

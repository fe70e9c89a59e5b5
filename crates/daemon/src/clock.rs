//! The one place that reads the clocks; everything else takes a `Timestamp` or a `Now`.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use model::{Moment, Now, Timestamp};
use rustix::time::{ClockId, clock_gettime};

/// Steady time begins here when the device boots. Far enough from zero that a moment before that can be named.
const FIRST_MOMENT: u64 = 3_600_000;

/// Now, by the system's clock. A clock before 1970 reads as 1970.
#[must_use]
pub fn now() -> Timestamp {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp(u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX))
}

/// Now, by the system's clock and by the steady one, which nobody sets and which goes on while a device sleeps: to
/// those who wait for a sleeping device, that time passes too.
#[must_use]
pub fn present() -> Now {
    Now { date: now(), moment: moment() }
}

/// A timer that is further away rings early and is set again.
const LONGEST_TIMER: u64 = 86_400_000;

/// When a moment will be, for timers; now, if it has passed; in a day, if it is further away.
#[must_use]
pub fn instant_of(at: Moment) -> Instant {
    Instant::now() + Duration::from_millis(at.millis_since(moment()).min(LONGEST_TIMER))
}

fn moment() -> Moment {
    let since_boot = clock_gettime(ClockId::Boottime);
    let seconds = u64::try_from(since_boot.tv_sec).unwrap_or(0);
    let nanos = u64::try_from(since_boot.tv_nsec).unwrap_or(0);
    Moment(seconds.saturating_mul(1000).saturating_add(nanos / 1_000_000).saturating_add(FIRST_MOMENT))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timer_for_a_moment_rings_when_it_has_come() {
        let at = present().moment.plus_millis(30);
        std::thread::sleep(instant_of(at).saturating_duration_since(Instant::now()));
        // Milliseconds are cut off on both sides.
        assert!(present().moment.plus_millis(1) >= at);
        assert!(instant_of(Moment(0)) <= Instant::now());
        assert!(instant_of(Moment(u64::MAX)) > Instant::now());
    }
}

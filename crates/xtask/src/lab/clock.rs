//! The time of day as the daemons' logs tell it, so that what was done to a lab is found there.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// `HH:MM:SS.mmmZ`, in UTC.
pub(crate) fn now() -> String {
    // A clock before 1970 is wrong in any case.
    written(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default())
}

fn written(since_1970: Duration) -> String {
    let seconds = since_1970.as_secs();
    let (hours, minutes) = (seconds / 3600 % 24, seconds / 60 % 60);
    format!("{hours:02}:{minutes:02}:{:02}.{:03}Z", seconds % 60, since_1970.subsec_millis())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_written_in_utc_with_milliseconds() {
        assert_eq!(written(Duration::from_millis(1_763_727_280_123)), "12:14:40.123Z");
    }
}

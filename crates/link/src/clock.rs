//! What time it is where certificates are judged. A device without a clock chip begins in 1970, or where it was switched
//! off; it must neither be locked out for that nor believe what ended long ago. So the time is never before that of the
//! build, nor before the issue of any certificate of a parent that was found to be good. Clocks that are wrong the other
//! way leave no trace: only what certificates vouch for is kept.

use std::{
    io,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use daemon::StateDirectory;
use model::Timestamp;
use rustls::{pki_types::UnixTime, time_provider::TimeProvider};

const FILE: &str = "clock";
/// Seconds since 1970, set by `build.rs`.
const BUILT_AT: &str = env!("MANGROVE_BUILT_AT");

/// The present where no certificate is known yet: not before that of the build.
#[must_use]
pub fn present_since_build() -> Timestamp {
    Clock::default().now()
}

/// See the module's description.
#[derive(Debug)]
pub(crate) struct Clock(Mutex<Floor>);

#[derive(Debug)]
struct Floor {
    /// It was not earlier than this, at that moment.
    at: Timestamp,
    since: Instant,
    /// The latest time a certificate vouched for.
    vouched: Timestamp,
    /// What of that is in the state directory.
    kept: Timestamp,
}

impl Default for Clock {
    /// One that knows of no certificate.
    fn default() -> Self {
        Self::beginning_at(Timestamp(0))
    }
}

impl Clock {
    fn beginning_at(vouched: Timestamp) -> Self {
        let built = BUILT_AT.parse::<u64>().map_or(Timestamp(0), |seconds| Timestamp(seconds * 1000));
        Self(Mutex::new(Floor { at: built.max(vouched), since: Instant::now(), vouched, kept: vouched }))
    }

    /// Goes on from what the state directory holds. What cannot be understood there is as good as nothing.
    ///
    /// # Errors
    /// When the file is there and cannot be read.
    pub(crate) fn open(directory: &StateDirectory) -> io::Result<Self> {
        let kept = directory.read_file(FILE)?.and_then(|text| String::from_utf8(text).ok());
        let millis = kept.and_then(|text| text.trim().parse().ok());
        Ok(Self::beginning_at(Timestamp(millis.unwrap_or(0))))
    }

    /// The present, where certificates are judged or issued.
    pub(crate) fn now(&self) -> Timestamp {
        self.not_before_floor(daemon::now(), Instant::now())
    }

    fn not_before_floor(&self, date: Timestamp, moment: Instant) -> Timestamp {
        let floor = self.floor();
        let passed = moment.saturating_duration_since(floor.since);
        date.max(floor.at.plus_millis(u64::try_from(passed.as_millis()).unwrap_or(u64::MAX)))
    }

    /// A certificate that was found to be good was issued at that time.
    pub(crate) fn vouched(&self, issued: Timestamp) {
        let before = self.now();
        let mut floor = self.floor();
        floor.vouched = floor.vouched.max(issued);
        if issued > before {
            (floor.at, floor.since) = (issued, Instant::now());
        }
    }

    /// Keeps what certificates vouched for since it was last kept.
    ///
    /// # Errors
    /// When the file system refuses.
    pub(crate) fn keep(&self, directory: &StateDirectory) -> io::Result<()> {
        let vouched = {
            let floor = self.floor();
            if floor.vouched <= floor.kept {
                return Ok(());
            }
            floor.vouched
        };
        directory.replace_file(FILE, vouched.0.to_string().as_bytes())?;
        self.floor().kept = vouched;
        Ok(())
    }

    fn floor(&self) -> MutexGuard<'_, Floor> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl TimeProvider for Clock {
    fn current_time(&self) -> Option<UnixTime> {
        Some(unix_time(self.now()))
    }
}

/// The same as `rustls` takes it, to the second.
pub(crate) fn unix_time(at: Timestamp) -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_millis(at.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: u64 = 86_400_000;

    fn directory() -> (tempfile::TempDir, StateDirectory) {
        let parent = tempfile::tempdir().expect("a directory");
        let directory = StateDirectory::open(parent.path()).expect("usable");
        (parent, directory)
    }

    #[test]
    fn a_clock_that_begins_in_1970_shows_the_time_of_the_build_and_goes_on_from_there() {
        let clock = Clock::default();
        let (built, since) = {
            let floor = clock.floor();
            (floor.at, floor.since)
        };
        assert!(built.0 > 50 * 365 * DAY, "{built:?}");
        assert_eq!(clock.not_before_floor(Timestamp(5), since), built);
        let later = since + Duration::from_secs(3);
        assert_eq!(clock.not_before_floor(Timestamp(3005), later), built.plus_millis(3000));
        let right = built.plus_millis(DAY);
        assert_eq!(clock.not_before_floor(right, later), right, "one that is right is believed");
    }

    #[test]
    fn what_a_certificate_vouched_for_holds_after_a_restart_and_what_the_clock_showed_does_not() {
        let (_parent, directory) = directory();
        let clock = Clock::open(&directory).expect("readable");
        clock.keep(&directory).expect("writable");
        assert_eq!(directory.read_file(FILE).expect("readable"), None, "nobody has vouched for anything");
        let vouched = daemon::now().plus_millis(DAY);
        clock.vouched(vouched);
        assert!(clock.now() >= vouched);
        clock.vouched(Timestamp(7));
        clock.keep(&directory).expect("writable");
        assert!(Clock::open(&directory).expect("readable").now() >= vouched);
        directory.replace_file(FILE, b"noon").expect("writable");
        assert!(Clock::open(&directory).expect("readable").now() < vouched);
    }
}

//! How fast beats are and how long silence may last.

/// Between two beats, if nobody says otherwise. Then a cut is known within three seconds.
pub const USUAL_INTERVAL_MILLIS: u64 = 800;
/// The fastest and the slowest beats that may be asked for.
pub const INTERVAL_MILLIS: std::ops::RangeInclusive<u64> = 400..=60_000;

/// The bounds a [`Detector`](crate::Detector) keeps to. All in milliseconds, each with its reason at
/// [`Settings::every`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// Between two beats on a link that loses nothing.
    pub interval_millis: u64,
    /// Between two beats at most, while little is known of a link or much is lost on it.
    pub shortest_interval_millis: u64,
    /// The silence after which a child on a clean link is lost.
    pub threshold_millis: u64,
    /// Up to this threshold, loss is answered with patience alone; beyond it with faster beats, which cost traffic.
    pub patient_threshold_millis: u64,
    /// The silence after which any child is lost, whatever its link is like.
    pub longest_threshold_millis: u64,
}

impl Settings {
    /// With so many milliseconds between two beats, within [`INTERVAL_MILLIS`].
    #[must_use]
    pub fn every(interval_millis: u64) -> Self {
        let interval_millis = interval_millis.clamp(*INTERVAL_MILLIS.start(), *INTERVAL_MILLIS.end());
        let shortest_interval_millis = interval_millis / 2;
        // An outage of 1.5 s that begins just before a beat, and 200 ms for the beat that comes after it.
        let threshold_millis = interval_millis + 1700;
        Self {
            interval_millis,
            shortest_interval_millis,
            threshold_millis,
            // Traffic may cost money; twice the usual is soon enough on a link that loses beats anyway.
            patient_threshold_millis: 2 * threshold_millis,
            // Twenty-two beats in a row within it, and as much to spare as one can be late: at a loss of 38 % that is one
            // in 10⁹.
            longest_threshold_millis: 22 * shortest_interval_millis + 700,
        }
    }
}

impl Default for Settings {
    /// A cut is known within three seconds, on every link within ten.
    fn default() -> Self {
        Self::every(USUAL_INTERVAL_MILLIS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_times_follow_from_the_interval() {
        let usual = Settings {
            interval_millis: 800,
            shortest_interval_millis: 400,
            threshold_millis: 2500,
            patient_threshold_millis: 5000,
            longest_threshold_millis: 9500,
        };
        assert_eq!(Settings::default(), usual);
        let slower = Settings {
            interval_millis: 2000,
            shortest_interval_millis: 1000,
            threshold_millis: 3700,
            patient_threshold_millis: 7400,
            longest_threshold_millis: 22_700,
        };
        assert_eq!(Settings::every(2000), slower);
        assert_eq!(Settings::every(0).interval_millis, 400);
        assert_eq!(Settings::every(u64::MAX).interval_millis, 60_000);
    }
}

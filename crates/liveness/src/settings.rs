//! How fast beats are and how long silence may last.

/// The bounds a [`Detector`](crate::Detector) keeps to. All in milliseconds, each with its reason at
/// [`Settings::default`].
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

impl Default for Settings {
    fn default() -> Self {
        Self {
            // An outage of 1.5 s that begins just before a beat ends before the beat after the next: 2.4 s of silence,
            // still below the threshold. At one second it would be three.
            interval_millis: 800,
            // Twenty-two beats in a row within the longest threshold: at a loss of 38 % that is one in 10⁹.
            shortest_interval_millis: 400,
            // A cut is to be known within three seconds, and what follows from it takes some of them.
            threshold_millis: 2500,
            // Traffic may cost money; five seconds are soon enough on a link that loses beats anyway.
            patient_threshold_millis: 5000,
            // A cut is to be known within ten seconds on every link.
            longest_threshold_millis: 9500,
        }
    }
}

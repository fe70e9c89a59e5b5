//! One child of one session. See [`Detector`].

use model::Moment;

use crate::{Arrival, Settings, Window};

/// So many beats in a row must be lost that it happens by chance once in 10⁹: in ten minutes there are fewer than two
/// thousand beats, so one link in a million of those is wrongly lost.
const CHANCE: u64 = 1_000_000_000;
/// What a beat may need beyond its interval on a link that is otherwise in time.
const SLACK_MILLIS: u64 = 500;
/// The interval is told in steps, so that an estimate that wavers is not told with every beat.
const STEP_MILLIS: u64 = 100;
/// How long a new interval may take to reach the child: the stream that carries it crosses the same bad link.
const TELLING_MILLIS: u64 = 5000;
/// Slower beats are asked for this long after the last change at the earliest. A session begins with fast ones, so a
/// lossy link is known after twenty-five beats.
const SETTLING_MILLIS: u64 = 10_000;
/// A beat is missed when it is later than this, or than beats usually are.
const DOUBT_MILLIS: u64 = 200;
/// Asks before a child is lost: at a loss of 30 % both ways, none is answered once in 10⁷.
const ASKS: u64 = 24;
/// Between two asks at least; the answers of a second are then 20.
const SHORTEST_ASK_MILLIS: u64 = 50;
/// Between two requests for a report: an answer over the stream takes longer than one to an ask.
const REPORT_ASK_MILLIS: u64 = 1000;
/// Lateness fades by this part with each beat: to a third within 70 beats, a minute.
const FADING: u64 = 64;

/// What is believed of a child.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It was heard of recently enough.
    Alive,
    /// It was not.
    Lost {
        /// The last sign of life.
        since: Moment,
    },
}

/// Decides whether one child is alive, for one session: whoever starts numbering anew gets a new detector.
///
/// * **Threshold.** The silence that is borne. On a clean link it is [`Settings::threshold_millis`]. Where a share `p`
///   of the beats is lost, it is so long that `n` beats in a row must be lost, with `pⁿ ≤ 10⁻⁹`; where beats come late,
///   it is at least twice the lateness; it is never above [`Settings::longest_threshold_millis`].
/// * **Interval.** What the child is to be told. Fast for the first beats, so that loss is known before it matters, and
///   on a link where the threshold would become too long.
/// * **Asks.** What is measured lies in the past. A link may become lossy at any time, or be so from its first moment.
///   So before a child is lost it is asked, 24 times; each ask that arrives is answered with a beat at once. See
///   [`Detector::next_ask`]. Without them the verdicts are as described, only the first seconds of a sudden heavy loss
///   are a risk.
/// * **Where beats do not pass** (a firewall), other signs of life are all there is. They are rarer, so the longest
///   threshold applies: until the first beat, and when the last is that long ago.
/// * **Requests for a report.** A child that beats need not say anything else. One that has been silent for half of what
///   is borne is asked over the stream too, once a second; see [`Detector::request_report`].
///
/// Who owns it must take in what has arrived before it asks for a verdict: after a pause of the parent itself, all
/// beats wait in the socket. Moments must not go back; one that does counts as the latest known.
#[derive(Debug, Clone)]
pub struct Detector {
    settings: Settings,
    window: Window,
    last_heard: Moment,
    last_beat: Option<Moment>,
    last_ask: Option<Moment>,
    last_report_ask: Option<Moment>,
    /// The most that a beat was late, fading.
    lateness: u64,
    interval: u64,
    interval_since: Moment,
    /// A slower interval that the child may still be using, and until when.
    slower: (u64, Moment),
    threshold: u64,
}

impl Detector {
    /// For a session that begins now.
    #[must_use]
    pub const fn new(settings: Settings, now: Moment) -> Self {
        Self {
            settings,
            window: Window::EMPTY,
            last_heard: now,
            last_beat: None,
            last_ask: None,
            last_report_ask: None,
            lateness: 0,
            interval: settings.shortest_interval_millis,
            interval_since: now,
            slower: (0, now),
            threshold: settings.threshold_millis,
        }
    }

    /// A beat came. One that came before changes nothing; one that is overtaken by a later is no sign of life, only not
    /// lost.
    pub fn beat(&mut self, sequence: u64, now: Moment) {
        let now = now.max(self.last_heard);
        match self.window.record(sequence) {
            Arrival::Repeated => return,
            Arrival::Late => {}
            Arrival::Newest { missed } => {
                self.lateness -= self.lateness.div_ceil(FADING);
                // Only the gap between neighbours tells lateness from loss.
                if let (0, Some(before)) = (missed, self.last_beat) {
                    let late = now.millis_since(before).saturating_sub(self.interval);
                    self.lateness = self.lateness.max(late);
                }
                self.last_beat = Some(now);
                self.last_heard = now;
            }
        }
        self.adjust(now);
    }

    /// Another sign of life came, such as a report. It says nothing about loss.
    pub fn heard(&mut self, now: Moment) {
        self.last_heard = now.max(self.last_heard);
    }

    /// What to believe.
    #[must_use]
    pub fn verdict(&self, now: Moment) -> Verdict {
        if now < self.deadline() { Verdict::Alive } else { Verdict::Lost { since: self.last_heard } }
    }

    /// When it is lost if nothing more is heard.
    #[must_use]
    pub fn deadline(&self) -> Moment {
        self.last_heard.plus_millis(self.threshold_millis())
    }

    /// When to ask the child for a beat if nothing is heard before; `None` when it is too late for that. Whoever asks says
    /// so with [`Detector::asked`].
    #[must_use]
    pub fn next_ask(&self) -> Option<Moment> {
        let deadline = self.deadline();
        let (doubt, between) = if self.beats_do_not_pass() {
            // What is of use is the request for a report that goes with it.
            (self.last_heard.plus_millis(self.threshold_millis() / 2), REPORT_ASK_MILLIS)
        } else {
            let usual = self.pace(self.last_heard) + self.lateness.max(DOUBT_MILLIS);
            let doubt = self.last_heard.plus_millis(usual);
            (doubt, (deadline.millis_since(doubt) / ASKS).max(SHORTEST_ASK_MILLIS))
        };
        let next = self.last_ask.map_or(doubt, |last| doubt.max(last.plus_millis(between)));
        (next < deadline).then_some(next)
    }

    /// The child was asked.
    pub fn asked(&mut self, now: Moment) {
        self.last_ask = Some(now);
    }

    /// Whether to ask the child for a report over the stream, now that it is asked for a beat. Counts as done.
    #[must_use]
    pub fn request_report(&mut self, now: Moment) -> bool {
        let long_silent = now.millis_since(self.last_heard) >= self.threshold_millis() / 2;
        let due = self.last_report_ask.is_none_or(|last| now.millis_since(last) >= REPORT_ASK_MILLIS);
        if long_silent && due {
            self.last_report_ask = Some(now);
        }
        long_silent && due
    }

    /// The last sign of life; the beginning of the session before the first.
    #[must_use]
    pub const fn last_heard(&self) -> Moment {
        self.last_heard
    }

    /// The silence that is borne at present.
    #[must_use]
    pub fn threshold_millis(&self) -> u64 {
        if self.beats_do_not_pass() { self.settings.longest_threshold_millis } else { self.threshold }
    }

    /// The share of the last 128 beats that did not come, rounded. During silence it is that before the silence.
    #[must_use]
    pub fn loss_percent(&self) -> u8 {
        let known = self.window.known().max(1);
        u8::try_from((self.window.lost() * 100 + known / 2) / known).unwrap_or(100)
    }

    /// What the child is to be told to wait between two beats.
    #[must_use]
    pub const fn beat_interval_millis(&self) -> u64 {
        self.interval
    }

    fn beats_do_not_pass(&self) -> bool {
        self.last_beat
            .is_none_or(|last| self.last_heard.millis_since(last) > self.settings.longest_threshold_millis)
    }

    /// The slowest interval that the child may be using.
    fn pace(&self, now: Moment) -> u64 {
        let (slower, until) = self.slower;
        if now < until { slower.max(self.interval) } else { self.interval }
    }

    fn adjust(&mut self, now: Moment) {
        let settings = self.settings;
        let loss = self.window.cautious_loss_per_million();
        let in_a_row = self.losses_in_a_row(loss);
        self.change_interval(in_a_row, now);
        let pace = self.pace(now);
        let for_loss = if loss == 0 { 0 } else { in_a_row * pace + SLACK_MILLIS.max(2 * self.lateness) };
        let for_lateness = pace + 2 * self.lateness;
        self.threshold =
            settings.threshold_millis.max(for_loss).max(for_lateness).min(settings.longest_threshold_millis);
    }

    fn change_interval(&mut self, in_a_row: u64, now: Moment) {
        let settings = self.settings;
        let patient = settings.patient_threshold_millis.saturating_sub(SLACK_MILLIS) / in_a_row.max(1);
        let wanted = (patient / STEP_MILLIS * STEP_MILLIS)
            .min(settings.interval_millis)
            .max(settings.shortest_interval_millis);
        let faster = wanted < self.interval;
        let slower = wanted > self.interval && now.millis_since(self.interval_since) >= SETTLING_MILLIS;
        if faster {
            self.slower = (self.pace(now), now.plus_millis(TELLING_MILLIS));
        }
        if faster || slower {
            self.interval = wanted;
            self.interval_since = now;
        }
    }

    /// The fewest beats that are all lost with a chance of 10⁻⁹ at most, as far as that can matter.
    fn losses_in_a_row(&self, loss_per_million: u64) -> u64 {
        let most = self.settings.longest_threshold_millis / self.settings.shortest_interval_millis.max(1) + 1;
        // In units of 10⁻¹²: a product with a share in millionths still fits.
        let mut chance: u64 = 1_000_000_000_000;
        let limit = chance / CHANCE;
        let mut count = 0;
        while chance > limit && count < most {
            chance = chance * loss_per_million / 1_000_000;
            count += 1;
        }
        count
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Beats 0 to 99, one each 800 ms.
    fn settled() -> (Detector, Moment) {
        let mut detector = Detector::new(Settings::default(), Moment(0));
        let mut now = Moment(0);
        for sequence in 0..100 {
            now = now.plus_millis(800);
            detector.beat(sequence, now);
        }
        (detector, now)
    }

    #[test]
    fn silence_makes_a_child_lost_at_the_deadline_and_a_beat_brings_it_back() {
        let (mut detector, now) = settled();
        assert_eq!(detector.deadline(), now.plus_millis(2500));
        assert_eq!(detector.verdict(now.plus_millis(2499)), Verdict::Alive);
        assert_eq!(detector.verdict(now.plus_millis(2500)), Verdict::Lost { since: now });
        detector.beat(100, now.plus_millis(4000));
        assert_eq!(detector.verdict(now.plus_millis(4001)), Verdict::Alive);
    }

    #[test]
    fn repeated_and_overtaken_beats_are_no_signs_of_life() {
        let (mut detector, now) = settled();
        for old in [99, 98, 0] {
            detector.beat(old, now.plus_millis(2000));
        }
        assert_eq!((detector.last_heard(), detector.loss_percent()), (now, 0));
        detector.beat(101, now.plus_millis(100));
        assert_eq!(detector.loss_percent(), 1);
        detector.beat(100, now.plus_millis(200));
        assert_eq!((detector.last_heard(), detector.loss_percent()), (now.plus_millis(100), 0));
    }

    #[test]
    fn beats_of_one_moment_or_of_a_moment_before_change_no_measure() {
        let (mut detector, now) = settled();
        let threshold = detector.threshold_millis();
        detector.beat(100, now);
        detector.beat(101, Moment(now.0 - 50));
        assert_eq!((detector.last_heard(), detector.threshold_millis()), (now, threshold));
    }

    #[test]
    fn late_beats_raise_the_threshold_at_once_and_it_fades() {
        let (mut detector, mut now) = settled();
        now = now.plus_millis(800 + 1500);
        detector.beat(100, now);
        assert_eq!(detector.threshold_millis(), 800 + 2 * 1500);
        for sequence in 101..200 {
            now = now.plus_millis(800);
            detector.beat(sequence, now);
        }
        assert_eq!(detector.threshold_millis(), 2500);
    }

    #[test]
    fn no_lateness_and_no_loss_raise_the_threshold_beyond_its_bound() {
        let (mut detector, now) = settled();
        detector.beat(100, now.plus_millis(60_000));
        assert_eq!(detector.threshold_millis(), 9500);
        detector.beat(1_000_000, now.plus_millis(60_100));
        assert_eq!(detector.threshold_millis(), 9500);
        assert_eq!(detector.beat_interval_millis(), 400);
        assert_eq!(detector.loss_percent(), 99);
    }

    #[test]
    fn a_new_interval_is_not_counted_on_before_it_can_have_reached_the_child() {
        let (mut detector, mut now) = settled();
        now = now.plus_millis(1600);
        detector.beat(101, now);
        // One of sixteen: twelve in a row, still 800 ms apart.
        assert_eq!((detector.beat_interval_millis(), detector.threshold_millis()), (400, 9500));
        for sequence in 102..115 {
            now = now.plus_millis(400);
            detector.beat(sequence, now);
        }
        assert_eq!((detector.beat_interval_millis(), detector.threshold_millis()), (400, 12 * 400 + 500));
    }

    #[test]
    fn a_child_whose_beats_do_not_pass_lives_by_its_reports() {
        let mut detector = Detector::new(Settings::default(), Moment(0));
        for second in [2, 6, 10] {
            detector.heard(Moment(second * 1000));
            assert_eq!(detector.deadline(), Moment(second * 1000 + 9500));
            assert_eq!(detector.next_ask(), Some(Moment(second * 1000 + 4750)));
        }
        detector.beat(0, Moment(11_000));
        assert_eq!(detector.threshold_millis(), 2500);
        // They stop passing, reports go on.
        detector.heard(Moment(20_000));
        assert_eq!(detector.threshold_millis(), 2500);
        detector.heard(Moment(20_600));
        assert_eq!(detector.threshold_millis(), 9500);
    }

    #[test]
    fn a_child_that_is_silent_for_half_of_what_is_borne_is_asked_for_a_report_once_a_second() {
        let (mut detector, now) = settled();
        let due = |detector: &mut Detector, at: &[u64]| -> Vec<u64> {
            at.iter().copied().filter(|at| detector.request_report(now.plus_millis(*at))).collect()
        };
        assert_eq!(due(&mut detector, &[0, 1249, 1250, 1300, 2249, 2250, 2499]), [1250, 2250]);
        // Without beats all that takes longer, and the answers are what it lives by.
        let mut unheard = Detector::new(Settings::default(), now);
        assert_eq!(due(&mut unheard, &[4749, 4750, 5749, 5750]), [4750, 5750]);
        unheard.asked(now.plus_millis(5750));
        assert_eq!(unheard.next_ask(), Some(now.plus_millis(6750)));
        unheard.heard(now.plus_millis(5800));
        assert_eq!(due(&mut unheard, &[5800 + 4749, 5800 + 4750]), [5800 + 4750]);
    }

    #[test]
    fn asks_begin_when_a_beat_is_missed_and_end_at_the_deadline() {
        let (mut detector, now) = settled();
        let mut asks = Vec::new();
        while let Some(at) = detector.next_ask() {
            detector.asked(at);
            asks.push(at.millis_since(now));
        }
        assert_eq!((asks[0], asks[1]), (1000, 1062));
        assert!(asks.len() >= 24 && asks.iter().all(|at| *at < 2500), "{asks:?}");
        detector.beat(100, now.plus_millis(2400));
        assert!(detector.next_ask().is_some_and(|at| at >= now.plus_millis(2400 + 1000)));
    }

    #[test]
    fn a_new_session_has_fast_beats_until_enough_is_known() {
        let mut detector = Detector::new(Settings::default(), Moment(0));
        let mut intervals = Vec::new();
        for sequence in 0..40 {
            detector.beat(sequence, Moment(sequence * 400));
            intervals.push(detector.beat_interval_millis());
        }
        assert_eq!((intervals[0], intervals[24], intervals[39]), (400, 400, 800));
    }
}

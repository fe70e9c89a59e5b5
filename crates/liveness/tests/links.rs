//! A child and its detector over links that lose, delay and break, for ten minutes each and with many seeds.

#[cfg(test)]
mod links {
    use std::collections::BTreeMap;

    use liveness::{Detector, Settings, Verdict};
    use model::Moment;

    const TEN_MINUTES: u64 = 600_000;

    /// SplitMix64: small, and the same on every machine.
    struct Chance(u64);

    impl Chance {
        fn next(&mut self) -> u64 {
            self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
            let mut z = self.0;
            z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
            z ^ (z >> 31)
        }

        fn below(&mut self, bound: u64) -> u64 {
            self.next() % bound
        }
    }

    #[derive(Clone, Copy)]
    struct Link {
        /// Lost of a thousand, each way.
        loss: u64,
        /// From when on it loses.
        lossy_from: u64,
        /// The way takes 20 ms and up to this much more.
        jitter: u64,
        /// The child sends up to this late: it waits for a processor.
        starved: u64,
        /// Nothing passes in between.
        outage: (u64, u64),
        /// Whether asks reach the child.
        asks: bool,
    }

    const CLEAN: Link =
        Link { loss: 0, lossy_from: 0, jitter: 20, starved: 0, outage: (u64::MAX, u64::MAX), asks: true };

    #[derive(Clone, Copy)]
    enum Event {
        /// The child's timer.
        Send,
        /// An ask at the child.
        Asked,
        /// A beat at the parent.
        Beat(u64),
        /// A new interval at the child.
        Interval(u64),
    }

    struct Run {
        link: Link,
        chance: Chance,
        agenda: BTreeMap<(u64, u64), Event>,
        entries: u64,
        sequence: u64,
        interval: u64,
        told: u64,
        sent: u64,
        detector: Detector,
    }

    impl Run {
        fn new(link: Link, seed: u64) -> Self {
            let detector = Detector::new(Settings::default(), Moment(0));
            let interval = detector.beat_interval_millis();
            let mut run = Self {
                link,
                chance: Chance(seed),
                agenda: BTreeMap::new(),
                entries: 0,
                sequence: 0,
                interval,
                told: interval,
                sent: 0,
                detector,
            };
            run.at(0, Event::Send);
            run
        }

        fn at(&mut self, moment: u64, event: Event) {
            self.entries += 1;
            self.agenda.insert((moment, self.entries), event);
        }

        fn pass(&mut self, now: u64, event: Event) {
            let broken = (self.link.outage.0..self.link.outage.1).contains(&now);
            let lost = now >= self.link.lossy_from && self.chance.below(1000) < self.link.loss;
            if !broken && !lost {
                let way = 20 + self.chance.below(self.link.jitter + 1);
                self.at(now + way, event);
            }
        }

        fn send_beat(&mut self, now: u64) {
            let sequence = self.sequence;
            self.sequence += 1;
            self.sent += 1;
            self.pass(now, Event::Beat(sequence));
        }

        /// Runs until `end` or until the child is lost: that moment.
        fn until(&mut self, end: u64) -> Option<u64> {
            loop {
                let look = self.next_look();
                let event = self.agenda.first_key_value().map_or(u64::MAX, |((moment, _), _)| *moment);
                if look.min(event) > end {
                    return None;
                }
                if look <= event {
                    if self.detector.verdict(Moment(look)) != Verdict::Alive {
                        return Some(look);
                    }
                    self.detector.asked(Moment(look));
                    if self.link.asks {
                        self.pass(look, Event::Asked);
                    }
                } else if let Some(((now, _), event)) = self.agenda.pop_first() {
                    self.happen(now, event);
                }
            }
        }

        /// The parent's timer.
        fn next_look(&self) -> u64 {
            let deadline = self.detector.deadline();
            self.detector.next_ask().map_or(deadline, |ask| ask.min(deadline)).0
        }

        fn happen(&mut self, now: u64, event: Event) {
            match event {
                Event::Send => {
                    self.send_beat(now);
                    let late = self.chance.below(self.link.starved + 1);
                    self.at(now + self.interval + late, Event::Send);
                }
                Event::Asked => self.send_beat(now),
                Event::Interval(interval) => self.interval = interval,
                Event::Beat(sequence) => {
                    self.detector.beat(sequence, Moment(now));
                    if self.detector.beat_interval_millis() != self.told {
                        self.told = self.detector.beat_interval_millis();
                        // Over the stream, which repeats what is lost: up to three seconds.
                        let way = 30 + self.chance.below(if self.link.loss > 0 { 3000 } else { 50 });
                        self.at(now + way, Event::Interval(self.told));
                    }
                }
            }
        }

        /// Cuts the link at `moment`: how long until that was known.
        fn cut(mut self, moment: u64) -> u64 {
            assert_eq!(self.until(moment), None, "lost before the cut");
            self.link.outage = (moment, u64::MAX);
            self.until(u64::MAX - 1).expect("a cut is noticed") - moment
        }
    }

    fn lossy(per_thousand: u64) -> Link {
        Link { loss: per_thousand, ..CLEAN }
    }

    #[track_caller]
    fn never_lost(link: Link, seeds: u64) {
        for seed in 0..seeds {
            let mut run = Run::new(link, seed);
            assert_eq!(run.until(TEN_MINUTES), None, "seed {seed}");
        }
    }

    #[track_caller]
    fn a_cut_is_known_within(bound: u64, link: Link, seeds: u64) {
        for seed in 0..seeds {
            let moment = 60_000 + Chance(seed).below(60_000);
            let known = Run::new(link, seed).cut(moment);
            assert!(known <= bound, "seed {seed}: after {known} ms");
        }
    }

    #[test]
    fn no_loss_up_to_thirty_percent_makes_a_healthy_child_lost() {
        for loss in [0, 10, 50, 300] {
            never_lost(lossy(loss), 300);
        }
    }

    #[test]
    fn a_link_that_suddenly_loses_thirty_percent_does_not_make_a_healthy_child_lost() {
        for from in [5_000, 120_000, 300_000] {
            never_lost(Link { lossy_from: from, ..lossy(300) }, 200);
        }
    }

    /// Where a firewall swallows the asks, what was measured must do.
    #[test]
    fn without_asks_measured_loss_alone_keeps_a_child_alive() {
        for seed in 0..300 {
            let mut run = Run::new(lossy(300), seed);
            run.until(30_000);
            run.link.asks = false;
            assert_eq!(run.until(30_000 + TEN_MINUTES), None, "seed {seed}");
        }
    }

    /// How often the first seconds at 30 % are fatal without asks and with them: once in four hundred, and never.
    #[test]
    fn the_first_seconds_on_a_lossy_link_are_survived() {
        let lost = |asks| {
            (0..5_000)
                .filter(|seed| Run::new(Link { asks, ..lossy(300) }, *seed).until(20_000).is_some())
                .count()
        };
        assert_eq!(lost(true), 0);
        let without = lost(false);
        println!("without asks: {without} of 5000");
        assert!(without < 50, "{without} of 5000");
    }

    #[test]
    fn a_cut_of_a_clean_link_is_known_within_three_seconds() {
        a_cut_is_known_within(2600, CLEAN, 500);
    }

    #[test]
    fn a_cut_of_any_link_is_known_within_ten_seconds() {
        for loss in [10, 50, 300, 500, 800] {
            for seed in 0..200 {
                let moment = 60_000 + Chance(seed).below(60_000);
                let mut run = Run::new(lossy(loss), seed);
                if run.until(moment).is_none() {
                    run.link.outage = (moment, u64::MAX);
                    let known = run.until(u64::MAX - 1).expect("noticed") - moment;
                    assert!(known <= 9600, "loss {loss}, seed {seed}: after {known} ms");
                }
            }
        }
    }

    #[test]
    fn a_starved_child_whose_beats_are_up_to_700_ms_late_is_not_lost() {
        let starved = Link { starved: 700, jitter: 100, ..CLEAN };
        never_lost(starved, 300);
        never_lost(Link { starved: 700, ..lossy(50) }, 300);
        a_cut_is_known_within(9500, starved, 200);
    }

    #[test]
    fn an_outage_of_a_second_and_a_half_does_not_make_a_child_lost_wherever_it_begins() {
        for offset in 0..800 {
            let from = 100_000 + offset;
            let mut run = Run::new(Link { outage: (from, from + 1500), ..CLEAN }, offset);
            assert_eq!(run.until(110_000), None, "an outage from {from}");
        }
    }

    #[test]
    fn a_clean_link_costs_one_beat_in_800_ms_and_no_asks() {
        let mut run = Run::new(CLEAN, 1);
        run.until(TEN_MINUTES);
        // The first beats are twice as fast for ten seconds.
        assert!((750..780).contains(&run.sent), "{}", run.sent);
    }

    #[test]
    fn a_link_that_becomes_clean_is_trusted_again_within_two_minutes() {
        for seed in 0..50 {
            let mut run = Run::new(lossy(300), seed);
            assert_eq!(run.until(60_000), None);
            run.link.loss = 0;
            assert_eq!(run.until(180_000), None);
            let settings = Settings::default();
            assert_eq!(
                (run.detector.threshold_millis(), run.detector.beat_interval_millis()),
                (settings.threshold_millis, settings.interval_millis),
                "seed {seed}"
            );
        }
    }
}

//! Which workers are connected and which are alive. In memory only: known again within one lease after a start.
//!
//! A connection says where messages go; beats say who lives. A worker whose connection broke is not lost before its
//! silence has lasted long enough, and one that beats but has no connection lives and cannot be told anything.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use liveness::{Detector, Settings, Verdict};
use model::{Generation, Load, Moment, WorkerId};

/// After its own start a cluster waits this long for workers it knew: three times the longest pause between their
/// attempts to connect. Whoever has taken some time to come back gets as much again, this at most, until it is judged.
pub const RECONNECT_MILLIS: u64 = 15_000;

/// After a start nobody is judged as long as those that were known before keep coming, the next within this long of the
/// last: where thousands come back at once, handshakes and beats wait for each other.
pub const STILL_COMING_MILLIS: u64 = 5_000;

/// But not for longer than this.
pub const COMING_BACK_AT_MOST_MILLIS: u64 = 120_000;

/// While not one of them has come, it is this cluster that has not found back rather than all of them that are lost: it
/// waits as long as the root usually waits for a cluster.
pub const NOBODY_CAME_MILLIS: u64 = 60_000;

/// Looks are made at multiples of this, so that many workers share one: a cluster is woken for them twenty times a second
/// at most, however many it has.
const STEP_MILLIS: u64 = 50;

/// A look that comes this late says that this process did not run in time; beats wait in its socket.
const STALL_MILLIS: u64 = 200;

/// What waits is taken in before long, which takes as long as it has been waiting, but not longer than this.
const TAKEN_IN_WITHIN_MILLIS: u64 = 5_000;

/// What is known of a connected worker; gone when the connection is.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Session {
    /// Greater than that of every connection before.
    pub(crate) number: u64,
    pub(crate) since: Moment,
    pub(crate) address: IpAddr,
    /// The newest assignment handed to the connection, and when.
    pub(crate) offered: Option<(Generation, Moment)>,
    /// The newest assignment the worker says it holds.
    pub(crate) observed: Generation,
    /// The number of its last report.
    pub(crate) heard: u64,
}

/// What is known of the life of a worker, connected or not.
#[derive(Debug)]
struct Pulse {
    detector: Detector,
    /// How busy its device is, as it said last.
    load: Load,
    /// The session its beats belong to; that of the last connection.
    session: u64,
    /// The interval it was last told.
    told_interval: Option<u64>,
    /// Not judged before.
    patience: Moment,
    /// When it was last found to live after it had not, or had not been known to.
    alive_since: Moment,
    /// Its entry in the schedule.
    scheduled: Moment,
    /// The cluster itself was late for the last look.
    excused: bool,
}

impl Pulse {
    fn deadline(&self) -> Moment {
        self.detector.deadline().max(self.patience)
    }

    fn next_look(&self) -> Moment {
        in_step(self.detector.next_ask().map_or(self.deadline(), |ask| ask.min(self.deadline())))
    }
}

/// The first look from `moment` on.
const fn in_step(moment: Moment) -> Moment {
    Moment(moment.0.next_multiple_of(STEP_MILLIS))
}

/// What a look at the pulses found.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    /// Workers that are lost since this look.
    pub(crate) lost: Vec<WorkerId>,
    /// Workers to be asked for a beat, with their session.
    pub(crate) ask: Vec<(WorkerId, u64)>,
    /// Those that are asked for a report too.
    pub(crate) request_report: Vec<(WorkerId, u64)>,
}

/// See the module's description.
#[derive(Debug, Default)]
pub(crate) struct Contacts {
    sessions: BTreeMap<WorkerId, Session>,
    pulses: BTreeMap<WorkerId, Pulse>,
    /// When to look at whom again, at the latest: most signs of life do not move an entry, a look does.
    schedule: BTreeSet<(Moment, WorkerId)>,
    /// Who is lost, and the last sign of life.
    lost: BTreeMap<WorkerId, Moment>,
    /// Workers to be told another interval.
    pub(crate) intervals: BTreeSet<WorkerId>,
    /// How often workers beat and how long silence may last.
    pub(crate) settings: Settings,
    /// Workers that are back or lost since the last look of [`Contacts::take_news`].
    news: BTreeSet<WorkerId>,
    /// Since when those that were known before are expected.
    expected_since: Option<Moment>,
    /// When the last of them came back, or somebody knocked while they were missing.
    last_came: Option<Moment>,
    /// Whether a worker, one of them or another, has found this cluster.
    has_one_come: bool,
}

impl Contacts {
    /// Gives workers that are known from before a while to connect.
    pub(crate) fn expect_all(&mut self, workers: &[WorkerId], now: Moment) {
        self.expected_since = Some(now);
        for worker in workers {
            self.begin(*worker, 0, now, now.plus_millis(RECONNECT_MILLIS));
        }
    }

    /// Somebody asks to be let in. While some are missing it may be one of them, who waits for many others.
    pub(crate) fn knocked(&mut self, now: Moment) {
        if self.pulses.values().any(|pulse| pulse.session == 0) {
            self.last_came = Some(now);
        }
    }

    /// Until when nobody is judged, as those that were known before this start are coming back.
    fn coming_back_until(&self) -> Option<Moment> {
        let since = self.expected_since?;
        let for_others = self.last_came.map(|came| came.plus_millis(STILL_COMING_MILLIS));
        let for_one = (!self.has_one_come).then(|| since.plus_millis(NOBODY_CAME_MILLIS));
        Some(for_others.max(for_one)?.min(since.plus_millis(COMING_BACK_AT_MOST_MILLIS)))
    }

    fn begin(&mut self, worker: WorkerId, session: u64, now: Moment, patience: Moment) {
        if let Some(before) = self.pulses.remove(&worker) {
            self.schedule.remove(&(before.scheduled, worker));
        }
        let detector = Detector::new(self.settings, now);
        let mut pulse = Pulse {
            detector,
            load: Load::default(),
            session,
            told_interval: None,
            patience,
            alive_since: now,
            scheduled: now,
            excused: false,
        };
        pulse.scheduled = pulse.next_look();
        self.schedule.insert((pulse.scheduled, worker));
        self.pulses.insert(worker, pulse);
    }

    /// A connection in place of the one before; false when a newer one is there already.
    pub(crate) fn connect(&mut self, worker: WorkerId, number: u64, address: IpAddr, now: Moment) -> bool {
        if self.pulses.get(&worker).is_some_and(|pulse| pulse.session >= number && number > 0) {
            return false;
        }
        let session =
            Session { number, since: now, address, offered: None, observed: Generation::default(), heard: 0 };
        self.sessions.insert(worker, session);
        // What made it come back late makes its first beats late, too, and may break its connection again.
        let patience = match (self.pulses.get(&worker), self.expected_since) {
            (Some(before), Some(since)) if before.session == 0 => {
                self.last_came = Some(now);
                now.plus_millis(now.millis_since(since).min(RECONNECT_MILLIS))
            }
            (before, _) => before.map_or(now, |before| before.patience.max(now)),
        };
        self.has_one_come = true;
        self.begin(worker, number, now, patience);
        self.intervals.insert(worker);
        self.returned(worker, now);
        true
    }

    /// Whether a worker that was known before this start has yet to come back, and is not given up.
    pub(crate) fn is_expected(&self, worker: WorkerId) -> bool {
        !self.lost.contains_key(&worker) && self.pulses.get(&worker).is_some_and(|pulse| pulse.session == 0)
    }

    pub(crate) fn disconnect(&mut self, worker: WorkerId, number: u64) {
        if self.sessions.get(&worker).is_some_and(|session| session.number == number) {
            self.sessions.remove(&worker);
        }
    }

    /// Whatever connection it has counts no more.
    pub(crate) fn cut_off(&mut self, worker: WorkerId) {
        self.sessions.remove(&worker);
    }

    pub(crate) fn forget(&mut self, worker: WorkerId) {
        self.sessions.remove(&worker);
        self.lost.remove(&worker);
        if let Some(pulse) = self.pulses.remove(&worker) {
            self.schedule.remove(&(pulse.scheduled, worker));
        }
    }

    /// The session, if `number` is the current one; its worker is alive.
    pub(crate) fn heard(
        &mut self,
        worker: WorkerId,
        number: u64,
        load: Load,
        now: Moment,
    ) -> Option<&mut Session> {
        self.sessions.get(&worker).filter(|session| session.number == number)?;
        if let Some(pulse) = self.pulses.get_mut(&worker) {
            pulse.detector.heard(now);
            pulse.load = load;
        }
        self.returned(worker, now);
        self.sessions.get_mut(&worker)
    }

    /// Whether there is something to decide since: most beats say only that all is as it was.
    pub(crate) fn beat(
        &mut self,
        worker: WorkerId,
        session: u64,
        sequence: u64,
        load: Load,
        now: Moment,
    ) -> bool {
        let Some(pulse) = self.pulses.get_mut(&worker).filter(|pulse| pulse.session == session) else {
            return false;
        };
        pulse.detector.beat(sequence, now);
        pulse.load = load;
        let other_interval = pulse.told_interval != Some(pulse.detector.beat_interval_millis());
        if other_interval {
            self.intervals.insert(worker);
        }
        // With the first beats silence is borne for less long than before.
        let next_look = pulse.next_look();
        let sooner = next_look < pulse.scheduled && self.schedule.remove(&(pulse.scheduled, worker));
        if sooner {
            pulse.scheduled = next_look;
            self.schedule.insert((next_look, worker));
        }
        let back = self.lost.contains_key(&worker) && pulse.detector.verdict(now) == Verdict::Alive;
        if back {
            self.returned(worker, now);
        }
        other_interval || sooner || back
    }

    fn returned(&mut self, worker: WorkerId, now: Moment) {
        if self.lost.remove(&worker).is_some() {
            self.news.insert(worker);
            if let Some(pulse) = self.pulses.get_mut(&worker) {
                pulse.alive_since = now;
                pulse.scheduled = pulse.next_look();
                self.schedule.insert((pulse.scheduled, worker));
            }
        }
    }

    /// Since when a worker can be given something; `None` when it cannot.
    pub(crate) fn reachable_since(&self, worker: WorkerId) -> Option<Moment> {
        let since = self.sessions.get(&worker)?.since;
        let pulse = self.pulses.get(&worker).filter(|_| !self.lost.contains_key(&worker))?;
        Some(since.max(pulse.alive_since))
    }

    /// Looks at those whose time has come.
    pub(crate) fn look(&mut self, now: Moment) -> Findings {
        let mut findings = Findings::default();
        let coming_back_until = self.coming_back_until().filter(|until| *until > now);
        while let Some(&(due, worker)) = self.schedule.first()
            && due <= now
        {
            self.schedule.remove(&(due, worker));
            let Some(pulse) = self.pulses.get_mut(&worker) else { continue };
            let late = now.millis_since(due);
            let was_excused = std::mem::replace(&mut pulse.excused, late >= STALL_MILLIS);
            if pulse.excused && !was_excused {
                // The cluster was held up, not the worker: what came meanwhile has yet to be taken in.
                pulse.scheduled = in_step(now.plus_millis(late.min(TAKEN_IN_WITHIN_MILLIS)));
                self.schedule.insert((pulse.scheduled, worker));
                continue;
            }
            if let Some(until) = coming_back_until.filter(|_| pulse.deadline() <= now) {
                pulse.patience = until;
                pulse.scheduled = in_step(until);
                self.schedule.insert((pulse.scheduled, worker));
                continue;
            }
            if pulse.deadline() <= now {
                self.lost.insert(worker, pulse.detector.last_heard());
                self.news.insert(worker);
                findings.lost.push(worker);
                continue;
            }
            if pulse.detector.next_ask().is_some_and(|ask| ask <= now) {
                pulse.detector.asked(now);
                findings.ask.push((worker, pulse.session));
                if pulse.detector.request_report(now) {
                    findings.request_report.push((worker, pulse.session));
                }
            }
            // Never the same moment again, so that a pass ends.
            pulse.scheduled = pulse.next_look().max(in_step(now.plus_millis(1)));
            self.schedule.insert((pulse.scheduled, worker));
        }
        findings
    }

    /// When to look again.
    pub(crate) fn next_look(&self) -> Option<Moment> {
        self.schedule.first().map(|(due, _)| *due)
    }

    /// Who came back or was lost since this was last asked.
    pub(crate) fn take_news(&mut self) -> BTreeSet<WorkerId> {
        std::mem::take(&mut self.news)
    }

    /// The intervals that workers must be told, with their sessions. Counts as told.
    pub(crate) fn take_intervals(&mut self) -> Vec<(WorkerId, u64, u64)> {
        let due = std::mem::take(&mut self.intervals);
        let tell = |worker| {
            let session = self.sessions.get(&worker)?;
            let pulse = self.pulses.get_mut(&worker)?;
            let interval = pulse.detector.beat_interval_millis();
            pulse.told_interval = Some(interval);
            Some((worker, session.number, interval))
        };
        due.into_iter().filter_map(tell).collect()
    }

    pub(crate) fn session_mut(&mut self, worker: WorkerId) -> Option<&mut Session> {
        self.sessions.get_mut(&worker)
    }

    /// The connection of a worker.
    #[cfg(test)]
    pub(crate) fn session_number(&self, worker: WorkerId) -> Option<u64> {
        self.sessions.get(&worker).map(|session| session.number)
    }

    pub(crate) fn is_connected(&self, worker: WorkerId) -> bool {
        self.sessions.contains_key(&worker)
    }

    /// Whether a worker can be given something: connected and alive.
    pub(crate) fn is_reachable(&self, worker: WorkerId) -> bool {
        self.is_connected(worker) && !self.lost.contains_key(&worker)
    }

    /// How busy the device of a worker is, as it said last.
    pub(crate) fn load(&self, worker: WorkerId) -> Load {
        self.pulses.get(&worker).map(|pulse| pulse.load).unwrap_or_default()
    }

    /// To be asked of workers in the order of their ids: how busy the device of each is, or `None` if it cannot be given
    /// anything. Quicker than asking of each apart where all are looked at.
    pub(crate) fn loads_in_order(&self) -> impl FnMut(WorkerId) -> Option<Load> + '_ {
        let (mut sessions, mut lost, mut pulses) =
            (in_order(&self.sessions), in_order(&self.lost), in_order(&self.pulses));
        move |worker| {
            let is_reachable = sessions(worker).is_some() && lost(worker).is_none();
            let load = pulses(worker).map(|pulse| pulse.load).unwrap_or_default();
            is_reachable.then_some(load)
        }
    }

    /// The last sign of life of a worker that is lost.
    pub(crate) fn lost_since(&self, worker: WorkerId) -> Option<Moment> {
        self.lost.get(&worker).copied()
    }

    /// Every worker that is lost.
    pub(crate) fn lost(&self) -> impl Iterator<Item = (WorkerId, Moment)> + '_ {
        self.lost.iter().map(|(worker, since)| (*worker, *since))
    }

    pub(crate) fn detector(&self, worker: WorkerId) -> Option<&Detector> {
        self.pulses.get(&worker).map(|pulse| &pulse.detector)
    }
}

/// What there is of workers that are asked for in the order of their ids.
pub(crate) fn in_order<'a, V>(map: &'a BTreeMap<WorkerId, V>) -> impl FnMut(WorkerId) -> Option<&'a V> {
    let mut entries = map.iter().peekable();
    move |asked| {
        while entries.next_if(|(worker, _)| **worker < asked).is_some() {}
        entries.next_if(|(worker, _)| **worker == asked).map(|(_, value)| value)
    }
}

//! What instances have to spare: the least used address of a service leads more new connections to those with more.
//! Carried out in `net-manager/core/src/shares.rs`.
//!
//! What is told is a coarse weight, and only a change that lasts changes it: every telling goes to all who may call the
//! service. Reports are looked at as they come; nothing is asked for.

use std::{
    cmp::Ordering,
    collections::{BTreeMap, BTreeSet},
};

use model::{Desired, InstanceId, Load, Millicores, Moment, Phase, Usage, Weight, WorkerId, WorkerReport};

use crate::{Instance, State, reconcile::Plan};

/// Use is judged by its mean over so long at least: three measurements of a worker. It ends with the first report after, as
/// workers report when something is noticeably different and every half minute. So a weight changes no sooner again
/// either, and then to its half or double at most.
pub(crate) const WINDOW_MILLIS: u64 = 15_000;

/// Weights that change in that time are told together.
pub(crate) const GATHER_MILLIS: u64 = 5_000;

/// Something is different when it is so many times what it was: a bit more than the half that a fifth less before and a fifth
/// more now can make.
const DIFFERENT: f32 = 1.6;

/// From which share that is spare on there is which weight: the nearest power of two, so that weights have much in common.
const WEIGHTS: [(f32, u32); 3] = [(0.707, 8), (0.354, 4), (0.177, 2)];

/// Part of something that is used, from 0 to 1.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Share(f32);

impl Share {
    /// A measurement that makes no sense counts as none.
    fn of_percent(percent: f32) -> Self {
        Self(if percent.is_nan() { 0.0 } else { (percent / 100.0).clamp(0.0, 1.0) })
    }

    fn spare(self) -> f32 {
        1.0 - self.0
    }

    /// Whether that is not the noise of measurements: both what is used and what is not are different.
    fn differs(self, other: Self) -> bool {
        let differ = |one: f32, other: f32| one.max(other) > DIFFERENT * one.min(other);
        differ(self.0, other.0) && differ(self.spare(), other.spare())
    }

    fn weight(self) -> Weight {
        let reached = WEIGHTS.iter().find(|(spare, _)| self.spare() >= *spare);
        reached.map_or_else(Weight::default, |(_, weight)| Weight::new(*weight))
    }
}

/// The time since a report that was different.
#[derive(Debug, Clone, Copy)]
struct Window {
    since: Moment,
    /// The last report; what it said holds until the next.
    at: Moment,
    used: Share,
    /// What was used until then, times milliseconds.
    sum: f32,
}

impl Window {
    fn open(used: Share, now: Moment) -> Self {
        Self { since: now, at: now, used, sum: 0.0 }
    }

    /// Takes in another report; the mean use, once the window was open for long enough.
    #[expect(clippy::cast_precision_loss, reason = "a mean needs two digits")]
    fn take(&mut self, used: Share, now: Moment) -> Option<Share> {
        self.sum += self.used.0 * now.millis_since(self.at) as f32;
        (self.at, self.used) = (now, used);
        let lasted = now.millis_since(self.since);
        (lasted >= WINDOW_MILLIS).then(|| Share(self.sum / lasted as f32))
    }
}

/// What is known of a copy of an instance.
#[derive(Debug, Clone, Copy)]
struct Weighing {
    /// What its weight was decided by; `None` while it is not yet what it should be.
    decided: Option<Share>,
    weight: Weight,
    window: Option<Window>,
}

/// As one that is idle: who has just been started takes its part, and after a restart of the cluster all are alike.
impl Default for Weighing {
    fn default() -> Self {
        Self { decided: None, weight: Weight::MOST, window: None }
    }
}

impl Weighing {
    /// Takes in what is used now; tells whether the weight is another.
    fn take(&mut self, used: Share, now: Moment) -> bool {
        let is_news = |used: Share, decided: Option<Share>| decided.is_none_or(|it| it.differs(used));
        if self.window.is_none() && !is_news(used, self.decided) {
            return false;
        }
        let window = self.window.get_or_insert(Window::open(used, now));
        let Some(mean) = window.take(used, now) else { return false };
        self.window = None;
        if !is_news(mean, self.decided) {
            return false;
        }
        let (before, wanted) = (self.weight, mean.weight());
        self.weight = match wanted.cmp(&before) {
            Ordering::Less => Weight::new(before.get() / 2),
            Ordering::Equal => before,
            Ordering::Greater => Weight::new(before.get() * 2),
        };
        // What comes of one step is seen before the next, or devices would take all connections from each other for ever.
        self.decided = (self.weight == wanted).then_some(mean);
        self.weight != before
    }
}

/// See the module's description. In memory only: known again a window after a start.
#[derive(Debug, Default)]
pub(crate) struct Weights {
    known: BTreeMap<WorkerId, BTreeMap<InstanceId, Weighing>>,
    /// Instances of which others are to be told anew, and when.
    due: BTreeSet<InstanceId>,
    due_at: Option<Moment>,
}

impl Weights {
    /// Of the copy of an instance on a worker.
    pub(crate) fn of(&self, worker: WorkerId, id: InstanceId) -> Weight {
        let known = self.known.get(&worker).and_then(|here| here.get(&id)).copied();
        known.unwrap_or_default().weight
    }

    /// The copy is gone, or another takes its place.
    pub(crate) fn forget(&mut self, worker: WorkerId, id: InstanceId) {
        let Some(here) = self.known.get_mut(&worker) else { return };
        here.remove(&id);
        if here.is_empty() {
            self.known.remove(&worker);
        }
    }
}

impl State {
    /// A worker said how busy it and its instances are. Whether that leaves anything to decide.
    pub(crate) fn weigh(&mut self, worker: WorkerId, report: &WorkerReport, now: Moment) -> bool {
        let was_due = self.weights.due_at.is_some();
        for said in &report.instances {
            let counts = |instance: &&Instance| {
                instance.tenure.holder == Some((worker, said.generation))
                    && instance.desired == Desired::Running
                    && said.phase == Phase::Running
            };
            let Some(instance) = self.instances.get(&said.id).filter(counts) else { continue };
            let used = used(report.load, instance.reserved.cpu, said.usage);
            let here = self.weights.known.entry(worker).or_default();
            if here.entry(said.id).or_default().take(used, now) {
                self.weights.due.insert(said.id);
                self.weights.due_at.get_or_insert(now.plus_millis(GATHER_MILLIS));
            }
        }
        !was_due && self.weights.due_at.is_some()
    }

    /// Has instances told anew that weigh otherwise than before.
    pub(crate) fn tell_weights(&mut self, plan: &mut Plan, now: Moment) {
        let Some(due_at) = self.weights.due_at else { return };
        if due_at > now {
            return plan.wake(due_at);
        }
        self.weights.due_at = None;
        for id in std::mem::take(&mut self.weights.due) {
            self.networks.instance_changed(id);
            self.neighbourhood.service_changed(id.service);
        }
    }
}

/// What is used of what new connections need: processor, of the device or of what the instance may use of it, whichever is
/// scarcer, and memory of the device. How much memory an instance has says how it is made, not how busy it is.
fn used(device: Load, limit: Millicores, usage: Usage) -> Share {
    let processor = match limit.0 {
        // Only the device limits it.
        0 => device.cpu_percent,
        #[expect(clippy::cast_precision_loss, reason = "a share needs two digits")]
        millicores => device.cpu_percent.max(usage.cpu_percent * 1000.0 / millicores as f32),
    };
    let spare = Share::of_percent(processor).spare() * Share::of_percent(device.memory_percent).spare();
    Share(1.0 - spare)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Reports come so often.
    const REPORT_MILLIS: u64 = 2_000;

    /// What follows from reports with that much use, from a moment on: when the weight changed, and to what.
    fn changes(weighing: &mut Weighing, from: Moment, uses: &[Share]) -> Vec<(u64, u32)> {
        let mut changes = Vec::new();
        for (number, used) in (0..).zip(uses) {
            let now = from.plus_millis(number * REPORT_MILLIS);
            if weighing.take(*used, now) {
                changes.push((now.0, weighing.weight.get()));
            }
        }
        changes
    }

    fn device(cpu_percent: f32, memory_percent: f32) -> Load {
        Load { cpu_percent, memory_percent }
    }

    fn usage(cpu_percent: f32) -> Usage {
        Usage { cpu_percent, ..Usage::default() }
    }

    #[test]
    fn a_change_that_lasts_changes_the_weight_once() {
        let mut weighing = Weighing::default();
        let minute = |used: f32| [Share(used); 30];
        assert_eq!(
            changes(&mut weighing, Moment(0), &minute(0.05)),
            [],
            "idle, as it counted from the start"
        );
        assert_eq!(changes(&mut weighing, Moment(60_000), &minute(0.5)), [(76_000, 4)]);
        assert_eq!(changes(&mut weighing, Moment(120_000), &minute(0.05)), [(136_000, 8)]);
    }

    #[test]
    fn a_large_change_goes_step_by_step() {
        let steps = [(16_000, 4), (34_000, 2), (52_000, 1)];
        assert_eq!(changes(&mut Weighing::default(), Moment(0), &[Share(0.9); 60]), steps);
    }

    /// Devices of very different sizes, and connections that are over at once: who gets more of them is busier at once.
    #[test]
    fn weights_settle_though_connections_follow_them() {
        const SIZES: [f32; 5] = [0.25, 0.5, 1.0, 1.0, 2.0];
        const LOAD: f32 = 3.3;
        let mut weighings = [Weighing::default(); 5];
        let mut told = [Weight::MOST; 5];
        let mut told_at = Vec::new();
        let mut due_at = None;
        #[expect(clippy::cast_precision_loss, reason = "small numbers")]
        let uses = |told: &[Weight; 5]| {
            let sum: u32 = told.iter().map(|weight| weight.get()).sum();
            let part = |place: usize| told[place].get() as f32 / sum as f32 * LOAD / SIZES[place];
            [0, 1, 2, 3, 4].map(part)
        };
        for second in (0..900).step_by(2) {
            let now = Moment(second * 1_000);
            if due_at.take_if(|at| *at <= now).is_some() {
                told = weighings.map(|weighing| weighing.weight);
                told_at.push(second);
            }
            for (weighing, used) in weighings.iter_mut().zip(uses(&told)) {
                if weighing.take(Share(used.min(1.0)), now) {
                    due_at.get_or_insert(now.plus_millis(GATHER_MILLIS));
                }
            }
        }
        assert!(told_at.last().is_some_and(|last| *last < 120), "{told_at:?}");
        let lost = |told| -> f32 {
            uses(told).iter().zip(SIZES).map(|(used, size)| (used - 1.0).max(0.0) * size).sum()
        };
        assert!(lost(&told) < lost(&[Weight::MOST; 5]) / 3.0, "{told:?}: more than each can do");
    }

    #[test]
    fn what_is_over_before_the_window_changes_nothing() {
        let mut weighing = Weighing::default();
        changes(&mut weighing, Moment(0), &[Share(0.1); 30]);
        let mut uses = [Share(0.1); 30];
        uses[3..6].fill(Share(0.9));
        assert_eq!(changes(&mut weighing, Moment(60_000), &uses), []);
    }

    #[test]
    fn what_was_reported_last_holds_until_the_next_report() {
        let after = |reports: &[(u64, f32)]| {
            let mut weighing = Weighing::default();
            let mut take = |(at, used): &(u64, f32)| weighing.take(Share(*used), Moment(at * 1000));
            let changed: Vec<bool> = reports.iter().map(&mut take).collect();
            (changed.last() == Some(&true), weighing.weight.get())
        };
        assert_eq!(after(&[(0, 0.9), (30, 0.9)]), (true, 4));
        assert_eq!(after(&[(0, 0.9), (20, 0.1)]), (true, 4), "it was, all the time");
        assert_eq!(after(&[(0, 0.9), (5, 0.1), (30, 0.1)]), (false, 8), "for a moment");
    }

    #[test]
    fn the_weight_is_the_nearest_to_what_is_spare() {
        let weight = |used: f32| Share(used).weight().get();
        assert_eq!(
            [0.0, 0.29, 0.3, 0.5, 0.64, 0.65, 0.82, 0.83, 1.0].map(weight),
            [8, 8, 4, 4, 4, 2, 2, 1, 1]
        );
    }

    #[test]
    fn what_is_scarcer_counts_of_the_processor_and_memory_beside_it() {
        let used = |cpu, memory, limit, own| used(device(cpu, memory), Millicores(limit), usage(own)).0;
        assert_eq!(used(50.0, 0.0, 1000, 25.0), 0.5, "the device is busier than the instance");
        assert_eq!(used(25.0, 0.0, 500, 25.0), 0.5, "the instance uses half of what it may");
        assert_eq!(used(25.0, 0.0, 0, 400.0), 0.25, "without a limit only the device counts");
        assert_eq!(used(50.0, 50.0, 0, 0.0), 0.75, "half of the processor and half of the memory");
        for nonsense in [f32::NAN, f32::NEG_INFINITY, -1.0] {
            assert_eq!(used(nonsense, nonsense, 1000, nonsense), 0.0);
        }
        assert_eq!(used(f32::INFINITY, 0.0, 1000, 0.0), 1.0);
    }

    proptest! {
        /// Up to a fifth more or less of each measurement, in whatever order.
        #[test]
        fn noise_changes_no_weight(
            cpu in 0.0_f32..=100.0,
            memory in 0.0_f32..=100.0,
            own in 0.0_f32..=100.0,
            noise in prop::collection::vec([0.8_f32..=1.2, 0.8..=1.2, 0.8..=1.2], 100),
        ) {
            let noisy = |[of_cpu, of_memory, of_own]: &[f32; 3]| {
                used(device(cpu * of_cpu, memory * of_memory), Millicores(1000), usage(own * of_own))
            };
            let uses: Vec<Share> = noise.iter().map(noisy).collect();
            let changes = changes(&mut Weighing::default(), Moment(0), &uses);
            let all_steps = 3 * (WINDOW_MILLIS + 2 * REPORT_MILLIS);
            let later = changes.iter().filter(|(at, _)| *at > all_steps);
            prop_assert_eq!(later.count(), 0, "it was what it should be by then: {:?}", changes);
        }

        #[test]
        fn a_weight_never_changes_twice_within_a_window(
            uses in prop::collection::vec((0.0_f32..=1.0).prop_map(Share), 200),
        ) {
            let changes = changes(&mut Weighing::default(), Moment(0), &uses);
            for pair in changes.windows(2) {
                prop_assert!(pair[1].0 - pair[0].0 >= WINDOW_MILLIS, "{:?}", pair);
            }
        }
    }
}

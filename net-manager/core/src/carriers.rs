//! What carries each encrypted link: the engine of encrypted links, or the kernel's own WireGuard. The engine finds every way;
//! a link it found to be direct is tried in the kernel too, under the same keys, and carried by it from the handshake on, for
//! as long as something comes. The other half, which sets up the kernel, is `net-manager/src/datapath/kernel/wireguard.rs`.
//!
//! ```text
//!            the engine has a direct way       a handshake was completed
//!   engine ───────────────────────────► tried ─────────────────────────► carried by the kernel
//!     ▲                                                                     │ nothing comes, or keys stay the same
//!     └───────────── after a minute ─── resting ◄───────────────────────────┘
//! ```
//!
//! Each device decides for what it sends; what comes is taken from either. While a link rests its other end is unknown to the
//! kernel, so that the other device hears nothing more and leaves the kernel as well, even if only one direction is broken.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    time::Duration,
};

use model::{Moment, TunnelKey};
use serde::{Deserialize, Serialize};

/// The UDP port of the kernel's own WireGuard.
pub const KERNEL_PORT: u16 = 50107;
/// How often both ends speak over a link in the kernel if they have nothing to say, so that silence means something.
pub const KERNEL_KEEPALIVE_SECONDS: u16 = 10;
/// A lost word of the other end, and looks that are ten seconds apart, are not silence yet.
const SILENT_AFTER_MILLIS: u64 = 25_000;
/// WireGuard agrees on keys every two minutes and uses none for more than three; then it cannot send.
const KEYS_LAST_MILLIS: u64 = 190_000;
/// Longer than the other device takes to notice.
const REST_MILLIS: u64 = 60_000;
/// The kernel tells nobody of a handshake. It is looked after so long, and then with each comparison of the kernel.
const LOOK_AFTER_MILLIS: [u64; 3] = [250, 1_000, 3_000];

/// What carries an encrypted link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Carrier {
    /// The engine of encrypted links.
    Engine,
    /// The kernel's own WireGuard.
    Kernel,
}

/// Why the engine carries a link and not the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EngineReason {
    /// This device's kernel has no WireGuard.
    KernelHasNone,
    /// The other device's has none.
    OtherHasNone,
    /// The engine found no direct way, or nobody spoke yet.
    NotDirect,
    /// The kernels have not met.
    NoHandshake,
    /// The kernel's link broke a short while ago.
    Broke,
}

impl fmt::Display for EngineReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::KernelHasNone => f.write_str("the kernel has no WireGuard"),
            Self::OtherHasNone => f.write_str("the kernel there has no WireGuard"),
            Self::NotDirect => f.write_str("no direct way is in use"),
            Self::NoHandshake => write!(f, "the kernels have not met: is UDP port {KERNEL_PORT} open?"),
            Self::Broke => f.write_str("the kernel's link broke; it is tried again"),
        }
    }
}

/// What the kernel says of another end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Sign {
    /// The date of the last handshake. Only whether it is another one counts.
    pub handshake: Option<Duration>,
    /// Bytes from there.
    pub received: u64,
}

/// What there is to see of encrypted links.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Signs {
    /// Other ends that the engine speaks to at the address they have themselves.
    pub direct: BTreeSet<TunnelKey>,
    /// Other ends that the kernel knows; `None` when it has no WireGuard.
    pub kernel: Option<BTreeMap<TunnelKey, Sign>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// The kernel knows the other end and calls it; the engine carries.
    Tried { since: Moment, looks: usize },
    /// The kernel carries.
    Carried { sign: Sign, heard: Moment, agreed: Moment },
    /// The kernel does not know the other end.
    Resting { until: Moment },
}

/// See the module's description. In memory only: what the kernel carries is seen by the first look.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Carriers {
    kernel_has_any: bool,
    stages: BTreeMap<TunnelKey, Stage>,
}

impl Carriers {
    /// Others are as good as gone, and begin anew should they return.
    pub(crate) fn keep(&mut self, candidates: &BTreeSet<TunnelKey>) {
        self.stages.retain(|key, _| candidates.contains(key));
    }

    /// Takes on what there is to see; `candidates` are the other ends whose kernels have a WireGuard. Says whether the kernel
    /// has to change for it.
    pub(crate) fn look(&mut self, candidates: &BTreeSet<TunnelKey>, signs: &Signs, now: Moment) -> bool {
        let before: Vec<_> = candidates.iter().map(|key| self.shape(*key)).collect();
        self.keep(candidates);
        self.kernel_has_any = signs.kernel.is_some();
        match &signs.kernel {
            Some(known) => {
                for key in candidates {
                    let next = self.next(*key, known.get(key).copied(), signs.direct.contains(key), now);
                    match next {
                        Some(stage) => self.stages.insert(*key, stage),
                        None => self.stages.remove(key),
                    };
                }
            }
            None => self.stages.clear(),
        }
        before != candidates.iter().map(|key| self.shape(*key)).collect::<Vec<_>>()
    }

    fn next(&self, key: TunnelKey, sign: Option<Sign>, is_direct: bool, now: Moment) -> Option<Stage> {
        let begin = Stage::Tried { since: now, looks: 0 };
        let met = sign.filter(|sign| sign.handshake.is_some());
        let carried = |sign| Stage::Carried { sign, heard: now, agreed: now };
        match self.stages.get(&key).copied() {
            None | Some(Stage::Tried { .. }) if met.is_some() => met.map(carried),
            // One the kernel knows is of before a restart.
            None => (is_direct || sign.is_some()).then_some(begin),
            Some(Stage::Tried { since, looks }) => {
                let passed = |after: &u64| since.plus_millis(*after) <= now;
                let looks = LOOK_AFTER_MILLIS.iter().filter(|after| passed(after)).count().max(looks);
                Some(Stage::Tried { since, looks })
            }
            Some(Stage::Carried { sign: last, heard, agreed }) => {
                // Its interface was taken away.
                let Some(sign) = met else { return Some(begin) };
                let heard = if sign.received == last.received { heard } else { now };
                let agreed = if sign.handshake == last.handshake { agreed } else { now };
                let broke = now.millis_since(heard) >= SILENT_AFTER_MILLIS
                    || now.millis_since(agreed) >= KEYS_LAST_MILLIS;
                let rest = Stage::Resting { until: now.plus_millis(REST_MILLIS) };
                Some(if broke { rest } else { Stage::Carried { sign, heard, agreed } })
            }
            Some(Stage::Resting { until }) if until > now => Some(Stage::Resting { until }),
            Some(Stage::Resting { .. }) => is_direct.then_some(begin),
        }
    }

    /// When is to be looked next, beside each comparison of the kernel.
    pub(crate) fn due(&self) -> Option<Moment> {
        let due = |stage: &Stage| match stage {
            Stage::Tried { since, looks } => {
                LOOK_AFTER_MILLIS.get(*looks).map(|after| since.plus_millis(*after))
            }
            Stage::Carried { .. } | Stage::Resting { .. } => None,
        };
        self.stages.values().filter_map(due).min()
    }

    /// Whether the kernel is to know that end, and what carries the link.
    fn shape(&self, key: TunnelKey) -> (bool, Carrier) {
        match self.stages.get(&key) {
            Some(Stage::Carried { .. }) => (true, Carrier::Kernel),
            Some(Stage::Tried { .. }) => (true, Carrier::Engine),
            Some(Stage::Resting { .. }) | None => (false, Carrier::Engine),
        }
    }

    /// Whether the kernel is to know that end.
    pub(crate) fn is_in_kernel(&self, key: TunnelKey) -> bool {
        self.shape(key).0
    }

    /// What carries the link to that end.
    pub(crate) fn carrier(&self, key: TunnelKey) -> Carrier {
        self.shape(key).1
    }

    /// Why the engine carries the link to that end, whose kernel has a WireGuard if `is_candidate`; `None` when the kernel does.
    pub(crate) fn reason(&self, key: TunnelKey, is_candidate: bool) -> Option<EngineReason> {
        match self.stages.get(&key) {
            Some(Stage::Carried { .. }) => None,
            Some(Stage::Tried { .. }) => Some(EngineReason::NoHandshake),
            Some(Stage::Resting { .. }) => Some(EngineReason::Broke),
            None if !self.kernel_has_any => Some(EngineReason::KernelHasNone),
            None if !is_candidate => Some(EngineReason::OtherHasNone),
            None => Some(EngineReason::NotDirect),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: TunnelKey = TunnelKey([1; 32]);

    /// Looks at one link, with the clock in milliseconds.
    #[derive(Default)]
    struct Watch(Carriers);

    impl Watch {
        fn look(&mut self, at: u64, is_direct: bool, sign: Option<(u64, u64)>) -> Option<EngineReason> {
            let sign = sign.map(|(handshake, received)| Sign {
                handshake: (handshake > 0).then_some(Duration::from_secs(handshake)),
                received,
            });
            let signs = Signs {
                direct: is_direct.then_some(KEY).into_iter().collect(),
                kernel: Some(sign.map(|sign| (KEY, sign)).into_iter().collect()),
            };
            let before = self.0.shape(KEY);
            let changed = self.0.look(&BTreeSet::from([KEY]), &signs, Moment(at));
            assert_eq!(changed, self.0.shape(KEY) != before, "at {at}");
            self.0.reason(KEY, true)
        }

        /// The kernel carries the link from 1000 on, with 100 bytes received.
        fn carried() -> Self {
            let mut watch = Self::default();
            assert_eq!(watch.look(500, true, None), Some(EngineReason::NoHandshake));
            assert_eq!(watch.look(1_000, true, Some((1, 100))), None);
            watch
        }
    }

    #[test]
    fn only_a_direct_link_is_tried_and_only_one_that_was_agreed_on_is_carried() {
        let mut watch = Watch::default();
        assert_eq!(watch.look(0, false, None), Some(EngineReason::NotDirect));
        assert_eq!(watch.0.shape(KEY), (false, Carrier::Engine));
        assert_eq!(watch.look(10, true, None), Some(EngineReason::NoHandshake));
        assert_eq!(watch.0.shape(KEY), (true, Carrier::Engine));
        // Bytes alone may be of a handshake that is not answered.
        assert_eq!(watch.look(20, true, Some((0, 148))), Some(EngineReason::NoHandshake));
        // An engine that is idle has no way in use any more.
        assert_eq!(watch.look(30, false, Some((1, 180))), None);
        assert_eq!(watch.0.shape(KEY), (true, Carrier::Kernel));
    }

    #[test]
    fn a_handshake_is_looked_for_three_times_and_then_with_each_comparison() {
        let mut watch = Watch::default();
        watch.look(0, true, None);
        for due in LOOK_AFTER_MILLIS {
            assert_eq!(watch.0.due(), Some(Moment(due)));
            watch.look(due, true, Some((0, 0)));
        }
        assert_eq!(watch.0.due(), None);
        assert_eq!(watch.look(10_000, true, Some((1, 0))), None);
        assert_eq!(watch.0.due(), None);
    }

    #[test]
    fn what_falls_silent_or_keeps_its_keys_rests_for_a_minute_and_is_tried_again_if_direct() {
        let mut silent = Watch::carried();
        assert_eq!(silent.look(11_000, false, Some((1, 200))), None);
        assert_eq!(silent.look(35_000, false, Some((1, 200))), None);
        assert_eq!(silent.look(36_000, false, Some((1, 200))), Some(EngineReason::Broke));
        assert_eq!(silent.0.shape(KEY), (false, Carrier::Engine));

        let mut one_way = Watch::carried();
        for seconds in 1..=18 {
            assert_eq!(one_way.look(1_000 + 10_000 * seconds, false, Some((1, 100 + seconds))), None);
        }
        assert_eq!(one_way.look(191_000, false, Some((1, 200))), Some(EngineReason::Broke));

        assert_eq!(silent.look(95_999, true, None), Some(EngineReason::Broke));
        assert_eq!(silent.look(96_000, true, None), Some(EngineReason::NoHandshake));
        assert_eq!(one_way.look(251_000, false, None), Some(EngineReason::NotDirect));
    }

    #[test]
    fn keys_that_are_renewed_carry_on() {
        let mut watch = Watch::carried();
        for minute in 1..=30 {
            let at = 1_000 + 10_000 * minute;
            assert_eq!(watch.look(at, false, Some((1 + minute / 12, 100 * minute + 1))), None, "at {at}");
        }
    }

    #[test]
    fn after_a_restart_what_the_kernel_has_agreed_on_is_carried_at_once() {
        assert_eq!(Watch::default().look(0, false, Some((7, 100))), None);
        assert_eq!(Watch::default().look(0, false, Some((0, 148))), Some(EngineReason::NoHandshake));
    }

    #[test]
    fn an_interface_that_is_taken_away_begins_anew() {
        assert_eq!(Watch::carried().look(2_000, false, None), Some(EngineReason::NoHandshake));
    }

    #[test]
    fn without_wireguard_here_or_there_the_engine_carries_and_that_is_told() {
        let mut watch = Watch::carried();
        assert!(watch.0.look(&BTreeSet::from([KEY]), &Signs::default(), Moment(2_000)));
        assert_eq!(watch.0.reason(KEY, true), Some(EngineReason::KernelHasNone));
        let signs = Signs { direct: BTreeSet::from([KEY]), kernel: Some(BTreeMap::new()) };
        assert!(!watch.0.look(&BTreeSet::new(), &signs, Moment(3_000)));
        assert_eq!(watch.0.reason(KEY, false), Some(EngineReason::OtherHasNone));
    }

    #[test]
    fn whoever_is_gone_for_a_while_begins_anew() {
        let mut watch = Watch::carried();
        watch.0.keep(&BTreeSet::new());
        assert_eq!(watch.0.shape(KEY), (false, Carrier::Engine));
    }
}

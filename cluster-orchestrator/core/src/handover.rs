//! The last moment of a move: the copy on the new worker is ready, and the address that both have goes over to it. Packets of
//! calls that are under way then would come to a copy that knows nothing of them. So while others of the service answer,
//! nobody new is led to the one that moves, from a while before until a while after.
//!
//! ```text
//!   the successor is ready ──► Waits ──► LastCalls ──► the successor is the holder ──► Arrives ──► called again
//!                                │    others answer     as soon as nobody else answers: at once, with the calls under way
//!                                └──────────────────────────────▲
//! ```
//!
//! In memory only: a cluster that was restarted hears of ready successors again.

use std::collections::BTreeMap;

use model::{InstanceId, InstanceReport, LAST_CALLS_MILLIS, Moment, Now, Span};

use crate::{Change, Instance, State, reconcile::Plan};

/// By then all devices lead to the new place of an address, in milliseconds. A packet that some led there before the device
/// itself had heard would be sent back.
pub const ARRIVES_WITHIN_MILLIS: u64 = 100;

/// A service's `drain` is waited for that long at most, in milliseconds: nobody counts the connections, so a move would take all
/// of it.
pub const LONGEST_LAST_CALLS_MILLIS: u64 = 10_000;

/// Instances that move and whose successor is ready.
pub(crate) type Handovers = BTreeMap<InstanceId, Handover>;

/// See the module's description.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Handover {
    /// What is said of the successor.
    report: InstanceReport,
    stage: Stage,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Nobody is told anything.
    Waits,
    /// Nobody new calls it, and calls that are under way end.
    LastCalls { until: Moment },
    /// The address goes over.
    Arrives { until: Moment },
}

impl Handover {
    const fn is_quiet(&self) -> bool {
        matches!(self.stage, Stage::LastCalls { .. } | Stage::Arrives { .. })
    }

    /// Whether it says anything of an instance that is now like this.
    pub(crate) fn concerns(&self, instance: &Instance) -> bool {
        match self.stage {
            Stage::Waits | Stage::LastCalls { .. } => {
                instance.tenure.successor.is_some_and(|(_, generation)| generation == self.report.generation)
            }
            Stage::Arrives { .. } => {
                instance.tenure.holder.is_some_and(|(_, held)| held == self.report.generation)
            }
        }
    }
}

impl State {
    /// Nobody new is to call it, ready or not.
    pub(crate) fn is_quiet(&self, id: InstanceId) -> bool {
        self.handovers.get(&id).is_some_and(Handover::is_quiet)
    }

    /// The copy that is to replace another is ready.
    pub(crate) fn successor_ready(&mut self, report: InstanceReport) {
        let id = report.id;
        // It is not given up any more.
        self.moves.remove(&id);
        let stage = self.handovers.remove(&id).map_or(Stage::Waits, |begun| begun.stage);
        self.handovers.insert(id, Handover { report, stage });
    }

    /// It is ready no more: the old copy goes on.
    pub(crate) fn successor_unready(&mut self, id: InstanceId, until: Moment) {
        if let Some(handover) = self.handovers.remove(&id) {
            self.moves.insert(id, until);
            if handover.is_quiet() {
                self.called_otherwise(id);
            }
        }
    }

    /// Brings every move whose successor is ready a step further, if it is time.
    pub(crate) fn hand_over(&mut self, plan: &mut Plan, now: Now) {
        let ids: Vec<InstanceId> = self.handovers.keys().copied().collect();
        for id in ids {
            let Some(Handover { report, stage }) = self.handovers.get(&id).cloned() else { continue };
            let others = self.others_answer(id);
            match stage {
                Stage::Waits if others => {
                    let drain =
                        self.drain_of(id).as_millis().clamp(LAST_CALLS_MILLIS, LONGEST_LAST_CALLS_MILLIS);
                    let stage = Stage::LastCalls { until: now.moment.plus_millis(drain) };
                    self.handovers.insert(id, Handover { report, stage });
                    self.called_otherwise(id);
                }
                // Those that answer soon are waited for.
                Stage::Waits if self.others_move(id) => {}
                Stage::Waits => self.succeed(plan, id, report, None),
                Stage::LastCalls { until } if until <= now.moment || !others => {
                    let arrives = now.moment.plus_millis(ARRIVES_WITHIN_MILLIS);
                    self.succeed(plan, id, report, others.then_some(arrives));
                    self.called_otherwise(id);
                }
                Stage::Arrives { until } if until <= now.moment || !others => {
                    self.handovers.remove(&id);
                    self.called_otherwise(id);
                }
                Stage::LastCalls { .. } | Stage::Arrives { .. } => {}
            }
        }
        let next = self.handovers.values().filter_map(|handover| match handover.stage {
            Stage::Waits => None,
            Stage::LastCalls { until } | Stage::Arrives { until } => Some(until),
        });
        if let Some(next) = next.min() {
            plan.wake(next);
        }
    }

    fn succeed(&mut self, plan: &mut Plan, id: InstanceId, report: InstanceReport, arrives: Option<Moment>) {
        match arrives {
            Some(until) => {
                let stage = Stage::Arrives { until };
                self.handovers.insert(id, Handover { report: report.clone(), stage });
            }
            None => drop(self.handovers.remove(&id)),
        }
        let Some(mut instance) = self.instances.get(&id).cloned() else { return };
        instance.report = report;
        instance.tenure.succeed();
        self.change(plan, Change::Instance(id, Some(instance)));
    }

    fn others_answer(&self, id: InstanceId) -> bool {
        let ready = |it: &model::CallableInstance| it.ready && it.number != id.number;
        self.instances_anywhere(id.service).iter().any(ready)
    }

    /// Whether others of the service are quiet, and so will answer before long.
    fn others_move(&self, id: InstanceId) -> bool {
        let of_service = self.handovers.range(InstanceId::all_of(id.service));
        of_service.into_iter().any(|(other, handover)| *other != id && handover.is_quiet())
    }

    fn drain_of(&self, id: InstanceId) -> Span {
        self.instances
            .get(&id)
            .and_then(|instance| self.spec(instance))
            .map(|spec| spec.drain)
            .unwrap_or_default()
    }

    fn called_otherwise(&mut self, id: InstanceId) {
        self.networks.instance_changed(id);
        self.neighbourhood.service_changed(id.service);
    }
}

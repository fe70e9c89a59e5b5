//! Desired against observed: the only place that asks for effects.

use std::collections::BTreeSet;

use model::{
    Assignment, Brain, ClusterId, InstanceId, Moment, NeighbourNews, NetworkLease, NetworkNews, Now,
    TunnelKey, WorkerId,
};

use crate::{Change, State, Worker};

/// An assignment that a worker does not confirm is sent again after this long.
pub const OFFER_AGAIN_MILLIS: u64 = 5_000;

/// Something for the shell to do.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// Hand an assignment to a connection of a worker.
    SendAssignment {
        /// Which worker.
        worker: WorkerId,
        /// Which of its connections.
        session: u64,
        /// All it should have.
        assignment: Assignment,
    },
    /// Tell a NetManager what is new to it.
    TellNetwork {
        /// Which worker's.
        worker: WorkerId,
        /// Which of its connections.
        session: u64,
        /// The subnet of its worker, if it is another than before.
        lease: Option<NetworkLease>,
        /// What it may call.
        news: NetworkNews,
    },
    /// Tell a neighbour what is new to it, by way of the root. Never asked for again: if it is lost, so is the connection
    /// to the root.
    TellNeighbour {
        /// Over which connection to the root.
        session: u64,
        /// Which neighbour.
        to: ClusterId,
        /// Which of its connections.
        epoch: u64,
        /// What this cluster has.
        news: NeighbourNews,
    },
    /// Open a mailbox at the relay for a worker's end of encrypted links, and tell its NetManager.
    OfferRelay {
        /// Which worker's.
        worker: WorkerId,
        /// Which connection of its NetManager.
        session: u64,
        /// Its end.
        key: TunnelKey,
    },
    /// Close the mailbox of a worker that this cluster has forgotten, if there is one.
    CloseRelay {
        /// Which worker's.
        worker: WorkerId,
    },
    /// Tell a worker how often to beat.
    SetBeats {
        /// Which worker.
        worker: WorkerId,
        /// Which of its connections.
        session: u64,
        /// From now on.
        interval_millis: u64,
    },
    /// Ask a worker for a beat, over the way its beats come.
    AskForBeat {
        /// Which worker.
        worker: WorkerId,
        /// The session its beats belong to.
        session: u64,
    },
    /// Ask a worker for a report, over its connection.
    RequestReport {
        /// Which worker.
        worker: WorkerId,
        /// Which of its connections.
        session: u64,
        /// What it told before over this connection is not known here.
        anew: bool,
    },
    /// Report to the root: there is something no change tells of, be it sums only.
    Report {
        /// What is to be told of these anew.
        about: BTreeSet<InstanceId>,
    },
    /// Write into the log what has been found or decided that somebody who keeps this cluster wants to know.
    Note(Notice),
}

/// What the log tells of the life of workers and what becomes of their instances.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Notice {
    /// A worker has been silent for too long.
    WorkerLost {
        /// Which one.
        worker: WorkerId,
        /// For how long.
        silent_millis: u64,
    },
    /// A worker that was lost lives.
    WorkerBack {
        /// Which one.
        worker: WorkerId,
    },
    /// An instance goes from a worker that is lost, or does not begin it, to another.
    Replaced {
        /// Which one.
        instance: InstanceId,
        /// Who had it.
        from: WorkerId,
        /// Who is to have it.
        to: WorkerId,
    },
}

/// The changes and effects of a pass.
pub(crate) type Plan = model::Plan<Change, Effect>;

impl Brain for State {
    type Change = Change;
    type Effect = Effect;

    fn apply(&mut self, change: Change) {
        self.take(change);
    }

    /// Notices who is lost, places what waits, lends subnets, and brings workers up to date.
    fn reconcile(&mut self, now: Now) -> Plan {
        let mut plan = Plan::default();
        let mut field = None;
        self.look_at_pulses(&mut plan, now.moment);
        self.hand_over(&mut plan, now);
        let again = std::mem::take(&mut self.capacity_changed);
        self.place_pending(&mut plan, &mut field, now);
        self.replace_lost(&mut plan, &mut field, again, now);
        self.replace_unbegun(&mut plan, &mut field, now);
        self.drain(&mut plan, &mut field, again, now);
        self.settle_contested(&mut plan, now);
        self.lend_subnets(&mut plan);
        self.bump_generations(&mut plan);
        self.offer(&mut plan, now.moment);
        self.tell_weights(&mut plan, now.moment);
        self.tell_networks(&mut plan);
        self.tell_neighbours(&mut plan);
        if let Some(about) = self.root_behind.take() {
            plan.effects.push(Effect::Report { about });
        }
        plan
    }
}

impl State {
    pub(crate) fn change(&mut self, plan: &mut Plan, change: Change) {
        self.take(change.clone());
        plan.changes.push(change);
    }

    fn look_at_pulses(&mut self, plan: &mut Plan, now: Moment) {
        let findings = self.contacts.look(now);
        for (worker, session) in findings.ask {
            plan.effects.push(Effect::AskForBeat { worker, session });
        }
        for (worker, session) in findings.request_report {
            plan.effects.push(Effect::RequestReport { worker, session, anew: false });
        }
        for (worker, session) in std::mem::take(&mut self.untold) {
            plan.effects.push(Effect::RequestReport { worker, session, anew: true });
        }
        for (worker, session, interval_millis) in self.contacts.take_intervals() {
            plan.effects.push(Effect::SetBeats { worker, session, interval_millis });
        }
        for worker in self.contacts.take_news() {
            let concerned: BTreeSet<_> = self.on_worker(worker).map(|instance| instance.id).collect();
            self.looked_at.remove(&worker);
            self.worker_seen_otherwise(worker);
            plan.effects.push(Effect::Note(match self.contacts.lost_since(worker) {
                Some(since) => Notice::WorkerLost { worker, silent_millis: now.millis_since(since) },
                None => Notice::WorkerBack { worker },
            }));
            if self.contacts.lost_since(worker).is_none() {
                // It is back: room, and what it has needs no other place.
                self.capacity_changed = true;
                for id in &concerned {
                    self.no_place.remove(id);
                }
            }
            self.root_behind.get_or_insert_default().extend(concerned);
        }
        if let Some(at) = self.contacts.next_look() {
            plan.wake(at);
        }
    }

    /// Every worker gets a subnet as soon as there is a block, whether its NetManager is there or not, so that the
    /// one who asks first does not decide the order.
    fn lend_subnets(&mut self, plan: &mut Plan) {
        if !std::mem::take(&mut self.subnets_due) {
            return;
        }
        for id in self.without_subnet.clone() {
            // No block yet, or none left: the lease stays absent, which the NetManager is told.
            let Ok(lent) = self.subnets.lend(&id) else { break };
            if let Some(lent) = lent {
                self.change(plan, Change::Subnet(lent));
            }
            self.dirty.insert(id);
        }
    }

    fn bump_generations(&mut self, plan: &mut Plan) {
        for id in std::mem::take(&mut self.dirty) {
            if let Some(worker) = self.workers.get(&id) {
                let bumped = Worker { generation: worker.generation.next(), ..worker.clone() };
                self.change(plan, Change::Worker(id, Some(bumped)));
            }
        }
    }

    fn offer(&mut self, plan: &mut Plan, now: Moment) {
        for id in self.behind.clone() {
            let Some(worker) = self.workers.get(&id) else { continue };
            let generation = worker.generation;
            let Some(session) = self.contacts.session_mut(id) else { continue };
            if session.observed >= generation {
                self.behind.remove(&id);
                continue;
            }
            let again_at = |(offered, at): (_, Moment)| {
                (offered >= generation).then(|| at.plus_millis(OFFER_AGAIN_MILLIS))
            };
            match session.offered.and_then(again_at) {
                Some(at) if at > now => plan.wake(at),
                Some(_) | None => {
                    session.offered = Some((generation, now));
                    let session = session.number;
                    let assignment = self.assignment(&self.workers[&id]);
                    plan.effects.push(Effect::SendAssignment { worker: id, session, assignment });
                    plan.wake(now.plus_millis(OFFER_AGAIN_MILLIS));
                }
            }
        }
    }
}

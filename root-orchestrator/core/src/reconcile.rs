//! Desired against observed: the only place that asks for effects. Where instances go is in `placing.rs`, how
//! revisions follow one another in `rollout.rs`.

use model::{
    Assignment, Brain, ClusterId, Moment, NeighbourNews, Neighbours, Now, RevokedWorker, SpentToken,
    WorkerToken,
};

use crate::{ActionCall, Change, Cluster, DeliveryId, State};

/// An assignment that a cluster does not confirm is sent again after this long.
pub const OFFER_AGAIN_MILLIS: u64 = 5_000;
/// A pass takes so many steps in changes of revision one after another; what is left is for the next.
const ROUNDS: usize = 4;
/// Subnets that should stay free in a cluster's blocks, so that workers can join while the root is away.
const SPARE_SUBNETS: usize = 8;
/// /26 subnets in the /20 block that `addressing` lends.
const SUBNETS_PER_BLOCK: usize = 64;

/// Something for the shell to do.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// Hand an assignment to a connection of a cluster.
    SendAssignment {
        /// Which cluster.
        cluster: ClusterId,
        /// Which of its connections.
        session: u64,
        /// All it should have.
        assignment: Assignment,
    },
    /// Tell a cluster which tokens for its workers it may honour by itself.
    SendTokens {
        /// Which cluster.
        cluster: ClusterId,
        /// Which of its connections.
        session: u64,
        /// All of them.
        tokens: Vec<WorkerToken>,
        /// Uses it told of that are counted.
        settled: Vec<SpentToken>,
    },
    /// Tell a cluster whose certificates count no more.
    SendRevocations {
        /// Which cluster.
        cluster: ClusterId,
        /// Which of its connections.
        session: u64,
        /// All of them.
        workers: Vec<RevokedWorker>,
    },
    /// Tell a cluster what is new about its neighbours.
    TellNeighbours {
        /// Which cluster.
        cluster: ClusterId,
        /// Which of its connections.
        session: u64,
        /// All of it in the first for a connection.
        neighbours: Neighbours,
    },
    /// Hand a cluster what another says to it. Never asked for again: if it is lost, so is the connection.
    PassOn {
        /// Which cluster.
        cluster: ClusterId,
        /// Which of its connections.
        session: u64,
        /// Who says it.
        from: ClusterId,
        /// What.
        news: NeighbourNews,
    },
    /// Tell a hook what is next for it; what comes of it is to be said to [`State::delivered`].
    Deliver(DeliveryId),
    /// Call an action of a task; what comes of it is to be said to [`State::action_called`].
    CallAction(Box<ActionCall>),
}

/// The changes and effects of a pass.
pub(crate) type Plan = model::Plan<Change, Effect>;

impl Brain for State {
    type Change = Change;
    type Effect = Effect;

    fn apply(&mut self, change: Change) {
        self.take(change);
    }

    fn committed(&mut self, changes: &[Change], revision: u64) {
        self.note_revision(changes, revision);
    }

    /// Takes steps in changes under way, places what is pending, removes what is gone, and brings clusters up to date.
    fn reconcile(&mut self, now: Now) -> Plan {
        let mut plan = Plan::default();
        self.run_tasks(&mut plan, now);
        self.roll_out(&mut plan, now);
        self.give_addresses(&mut plan);
        self.place_all(&mut plan, now);
        // What was placed elsewhere, or nowhere, may let a change of revision get further; what that makes is placed. What has
        // happened may be what tasks wait for.
        let mut begins = self.fire_at_events(&mut plan, now);
        for _ in 0..ROUNDS {
            if self.rollouts_due.is_empty() && !begins {
                break;
            }
            if begins {
                self.run_tasks(&mut plan, now);
            }
            self.roll_out(&mut plan, now);
            self.give_addresses(&mut plan);
            self.place_all(&mut plan, now);
            begins = self.fire_at_events(&mut plan, now);
        }
        if !self.rollouts_due.is_empty() || begins {
            plan.wake(now.moment);
        }
        self.show_workflows(&mut plan, now);
        self.forget_deleted_services(&mut plan);
        // Somebody may have waited for the addresses of those that are gone.
        self.give_addresses(&mut plan);
        self.lend_blocks(&mut plan);
        self.bump_generations(&mut plan);
        self.offer_assignments(&mut plan, now.moment);
        self.offer_tokens(&mut plan, now);
        self.end_revocations(&mut plan, now);
        self.offer_revocations(&mut plan);
        self.tell_neighbours(&mut plan);
        // Late: whatever was decided above may be what somebody listens for.
        self.enqueue(&mut plan, now);
        self.offer_deliveries(&mut plan, now);
        self.keep_books(&mut plan, now);
        if self.fire_at_events(&mut plan, now) {
            plan.wake(now.moment);
        }
        self.keep_events(now);
        plan
    }
}

impl State {
    pub(crate) fn change(&mut self, plan: &mut Plan, change: Change) {
        self.take(change.clone());
        plan.changes.push(change);
    }

    fn forget_deleted_services(&mut self, plan: &mut Plan) {
        for id in std::mem::take(&mut self.emptied) {
            let deleted = self.services.get(&id).is_some_and(|service| service.deleted);
            if deleted && self.instances_of(id).next().is_none() {
                self.change(plan, Change::Service(id, None));
            }
        }
    }

    /// Gives each cluster enough blocks for the workers it has and some more to join.
    fn lend_blocks(&mut self, plan: &mut Plan) {
        let mut blocks = None;
        for id in &std::mem::take(&mut self.blocks_due) {
            if !self.clusters.contains_key(id) {
                continue;
            }
            let workers = self.sights.get(id).map_or(0, |sight| sight.aggregate.known_workers);
            let wanted = (workers as usize + SPARE_SUBNETS).div_ceil(SUBNETS_PER_BLOCK);
            let lent = self.blocks.blocks_of(id).v4.len();
            for _ in lent..wanted {
                let plan = blocks.get_or_insert_with(|| self.blocks.clone());
                if plan.extend(id).is_err() {
                    // Every block is lent; clusters say so to the workers that find none.
                    break;
                }
                self.dirty.insert(*id);
            }
        }
        if let Some(blocks) = blocks.filter(|blocks| *blocks != self.blocks) {
            self.change(plan, Change::Blocks(blocks));
        }
    }

    fn bump_generations(&mut self, plan: &mut Plan) {
        for id in std::mem::take(&mut self.dirty) {
            if let Some(cluster) = self.clusters.get(&id) {
                let bumped = Cluster { generation: cluster.generation.next(), ..cluster.clone() };
                self.change(plan, Change::Cluster(id, Some(bumped)));
            }
        }
    }

    fn offer_assignments(&mut self, plan: &mut Plan, now: Moment) {
        for id in self.behind.clone() {
            let Some(cluster) = self.clusters.get(&id) else { continue };
            let Some(session) = self.sessions.get_mut(&id) else { continue };
            if session.observed >= cluster.generation {
                self.behind.remove(&id);
                continue;
            }
            let offered = session.offered.filter(|(offered, _)| *offered >= cluster.generation);
            match offered.map(|(_, at)| at.plus_millis(OFFER_AGAIN_MILLIS)) {
                Some(at) if at > now => plan.wake(at),
                Some(_) | None => {
                    session.offered = Some((cluster.generation, now));
                    let session = session.number;
                    let assignment = self.assignment(&self.clusters[&id]);
                    plan.effects.push(Effect::SendAssignment { cluster: id, session, assignment });
                    plan.wake(now.plus_millis(OFFER_AGAIN_MILLIS));
                }
            }
        }
    }

    fn offer_revocations(&mut self, plan: &mut Plan) {
        for id in std::mem::take(&mut self.revocations_due) {
            // One that is away is told when it connects.
            let Some(session) = self.sessions.get(&id).map(|session| session.number) else { continue };
            let workers = self.revoked_workers(id);
            plan.effects.push(Effect::SendRevocations { cluster: id, session, workers });
        }
    }

    fn offer_tokens(&mut self, plan: &mut Plan, now: Now) {
        for (id, settled) in std::mem::take(&mut self.tokens_due) {
            // One that is away is told when it connects.
            let Some(session) = self.sessions.get(&id).map(|session| session.number) else { continue };
            let tokens = self.tokens_for(id, now.date);
            plan.effects.push(Effect::SendTokens { cluster: id, session, tokens, settled });
        }
    }
}

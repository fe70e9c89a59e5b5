//! What lies between daemons: connections that break, messages that are late, lost, doubled or overtaken.
//!
//! The messages of a connection keep their order unless chance says otherwise; over the real wire only a broken
//! connection loses any. The brains must bear more than that.

use crate::{
    callable::reach_of,
    cluster,
    event::{Body, End, Envelope, Event},
    ids::{Child, ClusterIndex, Host, WorkerIndex},
    link::Link,
    mutants::Mutant,
    queue::Millis,
    root,
    scenario::Fault,
    world::World,
};

/// Nobody answered for so long: the connection counts as broken. As in `crates/link`, by HTTP/2 pings.
const PINGS_FAIL: (Millis, Millis) = (10_000, 20_000);
/// A child that hears nothing on a new connection gives it up.
const WELCOME_WITHIN: Millis = 10_000;
/// A greeting that was overtaken by what followed it has arrived by then.
const GREETED_WITHIN: Millis = 3_000;
/// A parent sends again what was lost, after this long and a turn.
const FILLED_WITHIN: Millis = cluster_core::OFFER_AGAIN_MILLIS + 2_000;
/// Longer than this, nothing is under way.
pub(crate) const LONGEST_DELAY: Millis = 30_000;

impl World {
    pub(crate) fn link_mut(&mut self, child: Child) -> &mut Link {
        match child {
            Child::Cluster(index) => &mut self.cluster_mut(index).link,
            Child::Worker(index) => &mut self.worker_mut(index).link,
        }
    }

    pub(crate) fn link_ref(&self, child: Child) -> &Link {
        match child {
            Child::Cluster(index) => &self.cluster_ref(index).link,
            Child::Worker(index) => &self.worker_ref(index).link,
        }
    }

    fn parent_is_up(&self, child: Child) -> bool {
        match child {
            Child::Cluster(_) => self.root.daemon.is_up(),
            Child::Worker(index) => self.cluster_ref(self.cluster_of(index)).daemon.is_up(),
        }
    }

    pub(crate) fn child_is_up(&self, child: Child) -> bool {
        match child {
            Child::Cluster(index) => self.cluster_ref(index).daemon.is_up(),
            Child::Worker(index) => self.worker_ref(index).is_up(),
        }
    }

    /// Notes whether a child can be reached now.
    pub(crate) fn recheck_cut(&mut self, child: Child) {
        let now = self.now;
        let down = self.link_ref(child).is_cut_either_way(now)
            || !self.parent_is_up(child)
            || !self.child_is_up(child);
        self.link_mut(child).cuts.set(down, now);
    }

    /// The same for a cluster and all its workers.
    pub(crate) fn recheck_cluster(&mut self, index: ClusterIndex) {
        self.recheck_cut(Child::Cluster(index));
        for worker in self.workers_of(index) {
            self.recheck_cut(Child::Worker(worker));
        }
    }

    /// Puts a message on its way.
    pub(crate) fn send(&mut self, envelope: Envelope) {
        let now = self.now;
        self.statistics.messages += 1;
        let upward = envelope.body.upward();
        if envelope.body.is_datagram() && self.link_ref(envelope.child).is_cut(upward, now) {
            return;
        }
        let is_assignment = matches!(envelope.body, Body::Assignment(_));
        let lost = self.has(Fault::Loss) && self.rng.per_mille(10);
        if is_assignment {
            // By then whoever still misses it was sent it again.
            self.link_mut(envelope.child).gap_until = if lost { now + FILLED_WITHIN } else { 0 };
        }
        if lost {
            self.statistics.lost += 1;
            return;
        }
        // Answers never overtake: on the wire nothing does. Those behind a gap wait for what fills it.
        let is_answer = matches!(envelope.body, Body::Echoed { .. }) && !self.is_mutant(Mutant::EchoAtOnce);
        if is_answer && self.link_ref(envelope.child).gap_until > now {
            return;
        }
        let ordered = is_answer || (!self.has(Fault::Tails) && !envelope.body.is_datagram());
        let tails = self.has(Fault::Tails);
        let late = tails && self.rng.per_mille(20);
        let delay = if late { self.rng.spread(200, LONGEST_DELAY) } else { self.rng.between(1, 30) };
        let mut at = now + delay;
        if self.has(Fault::Duplication) && self.rng.per_mille(10) {
            let again = at + self.rng.spread(10, 10_000);
            self.queue.push(again, Event::Arrives(Box::new(envelope.clone())));
        }
        let link = self.link_mut(envelope.child);
        let last = if upward { &mut link.last_up } else { &mut link.last_down };
        if ordered {
            at = at.max(*last);
        }
        if !envelope.body.is_datagram() {
            *last = at.max(*last);
        }
        self.queue.push(at, Event::Arrives(Box::new(envelope)));
    }

    /// Puts a message on its way over a stream that is as on the real wire: nothing is lost but with the connection, and
    /// nothing overtakes.
    pub(crate) fn stream(&mut self, envelope: Envelope) {
        let (child, session, upward) = (envelope.child, envelope.session, envelope.body.upward());
        self.statistics.messages += 1;
        let link = self.link_ref(child);
        if link.session != session || !link.up {
            return;
        }
        let again = self.has(Fault::Loss) && self.rng.per_mille(10);
        let delay = if again { self.rng.spread(200, 5_000) } else { self.rng.between(1, 30) };
        self.link_mut(child).stream(upward).push_back(envelope);
        self.queue.push(self.now + delay, Event::Delivered { child, session, upward });
    }

    pub(crate) fn delivered(&mut self, child: Child, session: u64, upward: bool) {
        let (link, now) = (self.link_ref(child), self.now);
        if link.session != session || !link.up {
            return;
        }
        if link.is_cut(upward, now) {
            let again = now + self.rng.between(200, 1_000);
            self.queue.push(again, Event::Delivered { child, session, upward });
            return;
        }
        let Some(envelope) = self.link_mut(child).stream(upward).pop_front() else { return };
        if upward && self.parent_is_up(child) {
            self.arrives_above(envelope);
        } else if !upward && self.child_is_up(child) {
            self.arrives_below(envelope);
        }
    }

    pub(crate) fn arrives(&mut self, mut envelope: Envelope) {
        let (child, now) = (envelope.child, self.now);
        let upward = envelope.body.upward();
        if self.link_ref(child).is_cut(upward, now) {
            // A stream tries again for as long as its connection lasts.
            let alive = self.link_ref(child).session == envelope.session && self.link_ref(child).up;
            if alive && !envelope.body.is_datagram() {
                let again = now + self.rng.between(200, 1_000);
                self.queue.push(again, Event::Arrives(Box::new(envelope)));
            }
            return;
        }
        if self.is_mutant(Mutant::StaleSessions) {
            envelope.session = self.link_ref(child).session;
        }
        if upward && self.parent_is_up(child) {
            self.arrives_above(envelope);
        } else if !upward && self.child_is_up(child) {
            self.arrives_below(envelope);
        }
    }

    fn arrives_above(&mut self, envelope: Envelope) {
        let Envelope { child, session, body } = envelope;
        match child {
            Child::Cluster(index) => self.arrives_at_root(index, session, body),
            Child::Worker(index) => self.arrives_at_cluster(index, session, body),
        }
    }

    fn arrives_at_root(&mut self, index: ClusterIndex, session: u64, body: Body) {
        let cluster = index.id();
        match body {
            Body::ClusterHello { observed } => {
                self.enqueue_at_root(root::Input::Connected { cluster, session, observed });
                let known = self.root.sessions.entry(index).or_default();
                *known = (*known).max(session);
                self.send(Envelope { child: Child::Cluster(index), session, body: Body::Welcome });
            }
            Body::ClusterReport(report) => {
                if self.root.sessions.get(&index) != Some(&session) {
                    self.refuse(Child::Cluster(index), session);
                }
                self.enqueue_at_root(root::Input::Reported { cluster, session, report });
            }
            Body::ToNeighbour { to, epoch, news } => {
                self.enqueue_at_root(root::Input::ToNeighbour { from: cluster, session, to, epoch, news });
            }
            Body::WorkerHello { .. }
            | Body::NetworkHello
            | Body::WorkerReport(_)
            | Body::Beat { .. }
            | Body::Echo { .. }
            | Body::Welcome
            | Body::Assignment(_)
            | Body::Lease(_)
            | Body::Neighbours(_)
            | Body::FromNeighbour { .. }
            | Body::SetBeats { .. }
            | Body::AskForBeat
            | Body::RequestReport
            | Body::Echoed { .. } => {}
        }
    }

    fn arrives_at_cluster(&mut self, index: WorkerIndex, session: u64, body: Body) {
        let (worker, cluster, child) = (index.id(), self.cluster_of(index), Child::Worker(index));
        match body {
            Body::WorkerHello { inventory, address } => {
                self.enqueue_at_cluster(
                    cluster,
                    cluster::Input::Connected { worker, session, inventory, address },
                );
                let known = self.cluster_mut(cluster).sessions.entry(index).or_default();
                *known = (*known).max(session);
                self.send(Envelope { child, session, body: Body::Welcome });
            }
            Body::NetworkHello => {
                let reach = reach_of(index, self.worker_ref(index).address());
                self.enqueue_at_cluster(cluster, cluster::Input::NetworkConnected { worker, session, reach });
            }
            Body::WorkerReport(report) => {
                if self.cluster_ref(cluster).sessions.get(&index) != Some(&session) {
                    self.refuse(child, session);
                }
                self.enqueue_at_cluster(cluster, cluster::Input::Reported { worker, session, report });
            }
            Body::Beat { sequence } if !self.is_mutant(Mutant::NoBeats) => {
                self.beat_at_cluster(cluster, worker, session, sequence);
            }
            Body::Echo { sent } if self.is_mutant(Mutant::EchoAtOnce) => {
                self.send(Envelope { child, session, body: Body::Echoed { sent } });
            }
            Body::Echo { sent } => {
                if self.cluster_ref(cluster).sessions.get(&index) == Some(&session) {
                    self.enqueue_at_cluster(cluster, cluster::Input::Echo { worker: index, session, sent });
                }
            }
            Body::Beat { .. }
            | Body::ClusterHello { .. }
            | Body::ClusterReport(_)
            | Body::ToNeighbour { .. }
            | Body::Welcome
            | Body::Assignment(_)
            | Body::Lease(_)
            | Body::Neighbours(_)
            | Body::FromNeighbour { .. }
            | Body::SetBeats { .. }
            | Body::AskForBeat
            | Body::RequestReport
            | Body::Echoed { .. } => {}
        }
    }

    /// A process that does not know a connection resets it, unless the greeting was only overtaken.
    fn refuse(&mut self, child: Child, session: u64) {
        self.queue.push(self.now + GREETED_WITHIN, Event::Unknown { child, session });
    }

    pub(crate) fn unknown(&mut self, child: Child, session: u64) {
        let known = match child {
            Child::Cluster(index) => self.root.sessions.get(&index),
            Child::Worker(index) => self.cluster_ref(self.cluster_of(index)).sessions.get(&index),
        };
        if known != Some(&session) {
            self.broken(child, End::Child, session);
        }
    }

    fn arrives_below(&mut self, envelope: Envelope) {
        let Envelope { child, session, body } = envelope;
        match (child, body) {
            (_, Body::Welcome) => {
                let link = self.link_mut(child);
                if link.session == session {
                    link.welcomed = true;
                }
            }
            (Child::Cluster(index), Body::Assignment(assignment)) => {
                self.cluster_is_told(index, &assignment);
                self.enqueue_at_cluster(index, cluster::Input::Assignment(assignment));
            }
            (Child::Cluster(index), Body::Neighbours(named)) => {
                self.enqueue_at_cluster(index, cluster::Input::Neighbours { session, named });
            }
            (Child::Cluster(index), Body::FromNeighbour { from, news }) => {
                self.enqueue_at_cluster(index, cluster::Input::FromNeighbour { from, news });
            }
            (Child::Worker(index), Body::Assignment(assignment)) => self.worker_is_told(index, &assignment),
            (Child::Worker(index), Body::Lease(lease)) => self.network_is_told(index, lease),
            (Child::Worker(index), Body::SetBeats { interval_millis }) => {
                self.set_beats(index, session, interval_millis);
            }
            (Child::Worker(index), Body::AskForBeat) => self.beat_now(index, session),
            (Child::Worker(index), Body::RequestReport) => self.report_now(index),
            (Child::Worker(index), Body::Echoed { sent }) => self.echoed(index, sent),
            (
                _,
                Body::ClusterHello { .. }
                | Body::WorkerHello { .. }
                | Body::NetworkHello
                | Body::ToNeighbour { .. }
                | Body::ClusterReport(_)
                | Body::WorkerReport(_)
                | Body::Beat { .. }
                | Body::Echo { .. }
                | Body::Lease(_)
                | Body::Neighbours(_)
                | Body::FromNeighbour { .. }
                | Body::SetBeats { .. }
                | Body::AskForBeat
                | Body::RequestReport
                | Body::Echoed { .. },
            ) => {}
        }
    }

    pub(crate) fn dial_soon(&mut self, child: Child, wait: Millis) {
        let spread = self.rng.between(1, 1 + wait / 2 + 100);
        let link = self.link_mut(child);
        link.dial += 1;
        let token = link.dial;
        self.queue.push(self.now + wait + spread, Event::Dial { child, token });
    }

    pub(crate) fn dial(&mut self, child: Child, token: u32) {
        let now = self.now;
        if self.link_ref(child).dial != token || !self.child_is_up(child) {
            return;
        }
        if self.link_ref(child).is_cut_either_way(now) || !self.parent_is_up(child) {
            let wait = self.link_mut(child).next_backoff();
            return self.dial_soon(child, wait);
        }
        let link = self.link_mut(child);
        link.session += 1;
        link.up = true;
        link.welcomed = false;
        link.stream_up.clear();
        link.stream_down.clear();
        let session = link.session;
        self.queue.push(now + WELCOME_WITHIN, Event::Unwelcomed { child, session });
        self.say(|| format!("{child} connects, session {session}"));
        match child {
            Child::Cluster(index) => {
                let brain = self.cluster_ref(index).daemon.brain.as_ref();
                let observed = brain.map_or_else(Default::default, cluster_core::State::generation);
                self.send(Envelope { child, session, body: Body::ClusterHello { observed } });
                self.cluster_introduces_itself(index);
            }
            Child::Worker(index) => self.worker_connects(index, session),
        }
    }

    pub(crate) fn unwelcomed(&mut self, child: Child, session: u64) {
        if !self.link_ref(child).welcomed {
            self.broken(child, End::Child, session);
        }
    }

    /// One end learns that the connection is gone.
    pub(crate) fn broken(&mut self, child: Child, end: End, session: u64) {
        match (end, child) {
            (End::Child, _) => {
                let up = self.child_is_up(child);
                let link = self.link_mut(child);
                if link.session != session || !link.up {
                    return;
                }
                link.up = false;
                if link.welcomed {
                    link.backoff = 0;
                }
                let wait = link.next_backoff();
                if let (Child::Worker(index), Some(Mutant::StopWhenCut)) = (child, self.scenario.mutant) {
                    self.stop_all(index);
                }
                self.say(|| format!("{child} notices that session {session} is broken"));
                if up {
                    self.dial_soon(child, wait);
                }
            }
            (End::Parent, Child::Cluster(index)) => {
                let cluster = index.id();
                if self.root.sessions.get(&index) == Some(&session) {
                    self.root.sessions.remove(&index);
                }
                self.enqueue_at_root(root::Input::Disconnected { cluster, session });
            }
            (End::Parent, Child::Worker(index)) => {
                let (cluster, worker) = (self.cluster_of(index), index.id());
                self.enqueue_at_cluster(cluster, cluster::Input::Disconnected { worker, session });
                if self.cluster_ref(cluster).sessions.get(&index) == Some(&session) {
                    self.cluster_mut(cluster).sessions.remove(&index);
                    self.enqueue_at_cluster(cluster, cluster::Input::NetworkDisconnected { worker, session });
                }
            }
        }
    }

    /// The other end of a process that ended learns of it: at once, after a while, or never.
    pub(crate) fn end_is_noticed(&mut self, child: Child, end: End, session: u64) {
        let after = match self.rng.below(10) {
            0..6 => 20,
            // A child is never silent for long; a parent may wait for ever for one that is gone.
            6 if end == End::Parent && !self.is_quiet() => return,
            _ => self.rng.between(PINGS_FAIL.0, PINGS_FAIL.1),
        };
        self.queue.push(self.now + after, Event::Broken { child, end, session });
    }

    /// A cut that lasts breaks the connection for both ends, as pings find out.
    pub(crate) fn cut_is_noticed(&mut self, child: Child, lasts: Millis) {
        let session = self.link_ref(child).session;
        for end in [End::Child, End::Parent] {
            let after = self.rng.between(PINGS_FAIL.0, PINGS_FAIL.1);
            if after < lasts && (end == End::Child || !self.rng.per_mille(100)) {
                self.queue.push(self.now + after, Event::Broken { child, end, session });
            }
        }
    }

    /// How long a loop takes until it gets to what waits: a commit to a disk is mostly quick.
    pub(crate) fn pause_before_turn(&mut self) -> Millis {
        if self.rng.per_mille(5) { self.rng.spread(20, 1_000) } else { self.rng.between(1, 5) }
    }

    /// Sees to it that a daemon is asked again.
    pub(crate) fn wake_at(&mut self, host: Host, at: Option<Millis>) {
        let Some(at) = at.map(|at| at.max(self.now + 1)) else { return };
        let (wakes_at, process) = match host {
            Host::Root => (&mut self.root.daemon.wakes_at, self.root.daemon.process.number),
            Host::Cluster(index) => {
                let daemon = &mut self.clusters[index.0 as usize].daemon;
                (&mut daemon.wakes_at, daemon.process.number)
            }
            Host::Worker(index) => {
                let worker = &mut self.workers[index.0 as usize];
                (&mut worker.wakes_at, worker.process.number)
            }
        };
        if wakes_at.is_none_or(|earlier| at < earlier) {
            *wakes_at = Some(at);
            self.queue.push(at, Event::Wake { host, process });
        }
    }
}

//! The beats of workers: which connection they belong to, and how they reach the brain.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    net::SocketAddr,
    sync::{Mutex, MutexGuard, PoisonError},
};

use anyhow::Context;
use cluster_core::State;
use link::{BeatListener, DatagramSession};
use model::{Now, WorkerId};
use proto::v1;

use crate::Brain;

/// Takes in beats and asks for them.
#[derive(Debug)]
pub(crate) struct Beats {
    listener: BeatListener,
    sessions: Mutex<Sessions>,
}

#[derive(Debug, Default)]
struct Sessions {
    /// By the id that beats carry: whose they are, and the connection they count for.
    by_beat: BTreeMap<u64, (WorkerId, u64)>,
    /// The newest of each worker; it outlives its connection, because a worker that is cut off from TCP may still beat.
    by_worker: BTreeMap<WorkerId, (u64, DatagramSession)>,
}

impl Beats {
    /// Listens on the UDP port of the same number as the workers' TCP port.
    pub(crate) fn bind(address: SocketAddr) -> anyhow::Result<Self> {
        let listener = BeatListener::bind(address).with_context(|| {
            format!("listen for beats on UDP {address}; stop what uses the port or pass --worker-listen")
        })?;
        Ok(Self { listener, sessions: Mutex::default() })
    }

    /// Begins to listen for a worker's connection in place of the one before.
    pub(crate) fn connected(&self, worker: WorkerId, number: u64) {
        let beat = self.listener.register();
        let mut sessions = self.sessions();
        sessions.by_beat.insert(beat.id, (worker, number));
        if let Some((_, before)) = sessions.by_worker.insert(worker, (number, beat)) {
            sessions.by_beat.remove(&before.id);
            self.listener.forget(before.id);
        }
    }

    /// What a worker must be told to beat for the connection `number` so often.
    pub(crate) fn order(
        &self,
        worker: WorkerId,
        number: u64,
        interval_millis: u64,
    ) -> Option<v1::BeatSession> {
        let sessions = self.sessions();
        let (_, beat) = sessions.by_worker.get(&worker).filter(|(current, _)| *current == number)?;
        Some(v1::BeatSession {
            id: beat.id,
            key: beat.key.to_vec(),
            interval_millis: u32::try_from(interval_millis).unwrap_or(u32::MAX),
        })
    }

    /// Asks a worker to show that it lives.
    pub(crate) fn ask(&self, worker: WorkerId, number: u64) {
        let beat = {
            let sessions = self.sessions();
            sessions.by_worker.get(&worker).filter(|(current, _)| *current == number).map(|(_, beat)| beat.id)
        };
        if let Some(beat) = beat {
            self.listener.ask(beat);
        }
    }

    /// Has the brain take in what comes.
    pub(crate) async fn ring(&self, brain: &Brain) -> Infallible {
        loop {
            self.listener.rung().await;
            brain.ring();
        }
    }

    /// Tells the brain of the beats that have come; whether they leave it something to decide.
    pub(crate) fn take_in(&self, state: &mut State, now: Now) -> bool {
        let beats = self.listener.take_in();
        let sessions = self.sessions();
        let mut news = false;
        for beat in beats {
            if let Some((worker, number)) = sessions.by_beat.get(&beat.session) {
                news |= state.worker_beat(*worker, *number, beat.sequence, beat.load, now);
            }
        }
        news
    }

    fn sessions(&self) -> MutexGuard<'_, Sessions> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::{net::Ipv4Addr, time::Duration};

    use model::{Brain as _, Load, Moment, Resources, Timestamp, WorkerInventory};
    use tokio::sync::watch;

    use super::*;

    #[tokio::test]
    async fn a_beat_that_has_come_counts_though_nobody_was_woken_for_it() {
        const PATIENCE: Duration = Duration::from_secs(10);
        let at = |millis| Now { date: Timestamp(millis), moment: Moment(millis) };
        let id = WorkerId::new(uuid::Uuid::from_u128(1));
        let inventory = WorkerInventory {
            name: "pi-1".to_owned(),
            architecture: "arm64".to_owned(),
            allocatable: Resources::default(),
            capabilities: Vec::new(),
        };
        let mut state = State::default();
        let from = Ipv4Addr::LOCALHOST.into();
        for change in state.worker_connected(id, 1, inventory, from, at(1000)) {
            state.apply(change);
        }
        let beats = Beats::bind((Ipv4Addr::LOCALHOST, 0).into()).expect("a free port");
        beats.connected(id, 1);
        let order = beats.order(id, 1, 60_000).expect("it is connected");
        let key = order.key.try_into().expect("32 bytes");
        let session = DatagramSession { id: order.id, key };
        let parent = beats.listener.local_addr().expect("bound").to_string();
        let (_interval, told) = watch::channel(PATIENCE);
        let (_load, load) = watch::channel(Load::default());
        let beating = tokio::spawn(async move { link::send_beats(&parent, session, told, load).await });

        let taken_in = async {
            while !beats.take_in(&mut state, at(2000)) {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::time::timeout(PATIENCE, taken_in).await.expect("it comes");
        let worker = state.workers().next().expect("it is known");
        assert_eq!(state.worker_status(worker, at(2100)).silent_millis, Some(100));
        assert!(!beats.take_in(&mut state, at(3000)), "it is taken in once");
        beating.abort();
    }
}

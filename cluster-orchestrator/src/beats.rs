//! The beats of workers: which connection they belong to, and how they reach the brain.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Mutex, MutexGuard, PoisonError},
};

use anyhow::Context;
use link::{BeatListener, DatagramSession};
use model::WorkerId;
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

    /// Passes beats on to the brain until that ends.
    pub(crate) async fn pass_on(&self, brain: &Brain) {
        loop {
            let beats = self.listener.recv().await;
            let known: Vec<(WorkerId, u64, link::Beat)> = {
                let sessions = self.sessions();
                let whose = |beat: &link::Beat| {
                    sessions.by_beat.get(&beat.session).map(|(worker, number)| (*worker, *number, *beat))
                };
                beats.iter().filter_map(whose).collect()
            };
            let noticed = brain.notice_first(move |state, now| {
                let news = known.into_iter().fold(false, |news, (worker, number, beat)| {
                    state.worker_beat(worker, number, beat.sequence, beat.load, now) || news
                });
                news.then(Vec::new)
            });
            if noticed.await.is_err() {
                return;
            }
        }
    }

    fn sessions(&self) -> MutexGuard<'_, Sessions> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

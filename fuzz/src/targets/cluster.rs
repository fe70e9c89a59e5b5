//! What workers, their NetManagers, neighbours and the root may say to a cluster.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use cluster_core::{Change, State};
use model::{
    Assignment, ClusterRequest, Neighbours, Now, RelayLoan, RevokedWorker, SpentToken, WorkerId,
    WorkerInventory, WorkerReport, WorkerToken,
};
use prost::Message;
use proto::{
    read_mailbox, read_network_hello,
    v1::{self, root_to_cluster as from_root, worker_to_cluster as from_worker},
};
use uuid::Uuid;

use crate::shared;

const ADDRESS: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));

struct Cluster {
    state: State,
    session: u64,
    now: Now,
}

pub(crate) fn take(data: &[u8]) {
    let mut cluster = Cluster { state: State::default(), session: 0, now: shared::BEGINNING };
    for (choice, bytes) in shared::parts(data) {
        cluster.now = shared::later(cluster.now, choice);
        let worker = WorkerId::new(Uuid::from_bytes([choice >> 2 & 3; 16]));
        let changes = match choice & 3 {
            0 => cluster.worker_says(worker, bytes),
            1 => cluster.network_says(worker, bytes),
            _ => cluster.root_says(bytes),
        };
        shared::settle(&mut cluster.state, changes.unwrap_or_default(), cluster.now);
        let report = cluster.state.report(1, cluster.now);
        let _wire = v1::ClusterReport::from(&report);
        for worker in cluster.state.workers() {
            let _wire = v1::Assignment::from(&cluster.state.assignment(worker));
        }
    }
}

/// `None` for what is not understood.
impl Cluster {
    fn worker_says(&mut self, worker: WorkerId, bytes: &[u8]) -> Option<Vec<Change>> {
        match v1::WorkerToCluster::decode(bytes).ok()?.message? {
            from_worker::Message::Inventory(inventory) => {
                let inventory = WorkerInventory::try_from(inventory).ok()?;
                self.session += 1;
                Some(self.state.worker_connected(worker, self.session, inventory, ADDRESS, self.now))
            }
            from_worker::Message::Report(report) => {
                let report = WorkerReport::try_from(report).ok()?;
                // Of whichever connection of it is the newest.
                let sessions = 0..=self.session;
                let report = |session| self.state.worker_reported(worker, session, report.clone(), self.now);
                Some(sessions.filter_map(report).flatten().collect())
            }
            from_worker::Message::LogChunk(_)
            | from_worker::Message::LogEnd(_)
            | from_worker::Message::Echo(_) => None,
        }
    }

    fn network_says(&mut self, worker: WorkerId, bytes: &[u8]) -> Option<Vec<Change>> {
        let said = v1::NetworkToCluster::decode(bytes).ok()?;
        if let Some(mailbox) = &said.mailbox {
            self.state.network_at_root(worker, self.session, read_mailbox(mailbox).ok()?);
            return None;
        }
        let reach = read_network_hello(said).ok()?;
        self.session += 1;
        self.state.network_connected(worker, self.session, reach);
        self.state.network_observed(worker, self.session, SocketAddr::new(ADDRESS, 50103));
        None
    }

    fn root_says(&mut self, bytes: &[u8]) -> Option<Vec<Change>> {
        match v1::RootToCluster::decode(bytes).ok()?.message? {
            from_root::Message::Assignment(assignment) => {
                self.state.take_on(Assignment::try_from(assignment).ok()?, self.now).ok()
            }
            from_root::Message::Tokens(sent) => {
                let tokens =
                    sent.tokens.into_iter().map(WorkerToken::try_from).collect::<Result<_, _>>().ok()?;
                let settled: Vec<_> =
                    sent.settled.into_iter().map(SpentToken::try_from).collect::<Result<_, _>>().ok()?;
                Some(self.state.honour(tokens, &settled))
            }
            from_root::Message::Revoked(revoked) => {
                let workers: Vec<_> = revoked
                    .workers
                    .into_iter()
                    .map(RevokedWorker::try_from)
                    .collect::<Result<_, _>>()
                    .ok()?;
                Some(self.state.revoke(&workers))
            }
            from_root::Message::Request(asked) => {
                let (answer, changes) = self.state.request(&ClusterRequest::try_from(asked).ok()?, self.now);
                let _wire = v1::ClusterAnswer::new(1, answer);
                Some(changes)
            }
            from_root::Message::Neighbours(named) => {
                self.session += 1;
                Some(self.state.neighbours_named(self.session, Neighbours::try_from(named).ok()?))
            }
            from_root::Message::FromNeighbour(said) => {
                let (from, news) = said.read().ok()?;
                Some(self.state.neighbour_said(from, news).1)
            }
            from_root::Message::Relay(lent) => {
                let _key = RelayLoan::try_from(lent).ok()?;
                None
            }
            from_root::Message::LogRequest(_) | from_root::Message::LogCancel(_) => None,
        }
    }
}

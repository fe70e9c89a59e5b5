//! The one owner of the state and the datapath. Everybody else holds a [`Handle`].

mod keeping;
mod wanted;

use std::{collections::BTreeSet, os::unix::fs::MetadataExt, sync::Arc, time::Duration};

use anyhow::Context;
use daemon::StateDirectory;
use model::{InstanceId, Moment, NetworkLease, Peer, WorkerId};
use net_core::{
    AttachRequest, Attachment, Change, Command, Effect, Namespace, NetworkState, ObservedKernel, RoundTrip,
    forward_warnings, reconcile,
};
use tokio::{
    sync::{mpsc, oneshot},
    task::{JoinError, JoinSet},
    time::{Instant, MissedTickBehavior},
};
use tokio_util::sync::CancellationToken;

use crate::{
    datapath::{Datapath, DatapathError},
    handle::{AttachError, AttachOrder, Handle, Request},
    names::Bulletin,
    status::{Connection, Facts, Link, Status},
    uplink::{Uplink, UplinkEvent},
};
use keeping::{STATE_FILE, SURROUNDINGS_FILE};
use wanted::Wanted;

/// What the cluster tells is written so long after it came: in a busy cluster it changes many times a second.
const WRITE_AFTER: Duration = Duration::from_secs(1);
/// How often the kernel is read and put right unasked. Another program that flushes the firewall or a container that
/// died is noticed within this; a read takes about a millisecond.
const PASS_INTERVAL: Duration = Duration::from_secs(10);
/// See the module.
#[derive(Debug)]
pub struct Service<D> {
    datapath: D,
    directory: Arc<StateDirectory>,
    uplink: Uplink,
    state: NetworkState,
    /// The kernel as it was last read, with what was done since; `None` after something failed.
    kernel: Option<ObservedKernel>,
    connection: Connection,
    datapath_error: Option<String>,
    requests: mpsc::Receiver<Request>,
    /// Since when what the cluster told is not yet written.
    unwritten_since: Option<Instant>,
    /// What names are answered from.
    bulletin: Bulletin,
    /// Attached instances whose first instruction is held back.
    held: Vec<Held>,
    /// Rounds of echoes to other devices that are under way.
    rounds: JoinSet<Round>,
}

/// An instance that waits for what the cluster has to tell of its application.
#[derive(Debug)]
struct Held {
    attachment: Attachment,
    since: Moment,
    reply: oneshot::Sender<Result<Attachment, AttachError>>,
}

/// What came of echoes to a device.
type Round = (WorkerId, Option<RoundTrip>);

impl<D: Datapath> Service<D> {
    /// Goes on with the state that was kept.
    ///
    /// # Errors
    /// When there is one that cannot be read.
    pub fn open(
        directory: Arc<StateDirectory>,
        uplink: Uplink,
        datapath: D,
    ) -> anyhow::Result<(Self, Handle)> {
        let state = match directory.read_file(STATE_FILE).context("read the network state")? {
            Some(content) => serde_json::from_slice(&content).with_context(|| {
                let path = directory.path().join(STATE_FILE);
                format!("parse {}; remove it to begin with an empty network", path.display())
            })?,
            None => NetworkState::default(),
        };
        let mut state: NetworkState = state;
        if let Some(content) = directory.read_file(SURROUNDINGS_FILE).context("read what the cluster told")? {
            match serde_json::from_slice(&content) {
                Ok(surroundings) => state.recall(surroundings),
                // The cluster tells it again; until then instances of this device are all there is.
                Err(error) => tracing::warn!(%error, "what the cluster told before cannot be read"),
            }
        }
        let (handle, requests) = Handle::new();
        let service = Self {
            unwritten_since: None,
            bulletin: Bulletin::default(),
            held: Vec::new(),
            rounds: JoinSet::new(),
            datapath,
            directory,
            uplink,
            state,
            kernel: None,
            connection: Connection::NotYet,
            datapath_error: None,
            requests,
        };
        Ok((service, handle))
    }

    /// What whoever answers names is told.
    pub(crate) fn bulletin(&self) -> Bulletin {
        self.bulletin.clone()
    }

    /// Serves until `shutdown`. What the kernel holds then keeps carrying traffic.
    pub async fn run(mut self, mut leases: mpsc::Receiver<UplinkEvent>, shutdown: CancellationToken) {
        self.resume().await;
        let mut passes = tokio::time::interval(PASS_INTERVAL);
        passes.set_missed_tick_behavior(MissedTickBehavior::Delay);
        passes.reset();
        let mut leases_open = true;
        let broken = self.datapath.broken();
        loop {
            let begins = self.let_begin();
            let rounds_due = self.state.rounds_due().map(|due| daemon::instant_of(due).into());
            let look_due = self.state.look_due().map(|due| daemon::instant_of(due).into());
            tokio::select! {
                () = shutdown.cancelled() => return self.write_surroundings(),
                request = self.requests.recv() => match request {
                    Some(request) => self.serve(request).await,
                    None => return,
                },
                event = leases.recv(), if leases_open => match event {
                    Some(event) => self.hear(event, &mut leases).await,
                    None => leases_open = false,
                },
                _ = passes.tick() => self.pass().await,
                () = broken.notified() => self.pass().await,
                () = at(self.unwritten_since.map(|since| since + WRITE_AFTER)) => self.write_surroundings(),
                () = at(begins) => {}
                () = at(rounds_due) => self.begin_rounds(),
                () = at(look_due) => if self.look().await {
                    self.put_right().await;
                },
                Some(round) = self.rounds.join_next() => self.take_rounds(round).await,
            }
        }
    }

    /// The first pass: ports of the instances that are still there are held again.
    async fn resume(&mut self) {
        self.pass().await;
        self.bulletin.tell(&self.state);
        for attachment in self.state.attachments() {
            if let Err(error) = self.datapath.reserve_ports(attachment.id, &attachment.ports) {
                tracing::warn!(instance = %attachment.id, %error, "a port in use by an instance is also a program's");
            }
        }
        if !self.state.attachments().is_empty() {
            tracing::info!(
                instances = self.state.attachments().len(),
                "instances of before keep their network"
            );
        }
    }

    /// Reads the kernel, drops instances whose namespace is gone and puts the rest right.
    async fn pass(&mut self) {
        let living = self.living_namespaces();
        let gone = self.state.observe(&living);
        for change in &gone {
            if let Change::Detached(id) = change {
                tracing::info!(instance = %id, "its network namespace is gone; it is detached");
                self.datapath.release_ports(*id);
            }
        }
        if let Err(error) = self.commit(gone) {
            tracing::error!(error = format!("{error:#}"), "the network state could not be kept");
        }
        self.look().await;
        self.kernel = None;
        self.put_right().await;
    }

    /// Looks after encrypted links. Says whether the kernel has to change for it.
    async fn look(&mut self) -> bool {
        let signs = self.datapath.signs().await;
        self.state.look(&signs, daemon::present().moment)
    }

    /// As [`Service::settle`]; what fails is tried again with the next pass.
    async fn put_right(&mut self) {
        let outcome = self.settle(Wanted::Everything).await;
        self.report(outcome.as_ref().err());
    }

    fn begin_rounds(&mut self) {
        for (worker, echo) in self.state.begin_rounds(daemon::present().moment) {
            let round = self.datapath.echo(echo);
            self.rounds.spawn(async move { (worker, round.await) });
        }
    }

    /// Takes on `first` and all that have ended meanwhile. One that panicked is begun again, as one without a result is.
    async fn take_rounds(&mut self, first: Result<Round, JoinError>) {
        let mut changed = false;
        let mut next = Some(first);
        while let Some(round) = next {
            if let Ok((worker, answer)) = round {
                changed |= self.state.take_round(worker, answer, daemon::present().moment);
            }
            next = self.rounds.try_join_next();
        }
        if changed {
            self.put_right().await;
        }
    }

    fn living_namespaces(&self) -> BTreeSet<Namespace> {
        let namespaces = self.state.attachments().iter().map(|attachment| &attachment.namespace);
        namespaces
            .filter(|namespace| inode_of(&namespace.path).ok() == Some(namespace.inode))
            .cloned()
            .collect()
    }

    fn report(&mut self, error: Option<&DatapathError>) {
        let now = error.map(|error| daemon::chain(error).to_string());
        if now != self.datapath_error {
            match &now {
                Some(error) => tracing::warn!(error, "the kernel could not be put right; it is tried again"),
                None => tracing::info!("the kernel is as it should be again"),
            }
        }
        self.datapath_error = now;
    }

    /// Does what separates the kernel from what it should be, reading it first unless it is known. An effect that
    /// fails does not keep the others from being done.
    ///
    /// # Errors
    /// The first failure that is not another instance's than `wanted`.
    async fn settle(&mut self, wanted: Wanted) -> Result<(), DatapathError> {
        let mut kernel = match self.kernel.take() {
            Some(kernel) => kernel,
            None => self.datapath.observe().await?,
        };
        let mut failure = None;
        let mut intact = true;
        for effect in reconcile(&self.state.desired(), &kernel) {
            log_repair(&effect);
            match self.datapath.apply(&effect).await {
                Ok(()) => kernel.after(&effect),
                Err(error) => {
                    intact = false;
                    if wanted.concerned_by(&effect) && failure.is_none() {
                        failure = Some(error);
                    }
                }
            }
        }
        // After a failure nobody knows how far it came; the next one reads again.
        self.kernel = intact.then_some(kernel);
        failure.map_or(Ok(()), Err)
    }

    /// Hears all that has come, and puts the kernel right once: that takes as long as there are many connections, and
    /// callers of a service are to leave instances that go before those end.
    async fn hear(&mut self, first: UplinkEvent, others: &mut mpsc::Receiver<UplinkEvent>) {
        let mut is_news = self.take_in(first).await;
        while let Ok(event) = others.try_recv() {
            is_news |= self.take_in(event).await;
        }
        if is_news {
            self.bulletin.tell(&self.state);
            self.put_right().await;
        }
    }

    /// Whether the kernel may have to change for it.
    async fn take_in(&mut self, event: UplinkEvent) -> bool {
        match event {
            UplinkEvent::Connected => self.connection = Connection::Up,
            UplinkEvent::Disconnected(reason) => {
                if !matches!(self.connection, Connection::Down(_)) {
                    tracing::warn!(reason, "not connected to the cluster");
                }
                self.connection = Connection::Down(reason);
            }
            UplinkEvent::Relay(order) => self.datapath.use_relay(order).await,
            UplinkEvent::Lease(lease) => {
                self.connection = Connection::Up;
                return self.take_lease(lease);
            }
            UplinkEvent::News(news) => {
                self.connection = Connection::Up;
                self.state.hear(news);
                self.unwritten_since.get_or_insert_with(Instant::now);
                return true;
            }
        }
        false
    }

    fn take_lease(&mut self, lease: NetworkLease) -> bool {
        let changes = match self.state.accept(Command::UseLease(lease)) {
            Ok(changes) => changes,
            Err(rejection) => {
                tracing::warn!(%rejection, "the lease of the cluster is not used");
                return false;
            }
        };
        for change in &changes {
            if let Change::SubnetChosen(subnet) = change {
                tracing::info!(v4 = %subnet.v4, v6 = %subnet.v6, "the cluster lent this subnet");
            }
        }
        if let Err(error) = self.commit(changes) {
            tracing::error!(error = format!("{error:#}"), "the lease could not be kept");
        }
        true
    }

    async fn serve(&mut self, request: Request) {
        // Whoever no longer waits for an answer does not need it.
        match request {
            Request::Attach(order, reply) => match self.attach(order).await {
                Ok(attachment) => {
                    self.held.push(Held { attachment, since: daemon::present().moment, reply });
                }
                Err(error) => drop(reply.send(Err(error))),
            },
            Request::Drain(id, reply) => drop(reply.send(self.drain(id).await)),
            Request::Detach(id, reply) => drop(reply.send(self.detach(id).await)),
            Request::List(reply) => drop(reply.send(self.state.attachments().to_vec())),
            Request::Links(reply) => drop(reply.send(self.links().await)),
            Request::Status(reply) => drop(reply.send(self.status())),
        }
    }

    async fn attach(&mut self, order: AttachOrder) -> Result<Attachment, AttachError> {
        let AttachOrder { id, generation, network_namespace: path, ports, address } = order;
        let inode = match inode_of(&path) {
            Ok(inode) => inode,
            Err(problem) => return Err(AttachError::NoNamespace { path, problem }),
        };
        let namespace = Namespace { path, inode };
        if self.datapath.is_devices_own(&namespace) {
            return Err(AttachError::DevicesOwn { id, path: namespace.path });
        }
        let request = AttachRequest { id, generation, namespace, ports, address };
        let changes = self.state.accept(Command::Attach(request))?;
        if let Some(Change::Attached(attachment)) = changes.first() {
            self.datapath.reserve_ports(id, &attachment.ports)?;
            if self.state.attachment(id).is_some() {
                // Its process is another one than before, and the cable went with the old one's namespace. The kernel
                // likes to give the new namespace the inode of the old, so what is remembered would look right.
                self.kernel = None;
            }
        }
        let known = changes.is_empty();
        let keeping = self.begin_to_keep(changes).map_err(AttachError::State)?;
        let settled = self.settle(Wanted::Instance(id)).await;
        if let Some(keeping) = keeping {
            self.finish_keeping(keeping, id).await.map_err(AttachError::State)?;
        }
        settled?;
        let attachment = self.state.attachment(id).cloned().expect("it was attached just now");
        if !known {
            tracing::info!(instance = %id, v4 = %attachment.addresses.v4, v6 = %attachment.addresses.v6, "attached");
        }
        Ok(attachment)
    }

    /// Answers for the instances that may begin; returns when the next one may at the latest.
    fn let_begin(&mut self) -> Option<Instant> {
        let now = daemon::present().moment;
        let mut next: Option<Moment> = None;
        for held in std::mem::take(&mut self.held) {
            let id = held.attachment.id;
            match self.state.begins(id, held.since, now) {
                Some(until) => {
                    next = Some(next.map_or(until, |next| next.min(until)));
                    self.held.push(held);
                }
                None => drop(held.reply.send(Ok(held.attachment))),
            }
        }
        next.map(|at| Instant::from_std(daemon::instant_of(at)))
    }

    async fn drain(&mut self, id: InstanceId) -> Result<u32, AttachError> {
        let changes = self.state.accept(Command::Drain(id))?;
        if !changes.is_empty() {
            self.commit(changes).map_err(AttachError::State)?;
            self.settle(Wanted::Instance(id)).await?;
            tracing::info!(instance = %id, "it goes; its ports lead nobody new to it");
        }
        Ok(self.datapath.connections(&self.state.connected_at(id)).await?)
    }

    async fn detach(&mut self, id: InstanceId) -> Result<(), AttachError> {
        let changes = self.state.accept(Command::Detach(id))?;
        let known = changes.is_empty();
        self.commit(changes).map_err(AttachError::State)?;
        self.datapath.release_ports(id);
        self.settle(Wanted::Instance(id)).await?;
        if !known {
            tracing::info!(instance = %id, "detached");
        }
        Ok(())
    }

    async fn links(&mut self) -> Vec<Link> {
        let by_engine = self.datapath.encrypted().await;
        let by_kernel = self.datapath.in_kernel().await;
        let peers = &self.state.surroundings().peers;
        let link = |(worker, peer): (&WorkerId, &Arc<Peer>)| {
            let why_by_engine = self.state.why_by_engine(peer.way);
            let carried = if why_by_engine.is_some() { &by_engine } else { &by_kernel };
            Link::of(*worker, peer.way, why_by_engine, carried, self.state.nearness(*worker))
        };
        peers.iter().map(link).collect()
    }

    fn status(&self) -> Status {
        let registration = self.uplink.registration();
        let subnet = self.state.subnet();
        let certificate = self.uplink.lifetime();
        let overdue = certificate.filter(|(lifetime, now)| lifetime.is_overdue(*now)).map(|_| {
            "the certificate should have been renewed: the log of NodeEngine says why it is not".to_owned()
        });
        let forwarding = self.kernel.as_ref().map(forward_warnings);
        let facts = Facts {
            registered: registration.is_some(),
            certified: self.uplink.is_certified(),
            connection: self.connection.clone(),
            has_subnet: subnet.is_some(),
            datapath_error: self.datapath_error.clone(),
            warnings: forwarding
                .into_iter()
                .flatten()
                .chain(self.bulletin.trouble())
                .chain(overdue)
                .collect(),
        };
        Status {
            state: facts.stage(),
            detail: facts.detail(),
            worker_id: registration.map(|registration| registration.worker_id),
            subnet_v4: subnet.map(|subnet| subnet.v4.to_string()),
            subnet_v6: subnet.map(|subnet| subnet.v6.to_string()),
            instances: self.state.attachments().len(),
            passages: self.datapath.has_passages(),
            certificate_seconds_left: certificate
                .map(|(lifetime, now)| lifetime.expires.millis_since(now) / 1000),
        }
    }
}

async fn at(moment: Option<Instant>) {
    match moment {
        Some(moment) => tokio::time::sleep_until(moment).await,
        None => std::future::pending().await,
    }
}

fn inode_of(path: &str) -> std::io::Result<u64> {
    std::fs::metadata(path).map(|metadata| metadata.ino())
}

fn log_repair(effect: &Effect) {
    if let Effect::RepairLink(plan) = effect {
        tracing::warn!(instance = %plan.instance, link = %plan.name, "its cable was changed by somebody else; put right");
    }
}

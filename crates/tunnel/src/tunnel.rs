//! The tunnel as its owner sees it: starts and ends the threads, and gives them their peers.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    num::NonZeroUsize,
    sync::{Arc, Mutex, PoisonError, atomic::Ordering},
    thread::{self, JoinHandle},
    time::Instant,
};

use crate::{
    Drops, Error, Peer, PeerStatus, PublicKey, Settings,
    counters::Counters,
    device::{Deliveries, Queue, Segments, largest_packet},
    handshake::Doorkeeper,
    inbound::{Arrivals, Desk, Inbound},
    outbound::Outbound,
    outbox::Outbox,
    peer,
    routes::Routes,
    socket::{Endpoint, Receiver, Sender, Socket},
    stop::Stop,
    table::{Table, Tables, View},
    timers::Timers,
};

/// More threads than this per direction wait for each other on the interface and on memory.
const MOST_QUEUES: usize = 4;

/// Sessions are named by 24 bits of peer.
const MOST_PEERS: usize = 1 << 24;

/// One side of the links to all peers: an interface, a UDP port, and the threads between them.
///
/// Dropping it ends the threads and removes the interface; so does [`Tunnel::stop`], by name.
#[derive(Debug)]
pub struct Tunnel {
    port: u16,
    public_key: PublicKey,
    tables: Arc<Tables>,
    counters: Arc<Counters>,
    doorkeeper: Arc<Doorkeeper>,
    stop: Arc<Stop>,
    /// For what the owner sends, which is rare.
    desk: Mutex<(Sender, Outbox)>,
    threads: Vec<JoinHandle<()>>,
}

/// The parts that one thread is made of after the other.
struct Workshop<'settings> {
    settings: &'settings Settings,
    tables: Arc<Tables>,
    counters: Arc<Counters>,
    doorkeeper: Arc<Doorkeeper>,
    stop: Arc<Stop>,
}

impl Tunnel {
    /// Makes the interface, brings it up, opens the port (for IPv6 and IPv4, or IPv4 alone where there is no IPv6), and
    /// starts the threads, all in the network namespace of the calling thread. The interface has neither addresses nor
    /// routes, and the tunnel no peers.
    ///
    /// # Errors
    ///
    /// When a setting is out of range, or the kernel refuses; nothing is left behind then.
    pub fn start(settings: Settings) -> Result<Self, Error> {
        if !(1280..=9000).contains(&settings.mtu) {
            return Err(Error::Mtu(settings.mtu));
        }
        let count = queues(settings.queues);
        let port_error = |source| Error::Port { port: settings.port, source };
        let sockets = Socket::open(settings.port, count).map_err(port_error)?;
        let queues = Queue::open(&settings.name, settings.mtu, count)
            .map_err(|source| Error::Device { name: settings.name.clone(), source })?;
        let workshop = Workshop {
            settings: &settings,
            tables: Tables::new(),
            counters: Arc::default(),
            doorkeeper: Arc::new(Doorkeeper::new(&settings.key)),
            stop: Arc::new(Stop::new().map_err(Error::Thread)?),
        };
        let mut tunnel = Self {
            port: sockets[0].port().map_err(port_error)?,
            public_key: settings.key.public(),
            tables: Arc::clone(&workshop.tables),
            counters: Arc::clone(&workshop.counters),
            doorkeeper: Arc::clone(&workshop.doorkeeper),
            stop: Arc::clone(&workshop.stop),
            desk: Mutex::new((Sender::new(&sockets[0]).map_err(port_error)?, Outbox::new())),
            threads: Vec::new(),
        };
        for (number, (queue, socket)) in queues.iter().zip(&sockets).enumerate() {
            let outbound = workshop.outbound(queue, socket).map_err(port_error)?;
            tunnel.spawn(format!("tunnel-out-{number}"), move || outbound.run())?;
            let inbound = workshop.inbound(queue, socket).map_err(port_error)?;
            tunnel.spawn(format!("tunnel-in-{number}"), move || inbound.run())?;
        }
        let timers = workshop.timers(&sockets[0]).map_err(port_error)?;
        tunnel.spawn("tunnel-timers".to_owned(), move || timers.run())?;
        Ok(tunnel)
    }

    /// A thread that was started ends with the tunnel, also when the next one cannot be started.
    fn spawn(&mut self, name: String, run: impl FnOnce() + Send + 'static) -> Result<(), Error> {
        self.threads.push(thread::Builder::new().name(name).spawn(run).map_err(Error::Thread)?);
        Ok(())
    }

    /// Makes `wanted` the whole set of peers. A peer that was there keeps its keys, its counters and where it was last
    /// seen; a changed endpoint is tried at once. A new peer with an endpoint is greeted at once, so that it notices a
    /// restart of this side. With a peer that is gone nothing passes any more when this returns.
    ///
    /// # Errors
    ///
    /// When two peers have the same key, or the same network, or a peer is this side itself. Then nothing changes.
    pub fn set_peers(&self, wanted: Vec<Peer>) -> Result<(), Error> {
        self.check(&wanted)?;
        let now = Instant::now();
        let mut to_greet = Vec::new();
        let mut gone = Vec::new();
        self.tables.replace(|table| -> Result<Table, Error> {
            let (next, slots) = self.next_peers(table, &wanted, now);
            let routes = routes(&wanted, &slots)?;
            for (wanted, peer) in wanted.iter().zip(&next) {
                let is_new = table.by_key(&peer.key).is_none();
                let moved = peer.lock().as_mut().is_some_and(|session| session.configure(wanted));
                if moved || is_new {
                    to_greet.push(Arc::clone(peer));
                }
            }
            let kept: BTreeSet<PublicKey> = next.iter().map(|peer| peer.key).collect();
            gone.extend(table.peers().filter(|peer| !kept.contains(&peer.key)).cloned());
            Ok(Table::new(next, routes))
        })?;
        for peer in gone {
            peer.close();
        }
        let mut desk = self.desk.lock().unwrap_or_else(PoisonError::into_inner);
        let (sender, outbox) = &mut *desk;
        for peer in to_greet {
            if let Some(session) = peer.lock().as_mut() {
                session.greet(outbox);
            }
            let failed = outbox.flush(sender, &self.stop);
            self.counters.not_sent.fetch_add(failed, Ordering::Relaxed);
        }
        Ok(())
    }

    /// All peers, by key.
    pub fn status(&self) -> Vec<PeerStatus> {
        self.tables.current().peers().filter_map(|peer| peer.status()).collect()
    }

    /// What was dropped and belongs to no peer.
    pub fn drops(&self) -> Drops {
        self.counters.drops()
    }

    /// The UDP port that peers send to.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Who this side is.
    pub fn public_key(&self) -> PublicKey {
        self.public_key
    }

    /// Whether the interface is still there. Somebody else may have removed it, and then only a new tunnel helps.
    pub fn is_running(&self) -> bool {
        !self.counters.is_interface_gone()
    }

    /// Sends `payload` to `to` from the port of the tunnel, past the protocol. The other side takes it for an aside
    /// unless it begins like a message of WireGuard: a byte of 1 to 4, then three zeros. Nothing says whether it arrives.
    pub fn send_aside(&self, payload: &[u8], to: SocketAddr) {
        let mut desk = self.desk.lock().unwrap_or_else(PoisonError::into_inner);
        let failed = desk.0.send(&self.stop, Endpoint::from(to), payload, payload.len());
        self.counters.not_sent.fetch_add(failed, Ordering::Relaxed);
    }

    /// Ends the threads and removes the interface before it returns.
    pub fn stop(self) {
        drop(self);
    }

    fn check(&self, wanted: &[Peer]) -> Result<(), Error> {
        if wanted.len() >= MOST_PEERS {
            return Err(Error::TooManyPeers(wanted.len()));
        }
        let mut seen = BTreeSet::new();
        for peer in wanted {
            if peer.public_key == self.public_key {
                return Err(Error::Oneself(peer.public_key));
            }
            if !seen.insert(peer.public_key) {
                return Err(Error::SamePeer(peer.public_key));
            }
        }
        Ok(())
    }

    /// The peers that are wanted, in that order, and the key of each slot. New ones take the lowest free slots.
    fn next_peers(
        &self,
        table: &Table,
        wanted: &[Peer],
        now: Instant,
    ) -> (Vec<Arc<peer::Peer>>, BTreeMap<usize, PublicKey>) {
        let mut slots: BTreeMap<usize, PublicKey> = table.peers().map(|peer| (peer.slot, peer.key)).collect();
        let mut free = 0;
        let next = wanted
            .iter()
            .map(|wanted| {
                if let Some(peer) = table.by_key(&wanted.public_key) {
                    return Arc::clone(peer);
                }
                while slots.contains_key(&free) {
                    free += 1;
                }
                slots.insert(free, wanted.public_key);
                let index = u32::try_from(free).expect("the number of peers was checked");
                let tunn = self.doorkeeper.acquaint(&wanted.public_key, index);
                Arc::new(peer::Peer::new(wanted, free, tunn, now))
            })
            .collect();
        (next, slots)
    }
}

impl Drop for Tunnel {
    fn drop(&mut self) {
        self.stop.set();
        for thread in self.threads.drain(..) {
            // A thread that panicked has said so.
            let _panicked = thread.join();
        }
        for peer in self.tables.current().peers() {
            peer.close();
        }
    }
}

impl Workshop<'_> {
    fn outbound(&self, queue: &Arc<Queue>, socket: &Arc<Socket>) -> std::io::Result<Outbound> {
        Ok(Outbound {
            queue: Arc::clone(queue),
            sender: Sender::new(socket)?,
            view: View::new(&self.tables),
            counters: Arc::clone(&self.counters),
            stop: Arc::clone(&self.stop),
            segments: Segments::new(self.settings.mtu),
            outbox: Outbox::new(),
        })
    }

    fn inbound(&self, queue: &Arc<Queue>, socket: &Arc<Socket>) -> std::io::Result<Inbound> {
        let desk = Desk {
            queue: Arc::clone(queue),
            sender: Sender::new(socket)?,
            deliveries: Deliveries::new(),
            outbox: Outbox::new(),
            doorkeeper: Arc::clone(&self.doorkeeper),
            relayed: self.settings.relayed,
            asides: self.settings.asides.clone(),
            counters: Arc::clone(&self.counters),
            stop: Arc::clone(&self.stop),
            largest_packet: largest_packet(self.settings.mtu),
        };
        let receiver = Receiver::new(socket)?;
        Ok(Inbound { receiver, arrivals: Arrivals::new(), view: View::new(&self.tables), desk })
    }

    fn timers(&self, socket: &Arc<Socket>) -> std::io::Result<Timers> {
        Ok(Timers {
            view: View::new(&self.tables),
            sender: Sender::new(socket)?,
            outbox: Outbox::new(),
            doorkeeper: Arc::clone(&self.doorkeeper),
            counters: Arc::clone(&self.counters),
            stop: Arc::clone(&self.stop),
        })
    }
}

fn queues(wanted: Option<NonZeroUsize>) -> usize {
    let processors = || thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
    wanted.unwrap_or_else(processors).get().min(MOST_QUEUES)
}

fn routes(wanted: &[Peer], slots: &BTreeMap<usize, PublicKey>) -> Result<Routes<usize>, Error> {
    let by_key: BTreeMap<&PublicKey, usize> = slots.iter().map(|(slot, key)| (key, *slot)).collect();
    let networks = wanted
        .iter()
        .flat_map(|peer| peer.allowed.iter().map(|network| (*network, by_key[&peer.public_key])));
    Routes::new(networks).map_err(|claim| Error::SameNetwork {
        network: claim.network,
        first: slots[&claim.first],
        second: slots[&claim.second],
    })
}

//! CALLABLE: what NetManagers know of others once everything rests, against what follows from where things run.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use model::{
    ApplicationName, CallableInstance, CallableService, InstanceNews, NeighbourNews, NetworkNews, Peer,
    Phase, Reach, ServiceId, Surroundings, TunnelEnd, TunnelKey, Way, Weight, WorkerId, may_connect,
};

use crate::{ids::WorkerIndex, world::World};

/// The port of encrypted links.
const PORT: u16 = 50_103;

/// The services that are there, and for each of them those whose instances may connect to its or the other way round.
type Callable = BTreeMap<ServiceId, (Arc<CallableService>, BTreeSet<ServiceId>)>;

/// What services were made of others by the news that a cluster told last. All who are told the same know one: it is made
/// once, and there is one of it.
#[derive(Debug, Default)]
pub(crate) struct LastMade {
    /// With what it was made of, which is kept so that nothing else takes its place in memory.
    made: BTreeMap<(usize, usize), Made>,
}

/// What a service was, the news of it, and what it is.
type Made = (Arc<CallableService>, Arc<InstanceNews>, Arc<CallableService>);

impl LastMade {
    fn after(&mut self, service: &Arc<CallableService>, news: &Arc<InstanceNews>) -> Arc<CallableService> {
        let key = (Arc::as_ptr(service).addr(), Arc::as_ptr(news).addr());
        let made = || (Arc::clone(service), Arc::clone(news), Arc::new(service.after(news)));
        Arc::clone(&self.made.entry(key).or_insert_with(made).2)
    }
}

/// Where a device says that it is reached.
pub(crate) fn reach_of(index: WorkerIndex, address: IpAddr) -> Reach {
    let mut key = [0; 32];
    key[..4].copy_from_slice(&index.0.to_be_bytes());
    let tunnel = TunnelEnd { port: PORT, key: TunnelKey(key), kernel_port: None };
    Reach { address, tunnel: Some(tunnel), observed: None, at_root: None }
}

/// What a cluster says to another, for the log.
pub(crate) fn in_words(news: &NeighbourNews) -> String {
    let told = news.services.iter().map(|(id, instances)| {
        let instances = instances.iter().flat_map(|instances| instances.iter());
        let numbers: Vec<String> = instances
            .map(|it| {
                let ready = if it.instance.ready { "" } else { " not ready" };
                format!("{}#{}{ready}", it.instance.number, it.generation)
            })
            .collect();
        format!("{id}: {}", numbers.join(", "))
    });
    let told: Vec<String> = told.collect();
    format!("{}{}", if news.whole { "everything; " } else { "" }, told.join("; "))
}

impl World {
    /// What a NetManager is told. Nothing of it is late: its stream is as good as its connection, which is what is tried
    /// here.
    pub(crate) fn surroundings_are_told(
        &mut self,
        index: WorkerIndex,
        session: u64,
        news: NetworkNews,
        last_made: &mut LastMade,
    ) {
        let worker = self.worker_mut(index);
        if worker.link.up && worker.link.session == session {
            worker.surroundings.take_by(news, |service, news| last_made.after(service, news));
        }
    }

    /// A NetManager that knows something else than what is, and what.
    pub(crate) fn unaware(&self) -> Option<(WorkerIndex, String)> {
        let services = self.callable_services();
        let workers = (0..self.scenario.workers).map(WorkerIndex);
        workers
            .filter(|index| self.worker_ref(*index).is_up() && self.worker_ref(*index).link.up)
            .find_map(|index| Some((index, self.unknown_to(index, &services)?)))
    }

    /// Every service that some cluster has, and the instances of it that run.
    fn callable_services(&self) -> Callable {
        let Some(root) = &self.root.daemon.brain else { return BTreeMap::new() };
        let callable = |service: &root_core::Service| {
            let instances = root.instances_of(service.id).filter(|it| it.report.phase == Phase::Running);
            let runs = |instance: &root_core::Instance| {
                let copy = self.oracle.instances.get(&instance.id)?.running.first()?;
                Some(CallableInstance {
                    number: instance.id.number,
                    address: instance.address?,
                    worker: copy.worker.id(),
                    ready: instance.report.ready,
                    // All devices are idle.
                    weight: Weight::MOST,
                })
            };
            let callable = CallableService {
                names: Arc::clone(&service.names),
                addresses: Arc::clone(&service.addresses),
                allowed_callers: Arc::clone(&service.allowed_callers),
                instances: instances.filter_map(runs).collect(),
            };
            (service.id, Arc::new(callable))
        };
        let somewhere = |service: &&root_core::Service| {
            root.instances_of(service.id).any(|instance| instance.cluster().is_some())
        };
        let services: BTreeMap<_, _> = root.services().filter(somewhere).map(callable).collect();
        let names: BTreeMap<ServiceId, ApplicationName> =
            services.iter().map(|(id, service)| (*id, ApplicationName::from(&*service.names))).collect();
        let beside = |(id, service): (&ServiceId, &Arc<CallableService>)| {
            let calls = |one: &ServiceId, other: &ServiceId| {
                may_connect(&names[one], &names[other], &services[other].allowed_callers)
            };
            let beside = services.keys().filter(|other| calls(id, other) || calls(other, id));
            (*id, (Arc::clone(service), beside.copied().collect()))
        };
        services.iter().map(beside).collect()
    }

    fn unknown_to(&self, index: WorkerIndex, callable: &Callable) -> Option<String> {
        let cluster = self.cluster_ref(self.cluster_of(index)).daemon.brain.as_ref()?;
        let assigned = cluster.assignment(cluster.workers().find(|worker| worker.id == index.id())?);
        let here: BTreeSet<ServiceId> =
            assigned.instances.iter().map(|instance| instance.id.service).collect();
        let beside = here.iter().filter_map(|id| callable.get(id)).flat_map(|(_, beside)| beside);
        let services: BTreeMap<ServiceId, Arc<CallableService>> =
            beside.map(|id| (*id, Arc::clone(&callable[id].0))).collect();
        let devices: BTreeSet<WorkerId> = services
            .values()
            .flat_map(|service| &service.instances)
            .map(|instance| instance.worker)
            .filter(|worker| *worker != index.id())
            .collect();
        let peers = devices.into_iter().filter_map(|worker| Some((worker, self.way_to(worker)?))).collect();
        let expected = Surroundings { services, peers };
        let known = &self.worker_ref(index).surroundings;
        if *known == expected {
            return None;
        }
        let service = expected.services.iter().find(|(id, service)| known.services.get(id) != Some(service));
        Some(match service {
            Some((id, service)) => {
                format!("{index} knows {:?} of {id}, which is {service:?}", known.services.get(id))
            }
            None => {
                let (more, fewer) = (known.services.keys(), expected.services.keys());
                format!(
                    "{index} knows services {:?} of {:?} and devices {:?} of {:?}",
                    more.collect::<Vec<_>>(),
                    fewer.collect::<Vec<_>>(),
                    known.peers,
                    expected.peers
                )
            }
        })
    }

    fn way_to(&self, worker: WorkerId) -> Option<Arc<Peer>> {
        let index = WorkerIndex::of(worker);
        let reach = reach_of(index, self.worker_ref(index).address());
        let end = reach.tunnel?;
        let endpoint = SocketAddr::new(reach.address, end.port);
        let way = Way::Secure { endpoint, observed: None, relay: None, key: end.key, kernel_port: None };
        let lease = self.cluster_ref(self.cluster_of(index)).daemon.brain.as_ref()?.lease_of(worker)?;
        Some(Arc::new(Peer { way, lease }))
    }
}

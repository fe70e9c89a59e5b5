//! The people: what they ask of the root over time, what they were answered, and what they may rely on since.

use std::collections::{BTreeMap, BTreeSet};

use model::{
    AllowedCaller, AllowedCallers, ApplicationName, ClusterRequest, DirectConstraint, InstanceId, Mebibytes,
    Millicores, OnPartition, OnRejoin, PortMapping, Protocol, Scheduling, ServiceId, ServiceSpec, Span,
    Survival,
};

pub(crate) use crate::wishes::{Answer, NAMESPACE, Wish};
use crate::{
    cluster,
    event::Event,
    ids::{ClusterIndex, WorkerIndex},
    queue::Millis,
    rng::Rng,
    root,
    scenario::Scenario,
    world::World,
};

/// Workers have joined by then.
pub(crate) const FIRST_WISH: Millis = 5_000;
/// Clusters that lie together.
const REGION: u32 = 10;
/// Where applications belong to places, so many of a hundred are for one site, and so many for one region. The others may
/// be anywhere.
const FOR_ONE_SITE: u64 = 60;
const FOR_ONE_REGION: u64 = 35;
/// There, so many services at most are open to everybody at one time, however large the world is: each is told to all
/// devices, and its own devices are told of all others.
const OPEN_TO_EVERYBODY: usize = 1;
pub(crate) const IMAGES: [&str; 4] = ["registry/one", "registry/two", "registry/three", "registry/four"];

/// The services the user knows of, and how many instances of each were asked for.
#[derive(Debug, Default)]
struct Services {
    instances: BTreeMap<ServiceId, u32>,
    /// The same services in the same order, to pick one by its place.
    ids: Vec<ServiceId>,
    /// The sum of their instances.
    wanted: u32,
}

impl Services {
    fn set(&mut self, id: ServiceId, instances: u32) {
        let before = self.instances.insert(id, instances);
        self.wanted = self.wanted - before.unwrap_or(0) + instances;
        if before.is_none()
            && let Err(place) = self.ids.binary_search(&id)
        {
            self.ids.insert(place, id);
        }
    }

    fn of(&self, id: ServiceId) -> Option<u32> {
        self.instances.get(&id).copied()
    }

    fn remove(&mut self, id: ServiceId) {
        self.wanted -= self.instances.remove(&id).unwrap_or(0);
        if let Ok(place) = self.ids.binary_search(&id) {
            self.ids.remove(place);
        }
    }
}

#[derive(Debug)]
pub(crate) struct User {
    rng: Rng,
    services: Services,
    /// Instances that were promised, and not asked to go.
    promised: BTreeSet<InstanceId>,
    named: u32,
    /// Between two wishes.
    pause: Millis,
    /// Instances at most.
    most: u32,
    clusters: u32,
    /// See [`Scenario::places`].
    places: bool,
    /// Services that everybody may connect to.
    open: BTreeSet<ServiceId>,
    /// Wishes under way.
    waiting: u32,
    /// An answer never came.
    uncertain: bool,
    /// Workers that do not take everything.
    kept_free: BTreeSet<WorkerIndex>,
}

impl User {
    pub(crate) fn new(rng: Rng, scenario: &Scenario) -> Self {
        // Wanted within the first third of the time; the rest is for changes.
        let wishes = u64::from(scenario.instances.max(1));
        let pause = (scenario.quiet_from() / 3 / wishes).max(1);
        Self {
            rng,
            services: Services::default(),
            promised: BTreeSet::new(),
            named: 0,
            pause,
            most: scenario.instances,
            clusters: scenario.clusters,
            places: scenario.places,
            open: BTreeSet::new(),
            waiting: 0,
            uncertain: false,
            kept_free: BTreeSet::new(),
        }
    }

    /// Nobody answers what was under way.
    pub(crate) const fn root_ended(&mut self) {
        self.uncertain |= self.waiting > 0;
        self.waiting = 0;
    }

    fn wish(&mut self, scenario: &Scenario) -> Wish {
        let wanted = self.services.wanted;
        let service = self.rng.pick(&self.services.ids).copied();
        let most = u64::from(scenario.workers / 4).clamp(1, 40);
        let instances = u32::try_from(self.rng.between(1, most)).unwrap_or(1);
        let draw = self.rng.below(100);
        let full = wanted + instances > self.most;
        match service {
            None => self.create(),
            Some(_) if draw < 25 && !full => self.create(),
            Some(service) if draw < 45 && !full => Wish::Deploy(service),
            Some(service) if draw < 72 && !full => {
                // What the user does not know of may be more: an answer that was lost, an update under way.
                let known = self.services.of(service).unwrap_or(0);
                let fewer = self.waiting > 0 || self.uncertain;
                Wish::Scale { service, instances: known + instances, fewer }
            }
            Some(service) if draw < 80 => Wish::Scale { service, instances: instances / 2, fewer: true },
            Some(service) if draw < 84 => Wish::Update { service, spec: Box::new(self.spec()) },
            Some(service) if draw < 87 => Wish::Allow { service, callers: self.callers() },
            Some(service) if draw < 94 => {
                let mine: Vec<InstanceId> =
                    self.promised.range(InstanceId::all_of(service)).copied().collect();
                self.rng.pick(&mine).map_or(Wish::Deploy(service), |instance| Wish::Undeploy(*instance))
            }
            Some(service) if draw < 97 => Wish::DeleteService(service),
            Some(service) => Wish::DeleteApplication(service),
        }
    }

    fn create(&mut self) -> Wish {
        self.named += 1;
        let callers = if self.rng.per_mille(300) { self.callers() } else { AllowedCallers::new() };
        Wish::Create { name: format!("app{}", self.named), spec: Box::new(self.spec()), callers }
    }

    /// Up to two applications, some to come and some that have gone; now and then everybody.
    fn callers(&mut self) -> AllowedCallers {
        let enough = self.places && self.open.len() >= OPEN_TO_EVERYBODY;
        if self.rng.per_mille(100) && !enough {
            return AllowedCallers::from([AllowedCaller::Everybody]);
        }
        let known = u64::from(self.named) + 2;
        let draws = self.rng.below(3);
        let drawn = (0..draws).map(|_| format!("app{}", self.rng.between(1, known)));
        let application = |name| ApplicationName { name, namespace: NAMESPACE.to_owned() };
        drawn.map(|name| AllowedCaller::Application(application(name))).collect()
    }

    fn spec(&mut self) -> ServiceSpec {
        let image = self.rng.pick(&IMAGES).copied().unwrap_or(IMAGES[0]);
        let cpu = u32::try_from(self.rng.between(50, 600)).unwrap_or(50);
        let memory = u32::try_from(self.rng.between(16, 512)).unwrap_or(16);
        let mut spec = ServiceSpec::container(image).reserving(Millicores(cpu), Mebibytes(memory));
        let after = |rng: &mut Rng, most: u32| {
            Span::from_secs(u32::try_from(rng.between(0, u64::from(most))).unwrap_or(0))
        };
        let on_partition = match self.rng.below(10) {
            0..4 => OnPartition::default(),
            4..6 => OnPartition::ReplaceAfter(after(&mut self.rng, 60)),
            6..8 => OnPartition::Keep,
            _ => OnPartition::StopAfter(Span::from_secs(5).max(after(&mut self.rng, 40))),
        };
        let on_rejoin =
            if self.rng.per_mille(500) { OnRejoin::KeepOriginal } else { OnRejoin::KeepReplacement };
        let cluster_lost_after = match self.rng.below(4) {
            0 => None,
            1 => Some(Span::from_secs(20)),
            _ => Some(Span::from_secs(60)),
        };
        spec.survival = Survival { on_partition, on_rejoin, cluster_lost_after };
        if self.rng.per_mille(300) {
            spec.drain = after(&mut self.rng, 30);
        }
        if self.places {
            spec.constraints = self.place();
        }
        spec.one_shot = self.rng.per_mille(60);
        if self.rng.per_mille(100) {
            let host = u16::try_from(self.rng.between(8000, 8003)).unwrap_or(8000);
            spec.ports = vec![PortMapping { host, container: 80, protocol: Protocol::Tcp }];
        }
        spec
    }

    /// One site, one region, or nothing: anywhere.
    fn place(&mut self) -> Vec<DirectConstraint> {
        let draw = self.rng.below(100);
        let clusters = match draw {
            0..FOR_ONE_SITE => 1,
            FOR_ONE_SITE.. if draw < FOR_ONE_SITE + FOR_ONE_REGION => REGION.min(self.clusters),
            FOR_ONE_SITE.. => return Vec::new(),
        };
        let first = self.rng.below(u64::from(self.clusters - clusters + 1));
        let first = u32::try_from(first).unwrap_or(0);
        let clusters = (first..first + clusters).map(|index| ClusterIndex(index).to_string()).collect();
        vec![DirectConstraint { clusters, nodes: Vec::new() }]
    }

    /// A service lets those connect from now on.
    fn opened(&mut self, service: ServiceId, callers: &AllowedCallers) {
        if callers.contains(&AllowedCaller::Everybody) {
            self.open.insert(service);
        } else {
            self.open.remove(&service);
        }
    }
}

impl World {
    /// The next wish is due.
    pub(crate) fn user_wishes(&mut self) {
        if self.is_quiet() {
            return;
        }
        let pause = self.user.rng.between(self.user.pause / 2, self.user.pause * 3 / 2 + 1);
        self.queue.push(self.now + pause, Event::User);
        if self.user.waiting >= 8 {
            return;
        }
        let wish = self.user.wish(&self.scenario);
        self.say(|| format!("user: {}", in_words(&wish)));
        self.oracle.asked(self.now, &wish);
        if self.enqueue_at_root(root::Input::Wish(wish)) {
            self.user.waiting += 1;
        }
    }

    /// The root has answered; from here on its word counts.
    pub(crate) fn answer(&mut self, answers: Vec<(Wish, Answer)>) {
        for (wish, answer) in answers {
            self.user.waiting = self.user.waiting.saturating_sub(1);
            self.statistics.answers += 1;
            self.say(|| format!("user is told: {} → {answer:?}", in_words(&wish)));
            self.answered(&wish, &answer);
        }
    }

    fn answered(&mut self, wish: &Wish, answer: &Answer) {
        let now = self.now;
        let user = &mut self.user;
        match (wish, answer) {
            (_, Answer::Rejected(_)) => {}
            (_, Answer::Created(service)) => {
                user.services.set(*service, 0);
                if let Wish::Create { callers, .. } = wish {
                    user.opened(*service, callers);
                }
                self.oracle.service_promised(*service);
            }
            (Wish::Deploy(service), Answer::Deployed(instance)) => {
                user.services.set(*service, user.services.of(*service).unwrap_or(0) + 1);
                user.promised.insert(*instance);
                self.oracle.instance_promised(now, *instance);
            }
            (Wish::Scale { service, instances, .. }, _) => {
                user.services.set(*service, *instances);
            }
            (Wish::Allow { service, callers }, _) => user.opened(*service, callers),
            (Wish::Undeploy(instance), _) => {
                if let Some(known) = user.services.of(instance.service) {
                    user.services.set(instance.service, known.saturating_sub(1));
                }
                user.promised.remove(instance);
            }
            (Wish::DeleteService(service) | Wish::DeleteApplication(service), _) => {
                user.services.remove(*service);
                user.open.remove(service);
                let gone: Vec<InstanceId> =
                    user.promised.range(InstanceId::all_of(*service)).copied().collect();
                for instance in gone {
                    user.promised.remove(&instance);
                }
            }
            (Wish::Create { .. } | Wish::Deploy(_) | Wish::Update { .. }, _) => {}
        }
    }

    /// Somebody keeps a worker free, empties one, evens out a cluster, or takes that back.
    pub(crate) fn upkeep(&mut self) {
        let worker =
            WorkerIndex(u32::try_from(self.rng.below(u64::from(self.scenario.workers))).unwrap_or(0));
        let cluster = self.cluster_of(worker);
        let name = worker.to_string();
        let scheduling = match self.rng.below(6) {
            0 | 1 => Scheduling::Draining,
            2 => Scheduling::Cordoned,
            3 => return self.ask_cluster(cluster, ClusterRequest::Rebalance),
            _ => return self.open_all(Some(cluster)),
        };
        // Half of a cluster always takes what comes, or nothing would fit anywhere.
        let kept_free = self.user.kept_free.iter().filter(|free| self.cluster_of(**free) == cluster).count();
        if kept_free * 4 < self.workers_of(cluster).count() {
            self.user.kept_free.insert(worker);
            self.ask_cluster(cluster, ClusterRequest::Schedule { worker: name, scheduling });
        }
    }

    /// Every worker takes what fits again.
    pub(crate) fn open_all(&mut self, only: Option<ClusterIndex>) {
        for worker in self.user.kept_free.clone() {
            let cluster = self.cluster_of(worker);
            if only.is_some_and(|only| only != cluster) || !self.cluster_ref(cluster).daemon.is_up() {
                continue;
            }
            self.user.kept_free.remove(&worker);
            let wish = ClusterRequest::Schedule { worker: worker.to_string(), scheduling: Scheduling::Open };
            self.ask_cluster(cluster, wish);
        }
    }

    fn ask_cluster(&mut self, cluster: ClusterIndex, wish: ClusterRequest) {
        self.say(|| format!("user asks {cluster}: {wish:?}"));
        self.oracle.moves_asked(self.now, cluster);
        self.enqueue_at_cluster(cluster, cluster::Input::Request(wish));
    }
}

fn listed(callers: &AllowedCallers) -> String {
    let names: Vec<String> = callers.iter().map(ToString::to_string).collect();
    if names.is_empty() { "nobody".to_owned() } else { names.join(" and ") }
}

fn in_words(wish: &Wish) -> String {
    match wish {
        Wish::Create { name, spec, callers } => format!(
            "create {name}: {} and {} each, {}, {:?}, cluster lost after {:?}{}{}",
            spec.resources.cpu,
            spec.resources.memory,
            spec.survival.on_partition,
            spec.survival.on_rejoin,
            spec.survival.cluster_lost_after.map(|span| span.to_string()),
            if spec.one_shot { ", one-shot" } else { "" },
            if callers.is_empty() { String::new() } else { format!(", for {}", listed(callers)) },
        ),
        Wish::Deploy(service) => format!("deploy one more of {service}"),
        Wish::Scale { service, instances, .. } => format!("scale {service} to {instances}"),
        Wish::Update { service, .. } => format!("update {service}"),
        Wish::Allow { service, callers } => format!("let {} connect to {service}", listed(callers)),
        Wish::Undeploy(instance) => format!("undeploy {instance}"),
        Wish::DeleteService(service) => format!("delete service {service}"),
        Wish::DeleteApplication(service) => format!("delete the application of {service}"),
    }
}

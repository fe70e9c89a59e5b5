//! What neighbours are told of the instances here: of each service those that have copies of something it has to do with,
//! as it is they whose instances call it or are called by it. What is looked at is what has changed, for each who heard
//! of it or has to.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use model::{ApplicationId, ClusterId, NeighbourNews, Peer, ServiceId, SharedApplication, WorkerId};

use super::{Elsewhere, Neighbourhood, different, find};
use crate::{Effect, State, network::fewer, reconcile::Plan, ways::Hearers};

/// A neighbour that is connected to the root, and what it was told.
#[derive(Debug, Default)]
pub(super) struct Told {
    /// Its connection.
    pub(super) epoch: u64,
    /// It was told everything.
    whole: bool,
    /// `None` for a service of which it may have dropped what it was told.
    services: BTreeMap<ServiceId, Option<Elsewhere>>,
    /// How many instances it was told of run on each device.
    devices: BTreeMap<WorkerId, usize>,
    /// `None` for a device likewise.
    peers: BTreeMap<WorkerId, Option<Arc<Peer>>>,
    /// Devices it may have to be told of otherwise.
    touched: BTreeSet<WorkerId>,
}

/// The numbers of instances that are different in what is told of a service from what was.
struct Difference {
    before: Option<Elsewhere>,
    now: Option<Elsewhere>,
    numbers: BTreeSet<u32>,
}

impl Difference {
    /// Between these two, which may be those of `last`.
    fn between(before: Option<&Elsewhere>, now: Option<&Elsewhere>, last: Option<Self>) -> Self {
        let is_it = |one: &Option<Elsewhere>, other: Option<&Elsewhere>| {
            one.as_ref().map(Arc::as_ptr) == other.map(Arc::as_ptr)
        };
        match last {
            Some(last) if is_it(&last.before, before) && is_it(&last.now, now) => last,
            Some(_) | None => {
                let numbers = different(before, now);
                Self { before: before.cloned(), now: now.cloned(), numbers }
            }
        }
    }
}

impl Told {
    fn by(epoch: u64) -> Self {
        Self { epoch, ..Self::default() }
    }

    /// It may have dropped what it was told of all devices.
    pub(super) fn drop_peers(&mut self) {
        self.peers.values_mut().for_each(|peer| *peer = None);
        self.touched.extend(self.peers.keys());
    }

    /// It is led to a device like this from now on; tells whether that is new to it.
    fn lead(&mut self, id: WorkerId, now: Option<&Arc<Peer>>) -> bool {
        let before = self.peers.get(&id);
        if before.map(Option::as_ref) == now.map(Some) {
            return false;
        }
        match now {
            Some(peer) => self.peers.insert(id, Some(Arc::clone(peer))),
            None => self.peers.remove(&id),
        };
        true
    }

    /// It may have dropped what it was told of a service.
    fn drop_service(&mut self, id: ServiceId) {
        if let Some(before) = self.services.get_mut(&id).and_then(Option::take) {
            self.leave(&before);
        }
    }

    /// What it was told of a service, if it has that still.
    fn has(&self, id: ServiceId) -> Option<&Elsewhere> {
        self.services.get(&id)?.as_ref()
    }

    /// It knows this of a service from now on, of whose instances those are different from what it has; tells whether that
    /// is new to it.
    fn learn(&mut self, id: ServiceId, now: Option<&Elsewhere>, different: &BTreeSet<u32>) -> bool {
        let before = self.services.get(&id).cloned();
        let is_known = match (&before, now) {
            (Some(Some(_)), Some(_)) => different.is_empty(),
            (None, None) => true,
            (Some(_), _) | (None, Some(_)) => false,
        };
        if is_known {
            return false;
        }
        let before = before.flatten();
        for device in different.iter().filter_map(|number| Some(find(now, *number)?.instance.worker)) {
            *self.devices.entry(device).or_default() += 1;
            self.touched.insert(device);
        }
        for device in
            different.iter().filter_map(|number| Some(find(before.as_ref(), *number)?.instance.worker))
        {
            fewer(&mut self.devices, device);
            self.touched.insert(device);
        }
        match now {
            Some(now) => drop(self.services.insert(id, Some(Arc::clone(now)))),
            None => drop(self.services.remove(&id)),
        }
        true
    }

    fn leave(&mut self, instances: &Elsewhere) {
        for device in instances.iter().map(|it| it.instance.worker) {
            fewer(&mut self.devices, device);
            self.touched.insert(device);
        }
    }
}

impl Neighbourhood {
    /// A neighbour is connected anew: it was told nothing yet.
    pub(super) fn meet(&mut self, id: ClusterId, epoch: u64) {
        self.part(id);
        self.told.insert(id, Told::by(epoch));
    }

    /// A neighbour is connected no more, or is none.
    pub(super) fn part(&mut self, id: ClusterId) {
        for service in self.told.remove(&id).iter().flat_map(|told| told.services.keys()) {
            self.hears_of(*service, id, false);
        }
    }

    /// Whether a neighbour has heard of a service.
    fn hears_of(&mut self, service: ServiceId, id: ClusterId, hears: bool) {
        if hears {
            self.heard.entry(service).or_default().insert(id);
        } else if let Some(heard) = self.heard.get_mut(&service) {
            heard.remove(&id);
            if heard.is_empty() {
                self.heard.remove(&service);
            }
        }
    }

    /// Who has to do with a service is different: some may have dropped what they were told of it, and hear of it again.
    pub(crate) fn hearers_changed(&mut self, id: ServiceId) {
        for cluster in self.heard.get(&id).into_iter().flatten() {
            if let Some(told) = self.told.get_mut(cluster) {
                told.drop_service(id);
            }
        }
        self.changed.insert(id);
    }
}

impl State {
    /// Those who share an application less than before drop what they were told of what has to do with that. To be called
    /// before who has to do with whom is different.
    pub(super) fn drop_told(&mut self, before: &SharedApplication, after: &SharedApplication) {
        for service in before.services.keys() {
            let stays = after.services.contains_key(service);
            let left = before.clusters.iter().filter(|cluster| !(stays && after.clusters.contains(cluster)));
            let left: BTreeSet<ClusterId> = left.copied().collect();
            if left.is_empty() {
                continue;
            }
            let beside = self.allowances.beside(*service);
            for cluster in &left {
                let Some(told) = self.neighbourhood.told.get_mut(cluster) else { continue };
                beside.iter().for_each(|id| told.drop_service(*id));
            }
            self.tell_beside(*service, &left);
        }
    }

    /// Those have copies of a service since, or not any more: of what has to do with it they are told, or not any more.
    pub(super) fn tell_beside(&mut self, service: ServiceId, whom: &BTreeSet<ClusterId>) {
        // Whoever is not connected is told everything when it is.
        let whom: Vec<ClusterId> =
            whom.iter().filter(|cluster| self.neighbourhood.told.contains_key(cluster)).copied().collect();
        if whom.is_empty() {
            return;
        }
        for id in self.here_beside([service]) {
            self.neighbourhood.regrouped.entry(id).or_default().extend(&whom);
        }
    }

    /// Tells neighbours what is new to them.
    pub(crate) fn tell_neighbours(&mut self, plan: &mut Plan) {
        let mut told: BTreeMap<ClusterId, NeighbourNews> = BTreeMap::new();
        let mut looks = std::mem::take(&mut self.neighbourhood.regrouped);
        for to in std::mem::take(&mut self.neighbourhood.due) {
            let known = &mut self.neighbourhood;
            if !known.shared_with.contains_key(&to) {
                known.part(to);
                known.blocks.remove(&to);
            }
            let Some(new) = known.told.get_mut(&to).filter(|told| !told.whole) else { continue };
            new.whole = true;
            told.insert(to, NeighbourNews { whole: true, ..NeighbourNews::default() });
            for service in self.told_of(to) {
                looks.entry(service).or_default().insert(to);
            }
        }
        if self.neighbourhood.told.is_empty() {
            // Whoever comes is told everything.
            self.neighbourhood.changed.clear();
            self.neighbourhood.moved.clear();
            looks.clear();
        }
        let changed = std::mem::take(&mut self.neighbourhood.changed);
        for service in &changed {
            let heard = self.neighbourhood.heard.get(service).into_iter().flatten();
            looks.entry(*service).or_default().extend(heard);
        }
        for (service, mut whom) in looks {
            let hearers = if changed.contains(&service) {
                let hearers = self.hearers(service, self.neighbourhood.told.keys().copied().collect());
                whom.extend(&hearers);
                hearers
            } else {
                self.hearers(service, whom.clone())
            };
            self.tell_service(service, whom, &hearers, &mut told);
        }
        self.tell_devices(&mut told);
        for (to, news) in told {
            let Some(known) = self.neighbourhood.told.get(&to) else { continue };
            let (session, epoch) = (self.neighbourhood.session, known.epoch);
            plan.effects.push(Effect::TellNeighbour { session, to, epoch, news });
        }
    }

    /// Tells some of a service, `hearers` being those that are to know of it.
    fn tell_service(
        &mut self,
        id: ServiceId,
        whom: BTreeSet<ClusterId>,
        hearers: &BTreeSet<ClusterId>,
        told: &mut BTreeMap<ClusterId, NeighbourNews>,
    ) {
        if whom.is_empty() {
            return;
        }
        let mut here = self.instances_here(id);
        // Where there is no NetManager nobody gets there; to tell of it would cost every cluster.
        here.retain(|it| self.workers.get(&it.instance.worker).is_some_and(|worker| worker.key().is_some()));
        let here = Some(Arc::new(here)).filter(|here| !here.is_empty());
        let mut last: Option<Difference> = None;
        for to in whom {
            let Some(known) = self.neighbourhood.told.get_mut(&to) else { continue };
            let now = here.as_ref().filter(|_| hearers.contains(&to));
            // Nearly all were told the same before: what is different is worked out once for them.
            let difference = Difference::between(known.has(id), now, last.take());
            if known.learn(id, now, &difference.numbers) {
                told.entry(to).or_default().services.insert(id, now.cloned());
                self.neighbourhood.hears_of(id, to, now.is_some());
            }
            last = Some(difference);
        }
    }

    /// Tells of the devices that services run on since, or not any more, or that are reached otherwise.
    fn tell_devices(&mut self, told: &mut BTreeMap<ClusterId, NeighbourNews>) {
        let moved = std::mem::take(&mut self.neighbourhood.moved);
        let all = self.neighbourhood.told.keys().filter(|_| !moved.is_empty());
        let clusters: BTreeSet<ClusterId> = told.keys().chain(all).copied().collect();
        for to in clusters {
            let Some(known) = self.neighbourhood.told.get_mut(&to) else { continue };
            let mut touched = std::mem::take(&mut known.touched);
            touched.extend(moved.iter().filter(|device| known.devices.contains_key(device)));
            for device in touched {
                let known = self.neighbourhood.told.get(&to);
                let needed = known.is_some_and(|known| known.devices.contains_key(&device));
                let now = if needed { self.peer_for_neighbours(device) } else { None };
                let Some(known) = self.neighbourhood.told.get_mut(&to) else { continue };
                if known.lead(device, now.as_ref()) {
                    told.entry(to).or_default().peers.insert(device, now);
                }
            }
        }
    }

    /// A device here as other clusters are told of it.
    fn peer_for_neighbours(&mut self, id: WorkerId) -> Option<Arc<Peer>> {
        let way = Self::secure_way(self.workers.get(&id)?.reach?, self.neighbourhood.relay)?;
        self.device_here(Hearers::Elsewhere, id, way)
    }

    /// Of those clusters the ones that are to be told of a service: those with copies of applications that have to do with
    /// it.
    fn hearers(&self, id: ServiceId, mut of: BTreeSet<ClusterId>) -> BTreeSet<ClusterId> {
        let known = &self.neighbourhood;
        if self.allowances.is_open_to_everybody(id) {
            of.retain(|cluster| known.shared_with.contains_key(cluster));
            return of;
        }
        let beside = self.allowances.beside(id);
        // Many services are of one application.
        let applications: BTreeSet<ApplicationId> =
            beside.iter().filter_map(|service| known.application_of.get(service)).copied().collect();
        let shared = applications.iter().filter_map(|application| known.shared.get(application));
        any_of(of, shared.map(|shared| &shared.clusters).collect())
    }

    /// The services with copies here that a cluster is to be told of.
    fn told_of(&self, cluster: ClusterId) -> BTreeSet<ServiceId> {
        let known = &self.neighbourhood;
        let applications = known.shared_with.get(&cluster).into_iter().flatten();
        let shared = applications.filter_map(|application| known.shared.get(application));
        self.here_beside(shared.flat_map(|shared| shared.services.keys().copied()))
    }
}

/// Of all clusters those that are in one of the sets. What costs is not how many there are in all sets together, as a few of
/// them may have nearly everybody: in the others only who is missing still is looked for.
fn any_of(all: BTreeSet<ClusterId>, mut sets: Vec<&BTreeSet<ClusterId>>) -> BTreeSet<ClusterId> {
    sets.sort_by_key(|set| Reverse(set.len()));
    let mut missing = all.clone();
    for set in sets {
        if missing.is_empty() {
            return all;
        }
        if set.len() < missing.len() {
            for cluster in set {
                missing.remove(cluster);
            }
        } else {
            missing = &missing - set;
        }
    }
    &all - &missing
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn clusters(numbers: &BTreeSet<u8>) -> BTreeSet<ClusterId> {
        let cluster = |number| format!("00000000-0000-0000-0001-0000000000{number:02x}").parse();
        numbers.iter().map(|number| cluster(number).expect("a UUID")).collect()
    }

    proptest! {
        #[test]
        fn those_in_one_of_the_sets_are_found(
            all in prop::collection::btree_set(any::<u8>(), 0..80),
            sets in prop::collection::vec(prop::collection::btree_set(any::<u8>(), 0..120), 0..6),
        ) {
            let union: BTreeSet<u8> = sets.iter().flatten().copied().collect();
            let sets: Vec<BTreeSet<ClusterId>> = sets.iter().map(clusters).collect();
            prop_assert_eq!(any_of(clusters(&all), sets.iter().collect()), clusters(&(&all & &union)));
        }
    }
}

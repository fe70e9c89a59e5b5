//! More or fewer instances, and instances of another revision: wishes, and one step after another towards them.

use std::sync::Arc;

use model::{Desired, Now, ServiceId, ServiceSpec, Timestamp};
use serde_json::{Map, Value};

use crate::{
    Change, Instance, Rejected, Revision, Rollout, Service, State, UpdatePolicy,
    command::{bury, one_more},
    reconcile::Plan,
    service::HISTORY,
    sla::{SecretWishes, SlaService},
    tenancy::told_callers,
};

impl State {
    /// Makes it `wanted` instances. Those that are not ready go first, then those with the highest numbers. The answer
    /// tells the numbers of new ones.
    ///
    /// # Errors
    /// When that is more than the organisation may have.
    pub fn scale(
        &self,
        service: &Service,
        wanted: u32,
        now: Timestamp,
    ) -> Result<(Vec<u32>, Vec<Change>), Rejected> {
        self.within_quota(service, wanted, service.spec().resources)?;
        let mut service = service.clone();
        if let Some(rollout) = &mut service.rollout {
            // The change under way brings about the new number too.
            rollout.instances = wanted;
            return Ok((Vec::new(), vec![Change::Service(service.id, Some(service))]));
        }
        let mut running: Vec<&Instance> =
            self.instances_of(service.id).filter(|instance| instance.is_live()).collect();
        let there = u32::try_from(running.len()).unwrap_or(u32::MAX);
        if wanted < there {
            running.sort_by_key(|instance| (instance.is_ready(), std::cmp::Reverse(instance.id.number)));
            let surplus = (there - wanted) as usize;
            let buried = running[..surplus].iter().filter_map(|instance| bury(instance, now));
            return Ok((Vec::new(), buried.collect()));
        }
        let mut changes = Vec::new();
        let mut numbers = Vec::new();
        for _ in there..wanted {
            let instance = one_more(&mut service, now);
            numbers.push(instance.id.number);
            changes.push(Change::Instance(instance.id, Some(instance)));
        }
        if !changes.is_empty() {
            // First, so that an instance is never applied before its service counts it.
            changes.insert(0, Change::Service(service.id, Some(service)));
        }
        Ok((numbers, changes))
    }

    /// Changes what a service is. Instances give way one after another; the number of the revision is the answer. What
    /// is the same already changes nothing.
    ///
    /// # Errors
    /// When it has another name: that would be another service. When it takes more than the organisation may have.
    pub fn update(
        &self,
        service: &Service,
        wanted: SlaService,
        now: Timestamp,
    ) -> Result<(u32, Vec<Change>), Rejected> {
        if (&wanted.name, &wanted.namespace) != (&service.names.service, &service.names.service_namespace) {
            return Err(Rejected::NotChangeable(format!(
                "the service is `{}` in namespace `{}`, and a service keeps its name; add another service instead",
                service.names.service, service.names.service_namespace
            )));
        }
        debug_assert_eq!(wanted.secrets, SecretWishes::default(), "found before");
        let mut changed = service.clone();
        changed.update = wanted.update;
        changed.allowed_callers = told_callers(&wanted.allowed_callers, &service.names).into();
        if wanted.spec == **service.spec() {
            let number = service.revision;
            if let Some(current) = changed.revisions.iter_mut().find(|revision| revision.number == number) {
                current.document = wanted.document;
            }
            let differs = changed != *service;
            let changes = differs.then_some(Change::Service(service.id, Some(changed)));
            return Ok((number, changes.into_iter().collect()));
        }
        self.within_quota(service, self.wanted_instances(service), wanted.spec.resources)?;
        let number = self.revise(&mut changed, wanted.spec, wanted.document, now);
        Ok((number, vec![Change::Service(service.id, Some(changed))]))
    }

    /// Adds a revision and rolls to it; its number is the answer.
    pub(crate) fn revise(
        &self,
        service: &mut Service,
        spec: ServiceSpec,
        document: Map<String, Value>,
        created: Timestamp,
    ) -> u32 {
        let number = service.revisions.last().map_or(0, |newest| newest.number) + 1;
        service.revisions.push(Revision { number, spec: Arc::new(spec), document, created, failed: None });
        self.roll_to(service, number, false);
        number
    }

    /// Has all instances give way to new ones of the same; the number of their revision is the answer.
    #[must_use]
    pub fn restart(&self, service: &Service, now: Timestamp) -> (u32, Vec<Change>) {
        let mut changed = service.clone();
        let Revision { spec, document, .. } = service.current().clone();
        let number = self.revise(&mut changed, Arc::unwrap_or_clone(spec), document, now);
        (number, vec![Change::Service(service.id, Some(changed))])
    }

    /// Goes back to revision `number`, or with `None` to the newest one before that is another and has not failed.
    ///
    /// # Errors
    /// When there is none, or it takes more than the organisation may have.
    pub fn roll_back(&self, service: &Service, number: Option<u32>) -> Result<(u32, Vec<Change>), Rejected> {
        let before = || {
            // What was restarted is what it was.
            let earlier = service.revisions.iter().rev().filter(|it| it.spec != *service.spec());
            earlier.filter(|revision| revision.failed.is_none()).map(|revision| revision.number).next()
        };
        let number = number.or_else(before).ok_or(Rejected::NoRevision { number: 0 })?;
        let spec = service.spec_of(number).ok_or(Rejected::NoRevision { number })?;
        if number == service.revision {
            return Ok((number, Vec::new()));
        }
        self.ensure_secrets(spec)?;
        self.within_quota(service, self.wanted_instances(service), spec.resources)?;
        let mut changed = service.clone();
        self.roll_to(&mut changed, number, false);
        Ok((number, vec![Change::Service(service.id, Some(changed))]))
    }

    /// From now on new instances are of revision `number`; those that are there give way.
    fn roll_to(&self, service: &mut Service, number: u32, is_rollback: bool) {
        let is_running = self.instances_of(service.id).any(Instance::is_live);
        let instances = self.wanted_instances(service);
        let from = std::mem::replace(&mut service.revision, number);
        service.rollout =
            (instances > 0 || is_running).then_some(Rollout { from, instances, is_rollback, stalled: None });
        let in_use = |number: u32| {
            number == service.revision
                || number == from
                || self.instances_of(service.id).any(|it| it.revision == number)
        };
        let mut surplus = service.revisions.len().saturating_sub(HISTORY);
        service.revisions.retain(|revision| {
            let goes = surplus > 0 && !in_use(revision.number);
            surplus -= usize::from(goes);
            !goes
        });
    }

    /// Takes the next step of every change under way that something has happened to.
    pub(crate) fn roll_out(&mut self, plan: &mut Plan, now: Now) {
        let late = self.progress.iter().filter(|(_, (_, until))| *until <= now.moment).map(|(id, _)| *id);
        let mut due = std::mem::take(&mut self.rollouts_due);
        due.extend(late);
        for id in due {
            let changed = |plan: &Plan| plan.changes.len();
            let mut before = changed(plan);
            self.step(plan, id, now);
            // What a step frees at once is used by the next; each has fewer old instances left or more new ones.
            while changed(plan) > before {
                before = changed(plan);
                self.step(plan, id, now);
            }
        }
        if let Some(until) = self.progress.values().map(|(_, until)| *until).min() {
            plan.wake(until);
        }
        // What these steps changed is looked at when something happens to it.
        self.rollouts_due.clear();
    }

    fn step(&mut self, plan: &mut Plan, id: ServiceId, now: Now) {
        let Some(mut service) = self.services.get(&id).filter(|service| !service.deleted).cloned() else {
            return;
        };
        let Some(rollout) = service.rollout.clone() else { return };
        let wanted = rollout.instances as usize;
        let known = self.progress.get(&id).copied();
        let wants_it = |instance: &&Instance| instance.desired == Desired::Running;
        let running: Vec<&Instance> = self.instances_of(id).filter(wants_it).collect();
        let (new, old): (Vec<&Instance>, Vec<&Instance>) =
            running.into_iter().partition(|instance| instance.revision == service.revision);
        let ready = |instances: &[&Instance]| instances.iter().filter(|instance| instance.is_ready()).count();
        let (new_ready, old_ready) = (ready(&new), ready(&old));
        if old.is_empty() && new.len() == wanted && new_ready == wanted {
            service.rollout = None;
            return self.change(plan, Change::Service(id, Some(service)));
        }
        // Both grow towards the end, so together they tell whether it gets further.
        let far = new_ready + wanted.saturating_sub(old.len());
        let progress = match known {
            Some((before, until)) if before >= far => (before, until),
            Some(_) | None => (far, now.moment.plus_millis(service.update.ready_within.as_millis())),
        };
        if progress.1 <= now.moment {
            return self.give_up(plan, service, &rollout, now);
        }
        let mut changes = Vec::new();
        let most = wanted + service.update.max_surge as usize;
        let room = most.saturating_sub(new.len() + old.len()).min(wanted.saturating_sub(new.len()));
        for _ in 0..room {
            let instance = one_more(&mut service, now.date);
            changes.push(Change::Instance(instance.id, Some(instance)));
        }
        let least = wanted.saturating_sub(service.update.max_unavailable as usize);
        let mut spare = (new_ready + old_ready).saturating_sub(least);
        let mut going = old;
        // Those that are of no use first, then the newest.
        going.sort_by_key(|instance| (instance.is_ready(), std::cmp::Reverse(instance.id.number)));
        let beyond = new.len().saturating_sub(wanted);
        let surplus = new.into_iter().rev().take(beyond);
        for instance in going.into_iter().chain(surplus) {
            if instance.is_ready() {
                if spare == 0 {
                    continue;
                }
                spare -= 1;
            }
            changes.extend(bury(instance, now.date));
        }
        if room > 0 {
            changes.insert(0, Change::Service(id, Some(service)));
        }
        self.progress.insert(id, progress);
        changes.into_iter().for_each(|change| self.change(plan, change));
    }

    /// A change got no further for too long: it is taken back, or left as it is with the reason.
    fn give_up(&mut self, plan: &mut Plan, mut service: Service, rollout: &Rollout, now: Now) {
        let id = service.id;
        let failed = service.revision;
        let reason = self.why_not_ready(&service);
        let UpdatePolicy { rollback, ready_within, .. } = service.update;
        if rollback && !rollout.is_rollback && service.revision(rollout.from).is_some() {
            if let Some(revision) = service.revisions.iter_mut().find(|revision| revision.number == failed) {
                revision.failed = Some(reason);
            }
            self.roll_to(&mut service, rollout.from, true);
            self.progress.remove(&id);
            return self.change(plan, Change::Service(id, Some(service)));
        }
        self.progress.insert(id, (usize::MAX, now.moment.plus_millis(ready_within.as_millis())));
        if rollout.stalled.as_ref() != Some(&reason) {
            service.rollout = Some(Rollout { stalled: Some(reason), ..rollout.clone() });
            self.change(plan, Change::Service(id, Some(service)));
        }
    }

    fn why_not_ready(&self, service: &Service) -> String {
        let within = service.update.ready_within;
        let new = self.instances_of(service.id).filter(|instance| instance.revision == service.revision);
        let stuck = new.into_iter().find(|instance| !instance.is_ready());
        match stuck {
            Some(instance) => format!(
                "instance {} was not ready within {within}: {} {}",
                instance.id.number,
                instance.report.phase.oakestra(),
                instance.report.detail
            ),
            None => format!("it got no further for {within}; see max_unavailable and max_surge"),
        }
    }
}

//! Judges a deployment while it is watched: what is known of each instance, and whether there is anything left
//! to wait for. Pure; the watching itself is in `commands/deploy`.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use crate::objects::{Instance, Service, Stage};

/// A refusal this young may only be the state between two decisions.
pub(crate) const REFUSAL_GRACE: Duration = Duration::from_secs(2);

/// Names an instance: the service's id and the number.
pub(crate) type Key = (String, u64);

/// What is known of a deployment.
#[derive(Debug, Default)]
pub(crate) struct Rollout {
    /// Instances asked for that no report has shown yet.
    unseen: BTreeSet<Key>,
    /// Services that no report has shown yet.
    unheard: BTreeSet<String>,
    services: BTreeMap<String, Service>,
    refused_since: BTreeMap<Key, Instant>,
    /// Whether any service was deleted.
    deletions: bool,
}

/// Whether to keep waiting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Something is underway; look again at the moment given even when nothing is reported.
    Waiting(Option<Instant>),
    /// Everything runs and can be counted on, or ended as it should.
    Done,
    /// What does not run was refused, and nothing else is underway.
    Refused,
    /// Every service was deleted.
    Deleted,
}

impl Rollout {
    /// Waits for reports about `service`, and for the instances of these numbers to appear in them.
    pub(crate) fn expect(&mut self, service: &Service, numbers: impl IntoIterator<Item = u64>) {
        self.unheard.insert(service.id.clone());
        self.unseen.extend(numbers.into_iter().map(|number| (service.id.clone(), number)));
    }

    /// Takes a report; services nobody expected are ignored.
    pub(crate) fn observe(&mut self, service: Service, now: Instant) {
        if !self.unheard.remove(&service.id) && !self.services.contains_key(&service.id) {
            return;
        }
        for instance in &service.instances {
            let key = (service.id.clone(), instance.number);
            self.unseen.remove(&key);
            if instance.stage() == Stage::Refused {
                self.refused_since.entry(key).or_insert(now);
            } else {
                self.refused_since.remove(&key);
            }
        }
        self.services.insert(service.id.clone(), service);
    }

    /// Forgets a service that is gone.
    pub(crate) fn deleted(&mut self, service_id: &str) {
        self.deletions = true;
        self.unheard.remove(service_id);
        self.unseen.retain(|(service, _)| service != service_id);
        self.services.remove(service_id);
    }

    /// The instances to wait for that were reported, in the order of their names.
    pub(crate) fn instances(&self) -> Vec<(&Service, &Instance)> {
        let mut instances: Vec<(&Service, &Instance)> = self
            .services
            .values()
            .flat_map(|service| service.staying().map(move |instance| (service, instance)))
            .collect();
        instances.sort_by_key(|(service, instance)| (service.full_name(), instance.number));
        instances
    }

    /// The instances that keep it from being done.
    pub(crate) fn unsettled(&self) -> Vec<(&Service, &Instance)> {
        let mut instances = self.instances();
        instances.retain(|(_, instance)| !instance.is_settled());
        instances
    }

    /// How many instances no report has shown yet.
    pub(crate) fn unseen(&self) -> usize {
        self.unseen.len()
    }

    /// Whether to keep waiting.
    pub(crate) fn verdict(&self, now: Instant) -> Verdict {
        if self.deletions && self.services.is_empty() && self.unheard.is_empty() {
            return Verdict::Deleted;
        }
        if !self.unheard.is_empty() || !self.unseen.is_empty() {
            return Verdict::Waiting(None);
        }
        let unsettled = self.unsettled();
        if unsettled.is_empty() {
            return Verdict::Done;
        }
        let mut last_refusal = None;
        for (service, instance) in unsettled {
            let Some(since) = self.refused_since.get(&(service.id.clone(), instance.number)) else {
                return Verdict::Waiting(None);
            };
            last_refusal = last_refusal.max(Some(*since));
        }
        match last_refusal.map(|since| since + REFUSAL_GRACE) {
            Some(end) if now < end => Verdict::Waiting(Some(end)),
            Some(_) | None => Verdict::Refused,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize as _;
    use serde_json::{Value, json};

    fn service(id: &str, phases: &[&str]) -> Service {
        let instances: Vec<Value> = phases
            .iter()
            .enumerate()
            .map(|(number, phase)| json!({"instance_number": number, "phase": phase}))
            .collect();
        Service::deserialize(&json!({
            "microserviceID": id, "applicationID": "a", "app_name": "a", "app_ns": "n", "service_name": id,
            "service_ns": "n", "instance_list": instances,
        }))
        .unwrap()
    }

    fn rollout(expected: &[(&str, u64)]) -> Rollout {
        let mut rollout = Rollout::default();
        for (id, count) in expected {
            rollout.expect(&service(id, &[]), 0..*count);
        }
        rollout
    }

    #[test]
    fn it_is_done_when_every_expected_instance_runs_or_completed() {
        let now = Instant::now();
        let mut rollout = rollout(&[("a", 2), ("b", 0)]);
        rollout.observe(service("a", &["running"]), now);
        assert_eq!(
            rollout.verdict(now),
            Verdict::Waiting(None),
            "instance 1 was never seen, b never heard of"
        );
        rollout.observe(service("b", &[]), now);
        rollout.observe(service("a", &["running", "creating"]), now);
        assert_eq!(rollout.verdict(now), Verdict::Waiting(None));
        rollout.observe(service("a", &["running", "completed", "undeploying"]), now);
        assert_eq!(rollout.verdict(now), Verdict::Done);
    }

    #[test]
    fn a_refusal_counts_after_its_grace_and_when_nothing_else_is_underway() {
        let now = Instant::now();
        let later = now + REFUSAL_GRACE;
        let mut rollout = rollout(&[("a", 2)]);
        rollout.observe(service("a", &["refused", "creating"]), now);
        assert_eq!(rollout.verdict(later), Verdict::Waiting(None));
        rollout.observe(service("a", &["refused", "running"]), now);
        assert_eq!(rollout.verdict(now), Verdict::Waiting(Some(later)));
        assert_eq!(rollout.verdict(later), Verdict::Refused);
        rollout.observe(service("a", &["requested", "running"]), later);
        rollout.observe(service("a", &["refused", "running"]), later);
        assert_eq!(rollout.verdict(later), Verdict::Waiting(Some(later + REFUSAL_GRACE)));
    }

    #[test]
    fn a_failing_instance_is_waited_for() {
        let now = Instant::now();
        let mut rollout = rollout(&[("a", 1)]);
        rollout.observe(service("a", &["failed"]), now);
        assert_eq!(rollout.verdict(now + Duration::from_secs(60)), Verdict::Waiting(None));
    }

    #[test]
    fn there_is_nothing_to_wait_for_once_every_service_is_deleted() {
        let now = Instant::now();
        assert_eq!(rollout(&[]).verdict(now), Verdict::Done, "an application may have no services");
        let mut rollout = rollout(&[("a", 1), ("b", 1)]);
        rollout.observe(service("a", &["running"]), now);
        rollout.deleted("b");
        assert_eq!(rollout.verdict(now), Verdict::Done);
        rollout.deleted("a");
        assert_eq!(rollout.verdict(now), Verdict::Deleted);
    }
}

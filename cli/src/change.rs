//! Judges a change of one service while it is watched: whether it is done, failed, or there is more to wait for. Pure;
//! the watching itself is in `commands/change`.

use std::{collections::BTreeMap, time::Instant};

use crate::{
    objects::{Instance, Service, Stage},
    rollout::REFUSAL_GRACE,
};

/// What is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Goal {
    /// All instances that were asked for run, and those that are too many are gone.
    Scaled,
    /// Every instance is of this revision.
    Revision(u64),
}

/// Whether to keep waiting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Something is underway; look again at the moment given even when nothing is reported.
    Waiting(Option<Instant>),
    /// It is as it was asked for.
    Done,
    /// What does not run was refused, and nothing else is underway.
    Refused,
    /// It got no further for too long, for this reason, and is left as it is.
    Stalled(String),
    /// The service is of another revision by now.
    OtherRevision {
        /// Which one.
        revision: u64,
        /// Whether nothing more happens.
        over: bool,
    },
    /// The service was deleted.
    Deleted,
}

/// What is known of a change.
#[derive(Debug)]
pub(crate) struct Change {
    goal: Goal,
    service_id: String,
    service: Option<Service>,
    refused_since: BTreeMap<u64, Instant>,
    deleted: bool,
}

impl Change {
    /// Waits for reports about the service of this id.
    pub(crate) fn of(service_id: &str, goal: Goal) -> Self {
        Self {
            goal,
            service_id: service_id.to_owned(),
            service: None,
            refused_since: BTreeMap::new(),
            deleted: false,
        }
    }

    /// Takes a report; those about other services are ignored.
    pub(crate) fn observe(&mut self, service: Service, now: Instant) {
        if service.id != self.service_id {
            return;
        }
        let refused = |number: &u64| {
            service.instances.iter().any(|it| it.number == *number && it.stage() == Stage::Refused)
        };
        self.refused_since.retain(|number, _| refused(number));
        for instance in service.staying().filter(|instance| instance.stage() == Stage::Refused) {
            self.refused_since.entry(instance.number).or_insert(now);
        }
        self.service = Some(service);
    }

    /// Notes that a service is gone.
    pub(crate) fn deleted(&mut self, service_id: &str) {
        self.deleted |= service_id == self.service_id;
    }

    /// The service as it was last reported.
    pub(crate) fn service(&self) -> Option<&Service> {
        self.service.as_ref()
    }

    /// What is not as it should be.
    pub(crate) fn unsettled(&self) -> impl Iterator<Item = (&Service, &Instance)> {
        let all =
            self.service.iter().flat_map(|service| service.instances.iter().map(move |it| (service, it)));
        all.filter(|(_, instance)| !instance.is_settled())
    }

    /// Whether to keep waiting.
    pub(crate) fn verdict(&self, now: Instant) -> Verdict {
        if self.deleted {
            return Verdict::Deleted;
        }
        let Some(service) = &self.service else { return Verdict::Waiting(None) };
        let stalled = service.rollout.as_ref().and_then(|rollout| rollout.stalled.clone());
        if let (Goal::Revision(wanted), Some(revision)) = (self.goal, service.revision)
            && wanted != revision
        {
            let over = service.rollout.is_none() || stalled.is_some();
            return Verdict::OtherRevision { revision, over };
        }
        match (self.goal, &service.rollout, stalled) {
            (_, _, Some(reason)) => Verdict::Stalled(reason),
            (_, Some(_), None) => Verdict::Waiting(None),
            (Goal::Revision(_), None, None) => Verdict::Done,
            (Goal::Scaled, None, None) => self.scaled(now),
        }
    }

    fn scaled(&self, now: Instant) -> Verdict {
        let unsettled: Vec<&Instance> = self.unsettled().map(|(_, instance)| instance).collect();
        if unsettled.is_empty() {
            return Verdict::Done;
        }
        let mut last_refusal = None;
        for instance in unsettled {
            let Some(since) = self.refused_since.get(&instance.number) else { return Verdict::Waiting(None) };
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

    fn service(revision: u64, rollout: Value, phases: &[&str]) -> Service {
        let instance = |(number, phase)| json!({"instance_number": number, "phase": phase});
        Service::deserialize(&json!({
            "microserviceID": "s", "applicationID": "a", "app_name": "a", "app_ns": "n", "service_name": "s",
            "service_ns": "n", "revision": revision, "rollout": rollout,
            "instance_list": phases.iter().enumerate().map(instance).collect::<Vec<_>>(),
        }))
        .unwrap()
    }

    fn verdict(goal: Goal, service: Service) -> Verdict {
        let now = Instant::now();
        let mut change = Change::of("s", goal);
        assert_eq!(change.verdict(now), Verdict::Waiting(None), "nothing is known yet");
        change.observe(service, now);
        change.verdict(now)
    }

    fn under_way(rollback: bool, stalled: Option<&str>) -> Value {
        json!({"from": 1, "to": 2, "instances": 2, "ready": 1, "rollback": rollback, "stalled": stalled})
    }

    #[test]
    fn a_revision_is_reached_when_its_rollout_is_over() {
        let goal = Goal::Revision(2);
        assert_eq!(verdict(goal, service(2, under_way(false, None), &["running"])), Verdict::Waiting(None));
        assert_eq!(verdict(goal, service(2, Value::Null, &["running"])), Verdict::Done);
        assert_eq!(verdict(goal, service(2, Value::Null, &["dead"])), Verdict::Done, "what came after");
        let stalled = service(2, under_way(false, Some("it crashes")), &["running"]);
        assert_eq!(verdict(goal, stalled), Verdict::Stalled("it crashes".to_owned()));
    }

    #[test]
    fn a_change_taken_back_is_over_when_the_way_back_is() {
        let goal = Goal::Revision(2);
        let other = |over| Verdict::OtherRevision { revision: 1, over };
        assert_eq!(verdict(goal, service(1, under_way(true, None), &["running"])), other(false));
        assert_eq!(verdict(goal, service(1, under_way(true, Some("no")), &["running"])), other(true));
        assert_eq!(verdict(goal, service(1, Value::Null, &["running"])), other(true));
    }

    #[test]
    fn a_service_is_scaled_when_all_run_and_the_surplus_is_gone() {
        let scaled = |phases: &[&str]| verdict(Goal::Scaled, service(1, Value::Null, phases));
        assert_eq!(scaled(&["running", "completed"]), Verdict::Done);
        assert_eq!(scaled(&[]), Verdict::Done);
        assert_eq!(scaled(&["running", "undeploying"]), Verdict::Waiting(None));
        assert_eq!(scaled(&["running", "creating"]), Verdict::Waiting(None));
        let changing = service(1, under_way(false, None), &["running"]);
        assert_eq!(verdict(Goal::Scaled, changing), Verdict::Waiting(None));
    }

    #[test]
    fn a_refusal_counts_after_its_grace() {
        let now = Instant::now();
        let later = now + REFUSAL_GRACE;
        let mut change = Change::of("s", Goal::Scaled);
        change.observe(service(1, Value::Null, &["running", "refused"]), now);
        assert_eq!(change.verdict(now), Verdict::Waiting(Some(later)));
        assert_eq!(change.verdict(later), Verdict::Refused);
        change.observe(service(1, Value::Null, &["running", "creating"]), later);
        change.observe(service(1, Value::Null, &["running", "refused"]), later);
        assert_eq!(change.verdict(later), Verdict::Waiting(Some(later + REFUSAL_GRACE)));
    }

    #[test]
    fn only_the_service_itself_counts() {
        let now = Instant::now();
        let mut change = Change::of("s", Goal::Revision(2));
        let mut other = service(2, Value::Null, &[]);
        other.id = "other".to_owned();
        change.observe(other, now);
        change.deleted("other");
        assert_eq!(change.verdict(now), Verdict::Waiting(None));
        change.deleted("s");
        assert_eq!(change.verdict(now), Verdict::Deleted);
    }
}

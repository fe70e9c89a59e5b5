//! What happens to instances when clusters fall silent, return, or cannot keep them.

use model::{OnPartition, OnRejoin, Span};

use super::*;
use crate::{OFFER_AGAIN_MILLIS, sight::COMING_BACK_AT_MOST_MILLIS};

/// Two clusters, one instance running on the first, which is larger.
fn running(spec: ServiceSpec) -> (Root, InstanceId, ClusterId, ClusterId) {
    let mut root = Root::new();
    let one = root.cluster(1, "one", &[resources(8, 2000)]);
    let two = root.cluster(2, "two", &[resources(2, 500)]);
    root.reconcile();
    let service = root.service(spec);
    let id = root.deploy(service);
    root.reconcile();
    let said = root.said(id, Phase::Running);
    let same = root.state.aggregate(one).0;
    root.report(one, same, vec![said]);
    root.reconcile();
    assert_eq!(root.holder(id), Some(one));
    (root, id, one, two)
}

impl Root {
    fn holder(&self, id: InstanceId) -> Option<ClusterId> {
        self.state.instance(id).expect("it exists").cluster()
    }

    fn told(&self, cluster: ClusterId, id: InstanceId) -> Option<(Generation, Desired)> {
        let assignment = self.state.assignment(self.state.cluster(cluster).expect("it joined"));
        let found = assignment.instances.iter().find(|told| told.id == id);
        found.map(|told| (told.generation, told.desired))
    }

    fn reports(&mut self, cluster: ClusterId, said: InstanceReport) {
        let same = self.state.aggregate(cluster).0;
        self.report(cluster, same, vec![said]);
    }

    /// The other cluster reports on while one is silent.
    fn wait_with(&mut self, reporting: ClusterId, seconds: u64) {
        for _ in 0..seconds {
            self.wait(1000);
            let same = self.state.aggregate(reporting).0;
            self.report(reporting, same, vec![]);
        }
        self.reconcile();
    }

    fn reconnect(&mut self, cluster: ClusterId) {
        let observed = self.state.cluster(cluster).expect("it joined").generation;
        self.sessions += 1;
        let location = Location { latitude: 0.0, longitude: 0.0, radius_metres: 0.0 };
        let changes = self.state.cluster_connected(cluster, self.sessions, location, observed, self.now);
        self.apply(changes);
    }
}

fn with(after: Option<u32>, on_rejoin: OnRejoin) -> ServiceSpec {
    let mut spec = small();
    spec.survival.cluster_lost_after = after.map(Span::from_secs);
    spec.survival.on_rejoin = on_rejoin;
    spec
}

#[test]
fn a_cluster_that_is_silent_for_a_minute_loses_its_instances_to_another() {
    let (mut root, id, one, two) = running(small());
    root.disconnect(one);
    root.wait_with(two, 59);
    assert_eq!(root.holder(id), Some(one));
    root.wait_with(two, 2);
    assert_eq!(root.holder(id), Some(two));
    assert_eq!(root.told(two, id), Some((FIRST.next_cluster(), Desired::Running)));
    assert_eq!(root.told(one, id), Some((FIRST, Desired::Running)), "not given up yet");
}

#[test]
fn never_is_never() {
    let (mut root, id, one, two) = running(with(None, OnRejoin::default()));
    root.disconnect(one);
    root.wait_with(two, 4000);
    assert_eq!(root.holder(id), Some(one));
}

#[test]
fn a_connection_that_carries_nothing_is_silence_too() {
    let (mut root, id, one, two) = running(with(Some(20), OnRejoin::default()));
    root.wait_with(two, 19);
    assert_eq!(root.holder(id), Some(one));
    root.wait_with(two, 2);
    assert_eq!(root.holder(id), Some(two));
}

#[test]
fn when_the_lost_cluster_returns_the_replacement_stays() {
    let (mut root, id, one, two) = running(small());
    root.disconnect(one);
    root.wait_with(two, 61);
    let said = root.said(id, Phase::Running);
    root.reports(two, said);
    assert_eq!(root.told(one, id), Some((FIRST, Desired::Removed)), "it will be told when it returns");
    root.reconnect(one);
    assert_eq!(root.reconcile().effects.len(), 1);
    let gone = InstanceReport::new(id, FIRST, Phase::Removed, root.now.date);
    root.reports(one, gone);
    assert_eq!((root.told(one, id), root.holder(id)), (None, Some(two)));
    assert_eq!(root.phase(id), Phase::Running);
}

#[test]
fn a_replacement_that_does_not_run_yet_gives_way_to_the_original() {
    let (mut root, id, one, two) = running(small());
    root.disconnect(one);
    root.wait_with(two, 61);
    root.reconnect(one);
    let mut said = root.said(id, Phase::Running);
    said.generation = FIRST;
    root.reports(one, said);
    root.reconcile();
    assert_eq!((root.holder(id), root.phase(id)), (Some(one), Phase::Running));
    assert_eq!(root.told(two, id), Some((FIRST.next_cluster(), Desired::Removed)));
}

#[test]
fn keep_original_gives_the_replacement_its_tombstone() {
    let (mut root, id, one, two) = running(with(Some(60), OnRejoin::KeepOriginal));
    root.disconnect(one);
    root.wait_with(two, 61);
    let said = root.said(id, Phase::Running);
    root.reports(two, said.clone());
    assert_eq!(root.told(one, id), Some((FIRST, Desired::Running)));
    root.reconnect(one);
    root.reports(one, InstanceReport { generation: FIRST, ..said });
    root.reconcile();
    assert_eq!(root.holder(id), Some(one));
    assert_eq!(root.told(two, id), Some((FIRST.next_cluster(), Desired::Removed)));
}

#[test]
fn an_instance_its_cluster_cannot_keep_goes_to_another_and_stays_if_there_is_none() {
    let (mut root, id, one, two) = running(small());
    let lost = |root: &Root| InstanceReport {
        refusal: Some(Refusal {
            code: RefusalCode::NoResourcesAvailable,
            summary: "no other worker can take it".to_owned(),
            candidates: vec![],
        }),
        ..root.said(id, Phase::Lost)
    };
    let full =
        ClusterAggregate { free: resources(0, 0), largest_free: vec![], ..root.state.aggregate(two).0 };
    root.report(two, full.clone(), vec![]);
    let said = lost(&root);
    root.reports(one, said);
    root.reconcile();
    assert_eq!((root.holder(id), root.phase(id)), (Some(one), Phase::Lost), "better lost than nowhere");
    // Room appears elsewhere.
    root.report(two, aggregate(&[resources(2, 500)]), vec![]);
    root.reconcile();
    assert_eq!(root.holder(id), Some(two));
    assert_eq!(root.told(one, id), Some((FIRST, Desired::Running)), "its worker may yet return first");
}

/// A root that has read what the one before had stored.
fn restarted(before: &Root) -> Root {
    let mut root = Root::new();
    root.now = before.now;
    for (id, cluster) in &before.state.clusters {
        root.apply(vec![Change::Cluster(*id, Some(cluster.clone()))]);
    }
    for (id, service) in &before.state.services {
        root.apply(vec![Change::Service(*id, Some(service.clone()))]);
    }
    for (id, instance) in &before.state.instances {
        root.apply(vec![Change::Instance(*id, Some(instance.clone()))]);
    }
    root.state.loaded(root.now);
    root
}

#[test]
fn a_restarted_root_gives_its_clusters_time_to_return() {
    let (before, id, one, _) = running(small());
    let mut root = restarted(&before);
    root.reconcile();
    root.wait(59_000);
    assert_eq!((root.holder(id), root.phase(id)), (Some(one), Phase::Running));
}

#[test]
fn nobody_is_silent_while_others_come_back_to_a_restarted_root() {
    let (before, id, one, two) = running(small());
    let mut root = restarted(&before);
    root.wait(50_000);
    root.reconnect(two);
    root.report(two, aggregate(&[resources(2, 500)]), vec![]);
    root.wait_with(two, 59);
    assert_eq!(root.holder(id), Some(one), "the other came less than a minute ago");
    root.wait_with(two, 2);
    assert_eq!(root.holder(id), Some(two));
}

#[test]
fn clusters_that_come_back_do_not_put_off_for_ever_that_others_are_lost() {
    let (before, id, one, two) = running(small());
    let mut root = restarted(&before);
    root.wait(COMING_BACK_AT_MOST_MILLIS + 30_000);
    root.reconnect(two);
    root.report(two, aggregate(&[resources(2, 500)]), vec![]);
    root.wait_with(two, 29);
    assert_eq!(root.holder(id), Some(one));
    root.wait_with(two, 2);
    assert_eq!(root.holder(id), Some(two));
}

#[test]
fn what_comes_late_from_an_older_connection_changes_nothing() {
    let (mut root, id, one, _) = running(small());
    let old = root.session(one);
    root.reconnect(one);
    let dead = ClusterReport {
        sequence: 1000,
        instances: vec![root.said(id, Phase::Dead)],
        ..ClusterReport::default()
    };
    assert_eq!(root.state.cluster_reported(one, old, dead.clone(), root.now), []);
    root.state.cluster_disconnected(one, old);
    assert!(root.state.is_connected(one));
    let overtaken = ClusterReport { sequence: 0, ..dead };
    assert_eq!(root.state.cluster_reported(one, root.session(one), overtaken, root.now), []);
    assert_eq!(root.phase(id), Phase::Running);
}

#[test]
fn an_assignment_that_is_not_confirmed_is_sent_again() {
    let mut root = Root::new();
    let cluster = root.cluster(1, "one", &[resources(8, 2000)]);
    assert_eq!(root.reconcile().effects.len(), 1);
    root.now.moment = root.now.moment.plus_millis(OFFER_AGAIN_MILLIS - 1);
    assert_eq!(root.reconcile().effects, []);
    root.now.moment = root.now.moment.plus_millis(1);
    assert_eq!(root.reconcile().effects.len(), 1);
    let same = root.state.aggregate(cluster).0;
    root.report(cluster, same, vec![]);
    root.wait(60_000);
    assert_eq!(root.reconcile().effects, []);
}

#[test]
fn a_clock_that_is_set_changes_nothing() {
    for hours in [-1_i64, 1] {
        let (mut root, id, one, _) = running(small());
        root.now.date = Timestamp(root.now.date.0.saturating_add_signed(hours * 3_600_000));
        assert_eq!(root.reconcile().effects, []);
        assert_eq!((root.holder(id), root.phase(id)), (Some(one), Phase::Running));
    }
}

#[test]
fn what_must_not_run_twice_is_given_up_where_it_was_at_once() {
    let mut spec = small();
    spec.survival.on_partition = OnPartition::StopAfter(Span::from_secs(10));
    let (mut root, id, one, two) = running(spec);
    let refusal = Refusal {
        code: RefusalCode::NoResourcesAvailable,
        summary: "no other worker can take it".to_owned(),
        candidates: vec![],
    };
    let said = InstanceReport { refusal: Some(refusal), ..root.said(id, Phase::Lost) };
    root.reports(one, said);
    root.reconcile();
    assert_eq!(root.holder(id), Some(two));
    assert_eq!(
        root.told(one, id),
        Some((FIRST, Desired::Removed)),
        "room that appears there must not start it again"
    );
}

#[test]
fn a_connection_that_is_given_up_late_does_not_put_off_what_its_silence_calls_for() {
    let (mut root, id, one, two) = running(small());
    root.wait_with(two, 20);
    root.disconnect(one);
    root.wait_with(two, 39);
    assert_eq!(root.holder(id), Some(one));
    root.wait_with(two, 2);
    assert_eq!(root.holder(id), Some(two));
}

#[test]
fn what_a_silent_cluster_had_goes_to_another_as_soon_as_there_is_room() {
    let (mut root, id, one, two) = running(small());
    let full = ClusterAggregate { free: Resources::default(), ..aggregate(&[resources(0, 0)]) };
    root.report(two, full, vec![]);
    root.disconnect(one);
    root.wait_with(two, 90);
    assert_eq!(root.holder(id), Some(one), "there is no other place");
    root.report(two, aggregate(&[resources(2, 500)]), vec![]);
    root.reconcile();
    assert_eq!(root.holder(id), Some(two));
}

#[test]
fn what_a_cluster_says_again_is_heard_when_something_happened_to_the_instance_meanwhile() {
    let (mut root, id, one, _) = running(small());
    let said = root.said(id, Phase::Running);
    let used = |memory: u64| model::Usage { memory_bytes: memory, ..said.usage };
    for memory in [1, 2, 3] {
        root.reports(one, InstanceReport { usage: used(memory), ..said.clone() });
        assert_eq!(root.state.usage(id), Some(used(memory)));
    }
    let dead = root.said(id, Phase::Dead);
    root.reports(one, dead);
    assert_eq!(root.phase(id), Phase::Dead);
    root.reports(one, said);
    assert_eq!(root.phase(id), Phase::Running, "the same words as before, and news now");
}

#[test]
fn what_a_lost_cluster_said_before_is_heard_when_it_says_it_again() {
    let (mut root, id, one, two) = running(with(Some(20), OnRejoin::KeepOriginal));
    let said = root.said(id, Phase::Running);
    root.reports(one, said.clone());
    root.reports(one, said.clone());
    root.disconnect(one);
    root.wait_with(two, 21);
    assert_eq!(root.holder(id), Some(two));
    root.reconnect(one);
    root.reports(one, said);
    assert_eq!(root.holder(id), Some(one), "the original runs and is to be kept");
}

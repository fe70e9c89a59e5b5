//! What happens to instances when people drain, cordon, even out and forget workers.

use model::{ClusterAnswer, OnPartition, OnRejoin, Scheduling};

use super::{
    survival::{running, with},
    *,
};
use crate::{BEGIN_WITHIN_MILLIS, MOVE_WITHIN_MILLIS};

#[test]
fn draining_starts_elsewhere_first_and_stops_when_that_is_ready() {
    let mut cluster = running(small());
    assert_eq!(cluster.schedule(1, Scheduling::Draining), ClusterAnswer::Begun { instances: 1 });
    cluster.reconcile();
    assert_eq!(cluster.told(1, 0), Some((Generation(1), Desired::Running)), "not stopped yet");
    assert_eq!(cluster.told(2, 0), Some((Generation(2), Desired::Running)));
    cluster.say(2, 0, Phase::Creating);
    assert_eq!(cluster.phase(0), Some(Phase::Running), "the copy that counts");
    cluster.say(2, 0, Phase::Running);
    cluster.reconcile();
    assert_eq!(cluster.told(1, 0), Some((Generation(1), Desired::Removed)));
    assert_eq!((cluster.holder(0), cluster.phase(0)), (Some(worker(2)), Some(Phase::Running)));
}

#[test]
fn a_drain_that_is_taken_back_leaves_everything_where_it_is() {
    let mut cluster = running(small());
    cluster.schedule(1, Scheduling::Draining);
    cluster.reconcile();
    cluster.schedule(1, Scheduling::Open);
    cluster.reconcile();
    assert_eq!(cluster.told(1, 0), Some((Generation(1), Desired::Running)));
    assert_eq!(cluster.told(2, 0), Some((Generation(2), Desired::Removed)));
}

#[test]
fn a_drain_without_room_elsewhere_says_so_and_goes_on_when_there_is() {
    let mut cluster = Cluster::default();
    cluster.connect(1, 4, 1000);
    cluster.assign(small(), vec![wanted(0, Desired::Running)]);
    cluster.reconcile();
    cluster.say(1, 0, Phase::Running);
    cluster.schedule(1, Scheduling::Draining);
    cluster.reconcile();
    let reported = cluster.reported(0).expect("held");
    assert_eq!((reported.phase, reported.refusal), (Phase::Running, None));
    assert!(reported.detail.contains("cannot move"), "{}", reported.detail);
    cluster.connect(2, 4, 1000);
    cluster.reconcile();
    assert_eq!(cluster.told(2, 0), Some((Generation(2), Desired::Running)));
    cluster.wait(2000);
}

#[test]
fn a_move_that_never_gets_ready_is_given_up_and_tried_again() {
    let mut cluster = running(small());
    cluster.schedule(1, Scheduling::Draining);
    cluster.reconcile();
    cluster.say(2, 0, Phase::Failed);
    for _ in 1..=MOVE_WITHIN_MILLIS / 400 + 2 {
        cluster.wait(400);
        cluster.beat(1);
        cluster.beat(2);
    }
    assert_eq!(cluster.told(2, 0), Some((Generation(2), Desired::Removed)));
    assert_eq!((cluster.holder(0), cluster.phase(0)), (Some(worker(1)), Some(Phase::Running)));
    cluster.say(2, 0, Phase::Removed);
    cluster.reconcile();
    assert_eq!(cluster.told(2, 0), Some((Generation(3), Desired::Running)));
}

#[test]
fn a_cordoned_worker_keeps_what_it_has_and_takes_nothing_more() {
    let mut cluster = running(small());
    cluster.schedule(1, Scheduling::Cordoned);
    cluster.assign(small(), vec![wanted(0, Desired::Running), wanted(1, Desired::Running)]);
    cluster.reconcile();
    assert_eq!([cluster.holder(0), cluster.holder(1)], [Some(worker(1)), Some(worker(2))]);
    let nobody = cluster.schedule(7, Scheduling::Cordoned);
    assert!(matches!(nobody, ClusterAnswer::Rejected { reason } if reason.contains("no worker `worker7`")));
}

#[test]
fn rebalancing_moves_one_instance_of_a_service_at_a_time() {
    let mut cluster = Cluster::default();
    cluster.connect(1, 8, 1000);
    cluster.assign(small(), (0..4).map(|number| wanted(number, Desired::Running)).collect());
    cluster.reconcile();
    (0..4).for_each(|number| cluster.say(1, number, Phase::Running));
    cluster.connect(2, 8, 1000);
    cluster.reconcile();
    assert_eq!(cluster.ask(ClusterRequest::Rebalance), ClusterAnswer::Begun { instances: 1 });
    cluster.reconcile();
    let moving: Vec<u32> = (0..4).filter(|number| cluster.told(2, *number).is_some()).collect();
    assert_eq!(moving.len(), 1);
    cluster.say(2, moving[0], Phase::Running);
    cluster.reconcile();
    assert_eq!(cluster.ask(ClusterRequest::Rebalance), ClusterAnswer::Begun { instances: 1 });
    cluster.reconcile();
    let second: Vec<u32> =
        (0..4).filter(|number| cluster.told(2, *number).is_some() && *number != moving[0]).collect();
    cluster.say(2, second[0], Phase::Running);
    cluster.reconcile();
    assert_eq!(cluster.ask(ClusterRequest::Rebalance), ClusterAnswer::Begun { instances: 0 }, "it is even");
}

#[test]
fn a_worker_that_is_forgotten_gives_its_instances_back_and_gets_tombstones_if_it_returns() {
    let mut cluster = running(with(OnPartition::Keep, OnRejoin::default()));
    let forget = || ClusterRequest::Forget { worker: "worker1".to_owned() };
    assert!(matches!(cluster.ask(forget()), ClusterAnswer::Rejected { .. }), "it is connected");
    cluster.state.worker_disconnected(worker(1), cluster.session(1), cluster.now);
    assert_eq!(cluster.ask(forget()), ClusterAnswer::Begun { instances: 1 });
    cluster.reconcile();
    assert_eq!(cluster.told(2, 0), Some((Generation(2), Desired::Running)));
    cluster.connect(1, 4, 1000);
    cluster.reconcile();
    cluster.say_of(1, 0, Generation(1), Phase::Running);
    cluster.reconcile();
    assert_eq!(cluster.told(1, 0), Some((Generation(1), Desired::Removed)));
}

#[test]
fn the_root_hears_what_an_instance_that_goes_waits_for() {
    let mut cluster = running(small());
    cluster.assign(small(), vec![wanted(0, Desired::Removed)]);
    cluster.reconcile();
    let since = cluster.reported(0).expect("there").since;
    for detail in ["waiting for 2 connections to end", ""] {
        let mut said = InstanceReport::new(instance(0), Generation(1), Phase::Undeploying, Timestamp(7));
        said.detail = detail.to_owned();
        assert!(cluster.hear(1, said.clone()), "the root is to hear of it");
        assert!(!cluster.hear(1, said), "the same again is no news");
        let going = cluster.reported(0).expect("there");
        assert_eq!((going.phase, going.detail.as_str(), going.since), (Phase::Undeploying, detail, since));
    }
}

#[test]
fn the_mailbox_of_a_worker_that_is_forgotten_is_closed_when_its_net_manager_has_gone_too() {
    for goes_first in [true, false] {
        let mut cluster = Cluster::default();
        cluster.connect(1, 4, 1000);
        cluster.state.network_connected(worker(1), 1, None);
        cluster.reconcile();
        cluster.state.worker_disconnected(worker(1), cluster.session(1), cluster.now);
        if goes_first {
            cluster.state.network_disconnected(worker(1), 1);
        }
        assert_eq!(cluster.reconcile().effects, [], "it is this cluster's");
        cluster.ask(ClusterRequest::Forget { worker: "worker1".to_owned() });
        if !goes_first {
            assert_eq!(cluster.reconcile().effects, [], "its mailbox is in use");
            cluster.state.network_disconnected(worker(1), 1);
        }
        assert_eq!(cluster.reconcile().effects, [Effect::CloseRelay { worker: worker(1) }]);
    }
}

#[test]
fn what_has_ended_for_good_is_nothing_a_drain_waits_for() {
    let mut cluster = running(small());
    cluster.say(1, 0, Phase::Completed);
    assert_eq!(cluster.schedule(1, Scheduling::Draining), ClusterAnswer::Begun { instances: 0 });
    let ClusterAnswer::Workers(workers) = cluster.ask(ClusterRequest::ListWorkers) else { panic!("workers") };
    let counts: Vec<u32> = workers.iter().map(|worker| worker.instances).collect();
    assert_eq!(counts, [0, 0]);
}

#[test]
fn a_device_port_is_promised_once_in_one_pass() {
    let mut cluster = Cluster::default();
    cluster.connect(1, 8, 1000);
    cluster.connect(2, 8, 1000);
    let mut spec = small();
    spec.ports = PortMapping::parse_list("8080:80").expect("well formed");
    cluster.assign(spec.clone(), vec![wanted(0, Desired::Running), wanted(1, Desired::Running)]);
    cluster.reconcile();
    cluster.connect(3, 8, 1000);
    let mut field = cluster.state.field();
    let both: Vec<_> = cluster.state.instances.values().cloned().collect();
    let chosen: Vec<_> = both.iter().map(|it| cluster.state.choose(&mut field, it, &spec)).collect();
    assert_eq!(chosen[0], Ok(worker(3)), "the only one whose port is free");
    assert!(chosen[1].is_err(), "and then it is promised: {chosen:?}");
}

/// What is to be tried by one worker once.
fn single() -> ServiceSpec {
    ServiceSpec { one_shot: true, single_attempt: true, ..small() }
}

#[test]
fn what_has_a_single_attempt_is_neither_moved_nor_replaced() {
    let mut cluster = running(single());
    cluster.schedule(1, Scheduling::Draining);
    cluster.reconcile();
    cluster.schedule(1, Scheduling::Open);
    assert_eq!(cluster.ask(ClusterRequest::Rebalance), ClusterAnswer::Begun { instances: 0 });
    cluster.lose_the_first(10_000);
    assert_eq!((cluster.holder(0), cluster.phase(0)), (Some(worker(1)), Some(Phase::Lost)));
    assert_eq!(cluster.told(2, 0), None);
}

#[test]
fn what_has_a_single_attempt_is_not_evened_out() {
    let mut cluster = Cluster::default();
    cluster.connect(1, 8, 1000);
    cluster.assign(single(), (0..4).map(|number| wanted(number, Desired::Running)).collect());
    cluster.reconcile();
    (0..4).for_each(|number| cluster.say(1, number, Phase::Running));
    cluster.connect(2, 8, 1000);
    cluster.reconcile();
    assert_eq!(cluster.ask(ClusterRequest::Rebalance), ClusterAnswer::Begun { instances: 0 });
}

#[test]
fn what_has_a_single_attempt_and_is_not_begun_may_have_been_begun() {
    let mut cluster = Cluster::default();
    cluster.connect(1, 4, 1000);
    cluster.connect(2, 2, 1000);
    cluster.assign(single(), vec![wanted(0, Desired::Running)]);
    cluster.reconcile();
    for _ in 1..=BEGIN_WITHIN_MILLIS / 400 + 1 {
        cluster.wait(400);
        cluster.beat(1);
        cluster.beat(2);
    }
    assert_eq!((cluster.holder(0), cluster.told(2, 0)), (Some(worker(1)), None));
}

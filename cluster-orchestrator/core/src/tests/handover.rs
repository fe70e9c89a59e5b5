//! The last moment of a move: who is called meanwhile.

use model::{CallableInstance, LAST_CALLS_MILLIS, NetworkNews, Scheduling, Span};

use super::{
    network::{addressed, different, reach, running, say, told},
    *,
};
use crate::{ARRIVES_WITHIN_MILLIS, LONGEST_LAST_CALLS_MILLIS};

/// The first two workers have an instance of a service each, which are called; the others have room.
fn called(spec: ServiceSpec) -> Cluster {
    let mut cluster = Cluster::default();
    for number in [1, 2, 3, 4] {
        cluster.connect(number, 1, 1000);
        cluster.state.network_connected(worker(number), 1, Some(reach(number)));
    }
    cluster.assign(spec, [0, 1].map(|number| addressed(number, Desired::Running)).to_vec());
    cluster.reconcile();
    for number in [0, 1] {
        say(&mut cluster, number, Phase::Running);
    }
    told(&mut cluster);
    cluster
}

/// Its worker is drained, and the copy that is to replace it is ready on the answer.
fn moving(cluster: &mut Cluster, instance: u32) -> u8 {
    let holder = cluster.holder(instance).expect("it is placed");
    let from = (1..=4).find(|number| worker(*number) == holder).expect("one of ours");
    cluster.schedule(from, Scheduling::Draining);
    told(cluster);
    let to = (1..=4).find(|number| *number != from && cluster.told(*number, instance).is_some());
    let to = to.expect("there is room");
    cluster.say(to, instance, Phase::Running);
    to
}

/// What those who may call an instance are told of it, if anything.
fn heard(cluster: &mut Cluster, number: u32) -> Option<CallableInstance> {
    let news = told(cluster);
    let about = |news: &NetworkNews| different(news).into_iter().find(|(about, _)| *about == number);
    news.values().find_map(about).and_then(|(_, now)| now)
}

/// Time passes without a pass.
fn later(cluster: &mut Cluster, millis: u64) {
    let Now { date, moment } = cluster.now;
    cluster.now = Now { date: date.plus_millis(millis), moment: moment.plus_millis(millis) };
}

#[test]
fn nobody_new_calls_what_moves_while_its_address_goes_over() {
    let mut cluster = called(small());
    let before = running(&cluster, 0, false);
    let to = moving(&mut cluster, 0);
    assert_eq!(heard(&mut cluster, 0), Some(before), "others answer");
    cluster.wait(LAST_CALLS_MILLIS - 1);
    assert_eq!(cluster.told(1, 0), Some((Generation(1), Desired::Running)), "calls under way end");

    later(&mut cluster, 1);
    let arriving = CallableInstance { worker: worker(to), ..before };
    assert_eq!(heard(&mut cluster, 0), Some(arriving));
    assert_eq!(cluster.told(1, 0), Some((Generation(1), Desired::Removed)));

    later(&mut cluster, ARRIVES_WITHIN_MILLIS);
    assert_eq!(heard(&mut cluster, 0), Some(CallableInstance { ready: true, ..arriving }));
    assert_eq!((cluster.holder(0), cluster.phase(0)), (Some(worker(to)), Some(Phase::Running)));
}

#[test]
fn connections_of_a_service_that_asks_for_it_end_before_the_address_goes_over() {
    let mut cluster = called(ServiceSpec { drain: Span::from_millis(1000), ..small() });
    let to = moving(&mut cluster, 0);
    cluster.wait(999);
    assert_eq!(cluster.told(1, 0), Some((Generation(1), Desired::Running)));
    cluster.wait(1);
    assert_eq!(cluster.holder(0), Some(worker(to)));
}

#[test]
fn a_move_does_not_wait_for_an_hour() {
    let mut cluster = called(ServiceSpec { drain: Span::from_millis(3_600_000), ..small() });
    let to = moving(&mut cluster, 0);
    cluster.reconcile();
    for _ in 0..LONGEST_LAST_CALLS_MILLIS / 400 {
        cluster.wait(400);
        (1..=4).for_each(|number| cluster.beat(number));
    }
    assert_eq!(cluster.holder(0), Some(worker(to)));
}

#[test]
fn the_only_one_that_answers_goes_over_at_once() {
    let mut cluster = called(small());
    say(&mut cluster, 1, Phase::Dead);
    told(&mut cluster);
    let to = moving(&mut cluster, 0);
    let now = heard(&mut cluster, 0).expect("it is elsewhere");
    assert_eq!((now.worker, now.ready), (worker(to), true));
}

#[test]
fn when_the_others_answer_no_more_nothing_is_waited_for() {
    let mut cluster = called(small());
    let to = moving(&mut cluster, 0);
    told(&mut cluster);
    say(&mut cluster, 1, Phase::Dead);
    let now = heard(&mut cluster, 0).expect("it is elsewhere");
    assert_eq!((now.worker, now.ready), (worker(to), true));
}

#[test]
fn a_successor_that_is_ready_no_more_leaves_the_old_copy_to_be_called() {
    let mut cluster = called(small());
    let before = running(&cluster, 0, true);
    let to = moving(&mut cluster, 0);
    told(&mut cluster);
    cluster.say(to, 0, Phase::Dead);
    assert_eq!(heard(&mut cluster, 0), Some(before));
    cluster.wait(LAST_CALLS_MILLIS);
    assert_eq!(cluster.told(1, 0), Some((Generation(1), Desired::Running)));
    cluster.say(to, 0, Phase::Running);
    cluster.reconcile();
    cluster.wait(LAST_CALLS_MILLIS);
    assert_eq!(cluster.holder(0), Some(worker(to)));
}

#[test]
fn a_drain_that_is_taken_back_at_the_last_moment_leaves_it_to_be_called() {
    let mut cluster = called(small());
    let before = running(&cluster, 0, true);
    moving(&mut cluster, 0);
    told(&mut cluster);
    cluster.schedule(1, Scheduling::Open);
    assert_eq!(heard(&mut cluster, 0), Some(before));
    cluster.wait(LAST_CALLS_MILLIS);
    assert_eq!(cluster.holder(0), Some(worker(1)));
}

#[test]
fn of_those_that_move_at_the_same_time_one_is_always_called() {
    let mut cluster = called(small());
    let to = [0, 1].map(|number| moving(&mut cluster, number));
    let second = cluster.holder(1);
    assert_eq!(cluster.holder(0), Some(worker(1)), "its last calls end");
    for _ in 0..20 {
        if cluster.state.is_quiet(instance(0)) {
            assert_eq!(cluster.holder(1), second, "it waits for its turn");
        }
        let ready = cluster.state.instances_anywhere(instance(0).service);
        assert!(ready.iter().any(|it| it.ready), "{ready:?}");
        cluster.wait(50);
    }
    assert_eq!([0, 1].map(|number| cluster.holder(number)), to.map(|number| Some(worker(number))));
}

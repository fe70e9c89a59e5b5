//! What a cluster makes of silence after its own restart, and after it was held up.

use model::{Desired, Generation, Now, Phase};

use super::{Cluster, small, survival::running, wanted, worker};
use crate::{BEGIN_WITHIN_MILLIS, Change, NOBODY_CAME_MILLIS, RECONNECT_MILLIS, STILL_COMING_MILLIS};

/// It knows what is stored of another that ran until now.
fn restarted(before: &Cluster) -> Cluster {
    let mut cluster = Cluster { now: before.now, sessions: 0, ..Cluster::default() };
    for instance in before.state.instances.values() {
        cluster.apply(vec![Change::Instance(instance.id, Some(instance.clone()))]);
    }
    for worker in before.state.workers.values() {
        cluster.apply(vec![Change::Worker(worker.id, Some(worker.clone()))]);
    }
    cluster.apply(vec![Change::Held(before.state.held.clone())]);
    cluster.state.loaded(cluster.now);
    assert_eq!(cluster.reconcile().effects, []);
    cluster
}

#[test]
fn a_restarted_cluster_judges_no_worker_that_has_just_come_back() {
    let mut cluster = restarted(&running(small()));
    cluster.connect(1, 4, 1000);
    cluster.connect(2, 2, 1000);
    cluster.reconcile();
    cluster.beat(1);
    cluster.wait(STILL_COMING_MILLIS - 100);
    assert_eq!((cluster.holder(0), cluster.phase(0)), (Some(worker(1)), Some(Phase::Running)), "only late");
    cluster.beat(2);
    cluster.wait(200);
    assert_eq!(cluster.holder(0), Some(worker(2)), "it has lasted for too long");
}

#[test]
fn a_restarted_cluster_gives_its_workers_time_to_return() {
    let mut cluster = restarted(&running(small()));
    cluster.wait(RECONNECT_MILLIS - 100);
    assert_eq!(cluster.phase(0), Some(Phase::Running), "as last heard");
    cluster.connect(1, 4, 1000);
    cluster.reconcile();
    cluster.say(1, 0, Phase::Running);
    assert_eq!(cluster.told(1, 0), Some((Generation(1), Desired::Running)), "nothing healthy is restarted");
}

/// What it had said before the restart may not have been stored.
#[test]
fn whoever_is_to_begin_has_its_time_from_when_it_is_back() {
    let mut before = Cluster::default();
    before.connect(1, 4, 1000);
    before.connect(2, 2, 1000);
    before.assign(small(), vec![wanted(0, Desired::Running)]);
    before.reconcile();
    assert_eq!((before.holder(0), before.phase(0)), (Some(worker(1)), Some(Phase::NodeScheduled)));

    let mut cluster = restarted(&before);
    cluster.connect(2, 2, 1000);
    for _ in 0..20 {
        cluster.state.somebody_knocked(cluster.now);
        cluster.beat(2);
        cluster.wait(2_000);
    }
    assert_eq!(cluster.holder(0), Some(worker(1)), "it has not been told");
    cluster.connect(1, 4, 1000);
    let mut beat_for = |millis| {
        for _ in 0..millis / 1_000 {
            cluster.beat(1);
            cluster.beat(2);
            cluster.wait(1_000);
        }
        cluster.holder(0)
    };
    assert_eq!(beat_for(BEGIN_WITHIN_MILLIS - 1_000), Some(worker(1)));
    assert_eq!(beat_for(2_000), Some(worker(2)), "it does not begin");
}

#[test]
fn whoever_took_long_to_come_back_may_take_as_long_to_beat() {
    const TOOK: u64 = 12_000;
    let mut cluster = restarted(&running(small()));
    cluster.connect(2, 2, 1000);
    cluster.wait(TOOK);
    cluster.connect(1, 4, 1000);
    cluster.beat(2);
    cluster.wait(TOOK / 2);
    // Its connection broke.
    cluster.connect(1, 4, 1000);
    cluster.beat(2);
    cluster.wait(TOOK / 2 - 100);
    assert_eq!((cluster.holder(0), cluster.phase(0)), (Some(worker(1)), Some(Phase::Running)), "only late");
    cluster.beat(2);
    cluster.wait(200);
    assert_eq!(cluster.holder(0), Some(worker(2)), "it has lasted for too long");
}

/// Thousands that come back at once to a machine that is too small for it take longer than anybody's silence may last.
#[test]
fn a_restarted_cluster_judges_nobody_while_others_keep_coming_back() {
    let mut before = running(small());
    for number in 3..=24 {
        before.connect(number, 2, 1000);
    }
    before.reconcile();
    let mut cluster = restarted(&before);
    cluster.connect(2, 2, 1000);
    cluster.reconcile();
    for number in 3..=24 {
        cluster.wait(STILL_COMING_MILLIS - 100);
        cluster.connect(number, 2, 1000);
        cluster.reconcile();
        assert_eq!(
            (cluster.holder(0), cluster.phase(0)),
            (Some(worker(1)), Some(Phase::Running)),
            "{number}"
        );
    }
    cluster.wait(STILL_COMING_MILLIS - 100);
    assert_eq!(cluster.holder(0), Some(worker(1)));
    cluster.beat(2);
    cluster.wait(200);
    assert_ne!(
        cluster.holder(0),
        Some(worker(1)),
        "nobody came any more, and it has been silent for a minute"
    );
}

#[test]
fn a_restarted_cluster_that_nobody_comes_back_to_waits_as_long_as_the_root_would() {
    let mut cluster = restarted(&running(small()));
    cluster.wait(NOBODY_CAME_MILLIS - 100);
    assert_eq!((cluster.holder(0), cluster.phase(0)), (Some(worker(1)), Some(Phase::Running)));
    cluster.wait(200);
    assert_ne!(cluster.phase(0), Some(Phase::Running), "its instances are needed elsewhere");
}

#[test]
fn a_cluster_that_is_new_waits_for_nobody() {
    let mut cluster = restarted(&Cluster::default());
    cluster.connect(1, 4, 1000);
    cluster.connect(2, 2, 1000);
    cluster.assign(small(), vec![wanted(0, Desired::Running)]);
    cluster.reconcile();
    cluster.say(1, 0, Phase::Running);
    for _ in 0..5 {
        cluster.beat(2);
        cluster.wait(2_000);
    }
    assert_eq!(cluster.holder(0), Some(worker(2)), "the other was silent for ten seconds");
}

#[test]
fn a_cluster_that_was_held_up_takes_in_first_what_has_waited_meanwhile() {
    let mut cluster = running(small());
    cluster.now = Now { moment: cluster.now.moment.plus_millis(4_000), ..cluster.now };
    cluster.reconcile();
    cluster.beat(2);
    cluster.wait(2_000);
    cluster.beat(2);
    assert_eq!(cluster.holder(0), Some(worker(1)), "its beats may still be waiting");
    cluster.wait(2_000);
    assert_ne!(cluster.holder(0), Some(worker(1)), "there were none");
}

#[test]
fn a_restarted_cluster_judges_nobody_while_somebody_knocks_and_some_are_missing() {
    let mut cluster = restarted(&running(small()));
    for _ in 0..10 {
        cluster.wait(STILL_COMING_MILLIS - 100);
        cluster.state.somebody_knocked(cluster.now);
    }
    assert_eq!((cluster.holder(0), cluster.phase(0)), (Some(worker(1)), Some(Phase::Running)));
    cluster.connect(1, 4, 1000);
    cluster.connect(2, 2, 1000);
    cluster.reconcile();
    for _ in 0..=RECONNECT_MILLIS / 2000 {
        cluster.state.somebody_knocked(cluster.now);
        cluster.beat(2);
        cluster.wait(2000);
    }
    assert_eq!(cluster.holder(0), Some(worker(2)), "nobody was missing, and one went again");
}

#[test]
fn a_cluster_that_was_held_up_itself_loses_nobody() {
    let mut cluster = running(small());
    cluster.wait(1000);
    // Nothing was taken in for a minute; then everything at once.
    cluster.now = Now { moment: cluster.now.moment.plus_millis(60_000), ..cluster.now };
    cluster.reconcile();
    for _ in 1..75 {
        cluster.beat(1);
        cluster.beat(2);
    }
    cluster.wait(1000);
    assert_eq!((cluster.holder(0), cluster.phase(0)), (Some(worker(1)), Some(Phase::Running)));
}

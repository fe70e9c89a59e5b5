//! What beats leave to decide, and who lives by them.

use std::collections::BTreeSet;

use super::{survival::running, *};

#[test]
fn a_beat_leaves_nothing_to_decide_unless_its_worker_was_lost() {
    let mut cluster = running(small());
    let (first, second) = (cluster.session(1), cluster.session(2));
    cluster.wait(400);
    assert!(!cluster.beat_of(1, first));
    assert!(!cluster.beat_of(2, second));
    cluster.lose_the_first(4000);
    assert_eq!(cluster.holder(0), Some(worker(2)));
    assert!(cluster.beat_of(1, first), "it is back");
}

#[test]
fn looks_at_many_workers_are_shared() {
    let mut cluster = Cluster::default();
    for number in 1..=100 {
        cluster.wait(7);
        cluster.connect(number, 1, 100);
    }
    let mut looks = BTreeSet::new();
    let until = cluster.now.moment.plus_millis(2000);
    let mut number = 0;
    while cluster.now.moment < until {
        let plan = cluster.state.reconcile(cluster.now);
        looks.extend(plan.wake_at);
        cluster.wait(4);
        number = number % 100 + 1;
        cluster.beat(number);
    }
    assert!((10..=42).contains(&looks.len()), "{} looks in two seconds", looks.len());
}

#[test]
fn where_workers_beat_slowly_a_lost_one_is_noticed_that_much_later() {
    let mut cluster = Cluster::default();
    cluster.state.beat_every(2000);
    cluster.connect(1, 4, 1000);
    let interval = cluster.state.reconcile(cluster.now).effects.into_iter().find_map(|effect| {
        if let Effect::SetBeats { interval_millis, .. } = effect { Some(interval_millis) } else { None }
    });
    assert_eq!(interval, Some(1000), "fast until it is known what the link loses");
    cluster.wait(3600);
    assert!(cluster.state.contacts.is_reachable(worker(1)));
    cluster.wait(200);
    assert!(!cluster.state.contacts.is_reachable(worker(1)));
}

#[test]
fn a_silent_worker_is_asked_for_a_report_and_lives_by_it_while_its_beats_do_not_pass() {
    let mut cluster = running(small());
    let mut requests = Vec::new();
    // The beats of the first are lost from now on; the second beats and has nothing else to say.
    for step in 1..=600 {
        cluster.now =
            Now { date: cluster.now.date.plus_millis(100), moment: cluster.now.moment.plus_millis(100) };
        if step % 8 == 0 {
            cluster.beat(2);
        }
        let effects = cluster.state.reconcile(cluster.now).effects;
        for effect in effects {
            if let Effect::RequestReport { worker: asked, session, anew: false } = effect {
                assert_eq!((asked, session), (worker(1), cluster.session(1)), "it beats");
                requests.push(step);
                cluster.say(1, 0, Phase::Running);
            }
        }
        assert_eq!(cluster.state.contacts.lost_since(worker(1)), None, "after {step}00 ms");
    }
    let gaps: Vec<i32> = requests.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert_eq!(requests.first(), Some(&13), "at half of what is borne while beats pass");
    assert!(gaps.last().is_some_and(|gap| *gap >= 47), "seldom once it is clear that they do not: {gaps:?}");
}

#[test]
fn beats_and_reports_tell_how_busy_a_device_is() {
    let mut cluster = running(small());
    let session = cluster.session(1);
    let load = Load { cpu_percent: 80.0, memory_percent: 40.0 };
    assert!(!cluster.state.worker_beat(worker(1), session, 1_000, load, cluster.now), "nothing to decide");
    let aggregate = cluster.state.report(1, cluster.now).aggregate;
    assert_eq!((aggregate.cpu_percent, aggregate.memory_percent), (40.0, 20.0), "the mean of two");
    cluster.say(1, 0, Phase::Running);
    assert_eq!(cluster.state.contacts.load(worker(1)), Load::default(), "as the report says");
}

#[test]
fn a_worker_that_beats_without_a_connection_keeps_its_instances() {
    let mut cluster = running(small());
    let session = cluster.session(1);
    cluster.state.worker_disconnected(worker(1), session, cluster.now);
    for _ in 1..20 {
        cluster.wait(800);
        cluster.beat_of(1, session);
    }
    assert_eq!(cluster.holder(0), Some(worker(1)));
    assert_eq!(cluster.phase(0), Some(Phase::Running));
}

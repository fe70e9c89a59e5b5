//! What happens to instances when workers are lost, return, or do not begin.

use model::{ClusterAnswer, OnPartition, OnRejoin, RefusalCode, Scheduling, Span, SpentToken, WorkerToken};

use super::*;
use crate::{BEGIN_WITHIN_MILLIS, Claim, EnrolmentRejected, Notice, STOP_MARGIN_MILLIS};

/// Two workers, one instance running on the first.
pub(super) fn running(spec: ServiceSpec) -> Cluster {
    let mut cluster = Cluster::default();
    cluster.connect(1, 4, 1000);
    cluster.connect(2, 2, 1000);
    cluster.assign(spec, vec![wanted(0, Desired::Running)]);
    cluster.reconcile();
    cluster.say(1, 0, Phase::Running);
    cluster.reconcile();
    assert_eq!(cluster.holder(0), Some(worker(1)));
    cluster
}

pub(super) fn with(on_partition: OnPartition, on_rejoin: OnRejoin) -> ServiceSpec {
    let mut spec = small();
    spec.survival.on_partition = on_partition;
    spec.survival.on_rejoin = on_rejoin;
    spec
}

fn replace() -> OnPartition {
    OnPartition::default()
}

impl Cluster {
    /// The second worker beats on while the first is silent.
    pub(super) fn lose_the_first(&mut self, millis: u64) {
        for _ in 1..=millis / 400 {
            self.wait(400);
            self.beat(2);
        }
        self.reconcile();
    }

    /// What is noted within so many twentieths of a second.
    fn noted(&mut self, looks: u32) -> Vec<Notice> {
        let mut noted = Vec::new();
        for _ in 0..looks {
            self.now.moment = self.now.moment.plus_millis(50);
            let effects = self.state.reconcile(self.now).effects;
            noted.extend(
                effects
                    .into_iter()
                    .filter_map(|effect| if let Effect::Note(notice) = effect { Some(notice) } else { None }),
            );
        }
        noted
    }

    pub(super) fn ask(&mut self, wish: ClusterRequest) -> ClusterAnswer {
        let (answer, changes) = self.state.request(&wish, self.now);
        self.apply(changes);
        answer
    }

    pub(super) fn schedule(&mut self, number: u8, scheduling: Scheduling) -> ClusterAnswer {
        self.ask(ClusterRequest::Schedule { worker: format!("worker{number}"), scheduling })
    }
}

#[test]
fn a_lost_worker_is_noticed_within_three_seconds_and_another_gets_its_instance() {
    let mut cluster = running(small());
    cluster.state.worker_disconnected(worker(1), cluster.session(1), cluster.now);
    cluster.lose_the_first(2000);
    assert_eq!(cluster.holder(0), Some(worker(1)), "a broken connection alone loses nobody");
    cluster.lose_the_first(800);
    assert_eq!(cluster.holder(0), Some(worker(2)));
    assert_eq!(cluster.told(2, 0), Some((Generation(2), Desired::Running)));
    assert_eq!(cluster.phase(0), Some(Phase::NodeScheduled));
}

#[test]
fn it_is_noted_who_is_lost_or_back_and_what_goes_elsewhere() {
    let mut cluster = running(small());
    cluster.lose_the_first(2000);
    let mut noted = cluster.noted(16);
    cluster.connect(1, 4, 1000);
    noted.extend(cluster.noted(1));
    let silent_millis = match noted.first() {
        Some(Notice::WorkerLost { silent_millis, .. }) => *silent_millis,
        other => panic!("{other:?}"),
    };
    assert!((2_000..=3_000).contains(&silent_millis), "{silent_millis}");
    let (first, second) = (worker(1), worker(2));
    let expected = [
        Notice::WorkerLost { worker: first, silent_millis },
        Notice::Replaced { instance: instance(0), from: first, to: second },
        Notice::WorkerBack { worker: first },
    ];
    assert_eq!(noted, expected);
}

#[test]
fn it_is_noted_too_what_was_on_its_way_elsewhere_when_its_worker_was_lost() {
    let mut cluster = running(small());
    cluster.schedule(1, Scheduling::Draining);
    cluster.reconcile();
    let (first, second) = (worker(1), worker(2));
    assert_eq!(cluster.holder(0), Some(first), "its successor has yet to begin");
    cluster.lose_the_first(2000);
    let noted = cluster.noted(16);
    assert!(
        matches!(noted.first(), Some(Notice::WorkerLost { worker, .. }) if *worker == first),
        "{noted:?}"
    );
    assert_eq!(noted[1..], [Notice::Replaced { instance: instance(0), from: first, to: second }]);
}

#[test]
fn a_report_leaves_something_to_decide_when_something_is_otherwise_or_its_worker_was_lost() {
    let mut cluster = running(small());
    let (id, first) = (instance(0), Generation(1));
    assert!(!cluster.report_of(1, id, first, Phase::Running), "all is as it was");
    assert!(cluster.report_of(1, id, first, Phase::Failed), "another phase");
    assert!(!cluster.report_of(1, id, first, Phase::Failed));
    cluster.lose_the_first(3200);
    assert!(cluster.state.contacts.lost_since(worker(1)).is_some());
    assert!(cluster.report_of(1, id, first, Phase::Failed), "it is back");
    assert!(cluster.state.contacts.lost_since(worker(1)).is_none());
}

#[test]
fn beats_and_reports_of_an_older_connection_count_for_nothing() {
    let mut cluster = running(small());
    let old = cluster.session(1);
    cluster.connect(1, 4, 1000);
    cluster.reconcile();
    cluster.state.worker_disconnected(worker(1), old, cluster.now);
    assert!(cluster.state.contacts.is_connected(worker(1)), "the end of the old connection");
    let gone = WorkerReport { sequence: 99, observed_generation: Generation(99), ..WorkerReport::default() };
    assert_eq!(cluster.state.worker_reported(worker(1), old, gone, cluster.now), None);
}

#[test]
fn a_report_that_was_overtaken_changes_nothing() {
    let mut cluster = running(small());
    let late = WorkerReport {
        sequence: 1,
        instances: vec![InstanceReport::new(instance(0), Generation(1), Phase::Dead, cluster.now.date)],
        ..WorkerReport::default()
    };
    assert_eq!(cluster.state.worker_reported(worker(1), cluster.session(1), late, cluster.now), None);
    assert_eq!(cluster.phase(0), Some(Phase::Running));
}

#[test]
fn the_replacement_stays_and_the_returning_worker_gets_a_tombstone() {
    let mut cluster = running(small());
    cluster.lose_the_first(3200);
    cluster.say(2, 0, Phase::Running);
    cluster.connect(1, 4, 1000);
    let effects = cluster.reconcile().effects;
    assert_eq!(cluster.told(1, 0), Some((Generation(1), Desired::Removed)), "told with the first words");
    assert_eq!(effects.len(), 1, "{effects:?}");
    assert_eq!(cluster.free().memory, Mebibytes(1800), "both copies are reserved until one is gone");
    cluster.say(1, 0, Phase::Removed);
    cluster.reconcile();
    assert_eq!((cluster.told(1, 0), cluster.holder(0)), (None, Some(worker(2))));
    assert_eq!(cluster.phase(0), Some(Phase::Running));
    assert_eq!(cluster.free().memory, Mebibytes(1900));
}

#[test]
fn a_replacement_that_does_not_run_yet_gives_way_to_the_original() {
    let mut cluster = running(small());
    cluster.lose_the_first(3200);
    cluster.connect(1, 4, 1000);
    cluster.reconcile();
    assert_eq!(cluster.told(1, 0), Some((Generation(1), Desired::Running)), "nothing healthy is stopped");
    cluster.say_of(1, 0, Generation(1), Phase::Running);
    cluster.reconcile();
    assert_eq!(cluster.holder(0), Some(worker(1)));
    assert_eq!(cluster.told(2, 0), Some((Generation(2), Desired::Removed)));
    // And the next replacement is newer than both.
    cluster.say(2, 0, Phase::Removed);
    cluster.lose_the_first(3200);
    assert_eq!(cluster.told(2, 0), Some((Generation(3), Desired::Running)));
}

#[test]
fn keep_original_gives_the_replacement_its_tombstone() {
    let mut cluster = running(with(replace(), OnRejoin::KeepOriginal));
    cluster.lose_the_first(3200);
    cluster.say(2, 0, Phase::Running);
    cluster.connect(1, 4, 1000);
    cluster.reconcile();
    assert_eq!(cluster.told(1, 0), Some((Generation(1), Desired::Running)));
    cluster.say_of(1, 0, Generation(1), Phase::Running);
    cluster.reconcile();
    assert_eq!(cluster.holder(0), Some(worker(1)));
    assert_eq!(cluster.told(2, 0), Some((Generation(2), Desired::Removed)));
}

#[test]
fn an_original_that_does_not_run_again_within_a_minute_is_given_up() {
    let mut cluster = running(with(replace(), OnRejoin::KeepOriginal));
    cluster.lose_the_first(3200);
    cluster.say(2, 0, Phase::Running);
    cluster.connect(1, 4, 1000);
    for _ in 1..160 {
        cluster.wait(400);
        cluster.beat(1);
        cluster.beat(2);
    }
    cluster.reconcile();
    assert_eq!(cluster.told(1, 0), Some((Generation(1), Desired::Removed)));
}

#[test]
fn keep_waits_for_the_worker_however_long() {
    let mut cluster = running(with(OnPartition::Keep, OnRejoin::default()));
    cluster.lose_the_first(600_000);
    assert_eq!(cluster.holder(0), Some(worker(1)));
    let reported = cluster.reported(0).expect("held");
    assert_eq!((reported.phase, reported.ready), (Phase::Lost, false));
    assert!(reported.detail.contains("on_partition keep"), "{}", reported.detail);
}

#[test]
fn replace_after_waits_as_long_as_the_service_says() {
    let mut cluster = running(with(OnPartition::ReplaceAfter(Span::from_secs(20)), OnRejoin::default()));
    cluster.lose_the_first(19_600);
    assert_eq!(cluster.holder(0), Some(worker(1)));
    let detail = cluster.reported(0).expect("held").detail;
    assert!(detail.contains("another worker gets it if that lasts"), "{detail}");
    cluster.lose_the_first(800);
    assert_eq!(cluster.holder(0), Some(worker(2)));
}

#[test]
fn stop_after_replaces_only_when_the_lost_copy_has_stopped_for_sure() {
    let mut cluster = running(with(OnPartition::StopAfter(Span::from_secs(10)), OnRejoin::KeepOriginal));
    cluster.lose_the_first(10_000 + STOP_MARGIN_MILLIS - 400);
    assert_eq!(cluster.holder(0), Some(worker(1)));
    cluster.lose_the_first(800);
    assert_eq!(cluster.holder(0), Some(worker(2)));
    assert_eq!(cluster.told(1, 0), Some((Generation(1), Desired::Removed)), "never two at once");
}

#[test]
fn without_another_place_the_instance_stays_and_the_root_hears_why() {
    let mut cluster = Cluster::default();
    cluster.connect(1, 4, 1000);
    cluster.connect(2, 4, 50);
    cluster.assign(small(), vec![wanted(0, Desired::Running)]);
    cluster.reconcile();
    cluster.say(1, 0, Phase::Running);
    cluster.lose_the_first(3200);
    let reported = cluster.reported(0).expect("held");
    assert_eq!((reported.phase, cluster.holder(0)), (Phase::Lost, Some(worker(1))));
    assert_eq!(reported.refusal.map(|refusal| refusal.code), Some(RefusalCode::NoResourcesAvailable));
    assert!(reported.detail.contains("100 MiB"), "{}", reported.detail);
    // The worker was only cut off: what runs there is what was there.
    cluster.connect(1, 4, 1000);
    cluster.reconcile();
    cluster.say(1, 0, Phase::Running);
    assert_eq!(cluster.phase(0), Some(Phase::Running));
    assert_eq!(cluster.told(1, 0), Some((Generation(1), Desired::Running)));
}

#[test]
fn room_that_appears_later_takes_the_instances_of_a_lost_worker() {
    let mut cluster = Cluster::default();
    cluster.connect(1, 4, 1000);
    cluster.assign(small(), vec![wanted(0, Desired::Running)]);
    cluster.reconcile();
    cluster.say(1, 0, Phase::Running);
    cluster.wait(5000);
    assert_eq!(cluster.phase(0), Some(Phase::Lost));
    cluster.connect(2, 4, 1000);
    cluster.reconcile();
    assert_eq!(cluster.holder(0), Some(worker(2)));
}

#[test]
fn a_one_shot_that_has_ended_is_not_run_again() {
    let mut cluster = running(small());
    cluster.say(1, 0, Phase::Completed);
    cluster.lose_the_first(10_000);
    assert_eq!((cluster.holder(0), cluster.phase(0)), (Some(worker(1)), Some(Phase::Completed)));
}

#[test]
fn a_clock_that_is_set_changes_nothing() {
    for hours in [-1_i64, 1] {
        let mut cluster = running(small());
        let date = cluster.now.date.0.saturating_add_signed(hours * 3_600_000);
        cluster.now.date = Timestamp(date);
        assert_eq!(cluster.reconcile().effects, []);
        cluster.wait(1000);
        assert_eq!((cluster.holder(0), cluster.phase(0)), (Some(worker(1)), Some(Phase::Running)));
    }
}

#[test]
fn a_worker_that_does_not_begin_loses_the_instance_to_another() {
    let mut cluster = Cluster::default();
    cluster.connect(1, 4, 1000);
    cluster.connect(2, 2, 1000);
    cluster.assign(small(), vec![wanted(0, Desired::Running)]);
    cluster.reconcile();
    for _ in 1..=BEGIN_WITHIN_MILLIS / 400 + 1 {
        cluster.wait(400);
        cluster.beat(1);
        cluster.beat(2);
    }
    assert_eq!(cluster.holder(0), Some(worker(2)));
}

#[test]
fn an_assignment_that_is_not_confirmed_is_sent_again() {
    let mut cluster = Cluster::default();
    cluster.connect(1, 4, 1000);
    cluster.assign(small(), vec![wanted(0, Desired::Running)]);
    assert_eq!(cluster.reconcile().effects.len(), 1);
    cluster.beat(1);
    cluster.now.moment = cluster.now.moment.plus_millis(2000);
    cluster.beat(1);
    assert_eq!(cluster.reconcile().effects, []);
    cluster.now.moment = cluster.now.moment.plus_millis(2000);
    cluster.beat(1);
    cluster.now.moment = cluster.now.moment.plus_millis(1000);
    assert_eq!(cluster.reconcile().effects.len(), 1);
}

#[test]
fn a_removal_is_over_when_every_copy_is_gone() {
    let mut cluster = running(small());
    cluster.lose_the_first(3200);
    cluster.say(2, 0, Phase::Running);
    cluster.assign(small(), vec![wanted(0, Desired::Removed)]);
    cluster.reconcile();
    cluster.say(2, 0, Phase::Removed);
    assert_eq!(cluster.phase(0), Some(Phase::Undeploying), "the lost worker may still have a copy");
    cluster.connect(1, 4, 1000);
    cluster.reconcile();
    cluster.say(1, 0, Phase::Removed);
    assert_eq!(cluster.phase(0), Some(Phase::Removed));
}

#[test]
fn a_worker_that_says_unasked_that_something_is_gone_is_not_believed() {
    let mut cluster = running(small());
    cluster.say(1, 0, Phase::Removed);
    assert_eq!((cluster.holder(0), cluster.phase(0)), (Some(worker(1)), Some(Phase::Running)));
}

#[test]
fn tokens_for_this_cluster_are_honoured_without_the_root() {
    let mut cluster = Cluster::default();
    let token: model::TokenId = "00000000-0000-0000-0000-0000000000aa".parse().expect("a UUID");
    let expires_at = BEGINNING.date.plus_millis(1000);
    let sent = WorkerToken { id: token, secret_hash: "hash".into(), uses_left: 1, expires_at };
    let changes = cluster.state.honour(vec![sent.clone()], &[]);
    cluster.apply(changes);
    let claim = |secret_hash, key_fingerprint| Claim { token, secret_hash, key_fingerprint };
    let now = BEGINNING.date;
    assert_eq!(cluster.state.enrol(claim("guess", "a"), now), Err(EnrolmentRejected::NotHere));
    assert_eq!(cluster.state.enrol(claim("hash", "a"), expires_at), Err(EnrolmentRejected::Expired));
    let ((), changes) = cluster.state.enrol(claim("hash", "a"), now).expect("its first use");
    cluster.apply(changes);
    assert_eq!(cluster.state.enrol(claim("hash", "a"), now), Ok(((), vec![])), "the same key again");
    assert_eq!(cluster.state.enrol(claim("hash", "b"), now), Err(EnrolmentRejected::Spent));
    let spent = SpentToken { token, key_fingerprint: "a".into() };
    assert_eq!(cluster.state.report(1, cluster.now).spent, std::slice::from_ref(&spent));
    let changes = cluster.state.honour(vec![], &[spent]);
    cluster.apply(changes);
    assert_eq!(cluster.state.report(1, cluster.now).spent, []);
}

#[test]
fn an_old_connection_is_no_reason_to_give_up_an_original_that_is_just_back() {
    let mut cluster = running(with(replace(), OnRejoin::KeepOriginal));
    let session = cluster.session(1);
    for _ in 0..150 {
        cluster.wait(500);
        cluster.beat(1);
        cluster.beat(2);
    }
    // A short cut: the connection survives it.
    cluster.lose_the_first(3200);
    cluster.say(2, 0, Phase::Running);
    cluster.reconcile();
    cluster.beat_of(1, session);
    cluster.reconcile();
    assert_eq!(cluster.told(1, 0), Some((Generation(1), Desired::Running)), "it may still say that it runs");
    cluster.say_of(1, 0, Generation(1), Phase::Running);
    cluster.reconcile();
    assert_eq!(cluster.holder(0), Some(worker(1)));
}

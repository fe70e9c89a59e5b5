//! Who may have a certificate here, with the root or without, and what follows when certificates count no more.

use model::{
    CertificateRecord, ClusterAnswer, Holder, Lifetime, NotIssued, RevokedWorker, WorkerCertificate,
};

use super::{survival::running, *};

fn record(serial: &str) -> CertificateRecord {
    let lifetime = Lifetime { issued: BEGINNING.date, expires: BEGINNING.date.plus_millis(1000) };
    CertificateRecord { serial: serial.to_owned(), lifetime }
}

fn revoked(number: u8) -> RevokedWorker {
    RevokedWorker { worker: worker(number), until: BEGINNING.date.plus_millis(9000) }
}

fn issue(cluster: &mut Cluster, holder: Holder, serial: &str) {
    let ((), changes) = cluster.state.certified(holder, record(serial)).expect("it may have one");
    cluster.apply(changes);
}

fn revoke(cluster: &mut Cluster, workers: &[RevokedWorker]) {
    let changes = cluster.state.revoke(workers);
    cluster.apply(changes);
}

#[test]
fn one_that_has_ended_is_renewed_for_whom_this_cluster_knows() {
    let mut cluster = Cluster::default();
    let [first, second] = [Holder::Worker(worker(1)), Holder::Worker(worker(2))];
    assert_eq!(cluster.state.may_renew(first, false), Ok(()), "the root may have signed it");
    assert_eq!(cluster.state.may_renew(first, true), Err(NotIssued::Unknown));
    issue(&mut cluster, first, "01");
    cluster.connect(2, 4, 1000);
    assert_eq!([first, second].map(|holder| cluster.state.may_renew(holder, true)), [Ok(()); 2]);
    let not_its_own = Holder::Cluster("00000000-0000-0000-0000-000000000001".parse().expect("a UUID"));
    assert_eq!(cluster.state.may_renew(not_its_own, false), Err(NotIssued::Unknown));
    assert_eq!(cluster.state.certified(not_its_own, record("02")), Err(NotIssued::Unknown));
}

#[test]
fn whoever_is_forgotten_has_no_certificates_any_more() {
    let mut cluster = Cluster::default();
    cluster.connect(1, 4, 1000);
    issue(&mut cluster, Holder::Worker(worker(1)), "01");
    issue(&mut cluster, Holder::Network(worker(1)), "02");
    let session = cluster.session(1);
    cluster.state.worker_disconnected(worker(1), session, cluster.now);
    let answer = cluster.ask(ClusterRequest::Forget { worker: "worker1".to_owned() });
    assert_eq!(answer, ClusterAnswer::Begun { instances: 0 });
    assert_eq!(cluster.state.certificates(), []);
    assert_eq!(cluster.state.may_renew(Holder::Worker(worker(1)), true), Err(NotIssued::Unknown));
}

#[test]
fn whoever_is_revoked_is_lost_though_it_beats_and_is_let_in_no_more() {
    let mut cluster = running(small());
    issue(&mut cluster, Holder::Worker(worker(1)), "01");
    let its_own = cluster.session(1);
    revoke(&mut cluster, &[revoked(1)]);
    assert_eq!(cluster.state.revoked().collect::<Vec<_>>(), [worker(1)]);
    let session = cluster.session(2);
    for _ in 0..25 {
        cluster.wait(400);
        cluster.beat(2);
        cluster.beat_of(1, its_own);
    }
    assert_eq!((cluster.session(2), cluster.holder(0)), (session, Some(worker(2))), "as if it were lost");
    cluster.connect(1, 4, 1000);
    cluster.reconcile();
    assert!(!cluster.state.contacts.is_connected(worker(1)));
    assert_eq!(cluster.state.may_renew(Holder::Worker(worker(1)), false), Err(NotIssued::Revoked));
    assert_eq!(cluster.state.certified(Holder::Network(worker(1)), record("02")), Err(NotIssued::Revoked));
    assert_eq!(cluster.state.may_certify(worker(1)), Err(NotIssued::Revoked));
}

#[test]
fn a_revocation_counts_before_the_next_beat() {
    let mut cluster = running(small());
    let its_own = cluster.session(1);
    assert!(cluster.state.contacts.is_connected(worker(1)));
    revoke(&mut cluster, &[revoked(1)]);
    assert!(!cluster.state.contacts.is_connected(worker(1)), "no time has passed");
    let busy = Load { cpu_percent: 90.0, memory_percent: 90.0 };
    assert!(!cluster.state.worker_beat(worker(1), its_own, 1_000_000, busy, cluster.now));
    assert_eq!(cluster.state.contacts.load(worker(1)), Load::default(), "what it says is not heard");
}

#[test]
fn a_revocation_that_is_over_leaves_nothing_to_come_back_with() {
    let mut cluster = Cluster::default();
    issue(&mut cluster, Holder::Worker(worker(1)), "01");
    issue(&mut cluster, Holder::Worker(worker(2)), "02");
    revoke(&mut cluster, &[revoked(1)]);
    assert_eq!(cluster.state.revoke(&[revoked(1)]), [], "the same again is no news");
    let listed = |number, serial, revoked| WorkerCertificate {
        worker: worker(number),
        name: String::new(),
        network: false,
        record: record(serial),
        revoked,
    };
    assert_eq!(cluster.state.certificates(), [listed(1, "01", true), listed(2, "02", false)]);
    revoke(&mut cluster, &[]);
    assert_eq!(cluster.state.certificates(), [listed(2, "02", false)]);
    assert_eq!(cluster.state.may_renew(Holder::Worker(worker(1)), true), Err(NotIssued::Unknown));
    assert_eq!(cluster.state.may_certify(worker(1)), Ok(()), "with a token it may join");
}

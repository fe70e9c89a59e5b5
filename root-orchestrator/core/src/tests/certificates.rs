//! Whose certificates count no more, who is told, and for how long.

use model::{CertificateRecord, Holder, Lifetime, NotIssued, RevokedWorker, WorkerId};

use super::*;
use crate::RevokedId;

const LIFE: u64 = 1_000_000;

fn told(root: &mut Root) -> Vec<(ClusterId, Vec<RevokedWorker>)> {
    let plan = root.state.reconcile(root.now);
    let told = plan.effects.into_iter().filter_map(|effect| match effect {
        Effect::SendRevocations { cluster, workers, .. } => Some((cluster, workers)),
        Effect::SendAssignment { .. }
        | Effect::SendTokens { .. }
        | Effect::TellNeighbours { .. }
        | Effect::PassOn { .. }
        | Effect::Deliver(_)
        | Effect::CallAction(_) => None,
    });
    told.collect()
}

fn revoke(root: &mut Root, id: RevokedId) -> Timestamp {
    let (revocation, changes) = root.state.revoke(id, LIFE, root.now.date).expect("it is known");
    root.apply(changes);
    revocation.until
}

fn issue(root: &mut Root, holder: Holder, lasting: u64) {
    let lifetime = Lifetime { issued: root.now.date, expires: root.now.date.plus_millis(lasting) };
    let record = CertificateRecord { serial: "01".to_owned(), lifetime };
    let ((), changes) = root.state.certified(holder, record).expect("it may have one");
    root.apply(changes);
}

#[test]
fn a_cluster_is_told_whole_of_its_own_revoked_workers_when_it_connects_and_when_they_change() {
    let mut root = Root::new();
    let (one, _two) = (root.cluster(1, "one", &[]), root.cluster(2, "two", &[]));
    assert_eq!(told(&mut root).len(), 2, "each is told, of nobody");
    let [first, second]: [WorkerId; 2] = [uuid(11), uuid(12)];
    let until = revoke(&mut root, RevokedId { cluster: one, worker: Some(first) });
    assert_eq!(until, root.now.date.plus_millis(LIFE));
    let revoked = |worker| RevokedWorker { worker, until };
    assert_eq!(told(&mut root), [(one, vec![revoked(first)])]);
    revoke(&mut root, RevokedId { cluster: one, worker: Some(second) });
    assert_eq!(told(&mut root), [(one, vec![revoked(first), revoked(second)])]);
    let again = root.state.revoke(RevokedId { cluster: one, worker: Some(first) }, 7, root.now.date);
    assert_eq!(again.map(|(revocation, changes)| (revocation.until, changes)), Ok((until, vec![])));

    let session = root.session(one);
    root.state.cluster_disconnected(one, session);
    assert_eq!(told(&mut root), []);
    root.sessions += 1;
    let location = Location { latitude: 0.0, longitude: 0.0, radius_metres: 0.0 };
    let changes = root.state.cluster_connected(one, root.sessions, location, Generation::default(), root.now);
    root.apply(changes);
    assert_eq!(told(&mut root), [(one, vec![revoked(first), revoked(second)])]);
}

#[test]
fn a_revoked_cluster_gets_no_certificate_and_nobody_joins_in_its_name() {
    let mut root = Root::new();
    let one = root.cluster(1, "one", &[]);
    assert_eq!(root.state.may_renew(one, false), Ok(()), "it joined before records were kept");
    assert_eq!(root.state.may_renew(one, true), Err(NotIssued::Unknown));
    issue(&mut root, Holder::Cluster(one), 5);
    assert_eq!(root.state.may_renew(one, true), Ok(()));
    assert_eq!(root.state.may_renew(uuid(7), false), Err(NotIssued::Unknown));
    let token = Token {
        id: uuid(9),
        kind: JoinKind::Cluster { name: "one".to_owned() },
        secret_hash: "hash".to_owned(),
        uses_left: 1,
        expires_at: root.now.date.plus_millis(1000),
        used_by: vec![],
    };
    root.apply(vec![Change::Token(uuid(9), Some(token))]);
    revoke(&mut root, RevokedId { cluster: one, worker: None });
    let record = CertificateRecord {
        serial: "02".to_owned(),
        lifetime: Lifetime { issued: root.now.date, expires: root.now.date },
    };
    assert_eq!(root.state.certified(Holder::Cluster(one), record.clone()), Err(NotIssued::Revoked));
    assert_eq!(root.state.certified(Holder::Intermediate(one), record), Err(NotIssued::Revoked));
    assert_eq!(root.state.may_renew(one, false), Err(NotIssued::Revoked));
    let claim = Claim { token: uuid(9), secret_hash: "hash", key_fingerprint: "key" };
    let joined = root.state.enrol_cluster(claim, uuid(2), root.now.date);
    assert_eq!(joined, Err(EnrolmentRejected::Revoked("one".to_owned())));
}

#[test]
fn a_revocation_lasts_until_every_certificate_has_ended_and_none_is_renewed_by_one_that_has() {
    let mut root = Root::new();
    let one = root.cluster(1, "one", &[]);
    root.reconcile();
    issue(&mut root, Holder::Cluster(one), 10);
    issue(&mut root, Holder::Intermediate(one), 2 * LIFE);
    let until = revoke(&mut root, RevokedId { cluster: one, worker: None });
    assert_eq!(until, root.now.date.plus_millis(2 * LIFE), "what it was lent lasts longest");
    root.now.date = Timestamp(until.0 - 1);
    let plan = root.state.reconcile(root.now);
    assert_eq!((plan.changes, plan.wake_at.map(|at| at.millis_since(root.now.moment))), (vec![], Some(1)));
    root.now.date = until;
    let plan = root.state.reconcile(root.now);
    assert_eq!(
        plan.changes,
        [
            Change::Revocation(RevokedId { cluster: one, worker: None }, None),
            Change::Certificate(Holder::Cluster(one), None),
            Change::Certificate(Holder::Intermediate(one), None),
        ]
    );
    assert_eq!(root.state.may_renew(one, true), Err(NotIssued::Unknown));
}

//! Who may join, and what clusters may decide about that by themselves.

use model::{SpentToken, WorkerToken};

use super::*;

fn token(kind: JoinKind) -> Token {
    Token {
        id: uuid(9),
        kind,
        secret_hash: "hash".to_owned(),
        uses_left: 1,
        expires_at: BEGINNING.date.plus_millis(1),
        used_by: vec![],
    }
}

fn claim(key: &str) -> Claim<'_> {
    Claim { token: uuid::<TokenId>(9), secret_hash: "hash", key_fingerprint: key }
}

#[test]
fn a_token_is_spent_once_but_answers_the_same_key_again() {
    let mut root = Root::new();
    root.apply(vec![Change::Token(uuid(9), Some(token(JoinKind::Cluster { name: "one".to_owned() })))]);
    let (id, changes) = root.state.enrol_cluster(claim("a"), uuid(1), BEGINNING.date).expect("fresh");
    root.apply(changes);
    assert_eq!(root.state.cluster(id).map(|cluster| cluster.name.as_str()), Some("one"));
    assert_eq!(root.state.enrol_cluster(claim("a"), uuid(2), BEGINNING.date), Ok((id, vec![])));
    assert_eq!(root.state.enrol_cluster(claim("b"), uuid(2), BEGINNING.date), Err(EnrolmentRejected::Spent));
}

#[test]
fn a_token_for_the_name_of_a_cluster_makes_its_holder_that_cluster() {
    let mut root = Root::new();
    let one = root.cluster(1, "one", &[]);
    root.apply(vec![Change::Token(uuid(9), Some(token(JoinKind::Cluster { name: "one".to_owned() })))]);
    assert_eq!(root.state.enrol_cluster(claim("a"), uuid(2), BEGINNING.date).map(|(id, _)| id), Ok(one));
}

#[test]
fn tokens_are_refused_for_what_is_wrong_with_them() {
    let mut root = Root::new();
    let one = root.cluster(1, "one", &[]);
    root.apply(vec![Change::Token(uuid(9), Some(token(JoinKind::Worker { cluster: Some(one) })))]);
    let worker =
        |claim, cluster: u8, now| root.state.enrol_worker(claim, uuid(cluster), now).map(|(done, _)| done);
    assert_eq!(worker(claim("a"), 1, BEGINNING.date), Ok(()));
    assert_eq!(worker(claim("a"), 2, BEGINNING.date), Err(EnrolmentRejected::OtherCluster));
    assert_eq!(worker(claim("a"), 1, BEGINNING.date.plus_millis(1)), Err(EnrolmentRejected::Expired));
    let wrong = Claim { secret_hash: "guess", ..claim("a") };
    assert_eq!(worker(wrong, 1, BEGINNING.date), Err(EnrolmentRejected::Unknown));
    assert_eq!(
        root.state.enrol_cluster(claim("a"), uuid(2), BEGINNING.date),
        Err(EnrolmentRejected::WrongKind("workers"))
    );
}

#[test]
fn a_cluster_may_honour_the_tokens_of_its_own_workers_and_tells_of_their_use() {
    let mut root = Root::new();
    let one = root.cluster(1, "one", &[resources(8, 2000)]);
    let two = root.cluster(2, "two", &[resources(8, 2000)]);
    root.reconcile();
    let mut ours = token(JoinKind::Worker { cluster: Some(one) });
    ours.expires_at = root.now.date.plus_millis(60_000);
    root.apply(vec![Change::Token(ours.id, Some(ours.clone()))]);
    let sent = |root: &mut Root| -> Vec<(ClusterId, Vec<WorkerToken>, Vec<SpentToken>)> {
        let plan = root.state.reconcile(root.now);
        let tokens = plan.effects.into_iter().filter_map(|effect| match effect {
            Effect::SendTokens { cluster, tokens, settled, .. } => Some((cluster, tokens, settled)),
            Effect::SendAssignment { .. }
            | Effect::SendRevocations { .. }
            | Effect::Deliver(_)
            | Effect::CallAction(_)
            | Effect::TellNeighbours { .. }
            | Effect::PassOn { .. } => None,
        });
        tokens.collect()
    };
    let told = sent(&mut root);
    assert_eq!((told.len(), told[0].0, told[0].1.len()), (1, one, 1), "{told:?}");

    let spent = vec![SpentToken { token: ours.id, key_fingerprint: "key".to_owned() }];
    // Another cluster cannot spend it.
    let changes = root.state.spend_all(two, spent.clone());
    assert_eq!(changes, []);
    let changes = root.state.spend_all(one, spent.clone());
    root.apply(changes);
    assert_eq!(root.state.tokens[&ours.id].uses_left, 0);
    let told = sent(&mut root);
    assert!(told.contains(&(one, vec![], spent.clone())), "{told:?}");
    assert_eq!(root.state.spend_all(one, spent), [], "counted once");
}

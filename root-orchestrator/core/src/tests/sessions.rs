//! What logins and API tokens are good for, and when no more.

use std::collections::BTreeSet;

use super::{
    membership::{ADA, BOB, EVE, as_member, people},
    *,
};
use crate::{
    NewApiToken, PasswordReset, PeopleChange, PeopleRejected, Session, UserChange,
    access::{Role, Scope},
    sessions::MAX_API_TOKENS,
};
use model::UserId;

const LATER: Timestamp = Timestamp(9_000_000);

fn session(id: &str, user: UserId, organization: OrganizationId) -> Session {
    Session { id: id.to_owned(), user, organization, epoch: 0 }
}

fn wanted(number: u8, scopes: Option<&[&str]>) -> NewApiToken {
    let scopes = scopes.map(|scopes| scopes.iter().map(|scope| scope.parse().expect("a scope")).collect());
    NewApiToken {
        id: uuid(number),
        name: "build".to_owned(),
        scopes,
        secret_hash: "hash".to_owned(),
        expires_at: LATER,
    }
}

#[test]
fn a_login_is_good_for_what_its_user_may_now() {
    let mut root = people();
    let bob = session("s", BOB, ACME);
    let roles = |root: &Root| root.state.resume(&bob).map(|rights| rights.roles);
    assert_eq!(roles(&root), Some(BTreeSet::from([Role::ApplicationProvider])));
    let eve = as_member(&root, EVE);
    let change = UserChange { roles: Some(BTreeSet::new()), ..UserChange::default() };
    let changes = root.state.change_user(&eve, "bob", change).expect("allowed");
    root.apply(changes);
    assert_eq!(roles(&root), Some(BTreeSet::new()), "what was taken away stays away");
    assert_eq!(root.state.resume(&session("s", BOB, ROOT)), None, "not a member there");
}

#[test]
fn a_login_that_was_ended_is_good_no_more_and_forgotten_when_it_would_have_expired() {
    let mut root = people();
    let (ended, other) = (session("ended", BOB, ACME), session("other", BOB, ACME));
    let changes = root.state.end_session("ended".to_owned(), LATER, root.now.date);
    root.apply(changes);
    assert_eq!(root.state.resume(&ended), None);
    assert!(root.state.resume(&other).is_some());
    let forgotten = Change::People(PeopleChange::EndedSession("ended".to_owned(), None));
    let before = root.state.end_session("other".to_owned(), LATER, Timestamp(LATER.0 - 1));
    assert!(!before.contains(&forgotten));
    let after = root.state.end_session("other".to_owned(), LATER, LATER);
    assert!(after.contains(&forgotten));
}

#[test]
fn another_password_ends_all_logins_and_api_tokens_of_the_user() {
    let mut root = people();
    let bob = as_member(&root, BOB);
    let eve = as_member(&root, EVE);
    let changes = root.state.create_api_token(&bob, wanted(1, None), root.now.date).expect("allowed");
    root.apply(changes);
    let changes = root.state.create_api_token(&eve, wanted(2, None), root.now.date).expect("allowed");
    root.apply(changes);
    let changes = root.state.change_own_password(BOB, "new".to_owned());
    root.apply(changes);
    assert_eq!(root.state.user(BOB).map(|user| user.password_hash.as_str()), Some("new"));
    assert_eq!(root.state.resume(&session("s", BOB, ACME)), None);
    assert!(root.state.resume(&Session { epoch: 1, ..session("s", BOB, ACME) }).is_some());
    assert_eq!(root.state.token_rights(uuid(1), "hash", root.now.date), None);
    assert!(root.state.token_rights(uuid(2), "hash", root.now.date).is_some(), "another's");
    assert!(root.state.resume(&session("s", EVE, ACME)).is_some());
}

#[test]
fn a_deleted_user_is_logged_in_no_more() {
    let mut root = people();
    let (bob, eve) = (as_member(&root, BOB), as_member(&root, EVE));
    let changes = root.state.create_api_token(&bob, wanted(1, None), root.now.date).expect("allowed");
    root.apply(changes);
    let changes = root.state.delete_user(&eve, "bob").expect("allowed");
    root.apply(changes);
    assert_eq!(root.state.resume(&session("s", BOB, ACME)), None);
    assert_eq!(root.state.token_rights(uuid(1), "hash", root.now.date), None);
    assert_eq!(root.state.people.tokens.len(), 0);
}

#[test]
fn an_api_token_is_good_for_its_scopes_until_it_expires() {
    let mut root = people();
    let bob = as_member(&root, BOB);
    let token = wanted(1, Some(&["get:service"]));
    let changes = root.state.create_api_token(&bob, token, root.now.date).expect("allowed");
    root.apply(changes);
    let rights = root.state.token_rights(uuid(1), "hash", Timestamp(LATER.0 - 1)).expect("good");
    assert_eq!(rights.scopes, Some(BTreeSet::from(["get:service".parse::<Scope>().expect("a scope")])));
    assert_eq!((rights.user, rights.organization), (BOB, ACME));
    assert_eq!(root.state.token_rights(uuid(1), "hash", LATER), None, "expired");
    assert_eq!(root.state.token_rights(uuid(1), "other", root.now.date), None, "another secret");
    assert_eq!(root.state.token_rights(uuid(2), "hash", root.now.date), None, "another id");
}

#[test]
fn an_api_token_is_never_for_more_than_who_makes_it_may() {
    let root = people();
    let bob = as_member(&root, BOB);
    for scope in ["Admin", "update:user", "create:join-token"] {
        let refused = root.state.create_api_token(&bob, wanted(1, Some(&[scope])), root.now.date);
        assert_eq!(refused, Err(PeopleRejected::MoreThanHeld(format!("the scope `{scope}`"))));
    }
}

#[test]
fn api_tokens_are_revoked_by_their_user_alone_and_are_not_without_number() {
    let mut root = people();
    let (ada, bob) = (as_member(&root, ADA), as_member(&root, BOB));
    for number in 0..MAX_API_TOKENS {
        let number = u8::try_from(number).expect("few");
        let changes =
            root.state.create_api_token(&bob, wanted(number, None), root.now.date).expect("allowed");
        root.apply(changes);
    }
    let one_more = || wanted(200, None);
    let refused = root.state.create_api_token(&bob, one_more(), root.now.date);
    assert_eq!(refused, Err(PeopleRejected::TooManyTokens));
    assert_eq!(root.state.revoke_api_token(&ada, uuid(1)), Err(PeopleRejected::NoToken(uuid(1))));
    let changes = root.state.revoke_api_token(&bob, uuid(1)).expect("one's own");
    root.apply(changes);
    assert_eq!(root.state.token_rights(uuid(1), "hash", root.now.date), None);
    assert!(root.state.create_api_token(&bob, one_more(), root.now.date).is_ok());
    // The expired ones make room.
    let renewed = NewApiToken { expires_at: Timestamp(u64::MAX), ..wanted(201, None) };
    let changes = root.state.create_api_token(&bob, renewed, LATER).expect("allowed");
    root.apply(changes);
    assert_eq!(root.state.api_tokens_of(BOB).count(), 1);
}

#[test]
fn a_reset_token_is_good_once_and_for_a_while() {
    let mut root = people();
    let eve = as_member(&root, EVE);
    let reset = PasswordReset { secret_hash: "hash".to_owned(), expires_at: LATER };
    let (id, changes) = root.state.offer_reset(&eve, "bob", reset).expect("allowed");
    root.apply(changes);
    assert_eq!(id, BOB);
    let check = |root: &Root, secret: &str, now| root.state.check_reset(BOB, secret, now);
    assert_eq!(check(&root, "other", root.now.date), Err(PeopleRejected::ResetInvalid));
    assert_eq!(check(&root, "hash", LATER), Err(PeopleRejected::ResetExpired));
    assert_eq!(check(&root, "hash", root.now.date), Ok(()));
    let changes = root.state.change_own_password(BOB, "new".to_owned());
    root.apply(changes);
    assert_eq!(check(&root, "hash", root.now.date), Err(PeopleRejected::ResetInvalid));
}

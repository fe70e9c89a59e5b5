//! What changes people, and above all what does not.

use std::collections::{BTreeMap, BTreeSet};

use super::*;
use crate::{
    NewUser, Organization, PasswordReset, PeopleChange, PeopleRejected, Quota, User, UserChange,
    access::{Rights, Role},
};
use model::UserId;

/// Of these the first is the administrator of the platform.
pub(super) const ADA: UserId = UserId::from_bytes([0xad; 12]);
pub(super) const BOB: UserId = UserId::from_bytes([0xb0; 12]);
pub(super) const EVE: UserId = UserId::from_bytes([0xee; 12]);
pub(super) const MAX: UserId = UserId::from_bytes([0x3a; 12]);

pub(super) fn user(id: UserId, name: &str) -> User {
    User {
        id,
        name: name.to_owned(),
        email: String::new(),
        created_at: String::new(),
        password_hash: "old".to_owned(),
        epoch: 0,
        reset: None,
        provider: None,
    }
}

fn roles(roles: &[Role]) -> BTreeSet<Role> {
    roles.iter().copied().collect()
}

/// `ada` rules the platform. In `acme` are `eve`, who rules there, `max`, who looks after its people, and `bob`, who
/// deploys.
pub(super) fn people() -> Root {
    let mut root = Root::new();
    let users = [(ADA, "ada"), (BOB, "bob"), (EVE, "eve"), (MAX, "max")];
    let users = users.map(|(id, name)| PeopleChange::User(id, Some(user(id, name))));
    root.apply(users.map(Change::People).into());
    let organizations = [
        (ROOT, "root", vec![(ADA, roles(&[Role::Admin]))]),
        (
            ACME,
            "acme",
            vec![
                (EVE, roles(&[Role::Admin])),
                (MAX, roles(&[Role::OrganizationAdmin])),
                (BOB, roles(&[Role::ApplicationProvider])),
            ],
        ),
    ];
    for (id, name, members) in organizations {
        let members = members.into_iter().collect();
        let organization = Organization { id, name: name.to_owned(), members, quota: Quota::default() };
        root.apply(vec![Change::People(PeopleChange::Organization(id, Some(organization)))]);
    }
    root
}

pub(super) fn as_member(root: &Root, user: UserId) -> Rights {
    let organization = root.state.organizations_of(user).next().expect("a member of one").id;
    root.state.rights(user, organization).expect("a member")
}

fn new(name: &str, given: &[Role]) -> NewUser {
    NewUser { user: user(UserId::from_bytes([7; 12]), name), roles: roles(given) }
}

fn roles_in(root: &Root, organization: OrganizationId, user: UserId) -> Option<BTreeSet<Role>> {
    root.state.organization(organization).expect("there").members.get(&user).cloned()
}

#[test]
fn a_new_user_is_a_member_of_the_organisation_of_who_makes_it() {
    let mut root = people();
    let eve = as_member(&root, EVE);
    let changes = root.state.register(&eve, new("kim", &[Role::ApplicationProvider])).expect("allowed");
    root.apply(changes);
    let kim = root.state.user_named("kim").expect("there").id;
    let organizations: Vec<OrganizationId> = root.state.organizations_of(kim).map(|one| one.id).collect();
    assert_eq!(organizations, [ACME]);
    assert_eq!(roles_in(&root, ACME, kim), Some(roles(&[Role::ApplicationProvider])));
    let again = root.state.register(&eve, new("kim", &[]));
    assert_eq!(again, Err(PeopleRejected::UserExists("kim".to_owned())));
}

#[test]
fn nobody_gives_or_takes_a_role_they_do_not_hold() {
    let root = people();
    let max = as_member(&root, MAX);
    for role in [Role::Admin, Role::ApplicationProvider] {
        let more = Err(PeopleRejected::MoreThanHeld(format!("the role {role}")));
        assert_eq!(root.state.register(&max, new("kim", &[role])), more);
    }
    let set = |name: &str, given: &[Role]| {
        let change = UserChange { roles: Some(roles(given)), ..UserChange::default() };
        root.state.change_user(&max, name, change)
    };
    assert!(matches!(
        set("max", &[Role::OrganizationAdmin, Role::Admin]),
        Err(PeopleRejected::MoreThanHeld(_))
    ));
    assert!(matches!(set("eve", &[]), Err(PeopleRejected::MoreThanHeld(_))), "who holds more stays");
    assert!(set("bob", &[Role::ApplicationProvider, Role::OrganizationAdmin]).is_ok());
    let without_eve = Some(BTreeMap::from([(MAX, roles(&[Role::OrganizationAdmin]))]));
    let expelled = root.state.change_organization(&max, ACME, None, without_eve);
    assert!(matches!(expelled, Err(PeopleRejected::MoreThanHeld(_))));
}

#[test]
fn whoever_holds_less_has_no_say_over_the_login_of_who_holds_more() {
    let root = people();
    let max = as_member(&root, MAX);
    let beyond = |name: &str| PeopleRejected::BeyondReach(name.to_owned());
    let taken = UserChange { password_hash: Some("mine".to_owned()), ..UserChange::default() };
    assert_eq!(root.state.change_user(&max, "eve", taken), Err(beyond("eve")));
    let mailed = UserChange { email: Some("max@example".to_owned()), ..UserChange::default() };
    assert_eq!(root.state.change_user(&max, "eve", mailed), Err(beyond("eve")));
    assert_eq!(root.state.delete_user(&max, "eve"), Err(beyond("eve")));
    let reset = PasswordReset { secret_hash: "hash".to_owned(), expires_at: Timestamp(u64::MAX) };
    assert_eq!(root.state.offer_reset(&max, "eve", reset), Err(beyond("eve")));
}

#[test]
fn a_limited_token_does_not_get_hold_of_a_login() {
    let root = people();
    let scope = "update:user".parse().expect("a scope");
    for (user, name) in [(ADA, "ada"), (EVE, "eve")] {
        let limited = Rights { scopes: Some(BTreeSet::from([scope])), ..as_member(&root, user) };
        let taken = UserChange { password_hash: Some("mine".to_owned()), ..UserChange::default() };
        let beyond = Err(PeopleRejected::BeyondReach(name.to_owned()));
        assert_eq!(root.state.change_user(&limited, name, taken), beyond);
    }
}

#[test]
fn an_administrator_has_no_say_over_who_is_in_another_organisation_too() {
    let mut root = people();
    let mut acme = root.state.organization(ACME).expect("there").clone();
    acme.members.insert(ADA, BTreeSet::new());
    root.apply(vec![Change::People(PeopleChange::Organization(ACME, Some(acme)))]);
    let eve = as_member(&root, EVE);
    let taken = UserChange { password_hash: Some("mine".to_owned()), ..UserChange::default() };
    let beyond = Err(PeopleRejected::BeyondReach("ada".to_owned()));
    assert_eq!(root.state.change_user(&eve, "ada", taken), beyond);
    assert_eq!(root.state.delete_user(&eve, "ada"), beyond);
    // Nor can anybody be drawn in.
    let with_ada = Some(BTreeMap::from([(EVE, roles(&[Role::Admin])), (BOB, roles(&[]))]));
    assert!(root.state.change_organization(&eve, ACME, None, with_ada).is_ok(), "members may go");
    let stranger = UserId::from_bytes([0x55; 12]);
    let with_stranger = Some(BTreeMap::from([(EVE, roles(&[Role::Admin])), (stranger, roles(&[]))]));
    let drawn_in = root.state.change_organization(&eve, ACME, None, with_stranger);
    assert_eq!(drawn_in, Err(PeopleRejected::NoSuchMember(stranger)));
}

#[test]
fn what_is_another_organisations_does_not_exist() {
    let root = people();
    let eve = as_member(&root, EVE);
    let none = || PeopleRejected::NoUser("ada".to_owned());
    assert_eq!(root.state.user_seen_by(&eve, "ada").err(), Some(none()));
    assert_eq!(root.state.change_user(&eve, "ada", UserChange::default()), Err(none()));
    assert_eq!(root.state.delete_user(&eve, "ada"), Err(none()));
    let no_root = Err(PeopleRejected::NoOrganization(ROOT.to_string()));
    assert_eq!(root.state.change_organization(&eve, ROOT, None, None), no_root);
    assert_eq!(root.state.delete_organization(&eve, ROOT), no_root);
    let bob = as_member(&root, BOB);
    assert!(matches!(root.state.user_seen_by(&bob, "eve"), Err(PeopleRejected::Forbidden(_))));
    assert_eq!(root.state.user_seen_by(&bob, "bob").map(|user| user.id), Ok(BOB));
}

#[test]
fn of_oneself_the_address_may_be_changed_and_nothing_else() {
    let root = people();
    let bob = as_member(&root, BOB);
    let addressed = UserChange { email: Some("bob@example".to_owned()), ..UserChange::default() };
    let changed = User { email: "bob@example".to_owned(), ..user(BOB, "bob") };
    let wanted = vec![Change::People(PeopleChange::User(BOB, Some(changed)))];
    assert_eq!(root.state.change_user(&bob, "bob", addressed), Ok(wanted));
    let raised = UserChange { roles: Some(roles(&[Role::Admin])), ..UserChange::default() };
    assert!(matches!(root.state.change_user(&bob, "bob", raised), Err(PeopleRejected::Forbidden(_))));
    let renewed = UserChange { password_hash: Some("new".to_owned()), ..UserChange::default() };
    assert!(matches!(root.state.change_user(&bob, "bob", renewed), Err(PeopleRejected::Forbidden(_))));
    let shown = UserChange { roles: Some(roles(&[Role::ApplicationProvider])), ..UserChange::default() };
    assert_eq!(root.state.change_user(&bob, "bob", shown), Ok(vec![]), "what one was shown may be sent back");
    assert_eq!(root.state.change_user(&bob, "bob", UserChange::default()), Ok(vec![]));
}

#[test]
fn what_was_shown_of_a_user_of_another_organisation_makes_it_no_member_when_it_is_sent_back() {
    let root = people();
    let ada = as_member(&root, ADA);
    let shown = UserChange { roles: Some(BTreeSet::new()), ..UserChange::default() };
    assert_eq!(root.state.change_user(&ada, "bob", shown), Ok(vec![]));
}

#[test]
fn the_first_organisation_keeps_an_administrator_and_itself() {
    let root = people();
    let ada = as_member(&root, ADA);
    let demoted = UserChange { roles: Some(roles(&[Role::ApplicationProvider])), ..UserChange::default() };
    assert_eq!(root.state.change_user(&ada, "ada", demoted), Err(PeopleRejected::LastAdmin));
    assert_eq!(root.state.delete_user(&ada, "ada"), Err(PeopleRejected::LastAdmin));
    let nobody = Some(BTreeMap::new());
    assert_eq!(root.state.change_organization(&ada, ROOT, None, nobody), Err(PeopleRejected::LastAdmin));
    let renamed = Some("other".to_owned());
    assert_eq!(root.state.change_organization(&ada, ROOT, renamed, None), Err(PeopleRejected::RootStays));
    assert_eq!(root.state.delete_organization(&ada, ROOT), Err(PeopleRejected::RootStays));
}

#[test]
fn organisations_come_and_go_with_their_names_and_not_while_they_have_applications() {
    let mut root = people();
    let ada = as_member(&root, ADA);
    let made = |id, name: &str| Organization {
        id,
        name: name.to_owned(),
        members: BTreeMap::new(),
        quota: Quota::default(),
    };
    let beta = OrganizationId::from_bytes([0xbe; 12]);
    let twice = root.state.create_organization(&ada, made(beta, "acme"));
    assert_eq!(twice, Err(PeopleRejected::OrganizationExists("acme".to_owned())));
    let changes = root.state.create_organization(&ada, made(beta, "beta")).expect("a new name");
    root.apply(changes);
    assert_eq!(root.state.organization_named("beta").map(|one| one.id), Some(beta));
    let eve = as_member(&root, EVE);
    assert!(matches!(
        root.state.create_organization(&eve, made(beta, "gamma")),
        Err(PeopleRejected::Forbidden(_))
    ));
    let renamed = root.state.change_organization(&eve, ACME, Some("beta".to_owned()), None);
    assert!(matches!(renamed, Err(PeopleRejected::Forbidden(_))));

    let wanted = names::shop(vec![]);
    let shop = names::create(&mut root, beta, wanted).expect("a new name");
    assert_eq!(root.state.delete_organization(&ada, beta), Err(PeopleRejected::HasApplications(1)));
    let shop = root.state.application(shop).expect("there").clone();
    let changes = root.state.delete_application(&shop, root.now.date);
    root.apply(changes);
    let changes = root.state.delete_organization(&ada, beta).expect("empty now");
    root.apply(changes);
    assert_eq!(root.state.organization(beta), None);
}

#[test]
fn a_deleted_user_leaves_nothing_by_which_it_could_come_back() {
    let mut root = people();
    let eve = as_member(&root, EVE);
    let changes = root.state.delete_user(&eve, "bob").expect("allowed");
    root.apply(changes);
    assert_eq!(root.state.user_named("bob"), None);
    assert_eq!(roles_in(&root, ACME, BOB), None);
    assert_eq!(root.state.rights(BOB, ACME), None);
    let stranger = UserId::from_bytes([0x99; 12]);
    let mut again = new("bob", &[]);
    again.user.id = stranger;
    let changes = root.state.register(&eve, again).expect("the name is free");
    root.apply(changes);
    assert_eq!(root.state.user_named("bob").map(|user| user.id), Some(stranger));
}

#[test]
fn a_password_is_never_shown_by_accident() {
    let mut secret = user(BOB, "bob");
    secret.password_hash = "$argon2id$".to_owned();
    let change = Change::People(PeopleChange::User(BOB, Some(secret)));
    assert!(!format!("{change:?}").contains("argon2"));
}
